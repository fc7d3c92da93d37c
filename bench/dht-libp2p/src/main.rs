//! `libp2p-kad` over TCP with Noise and Yamux: every node knows all others, and has asked around once, so its
//! connections are open.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use harness::table::Table;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetProvidersOk, QueryId, QueryResult, RecordKey};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};

fn main() -> ExitCode {
    harness::table::run::<Kad>()
}

type Node = Swarm<kad::Behaviour<MemoryStore>>;

struct Kad {
    nodes: Vec<mpsc::Sender<Command>>,
}

enum Command {
    Bootstrap(Vec<(PeerId, Multiaddr)>, Done),
    Announce(RecordKey, Done),
    Lookup(RecordKey, Done),
}

/// When the first provider was there, or the operation was done.
type Done = oneshot::Sender<Result<Instant>>;

impl Table for Kad {
    const NAME: &'static str = "libp2p-kad";

    async fn start(nodes: usize) -> Result<Self> {
        let mut senders = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..nodes {
            let mut node = node()?;
            node.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = node.select_next_some().await {
                    break address;
                }
            };
            addresses.push((*node.local_peer_id(), address));
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(drive(node, receiver));
            senders.push(sender);
        }
        let kad = Self { nodes: senders };
        for node in 0..nodes {
            kad.ask(node, |done| Command::Bootstrap(addresses.clone(), done)).await?;
        }
        Ok(kad)
    }

    async fn announce(&mut self, node: usize, topic: [u8; 32]) -> Result<()> {
        self.ask(node, |done| Command::Announce(RecordKey::new(&topic), done)).await?;
        Ok(())
    }

    async fn lookup(&mut self, node: usize, topic: [u8; 32]) -> Result<Instant> {
        self.ask(node, |done| Command::Lookup(RecordKey::new(&topic), done)).await
    }
}

impl Kad {
    async fn ask(&self, node: usize, command: impl FnOnce(Done) -> Command) -> Result<Instant> {
        let (done, answer) = oneshot::channel();
        self.nodes[node].send(command(done)).await?;
        answer.await.context("the node has ended")?
    }
}

fn node() -> Result<Node> {
    let builder = SwarmBuilder::with_new_identity().with_tokio().with_tcp(
        tcp::Config::default().nodelay(true),
        noise::Config::new,
        yamux::Config::default,
    )?;
    let mut node = builder
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            kad::Behaviour::new(id, MemoryStore::new(id))
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    node.behaviour_mut().set_mode(Some(kad::Mode::Server));
    Ok(node)
}

/// One operation of a node at a time.
struct Running {
    id: QueryId,
    done: Done,
    first: Option<Instant>,
}

async fn drive(mut node: Node, mut commands: mpsc::Receiver<Command>) {
    let mut running: Option<Running> = None;
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => running = begin(&mut node, command),
                None => return,
            },
            event = node.select_next_some() => {
                if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, result, step, .. }) = event
                    && let Some(mut query) = running.take()
                {
                    if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { .. })) = &result {
                        query.first.get_or_insert_with(Instant::now);
                    }
                    if query.id == id && step.last {
                        let _ = query.done.send(outcome(result, query.first));
                    } else {
                        running = Some(query);
                    }
                }
            }
        }
    }
}

fn begin(node: &mut Node, command: Command) -> Option<Running> {
    let kad = node.behaviour_mut();
    let (id, done) = match command {
        Command::Bootstrap(others, done) => {
            for (peer, address) in others {
                kad.add_address(&peer, address);
            }
            (kad.bootstrap().ok()?, done)
        }
        Command::Announce(key, done) => (kad.start_providing(key).ok()?, done),
        Command::Lookup(key, done) => (kad.get_providers(key), done),
    };
    Some(Running { id, done, first: None })
}

fn outcome(result: QueryResult, first: Option<Instant>) -> Result<Instant> {
    match result {
        QueryResult::GetProviders(_) => first.context("nobody is found"),
        QueryResult::StartProviding(result) => {
            result?;
            Ok(Instant::now())
        }
        QueryResult::Bootstrap(result) => {
            let left = result?.num_remaining;
            ensure!(left == 0, "{left} buckets are left");
            Ok(Instant::now())
        }
        other => bail!("not asked for: {other:?}"),
    }
}
