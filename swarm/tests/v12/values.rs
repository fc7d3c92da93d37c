//! Store and fetch.

use std::time::Duration;

use bytes::Bytes;
use sim::{Link, MachineId, World};
use swarm::v12::Node;
use swarm::v12::{Config, Event};
use swarm::{FetchError, FetchId, StoreError};

use crate::support::*;

fn store(world: &mut World<Node>, id: MachineId, key: &str, value: &str) -> Result<(), StoreError> {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    world.with(id, |node, now| node.store(key, value, now)).unwrap()
}

fn fetch(world: &mut World<Node>, id: MachineId, key: &str, timeout: Duration) -> FetchId {
    let key = Bytes::from(key.to_owned());
    world.with(id, |node, now| node.fetch(key, timeout, now)).unwrap().unwrap()
}

/// The end of a fetch and when it came.
fn fetched(world: &mut World<Node>, id: MachineId, which: FetchId) -> (Duration, Result<Bytes, FetchError>) {
    let end = wait(world, id, 60 * SECOND, |event| match event {
        Event::Fetched { id, result } if *id == which => Some(result.clone()),
        _ => None,
    });
    end.expect("an end")
}

#[test]
fn a_late_joiner_fetches_what_was_there_before() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    for n in 0..100 {
        store(&mut world, ids[0], &format!("key {n}"), &format!("value {n}")).unwrap();
    }
    world.capture(1 << 20);
    dial(&mut world, ids[1], ids[0]);
    connect(&mut world, &ids, 1);
    // Both have answered PINGs by then; nothing of that size goes anywhere before.
    world.run_for(ms(2000));
    // The keys of the last 64 are told in one HAVE, and no other.
    let told = |key: &str| {
        let key = [&[key.len() as u8], key.as_bytes()].concat();
        world.captured().iter().any(|captured| captured.payload.windows(key.len()).any(|window| window == key))
    };
    assert_eq!((0..100).filter(|n| told(&format!("key {n}"))).collect::<Vec<_>>(), (36..100).collect::<Vec<_>>());
    let which = fetch(&mut world, ids[1], "key 3", SECOND);
    assert_eq!(fetched(&mut world, ids[1], which).1, Ok("value 3".into()));
    let synced = |event: &Event| matches!(event, Event::Synced { key, value, from } if key == "key 3" && value == "value 3" && *from == peer_id(0));
    assert!(has(&world, ids[1], synced));
}

#[test]
fn a_value_stored_after_it_was_asked_for_arrives() {
    let (mut world, ids) = friends(3, &Config::default());
    let which = fetch(&mut world, ids[0], "late", 30 * SECOND);
    let other = fetch(&mut world, ids[0], "late", 20 * SECOND);
    world.run_for(10 * SECOND);
    let stored_at = world.elapsed();
    store(&mut world, ids[2], "late", "value").unwrap();
    let (at, result) = fetched(&mut world, ids[0], which);
    assert_eq!(result, Ok("value".into()));
    assert!(at - stored_at < ms(100), "{:?}", at - stored_at);
    assert_eq!(fetched(&mut world, ids[0], other).1, Ok("value".into()), "both that wait for it");
    // From now on it is here: nobody is asked.
    world.run_for(SECOND);
    world.cut(ids[0], ids[1]);
    world.cut(ids[0], ids[2]);
    let which = fetch(&mut world, ids[0], "late", SECOND);
    assert_eq!(fetched(&mut world, ids[0], which), (world.elapsed(), Ok("value".into())));
}

#[test]
fn a_provider_that_connects_later_is_asked() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    store(&mut world, ids[0], "key", "value").unwrap();
    let which = fetch(&mut world, ids[1], "key", 30 * SECOND);
    world.run_for(5 * SECOND);
    dial(&mut world, ids[0], ids[1]);
    assert_eq!(fetched(&mut world, ids[1], which).1, Ok("value".into()));
}

#[test]
fn a_fetch_of_what_nobody_has_ends_in_time_and_says_how_many_were_asked() {
    let (mut world, ids) = friends(4, &Config::default());
    let start = world.elapsed();
    for timeout in [ms(0), ms(1), ms(777), 3 * SECOND] {
        let which = fetch(&mut world, ids[0], "nothing", timeout);
        let (at, result) = fetched(&mut world, ids[0], which);
        assert_eq!(result, Err(FetchError::Timeout { after: timeout, asked: 3 }));
        assert!(at >= start + timeout && world.elapsed() < at + ms(10));
    }
    // Longer than a clock counts.
    let forever = fetch(&mut world, ids[0], "nothing", Duration::MAX);
    let cancelled = fetch(&mut world, ids[0], "nothing", SECOND);
    world.with(ids[0], |node, now| node.cancel_fetch(cancelled, now)).unwrap();
    world.run_for(10 * SECOND);
    world.with(ids[0], |node, now| node.abort(now)).unwrap();
    let ends: Vec<_> = world
        .events(ids[0])
        .iter()
        .filter_map(|timed| match &timed.event {
            Event::Fetched { id, result } if [forever, cancelled].contains(id) => Some((*id, result.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(forever, Err(FetchError::Closed))]);
}

#[test]
fn what_cannot_be_stored_or_fetched_is_refused_by_type() {
    let config = Config::default().value_limit(1000).store_bytes(5000);
    let (mut world, ids) = friends(2, &config);
    let long = "k".repeat(256);
    assert_eq!(store(&mut world, ids[0], "", "v"), Err(StoreError::Key { len: 0 }));
    assert_eq!(store(&mut world, ids[0], &long, "v"), Err(StoreError::Key { len: 256 }));
    assert_eq!(store(&mut world, ids[0], &long[1..], "v"), Ok(()));
    assert_eq!(store(&mut world, ids[0], "k", ""), Err(StoreError::Empty));
    assert_eq!(store(&mut world, ids[0], "k", &"v".repeat(1001)), Err(StoreError::TooLarge { len: 1001, max: 1000 }));
    assert_eq!(store(&mut world, ids[0], "k", &"v".repeat(1000)), Ok(()));
    for len in [0, 256] {
        let refused = world.with(ids[0], |node, now| node.fetch(vec![b'k'; len].into(), SECOND, now)).unwrap();
        assert_eq!(refused, Err(FetchError::Key { len }));
    }
    for _ in 0..64 {
        fetch(&mut world, ids[0], "nothing", SECOND);
    }
    let refused = world.with(ids[0], |node, now| node.fetch("nothing".into(), SECOND, now)).unwrap();
    assert_eq!(refused, Err(FetchError::TooMany { limit: 64 }));
}

#[test]
fn a_value_over_the_limit_of_the_receiver_is_not_taken() {
    let mut world = World::new(crypto::Seed::fixed(1)).link(Link::lan());
    let ids = [add(&mut world, 0, &Config::default()), add(&mut world, 1, &Config::default().value_limit(5000))];
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids, 1);
    for (key, len) in [("large", 5001), ("fits", 5000)] {
        store(&mut world, ids[0], key, &"v".repeat(len)).unwrap();
    }
    let (large, fits) = (fetch(&mut world, ids[1], "large", 8 * SECOND), fetch(&mut world, ids[1], "fits", 8 * SECOND));
    assert_eq!(fetched(&mut world, ids[1], fits).1.map(|value| value.len()), Ok(5000));
    assert!(matches!(fetched(&mut world, ids[1], large).1, Err(FetchError::Timeout { asked: 1, .. })));
}

#[test]
fn the_least_recently_used_value_goes_first() {
    let config = Config::default().store_bytes(30_000).store_entries(5.try_into().unwrap());
    let (mut world, ids) = world(1, Link::lan(), &config);
    for n in 0..5 {
        store(&mut world, ids[0], &format!("key {n}"), "value").unwrap();
    }
    let used = fetch(&mut world, ids[0], "key 0", SECOND);
    assert!(fetched(&mut world, ids[0], used).1.is_ok());
    store(&mut world, ids[0], "key 5", "value").unwrap();
    let there = |world: &mut World<Node>, key: &str| {
        let which = fetch(world, ids[0], key, ms(1));
        fetched(world, ids[0], which).1.is_ok()
    };
    assert!(!there(&mut world, "key 1"));
    assert!(there(&mut world, "key 0") && there(&mut world, "key 5"));
    // By bytes: one large value pushes the others out.
    store(&mut world, ids[0], "large", &"v".repeat(29_990)).unwrap();
    assert!(!there(&mut world, "key 0") && there(&mut world, "large"));
    assert!(world.get(ids[0]).unwrap().buffered_bytes() <= 30_000);
}

#[test]
fn as_many_fetches_as_may_be_at_once_are_served_without_waiting() {
    let (mut world, ids) = friends(2, &Config::default());
    for n in 0..64 {
        store(&mut world, ids[0], &format!("key {n}"), &"v".repeat(2000 + n)).unwrap();
    }
    let fetches: Vec<FetchId> = (0..64).map(|n| fetch(&mut world, ids[1], &format!("key {n}"), 30 * SECOND)).collect();
    let start = world.elapsed();
    for (n, which) in fetches.into_iter().enumerate() {
        let (at, result) = fetched(&mut world, ids[1], which);
        assert_eq!(result.map(|value| value.len()), Ok(2000 + n));
        assert!(at - start < SECOND, "{n}: {:?}", at - start);
    }
}

#[test]
fn a_peer_that_says_it_has_a_value_is_asked_although_many_were() {
    let config = Config::default();
    let (mut world, ids) = world(20, Link::lan(), &config);
    for (index, id) in ids[1..].iter().enumerate() {
        dial(&mut world, *id, ids[0]);
        connect(&mut world, &ids[..1], index + 1);
    }
    let which = fetch(&mut world, ids[0], "key", 30 * SECOND);
    world.run_for(SECOND);
    store(&mut world, ids[19], "key", "value").unwrap();
    assert_eq!(fetched(&mut world, ids[0], which).1, Ok("value".into()));
}

#[test]
fn a_provider_that_dies_is_replaced_by_another() {
    let (mut world, ids) = friends(3, &Config::default());
    let value = Bytes::from(vec![7; 400_000]);
    for id in &ids[1..] {
        world.with(*id, |node, now| node.store("key".into(), value.clone(), now)).unwrap().unwrap();
    }
    world.run_for(SECOND);
    let which = fetch(&mut world, ids[0], "key", 60 * SECOND);
    world.run_for(ms(3));
    world.kill(ids[1]);
    assert_eq!(fetched(&mut world, ids[0], which).1, Ok(value));
}
