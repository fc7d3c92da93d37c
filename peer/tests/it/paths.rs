//! Which address a peer is sent to, and what may change it.

use std::net::SocketAddr;

use framing::v12::encode;
use peer::v12::{Config, Event};
use sim::pair::Side;
use sim::{Addresses, Link, Pair};
use structs::{Machine, Path};

use crate::connect::befriended;
use crate::reference::Release;
use crate::support::*;

/// Everything unsealed that Bob might say, said by somebody at `from` who knows Bob's key and no more.
fn impersonate<B: Machine>(pair: &mut Pair<peer::v12::Peer, B>, from: SocketAddr) {
    let bob = identity("bob");
    let mut frames = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    encode::hello(bob.wire_id(), *bob.public(), &mut frames[0]);
    encode::hello_ack(bob.wire_id(), *bob.public(), &mut frames[1]);
    encode::ping(0, bob.id(), &mut frames[2]);
    encode::pong(bob.id(), &mut frames[3]);
    for frame in frames {
        pair.inject(Side::A, from, &frame);
    }
}

/// A stranger next door, who answers every PING at once, does not become the path of a peer far away.
#[test]
fn a_spoofed_hello_ping_or_pong_never_changes_the_path() {
    let mut ours = friends(&Config::default(), delayed(ms(60)), 1);
    let mut theirs = befriended(Release::Later, delayed(ms(60)), 1);
    let stranger = Addresses::Private.at(9);
    let best = ours.path(Side::A);
    for _ in 0..100 {
        impersonate(&mut ours, stranger);
        impersonate(&mut theirs, stranger);
        for _ in 0..3 {
            ours.run_for(ms(100));
            theirs.run_for(ms(100));
            assert_eq!(ours.a.path(), Some(best));
            assert_eq!(theirs.a.path(), Some(best));
        }
    }
    assert!(ours.a.is_connected() && theirs.a.is_connected());
    // Nobody was kept waiting either.
    ours.with_a(|peer, now| peer.send(number(1, 10), now)).expect("room");
    ours.run_for(ms(100));
    assert_eq!(numbers(ours.b_events()), [1]);
}

/// A NAT forgets a mapping: the next sealed packet comes from elsewhere, and so the answers go there.
#[test]
fn a_sealed_packet_from_a_new_address_changes_it_at_once() {
    for delay in [1, 60] {
        let mut pair = friends(&Config::default(), delayed(ms(delay)), 1);
        let (old, new) = (pair.path(Side::A).remote, Addresses::Public.at(5));
        pair.rebind(Side::B, new);
        pair.with_b(|peer, now| peer.send(number(1, 10), now)).expect("room");
        pair.run_for(ms(delay + 2));
        assert_eq!(pair.a.path().map(|path| path.remote), Some(new), "away from {old}");
        assert!(contains(pair.a_events(), &Event::PathAdded(Path { remote: new, ..pair.path(Side::A) })));
        for i in 2..50 {
            pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
            pair.run_for(ms(10));
        }
        pair.run_for(SECOND);
        assert_eq!(numbers(pair.b_events()), (2..50).collect::<Vec<_>>());
    }
}

/// What was captured on the way and arrives later from elsewhere is not newer.
#[test]
fn an_older_sealed_packet_changes_nothing() {
    let mut pair = friends(&Config::default(), delayed(ms(10)), 1);
    pair.capture(1 << 20);
    for i in 0..20 {
        pair.with_b(|peer, now| peer.send(number(i, 10), now)).expect("room");
        pair.run_for(ms(5));
    }
    pair.set_link(Side::B, Link::dead());
    pair.with_b(|peer, now| peer.send(number(20, 10), now)).expect("room");
    pair.run_for(ms(100));
    pair.set_link(Side::B, delayed(ms(10)));
    pair.with_b(|peer, now| peer.send(number(21, 10), now)).expect("room");
    pair.run_for(ms(100));
    let best = pair.a.path();
    let stranger = Addresses::Private.at(9);
    let captured: Vec<Vec<u8>> = pair.captured().iter().map(|captured| captured.payload.clone()).collect();
    captured.iter().for_each(|payload| pair.inject(Side::A, stranger, payload));
    assert_eq!(pair.a.path(), best);
    assert_eq!(pair.a.path_count(), 1);
}

#[test]
fn four_addresses_are_kept_and_no_more() {
    let mut pair = befriended(Release::Later, delayed(ms(10)), 1);
    let best = pair.a.path();
    for i in 0..50 {
        impersonate(&mut pair, Addresses::Public.at(i));
        assert!(pair.a.path_count() <= 4);
        pair.run_for(ms(10));
    }
    assert_eq!(pair.a.path(), best, "the proved one stays");
    let (mut added, mut removed) = (0, 0);
    for timed in pair.a_events() {
        added += usize::from(matches!(timed.event, Event::PathAdded(_)));
        removed += usize::from(matches!(timed.event, Event::PathRemoved(_)));
    }
    assert_eq!(added - removed, pair.a.path_count() - 1, "the owner can follow");
    assert_eq!(pair.a.paths().count(), pair.a.path_count());
}

/// Of several addresses the peer has used, the last one that is alive is taken.
#[test]
fn an_address_that_falls_silent_gives_way_to_one_that_does_not() {
    let mut pair = friends(&Config::default(), delayed(ms(10)), 1);
    let first = pair.path(Side::A).remote;
    let second = Addresses::Public.at(5);
    pair.rebind(Side::B, second);
    pair.with_b(|peer, now| peer.send(number(1, 10), now)).expect("room");
    pair.run_for(ms(20));
    assert_eq!(pair.a.path().map(|path| path.remote), Some(second));
    pair.rebind(Side::B, first);
    // Nothing but PINGs and PONGs comes from the first from now on.
    let back = |pair: &Ours| pair.a.path().is_some_and(|path| path.remote == first);
    assert!(pair.run_until(back, 8 * SECOND), "{:?}", pair.a.path());
}

#[test]
fn the_round_trip_time_is_smoothed() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    assert!(pair.run_until(|pair| pair.a.rtt() < ms(100), 3 * SECOND));
    pair.run_for(10 * SECOND);
    let near = |rtt, expected: u64| rtt >= ms(expected) && rtt <= ms(expected + 5);
    assert!(near(pair.a.rtt(), 40), "{:?}", pair.a.rtt());
    for side in [Side::A, Side::B] {
        pair.set_link(side, delayed(ms(100)));
    }
    let before = pair.a.rtt();
    let mut samples = vec![before];
    for _ in 0..40 {
        pair.run_for(SECOND);
        samples.push(pair.a.rtt());
    }
    assert!(samples.windows(2).all(|pair| pair[1] >= pair[0]), "{samples:?}");
    let steepest = samples.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(steepest <= ms(165) / 8 + ms(1), "an eighth of the way at most: {steepest:?}");
    assert!(samples[40] > ms(190) && samples[40] <= ms(205), "{:?}", samples[40]);
}
