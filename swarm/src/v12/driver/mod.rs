//! The tokio driver: one task that owns the node and its sockets, and the handles that talk to it.
//!
//! Everything that touches the outside world is here: sockets, the clock, the task. Each turn of the task reads the
//! clock once, takes in what the socket has, lets timers fire, takes what the handles want, sends, and passes events
//! on; every step has a budget, and all of it is synchronous. Then it waits, for the first of: a handle, the node's
//! deadline, a datagram, or (while one batch could not be sent) room in the socket.
//!
//! Where it is slow: towards the network the node's own windows and queues govern, and a blocked socket holds one
//! batch; a broadcast waits for a full peer while that peer takes messages at a fair rate, and skips it from then on
//! until it has room; towards a slow reader of events the task stops receiving for a moment and then drops, see [`Events`].

#![expect(clippy::disallowed_methods, reason = "the only I/O")]

mod builder;

mod command;
mod dht;
mod events;
mod fetch;
mod handle;
mod lan;
mod lanes;
mod limits;
mod pass;
#[cfg(any(feature = "http", feature = "fuzzing"))]
pub(crate) mod said;
mod shared;
mod subscriber;
mod topic;
#[cfg(feature = "http")]
mod web;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use structs::{Machine, Transmit, TransmitBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Sleep;

pub use self::builder::Builder;
pub use self::dht::Dht;
pub use self::events::{Events, Message, SwarmEvent};
pub use self::fetch::Fetch;
pub use self::handle::{Peer, Swarm};
pub use self::topic::{Published, Topic, TopicEvent, TopicEvents};

use self::command::Command;
use self::lan::Lan;
use self::lanes::Lanes;
use self::limits::{COMMANDS_PER_TURN, CORK, INTERFACES_EVERY, LAST_WORDS, TRANSMITS_PER_TURN};
use self::shared::{Changes, Ending, Shared, Wish};
use self::subscriber::Subscriber;
use crate::clock;
#[cfg(feature = "http")]
use crate::discovery::Task;
#[cfg(feature = "http")]
use crate::driver::source::{Interest, Sources, Us};
use crate::seeds::Seeds;
use crate::udp::{Buffers, Sent, Udp};
use crate::v12::{LAN_LINK, Node, NodeStats};
use crate::{DialError, DialId, FetchError, FetchId, PeerId, TopicId, Unsent};

/// What a node and its socket count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The node's own counters.
    pub node: NodeStats,
    /// Bytes that the kernel buffers for receiving.
    pub receive_buffer: usize,
    /// The datagrams that one sending call takes; 1 where the system has no segmentation offload.
    pub segments: usize,
    /// Batches that the system refused to send.
    pub send_errors: u64,
    /// Receiving calls that failed.
    pub receive_errors: u64,
    /// Multicast joins and beacons that failed, or 1 if multicast could not be set up at all.
    pub lan_errors: u64,
    /// Messages that were accepted and then could not be sent: their peer left, or takes only smaller ones.
    pub dropped: u64,
    /// Copies of broadcasts and publications that were not sent because their peer has a full queue and takes too
    /// little to be waited for. Those that [`Swarm::try_broadcast`] leaves out are not among them.
    pub skipped: u64,
}

/// The task of a node that was bound by [`Builder::bind_manual`].
#[derive(Debug)]
#[must_use = "a node does nothing until its driver runs"]
pub struct Driver {
    node: Node,
    shared: Arc<Shared>,
    closes: Closes,
    requests: mpsc::Receiver<Command>,
    /// A command that was received by waiting for one.
    request: Option<Command>,
    outcome: watch::Sender<Option<Unsent>>,
    ending: Option<End>,

    socket: Udp,
    buffers: Buffers,
    out: TransmitBuf,
    /// A batch that the socket had no room for, and how much of it left.
    held: Option<(Transmit, usize)>,
    send_errors: u64,

    lan: Option<Lan>,
    lan_failed: bool,
    addresses: Vec<SocketAddrV4>,
    addresses_due: Instant,

    lanes: Lanes,
    topics: BTreeMap<TopicId, Wish>,
    seeds: Seeds<SocketAddr>,
    #[cfg(feature = "http")]
    sources: Sources,
    dials: BTreeMap<DialId, oneshot::Sender<Result<PeerId, DialError>>>,
    fetches: BTreeMap<FetchId, oneshot::Sender<Result<Bytes, FetchError>>>,

    subscribers: Vec<Subscriber>,
    /// Set while a subscriber has no room: until when it is waited for.
    stall: Option<Instant>,
    /// Since when sending waits for more to send.
    corked: Option<Instant>,
    unsent: u64,
}

/// However the driver ends, no handle waits for it from then on.
#[derive(Debug)]
struct Closes(Arc<Shared>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The node is ending.
#[derive(Debug, Clone, Copy)]
struct End {
    /// When the time is over.
    at: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The node is given what waits in the outboxes.
    Collect,
    /// The node sends what it has.
    Drain,
    /// The node has said goodbye; what the socket has not taken when the time is over is lost.
    Leave,
}

impl Driver {
    #[cfg_attr(feature = "http", expect(clippy::too_many_arguments, reason = "called once, by the builder"))]
    fn new(
        node: Node,
        socket: Udp,
        lan: bool,
        seeds: Vec<SocketAddr>,
        #[cfg(feature = "http")] sources: Sources,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Command>,
        outcome: watch::Sender<Option<Unsent>>,
    ) -> Self {
        let now = clock::now();
        let lan = lan.then(Lan::open);
        let [byte, ..] = *shared.id.as_bytes();
        Self {
            out: TransmitBuf::new(socket.max_segments()),
            held: None,
            send_errors: 0,
            lan_failed: matches!(lan, Some(Err(_))),
            lan: lan.and_then(Result::ok),
            addresses: Vec::new(),
            addresses_due: now,
            lanes: Lanes::new(shared.max_message),
            topics: BTreeMap::new(),
            seeds: Seeds::new(seeds, byte, now),
            #[cfg(feature = "http")]
            sources,
            dials: BTreeMap::new(),
            fetches: BTreeMap::new(),
            subscribers: Vec::new(),
            stall: None,
            corked: None,
            unsent: 0,
            node,
            closes: Closes(Arc::clone(&shared)),
            shared,
            requests,
            request: None,
            outcome,
            ending: None,
            socket,
            buffers: Buffers::default(),
        }
    }

    /// Runs the node until it ends: after [`Swarm::shutdown`], or once the last [`Swarm`] is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the node at once and without goodbyes.
    pub async fn run(mut self) {
        let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        loop {
            let now = clock::now();
            let more = self.turn(now);
            if self.is_over(now) {
                break;
            }
            match more {
                // Others on this thread, and the runtime's own look at the sockets, come in between.
                true => tokio::task::yield_now().await,
                false => self.wait(sleep.as_mut()).await,
            }
        }
        let Self { socket, lan, closes, lanes, unsent, outcome, .. } = self;
        let pending = u64::try_from(lanes.pending()).unwrap_or(u64::MAX);
        // Whoever waits for the end may bind the port again, and gets no other answer than that it has come.
        drop((socket, lan, closes));
        outcome.send_replace(Some(Unsent { messages: unsent.saturating_add(pending) }));
    }

    /// One turn. Returns whether there is more to do at once.
    fn turn(&mut self, now: Instant) -> bool {
        let mut more = false;
        if self.stall.is_none() {
            more |= self.receive(now);
        }
        if self.node.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            self.node.handle_timeout(now);
        }
        self.keep_house(now);
        self.take_changes(now);
        #[cfg(feature = "http")]
        self.take_candidates(now);
        self.lanes.keep_time(now);
        self.lanes.visit(&mut self.node, now);
        let taken = self.take_commands(now);
        more |= taken == COMMANDS_PER_TURN;
        self.end(now);
        if taken > 0 && self.is_corked(now) {
            more = true;
        } else {
            self.corked = None;
            more |= self.transmit(now);
        }
        more |= self.pass_events(now);
        more || (self.lanes.has_work() && !self.node.is_congested())
    }

    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>) {
        let deadline = self.deadline();
        if let Some(at) = deadline
            && sleep.deadline().into_std() != at
        {
            sleep.as_mut().reset(at.into());
        }
        let room = self.stall.map(|_| self.subscribers.iter().find(|s| s.is_full()).map(Subscriber::room));
        let receives = self.stall.is_none();
        let lan = self.lan.as_ref().filter(|_| receives);
        #[cfg(feature = "http")]
        let sources = &mut self.sources;
        #[cfg(feature = "http")]
        let candidate = std::future::poll_fn(|cx| sources.poll_ready(cx));
        #[cfg(not(feature = "http"))]
        let candidate = std::future::pending::<()>();
        tokio::select! {
            // Whichever it is, the next turn looks at everything.
            biased;
            () = self.shared.woken() => {}
            request = self.requests.recv(), if !self.node.is_congested() => self.request = request,
            // Errors of these are those of the runtime's end.
            _ = self.socket.readable(), if receives => {}
            _ = self.socket.writable(), if self.held.is_some() => {}
            () = sleep, if deadline.is_some() => {}
            () = option(lan.map(Lan::readable)) => {}
            () = option(room.map(room_or_none)) => {}
            () = candidate => {}
        }
    }

    /// When to wake without any other cause.
    fn deadline(&self) -> Option<Instant> {
        let node = self.node.poll_timeout().map(|deadline| deadline.at);
        let end = self.ending.map(|end| end.at);
        // Seeds and interfaces are of no interest to a node that ends.
        let house = match self.ending {
            None => [Some(self.addresses_due), self.seeds.deadline()],
            Some(_) => [None; 2],
        };
        [node, end, self.stall, self.lanes.deadline()].into_iter().chain(house).flatten().min()
    }

    fn receive(&mut self, now: Instant) -> bool {
        let Self { node, socket, buffers, lan, .. } = self;
        // What is refused is counted in the node.
        let mut more = socket.receive(buffers, |datagram| _ = node.handle_datagram(datagram, now));
        if let Some(lan) = lan {
            more |= lan.receive(|datagram| _ = node.handle_datagram(datagram, now));
        }
        more
    }

    /// The interfaces, the seeds and the fetches that nobody waits for any more.
    fn keep_house(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        if self.addresses_due <= now {
            self.addresses_due = now.checked_add(INTERFACES_EVERY).unwrap_or(now);
            self.follow_interfaces(now);
        }
        let connected = self.lanes.iter().next().is_some();
        for addr in self.seeds.due(connected, now) {
            // A seed that cannot be dialled now is dialled again after the pause.
            let _ = self.node.dial(*addr, now);
        }
        let Self { fetches, node, .. } = self;
        fetches.retain(|id, reply| {
            let wanted = !reply.is_closed();
            if !wanted {
                node.cancel_fetch(*id, now);
            }
            wanted
        });
    }

    fn follow_interfaces(&mut self, now: Instant) {
        let SocketAddr::V4(bound) = self.socket.local() else {
            return;
        };
        let addresses = lan::addresses(bound);
        if let Some(lan) = &mut self.lan {
            let interfaces: Vec<Ipv4Addr> = addresses.iter().map(|addr| *addr.ip()).collect();
            lan.follow(&interfaces);
        }
        if addresses != self.addresses {
            self.node.set_local_addresses(&addresses, now);
            self.addresses = addresses;
        }
        #[cfg(feature = "http")]
        if !self.sources.is_empty() {
            let addrs = self.addresses.iter().copied().map(SocketAddr::V4).collect();
            let us = Us { port: bound.port(), record: None, addrs };
            let nodes = Interest { announce: true, lookup: true };
            self.sources.want(|wanted| (wanted.us, wanted.nodes) = (us, nodes));
        }
    }

    /// Dials whom the sources found.
    #[cfg(feature = "http")]
    fn take_candidates(&mut self, now: Instant) {
        while let Some(candidate) = self.sources.take() {
            let is_wanted = match candidate.task {
                Task::Lookup(topic) => self.topics.get(&topic).is_some_and(|wish| wish.lookup),
                Task::LookupNodes => true,
                _ => false,
            };
            if is_wanted && self.ending.is_none() {
                self.node.suggest(&candidate.addrs, now);
            }
        }
    }

    /// Takes what the handles left without waiting for an answer.
    fn take_changes(&mut self, now: Instant) {
        let Changes { ending, topics, subscribers, ready } = self.shared.take();
        if let Some(topics) = topics {
            for topic in self.topics.keys().filter(|topic| !topics.contains_key(topic)) {
                self.node.leave(topic, now);
            }
            self.subscribers.retain(|s| s.topic().is_none_or(|topic| topics.contains_key(topic)));
            for (topic, wish) in topics.iter().filter(|(topic, wish)| self.topics.get(topic) != Some(wish)) {
                // The handles allow no more topics than the node does.
                let _ = self.node.join(*topic, wish.announce, wish.lookup, now);
            }
            self.topics = topics;
            #[cfg(feature = "http")]
            {
                let how = |wish: &Wish| Interest { announce: wish.announce, lookup: wish.lookup };
                let topics = self.topics.iter().map(|(topic, wish)| (*topic, how(wish))).collect();
                self.sources.want(|wanted| wanted.topics = topics);
            }
        }
        for mut subscriber in subscribers {
            if subscriber.topic().is_none_or(|topic| self.topics.contains_key(topic)) {
                subscriber.catch_up(&self.lanes, &self.shared);
                self.subscribers.push(subscriber);
            }
        }
        self.lanes.ready(ready);
        let (end, grace) = match (ending, self.ending) {
            (Some(Ending::Abort), _) => (true, Duration::ZERO),
            (Some(Ending::Shutdown(grace)), None) => (true, grace),
            _ => (false, Duration::ZERO),
        };
        if end {
            let stage = self.ending.map_or(Stage::Collect, |end| end.stage);
            // Beyond the range of the clock is no limit at all; a day is close enough.
            let at = now.checked_add(grace).unwrap_or(now + Duration::from_secs(86_400));
            self.ending = Some(End { at, stage });
            self.shared.close();
            self.lanes.collect();
        }
    }

    /// Returns how many there were.
    fn take_commands(&mut self, now: Instant) -> usize {
        for taken in 0..COMMANDS_PER_TURN {
            if self.node.is_congested() {
                return taken;
            }
            let Some(command) = self.request.take().or_else(|| self.requests.try_recv().ok()) else {
                return taken;
            };
            self.apply(command, now);
        }
        COMMANDS_PER_TURN
    }

    /// Whether sending waits for the callers that have just been answered: what they ask for next can leave by the same
    /// call. Without it a loop that awaits each broadcast makes one call per message.
    fn is_corked(&mut self, now: Instant) -> bool {
        let since = *self.corked.get_or_insert(now);
        self.ending.is_none() && now.saturating_duration_since(since) < CORK
    }

    fn apply(&mut self, command: Command, now: Instant) {
        // A reply that nobody waits for is dropped.
        match command {
            Command::Dial { addr, reply } => match self.node.dial(addr, now) {
                Ok(id) => drop(self.dials.insert(id, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Broadcast { topic, data, permit, reply } => {
                // What the caller sent before is in the outboxes by now.
                self.lanes.ready(self.shared.take_ready());
                self.lanes.broadcast((topic, data), permit, reply, &mut self.node, now);
            }
            Command::Store { key, value, reply } => drop(reply.send(self.node.store(key, value, now))),
            Command::Fetch { key, timeout, reply } => match self.node.fetch(key, timeout, now) {
                Ok(id) => drop(self.fetches.insert(id, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Peers(reply) => drop(reply.send(self.node.peers())),
            Command::Stats(reply) => drop(reply.send(self.stats())),
            Command::Disconnect { peer, reply } => {
                self.node.disconnect(&peer, now);
                let _ = reply.send(());
            }
            Command::Forbid { peer, ip } => self.node.forbid(&peer, ip, now),
            Command::ExchangePeers { peer, reply } => {
                self.node.exchange_peers(peer.as_ref(), now);
                let _ = reply.send(());
            }
            Command::Introduce { target, reply } => drop(reply.send(self.node.request_introduction(target, now))),
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            node: self.node.stats(),
            receive_buffer: self.socket.receive_buffer(),
            segments: self.socket.max_segments(),
            send_errors: self.send_errors,
            receive_errors: self.socket.receive_errors,
            lan_errors: self.lan.as_ref().map_or(u64::from(self.lan_failed), |lan| lan.errors),
            dropped: self.lanes.dropped,
            skipped: self.lanes.skipped,
        }
    }

    /// Brings a node that is to end closer to its end.
    fn end(&mut self, now: Instant) {
        let Some(end) = &mut self.ending else { return };
        let over = end.at <= now;
        if end.stage == Stage::Collect && (over || self.lanes.pending() == 0) {
            end.stage = Stage::Drain;
            self.node.shutdown(now);
        }
        if end.stage == Stage::Drain && over {
            *end = End { at: now + LAST_WORDS, stage: Stage::Leave };
            self.node.abort(now);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ending.is_some_and(|end| {
            let left = self.node.is_closed() && self.held.is_none();
            left || (end.stage == Stage::Leave && end.at <= now)
        })
    }

    fn transmit(&mut self, now: Instant) -> bool {
        for _ in 0..TRANSMITS_PER_TURN {
            let (transmit, from) = match self.held.take() {
                Some(held) => held,
                None => {
                    self.out.clear();
                    match self.node.poll_transmit(&mut self.out, now) {
                        Some(transmit) => (transmit, 0),
                        None => return false,
                    }
                }
            };
            let failed = if transmit.path.link == LAN_LINK {
                self.lan.as_mut().and_then(|lan| lan.send(&self.out, &transmit).err())
            } else {
                match self.socket.send(&self.out, &transmit, from) {
                    Sent::Done => None,
                    Sent::Blocked { from } => {
                        self.held = Some((transmit, from));
                        return false;
                    }
                    Sent::Failed(kind) => {
                        self.send_errors = self.send_errors.saturating_add(1);
                        Some(kind)
                    }
                }
            };
            if let Some(kind) = failed {
                self.node.handle_send_error(transmit.path, kind, now);
            }
        }
        true
    }
}

/// The future if there is one, else one that resolves at once: a subscriber may have read on by now.
async fn room_or_none(room: Option<impl Future<Output = ()>>) {
    if let Some(room) = room {
        room.await;
    }
}

/// The future if there is one, else one that never resolves.
async fn option<F: Future>(future: Option<F>) {
    match future {
        Some(future) => drop(future.await),
        None => std::future::pending().await,
    }
}
