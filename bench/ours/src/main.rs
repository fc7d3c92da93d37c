//! Setowire.
//!
//! One node listens. What connects is one node as well, except where the work wants several connections to the listener at
//! a time: two nodes have one session with each other, so there each connection is of a node, and with it an identity and a
//! socket, of its own. All of them are there before anything is measured. Where connections follow each other, two nodes take
//! turns: one that has said goodbye waits for the answer before it connects to the same peer again, which nobody else does.
//!
//! Settings that are not the defaults: 1452 bytes at most where the work says so, no tickets where nothing is resumed, a
//! limit on handshakes per second that is out of the way, and no hash table: nobody is looked for here, and none of the others
//! keeps one.

mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harness::work::INTERNET_MTU;
use harness::{
    Connection, Library, MessageReceiver, MessageSender, Mtu, ReceiveStream as _, SendStream as _, Settings, Work,
    machine,
};
use swarm::{Datagrams, Events, Incoming, Messages, Peer, PeerId, Preset, Protocol, Requests, Swarm, SwarmEvent};
use tokio::sync::{Mutex as Queue, mpsc};

use stream::{Receiver, Sender};

fn main() -> ExitCode {
    harness::run::<Setowire>()
}

/// What streams are for.
const STREAM: Protocol = Protocol::new("bench/stream");
/// What requests are for.
const REQUEST: Protocol = Protocol::new("bench/request");

/// Connections, and what they open, that wait to be accepted.
const WAITING: usize = 1024;

/// More handshakes a second than any machine does.
const HANDSHAKES: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// Both halves of a stream or of a request.
type Halves = (Sender, Receiver);

#[derive(Debug)]
struct Setowire;

/// The node that is connected to.
#[derive(Debug)]
struct Listener {
    arrivals: Queue<mpsc::Receiver<Arrival>>,
    /// As long as this lives, so does the node.
    _swarm: Swarm,
}

/// A peer that has connected.
#[derive(Debug)]
struct Arrival {
    peer: Peer,
    opened: Opened,
}

/// What a peer opens.
#[derive(Debug)]
struct Opened {
    /// All that anybody opens, if there is one connection only.
    own: Option<Source>,
    /// Sorted by connections. Ends with this one. Boxed: a channel has room for 32 from the start, which would be most of an idle
    /// connection.
    sorted: mpsc::Receiver<Box<Halves>>,
}

/// Where what is opened comes out, whoever opened it.
#[derive(Debug)]
enum Source {
    Streams(Incoming),
    Requests(Requests),
}

/// The nodes that connect.
#[derive(Debug)]
struct Dialer {
    idle: Arc<Mutex<VecDeque<Swarm>>>,
    to: (PeerId, SocketAddr),
    requests: bool,
}

/// A session with a peer.
#[derive(Clone, Debug)]
struct Session {
    peer: Peer,
    /// Its streams are requests.
    requests: bool,
    end: Arc<End>,
    datagrams: Arc<Queue<Option<Datagrams>>>,
}

/// What differs between both ends.
#[derive(Debug)]
enum End {
    /// A node that goes back to the others when the session is closed.
    Client(Arc<Mutex<VecDeque<Swarm>>>, Swarm),
    Server(Queue<Opened>),
}

#[derive(Debug)]
struct Outbox(Peer);

#[derive(Debug)]
struct Inbox(Messages);

const fn asks(work: Work) -> bool {
    matches!(work, Work::Requests(_) | Work::Connects { .. } | Work::Idle)
}

/// How many connections there are at a time, at least.
const fn parallel(work: Work) -> usize {
    match work {
        Work::Connects { parallel, .. } => parallel,
        Work::Idle => 1000,
        _ => 1,
    }
}

async fn node(settings: &Settings) -> Result<Swarm> {
    let mut config = peer::Config::default()
        .tickets(settings.work.resumes())
        .max_peers(65_536)
        .datagram_queue(1 << 20)
        .handshakes_per_second(HANDSHAKES);
    if settings.mtu() == Mtu::Internet {
        config = config.max_datagram(INTERNET_MTU.into());
    }
    let builder = Swarm::builder().preset(Preset::Server).dht(false).listen((settings.bind, 0).into()).sessions(config);
    Ok(builder.bind().await?)
}

impl Library for Setowire {
    const NAME: &'static str = "setowire";

    type Listener = Listener;
    type Incoming = Arrival;
    type Dialer = Dialer;
    type Connection = Session;

    fn supports(_: Work) -> bool {
        true
    }

    fn limits(settings: &Settings) -> Vec<(&'static str, String)> {
        let mtu = match settings.mtu() {
            Mtu::Internet => format!("searched, at most {INTERNET_MTU}"),
            Mtu::Free => "searched".to_owned(),
        };
        vec![
            ("cipher", "AES-256-GCM by ring where both have it in hardware".to_owned()),
            ("identity", "both sides, Ed25519".to_owned()),
            ("congestion control", "the default".to_owned()),
            ("mtu", mtu),
            ("windows", "8192 KiB, grown to".to_owned()),
            ("socket buffers", machine::udp_buffers()),
            ("resumption", "ticket, request after one round trip".to_owned()),
        ]
    }

    async fn listen(settings: &Settings) -> Result<(Listener, String)> {
        let swarm = node(settings).await?;
        let (arrived, arrivals) = mpsc::channel(WAITING);
        let source = match asks(settings.work) {
            true => Source::Requests(swarm.requests(REQUEST)?),
            false => Source::Streams(swarm.accept(STREAM)?),
        };
        let single = parallel(settings.work) == 1 && !matches!(settings.work, Work::Connects { .. });
        tokio::spawn(sort(swarm.events(), source, single, arrived));
        let ticket = format!("{}/{}", swarm.local_addr(), swarm.id());
        Ok((Listener { arrivals: Queue::new(arrivals), _swarm: swarm }, ticket))
    }

    async fn accept(listener: &Listener) -> Result<Arrival> {
        listener.arrivals.lock().await.recv().await.context("the node has ended")
    }

    async fn establish(arrival: Arrival) -> Result<Session> {
        let datagrams = arrival.peer.datagrams();
        Ok(Session {
            peer: arrival.peer,
            requests: false,
            end: Arc::new(End::Server(Queue::new(arrival.opened))),
            datagrams: Arc::new(Queue::new(datagrams)),
        })
    }

    async fn dialer(settings: &Settings, ticket: &str) -> Result<Dialer> {
        let (addr, id) = ticket.split_once('/').context("a ticket without an id")?;
        let mut idle = VecDeque::new();
        let turns = if matches!(settings.work, Work::Connects { .. }) { 2 } else { 1 };
        for _ in 0..turns * parallel(settings.work) {
            idle.push_back(node(settings).await?);
        }
        Ok(Dialer { idle: Arc::new(Mutex::new(idle)), to: (id.parse()?, addr.parse()?), requests: asks(settings.work) })
    }

    async fn dial(dialer: &Dialer) -> Result<Session> {
        let swarm = dialer.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let swarm = swarm.context("more connections than nodes")?;
        let peer = swarm.dial(dialer.to).await?;
        let end = End::Client(Arc::clone(&dialer.idle), swarm);
        Ok(Session { peer, requests: dialer.requests, end: Arc::new(end), datagrams: Arc::default() })
    }
}

/// Tells of peers that connect, and gives each what it opens.
async fn sort(mut events: Events, source: Source, single: bool, arrived: mpsc::Sender<Arrival>) -> Result<()> {
    let (mut own, mut shared) = if single { (Some(source), None) } else { (None, Some(source)) };
    let mut sessions = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event.context("the node has ended")? {
                SwarmEvent::Connected { peer, .. } => {
                    let (sender, sorted) = mpsc::channel(WAITING);
                    sessions.insert(peer.id(), sender);
                    arrived.send(Arrival { peer, opened: Opened { own: own.take(), sorted } }).await?;
                }
                SwarmEvent::Disconnected { peer, .. } => drop(sessions.remove(&peer)),
                _ => {}
            },
            Some((peer, halves)) = next(&mut shared) => {
                if let Some(session) = sessions.get(&peer) {
                    // A connection that is over needs nothing more.
                    let _ = session.send(Box::new(halves)).await;
                }
            }
        }
    }
}

/// What is opened next, and by whom. Never, without a source.
async fn next(source: &mut Option<Source>) -> Option<(PeerId, Halves)> {
    match source {
        Some(Source::Streams(streams)) => streams.next().await.map(|stream| (stream.peer(), stream::split(stream))),
        Some(Source::Requests(requests)) => {
            requests.next().await.map(|inbound| (inbound.peer(), stream::answering(inbound)))
        }
        None => std::future::pending().await,
    }
}

impl Connection for Session {
    type Send = Sender;
    type Receive = Receiver;
    type MessageSender = Outbox;
    type MessageReceiver = Inbox;

    async fn open(&self) -> Result<Halves> {
        if self.requests {
            return Ok(stream::asking(&self.peer, REQUEST));
        }
        Ok(stream::split(self.peer.open_stream(STREAM).await?))
    }

    async fn accept(&self) -> Result<Option<Halves>> {
        let End::Server(opened) = &*self.end else { bail!("only the listener accepts") };
        let Opened { own, sorted } = &mut *opened.lock().await;
        Ok(tokio::select! {
            biased;
            Some((_, halves)) = next(own) => Some(halves),
            halves = sorted.recv() => halves.map(|halves| *halves),
        })
    }

    /// Asks whether somebody reads: messages that come before would be events.
    async fn open_messages(&self, _: bool) -> Result<Outbox> {
        let (mut send, mut receive) = self.open().await?;
        send.write_all(&[0]).await?;
        ensure!(receive.read(&mut [0]).await? == 1, "nobody reads messages");
        Ok(Outbox(self.peer.clone()))
    }

    async fn accept_messages(&self) -> Result<Inbox> {
        let messages = self.peer.messages().context("somebody else reads messages")?;
        let (mut send, mut receive) = self.accept().await?.context("the connection ended before any message")?;
        ensure!(receive.read(&mut [0]).await? == 1, "nobody asks");
        send.write_all(&[0]).await?;
        Ok(Inbox(messages))
    }

    async fn send_datagram(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.peer.send_datagram(bytes).await?)
    }

    async fn receive_datagrams(&self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let mut datagrams = self.datagrams.lock().await;
        let datagrams = datagrams.as_mut().context("somebody else reads datagrams")?;
        let next = datagrams.next_ref().await.map(&mut take);
        Ok(next.is_some())
    }

    async fn close(self) {
        self.peer.disconnect(Duration::ZERO).await;
        if let End::Client(idle, node) = &*self.end {
            idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(node.clone());
        }
    }
}

impl MessageSender for Outbox {
    async fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.0.send(message).await?)
    }
}

impl MessageReceiver for Inbox {
    async fn receive(&mut self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let Some(message) = self.0.next_ref().await else { return Ok(false) };
        take(message);
        while let Some(message) = self.0.try_next_ref() {
            take(message);
        }
        Ok(true)
    }
}
