//! Messages leave in the order of their numbers, and a lost one delays them once.

use std::time::Duration;

use bytes::Bytes;
use crypto::v12::{Nonce, Session};
use peer::v12::{Config, Event, Peer};
use sim::pair::{Setup, Side};
use sim::{Link, Pair};

use crate::support::*;

/// Alice, to whom a scripted Bob says what the test wants, from Bob's address.
pub(crate) struct Script {
    pub(crate) pair: Pair<Peer, Peer>,
    session: Session,
    counter: u64,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let setup = Setup::new(crypto::Seed::fixed(1)).link(Link::dead());
        let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
        let pair = setup.pair(dialler(config, to_b, 1, now), acceptor(Config::default(), to_a, 1, now));
        let session = Session::derive(&identity("bob"), identity("alice").public()).expect("a good key");
        let mut script = Self { pair, session, counter: 0 };
        script.hello();
        script
    }

    pub(crate) fn hello(&mut self) {
        let mut hello = Vec::new();
        framing::v12::encode::hello(identity("bob").wire_id(), *identity("bob").public(), &mut hello);
        let from = self.pair.path(Side::B).local;
        self.pair.inject(Side::A, from, &hello);
    }

    /// A DATA frame as an existing node makes it.
    pub(crate) fn sealed(&self, counter: u64, text: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![1];
        self.session.seal(Nonce::new(self.session.session_id(), counter), text, &mut frame);
        frame
    }

    pub(crate) fn data(&mut self, seq: u32) -> Vec<u8> {
        let frame = self.sealed(self.counter, &[&seq.to_be_bytes(), &number(seq, 8)]);
        self.counter += 1;
        frame
    }

    pub(crate) fn give(&mut self, datagram: &[u8]) {
        let from = self.pair.path(Side::B).local;
        self.pair.inject(Side::A, from, datagram);
    }

    pub(crate) fn say(&mut self, seq: u32) {
        let frame = self.data(seq);
        self.give(&frame);
    }

    pub(crate) fn heard(&self) -> Vec<u32> {
        numbers(self.pair.a_events())
    }
}

#[test]
fn what_is_overtaken_is_put_back_in_its_place() {
    let mut script = Script::new();
    // The count of a session that lasts.
    for seq in [100, 101] {
        script.say(seq);
    }
    for seq in [103, 104, 102, 105] {
        script.pair.run_for(ms(5));
        script.say(seq);
    }
    assert_eq!(script.heard(), [100, 101, 102, 103, 104, 105], "nothing waits, and nothing is lost");
}

#[test]
fn twenty_twentytwo_twentyone_twentythree() {
    let mut script = Script::new();
    (0..20).for_each(|seq| script.say(seq));
    for seq in [20, 22, 21, 23] {
        script.pair.run_for(ms(10));
        script.say(seq);
    }
    assert_eq!(script.heard()[20..], [20, 21, 22, 23]);
}

#[test]
fn a_lost_message_delays_the_others_once() {
    let mut script = Script::new();
    (0..3).for_each(|seq| script.say(seq));
    // Number 3 never comes.
    let began = script.pair.elapsed();
    for seq in 4..40 {
        script.say(seq);
        script.pair.run_for(ms(10));
    }
    script.pair.run_for(SECOND);
    assert_eq!(script.heard(), (0..3).chain(4..40).collect::<Vec<_>>());
    let missed: Vec<_> =
        script.pair.a_events().iter().filter(|timed| matches!(timed.event, Event::Missed { .. })).collect();
    assert_eq!(missed.len(), 1);
    assert_eq!(missed[0].event, Event::Missed { count: 1 });
    for timed in script.pair.a_events() {
        if let Event::Message { data, .. } = &timed.event {
            let seq = u32::from_be_bytes(*data.first_chunk().unwrap());
            let sent = began + ms(10) * seq.saturating_sub(4);
            let held = timed.at.saturating_sub(sent);
            let limit = if seq <= 9 { ms(50) } else { Duration::ZERO };
            assert!(held <= limit, "{seq} was held {held:?}");
        }
    }
    assert_eq!(script.pair.a.stats().missed, 1);
}

#[test]
fn a_message_that_comes_after_its_gap_was_given_up_is_late() {
    let mut script = Script::new();
    script.say(0);
    script.say(2);
    script.pair.run_for(ms(60));
    script.say(1);
    script.say(3);
    assert_eq!(script.heard(), [0, 2, 3]);
    assert_eq!(script.pair.a.stats().rejected.of(structs::Rejected::Late), 1);
}

#[test]
fn plaintext_without_a_number_is_delivered_as_it_is() {
    let mut script = Script::new();
    let frame = script.sealed(0, &[b"abc"]);
    script.give(&frame);
    assert_eq!(messages(script.pair.a_events()), [(Bytes::from_static(b"abc"), true)]);
}

/// A network that reorders does not lose or shuffle anything.
#[test]
fn reordering_is_repaired() {
    for seed in 0..10 {
        let link = delayed(ms(20)).jitter(ms(5)).reorder(0.1, ms(15));
        let mut pair = friends(&Config::default(), link, seed);
        let mut sent = 0;
        while sent < 1000 {
            while pair.with_a(|peer, now| peer.send(number(sent, 100), now)).is_ok() && sent < 999 {
                sent += 1;
            }
            sent += 1;
            pair.run_for(ms(20));
        }
        pair.run_for(5 * SECOND);
        assert_eq!(numbers(pair.b_events()), (0..1000).collect::<Vec<_>>(), "seed {seed}");
    }
}
