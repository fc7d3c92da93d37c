//! Nodes that find each other by multicast DNS on the loopback interface.

use std::time::Duration;

use swarm::discovery::{Source, Task};
use swarm::{Swarm, Topic, TopicEvent, TopicId};

use crate::support::{builder, within};

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
async fn two_nodes_meet_by_multicast_dns() {
    let bind = || async { builder().dht(false).mdns(true).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    let (at_a, at_b) = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
    let _other = b.join("kitchen").unwrap();
    tokio::join!(joined(&at_a, &b), joined(&at_b, &a));
    let lookup = Task::Lookup(TopicId::from("kitchen"));
    within(async {
        while b.discovery().of(lookup).iter().all(|progress| progress.answered == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let report = b.discovery().of(lookup);
    assert!(report.iter().all(|progress| progress.source == Source::Mdns && progress.found == 0), "{report}");
}
