//! What nobody honest sends: copies, cuts, bent bits, forgeries.

use std::net::SocketAddr;

use peer::{Config, Reason, Target};
use sim::Link;
use sim::pair::Side;
use structs::{Path, Rejected};

use super::support::*;

const STRANGER: ([u8; 4], u16) = ([10, 0, 7, 7], 7);

fn stranger() -> SocketAddr {
    STRANGER.into()
}

/// Every cut and every single bent bit of a datagram, with where the bit is.
fn distorted(datagram: &[u8]) -> Vec<(Vec<u8>, Option<usize>)> {
    let cuts = (1..datagram.len()).map(|len| (datagram[..len].to_vec(), None));
    let bent = (0..datagram.len() * 8).map(|bit| {
        let mut bent = datagram.to_vec();
        bent[bit / 8] ^= 1 << (bit % 8);
        (bent, Some(bit / 8))
    });
    cuts.chain(bent).collect()
}

/// Alice, who dials Bob by what she knows of him; what arrives at Bob, and what he answers. Nothing got back to her.
fn unanswered(target: Target, with_ticket: bool) -> (Ours, Vec<u8>, Vec<u8>) {
    let config = Config::default().fall_back_to_xx(false);
    let mut pair = if with_ticket {
        let mut pair = friends(&config, delayed(ms(10)), 1);
        assert!(pair.run_until(|pair| pair.a.stats().tickets_held > 0, SECOND));
        let handle = pair.a.by_id(&id("bob")).expect("a session");
        pair.with_a(|a, now| a.with(handle, now, |peer, now| peer.close(BYE, "", SECOND, now)));
        assert!(pair.run_until(|pair| pair.a.stats().peers + pair.b.stats().peers == 0, 20 * SECOND));
        pair
    } else {
        strangers(&config, setup(delayed(ms(10)), 1), 1)
    };
    pair.take_a_events();
    pair.take_b_events();
    pair.capture(16 << 20);
    pair.set_link(Side::B, Link::dead());
    dial(&mut pair, Side::A, target);
    pair.run_for(ms(15));
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    let first = pair.captured().iter().find(|captured| captured.from == a).expect("a first message").payload.clone();
    let answer = pair.captured().iter().find(|captured| captured.from == b).expect("an answer").payload.clone();
    (pair, first, answer)
}

#[test]
fn a_distorted_init_is_nothing() {
    let now = sim::clock::base();
    let mut pair = strangers(&Config::default(), setup(delayed(ms(10)), 1), 1);
    pair.capture(16 << 20);
    let path = Path::udp(stranger(), at(&pair, Side::B));
    let message = first_message("carol", Target::Known(id("bob")), path, 1, now);
    let fresh = state(&pair.b);
    for (datagram, bent) in distorted(&message) {
        // The last 16 bytes are the MAC of a cookie: without one they say nothing.
        if bent.is_none_or(|at| at < message.len() - 16) {
            pair.inject(Side::B, stranger(), &datagram);
        }
    }
    assert_eq!(bytes_to(&pair, stranger()), 0);
    assert_eq!(state(&pair.b), fresh);
    assert_eq!(pair.b.stats().dh_operations, 0, "none of them was worth a key agreement");
    pair.inject(Side::B, stranger(), &message);
    assert_eq!(pair.b.stats().half_open, 1);
}

#[test]
fn a_distorted_first_message_of_a_stranger_gets_no_more_than_it_has() {
    let now = sim::clock::base();
    let mut pair = strangers(&Config::default(), setup(delayed(ms(10)), 1), 1);
    pair.capture(16 << 20);
    let path = Path::udp(stranger(), at(&pair, Side::B));
    let message = first_message("carol", Target::Anyone, path, 1, now);
    let (mut received, mut cut) = (0, true);
    for (datagram, bent) in distorted(&message) {
        cut &= bent.is_none();
        pair.inject(Side::B, stranger(), &datagram);
        received += datagram.len();
        let sent = bytes_to(&pair, stranger());
        assert!(sent <= received && (!cut || sent == 0), "{sent} bytes for {received}");
    }
    let stats = pair.b.stats();
    assert!(stats.half_open <= 64, "{} half open", stats.half_open);
    assert!(stats.cookies_sent > 200, "{} cookies: each new key is another stranger", stats.cookies_sent);
    assert_eq!((stats.peers, stats.accepted), (0, 0));
    pair.run_for(6 * SECOND);
    assert_eq!(pair.b.stats().half_open, 0);
}

#[test]
fn a_distorted_resumption_does_not_use_up_the_ticket() {
    let (mut pair, message, _) = unanswered(Target::Known(id("bob")), true);
    // Bob is put back to where he has not seen it: he answered, and that is over after five seconds.
    assert_eq!(message[0], 0xd6);
    let tickets = pair.b.stats().tickets_issued;
    assert!(tickets >= 1, "one is left");
    pair.run_for(30 * SECOND);
    pair.take_a_events();
    let path = pair.path(Side::A);
    pair.set_link(Side::A, Link::dead());
    let handle = pair.with_a(|a, now| a.dial(Target::Known(id("bob")), path, now)).expect("a dial");
    let first = pair.captured().last().expect("a first message").payload.clone();
    assert_eq!(first[0], 0xd6, "Alice has a second ticket");
    let before = state(&pair.b);
    let mut received = 0;
    for (datagram, bent) in distorted(&first) {
        if bent.is_none_or(|at| at < first.len() - 16) {
            pair.inject(Side::B, stranger(), &datagram);
            received += datagram.len();
        }
    }
    assert!(bytes_to(&pair, stranger()) <= received);
    assert_eq!(state(&pair.b), before);
    // The true one is still good.
    pair.set_link(Side::A, delayed(ms(10)));
    pair.set_link(Side::B, delayed(ms(10)));
    assert!(pair.run_until(both_open, 5 * SECOND));
    let connected = connected(pair.a_events());
    assert_eq!(connected[0].0, handle);
    assert!(connected[0].1.resumed);
}

#[test]
fn a_distorted_answer_does_not_disturb_a_dial() {
    let cases = [
        (Target::Known(id("bob")), false, 0xd1),
        (Target::Anyone, false, 0xd4),
        (Target::Known(id("bob")), true, 0xd7),
    ];
    for (target, with_ticket, kind) in cases {
        let (mut pair, _, answer) = unanswered(target, with_ticket);
        assert_eq!(answer[0], kind);
        let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
        let before = sent(&pair, a).len();
        // With another first byte it may be a first message, which is not about the dial.
        for (datagram, _) in distorted(&answer).into_iter().filter(|(datagram, _)| datagram[0] == kind) {
            for from in [b, stranger()] {
                pair.inject(Side::A, from, &datagram);
            }
        }
        assert_eq!(connected(pair.a_events()), [], "{kind:x}");
        assert_eq!(closed(pair.a_events()), [], "{kind:x}");
        assert_eq!(sent(&pair, a).len(), before, "{kind:x}: nothing follows from it");
        pair.inject(Side::A, b, &answer);
        assert_eq!(connected(pair.a_events()).len(), 1, "{kind:x}: the true one is still good");
    }
}

#[test]
fn a_distorted_third_message_does_not_end_the_handshake() {
    let mut pair = strangers(&Config::default(), setup(delayed(ms(10)), 1), 1);
    pair.capture(16 << 20);
    dial(&mut pair, Side::A, Target::Anyone);
    pair.run_for(ms(25));
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    let third = sent_kind(&pair, a, 0xd5).remove(0);
    assert_eq!((pair.b.stats().half_open, pair.b.peers().count()), (1, 0));
    let before = sent(&pair, b).len();
    for (datagram, _) in distorted(&third) {
        for from in [a, stranger()] {
            pair.inject(Side::B, from, &datagram);
        }
    }
    assert_eq!((pair.b.stats().half_open, pair.b.peers().count()), (1, 0));
    assert_eq!(sent(&pair, b).len(), before);
    assert!(pair.run_until(both_open, SECOND));
}

#[test]
fn forged_hints_change_nothing_but_the_next_message() {
    let (mut pair, first, answer) = unanswered(Target::Known(id("bob")), false);
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    // A cookie that nobody could have sealed, and word of an unknown ticket that was not used.
    let mut cookie = vec![0xd2, 1, 0, 0];
    cookie.extend(&first[4..12]);
    cookie.resize(68, 7);
    let mut retry = first[..12].to_vec();
    retry[0] = 0xdf;
    for forged in [&cookie, &retry] {
        for (datagram, _) in distorted(forged).into_iter().chain([(forged.clone(), None)]) {
            for from in [b, stranger()] {
                pair.inject(Side::A, from, &datagram);
            }
        }
    }
    pair.run_for(2 * SECOND);
    assert!(sent_kind(&pair, a, 0xd0).iter().all(|message| *message == first));
    assert_eq!(sent(&pair, a).len(), sent_kind(&pair, a, 0xd0).len(), "nothing else was sent");
    pair.inject(Side::A, b, &answer);
    assert_eq!(connected(pair.a_events()).len(), 1);
}

#[test]
fn a_recorded_first_message_gains_nothing() {
    let mut pair = friends_recorded();
    let message = sent_kind(&pair, at(&pair, Side::A), 0xd0).remove(0);
    pair.run_for(10 * SECOND);
    let (before, stats) = (state(&pair.b), pair.b.stats());
    let session = pair.b.by_id(&id("alice"));
    for from in [stranger(), at(&pair, Side::A)] {
        for _ in 0..100 {
            pair.inject(Side::B, from, &message);
        }
    }
    assert_eq!(bytes_to(&pair, stranger()), 0);
    assert_eq!((state(&pair.b), pair.b.stats().dh_operations), (before, stats.dh_operations));
    assert_eq!(pair.b.stats().rejected.of(Rejected::Replayed), 200);
    assert_eq!(pair.b.by_id(&id("alice")), session);
}

#[test]
fn an_older_first_message_than_that_of_the_session_has_to_bring_a_cookie() {
    let config = Config::default().fall_back_to_xx(false);
    let mut pair = strangers(&config, setup(delayed(ms(20)), 1), 1);
    pair.capture(16 << 20);
    // Somebody on the way keeps one of Alice's first messages to himself.
    pair.set_link(Side::A, Link::dead());
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    pair.run_for(11 * SECOND);
    let message = sent_kind(&pair, at(&pair, Side::A), 0xd0).remove(0);
    pair.set_link(Side::A, delayed(ms(20)));
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, SECOND));
    let (before, session) = (state(&pair.b), pair.b.by_id(&id("alice")));
    for _ in 0..10 {
        pair.inject(Side::B, stranger(), &message);
    }
    assert_eq!(pair.b.stats().cookies_sent, 10);
    assert_eq!(bytes_to(&pair, stranger()), 680);
    assert_eq!((state(&pair.b), pair.b.by_id(&id("alice"))), (before, session));
}

/// Alice and Bob in a session, with everything recorded.
fn friends_recorded() -> Ours {
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    pair.capture(16 << 20);
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, SECOND));
    pair
}

#[test]
fn a_clock_that_was_set_back_costs_a_round_trip() {
    let mut pair = friends(&Config::default().tickets(false), delayed(ms(20)), 1);
    pair.run_for(SECOND);
    let now = pair.now();
    let mut earlier = epoch();
    earlier.unix -= 10 * 365 * 86_400 * SECOND;
    let config = Config::default().tickets(false);
    let alice = peer::Endpoint::new(identity("alice"), config, earlier, &crypto::Seed::fixed(9), now);
    pair.replace_a(alice);
    pair.take_b_events();
    pair.capture(1 << 20);
    let begun = pair.elapsed();
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(|pair| !connected(pair.b_events()).is_empty(), SECOND));
    assert_eq!(pair.elapsed() - begun, ms(100));
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    assert_eq!(sent(&pair, b).iter().filter(|(kind, _)| *kind == 0xd2).count(), 1);
    assert_eq!(sent_kind(&pair, a, 0xd0).len(), 2);
    assert!(matches!(closed(pair.b_events())[..], [(_, _, Reason::Replaced)]));
}

#[test]
fn keys_of_small_order_are_refused() {
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    pair.capture(1 << 20);
    // The points of small order on Curve25519 (RFC 7748 section 6.1): 0, 1, and p - 1, p, p + 1.
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let points = [[0; 32], first_byte(1), minus_one, with_first(minus_one, 0xed), with_first(minus_one, 0xee)];
    for point in points {
        let mut xx1 = vec![0xd3, 1, 0, 0];
        xx1.extend([5; 8]);
        xx1.extend(point);
        xx1.resize(240, 0);
        pair.inject(Side::B, stranger(), &xx1);
    }
    assert_eq!(pair.b.stats().rejected.of(Rejected::WeakKey), 5);
    assert_eq!(bytes_to(&pair, stranger()), 0);
    assert_eq!(pair.b.stats().half_open, 0);
}

fn first_byte(first: u8) -> [u8; 32] {
    with_first([0; 32], first)
}

fn with_first(mut point: [u8; 32], first: u8) -> [u8; 32] {
    point[0] = first;
    point
}

#[test]
fn packets_for_nobody_get_few_resets() {
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    pair.capture(16 << 20);
    let packet = |len: usize| [vec![0xe0], vec![9; len - 1]].concat();
    for len in 1..43 {
        pair.inject(Side::B, stranger(), &packet(len));
    }
    assert_eq!(bytes_to(&pair, stranger()), 0, "nothing that short is answered");
    for _ in 0..1000 {
        pair.inject(Side::B, stranger(), &packet(1200));
    }
    assert_eq!(pair.b.stats().resets_sent, 1);
    assert!((39..=42).contains(&bytes_to(&pair, stranger())));
    for host in 0..1000_u16 {
        let [c, d] = host.to_be_bytes();
        pair.inject(Side::B, ([10, 5, c, d], 7).into(), &packet(43));
    }
    assert_eq!(pair.b.stats().resets_sent, 100, "a hundred at once");
    pair.run_for(SECOND);
    pair.inject(Side::B, stranger(), &packet(43));
    assert_eq!(pair.b.stats().resets_sent, 101);
    assert!(pair.captured().iter().all(|captured| captured.from != at(&pair, Side::B) || captured.payload.len() < 43));
}

#[test]
fn forged_resets_end_nothing() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    pair.run_for(SECOND);
    let mut rng = crypto::Seed::fixed(3).rng();
    let b = at(&pair, Side::B);
    for _ in 0..1000 {
        let mut reset = rng.array::<40>();
        reset[0] = 0xe0 | reset[0] & 0x0f;
        pair.inject(Side::A, b, &reset);
    }
    assert_eq!(open(&pair.a), 1);
    assert_eq!(closed(pair.a_events()), []);
}

#[test]
fn junk_for_a_half_open_handshake_does_not_confirm_it() {
    let (mut pair, _, answer) = unanswered(Target::Known(id("bob")), false);
    // Who sees the answer knows the connection id of Bob.
    let mut packet = [&[0xe0][..], &answer[12..20]].concat();
    packet.resize(1200, 3);
    let before = state(&pair.b);
    for _ in 0..100 {
        pair.inject(Side::B, stranger(), &packet);
    }
    assert_eq!(state(&pair.b), before);
    assert_eq!(pair.b.stats().rejected.of(Rejected::Unauthentic), 100);
    assert_eq!(bytes_to(&pair, stranger()), 0);
    pair.set_link(Side::B, delayed(ms(10)));
    assert!(pair.run_until(both_open, 5 * SECOND), "and does not harm it");
}
