//! A process ends without a word and begins again.

use bytes::Bytes;
use crypto::Seed;
use peer::v12::{Config, Event, Implementation, Peer, Proof};
use sim::pair::Side;
use sim::{Addresses, Pair};

use crate::connect::{befriended, with_reference};
use crate::reference::{Reference, Release, Told};
use crate::support::*;

/// Bob's process ends, and a new one with the same key dials Alice, from wherever Bob is now.
fn restart_bob(pair: &mut Ours, seed: u64) {
    let (now, to_a) = (pair.now(), pair.path(Side::B));
    let bob = Peer::dial(Config::default(), identity("bob"), to_a, 8, &Seed::fixed(seed).fork("bob"), epoch(), now);
    pair.replace_b(bob);
}

#[test]
fn a_peer_of_ours_that_restarts_is_talked_to_at_once() {
    for moves in [false, true] {
        for sent in [0, 5, 63, 64, 300] {
            let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
            for i in 0..sent {
                pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
                pair.with_b(|peer, now| peer.send(number(i, 10), now)).expect("room");
                pair.run_for(ms(1));
            }
            pair.run_for(SECOND);
            if moves {
                pair.rebind(Side::B, Addresses::Public.at(5));
            }
            pair.take_a_events();
            pair.take_b_events();
            restart_bob(&mut pair, 99);
            let met = |pair: &Ours| contains(pair.a_events(), &Event::Restarted) && pair.b.proof() == Proof::Key;
            assert!(pair.run_until(met, ms(200)), "after {sent} messages, moves: {moves}");
            for i in 0..20 {
                pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
                pair.with_b(|peer, now| peer.send(number(i, 10), now)).expect("room");
            }
            pair.run_for(ms(100));
            assert_eq!(numbers(pair.a_events()), (0..20).collect::<Vec<_>>(), "after {sent}, moves: {moves}");
            assert_eq!(numbers(pair.b_events()), (0..20).collect::<Vec<_>>(), "after {sent}, moves: {moves}");
            assert_eq!(pair.a.path_count(), 1, "the old address is forgotten");
        }
    }
}

#[test]
fn a_restart_in_mid_conversation_loses_only_what_was_under_way() {
    for seed in 0..20 {
        let mut pair = friends(&Config::default(), delayed(ms(20)).loss(0.05), seed);
        let mut sent = 0;
        for turn in 0..400 {
            let _ = pair.with_a(|peer, now| peer.send(number(sent, 10), now));
            sent += 1;
            pair.run_for(ms(5));
            if turn == 200 {
                pair.take_b_events();
                restart_bob(&mut pair, seed + 1000);
            }
        }
        pair.run_for(2 * SECOND);
        let heard = numbers(pair.b_events());
        assert!(heard.is_sorted_by(|a, b| a < b), "in order, once: {heard:?}");
        assert!(heard.len() > 100, "seed {seed}: {} of 200 after the restart", heard.len());
        assert!(heard.last().is_some_and(|&last| last > sent - 10), "and it goes on to the end");
    }
}

/// The existing nodes count nonces and messages from zero in every process, under the same key.
#[test]
fn a_reference_node_that_restarts_is_heard_and_talked_to() {
    for (moves, sent) in [(false, 5), (false, 40), (false, 300), (true, 5), (true, 300)] {
        let mut pair = befriended(Release::Later, delayed(ms(20)), 1);
        for i in 0..sent {
            pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
            pair.with_b(|node, now| node.write(number(i, 10), now));
            pair.run_for(ms(10));
        }
        pair.run_for(2 * SECOND);
        assert_eq!(numbers(pair.a_events()).len(), sent as usize);
        if moves {
            pair.rebind(Side::B, Addresses::Public.at(5));
        }
        pair.take_a_events();
        let node = Reference::new("bob", Release::Later, pair.now()).dial(pair.path(Side::B));
        pair.replace_b(node);
        assert!(pair.run_until(|pair| pair.b.is_connected(), SECOND));
        pair.take_b_events();
        for i in 0..20 {
            pair.with_b(|node, now| node.write(number(1000 + i, 10), now));
        }
        pair.run_for(ms(100));
        assert!(contains(pair.a_events(), &Event::Restarted));
        assert_eq!(numbers(pair.a_events()), (1000..1020).collect::<Vec<_>>());
        for i in 0..20 {
            pair.with_a(|peer, now| peer.send(number(2000 + i, 10), now)).expect("room");
        }
        pair.run_for(ms(500));
        let told: Vec<Told> = pair.take_b_events().into_iter().map(|timed| timed.event).collect();
        let expected: Vec<Told> = (2000..2020).map(|i| Told::Message(number(i, 10))).collect();
        assert_eq!(told, expected, "{sent} messages before, moves: {moves}");
    }
}

/// One that has nothing to say shows its restart by silence at its old address and answers from the new one.
#[test]
fn a_silent_reference_node_that_restarts_elsewhere_is_found() {
    let mut pair = befriended(Release::Later, delayed(ms(20)), 1);
    for i in 0..100 {
        pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
        pair.run_for(ms(10));
    }
    pair.run_for(SECOND);
    let new = Addresses::Public.at(5);
    pair.rebind(Side::B, new);
    let node = Reference::new("bob", Release::Later, pair.now()).dial(pair.path(Side::B));
    pair.replace_b(node);
    let found = |pair: &Pair<Peer, Reference>| pair.a.path().is_some_and(|path| path.remote == new);
    assert!(pair.run_until(found, 5 * SECOND));
    pair.take_b_events();
    for i in 0..20 {
        pair.with_a(|peer, now| peer.send(number(2000 + i, 10), now)).expect("room");
    }
    pair.run_for(ms(500));
    let told: Vec<Told> = pair.take_b_events().into_iter().map(|timed| timed.event).collect();
    assert_eq!(told, (2000..2020).map(|i| Told::Message(number(i, 10))).collect::<Vec<_>>());
}

/// The burst of HELLOs that every dial of an existing node is does not start anything over.
#[test]
fn a_node_that_dials_again_has_not_restarted() {
    let mut pair = befriended(Release::Later, delayed(ms(20)), 1);
    let mut hello = Vec::new();
    framing::v12::encode::hello(identity("bob").wire_id(), *identity("bob").public(), &mut hello);
    let from = pair.path(Side::B).local;
    for i in 0..200 {
        pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
        pair.with_b(|node, now| node.write(number(i, 10), now));
        if i % 10 < 8 {
            pair.inject(Side::A, from, &hello);
        }
        pair.run_for(ms(100));
    }
    pair.run_for(SECOND);
    assert_eq!(numbers(pair.a_events()), (0..200).collect::<Vec<_>>());
    let told: Vec<Told> = pair.take_b_events().into_iter().map(|timed| timed.event).collect();
    assert_eq!(told, (0..200).map(|i| Told::Message(number(i, 10))).collect::<Vec<_>>());
    assert!(!contains(pair.a_events(), &Event::Restarted));
}

/// Our own restart: an existing node keeps what it knew of us, and would drop all that we number from zero.
#[test]
fn an_existing_node_is_made_to_forget_our_earlier_run() {
    let config = Config::default().persistent_identity(true);
    for speaks in [false, true] {
        let mut pair = befriended(Release::Later, delayed(ms(20)), 1);
        for i in 0..100 {
            pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
            pair.with_b(|node, now| node.write(number(i, 10), now));
            pair.run_for(ms(10));
        }
        pair.run_for(SECOND);
        let alice = dialler(config.clone(), pair.path(Side::A), 77, pair.now());
        pair.replace_a(alice);
        assert!(pair.run_until(|pair| pair.a.remote().is_some(), SECOND));
        pair.take_a_events();
        pair.take_b_events();
        if speaks {
            pair.with_b(|node, now| node.write(Bytes::from_static(b"are you there?"), now));
        }
        assert!(pair.run_until(|pair| pair.a.is_connected(), 2 * SECOND));
        for i in 0..10 {
            pair.with_a(|peer, now| peer.send(number(5000 + i, 10), now)).expect("room");
        }
        pair.run_for(3 * SECOND);
        let told: Vec<Told> = pair.take_b_events().into_iter().map(|timed| timed.event).collect();
        let heard: Vec<_> = told.iter().filter(|told| matches!(told, Told::Message(_))).cloned().collect();
        assert_eq!(heard, (0..10).map(|i| Told::Message(number(5000 + i, 10))).collect::<Vec<_>>());
        assert!(told.contains(&Told::Gone), "it was told to");
        // It begins at zero again, too, whatever was heard of its earlier session.
        pair.take_a_events();
        for i in 0..10 {
            pair.with_b(|node, now| node.write(number(6000 + i, 10), now));
        }
        pair.run_for(SECOND);
        assert_eq!(numbers(pair.a_events()), (6000..6010).collect::<Vec<_>>(), "it spoke before: {speaks}");
        assert_eq!(pair.a.proof(), Proof::Key);
    }
}

/// With a fresh key nobody knows us, and nobody is told to forget.
#[test]
fn a_fresh_key_needs_no_forgetting() {
    let mut pair = with_reference(true, Release::Later, delayed(ms(20)), 1);
    pair.run_for(10 * SECOND);
    assert!(pair.take_b_events().iter().all(|timed| timed.event != Told::Gone));
    assert_eq!(pair.a.implementation(), Implementation::Reference);
}

/// Both ends of a conversation may restart at the same time.
#[test]
fn both_restart() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    for i in 0..100 {
        pair.with_a(|peer, now| peer.send(number(i, 10), now)).expect("room");
        pair.run_for(ms(5));
    }
    let alice = dialler(Config::default(), pair.path(Side::A), 5, pair.now());
    pair.replace_a(alice);
    restart_bob(&mut pair, 6);
    assert!(pair.run_until(|pair| pair.a.proof() == Proof::Key && pair.b.proof() == Proof::Key, ms(300)));
    pair.take_b_events();
    pair.with_a(|peer, now| peer.send(number(1, 10), now)).expect("room");
    pair.run_for(ms(50));
    assert_eq!(numbers(pair.b_events()), [1]);
}
