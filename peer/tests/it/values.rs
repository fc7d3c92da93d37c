//! Values: asked for, served, acknowledged or not.

use std::time::Duration;

use bytes::Bytes;
use peer::v12::{Config, Event, ExchangeError, Peer};
use sim::pair::Side;
use sim::{Link, Pair, Timed};

use crate::connect::befriended;
use crate::reference::{Reference, Release, Told};
use crate::support::*;

const KEY: Bytes = Bytes::from_static(b"key");

/// Alice asks; Bob's owner serves what he is asked for. Returns how long it took.
fn fetch(pair: &mut Ours, size: usize, limit: Duration) -> Option<Duration> {
    let began = pair.elapsed();
    pair.with_a(|peer, now| peer.want(KEY, now)).expect("connected");
    assert!(pair.a.is_wanting(&KEY));
    while pair.elapsed() < began + limit {
        pair.step();
        for Timed { event, .. } in pair.take_b_events() {
            if let Event::Wanted(key) = event {
                let value = noise(size);
                pair.with_b(|peer, now| peer.serve(key, value, now)).expect("room");
            }
        }
        for Timed { event, .. } in pair.take_a_events() {
            if let Event::Value { key, value } = event {
                assert_eq!((key, value.len()), (KEY, size));
                assert!(value == noise(size), "the value is not what was sent");
                assert!(!pair.a.is_wanting(&KEY));
                return Some(pair.elapsed() - began);
            }
        }
    }
    None
}

#[test]
fn values_of_every_size_arrive() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    // Both have answered PINGs by then: nothing but small frames goes to an address before that.
    pair.run_for(2 * SECOND);
    for size in [1, 899, 900, 901, 1800, 100_000, 10 * 1024 * 1024] {
        let took = fetch(&mut pair, size, 60 * SECOND).unwrap_or_else(|| panic!("{size} bytes did not come"));
        // 48 chunks of 900 bytes each round trip of 10 ms and 2 ms of coalescing: 3.6 MB/s.
        let least = Duration::from_secs_f64(size as f64 / 3.0e6) + ms(40);
        assert!(took <= least, "{size} bytes took {took:?}");
        assert!(pair.run_until(|pair| !pair.b.is_serving(), ms(20)), "the server knows that it is done");
    }
}

#[test]
fn values_of_every_size_arrive_through_heavy_loss() {
    for seed in 0..3 {
        let mut pair = friends(&Config::default(), delayed(ms(10)).loss(0.2), seed);
        for size in [1, 900, 901, 50_000, 500_000] {
            assert!(fetch(&mut pair, size, 120 * SECOND).is_some(), "{size} bytes did not come (seed {seed})");
            assert!(pair.run_until(|pair| !pair.b.is_serving(), 10 * SECOND), "and the server is done");
        }
    }
}

#[test]
fn ten_mebibytes_arrive_through_heavy_loss() {
    let mut pair = friends(&Config::default(), delayed(ms(10)).loss(0.2), 7);
    let took = fetch(&mut pair, 10 * 1024 * 1024, 600 * SECOND).expect("it came");
    assert!(took < 300 * SECOND, "{took:?}");
}

#[test]
fn an_existing_node_serves_us() {
    for (release, sizes) in
        [(Release::Later, &[1, 900, 901, 100_000, 1_000_000][..]), (Release::First, &[1, 900, 10_000, 200_000])]
    {
        let mut pair = befriended(release, delayed(ms(5)), 1);
        for &size in sizes {
            pair.b.values.insert(KEY, noise(size));
            pair.with_a(|peer, now| peer.want(KEY, now)).expect("connected");
            let value = Event::Value { key: KEY, value: noise(size) };
            assert!(
                pair.run_until(|pair| contains(pair.a_events(), &value), 10 * SECOND),
                "{size} bytes of {release:?}"
            );
            pair.take_a_events();
        }
    }
}

fn serve_reference(pair: &mut Pair<Peer, Reference>, size: usize, limit: Duration) -> Option<Duration> {
    let began = pair.elapsed();
    pair.with_b(|node, now| node.fetch(KEY, now));
    assert!(pair.run_until(|pair| contains(pair.a_events(), &Event::Wanted(KEY)), SECOND));
    pair.take_a_events();
    pair.with_a(|peer, now| peer.serve(KEY, noise(size), now)).expect("room");
    let value = Told::Value { key: KEY, value: noise(size) };
    let came = |pair: &Pair<Peer, Reference>| pair.b_events().iter().any(|timed| timed.event == value);
    let came = pair.run_until(came, limit);
    pair.take_b_events();
    came.then(|| pair.elapsed() - began)
}

/// Nodes of version 0.1.0 acknowledge no chunk: a server that waits for it repeats the first eight for ever.
#[test]
fn an_existing_node_that_acknowledges_nothing_is_served() {
    let mut pair = befriended(Release::First, delayed(ms(5)), 1);
    for (size, limit) in
        [(1, ms(50)), (900, ms(50)), (10_000, SECOND), (1_000_000, 2 * SECOND), (10_000_000, 10 * SECOND)]
    {
        let took = serve_reference(&mut pair, size, limit);
        assert!(took.is_some(), "{size} bytes did not come within {limit:?}");
        assert!(pair.run_until(|pair| !pair.a.is_serving(), SECOND), "{size}: the transfer is over");
    }
}

#[test]
fn an_existing_node_that_acknowledges_is_served() {
    let mut pair = befriended(Release::Later, delayed(ms(5)), 1);
    for (size, limit) in [(1, ms(50)), (10_000, ms(100)), (1_000_000, 3 * SECOND)] {
        let took = serve_reference(&mut pair, size, limit);
        assert!(took.is_some(), "{size} bytes did not come within {limit:?}");
    }
}

/// The heartbeat's PONG says nothing of a burst that left after its PING.
#[test]
fn chunks_to_a_node_that_acknowledges_nothing_never_exceed_its_socket_buffer() {
    for seed in 0..5 {
        let mut pair = befriended(Release::First, delayed(ms(200)), seed);
        pair.with_b(|node, now| node.fetch(KEY, now));
        assert!(pair.run_until(|pair| contains(pair.a_events(), &Event::Wanted(KEY)), SECOND));
        pair.with_a(|peer, now| peer.serve(KEY, noise(1_000_000), now)).expect("room");
        let mut most = 0;
        while pair.a.is_serving() {
            pair.step();
            most = most.max(pair.in_flight());
            assert!(pair.elapsed() < 120 * SECOND);
        }
        // Two bursts overlap if one is believed to have arrived too early.
        assert!(most <= 64 + 8, "seed {seed}: {most} datagrams on their way");
    }
}

#[test]
fn a_value_over_the_limit_is_refused() {
    let config = Config::default().value_limit(10_000);
    let mut pair = friends(&config, delayed(ms(5)), 1);
    let now = pair.now();
    assert_eq!(pair.b.serve(KEY, noise(10_001), now), Err(ExchangeError::Value { len: 10_001 }));
    assert_eq!(pair.b.serve(KEY, Bytes::new(), now), Err(ExchangeError::Value { len: 0 }));
    assert_eq!(pair.b.serve(Bytes::new(), noise(1), now), Err(ExchangeError::Key { len: 0 }));
    assert_eq!(pair.a.want(noise(256), now), Err(ExchangeError::Key { len: 256 }));
    // Somebody else's limit is not ours.
    let mut pair = befriended(Release::Later, delayed(ms(5)), 1);
    pair.b.values.insert(KEY, noise(11 * 1024 * 1024));
    pair.with_a(|peer, now| peer.want(KEY, now)).expect("connected");
    pair.run_for(5 * SECOND);
    assert!(pair.a.stats().rejected.of(structs::Rejected::TooLarge) > 0);
    assert!(pair.a.buffered_bytes() < 1000);
}

#[test]
fn only_so_many_values_are_under_way() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    let now = pair.now();
    let key = |i: u8| Bytes::from(vec![i]);
    for i in 0..16 {
        assert_eq!(pair.a.want(key(i), now), Ok(()));
        assert_eq!(pair.a.want(key(i), now), Ok(()), "asking twice is asking once");
    }
    assert_eq!(pair.a.want(key(16), now), Err(ExchangeError::Busy));
    for i in 0..8 {
        assert_eq!(pair.b.serve(key(i), noise(100_000), now), Ok(()));
    }
    assert_eq!(pair.b.serve(key(8), noise(100_000), now), Err(ExchangeError::Busy));
    pair.touch();
    pair.run_for(5 * SECOND);
    let values = pair.a_events().iter().filter(|timed| matches!(timed.event, Event::Value { .. })).count();
    assert_eq!(values, 8, "all that were served, four at a time");
}

/// A request is repeated, for the first one or its answer may be lost.
#[test]
fn a_request_that_is_lost_is_repeated() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    pair.set_link(Side::A, Link::dead());
    pair.with_a(|peer, now| peer.want(KEY, now)).expect("connected");
    pair.run_for(2 * SECOND);
    pair.set_link(Side::A, delayed(ms(5)));
    assert!(pair.run_until(|pair| contains(pair.b_events(), &Event::Wanted(KEY)), 2 * SECOND));
}

#[test]
fn a_request_taken_back_is_over() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    pair.with_a(|peer, now| peer.want(KEY, now)).expect("connected");
    pair.run_for(ms(20));
    pair.a.cancel_want(&KEY);
    assert!(!pair.a.is_wanting(&KEY));
    pair.with_b(|peer, now| peer.serve(KEY, noise(500), now)).expect("room");
    pair.run_for(SECOND);
    assert!(pair.a_events().iter().all(|timed| !matches!(timed.event, Event::Value { .. })));
}
