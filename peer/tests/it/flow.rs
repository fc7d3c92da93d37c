//! How much is under way, and what happens when somebody is slower.

use std::time::{Duration, Instant};

use bytes::Bytes;
use peer::v12::{Config, Event, Peer, SendError, max_buffered_bytes};
use sim::pair::Side;
use sim::{Link, clock};
use structs::{Datagram, Machine, Path, Rejected, TransmitBuf};

use crate::connect::befriended;
use crate::order::Script;
use crate::reference::{Release, Told};
use crate::support::*;

#[test]
fn a_full_queue_says_so_and_says_when_it_is_not_any_more() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    let now = pair.now();
    for i in 0..2048 {
        assert_eq!(pair.a.send(number(i, 100), now), Ok(()));
    }
    assert_eq!(pair.a.send(number(2048, 100), now), Err(SendError::Full));
    assert_eq!(pair.a.queued(), 2048);
    pair.touch();
    let writable = |pair: &Ours| contains(pair.a_events(), &Event::Writable);
    assert!(!writable(&pair), "what was refused does not fit yet");
    assert!(pair.run_until(writable, 10 * SECOND));
    assert!(pair.a.queued() <= 1024);
    pair.with_a(|peer, now| peer.send(number(2048, 100), now)).expect("room");
    assert!(pair.run_until(|pair| pair.a.is_drained(), 10 * SECOND));
    assert_eq!(numbers(pair.b_events()), (0..=2048).collect::<Vec<_>>());
    let told = pair.a_events().iter().filter(|timed| timed.event == Event::Writable).count();
    assert_eq!(told, 1, "once for each time");
}

#[test]
fn a_queue_full_of_bytes_is_full_too() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    let (now, mut taken) = (pair.now(), 0);
    while pair.a.send(noise(60_000), now).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 4 * 1024 * 1024 / 60_000);
    assert!(pair.run_until(|pair| contains(pair.a_events(), &Event::Writable), 10 * SECOND));
    assert!(pair.a.queued() * 60_000 <= 2 * 1024 * 1024, "half of it has left");
    assert!(pair.run_until(|pair| messages(pair.b_events()).len() == taken, 30 * SECOND));
}

#[test]
fn towards_ours_the_network_is_the_limit() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    let began = pair.elapsed();
    let mut sent = 0;
    while pair.elapsed() < began + 5 * SECOND {
        while pair.with_a(|peer, now| peer.send(number(sent, 1000), now)).is_ok() {
            sent += 1;
        }
        pair.run_for(ms(10));
    }
    let received = numbers(pair.b_events());
    assert_eq!(received, (0..received.len() as u32).collect::<Vec<_>>());
    // 48 KiB each round trip of 10 ms and 2 ms of coalescing is 4 MB/s.
    assert!(received.len() > 15_000, "{} messages of 1 kB in 5 s", received.len());
    assert!(pair.a.window() > 64);
}

#[test]
fn towards_an_existing_node_its_own_rate_is_kept() {
    for release in [Release::First, Release::Later] {
        let mut pair = befriended(release, delayed(ms(5)), 1);
        pair.run_for(5 * SECOND);
        let began = pair.elapsed();
        for i in 0..1000 {
            pair.with_a(|peer, now| peer.send(number(i, 1000), now)).expect("room");
        }
        assert!(pair.run_until(|pair| pair.a.is_drained(), 20 * SECOND));
        let took = pair.elapsed() - began;
        let least = Duration::from_secs_f64((1000.0 - 256.0) / 128.0);
        assert!(took >= least && took < least + SECOND, "{took:?}");
        let told = pair.take_b_events();
        let at: Vec<Duration> = told.iter().map(|timed| timed.at).collect();
        let read = |told: Told| match told {
            Told::Message(data) => u32::from_be_bytes(*data.first_chunk().unwrap()),
            told => panic!("{told:?}"),
        };
        let received: Vec<u32> = told.into_iter().map(|timed| read(timed.event)).collect();
        assert_eq!(received, (0..1000).collect::<Vec<_>>(), "in order, none dropped");
        for (index, &first) in at.iter().enumerate() {
            let within = at[index..].iter().take_while(|&&at| at < first + SECOND).count();
            assert!(within <= 256 + 128 + 1, "{within} messages within a second");
        }
    }
}

/// No existing node has more socket buffer than for some ninety datagrams.
#[test]
fn never_more_is_under_way_to_an_existing_node_than_its_socket_holds() {
    let mut pair = befriended(Release::Later, delayed(ms(100)), 1);
    for i in 0..600 {
        pair.with_a(|peer, now| peer.send(number(i, 1000), now)).expect("room");
    }
    let mut most = 0;
    for _ in 0..2000 {
        most = most.max(pair.a.in_flight());
        pair.step();
    }
    assert!((17..=48).contains(&most), "{most}");
}

/// An existing node that only listens sends no DATA: its PONGs are what tells.
#[test]
fn a_one_way_sender_does_not_starve() {
    let mut pair = befriended(Release::Later, delayed(ms(30)), 1);
    for i in 0..250 {
        pair.with_a(|peer, now| peer.send(number(i, 200), now)).expect("room");
    }
    assert!(pair.run_until(|pair| pair.a.is_drained(), 2 * SECOND), "{} left", pair.a.queued());
}

/// Left alone, a one-way sender of the existing nodes gets two messages through each second.
#[test]
fn an_existing_node_that_only_talks_is_not_starved_by_us() {
    let mut pair = befriended(Release::Later, delayed(ms(30)), 1);
    pair.run_for(2 * SECOND);
    for i in 0..800 {
        pair.with_b(|node, now| node.write(number(i, 1000), now));
        pair.run_for(ms(8));
    }
    pair.run_for(SECOND);
    assert_eq!(pair.b.lost, 0);
    assert_eq!(numbers(pair.a_events()), (0..800).collect::<Vec<_>>());
    assert!(pair.b.rtt() < ms(80), "its estimate is not spoilt: {:?}", pair.b.rtt());
}

#[test]
fn loss_costs_a_quarter_of_the_window_at_most_once_a_second() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    let talk = |pair: &mut Ours, from: u32, count: u32| {
        for i in from..from + count {
            let _ = pair.with_a(|peer, now| peer.send(number(i, 100), now));
            pair.run_for(ms(2));
        }
    };
    talk(&mut pair, 0, 500);
    let before = pair.a.window();
    assert!(before > 100, "{before}");
    pair.set_link(Side::A, delayed(ms(20)).loss(0.5));
    let (mut low, mut shrunk) = (before, 0);
    let began = pair.elapsed();
    for i in 0..1500 {
        talk(&mut pair, 500 + i, 1);
        let now = pair.a.window();
        if now < low.min(before) || now + 1 < low {
            shrunk += 1;
        }
        low = now;
    }
    let seconds = (pair.elapsed() - began).as_secs() + 1;
    assert!(shrunk > 0 && shrunk <= seconds, "{shrunk} times in {seconds} s");
    assert!(pair.a.stats().lost > 500, "{}", pair.a.stats().lost);
    pair.set_link(Side::A, delayed(ms(20)));
    talk(&mut pair, 2000, 10);
    pair.run_for(SECOND);
    assert_eq!(pair.a.stats().lost, pair.b.stats().missed, "the one knows what the other misses");
}

/// After everything under way is lost, the conversation goes on within a second or so.
#[test]
fn an_outage_is_survived() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    for side in [Side::A, Side::B] {
        pair.set_link(side, Link::dead());
    }
    for i in 0..100 {
        pair.with_a(|peer, now| peer.send(number(i, 100), now)).expect("room");
    }
    pair.run_for(7 * SECOND);
    assert!(!pair.a.is_closed() && !pair.b.is_closed());
    for side in [Side::A, Side::B] {
        pair.set_link(side, delayed(ms(20)));
    }
    pair.with_a(|peer, now| peer.send(number(100, 100), now)).expect("room");
    let last = |pair: &Ours| numbers(pair.b_events()).last() == Some(&100);
    assert!(pair.run_until(last, 3 * SECOND));
}

/// A driver whose application does not take events: [`Machine::poll_event`] is never called.
#[test]
fn a_peer_whose_owner_sleeps_is_bounded_and_stops_the_sender() {
    let mut pair = friends(&Config::default(), delayed(ms(1)), 1);
    let (to_a, mut out) = (pair.path(Side::B), TransmitBuf::new(16));
    // From here on we drive them by hand, so that nothing drains Bob's events.
    let mut at = pair.elapsed();
    let (mut accepted, mut stopped_since) = (0_u32, at);
    for _ in 0..60_000 {
        at += ms(1);
        let now = clock::base() + at;
        while pair.a.queued() < 100 && pair.a.send(number(accepted, 1000), now).is_ok() {
            accepted += 1;
            stopped_since = at;
        }
        carry(&mut pair.a, &mut pair.b, to_a, &mut out, now);
        carry(&mut pair.b, &mut pair.a, back(to_a), &mut out, now);
        while pair.a.poll_event().is_some() {}
        assert!(pair.b.buffered_bytes() <= max_buffered_bytes(10 * 1024 * 1024));
    }
    assert!(at > stopped_since + 50 * SECOND, "the sender went on for {stopped_since:?}");
    let taken = pair.b.stats().messages_received;
    assert!((1000..1100).contains(&taken), "{taken}");
    assert_eq!(pair.b.stats().rejected.of(Rejected::LimitReached), 0, "nothing was refused");
    assert!(!pair.a.is_closed() && !pair.b.is_closed(), "and both are there");
    // The owner wakes up: everything comes, and the sender goes on.
    let mut heard = Vec::new();
    while heard.len() < accepted as usize {
        at += ms(1);
        let now = clock::base() + at;
        while let Some(event) = pair.b.poll_event() {
            if let Event::Message { data, .. } = event {
                heard.push(u32::from_be_bytes(*data.first_chunk().unwrap()));
            }
        }
        carry(&mut pair.a, &mut pair.b, to_a, &mut out, now);
        carry(&mut pair.b, &mut pair.a, back(to_a), &mut out, now);
        assert!(at < stopped_since + 120 * SECOND, "{} of {accepted} came", heard.len());
    }
    assert_eq!(heard, (0..accepted).collect::<Vec<_>>());
}

/// Hands what a peer sends to the other, without a glance at its events.
fn carry(from: &mut Peer, to: &mut Peer, path: Path, out: &mut TransmitBuf, now: Instant) {
    if from.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
        from.handle_timeout(now);
    }
    while let Some(transmit) = from.poll_transmit(out, now) {
        for datagram in out.segments(&transmit) {
            let _ = to.handle_datagram(Datagram::new(path, &mut datagram.to_vec()), now);
        }
        out.clear();
    }
}

fn back(path: Path) -> Path {
    Path::udp(path.remote, path.local)
}

/// An existing node does not know of windows: what it sends beyond the bound is refused.
#[test]
fn a_flood_from_an_existing_node_is_bounded() {
    let mut script = Script::new();
    let from = script.pair.path(Side::B).local;
    let path = script.pair.path(Side::A);
    assert_eq!(path.remote, from);
    let now = script.pair.now();
    for seq in 0..5000 {
        let mut frame = script.sealed(u64::from(seq), &[&u32::to_be_bytes(seq), &[7; 20_000]]);
        let _ = script.pair.a.handle_datagram(Datagram::new(path, &mut frame), now);
        assert!(script.pair.a.buffered_bytes() <= max_buffered_bytes(10 * 1024 * 1024));
    }
    let taken = script.pair.a.stats().messages_received;
    assert!((800..900).contains(&taken), "16 MiB are {taken} messages of 20 kB");
    script.pair.touch();
    assert_eq!(messages(script.pair.a_events()).len() as u64, taken);
    let bytes: Bytes = messages(script.pair.a_events())[0].0.clone();
    assert_eq!(bytes.len(), 20_000);
}
