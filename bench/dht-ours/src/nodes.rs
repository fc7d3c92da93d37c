//! Whole nodes, on the loopback interface, without multicast: they know of each other what the hash table says.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use swarm::discovery::Task;
use swarm::{Dht, Preset, Protocol, Responding, Swarm};

/// What is asked.
const ECHO: Protocol = Protocol::new("bench/echo");
/// Contacts with which a table is warm: of 50 nodes it holds those of its own half of the keys, which may be few, and 20 of the other.
const WARM: usize = 30;
/// How long it may take until all are there.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Nodes {
    all: Vec<Swarm>,
    /// As long as they live, nodes answer.
    _responding: Vec<Responding>,
}

impl Nodes {
    /// Starts nodes, and waits until each knows many others and can be found by its key.
    pub(crate) async fn start(nodes: usize) -> Result<Self> {
        let mut all: Vec<Swarm> = Vec::new();
        for _ in 0..nodes {
            let builder = Swarm::builder().preset(Preset::Loopback).lan(false).pex(false);
            // Each looks for its place once by way of each of two.
            let first = all.iter().take(2).map(Swarm::local_addr).collect::<Vec<_>>();
            all.push(builder.bootstrap(first).bind().await?);
        }
        let responding = all.iter().map(|node| node.respond(ECHO, |_, body: Bytes| async move { Ok::<_, ()>(body) }));
        let responding = responding.collect::<Result<_, _>>()?;
        let (begun, mut looks) = (Instant::now(), 0_u64);
        for (number, node) in all.iter().enumerate() {
            while !is_ready(node).await? {
                ensure!(begun.elapsed() < PATIENCE, "node {number} is alone");
                tokio::time::sleep(Duration::from_millis(20)).await;
                // It looks around as one does that has run for a while; that nothing is there does not matter.
                looks += 1;
                let _ = node.dht().get_immutable(Dht::key_of(&looks.to_be_bytes())).await;
            }
        }
        // What nodes do when they begin is no part of a connection.
        while !are_quiet(&all).await? {
            ensure!(begun.elapsed() < PATIENCE, "the nodes do not come to rest");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { all, _responding: responding })
    }

    /// Dials a node by its key, and waits for its answer to a request.
    pub(crate) async fn connect(&self, from: usize, to: usize) -> Result<()> {
        let (from, to) = (self.all.get(from).context("no such node")?, self.all.get(to).context("no such node")?);
        let peer = from.dial(to.id()).await?;
        let answer = peer.request(ECHO, "?").await?;
        ensure!(answer == "?", "{answer:?} is no echo");
        Ok(())
    }
}

/// Whether no node waits for an answer.
async fn are_quiet(nodes: &[Swarm]) -> Result<bool> {
    for node in nodes {
        if node.dht().stats().await?.context("there is no hash table")?.in_flight > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a node knows many others, and they keep its record.
async fn is_ready(node: &Swarm) -> Result<bool> {
    let contacts: usize = node.dht().stats().await?.context("there is no hash table")?.contacts.iter().sum();
    let kept = node.discovery().iter().any(|progress| progress.task == Task::Record && progress.answered > 0);
    Ok(contacts >= WARM && kept)
}
