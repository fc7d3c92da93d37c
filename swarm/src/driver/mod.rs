//! The tokio driver: one task that owns the node and its sockets, and the handles that talk to it.
//!
//! Everything that touches the outside world is here: sockets, the clock, the task. Each turn of the task takes in what
//! the sockets have, lets timers fire, lets whoever was given something answer, takes what the handles want, visits every
//! session that something happened in, and sends; every step has a budget. Then it waits, for the first of: a handle, the node's deadline, a datagram, or (while one batch could not be sent) room in the socket.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Driver`]: the turn |
//! | `session.rs` | one session: between its handles and its state machine |
//! | `conn.rs`, `pipe.rs` | what handles and the task share, for a session and for a stream |
//! | `services.rs` | who takes streams and requests of which name |
//! | `subscriber.rs`, `queue.rs` | streams of events |
//! | `handle.rs`, `topic.rs`, `stream.rs`, `request.rs`, `messages.rs`, `events.rs` | the handles |
//! | `builder.rs`, `target.rs` | how a node starts, whom it dials |
//! | `lan.rs` | multicast |
//! | `limits.rs` | every bound |

#![expect(clippy::disallowed_methods, reason = "the only I/O")]

mod builder;
mod command;
mod conn;
mod events;
mod handle;
mod lan;
mod limits;
mod messages;
mod pipe;
mod queue;
mod request;
mod services;
mod session;
mod shared;
mod stream;
mod subscriber;
mod target;
mod topic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use peer::Handle;
use structs::{Machine, Path, Transmit, TransmitBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Sleep;

pub use self::builder::Builder;
pub use self::events::{Events, Message, SwarmEvent};
pub use self::handle::{Peer, Swarm};
pub use self::messages::{Datagrams, Messages};
pub use self::queue::Overflow;
pub use self::request::{Answer, Inbound, Request, Requests, Responding};
pub use self::stream::{Incoming, Stream};
pub use self::target::{DialTarget, ParseTargetError};
pub use self::topic::{Published, Topic, TopicEvent, TopicEvents};

use self::builder::NO_GRACE;
use self::command::Command;
use self::conn::{Conn, Gone};
use self::lan::Lan;
use self::limits::{ASLEEP, COMMANDS_PER_TURN, INTERFACES_EVERY, LAST_WORDS, PATIENCE, STALL, TRANSMITS_PER_TURN};
use self::session::{Session, Visit, earlier};
use self::shared::{Changes, Ending, Shared, Wish};
use self::subscriber::{Roster, Subscriber};
use crate::node::{self, Event, LAN_LINK, Node, Publication};
use crate::seeds::Seeds;
use crate::udp::{Sent, Udp};
use crate::{
    DialError, DialId, DisconnectReason, PeerId, PeerInfo, Proof, Security, SendError, TopicId, Unsent, clock,
};

/// What a node and its sockets count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The node's own counters.
    pub node: node::Stats,
    /// Bytes that the kernel buffers for receiving, of the first socket.
    pub receive_buffer: usize,
    /// The datagrams that one sending call takes; 1 where the system has no segmentation offload.
    pub segments: usize,
    /// Batches that the system refused to send.
    pub send_errors: u64,
    /// Receiving calls that failed.
    pub receive_errors: u64,
    /// Multicast joins and beacons that failed, or 1 if multicast could not be set up at all.
    pub lan_errors: u64,
    /// Messages that were accepted and could not be sent: their peer takes none or only shorter ones, which it said too
    /// late, or left before.
    pub dropped: u64,
    /// Streams and requests that are open or wait to be, of all sessions.
    pub streams: usize,
}

/// The task of a node that was bound by [`Builder::bind_manual`].
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
    unsent: u64,
    /// Messages that were accepted in sessions that are over, and could not be sent.
    dropped: u64,

    sockets: Vec<Udp>,
    out: TransmitBuf,
    /// A batch that its socket had no room for, and how much of it left.
    held: Option<(Transmit, usize)>,
    send_errors: u64,

    lan: Option<Lan>,
    lan_failed: bool,
    house_due: Instant,
    /// When the last turn ended, and until when it meant to wait.
    slept: Option<Instant>,

    sessions: BTreeMap<Handle, Session>,
    roster: Roster,
    /// Sessions to be visited.
    work: Vec<Handle>,
    /// Sessions whose handles want something.
    ready: Vec<Arc<Conn>>,
    /// Sessions with datagrams that wait for others to leave.
    waiting: Vec<Handle>,
    /// Sessions with messages that nobody has taken.
    unread: BTreeSet<Handle>,
    /// Sessions that were visited since their memory was looked at.
    used: Vec<Handle>,
    /// No request has to be given up before.
    due: Option<Instant>,
    scratch: Vec<u8>,

    topics: BTreeMap<TopicId, Wish>,
    seeds: Seeds<DialTarget>,
    dials: BTreeMap<DialId, oneshot::Sender<Result<PeerId, DialError>>>,
    publications: VecDeque<Waiting>,
    subscribers: Vec<Subscriber>,
    /// Set while a subscriber has no room: until when messages wait for it.
    stall: Option<Instant>,
    /// A subscriber had no room when the last turn ended.
    paused: bool,
    #[cfg(feature = "v12")]
    legacy: Option<crate::v12::Swarm>,
}

/// A publication that waits for room at some neighbours.
#[derive(Debug)]
struct Waiting {
    publication: Publication,
    until: Instant,
    reply: oneshot::Sender<Result<usize, SendError>>,
    _permit: OwnedSemaphorePermit,
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
    /// The sessions are given what waits in the outboxes.
    Collect,
    /// The sessions send what they have.
    Drain,
    /// Goodbyes leave; what the sockets have not taken when the time is over is lost.
    Leave,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("node", &self.node)
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl Driver {
    #[expect(clippy::too_many_arguments, reason = "called once, by the builder")]
    fn new(
        node: Node,
        sockets: Vec<Udp>,
        lan: bool,
        seeds: Vec<DialTarget>,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Command>,
        outcome: watch::Sender<Option<Unsent>>,
        #[cfg(feature = "v12")] legacy: Option<crate::v12::Swarm>,
    ) -> Self {
        let now = clock::now();
        let lan = lan.then(Lan::open);
        let [byte, ..] = *shared.id.as_bytes();
        Self {
            out: TransmitBuf::new(sockets.iter().map(Udp::max_segments).min().unwrap_or(1)),
            held: None,
            send_errors: 0,
            lan_failed: matches!(lan, Some(Err(_))),
            lan: lan.and_then(Result::ok),
            house_due: now,
            slept: None,
            sessions: BTreeMap::new(),
            roster: Roster::new(Arc::clone(&shared)),
            work: Vec::new(),
            ready: Vec::new(),
            waiting: Vec::new(),
            unread: BTreeSet::new(),
            used: Vec::new(),
            due: None,
            scratch: Vec::new(),
            topics: BTreeMap::new(),
            seeds: Seeds::new(seeds, byte, now),
            dials: BTreeMap::new(),
            publications: VecDeque::new(),
            subscribers: Vec::new(),
            stall: None,
            paused: false,
            node,
            closes: Closes(Arc::clone(&shared)),
            shared,
            requests,
            request: None,
            outcome,
            ending: None,
            unsent: 0,
            dropped: 0,
            sockets,
            #[cfg(feature = "v12")]
            legacy,
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
            let mut now = clock::now();
            let (mut more, came) = self.take_in(now);
            if came {
                others().await;
                now = clock::now();
            }
            more |= self.give_out(now);
            if self.is_over(now) {
                break;
            }
            match more {
                // Others on this thread, and the runtime's own look at the sockets, come in between.
                true => tokio::task::yield_now().await,
                false => self.wait(sleep.as_mut()).await,
            }
        }
        let Self { sockets, lan, closes, sessions, outcome, mut unsent, .. } = self;
        for session in sessions.into_values() {
            unsent += session.pending();
            session.end(Gone::Closed);
        }
        // Whoever waits for the end may bind the port again, and gets no other answer than that it has come.
        drop((sockets, lan, closes));
        outcome.send_replace(Some(Unsent { messages: unsent }));
    }

    /// The first half of a turn: whatever there is goes to whoever it is for. Returns whether there is more, and
    /// whether anything came that somebody may answer.
    fn take_in(&mut self, now: Instant) -> (bool, bool) {
        if self.slept.take().is_some_and(|until| now.saturating_duration_since(until) > ASLEEP) {
            self.node.set_epoch(clock::epoch());
            self.node.handle_resume(now);
        }
        let (mut more, came) = self.receive(now);
        if self.node.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            self.node.handle_timeout(now);
        }
        self.keep_house(now);
        self.take_changes(now);
        more |= self.take_commands(now) == COMMANDS_PER_TURN;
        if came {
            self.collect_work();
            self.visit(now);
            self.pass_messages(now);
        }
        (more, came)
    }

    /// The second half of a turn: what the handles want, and all packets. Returns whether there is more to do at once.
    fn give_out(&mut self, now: Instant) -> bool {
        self.collect_work();
        self.visit(now);
        self.publish_waiting(now);
        self.pass_messages(now);
        self.end(now);
        let room = self.transmit(now);
        // What sending brought about.
        self.collect_work();
        room || !self.work.is_empty()
    }

    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>) {
        let deadline = self.deadline();
        // Most deadlines move on long before they come. An alarm that is set too early costs one turn, but setting it
        // anew costs as much in every turn.
        if let Some(at) = deadline
            && (sleep.is_elapsed() || at < sleep.deadline().into_std())
        {
            sleep.as_mut().reset(at.into());
        }
        self.slept = deadline;
        let Self { shared, requests, request, sockets, held, lan, subscribers, paused, .. } = self;
        let blocked = held.as_ref().and_then(|(transmit, _)| socket_for(sockets, &transmit.path));
        let full = subscribers.iter().find(|subscriber| subscriber.is_full());
        if *paused && full.is_none() {
            // It has read on by now.
            return;
        }
        let mut room = std::pin::pin!(full.map(Subscriber::room));
        // Whichever it is, the next turn looks at everything. What is ready first is asked first, and the others need not
        // be asked then.
        let mut poll = |cx: &mut Context<'_>| {
            if shared.ready.poll_woken(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Poll::Ready(command) = requests.poll_recv(cx) {
                *request = command;
                return Poll::Ready(());
            }
            let ready = sockets.iter().enumerate().any(|(at, socket)| {
                let blocked = blocked == Some(at);
                socket.poll_readable(cx).is_ready() || (blocked && socket.poll_writable(cx).is_ready())
            });
            let ready = ready
                || (deadline.is_some() && sleep.as_mut().poll(cx).is_ready())
                || lan.as_ref().is_some_and(|lan| lan.poll_readable(cx).is_ready())
                || room.as_mut().as_pin_mut().is_some_and(|room| room.poll(cx).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        };
        std::future::poll_fn(move |cx| poll(cx)).await;
    }

    /// When to wake without any other cause.
    fn deadline(&self) -> Option<Instant> {
        let node = self.node.poll_timeout().map(|deadline| deadline.at);
        let end = self.ending.map(|end| end.at);
        let publications = self.publications.front().map(|waiting| waiting.until);
        // Seeds and interfaces are of no interest to a node that ends.
        let house = match self.ending {
            None => [Some(self.house_due), self.seeds.deadline()],
            Some(_) => [None; 2],
        };
        [node, end, self.stall, self.due, publications].into_iter().chain(house).flatten().min()
    }

    /// Returns whether there is more, and whether anything came.
    fn receive(&mut self, now: Instant) -> (bool, bool) {
        let Self { node, sockets, lan, .. } = self;
        let (mut more, mut came) = (false, false);
        for socket in sockets {
            // One call: sessions are visited before the next, so that what they hold stays little. What is refused is
            // counted in the node.
            more |= socket.receive(|datagram| {
                came = true;
                let _ = node.handle_datagram(datagram, now);
            });
        }
        if let Some(lan) = lan {
            more |= lan.receive(|datagram| _ = node.handle_datagram(datagram, now));
        }
        (more, came)
    }

    /// The interfaces, the seeds and what nobody waits for any more.
    fn keep_house(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        if self.house_due <= now {
            self.house_due = now.checked_add(INTERFACES_EVERY).unwrap_or(now);
            if let Some(lan) = &mut self.lan {
                let bound: Vec<SocketAddr> = self.sockets.iter().map(Udp::local).collect();
                let interfaces = lan::interfaces(&bound);
                lan.follow(&interfaces);
                self.node.set_interfaces(&interfaces, now);
            }
            self.shared.services.sweep();
            for handle in std::mem::take(&mut self.used) {
                if let Some(session) = self.sessions.get_mut(&handle) {
                    session.tidy();
                }
            }
            for (handle, session) in self.sessions.iter_mut().filter(|(_, session)| session.streams() > 0) {
                self.node.with(*handle, now, |peer, _| session.sweep(peer));
            }
            self.dials.retain(|_, reply| !reply.is_closed());
        }
        let due = self.seeds.due(!self.roster.is_empty(), now).to_vec();
        due.iter().for_each(|seed| self.dial_target(seed));
    }

    /// Dials a peer that nobody waits for, once its names are looked up. If that fails now, it is tried again later.
    fn dial_target(&self, target: &DialTarget) {
        let (target, commands) = (target.clone(), self.shared.commands.clone());
        tokio::spawn(async move {
            if let Ok((peer, addrs)) = target.resolve().await {
                let (reply, _nobody) = oneshot::channel();
                let _ = commands.send(Command::Dial { peer, addrs, reply }).await;
            }
        });
    }

    /// Takes what the handles left without waiting for an answer.
    fn take_changes(&mut self, now: Instant) {
        let Changes { ending, topics, subscribers, seeds } = self.shared.take();
        for seed in seeds {
            self.dial_target(&seed);
            self.seeds.add(seed, now);
        }
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
        }
        for mut subscriber in subscribers {
            if subscriber.topic().is_none_or(|topic| self.topics.contains_key(topic)) {
                subscriber.catch_up(&self.roster);
                self.subscribers.push(subscriber);
            }
        }
        let (end, grace) = match (ending, self.ending) {
            (Some(Ending::Abort), _) => (true, Duration::ZERO),
            (Some(Ending::Shutdown(grace)), None) => (true, grace),
            _ => (false, Duration::ZERO),
        };
        if end {
            let stage = self.ending.map_or(Stage::Collect, |end| end.stage);
            // Beyond the range of the clock is no limit at all; a day is close enough.
            let at = now.checked_add(grace).unwrap_or(now + Duration::from_secs(86_400));
            if self.ending.is_none_or(|end| end.stage != Stage::Leave) {
                self.ending = Some(End { at, stage });
            }
        }
    }

    /// Returns how many there were.
    fn take_commands(&mut self, now: Instant) -> usize {
        for taken in 0..COMMANDS_PER_TURN {
            let Some(command) = self.request.take().or_else(|| self.requests.try_recv().ok()) else {
                return taken;
            };
            self.apply(command, now);
        }
        COMMANDS_PER_TURN
    }

    fn apply(&mut self, command: Command, now: Instant) {
        // A reply that nobody waits for is dropped.
        match command {
            Command::Dial { peer, addrs, reply } => match self.node.dial(peer, &addrs, now) {
                Ok(id) => drop(self.dials.insert(id, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Publish { topic, data, permit, reply } => self.publish((topic, data), permit, reply, now),
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Stats(reply) => drop(reply.send(self.stats())),
            Command::Disconnect { peer, grace, reply } => {
                if let Some(handle) = self.node.session(&peer) {
                    // What was accepted goes first.
                    self.list(handle);
                    self.visit(now);
                    if let Some(session) = self.sessions.get(&handle) {
                        session.conn.refuse();
                        self.shared.disconnect(&session.conn, session.connection.addr);
                    }
                    self.node.disconnect(&peer, grace, now);
                }
                let _ = reply.send(());
            }
            Command::Resume => self.node.handle_resume(now),
        }
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let info = |(_, id, session): (Handle, PeerId, &peer::Peer)| {
            let stats = session.stats();
            let addr = session.path()?.remote;
            Some(PeerInfo {
                id,
                addr,
                addrs: stats.paths,
                rtt: stats.rtt.unwrap_or_default(),
                proof: Proof::Key,
                security: Security::Native,
                in_mesh: false,
                queued: stats.buffered_bytes,
                in_flight: usize::try_from(stats.in_flight).unwrap_or(usize::MAX),
                window: usize::try_from(stats.window).unwrap_or(usize::MAX),
                sent: stats.sent,
                received: stats.received,
            })
        };
        let mut peers: Vec<PeerInfo> = self.node.sessions().filter_map(info).collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }

    fn stats(&self) -> Stats {
        Stats {
            node: self.node.stats(),
            receive_buffer: self.sockets.first().map_or(0, Udp::receive_buffer),
            segments: self.sockets.iter().map(Udp::max_segments).min().unwrap_or(1),
            send_errors: self.send_errors,
            receive_errors: self.sockets.iter().map(|socket| socket.receive_errors).sum(),
            lan_errors: self.lan.as_ref().map_or(u64::from(self.lan_failed), |lan| lan.errors),
            dropped: self.dropped + self.sessions.values().map(|session| session.dropped).sum::<u64>(),
            streams: self.sessions.values().map(Session::streams).sum(),
        }
    }

    /// Finds the sessions that something happened in.
    fn collect_work(&mut self) {
        while let Some(event) = self.node.poll_event() {
            self.on_event(event);
        }
        let mut ready = std::mem::take(&mut self.ready);
        self.shared.ready.take(&mut ready);
        for conn in ready.drain(..) {
            self.list(conn.session);
        }
        self.ready = ready;
    }

    fn list(&mut self, handle: Handle) {
        if let Some(session) = self.sessions.get_mut(&handle)
            && !std::mem::replace(&mut session.listed, true)
        {
            self.work.push(handle);
        }
    }

    /// Visits the sessions with work.
    fn visit(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let late = |session: &Session| session.deadline().is_some_and(|at| at <= now);
            let late: Vec<Handle> =
                self.sessions.iter().filter(|(_, session)| late(session)).map(|(h, _)| *h).collect();
            late.into_iter().for_each(|handle| self.list(handle));
            self.sessions
                .values()
                .for_each(|session| earlier(&mut self.due, session.deadline().filter(|at| *at > now)));
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.drain(..).for_each(|handle| self.list(handle));
        self.waiting = waiting;
        let mut work = std::mem::take(&mut self.work);
        for handle in work.drain(..) {
            let Some(session) = self.sessions.get_mut(&handle) else { continue };
            session.listed = false;
            let protocols = self.node.protocols();
            let mut visit = Visit { protocols, services: &self.shared.services, scratch: &mut self.scratch, now };
            self.node.with(handle, now, |peer, _| session.visit(peer, &mut visit));
            if session.has_datagrams() {
                self.waiting.push(handle);
            }
            if session.readable {
                self.unread.insert(handle);
            }
            if !std::mem::replace(&mut session.used, true) {
                self.used.push(handle);
            }
            earlier(&mut self.due, session.deadline());
        }
        self.work = work;
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Session { session: handle, event } => {
                if let Some(session) = self.sessions.get_mut(&handle) {
                    session.events.push(event);
                    if !std::mem::replace(&mut session.listed, true) {
                        self.work.push(handle);
                    }
                }
            }
            Event::Connected { session, connection } => {
                let max = self.node.max_message();
                let conn = Arc::new(Conn::new(connection.peer, session, max, Arc::clone(&self.shared.ready)));
                self.shared.connect(Arc::clone(&conn));
                let again = self.roster.get_mut(&connection.peer).is_some();
                if again {
                    self.left(connection.peer, DisconnectReason::Replaced);
                }
                self.roster.insert(Arc::clone(&conn), connection);
                self.sessions.insert(session, Session::new(conn, connection));
                let event = self.roster.connected(&connection.peer);
                self.pass(event);
            }
            Event::Moved { session, path } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.connection.addr = path.remote;
                    let peer = session.connection.peer;
                    if let Some(present) = self.roster.get_mut(&peer) {
                        present.connection.addr = path.remote;
                    }
                    self.pass(Some(SwarmEvent::Moved { peer, addr: path.remote }));
                }
            }
            Event::Joined { topic, peer, .. } => {
                if let Some(present) = self.roster.get_mut(&peer) {
                    present.topics.insert(topic);
                    let event = self.roster.joined(topic, &peer);
                    self.pass(event);
                }
            }
            Event::Left { topic, peer, .. } => self.left_topic(topic, peer, DisconnectReason::Goodbye(0)),
            Event::Publication { topic, from, data, .. } => {
                let (topic, security) = (Some(topic), Security::Native);
                let message = Message { from, data, topic, authenticated: true, security };
                self.pass(Some(SwarmEvent::Data(message)));
            }
            #[cfg(feature = "v12")]
            Event::V12Key { session, key } => {
                // It proves nothing: acted on by the other wire only where its peer is at the address of this one.
                let session = self.sessions.get(&session).map(|session| session.connection.addr.ip());
                if let (Some(legacy), Some(ip)) = (&self.legacy, session) {
                    legacy.forbid(PeerId::from_bytes(key), ip);
                }
            }
            Event::Disconnected { session, peer, reason, unfinished } => {
                let messages = unfinished.iter().filter(|channel| channel.protocol == self.node.protocols().message);
                self.unsent += messages.map(|channel| channel.account.unsent).sum::<u64>();
                self.on_disconnected(session, peer, reason);
            }
            Event::Dialled { id, peer } => answer(&mut self.dials, &id, Ok(peer)),
            Event::DialFailed { id, error } => answer(&mut self.dials, &id, Err(error)),
            _ => {}
        }
    }

    fn on_disconnected(&mut self, handle: Handle, peer: PeerId, reason: DisconnectReason) {
        let Some(session) = self.sessions.remove(&handle) else { return };
        let pending = session.pending();
        self.unsent += pending;
        self.dropped += pending + session.dropped;
        self.shared.disconnect(&session.conn, session.connection.addr);
        session.end(if self.shared.is_closed() { Gone::Closed } else { Gone::Disconnected });
        // Unless a newer session has taken its place.
        if self.roster.get_mut(&peer).is_some_and(|present| present.conn.session == handle) {
            self.left(peer, reason);
        }
    }

    /// A peer is gone, from its topics too.
    fn left(&mut self, peer: PeerId, reason: DisconnectReason) {
        let topics = self.roster.get_mut(&peer).map(|present| present.topics.clone()).unwrap_or_default();
        for topic in topics {
            self.left_topic(topic, peer, reason);
        }
        self.roster.remove(&peer);
        self.pass(Some(SwarmEvent::Disconnected { peer, reason }));
    }

    fn left_topic(&mut self, topic: TopicId, peer: PeerId, reason: DisconnectReason) {
        if self.roster.get_mut(&peer).is_some_and(|present| present.topics.remove(&topic)) {
            self.pass(Some(SwarmEvent::Left { topic, peer, reason }));
        }
    }

    // ---- events and messages for the application ----

    fn pass(&mut self, event: Option<SwarmEvent>) {
        let Some(event) = event else { return };
        for subscriber in &mut self.subscribers {
            subscriber.pass(&event, &self.roster);
        }
    }

    /// Passes the messages on that no reader has claimed, unless a subscriber that is worth the wait has no room.
    fn pass_messages(&mut self, now: Instant) {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &mut self.subscribers {
            subscriber.catch_up(&self.roster);
        }
        let stalled = self.is_stalled(now);
        self.node.pause_topics(stalled);
        let protocol = self.node.protocols().message;
        let mut after = None;
        while let Some(handle) = self.next_unread(after) {
            after = Some(handle);
            // It is visited when its reader has room, or is gone.
            let Some(session) = self.sessions.get(&handle).filter(|session| session.conn.inbox_room().is_none()) else {
                self.unread.remove(&handle);
                continue;
            };
            let from = session.connection.peer;
            loop {
                if self.is_stalled(now) {
                    self.paused = true;
                    return;
                }
                // Where nobody would get it, it waits in the session.
                if !self.subscribers.iter().any(|subscriber| subscriber.wants_message(&from, None, &self.roster)) {
                    break;
                }
                let mut data = Vec::new();
                let taken = self.node.with(handle, now, |peer, _| peer.recv(protocol, &mut data)).flatten();
                if taken.is_none() {
                    if let Some(session) = self.sessions.get_mut(&handle) {
                        session.readable = false;
                    }
                    self.unread.remove(&handle);
                    break;
                }
                let (data, security) = (Bytes::from(data), Security::Native);
                let message = Message { from, data, topic: None, authenticated: true, security };
                self.pass(Some(SwarmEvent::Data(message)));
            }
        }
        // Who has room again is not waited for any more.
        self.paused = self.is_stalled(now);
    }

    fn next_unread(&self, after: Option<Handle>) -> Option<Handle> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.unread.range((after.map_or(Unbounded, Excluded), Unbounded)).next().copied()
    }

    /// Whether messages wait for a subscriber. One that is full for too long is waited for no longer.
    fn is_stalled(&mut self, now: Instant) -> bool {
        if !self.subscribers.iter().any(Subscriber::is_full) || self.ending.is_some() {
            self.stall = None;
            return false;
        }
        if self.subscribers.iter().any(|s| s.waits_forever() && s.is_full()) {
            // The room is waited for, and no time.
            self.stall = None;
            return true;
        }
        // Counted from the end of this turn: the subscriber could not read while it lasted.
        let until = *self.stall.get_or_insert_with(|| clock::now() + STALL);
        if now < until {
            return true;
        }
        self.subscribers.iter_mut().filter(|s| s.is_full()).for_each(Subscriber::give_up);
        self.stall = None;
        false
    }

    // ---- publications ----

    fn publish(
        &mut self,
        (topic, data): (TopicId, Bytes),
        permit: Option<OwnedSemaphorePermit>,
        reply: oneshot::Sender<Result<usize, SendError>>,
        now: Instant,
    ) {
        let publication = match self.node.publish(&topic, &data, now) {
            Ok(publication) => publication,
            Err(error) => return drop(reply.send(Err(error))),
        };
        match permit.filter(|_| publication.is_waiting()) {
            None => drop(reply.send(Ok(publication.sent()))),
            Some(permit) => {
                let until = now.checked_add(PATIENCE).unwrap_or(now);
                self.publications.push_back(Waiting { publication, until, reply, _permit: permit });
            }
        }
    }

    /// Tries again for the neighbours that had no room.
    fn publish_waiting(&mut self, now: Instant) {
        for _ in 0..self.publications.len() {
            let Some(mut waiting) = self.publications.pop_front() else { return };
            self.node.publish_more(&mut waiting.publication, now);
            if waiting.publication.is_waiting() && now < waiting.until {
                self.publications.push_back(waiting);
            } else {
                let _ = waiting.reply.send(Ok(waiting.publication.sent()));
            }
        }
    }

    // ---- the end, and the sockets ----

    /// Brings a node that is to end closer to its end.
    fn end(&mut self, now: Instant) {
        let Some(end) = &mut self.ending else { return };
        let over = end.at <= now;
        let pending = !self.sessions.values().all(Session::is_drained);
        if end.stage == Stage::Collect && (over || !pending) {
            end.stage = Stage::Drain;
            self.shared.close();
            self.node.shutdown(end.at.saturating_duration_since(now), now);
        }
        if end.stage == Stage::Drain && over {
            *end = End { at: now + LAST_WORDS, stage: Stage::Leave };
            self.node.shutdown(NO_GRACE, now);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ending.is_some_and(|end| {
            let left = self.node.is_closed() && self.held.is_none();
            left || (end.stage == Stage::Leave && end.at <= now)
        })
    }

    /// Sends. Returns whether there is more to send, or room for what could not be handed over before.
    fn transmit(&mut self, now: Instant) -> bool {
        for sent in 0..TRANSMITS_PER_TURN {
            let (transmit, from) = match self.held.take() {
                Some(held) => held,
                None => {
                    self.out.clear();
                    match self.node.poll_transmit(&mut self.out, now) {
                        Some(transmit) => (transmit, 0),
                        None => return sent > 0 && !self.waiting.is_empty(),
                    }
                }
            };
            if transmit.path.link == LAN_LINK {
                // What fails is counted there.
                let _ = self.lan.as_mut().map(|lan| lan.send(&self.out, &transmit));
                continue;
            }
            let at = socket_for(&self.sockets, &transmit.path);
            let Some(socket) = at.and_then(|at| self.sockets.get_mut(at)) else {
                // There is no way to that family: the session hears nothing and tries its other paths.
                self.send_errors += 1;
                continue;
            };
            match socket.send(&self.out, &transmit, from) {
                Sent::Done => {}
                Sent::Blocked { from } => {
                    self.held = Some((transmit, from));
                    return false;
                }
                // As if it were lost on the way, which is what the session is made for.
                Sent::Failed(_) => self.send_errors += 1,
            }
        }
        true
    }
}

/// By which socket a path goes: the one it came in by; for a new one, one that is bound to every interface, or else one
/// that can reach the address.
fn socket_for(sockets: &[Udp], path: &Path) -> Option<usize> {
    let (local, remote) = (path.local, path.remote);
    let fit = |socket: &Udp| {
        let bound = socket.local();
        if bound.is_ipv4() != remote.is_ipv4() {
            return 0;
        }
        let same_port = bound.port() == local.port();
        let same_ip = bound.ip() == local.ip();
        let reaches = bound.ip().is_unspecified() || bound.ip().is_loopback() == remote.ip().is_loopback();
        1 + 8 * u8::from(same_port && (same_ip || bound.ip().is_unspecified()))
            + 4 * u8::from(same_port)
            + 2 * u8::from(reaches)
            + u8::from(bound.ip().is_unspecified())
    };
    let (at, socket) = sockets.iter().enumerate().rev().max_by_key(|(_, socket)| fit(socket))?;
    (fit(socket) > 0).then_some(at)
}

/// Lets every task run that is ready by now. Whoever was given something in the first half of a turn may answer it before
/// the second half: the answer leaves with the acknowledgement, in one packet.
async fn others() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        // Not the runtime's own yielding, which looks at the sockets first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Gives the caller of a finished command its answer. Seeds are dialled for nobody.
fn answer<K: Ord, T>(waiting: &mut BTreeMap<K, oneshot::Sender<T>>, id: &K, result: T) {
    if let Some(reply) = waiting.remove(id) {
        // The caller may have given up.
        let _ = reply.send(result);
    }
}
