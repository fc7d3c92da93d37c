//! Two nodes on the loopback interface, and limits of time for everything.

use std::future::Future;
use std::time::Duration;

use swarm::{Builder, Peer, Preset, Protocol, Swarm, SwarmEvent};

/// What nothing here takes as long as.
pub const LONG: Duration = Duration::from_secs(30);
pub const ECHO: Protocol = Protocol::new("echo/1");

/// A node on 127.0.0.1 that nobody finds.
pub fn builder() -> Builder {
    Swarm::builder().preset(Preset::Loopback).lan(false)
}

pub async fn node() -> Swarm {
    builder().bind().await.unwrap()
}

/// Two nodes, and each one's handle of the other.
pub async fn pair() -> (Swarm, Swarm, Peer, Peer) {
    let (a, b) = (node().await, node().await);
    let (ab, ba) = connect(&a, &b).await;
    (a, b, ab, ba)
}

pub async fn connect(a: &Swarm, b: &Swarm) -> (Peer, Peer) {
    let mut events = b.events();
    let ab = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    loop {
        if let Some(SwarmEvent::Connected { peer, .. }) = within(events.next()).await
            && peer.id() == a.id()
        {
            return (ab, peer);
        }
    }
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("in time")
}

/// Bytes that tell whether something moved: byte `at` of stream `seed`.
pub fn pattern(seed: u8, at: usize) -> u8 {
    let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (mixed as u8) ^ seed
}
