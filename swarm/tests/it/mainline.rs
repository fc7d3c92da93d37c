//! Nodes that find each other through a Mainline DHT of the loopback interface.

use std::future::poll_fn;
use std::net::{Ipv4Addr, UdpSocket};
use std::pin::pin;
use std::time::{Duration, Instant};

use framing::record::SignedRecord;
use futures_core::Stream as _;
use mainline::Testnet;
use swarm::discovery::{Source, SourceError, Task};
use swarm::{DialError, Mainline, ServeRelay, Swarm, Topic, TopicEvent, TopicId};

use crate::support::{builder, within};

fn testnet() -> Testnet {
    Testnet::builder(10).bind_address(Ipv4Addr::LOCALHOST).build().unwrap()
}

/// A node that has no other source.
fn alone() -> swarm::Builder {
    builder().dht(false)
}

fn settings(testnet: &Testnet) -> Mainline {
    Mainline::default().bootstrap(testnet.bootstrap.clone())
}

async fn on_mainline(testnet: &Testnet) -> Swarm {
    alone().mainline(settings(testnet)).bind().await.unwrap()
}

/// Waits until a task of a node was answered.
async fn answered(swarm: &Swarm, task: Task) {
    within(async {
        while swarm.discovery().of(task).iter().all(|progress| progress.answered == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn joined(topic: &Topic, by: &Swarm) {
    let mut events = topic.events();
    loop {
        if let Some(TopicEvent::Joined(peer)) = within(events.next()).await
            && peer.id() == by.id()
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_enough_for_one_behind_a_relay() {
    let testnet = testnet();
    let listen = |at: &str| alone().listen(at.parse().unwrap());
    let relay = listen("127.0.0.1:0").listen("[::1]:0".parse().unwrap()).serve_relay(ServeRelay::Always);
    let relay = relay.bind().await.unwrap();
    let at = |v4: bool| *relay.local_addrs().iter().find(|addr| addr.is_ipv4() == v4).unwrap();
    let b = |on: &str, v4: bool| listen(on).seed([77; 32]).relays([at(v4)]);
    // It says where it is, and behind which relay, and is then only behind the relay.
    let first = b("127.0.0.1:0", true).mainline(settings(&testnet)).bind().await.unwrap();
    let client = mainline::Dht::builder().bootstrap(&testnet.bootstrap).bind_address(Ipv4Addr::LOCALHOST).build();
    let (client, key) = (client.unwrap().as_async(), *first.id().as_bytes());
    // What changes in the first half minute is told after it.
    let told = async {
        loop {
            let mut items = pin!(client.get_mutable(&key, Some(b"setowire addr 1"), None));
            while let Some(item) = poll_fn(|cx| items.as_mut().poll_next(cx)).await {
                if SignedRecord::decode(item.value()).is_ok_and(|record| record.vouchers().next().is_some()) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(90), told).await.unwrap();
    first.shutdown(Duration::from_millis(100)).await;
    let second = b("[::1]:0", false).bind().await.unwrap();
    let a = listen("127.0.0.1:0").use_relays(true).mainline(settings(&testnet)).bind().await.unwrap();
    let there = within(a.dial(second.id())).await.unwrap();
    assert_eq!(there.info().await.unwrap().relay, Some(relay.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_meet_by_topic_alone() {
    let testnet = testnet();
    let (a, b) = (on_mainline(&testnet).await, on_mainline(&testnet).await);
    let at_a = a.join("lobby").unwrap();
    let lobby = TopicId::from("lobby");
    answered(&a, Task::Announce(lobby)).await;
    let at_b = b.join("lobby").unwrap();
    tokio::join!(joined(&at_a, &b), joined(&at_b, &a));
    let report = b.discovery().of(Task::Lookup(lobby));
    let [progress] = report.iter().collect::<Vec<_>>()[..] else { panic!("{report}") };
    assert_eq!((progress.source, &progress.error), (Source::Mainline, &None));
    drop(at_b);
    within(async {
        while b.discovery().of(Task::Lookup(lobby)).iter().next().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_looks_is_not_found_and_who_only_announces_dials_nobody() {
    let testnet = testnet();
    let (seen, unseen) = (on_mainline(&testnet).await, on_mainline(&testnet).await);
    let lobby = TopicId::from("lobby");
    let _announced = seen.join_with(lobby, true, false).unwrap();
    answered(&seen, Task::Announce(lobby)).await;
    assert_eq!(seen.discovery().of(Task::Lookup(lobby)).iter().count(), 0);
    let looked_for = unseen.join_with(lobby, false, true).unwrap();
    joined(&looked_for, &seen).await;
    assert_eq!(unseen.discovery().of(Task::Announce(lobby)).iter().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_found_by_its_id() {
    let testnet = testnet();
    let (a, b) = (on_mainline(&testnet).await, on_mainline(&testnet).await);
    answered(&a, Task::Record).await;
    let peer = within(b.dial(a.id())).await.unwrap();
    assert_eq!(peer.id(), a.id());
    // Its record says so, and nobody else could have.
    let hidden = alone().mainline(settings(&testnet).record(false)).bind().await.unwrap();
    assert_eq!(hidden.discovery().of(Task::Record).iter().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_nodes_that_know_nobody_begins_there() {
    let testnet = testnet();
    let node = async || builder().mainline(settings(&testnet).record(false)).bind().await.unwrap();
    let a = node().await;
    answered(&a, Task::AnnounceNode).await;
    let b = node().await;
    for swarm in [&a, &b] {
        within(async {
            while swarm.dht().stats().await.unwrap().unwrap().live[0] == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    // So what is kept in the one table is found by the other.
    let stored = within(b.dht().put_immutable("from b")).await.unwrap();
    assert_eq!(within(a.dht().get_immutable(stored.key)).await.unwrap().as_deref(), Some(&b"from b"[..]));
    // Who takes no part in our table says nothing there and looks for nobody.
    let alone = on_mainline(&testnet).await;
    answered(&alone, Task::Record).await;
    let tasks = [Task::AnnounceNode, Task::LookupNodes];
    assert!(tasks.iter().all(|task| alone.discovery().of(*task).iter().count() == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_source_says_so_at_once() {
    let (a, b) = (alone().bind().await.unwrap(), alone().bind().await.unwrap());
    assert!(matches!(within(a.dial(b.id())).await, Err(DialError::NoAddress)));
    assert_eq!(a.discovery().to_string(), "no source");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_it_from_working_can_be_read_and_it_tries_again() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    for (bootstrap, expected) in [
        (nobody.as_str(), SourceError::NobodyAnswered),
        // Beyond what a node of this machine may contact.
        ("192.0.2.1:6881", SourceError::NobodyAnswered),
    ] {
        let swarm = alone().mainline(Mainline::default().bootstrap([bootstrap])).bind().await.unwrap();
        let _topic = swarm.join("lobby").unwrap();
        let lookup = Task::Lookup("lobby".into());
        let progress = within(async {
            loop {
                let report = swarm.discovery().of(lookup);
                if let Some(progress) = report.iter().find(|progress| progress.error.is_some()) {
                    return progress.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(progress.error, Some(expected));
        assert!(progress.next.is_some_and(|next| next > Instant::now()), "with a pause");
    }
}
