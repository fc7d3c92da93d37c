//! Setowire.
//!
//! One node listens. What connects is one node as well, except where the work wants several connections to the listener at
//! a time: two nodes have one session with each other, so there each connection is of a node, and with it an identity and a
//! socket, of its own. All of them are there before anything is measured. Where connections follow each other, two nodes take
//! turns: one that has said goodbye waits for the answer before it connects to the same peer again, which nobody else does.
//!
//! Settings that are not the defaults: 1452 bytes at most where the work says so, no tickets where nothing is resumed, a
//! limit on handshakes per second that is out of the way, no hash table: nobody is looked for here, and none of the others
//! keeps one; and nodes that stay awake in a conversation although their program has one processor, since that is its own.

mod sorted;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harness::work::INTERNET_MTU;
use harness::{
    Connection, Library, MessageReceiver, MessageSender, Mtu, ReceiveStream as _, SendStream as _, Settings, Work,
    machine,
};
use swarm::{Datagrams, Events, Incoming, Messages, Peer, PeerId, Preset, Protocol, Requests, Swarm, SwarmEvent};
use tokio::sync::{Mutex as Queue, mpsc};

use sorted::Sorted;
use stream::{Receiver, Sender};

fn main() -> ExitCode {
    harness::run::<Setowire>()
}

/// What streams are for.
const STREAM: Protocol = Protocol::new("bench/stream");
/// What requests are for.
const REQUEST: Protocol = Protocol::new("bench/request");

/// How long a node waits awake: the default where there are several processors.
const AWAKE: Duration = Duration::from_micros(100);

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
    /// They send datagrams.
    datagrams: bool,
    /// As long as this lives, so does the node.
    _swarm: Swarm,
}

/// A peer that has connected.
#[derive(Debug)]
struct Arrival {
    peer: Peer,
    opened: Opened,
    /// What sends datagrams has somebody who reads them from the beginning.
    datagrams: Option<Box<Queue<Datagrams>>>,
}

/// What a peer opens.
#[derive(Debug)]
struct Opened {
    /// All that anybody opens, if there is one connection only.
    own: Option<Box<Mutex<Source>>>,
    /// Sorted by connections. Ends with this one. Boxed, so that the room in the queue is little.
    sorted: Arc<Sorted<Box<Halves>>>,
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
struct Session(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    peer: Peer,
    /// Its streams are requests.
    requests: bool,
    end: End,
}

/// What differs between both ends.
#[derive(Debug)]
enum End {
    /// A node that goes back to the others when the session is closed.
    Client(Arc<Mutex<VecDeque<Swarm>>>, Swarm),
    Server(Opened, Option<Box<Queue<Datagrams>>>),
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
        Work::Idle => 1001,
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
    Ok(builder.busy_poll(AWAKE).bind().await?)
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
            ("awake", format!("{} us in a conversation", AWAKE.as_micros())),
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
        let datagrams = matches!(settings.work, Work::Datagrams);
        Ok((Listener { arrivals: Queue::new(arrivals), datagrams, _swarm: swarm }, ticket))
    }

    async fn accept(listener: &Listener) -> Result<Arrival> {
        let mut arrival = listener.arrivals.lock().await.recv().await.context("the node has ended")?;
        if listener.datagrams {
            arrival.datagrams = arrival.peer.datagrams().map(|datagrams| Box::new(Queue::new(datagrams)));
        }
        Ok(arrival)
    }

    async fn establish(arrival: Arrival) -> Result<Session> {
        let Arrival { peer, opened, datagrams } = arrival;
        Ok(Session(Arc::new(Parts { peer, requests: false, end: End::Server(opened, datagrams) })))
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
        Ok(Session(Arc::new(Parts { peer, requests: dialer.requests, end })))
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
                    let sorted = Arc::new(Sorted::default());
                    sessions.insert(peer.id(), Arc::clone(&sorted));
                    let opened = Opened { own: own.take().map(|own| Box::new(Mutex::new(own))), sorted };
                    arrived.send(Arrival { peer, opened, datagrams: None }).await?;
                }
                SwarmEvent::Disconnected { peer, .. } => {
                    if let Some(session) = sessions.remove(&peer) {
                        session.end();
                    }
                }
                _ => {}
            },
            Some((peer, halves)) = next(shared.as_mut()) => {
                // A connection that is over needs nothing more.
                if let Some(session) = sessions.get(&peer) {
                    session.push(Box::new(halves));
                }
            }
        }
    }
}

/// What is opened next, and by whom. Never, without a source.
async fn next(source: Option<&mut Source>) -> Option<(PeerId, Halves)> {
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
        let Parts { peer, requests, .. } = &*self.0;
        if *requests {
            return Ok(stream::asking(self, REQUEST));
        }
        Ok(stream::split(peer.open_stream(STREAM).await?))
    }

    async fn accept(&self) -> Result<Option<Halves>> {
        let End::Server(Opened { own, sorted }, _) = &self.0.end else { bail!("only the listener accepts") };
        let Some(own) = own else { return Ok(sorted.next().await.map(|halves| *halves)) };
        // Made anew each time, which loses nothing: a future that is kept would be part of every connection.
        Ok(std::future::poll_fn(|cx| {
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            match pin!(next(Some(&mut *own))).poll(cx) {
                Poll::Ready(Some((_, halves))) => Poll::Ready(Some(halves)),
                Poll::Ready(None) | Poll::Pending => sorted.poll_next(cx).map(|halves| halves.map(|halves| *halves)),
            }
        })
        .await)
    }

    /// Asks whether somebody reads: messages that come before would be events.
    async fn open_messages(&self, _: bool) -> Result<Outbox> {
        let (mut send, mut receive) = self.open().await?;
        send.write_all(&[0]).await?;
        ensure!(receive.read(&mut [0]).await? == 1, "nobody reads messages");
        Ok(Outbox(self.0.peer.clone()))
    }

    async fn accept_messages(&self) -> Result<Inbox> {
        let messages = self.0.peer.messages().context("somebody else reads messages")?;
        let (mut send, mut receive) = self.accept().await?.context("the connection ended before any message")?;
        ensure!(receive.read(&mut [0]).await? == 1, "nobody asks");
        send.write_all(&[0]).await?;
        Ok(Inbox(messages))
    }

    async fn send_datagram(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.peer.send_datagram(bytes).await?)
    }

    async fn receive_datagrams(&self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let End::Server(_, Some(datagrams)) = &self.0.end else { bail!("somebody else reads datagrams") };
        let mut datagrams = datagrams.lock().await;
        let next = datagrams.next_ref().await.map(&mut take);
        Ok(next.is_some())
    }

    async fn close(self) {
        let Parts { peer, end, .. } = &*self.0;
        peer.disconnect(Duration::ZERO).await;
        if let End::Client(idle, node) = end {
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
