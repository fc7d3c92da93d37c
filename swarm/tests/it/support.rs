//! Two nodes on the loopback interface, and limits of time for everything.

use std::future::Future;
use std::time::Duration;

use swarm::{Builder, DisconnectReason, Events, Peer, Preset, Protocol, Swarm, SwarmEvent};

/// What nothing here takes as long as.
pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const ECHO: Protocol = Protocol::new("echo/1");

/// A node on 127.0.0.1 that nobody finds.
pub(crate) fn builder() -> Builder {
    Swarm::builder().preset(Preset::Loopback).lan(false).pex(false)
}

pub(crate) async fn node() -> Swarm {
    builder().bind().await.unwrap()
}

/// Two nodes, and each one's handle of the other.
pub(crate) async fn pair() -> (Swarm, Swarm, Peer, Peer) {
    let (a, b) = (node().await, node().await);
    let (ab, ba) = connect(&a, &b).await;
    (a, b, ab, ba)
}

pub(crate) async fn connect(a: &Swarm, b: &Swarm) -> (Peer, Peer) {
    let mut events = b.events();
    let ab = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    loop {
        let peer = connected(&mut events).await;
        if peer.id() == a.id() {
            return (ab, peer);
        }
    }
}

/// The next peer that is connected, or was when these events began.
pub(crate) async fn connected(events: &mut Events) -> Peer {
    loop {
        if let SwarmEvent::Connected { peer, .. } = within(events.next()).await.expect("the node is there") {
            return peer;
        }
    }
}

/// Why the next peer is gone.
pub(crate) async fn gone(events: &mut Events) -> DisconnectReason {
    loop {
        if let SwarmEvent::Disconnected { reason, .. } = within(events.next()).await.expect("the node is there") {
            return reason;
        }
    }
}

/// Waits until a node has no streams and requests any more.
pub(crate) async fn no_streams(swarm: &Swarm) {
    within(async {
        while swarm.stats().await.expect("the node is there").streams > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("in time")
}

/// Bytes that tell whether something moved: byte `at` of stream `seed`.
pub(crate) fn pattern(seed: u8, at: usize) -> u8 {
    let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (mixed as u8) ^ seed
}
