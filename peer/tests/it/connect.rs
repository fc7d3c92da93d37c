//! How a conversation begins.

use std::time::Duration;

use bytes::Bytes;
use crypto::Seed;
use peer::v12::{CloseReason, Config, Event, ExchangeError, Implementation, Peer, Proof, SendError};
use sim::pair::{Setup, Side};
use sim::{Link, Pair, clock};

use crate::reference::{Reference, Release, Told};
use crate::support::*;

#[test]
fn two_of_ours_prove_their_keys_within_60_ms() {
    for seed in 0..50 {
        let mut pair = meet(&Config::default(), delayed(ms(10)), seed);
        let proved = |pair: &Ours| pair.a.proof() == Proof::Key && pair.b.proof() == Proof::Key;
        assert!(pair.run_until(proved, ms(60)), "seed {seed}");
        assert_eq!([pair.a.implementation(), pair.b.implementation()], [Implementation::Ours; 2]);
        assert_eq!(pair.a.remote(), Some(identity("bob").public()));
        assert_eq!(pair.b.remote(), Some(identity("alice").public()));
        assert_eq!(pair.a.session_id(), pair.b.session_id());
        let key = *identity("bob").public();
        assert!(contains(pair.a_events(), &Event::Identified { key }));
        assert!(contains(pair.a_events(), &Event::Proved(Proof::Key)));
    }
}

#[test]
fn two_of_ours_meet_through_heavy_loss() {
    let mut times = Vec::new();
    for seed in 0..200 {
        let mut pair = meet(&Config::default(), delayed(ms(20)).loss(0.2), seed);
        let proved = |pair: &Ours| pair.a.proof() == Proof::Key && pair.b.proof() == Proof::Key;
        assert!(pair.run_until(proved, 6 * SECOND), "seed {seed}: {:?} {:?}", pair.a.proof(), pair.b.proof());
        times.push(pair.elapsed());
    }
    times.sort_unstable();
    assert!(times[100] < ms(400), "half of them: {:?}", times[100]);
    assert!(times[180] < ms(1500), "nine of ten: {:?}", times[180]);
}

#[test]
fn two_that_dial_each_other_meet() {
    let setup = Setup::new(Seed::fixed(1)).link(delayed(ms(15)));
    let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
    let bob = Peer::dial(Config::default(), identity("bob"), to_a, 8, &Seed::fixed(2), epoch(), now);
    let mut pair = setup.pair(dialler(Config::default(), to_b, 1, now), bob);
    let proved = |pair: &Ours| pair.a.proof() == Proof::Key && pair.b.proof() == Proof::Key;
    assert!(pair.run_until(proved, SECOND));
}

/// Nodes that have nothing to say prove at least that they are there.
#[test]
fn a_silent_reference_node_proves_its_address() {
    for seed in 0..50 {
        for we_dial in [true, false] {
            let mut pair = with_reference(we_dial, Release::Later, delayed(ms(30)), seed);
            let limit = if we_dial { ms(1500) } else { ms(2500) };
            assert!(pair.run_until(|pair| pair.a.is_connected(), limit), "seed {seed}, we dial: {we_dial}");
            assert_eq!(pair.a.proof(), Proof::Address);
            assert!(pair.b.is_connected());
            pair.run_for(2 * SECOND);
            assert_eq!(pair.a.implementation(), Implementation::Reference);
        }
    }
}

#[test]
fn a_silent_reference_node_proves_its_address_through_loss() {
    let mut failed = 0;
    for seed in 0..100 {
        for we_dial in [true, false] {
            let mut pair = with_reference(we_dial, Release::Later, delayed(ms(30)).loss(0.15), seed);
            let ok = pair.run_until(|pair| pair.a.is_connected(), 12 * SECOND);
            failed += u32::from(!ok);
        }
    }
    assert!(failed <= 10, "{failed} of 200 failed");
}

#[test]
fn a_reference_node_that_speaks_proves_its_key() {
    let mut pair = with_reference(true, Release::Later, delayed(ms(30)), 1);
    assert!(pair.run_until(|pair| pair.b.is_connected(), SECOND));
    pair.with_b(|node, now| node.write(Bytes::from_static(b"hello"), now));
    assert!(pair.run_until(|pair| pair.a.proof() == Proof::Key, ms(100)));
    let proved = pair.a_events().iter().position(|timed| timed.event == Event::Proved(Proof::Key));
    let message = pair.a_events().iter().position(|timed| matches!(timed.event, Event::Message { .. }));
    assert!(proved < message, "the proof comes first: {proved:?} {message:?}");
}

#[test]
fn an_unanswered_dial_ends_after_its_hellos() {
    for (hellos, seconds) in [(1, 2..=4), (3, 2..=4), (8, 8..=10)] {
        let setup = Setup::new(Seed::fixed(1)).link(Link::dead());
        let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
        let dial = Peer::dial(Config::default(), identity("alice"), to_b, hellos, &Seed::fixed(2), epoch(), now);
        let mut pair = setup.pair(dial, acceptor(Config::default(), to_a, 1, now));
        assert!(pair.a.is_dialing());
        pair.run_for(30 * SECOND);
        let (at, reason) = closed(pair.a_events()).expect("closed");
        assert_eq!(reason, CloseReason::NoAnswer);
        assert!(seconds.contains(&at.as_secs()), "{hellos} HELLOs: {at:?}");
        assert_eq!(pair.traffic(Side::A).sent.datagrams, u64::from(hellos));
        assert!(pair.a.is_closed() && pair.deadline(Side::A).is_none());
    }
}

#[test]
fn the_hellos_of_a_dial_spread_out() {
    let setup = Setup::new(Seed::fixed(1)).link(Link::dead());
    let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
    let mut pair = setup.pair(dialler(Config::default(), to_b, 1, now), acceptor(Config::default(), to_a, 1, now));
    pair.capture(10_000);
    pair.run_for(30 * SECOND);
    // The first left before the tap was opened.
    let at: Vec<Duration> = pair.captured().iter().map(|captured| captured.at).collect();
    assert_eq!(at, [300, 600, 1200, 2100, 3300, 4800, 6600].map(ms));
}

#[test]
fn whoever_proves_nothing_is_let_go() {
    let setup = Setup::new(Seed::fixed(1)).link(Link::perfect());
    let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
    let mut pair = setup
        .link_from(Side::B, Link::dead())
        .pair(dialler(Config::default(), to_b, 1, now), acceptor(Config::default(), to_a, 1, now));
    // Bob hears HELLOs, and nothing that would show that Alice hears him.
    pair.run_for(ms(100));
    assert!(pair.b.remote().is_some());
    assert_eq!(pair.b.proof(), Proof::None);
    pair.run_for(30 * SECOND);
    assert_eq!(closed(pair.b_events()).map(|closed| closed.1), Some(CloseReason::Unproven));
}

#[test]
fn nobody_talks_to_himself() {
    let setup = Setup::new(Seed::fixed(1)).link(delayed(ms(1)));
    let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
    let other = Peer::accept(Config::default(), identity("alice"), to_a, &Seed::fixed(3), epoch(), now);
    let mut pair = setup.pair(dialler(Config::default(), to_b, 1, now), other);
    pair.run_for(SECOND);
    assert_eq!(closed(pair.b_events()).map(|closed| closed.1), Some(CloseReason::Ourselves));
}

#[test]
fn nothing_is_sent_before_the_peer_is_there() {
    let setup = Setup::new(Seed::fixed(1)).link(Link::dead());
    let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
    let mut pair = setup.pair(dialler(Config::default(), to_b, 1, now), acceptor(Config::default(), to_a, 1, now));
    pair.run_for(ms(400));
    let now = pair.now();
    assert_eq!(pair.a.send(Bytes::from_static(b"x"), now), Err(SendError::NotConnected));
    assert_eq!(pair.a.want(Bytes::from_static(b"key"), now), Err(ExchangeError::NotConnected));
    assert!(!pair.a.send_control(vec![0x30, 0]));
}

/// The first note would reach the application of the other Rust node, which therefore shows itself first.
#[test]
fn the_other_rust_node_gets_no_note_and_no_batch() {
    let setup = Setup::new(Seed::fixed(1)).link(delayed(ms(1)));
    let (now, to_b) = (setup.now(), setup.path(Side::A));
    let node = Reference::new("bob", Release::Later, now);
    let mut pair = setup.pair(dialler(Config::default(), to_b, 1, now), node);
    assert!(pair.run_until(|pair| pair.a.remote().is_some(), ms(10)));
    // Its PEX entries have no lengths: id8, address4, port2.
    let mut pex = vec![0x30, 1];
    pex.extend_from_slice(&[7; 8]);
    pex.extend_from_slice(&[10, 0, 0, 9, 0x0f, 0xa0]);
    pair.inject(Side::A, to_b.remote, &pex);
    assert_eq!(pair.a.implementation(), Implementation::Rust);
    pair.capture(1 << 20);
    assert!(pair.run_until(|pair| pair.a.is_connected(), 2 * SECOND));
    assert_eq!(pair.a.max_message(), 4096 - 33);
    for i in 0..20 {
        pair.with_a(|peer, now| peer.send(number(i, 40), now)).expect("room");
    }
    pair.run_for(2 * SECOND);
    let from_us: Vec<_> = pair.captured().iter().filter(|captured| captured.to == to_b.remote).collect();
    assert!(from_us.iter().all(|captured| captured.payload[0] != 0x13), "a BATCH");
    let sealed = from_us.iter().filter(|captured| captured.payload[0] == 0x01).count();
    assert_eq!(sealed, 20, "messages and nothing else are sealed");
}

/// The C++ node shows itself by the body of its PONG.
#[test]
fn the_cpp_node_is_known_by_its_pong() {
    let setup = Setup::new(Seed::fixed(1)).link(delayed(ms(1)));
    let (now, to_b) = (setup.now(), setup.path(Side::A));
    let node = Reference::new("bob", Release::Later, now);
    let mut pair = setup.pair(dialler(Config::default(), to_b, 1, now), node);
    pair.capture(1 << 20);
    let pinged = |pair: &Pair<Peer, Reference>| pair.captured().iter().any(|captured| captured.payload[0] == 0x03);
    assert!(pair.run_until(pinged, SECOND));
    let mut echo = pair.captured().iter().find(|captured| captured.payload[0] == 0x03).expect("a PING").payload.clone();
    echo[0] = 0x04;
    pair.inject(Side::A, to_b.remote, &echo);
    assert_eq!(pair.a.implementation(), Implementation::Cpp);
    // And it would not survive a GOAWAY.
    assert!(pair.run_until(|pair| pair.a.is_connected(), 2 * SECOND));
    pair.with_a(|peer, now| peer.close(framing::v12::GoawayReason::Quitting, now));
    pair.run_for(ms(10));
    assert!(!pair.b.is_connected() || !pair.captured().iter().any(|captured| captured.payload[0] == 0x0a));
    assert!(pair.take_b_events().iter().all(|timed| timed.event != Told::Gone));
}

/// An idle conversation costs a PING and a PONG each second and hardly any wake-ups.
#[test]
fn an_idle_conversation_is_quiet() {
    for link in [delayed(ms(20)), delayed(ms(20)).loss(0.3)] {
        let mut pair = friends(&Config::default(), link, 4);
        pair.run_for(15 * SECOND);
        let (before, mut steps) = (pair.traffic(Side::A).sent.datagrams, 0);
        let end = pair.elapsed() + 60 * SECOND;
        while pair.next_at().is_some_and(|at| at <= end) {
            pair.step();
            steps += 1;
        }
        let sent = pair.traffic(Side::A).sent.datagrams - before;
        assert!((90..=125).contains(&sent), "{sent} datagrams in a minute");
        assert!(steps < 60 * 15, "{steps} steps in a minute");
    }
}

/// A peer and a node of the existing implementations.
pub(crate) fn with_reference(we_dial: bool, release: Release, link: Link, seed: u64) -> Pair<Peer, Reference> {
    let setup = Setup::new(Seed::fixed(seed)).link(link);
    let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
    let node = Reference::new("bob", release, now);
    if we_dial {
        return setup.pair(dialler(Config::default(), to_b, seed, now), node);
    }
    let alice = Peer::accept(Config::default(), identity("alice"), to_b, &Seed::fixed(seed), epoch(), now);
    setup.pair(alice, node.dial(to_a))
}

/// The same, connected on both sides.
pub(crate) fn befriended(release: Release, link: Link, seed: u64) -> Pair<Peer, Reference> {
    let mut pair = with_reference(true, release, link, seed);
    assert!(pair.run_until(|pair| pair.a.is_connected() && pair.b.is_connected(), 20 * SECOND));
    // Until it is taken for what it is, nothing shares a datagram.
    assert!(pair.run_until(|pair| pair.a.implementation() == Implementation::Reference, 3 * SECOND));
    assert!(pair.now() >= clock::base());
    pair.take_a_events();
    pair.take_b_events();
    pair
}
