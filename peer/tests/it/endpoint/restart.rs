//! One side loses its state.

use peer::{Config, Reason, Target};
use sim::pair::Side;
use structs::Rejected;

use super::support::*;

/// Alice and Bob; Bob's process ends without a word, and a new one begins.
fn restarted() -> Ours {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    pair.run_for(SECOND);
    let now = pair.now();
    pair.replace_b(endpoint("bob", Config::default(), 2, now));
    pair.take_a_events();
    pair.take_b_events();
    pair
}

#[test]
fn a_packet_for_a_forgotten_session_is_answered_with_a_reset() {
    let mut pair = restarted();
    pair.capture(1 << 20);
    assert!(pair.run_until(|pair| open(&pair.a) == 0, 60 * SECOND), "Alice did not notice");
    assert!(matches!(closed(pair.a_events())[..], [(_, _, Reason::Reset)]), "{:?}", closed(pair.a_events()));
    let (asked, answered) = (sent(&pair, at(&pair, Side::A)), sent(&pair, at(&pair, Side::B)));
    assert_eq!(answered.len(), 1);
    assert!(!asked.is_empty());
    let reset = pair.captured().iter().find(|captured| captured.from == at(&pair, Side::B)).expect("a reset");
    assert!((39..=42).contains(&reset.payload.len()));
    assert_eq!(pair.b.stats().resets_sent, 1);
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, 5 * SECOND));
}

#[test]
fn one_that_restarted_can_dial_at_once() {
    let mut pair = restarted();
    dial(&mut pair, Side::B, Target::Known(id("alice")));
    assert!(pair.run_until(|pair| open(&pair.b) == 1, SECOND));
    assert!(pair.run_until(|pair| !connected(pair.a_events()).is_empty(), SECOND));
    assert!(matches!(closed(pair.a_events())[..], [(_, _, Reason::Replaced)]));
    assert_eq!((open(&pair.a), open(&pair.b)), (1, 1));
    pair.run_for(30 * SECOND);
    assert_eq!((open(&pair.a), open(&pair.b)), (1, 1));
    assert_eq!(pair.a.by_id(&id("bob")), Some(connected(pair.a_events())[0].0), "the new one");
}

#[test]
fn a_half_open_handshake_replaces_nothing() {
    let mut pair = restarted();
    // Bob's first message arrives, Alice's answer does not.
    pair.set_link(Side::A, sim::Link::dead());
    dial(&mut pair, Side::B, Target::Known(id("alice")));
    pair.run_for(ms(500));
    assert_eq!((pair.a.stats().half_open, open(&pair.a)), (1, 1));
    assert!(closed(pair.a_events()).is_empty());
    pair.run_for(20 * SECOND);
    assert_eq!(pair.a.stats().half_open, 0);
}

#[test]
fn a_ticket_that_the_other_side_forgot_costs_a_round_trip() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    assert!(pair.run_until(|pair| pair.a.stats().tickets_held > 0, SECOND));
    let now = pair.now();
    pair.replace_b(endpoint("bob", Config::default(), 2, now));
    assert!(pair.run_until(|pair| open(&pair.a) == 0, 60 * SECOND));
    pair.take_a_events();
    pair.capture(1 << 20);
    let begun = pair.elapsed();
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(|pair| open(&pair.a) == 1, 5 * SECOND));
    assert_eq!(pair.elapsed() - begun, ms(80));
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    assert_eq!(sent(&pair, a)[..2], [(0xd6, 148), (0xd0, 180)]);
    assert_eq!(sent(&pair, b)[..2], [(0xdf, 12), (0xd1, 132)]);
    assert!(!connected(pair.a_events())[0].1.resumed);
    assert_eq!(pair.b.stats().retries_sent, 1);
}

#[test]
fn a_ticket_is_good_for_one_handshake() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    assert!(pair.run_until(|pair| pair.a.stats().tickets_held > 0, SECOND));
    let handle = pair.a.by_id(&id("bob")).expect("a session");
    pair.with_a(|a, now| a.with(handle, now, |peer, now| peer.close(BYE, "", SECOND, now)));
    assert!(pair.run_until(|pair| pair.a.stats().peers + pair.b.stats().peers == 0, 20 * SECOND));
    pair.take_a_events();
    pair.capture(1 << 20);
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, SECOND));
    assert!(connected(pair.a_events())[0].1.resumed);
    pair.run_for(10 * SECOND);

    // Who recorded the first message sends it again, from elsewhere.
    let message = sent_kind(&pair, at(&pair, Side::A), 0xd6).remove(0);
    let before = state(&pair.b);
    let thief = ([10, 0, 7, 7], 7).into();
    pair.inject(Side::B, thief, &message);
    assert_eq!(bytes_to(&pair, thief), 0, "known, and over");
    assert_eq!(pair.b.stats().rejected.of(Rejected::Replayed), 1);
    // With another ephemeral key it is not known, but its ticket is used.
    let mut other = message.clone();
    other[28] ^= 1;
    pair.inject(Side::B, thief, &other);
    assert_eq!(bytes_to(&pair, thief), 12, "a hint");
    assert_eq!(state(&pair.b), before);
}
