//! The crate `mainline` as a network of its own: its `Testnet`, whose nodes know each other from the start.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use futures::StreamExt as _;
use harness::table::Table;
use mainline::async_dht::AsyncDht;
use mainline::{Id, Testnet};

fn main() -> ExitCode {
    harness::table::run::<Mainline>()
}

struct Mainline {
    nodes: Vec<AsyncDht>,
    _network: Testnet,
}

impl Table for Mainline {
    const NAME: &'static str = "mainline";

    async fn start(nodes: usize) -> Result<Self> {
        let network = tokio::task::spawn_blocking(move || Testnet::builder(nodes).build()).await??;
        let nodes: Vec<AsyncDht> = network.nodes.iter().cloned().map(mainline::Dht::as_async).collect();
        for node in &nodes {
            ensure!(node.bootstrapped().await, "a node is alone");
        }
        Ok(Self { nodes, _network: network })
    }

    async fn announce(&mut self, node: usize, topic: [u8; 32]) -> Result<()> {
        self.nodes[node].announce_peer(id(topic)?, Some(4000)).await?;
        Ok(())
    }

    async fn lookup(&mut self, node: usize, topic: [u8; 32]) -> Result<Instant> {
        let mut found = self.nodes[node].get_peers(id(topic)?);
        let Some(peers) = found.next().await else { bail!("nobody is found") };
        ensure!(peers.iter().any(|peer| peer.port() == 4000), "somebody else is found");
        let first = Instant::now();
        while found.next().await.is_some() {}
        Ok(first)
    }
}

fn id(topic: [u8; 32]) -> Result<Id> {
    Ok(Id::from_bytes(&topic[..20])?)
}
