//! How a conversation ends.

use bytes::Bytes;
use framing::v12::GoawayReason;
use peer::v12::{CloseReason, Config, SendError};
use sim::Link;
use sim::pair::Side;

use crate::connect::befriended;
use crate::reference::{Release, Told};
use crate::support::*;

#[test]
fn a_goodbye_between_ours_is_believed_at_once() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    pair.with_a(|peer, now| peer.close(GoawayReason::TooManyPeers, now));
    assert_eq!(closed(pair.a_events()).map(|closed| closed.1), Some(CloseReason::Local));
    pair.run_for(ms(20));
    assert_eq!(closed(pair.b_events()).map(|closed| closed.1), Some(CloseReason::Goodbye(4)));
    let now = pair.now();
    assert_eq!(pair.b.send(Bytes::new(), now), Err(SendError::Closed));
    let (sent, got) = (pair.traffic(Side::A).sent, pair.traffic(Side::B).sent);
    pair.run_for(100 * SECOND);
    assert_eq!((pair.traffic(Side::A).sent, pair.traffic(Side::B).sent), (sent, got), "silence");
}

#[test]
fn what_was_queued_is_counted_as_unsent() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    let now = pair.now();
    for i in 0..500 {
        pair.a.send(number(i, 1000), now).expect("room");
    }
    pair.touch();
    let (queued, unsent) = (pair.a.queued() as u64, pair.with_a(|peer, now| peer.close(GoawayReason::Quitting, now)));
    assert!(unsent > 400 && unsent == queued, "{unsent}");
    assert_eq!(pair.with_a(|peer, now| peer.close(GoawayReason::Quitting, now)), 0, "only once");
}

#[test]
fn an_existing_node_understands_our_goodbye() {
    let mut pair = befriended(Release::Later, delayed(ms(20)), 1);
    pair.with_a(|peer, now| peer.close(GoawayReason::Quitting, now));
    pair.run_for(ms(30));
    assert_eq!(pair.take_b_events().pop().map(|timed| timed.event), Some(Told::Gone));
}

/// GOAWAY is not sealed: anybody can say it.
#[test]
fn a_goaway_counts_only_if_silence_follows() {
    for frame in [&[0x0a][..], &[0x0a, 0x00], &[0x0a, 0x08]] {
        for lossy in [delayed(ms(20)), delayed(ms(20)).loss(0.1)] {
            // Forged: they go on talking.
            let mut pair = friends(&Config::default(), lossy, 2);
            let from = pair.path(Side::B).local;
            pair.inject(Side::A, from, frame);
            pair.run_for(30 * SECOND);
            assert_eq!(closed(pair.a_events()), None);
            pair.with_a(|peer, now| peer.send(number(1, 4), now)).expect("connected");
            // Real: the node is gone.
            pair.set_link(Side::B, Link::dead());
            let said = pair.elapsed();
            pair.inject(Side::A, from, frame);
            pair.run_for(10 * SECOND);
            let (at, reason) = closed(pair.a_events()).expect("closed");
            assert_eq!(reason, CloseReason::Goodbye(frame.get(1).copied().unwrap_or(0)));
            assert!(at - said >= SECOND && at - said <= 5 * SECOND, "{:?}", at - said);
        }
    }
}

#[test]
fn a_goaway_forged_again_and_again_disconnects_nobody() {
    let mut pair = befriended(Release::First, delayed(ms(40)), 1);
    let from = pair.path(Side::B).local;
    for _ in 0..600 {
        pair.inject(Side::A, from, &[0x0a, 0x00]);
        pair.run_for(ms(100));
    }
    assert_eq!(closed(pair.a_events()), None);
    let pings = pair.traffic(Side::A).sent.datagrams;
    assert!(pings < 1000, "{pings} datagrams for 600 forged ones");
}

#[test]
fn sixty_seconds_of_silence_are_the_end() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    pair.run_for(10 * SECOND);
    pair.set_link(Side::B, Link::dead());
    let began = pair.elapsed();
    pair.run_for(100 * SECOND);
    let (at, reason) = closed(pair.a_events()).expect("closed");
    assert_eq!(reason, CloseReason::Timeout);
    assert!(at >= began + 58 * SECOND && at <= began + 61 * SECOND, "{:?}", at - began);
    assert_eq!(closed(pair.b_events()), None, "she still heard her until then");
}

#[test]
fn a_quiet_conversation_lasts() {
    for lossy in [delayed(ms(20)), delayed(ms(20)).loss(0.3)] {
        let mut pair = friends(&Config::default(), lossy, 1);
        pair.run_for(600 * SECOND);
        assert!(pair.a.is_connected() && pair.b.is_connected());
        let mut pair = befriended(Release::First, delayed(ms(20)), 1);
        pair.set_link(Side::A, lossy);
        pair.set_link(Side::B, lossy);
        pair.run_for(600 * SECOND);
        assert!(pair.a.is_connected() && pair.b.is_connected());
    }
}
