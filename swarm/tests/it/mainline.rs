//! Nodes that find each other through a Mainline DHT of the loopback interface.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use mainline::Testnet;
use swarm::discovery::{Source, SourceError, Task};
use swarm::{DialError, Mainline, Swarm, Topic, TopicEvent, TopicId};

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
