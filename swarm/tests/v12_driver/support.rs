//! Nodes without multicast, and waits with a limit.

use std::future::Future;
use std::time::Duration;

use swarm::v12::{Builder, Events, Peer, Swarm, SwarmEvent};
use swarm::{PeerId, Preset};

/// Far more than anything here takes, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("it takes too long")
}

/// A node of this machine alone, which finds nobody by itself.
pub(crate) fn quiet() -> Builder {
    Swarm::builder().preset(Preset::Loopback).lan(false)
}

pub(crate) async fn node() -> Swarm {
    quiet().bind().await.unwrap()
}

/// Two nodes, of which the first has dialled the second, and their handles of each other.
pub(crate) async fn pair() -> [(Swarm, Peer); 2] {
    let (a, b) = (node().await, node().await);
    let to_b = soon(a.dial(b.local_addr())).await.unwrap();
    let to_a = connected(&mut b.events()).await;
    assert_eq!((to_b.id(), to_a.id()), (b.id(), a.id()));
    [(a, to_b), (b, to_a)]
}

/// The next peer that connects.
pub(crate) async fn connected(events: &mut Events) -> Peer {
    until(events, |event| match event {
        SwarmEvent::Connected { peer, .. } => Some(peer),
        _ => None,
    })
    .await
}

/// The next message and whose it is.
pub(crate) async fn message(events: &mut Events) -> (PeerId, Vec<u8>) {
    until(events, |event| match event {
        SwarmEvent::Data(message) => {
            assert!(message.authenticated);
            Some((message.from, message.data.to_vec()))
        }
        // Nothing gets lost between nodes of one machine whose readers read.
        SwarmEvent::Missed { .. } | SwarmEvent::Lagged(_) => panic!("{event:?}"),
        _ => None,
    })
    .await
}

/// The first thing that `find` makes of an event.
pub(crate) async fn until<T>(events: &mut Events, mut find: impl FnMut(SwarmEvent) -> Option<T>) -> T {
    soon(async {
        loop {
            let event = events.next().await.expect("the node has ended");
            if let Some(found) = find(event) {
                return found;
            }
        }
    })
    .await
}
