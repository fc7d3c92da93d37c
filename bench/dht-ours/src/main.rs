//! `setowire-dht`, each node driven by a task with a socket: the state machine and nothing else, as the others are the table and
//! nothing else. Connections are of whole nodes, [`nodes`].

mod nodes;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use crypto::envelope::NodeKey;
use crypto::{Identity, Seed};
use dht::{Announcer, Contact, Dht, Event, Family, Key, QueryId, Subnets};
use harness::table::Table;
use nodes::Nodes;
use structs::{Datagram, Epoch, Machine as _, Path, TransmitBuf};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

/// Lookups of each node before anything is measured, at most: until a round of them adds nobody to any table.
const LOOKS: u8 = 32;
/// How long it may take until each node has met another.
const PATIENCE: Duration = Duration::from_secs(10);
/// Some day: towards midnight announcements go to the keys of two days.
const NOON: Duration = Duration::from_secs(20_000 * 86_400 + 43_200);

fn main() -> ExitCode {
    harness::table::run::<Setowire>()
}

struct Setowire {
    nodes: Vec<mpsc::Sender<Command>>,
    whole: Option<Nodes>,
}

enum Command {
    Announce([u8; 32], Done),
    Lookup([u8; 32], Done),
    /// Looks for the nodes closest to a key.
    Look([u8; 32], Done),
    /// Says whether it waits for no answer.
    Rest(oneshot::Sender<bool>),
    /// Says how many others it knows.
    Contacts(oneshot::Sender<usize>),
}

/// When the first announcement was there, or the operation was done.
type Done = oneshot::Sender<Result<Instant>>;

impl Table for Setowire {
    const NAME: &'static str = "setowire";

    async fn start(nodes: usize) -> Result<Self> {
        let seed = Seed::from_os().map_err(|error| anyhow!("no entropy: {error}"))?;
        let mut first: Vec<Contact> = Vec::new();
        let mut senders = Vec::new();
        for number in 0..nodes {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let addr = socket.local_addr()?;
            let seed = seed.fork(&format!("node {number}"));
            let now = Instant::now();
            let epoch = Epoch { instant: now, unix: NOON };
            let key = NodeKey::generate(&mut seed.fork("key").rng());
            let mut node = Dht::new(key, Subnets::Off, epoch, &seed, now);
            node.bootstrap(&first, now);
            if first.is_empty() {
                first.push(Contact { id: node.id(), addr });
            }
            let identity = Arc::new(Identity::generate(&mut seed.fork("identity").rng()));
            let (sender, receiver) = mpsc::channel(4);
            tokio::spawn(drive(Node { node, socket, addr, identity, running: BTreeMap::new() }, receiver));
            senders.push(sender);
        }
        let (table, begun) = (Self { nodes: senders, whole: None }, Instant::now());
        // Every node looks around as one does that has run for a while: those that came first met few others when they began.
        let mut known = 0;
        for round in 0..LOOKS {
            let mut contacts = 0;
            for node in 0..nodes {
                let target = Seed::fixed(round.into()).fork(&node.to_string()).rng().array();
                // At first there may be nobody who answered yet.
                while table.ask(node, |done| Command::Look(target, done)).await?.is_err() {
                    ensure!(begun.elapsed() < PATIENCE, "node {node} is alone");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                contacts += table.ask(node, Command::Contacts).await?;
            }
            if contacts <= known {
                break;
            }
            known = contacts;
        }
        // What nodes do when they begin is no part of what is measured.
        for node in 0..nodes {
            while !table.ask(node, Command::Rest).await? {
                ensure!(begun.elapsed() < PATIENCE, "node {node} does not come to rest");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(table)
    }

    async fn announce(&mut self, node: usize, topic: [u8; 32]) -> Result<()> {
        self.ask(node, |done| Command::Announce(topic, done)).await??;
        Ok(())
    }

    async fn lookup(&mut self, node: usize, topic: [u8; 32]) -> Result<Instant> {
        self.ask(node, |done| Command::Lookup(topic, done)).await?
    }

    async fn start_nodes(&mut self, nodes: usize) -> Result<bool> {
        // These have ended then.
        self.nodes.clear();
        self.whole = Some(Nodes::start(nodes).await?);
        Ok(true)
    }

    async fn connect(&mut self, node: usize, to: usize) -> Result<()> {
        self.whole.as_ref().context("there are no whole nodes")?.connect(node, to).await
    }
}

impl Setowire {
    async fn ask<T>(&self, node: usize, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (done, answer) = oneshot::channel();
        self.nodes[node].send(command(done)).await?;
        answer.await.context("the node has ended")
    }
}

struct Node {
    node: Dht,
    socket: UdpSocket,
    addr: SocketAddr,
    identity: Arc<Identity>,
    running: BTreeMap<QueryId, (Done, Option<Instant>)>,
}

async fn drive(mut node: Node, mut commands: mpsc::Receiver<Command>) -> Result<()> {
    let mut out = TransmitBuf::new(1);
    let mut buffer = vec![0; 2048];
    loop {
        while let Some(sent) = node.node.poll_transmit(&mut out, Instant::now()) {
            node.socket.send_to(out.bytes(), sent.path.remote).await?;
            out.clear();
        }
        while let Some(event) = node.node.poll_event() {
            node.on_event(event);
        }
        let due = node.node.poll_timeout().map(|deadline| deadline.at.into());
        tokio::select! {
            received = node.socket.recv_from(&mut buffer) => {
                let (len, from) = received?;
                node.take(&mut buffer[..len], from);
                // Those that have come meanwhile, before anything is sent.
                while let Ok((len, from)) = node.socket.try_recv_from(&mut buffer) {
                    node.take(&mut buffer[..len], from);
                }
            }
            command = commands.recv() => match command {
                Some(command) => node.on_command(command)?,
                None => return Ok(()),
            },
            () = sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                node.node.handle_timeout(Instant::now());
            }
        }
    }
}

impl Node {
    fn take(&mut self, datagram: &mut [u8], from: SocketAddr) {
        // What is not for us is counted there.
        let _ = self.node.handle_datagram(Datagram::new(Path::udp(self.addr, from), datagram), Instant::now());
    }

    fn on_command(&mut self, command: Command) -> Result<()> {
        let now = Instant::now();
        let (id, done) = match command {
            Command::Rest(done) => {
                let _ = done.send(self.node.in_flight() == 0);
                return Ok(());
            }
            Command::Contacts(done) => {
                let _ = done.send(self.node.table(Family::V4).len());
                return Ok(());
            }
            Command::Announce(topic, done) => {
                let announcer =
                    Announcer { identity: self.identity.clone(), addresses: vec![self.addr], relays: Vec::new() };
                (self.node.announce(topic, announcer, now)?, done)
            }
            Command::Lookup(topic, done) => (self.node.peers(&topic, now)?, done),
            Command::Look(target, done) => (self.node.lookup(Key::from_bytes(target), Family::V4, now)?, done),
        };
        self.running.insert(id, (done, None));
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Peer { id, announcement } if announcement.addresses().len() == 1 => {
                if let Some((_, first)) = self.running.get_mut(&id) {
                    first.get_or_insert_with(Instant::now);
                }
            }
            Event::PeersDone { id, .. } => {
                if let Some((done, first)) = self.running.remove(&id) {
                    let _ = done.send(first.context("nobody is found"));
                }
            }
            Event::LookupDone { id, found } => {
                if let Some((done, _)) = self.running.remove(&id) {
                    let _ = done.send(if found.closest.is_empty() {
                        Err(anyhow!("it is alone"))
                    } else {
                        Ok(Instant::now())
                    });
                }
            }
            Event::Stored { id, stored, .. } => {
                if let Some((done, _)) = self.running.remove(&id) {
                    let kept = if stored > 0 { Ok(Instant::now()) } else { Err(anyhow!("nobody keeps it")) };
                    let _ = done.send(kept);
                }
            }
            _ => {}
        }
    }
}
