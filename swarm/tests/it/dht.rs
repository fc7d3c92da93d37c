//! Nodes that find each other in the distributed hash table, on the loopback interface, with multicast off.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarm::discovery::{Source, SourceError, Task};
use swarm::{Builder, Dht, DialError, GetError, Key, PeerId, PutError, Refused, Swarm, Topic, TopicEvent, TopicId};
use tokio::net::UdpSocket;

use crate::support::{builder, node, within};

/// A node that begins at another one.
async fn beside(other: &Swarm) -> Swarm {
    builder().bootstrap([other.local_addr()]).bind().await.unwrap()
}

/// Waits until a node knows this many others of the table.
async fn knows(swarm: &Swarm, contacts: usize) {
    within(async {
        while swarm.dht().stats().await.unwrap().unwrap().contacts.iter().sum::<usize>() < contacts {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until two nodes are in a topic together.
async fn meet((a, at_a): (&Swarm, &Topic), (b, at_b): (&Swarm, &Topic)) {
    joined(at_a, &[b]).await;
    joined(at_b, &[a]).await;
}

/// Waits until the others are in the topic too.
async fn joined(topic: &Topic, others: &[&Swarm]) {
    let mut events = topic.events();
    let mut missing: BTreeSet<PeerId> = others.iter().map(|other| other.id()).collect();
    while !missing.is_empty() {
        if let Some(TopicEvent::Joined(peer)) = within(events.next()).await {
            missing.remove(&peer.id());
        }
    }
}

#[tokio::test]
async fn two_nodes_meet_by_topic_through_a_third() {
    let third = node().await;
    // One of them has it by name.
    let name = format!("localhost:{}", third.local_addr().port()).parse::<swarm::DialTarget>().unwrap();
    let (a, b) = (beside(&third).await, builder().bootstrap([name]).bind().await.unwrap());
    let (at_a, at_b) = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
    meet((&a, &at_a), (&b, &at_b)).await;
    // The third keeps what they said and has nothing to do with it.
    assert!(third.dht().stats().await.unwrap().unwrap().records > 0);
    assert!(third.peers().await.is_empty());
    let lookup = b.discovery().of(Task::Lookup(TopicId::from("lobby")));
    assert!(lookup.iter().all(|progress| progress.source == Source::Dht && progress.error.is_none()), "{lookup}");
}

#[tokio::test]
async fn a_node_that_only_looks_is_not_found_and_one_that_only_announces_dials_nobody() {
    let third = node().await;
    let (a, b) = (beside(&third).await, beside(&third).await);
    let (silent, also_silent) = (a.join_with("x", false, true).unwrap(), b.join_with("x", false, true).unwrap());
    knows(&a, 2).await;
    knows(&b, 2).await;
    let tasks = |swarm: &Swarm| swarm.discovery().iter().map(|progress| progress.task).collect::<Vec<_>>();
    let topic = silent.id();
    assert!(tasks(&a).contains(&Task::Lookup(topic)) && !tasks(&a).contains(&Task::Announce(topic)));
    assert!(third.dht().stats().await.unwrap().is_some() && a.peers().await.is_empty());
    // Until one of them says that it is there.
    let loud = b.join_with("x", true, false).unwrap();
    a.network_changed().await;
    joined(&silent, &[&b]).await;
    drop((loud, also_silent));
}

#[tokio::test]
async fn a_key_is_enough_to_connect() {
    let third = node().await;
    let (a, b) = (beside(&third).await, beside(&third).await);
    let peer = within(a.dial(b.id())).await.unwrap();
    assert_eq!(peer.id(), b.id());
    assert!(peer.info().await.is_some());
}

#[tokio::test]
async fn what_was_tried_is_said_when_nobody_is_found() {
    let third = node().await;
    let a = beside(&third).await;
    knows(&a, 1).await;
    let nobody = swarm::settings::Identity::from_seed([7; 32]).peer_id().into();
    // Longer than anything else here may take.
    let answer = tokio::time::timeout(Duration::from_secs(60), a.dial(nobody)).await.unwrap();
    let Err(error) = answer else { panic!("nobody answered") };
    let DialError::NotFound { peer, ref report, .. } = error else { panic!("{error}") };
    assert_eq!(peer, nobody);
    let progress = report.iter().next().unwrap();
    assert!(progress.source == Source::Dht && progress.tried > 1, "{progress:?}");
    assert!(error.to_string().contains("dht: nobody there"), "{error}");
}

async fn stored(dht: &Dht, value: &[u8]) -> Key {
    within(dht.put_immutable(value)).await.unwrap().key
}

#[tokio::test]
async fn values_are_put_and_found() {
    let third = node().await;
    let (a, b) = (beside(&third).await, beside(&third).await);
    knows(&a, 2).await;
    knows(&b, 2).await;
    let key = stored(&a.dht(), b"a value").await;
    assert_eq!(key, Dht::key_of(b"a value"));
    assert_eq!(within(b.dht().get_immutable(key)).await.unwrap().unwrap(), "a value");
    assert_eq!(within(b.dht().get_immutable(Dht::key_of(b"another"))).await, Ok(None));

    assert!(within(a.dht().put_mutable("news", 1, "one")).await.unwrap().nodes > 0);
    let found = within(b.dht().get_mutable(a.id(), "news")).await.unwrap().unwrap();
    assert_eq!((found.sequence, &found.value[..]), (1, &b"one"[..]));
    within(a.dht().put_mutable("news", 2, "two")).await.unwrap();
    let found = within(b.dht().get_mutable(a.id(), "news")).await.unwrap().unwrap();
    assert_eq!((found.sequence, &found.value[..]), (2, &b"two"[..]));
    assert_eq!(within(b.dht().get_mutable(b.id(), "news")).await, Ok(None));
    // A sequence that goes back is refused, and so is another value with the same.
    let back = within(a.dht().put_mutable("news", 1, "three")).await;
    assert_eq!(back, Err(PutError::Refused { reason: Refused::Older }));
    let same = within(a.dht().put_mutable("news", 2, "three")).await;
    assert_eq!(same, Err(PutError::Refused { reason: Refused::Conflict }));

    let long = within(a.dht().put_immutable([7; 1001])).await;
    assert_eq!(long, Err(PutError::TooLarge { len: 1001, max: 1000 }));
    let wrong = within(a.dht().get_mutable(PeerId::from_bytes([255; 32]), "")).await;
    assert!(matches!(wrong, Err(GetError::BadKey { .. })));
    assert!(a.dht().withdraw(key).await && !a.dht().withdraw(key).await);
}

#[tokio::test]
async fn many_callers_wait_for_their_turn_and_the_end_answers_all() {
    let third = node().await;
    let a = beside(&third).await;
    knows(&a, 1).await;
    let calls: Vec<_> = (0..64_u8)
        .map(|n| {
            let dht = a.dht();
            tokio::spawn(async move { dht.put_immutable([n; 9]).await })
        })
        .collect();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    for n in 64..128_u8 {
        within(a.dht().put_immutable([n; 9])).await.unwrap();
    }
    assert_eq!(within(a.dht().put_immutable("too much")).await, Err(PutError::Full { limit: 128 }));
    // What is known already costs nothing more.
    within(a.dht().put_immutable([1; 9])).await.unwrap();
    let waiting = tokio::spawn({
        let dht = a.dht();
        async move { dht.get_immutable(Key::from_bytes([1; 32])).await }
    });
    a.shutdown(Duration::ZERO).await;
    let answer = within(waiting).await.unwrap();
    assert!(matches!(answer, Ok(None) | Err(GetError::Closed)), "{answer:?}");
    assert_eq!(a.dht().put_immutable("late").await, Err(PutError::Closed));
}

#[tokio::test]
async fn three_nodes_that_know_each_other_only_are_a_network_of_their_own() {
    let mut networks = Vec::new();
    for value in ["one", "two"] {
        let first = node().await;
        let (second, third) = (beside(&first).await, beside(&first).await);
        knows(&first, 2).await;
        knows(&second, 2).await;
        knows(&third, 2).await;
        stored(&second.dht(), value.as_bytes()).await;
        assert_eq!(within(third.dht().get_immutable(Dht::key_of(value.as_bytes()))).await.unwrap().unwrap(), value);
        let topics = [&first, &second, &third].map(|swarm| swarm.join("same name").unwrap());
        joined(&topics[2], &[&first, &second]).await;
        networks.push((first, second, third, topics));
    }
    let (first, second, third, topics) = &networks[1];
    assert_eq!(within(first.dht().get_immutable(Dht::key_of(b"one"))).await, Ok(None));
    for (swarm, topic) in [first, second, third].into_iter().zip(topics) {
        assert_eq!(swarm.dht().stats().await.unwrap().unwrap().contacts, [2, 0]);
        let in_topic = swarm.peers().await;
        assert!(in_topic.iter().all(|peer| [first.id(), second.id(), third.id()].contains(&peer.id)), "{topic:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_no_error_and_is_tried_again_and_again() {
    // An address at which nobody is, yet.
    let reserved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = reserved.local_addr().unwrap();
    drop(reserved);
    let a = builder().bootstrap([addr]).bind().await.unwrap();
    let topic = a.join("lobby").unwrap();
    let lookup = Task::Lookup(topic.id());
    let mut seen: Vec<(u64, Duration)> = Vec::new();
    within(async {
        while seen.len() < 3 {
            if let Some(progress) = a.discovery().of(lookup).iter().next()
                && let (Some(error), Some(next)) = (&progress.error, progress.next)
            {
                assert_eq!(error, &SourceError::NobodyKnown);
                if seen.last().is_none_or(|(tried, _)| *tried < progress.tried) {
                    seen.push((progress.tried, next.saturating_duration_since(Instant::now())));
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(seen.windows(2).all(|pair| pair[1].1 > pair[0].1), "pauses grow: {seen:?}");
    assert!(a.discovery().to_string().contains("dht: nobody to ask is known"), "{}", a.discovery());
    assert_eq!(within(a.dht().get_immutable(Key::from_bytes([1; 32]))).await, Err(GetError::NobodyKnown));
    assert_eq!(within(a.dht().put_immutable("x")).await, Err(PutError::NobodyKnown));
    // Somebody comes.
    let b = builder().listen(addr).bind().await.unwrap();
    let at_b = b.join("lobby").unwrap();
    meet((&a, &topic), (&b, &at_b)).await;
}

#[tokio::test]
async fn nodes_of_ipv6_find_each_other_too() {
    let v6 = || builder().listen("[::1]:0".parse().unwrap());
    let third = v6().bind().await.unwrap();
    let (a, b) = tokio::join!(
        v6().bootstrap([third.local_addr()]).bind(),
        // One that has both families.
        beside(&third),
    );
    let a = a.unwrap();
    let (at_a, at_b) = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
    meet((&a, &at_a), (&b, &at_b)).await;
    let stats = b.dht().stats().await.unwrap().unwrap();
    assert!(stats.contacts[0] == 0 && stats.contacts[1] > 0, "{stats:?}");
    assert!(stats.told.iter().any(SocketAddr::is_ipv4) && stats.told.iter().any(SocketAddr::is_ipv6), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_nodes_find_all_of_each_other() {
    let first = node().await;
    let mut nodes = Vec::new();
    for _ in 1..10 {
        nodes.push(beside(&first).await);
    }
    nodes.push(first);
    let topics: Vec<Topic> = nodes.iter().map(|node| node.join("lobby").unwrap()).collect();
    for (own, topic) in topics.iter().enumerate() {
        let others: Vec<&Swarm> = nodes.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, node)| node).collect();
        joined(topic, &others).await;
    }
}

#[tokio::test]
async fn the_peers_of_sessions_are_a_beginning() {
    let (a, b, c) = (node().await, node().await, node().await);
    within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    within(c.dial((b.id(), b.local_addr()))).await.unwrap();
    let peer = within(a.dial(c.id())).await.unwrap();
    assert_eq!(peer.id(), c.id());
}

#[tokio::test]
async fn contacts_are_kept_for_the_next_run() {
    let path = std::env::temp_dir().join(format!("setowire-dht-{}", std::process::id()));
    let third = node().await;
    let a = builder().dht_cache(&path).bootstrap([third.local_addr()]).bind().await.unwrap();
    knows(&a, 1).await;
    a.shutdown(Duration::from_secs(1)).await;
    let again = builder().dht_cache(&path).bind().await.unwrap();
    knows(&again, 1).await;
    drop(again);
    std::fs::write(&path, "no contacts").unwrap();
    let error = builder().dht_cache(&path).bind().await.unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
    std::fs::remove_file(&path).unwrap();
}

async fn is_answered(addr: SocketAddr, datagram: &[u8]) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(datagram, addr).await.unwrap();
    tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut [0; 2000])).await.is_ok()
}

/// A HELLO of the table: what anybody may ask.
fn hello() -> Vec<u8> {
    let mut datagram = vec![0xd9, 0];
    datagram.extend([7; 40]);
    datagram.resize(64, 0);
    datagram
}

#[tokio::test]
async fn garbage_is_counted_and_changes_nothing() {
    let third = node().await;
    let a = beside(&third).await;
    knows(&a, 1).await;
    let addr = a.local_addr();
    assert!(is_answered(addr, &hello()).await);
    let before = a.dht().stats().await.unwrap().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut sent = 0;
    for first in 0xd8..=0xdb_u8 {
        for len in [1, 2, 10, 41, 42, 63, 64, 100, 500, 1200, 1400] {
            let datagram: Vec<u8> =
                std::iter::once(first).chain((1..len).map(|at| crate::support::pattern(first, at))).collect();
            // A hello of 64 bytes and more is what it says.
            if first != 0xd9 || len < 64 {
                socket.send_to(&datagram, addr).await.unwrap();
                sent += 1;
            }
        }
    }
    let after = within(async {
        loop {
            let stats = a.dht().stats().await.unwrap().unwrap();
            if stats.rejected.total() >= before.rejected.total() + sent {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(after.contacts, before.contacts);
    assert!(tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut [0; 2000])).await.is_err());
}

#[tokio::test]
async fn a_node_without_a_table_says_nothing_of_it() {
    let third = node().await;
    let off = builder().dht(false).bootstrap([third.local_addr()]).bind().await.unwrap();
    assert!(!is_answered(off.local_addr(), &hello()).await);
    assert_eq!(off.dht().stats().await, Ok(None));
    assert_eq!(within(off.dht().put_immutable("x")).await, Err(PutError::NoTable));
    assert_eq!(within(off.dht().get_immutable(Key::from_bytes([1; 32]))).await, Err(GetError::NoTable));
    assert_eq!(within(off.dial(third.id())).await, Err(DialError::NoAddress));
    assert!(off.discovery().iter().next().is_none());
}

#[tokio::test]
async fn nobody_beyond_the_reach_of_the_preset_is_contacted_or_told_of() {
    // An address for documentation: the node must not even try it.
    let far: SocketAddr = "192.0.2.1:7".parse().unwrap();
    let build = || -> Builder { builder().bootstrap([far]) };
    let swarm = build().bind().await.unwrap();
    let topic = swarm.join("lobby").unwrap();
    within(async {
        while swarm.discovery().of(Task::Lookup(topic.id())).iter().all(|progress| progress.tried < 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let stats = swarm.dht().stats().await.unwrap().unwrap();
    assert_eq!((stats.in_flight, stats.out_of_scope), (0, 0), "it was not even handed to the table");
    assert!(stats.told.iter().all(|addr| addr.ip().is_loopback()), "{stats:?}");
    assert_eq!(swarm.stats().await.unwrap().send_errors, 0);
}
