//! Nodes that are to be reached through a relay alone.

use std::time::Duration;

use swarm::{Builder, DialTarget, Preset, RelayState, Swarm};

use crate::program::LIMIT;

/// What a node of this machine begins with that looks for no direct paths.
pub(crate) fn builder(relay: &DialTarget) -> Builder {
    Swarm::builder().preset(Preset::Loopback).lan(false).direct_paths(false).relays([relay.clone()])
}

/// One that holds a place there.
pub(crate) async fn hidden(relay: &DialTarget) -> Swarm {
    let node = builder(relay).bind().await.unwrap();
    let held = async {
        while !node.relays().iter().any(|relay| relay.state == RelayState::Held) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, held).await.expect("a place at the relay");
    node
}
