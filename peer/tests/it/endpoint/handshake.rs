//! From the first datagram to a session.

use framing::Role;
use peer::{Config, DialError, Endpoint, Reason, Target};
use sim::Link;
use sim::pair::Side;
use structs::{Link as Carrier, Machine, Path, Rejected, TransmitBuf};

use super::support::*;

#[test]
fn a_known_key_takes_one_round_trip() {
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    pair.capture(1 << 20);
    let handle = dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(|pair| open(&pair.a) == 1, SECOND));
    assert_eq!(pair.elapsed(), ms(40));
    assert!(pair.run_until(both_open, SECOND));
    assert_eq!(pair.elapsed(), ms(60), "the first packet confirms it");
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    assert_eq!(sent(&pair, a)[..2], [(0xd0, 180), (0xe0, 0)]);
    assert_eq!(sent(&pair, b)[0], (0xd1, 132));
    let (alices, bobs) = (connected(pair.a_events()), connected(pair.b_events()));
    assert_eq!(alices.len(), 1);
    assert_eq!(alices[0].0, handle);
    assert_eq!((alices[0].1.peer, alices[0].1.role, alices[0].1.resumed), (id("bob"), Role::Dialler, false));
    assert_eq!(bobs.len(), 1);
    assert_eq!((bobs[0].1.peer, bobs[0].1.role, bobs[0].1.resumed), (id("alice"), Role::Responder, false));
    assert_eq!(pair.a.by_id(&id("bob")), Some(handle));
    assert_eq!(pair.b.by_id(&id("alice")), Some(bobs[0].0));
    assert_eq!(pair.b.stats().half_open, 0);
}

#[test]
fn whoever_answers_says_who_it_is() {
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    pair.capture(1 << 20);
    dial(&mut pair, Side::A, Target::Anyone);
    assert!(pair.run_until(both_open, SECOND));
    assert_eq!(pair.elapsed(), ms(60), "the third message confirms it");
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    assert_eq!(sent(&pair, a)[..2], [(0xd3, 240), (0xd5, 132)]);
    assert_eq!(sent(&pair, b)[0], (0xd4, 180));
    assert_eq!(connected(pair.a_events())[0].1.peer, id("bob"));
    assert_eq!(connected(pair.b_events())[0].1.peer, id("alice"));
    assert!(pair.a.by_id(&id("bob")).is_some());
}

#[test]
fn a_path_that_a_dial_has_lost_makes_room_for_another() {
    let now = sim::clock::base();
    let mut alice = endpoint("alice", Config::default(), 1, now);
    let (bob, mut out) = (Target::Known(id("bob")), TransmitBuf::new(1));
    let circuit = |number| Path {
        link: Carrier::Circuit(number),
        ..Path::udp(([10, 0, 0, 1], 7).into(), ([10, 0, 0, 2], 7).into())
    };
    let mut dial = |alice: &mut Endpoint, number| {
        let handle = alice.dial(bob, circuit(number), now).unwrap();
        let mut to = Vec::new();
        while let Some(transmit) = alice.poll_transmit(&mut out, now) {
            to.push(transmit.path.link);
            out.clear();
        }
        (handle, to)
    };
    let (handle, _) = dial(&mut alice, 1);
    assert_eq!(dial(&mut alice, 2), (handle, vec![Carrier::Circuit(2)]));
    assert_eq!(dial(&mut alice, 3), (handle, vec![]), "two circuits are tried at a time");
    assert!(alice.lose_path(handle, &circuit(1), now) && !alice.lose_path(handle, &circuit(1), now));
    assert_eq!(dial(&mut alice, 3), (handle, vec![Carrier::Circuit(3)]));
    let tried = |alice: &Endpoint| [1, 2, 3].map(|number| alice.peer(handle).unwrap().tries(&circuit(number)));
    assert_eq!(tried(&alice), [false, true, true]);
    // Also the last one, whose first message has not left: the dial goes on by the next.
    alice.dial(bob, circuit(3), now).unwrap();
    assert!(alice.lose_path(handle, &circuit(2), now) && alice.lose_path(handle, &circuit(3), now));
    assert_eq!(tried(&alice), [false; 3]);
    assert_eq!(dial(&mut alice, 4), (handle, vec![Carrier::Circuit(4)]));
}

#[test]
fn a_ticket_shortens_the_next_handshake() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    assert!(pair.run_until(|pair| pair.a.stats().tickets_held > 0, SECOND), "no ticket came");
    let held = pair.a.stats().tickets_held;
    pair.with_a(|a, now| a.close_all(BYE, "", now));
    assert!(pair.run_until(|pair| open(&pair.a) + open(&pair.b) == 0, 20 * SECOND));
    pair.take_a_events();
    pair.take_b_events();
    pair.capture(1 << 20);
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, SECOND));
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    assert_eq!(sent(&pair, a)[0], (0xd6, 148));
    assert_eq!(sent(&pair, b)[0], (0xd7, 132));
    let (alices, bobs) = (connected(pair.a_events()), connected(pair.b_events()));
    assert!(alices[0].1.resumed && bobs[0].1.resumed);
    assert_eq!((alices[0].1.peer, bobs[0].1.peer), (id("bob"), id("alice")));
    assert!(pair.a.stats().tickets_held < held + 2, "the ticket is used up");
}

#[test]
fn handshakes_survive_loss() {
    for seed in 0..24 {
        for target in [Target::Known(id("bob")), Target::Anyone] {
            let link = delayed(ms(30)).loss(0.3).duplicate(0.1).reorder(0.1, ms(50));
            let config = Config::default().handshake_timeout(60 * SECOND);
            let mut pair = strangers(&config, setup(link, seed), seed);
            dial(&mut pair, Side::A, target);
            assert!(pair.run_until(both_open, 60 * SECOND), "seed {seed}, {target:?}: no session");
        }
    }
}

#[test]
fn the_first_message_and_its_answer_are_repeated_byte_by_byte() {
    for (target, first, answer) in [(Target::Known(id("bob")), 0xd0, 0xd1), (Target::Anyone, 0xd3, 0xd4)] {
        let config = Config::default().fall_back_to_xx(false);
        let mut pair = strangers(&config, setup(delayed(ms(10)), 1), 1);
        pair.capture(1 << 20);
        pair.set_link(Side::B, Link::dead());
        dial(&mut pair, Side::A, target);
        pair.run_for(4 * SECOND);
        let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
        let (asked, answered) = (sent_kind(&pair, a, first), sent_kind(&pair, b, answer));
        assert!(asked.len() >= 4, "{} tries", asked.len());
        assert_eq!(asked.len(), answered.len());
        assert!(asked.iter().all(|message| *message == asked[0]));
        assert!(answered.iter().all(|message| *message == answered[0]));
        let stats = pair.b.stats();
        assert_eq!(stats.handshakes_answered, 1, "one key agreement for all of them");
        assert_eq!(stats.answers_repeated as usize, asked.len() - 1);
        assert_eq!(stats.rejected.of(Rejected::Duplicate), stats.answers_repeated);
        pair.set_link(Side::B, delayed(ms(10)));
        assert!(pair.run_until(both_open, 5 * SECOND), "the next repetition gets through");
    }
}

#[test]
fn a_dial_outlives_the_handshake_that_the_other_side_gave_up() {
    let config = Config::default().fall_back_to_xx(false);
    let mut pair = strangers(&config, setup(delayed(ms(10)), 1), 1);
    pair.set_link(Side::B, Link::dead());
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    pair.run_for(6 * SECOND);
    assert_eq!(pair.b.stats().half_open, 0);
    pair.set_link(Side::B, delayed(ms(10)));
    assert!(pair.run_until(both_open, 4 * SECOND), "the same bytes begin anew");
    assert_eq!(pair.b.stats().handshakes_answered, 2);
}

#[test]
fn long_round_trips_do_not_confuse_a_ticket_and_what_joins_it() {
    for delay in [100, 200, 300, 400, 500, 600, 800] {
        let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
        assert!(pair.run_until(|pair| pair.a.stats().tickets_held > 0, SECOND));
        pair.with_a(|a, now| a.close_all(BYE, "", now));
        assert!(pair.run_until(|pair| pair.a.stats().peers + pair.b.stats().peers == 0, 20 * SECOND));
        pair.take_a_events();
        pair.take_b_events();
        for side in [Side::A, Side::B] {
            pair.set_link(side, delayed(ms(delay)));
        }
        dial(&mut pair, Side::A, Target::Known(id("bob")));
        assert!(pair.run_until(both_open, 5 * SECOND), "{delay} ms");
        pair.run_for(20 * SECOND);
        assert_eq!([closed(pair.a_events()), closed(pair.b_events())], [vec![], vec![]], "{delay} ms");
        assert!(connected(pair.a_events())[0].1.resumed);
        assert_eq!((open(&pair.a), open(&pair.b), pair.b.stats().resets_sent), (1, 1, 0));
    }
}

#[test]
fn a_dial_that_nobody_answers_ends_in_time() {
    let mut pair = strangers(&Config::default(), setup(Link::dead(), 1), 1);
    let handle = dial(&mut pair, Side::A, Target::Known(id("bob")));
    pair.run_for(60 * SECOND);
    assert_eq!(closed(pair.a_events()), [(10 * SECOND, handle, Reason::NoAnswer)]);
    assert_eq!(pair.a.peers().count(), 0, "its place is free");
    assert_eq!(pair.deadline(Side::A), None);
}

#[test]
fn another_key_at_the_address_is_told_and_learns_nothing() {
    // The key that is dialled is Carol's, but Bob is there.
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    pair.capture(1 << 20);
    let handle = dial(&mut pair, Side::A, Target::Known(id("carol")));
    pair.run_for(20 * SECOND);
    let ended = closed(pair.a_events());
    assert_eq!(ended, [(SECOND + ms(40), handle, Reason::WrongPeer { obtained: id("bob") })]);
    let a = at(&pair, Side::A);
    assert!(sent_kind(&pair, a, 0xd5).is_empty(), "a third message would say who dials");
    assert!(sent_kind(&pair, a, 0xe0).is_empty());
    assert!(pair.b.stats().rejected.of(Rejected::Unauthentic) >= 2, "what was meant for Carol says nothing to Bob");
    assert_eq!(pair.b.stats().half_open, 0, "what was begun is forgotten");
    assert_eq!((pair.b.stats().accepted, pair.b.peers().count()), (0, 0));
}

#[test]
fn without_the_fall_back_another_key_is_silence() {
    let config = Config::default().fall_back_to_xx(false);
    let mut pair = strangers(&config, setup(delayed(ms(20)), 1), 1);
    pair.capture(1 << 20);
    dial(&mut pair, Side::A, Target::Known(id("carol")));
    pair.run_for(20 * SECOND);
    assert_eq!(closed(pair.a_events())[0].2, Reason::NoAnswer);
    let b = at(&pair, Side::B);
    assert_eq!(sent(&pair, b), [], "not a byte");
}

#[test]
fn networks_do_not_mix() {
    let now = sim::clock::base();
    let elsewhere = Config::default().network([1; 32]);
    let mut pair = setup(delayed(ms(20)), 1)
        .pair(endpoint("alice", Config::default(), 1, now), endpoint("bob", elsewhere, 1, now));
    for target in [Target::Known(id("bob")), Target::Anyone] {
        dial(&mut pair, Side::A, target);
        pair.run_for(20 * SECOND);
    }
    assert!(closed(pair.a_events()).iter().all(|(_, _, reason)| *reason == Reason::NoAnswer));
    assert_eq!((pair.a.stats().accepted, pair.b.stats().accepted), (0, 0));
    assert_eq!(connected(pair.a_events()), []);
}

#[test]
fn what_cannot_be_dialled_is_refused_at_once() {
    let config = Config::default().max_peers(1);
    let mut pair = strangers(&config, setup(delayed(ms(20)), 1), 1);
    let path = pair.path(Side::A);
    pair.with_a(|a, now| assert_eq!(a.dial(Target::Known(id("alice")), path, now), Err(DialError::SelfDial)));
    let handle = dial(&mut pair, Side::A, Target::Known(id("bob")));
    let again = dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert_eq!(handle, again, "one dial for one key");
    pair.with_a(|a, now| assert_eq!(a.dial(Target::Anyone, path, now), Err(DialError::Full)));
    assert!(pair.run_until(both_open, SECOND));
    let known = Target::Known(id("bob"));
    pair.with_a(|a, now| assert_eq!(a.dial(known, path, now), Err(DialError::AlreadyConnected(handle))));
    pair.with_a(|a, now| a.close(BYE, "", SECOND, now));
    pair.with_a(|a, now| assert_eq!(a.dial(known, path, now), Err(DialError::Closed)));
}

#[test]
fn a_full_endpoint_lets_nobody_in() {
    let now = sim::clock::base();
    let full = Config::default().max_peers(1);
    let mut pair =
        setup(delayed(ms(20)), 1).pair(endpoint("alice", Config::default(), 1, now), endpoint("bob", full, 1, now));
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, SECOND));
    let path = Path::udp(at(&pair, Side::B), ([10, 0, 9, 9], 9).into());
    let message = first_message("carol", Target::Known(id("bob")), path, 1, now);
    let before = pair.traffic(Side::B).sent;
    pair.inject(Side::B, path.remote, &message);
    assert_eq!(pair.traffic(Side::B).sent, before);
    assert_eq!(pair.b.stats().rejected.of(Rejected::LimitReached), 1);
}

#[test]
fn a_closed_endpoint_is_silent() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    pair.with_a(|a, now| a.close(BYE, "gone", SECOND, now));
    assert!(pair.run_until(|pair| pair.a.is_closed(), 20 * SECOND));
    assert_eq!(pair.deadline(Side::A), None);
    assert!(matches!(closed(pair.a_events())[..], [(_, _, Reason::Local { code: BYE })]));
    let bobs = closed(pair.b_events());
    assert!(matches!(&bobs[..], [(_, _, Reason::Remote { code: BYE, reason })] if reason == "gone"), "{bobs:?}");
    let before = pair.traffic(Side::A).sent;
    dial(&mut pair, Side::B, Target::Known(id("alice")));
    pair.run_for(20 * SECOND);
    assert_eq!(pair.traffic(Side::A).sent, before);
    assert_eq!(closed(pair.b_events())[1].2, Reason::NoAnswer);
}

#[test]
fn nobody_connects_to_itself() {
    // Everything that Alice sends comes back to her.
    use structs::{Datagram, Machine, TransmitBuf};
    let start = sim::clock::base();
    let mut alice = endpoint("alice", Config::default(), 1, start);
    let here = Path::udp(([10, 0, 0, 1], 1).into(), ([10, 0, 0, 1], 1).into());
    alice.dial(Target::Anyone, here, start).expect("a dial");
    let mut out = TransmitBuf::new(16);
    let mut reasons = Vec::new();
    let mut now = start;
    for _ in 0..1000 {
        while let Some(transmit) = alice.poll_transmit(&mut out, now) {
            let datagrams: Vec<Vec<u8>> = out.segments(&transmit).map(<[u8]>::to_vec).collect();
            out.clear();
            for mut datagram in datagrams {
                let _ = alice.handle_datagram(Datagram::new(here, &mut datagram), now);
            }
        }
        while let Some(event) = alice.poll_event() {
            if let peer::Event::Closed(closed) = event.event {
                reasons.push(closed.reason);
            }
        }
        let Some(deadline) = alice.poll_timeout() else { break };
        now = deadline.at;
        alice.handle_timeout(now);
    }
    assert_eq!(reasons, [Reason::WrongPeer { obtained: id("alice") }]);
    assert_eq!((alice.stats().accepted, alice.stats().half_open), (0, 0));
}

/// Commands that tests give to whole endpoints.
trait Commands {
    /// Closes every session, and goes on.
    fn close_all(&mut self, code: u64, reason: &str, now: std::time::Instant);
}

impl Commands for Endpoint {
    fn close_all(&mut self, code: u64, reason: &str, now: std::time::Instant) {
        let handles: Vec<_> = self.peers().map(|(handle, _)| handle).collect();
        for handle in handles {
            self.with(handle, now, |peer, now| peer.close(code, reason, SECOND, now));
        }
    }
}
