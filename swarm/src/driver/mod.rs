//! The tokio driver: one task that owns the node and its sockets, and the handles that talk to it.
//!
//! Everything that touches the outside world is here: sockets, the clock, the task. Each turn of the task takes in what
//! the sockets have, lets timers fire, lets whoever was given something answer, takes what the handles want, visits every
//! session that something happened in, and sends; every step has a budget. Then it waits, for the first of: a handle,
//! the node's deadline, a datagram, or (while one batch could not be sent) room in the socket. What seldom has something, commands
//! and connections and sources, is asked only after it rang a bell.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Driver`]: its state and the turn |
//! | `listening.rs` | sockets that come and go while it runs |
//! | `extra.rs` | sockets for punching, STUN servers |
//! | `busy_poll.rs` | staying awake for an answer that is due any moment |
//! | `wishes.rs`, `house.rs`, `visits.rs`, `presence.rs`, `passing.rs`, `publications.rs`, `sockets.rs`, `ending.rs` | what it does in a turn |
//! | `session.rs`, `session/` | one session: between its handles and its state machine |
//! | `conn.rs`, `pipe.rs`, `call.rs` | what handles and the task share, for a session, for a stream and for a request of ours |
//! | `services.rs`, `bodies.rs` | who takes streams and requests of which name, how much of them |
//! | `subscriber.rs`, `queue.rs` | streams of events |
//! | `handle.rs`, `topic.rs`, `stream.rs`, `request.rs`, `messages.rs`, `events.rs` | the handles |
//! | `addresses.rs` | where peers are, as their owner says and dials have shown |
//! | `builder.rs`, `identity_file.rs`, `bind.rs`, `target.rs` | how a node starts, who it is, whom it dials |
//! | `lan.rs`, `portmap.rs` | multicast; asking the router to forward a port |
//! | `carrier/` | TCP, WebSockets and what the application brings, where UDP does not pass |
//! | `hash_table.rs` | the distributed hash table: where it begins, what handles ask of it |
//! | `relays.rs` | the relays that the owner names, and how it goes with all |
//! | `source/`, `finding.rs` | other ways to find peers, and what the driver has to do with them |
//! | `limits.rs` | every bound |

#![expect(clippy::disallowed_methods, reason = "the only I/O")]

mod addresses;
mod bind;
mod bodies;
mod builder;
mod busy_poll;
mod call;
pub(crate) mod carrier;
mod command;
mod conn;
mod ending;
mod events;
mod extra;
mod finding;
mod handle;
mod hash_table;
mod house;
mod identity_file;
mod lan;
mod limits;
mod listening;
mod messages;
mod passing;
mod pipe;
#[cfg(feature = "portmap")]
mod portmap;
mod presence;
mod publications;
mod queue;
mod relays;
mod request;
mod services;
mod session;
mod shared;
mod sockets;
#[cfg_attr(
    not(any(feature = "mainline", feature = "http", feature = "cache", feature = "mdns")),
    expect(dead_code, reason = "no source is compiled in")
)]
pub(crate) mod source;
mod stream;
mod subscriber;
mod target;
mod topic;
mod visits;
mod wishes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use peer::Handle;
use structs::{Machine, Transmit, TransmitBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Sleep;

pub use self::addresses::{AddressError, Addresses};
pub use self::builder::Builder;
#[cfg(feature = "http")]
pub(crate) use self::builder::{MAX_SERVERS, servers};
pub use self::events::{Events, Message, SwarmEvent};
pub use self::handle::{Dht, Mutable, Peer, Stored, Swarm};
pub use self::identity_file::{IdentityFile, IdentityFileError, WrongIdentity};
pub use self::messages::{Datagrams, Messages};
pub use self::queue::Overflow;
pub use self::request::{Answer, Inbound, Reply, Request, RequestId, Requests, Responding};
#[cfg(feature = "mainline")]
pub use self::source::Mainline;
pub use self::source::{RandomWalk, Strategy, StrategyContext};
pub use self::stream::{Incoming, Stream};
pub use self::target::{DialTarget, ParseTargetError};
pub use self::topic::{Published, Topic, TopicEvent, TopicEvents};
pub use self::wishes::Stats;

use self::busy_poll::BusyPoll;
use self::carrier::{Brought, Carriers, Listener, Transports};
use self::command::Command;
use self::conn::{Conn, Gone};
use self::ending::{Closes, End};
use self::extra::{Extra, Stun};
use self::finding::Searches;
use self::hash_table::HashTable;
use self::lan::Lan;
use self::limits::{ASLEEP, COMMANDS_PER_TURN, SEGMENTS, VISITS_PER_TURN};
use self::listening::Listeners;
use self::publications::Waiting;
use self::relays::{Outward, Relays};
use self::session::Session;
use self::shared::{Shared, Wish};
use self::sockets::socket_for;
use self::source::{Announcer, Sources};
use self::subscriber::{Roster, Subscriber};
use crate::discovery::Progress;
use crate::node::Node;
use crate::seeds::Seeds;
use crate::udp::{Buffers, Udp};
use crate::{DialError, DialId, PeerId, TopicId, Unsent, clock};

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
    /// Requests of peers that were not answered.
    requests_failed: u64,

    sockets: Vec<Udp>,
    extra: Extra,
    buffers: Buffers,
    stun: Stun,
    carriers: Carriers,
    listeners: Listeners,
    transports: Transports,
    out: TransmitBuf,
    /// A batch that its socket had no room for, and how much of it left.
    held: Option<(Transmit, usize)>,
    send_errors: u64,

    lan: Option<Lan>,
    lan_failed: bool,
    table: HashTable,
    sources: Sources,
    announcer: Announcer,
    relays: Relays,
    /// Who writes down whom sessions are open with.
    #[cfg(feature = "cache")]
    keeper: Option<source::Keeper>,
    searches: Searches,
    /// Nobody was connected when the sources were last told.
    was_alone: bool,
    house_due: Instant,
    /// When the last turn ended, and until when it meant to wait.
    slept: Option<Instant>,
    busy_poll: BusyPoll,
    /// Commands, connections, transports and sources had nothing when they were asked, and ring this when they have.
    bell: Waker,
    is_quiet: bool,

    /// Boxed, since the nodes of a tree whose keys rise are half empty.
    sessions: BTreeMap<Handle, Box<Session>>,
    roster: Roster,
    /// Sessions to be visited.
    work: Vec<Handle>,
    /// Sessions whose handles want something.
    ready: Vec<Arc<Conn>>,
    /// Sessions with datagrams that wait for others to leave.
    waiting: Vec<Handle>,
    /// Sessions whose handles wanted more than a visit does.
    unfinished: Vec<Handle>,
    /// Sessions with messages that nobody has taken.
    unread: BTreeSet<Handle>,
    /// Sessions that were visited since their memory was looked at.
    used: VecDeque<Handle>,
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
    /// How many sessions others opened in the first half of this turn.
    arrived: u32,
    #[cfg(feature = "portmap")]
    mapper: Option<portmap::Mapper>,
    #[cfg(feature = "v12")]
    legacy: Option<crate::v12::Swarm>,
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
        (sockets, listeners, transports): (Vec<Udp>, Vec<Listener>, Brought),
        (lan, broadcast): (bool, bool),
        seeds: Vec<DialTarget>,
        stun: Vec<String>,
        (sources, announcer): (Sources, Announcer),
        (bootstrap, cache, progress): (Vec<DialTarget>, Option<PathBuf>, watch::Sender<Vec<Progress>>),
        outward: watch::Sender<Outward>,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Command>,
        outcome: watch::Sender<Option<Unsent>>,
        #[cfg(feature = "cache")] keeper: Option<source::Keeper>,
        #[cfg(feature = "v12")] legacy: Option<crate::v12::Swarm>,
    ) -> Self {
        let now = clock::now();
        let lan = lan.then(|| Lan::open().map(|lan| lan.broadcasting(broadcast)));
        let [byte, ..] = *shared.id.as_bytes();
        Self {
            out: TransmitBuf::new(sockets.iter().map(Udp::max_segments).min().unwrap_or(SEGMENTS)),
            held: None,
            send_errors: 0,
            extra: Extra::default(),
            buffers: Buffers::default(),
            stun: Stun::new(stun, now),
            lan_failed: matches!(lan, Some(Err(_))),
            lan: lan.and_then(Result::ok),
            table: HashTable::new(bootstrap, cache, progress, byte, now),
            sources,
            announcer,
            relays: Relays::new(outward),
            #[cfg(feature = "cache")]
            keeper,
            searches: Searches::default(),
            was_alone: true,
            house_due: now,
            slept: None,
            busy_poll: BusyPoll::new(Duration::ZERO),
            bell: Waker::from(Arc::clone(&shared.ready)),
            is_quiet: false,
            sessions: BTreeMap::new(),
            roster: Roster::new(Arc::clone(&shared)),
            work: Vec::new(),
            ready: Vec::new(),
            waiting: Vec::new(),
            unfinished: Vec::new(),
            unread: BTreeSet::new(),
            used: VecDeque::new(),
            due: None,
            scratch: Vec::new(),
            topics: BTreeMap::new(),
            seeds: Seeds::new(seeds, byte, now),
            dials: BTreeMap::new(),
            publications: VecDeque::new(),
            subscribers: Vec::new(),
            stall: None,
            paused: false,
            arrived: 0,
            node,
            closes: Closes(Arc::clone(&shared)),
            shared,
            requests,
            request: None,
            outcome,
            ending: None,
            unsent: 0,
            dropped: 0,
            requests_failed: 0,
            sockets,
            carriers: Carriers::new(listeners),
            listeners: Listeners::default(),
            transports: Transports::new(transports),
            #[cfg(feature = "portmap")]
            mapper: None,
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
        #[cfg(feature = "portmap")]
        let mapping = self.mapper.take().map(portmap::Mapper::start);
        let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        loop {
            let turn = clock::now();
            let mut now = turn;
            let (mut more, came) = self.take_in(now);
            if came {
                match std::mem::take(&mut self.arrived) {
                    0 => others().await,
                    // Whoever is told of a new peer may not be a task: the runtime looks after that one more rarely.
                    _ => tokio::task::yield_now().await,
                }
                now = clock::now();
            }
            if came {
                // Whoever was given something may want more than sessions do: to dial, or to part.
                more |= self.take_commands(now) == COMMANDS_PER_TURN;
            }
            more |= self.give_out(now);
            if self.is_over(now) {
                break;
            }
            match more {
                // Others on this thread, and the runtime's own look at the sockets, come in between.
                true => tokio::task::yield_now().await,
                false => self.wait(sleep.as_mut(), turn).await,
            }
        }
        #[cfg(feature = "cache")]
        if let Some(keeper) = self.keeper.take() {
            keeper.finish().await;
        }
        #[cfg(feature = "portmap")]
        if let Some(mapping) = mapping {
            self.requests.close();
            // What is not given back by then ends with its time.
            let _ = tokio::time::timeout(portmap::GIVE_BACK, mapping).await;
        }
        let Self { sockets, carriers, transports, lan, closes, sessions, outcome, mut unsent, .. } = self;
        for session in sessions.into_values() {
            unsent += session.pending();
            session.end(Gone::Closed);
        }
        // Whoever waits for the end may bind the port again, and gets no other answer than that it has come.
        drop((sockets, carriers, lan));
        transports.finish().await;
        drop(closes);
        outcome.send_replace(Some(Unsent { messages: unsent }));
    }

    /// The first half of a turn: whatever there is goes to whoever it is for. Returns whether there is more, and
    /// whether anything came that somebody may answer.
    fn take_in(&mut self, now: Instant) -> (bool, bool) {
        let until = self.slept.take();
        if until.is_some_and(|until| now.saturating_duration_since(until) > ASLEEP) {
            self.node.set_epoch(clock::epoch());
            self.node.handle_resume(now);
        }
        let (mut more, came) = self.receive(now);
        // What was not due when the wait began is not due yet if the wait was cut short.
        if until.is_none_or(|until| until <= now) && self.node.poll_timeout().is_some_and(|due| due.at <= now) {
            self.node.handle_timeout(now);
        }
        self.carriers.reconnect(&self.node, now);
        self.end_transports(now);
        self.keep_house(now);
        self.take_changes(now);
        more |= self.take_commands(now) == COMMANDS_PER_TURN;
        more |= self.take_candidates(now);
        if came {
            self.collect_work();
            self.visit(now);
            // What came along with a new peer waits for the second half: who hears of the peer may want to read it there.
            if self.arrived == 0 {
                self.pass_messages(now);
            }
        }
        (more, came)
    }

    /// The second half of a turn: what the handles want, and all packets. Returns whether there is more to do at once.
    fn give_out(&mut self, now: Instant) -> bool {
        self.collect_work();
        match self.ending {
            Some(_) => self.visit_all(now),
            None => self.visit(now),
        }
        self.publish_waiting(now);
        self.pass_messages(now);
        self.end(now);
        self.table.report(&mut self.node);
        self.report_relays();
        let mut room = self.transmit(now);
        for _ in 0..VISITS_PER_TURN {
            if self.unfinished.is_empty() {
                break;
            }
            self.list_unfinished();
            self.visit(now);
            room = self.transmit(now);
        }
        self.list_unfinished();
        // What sending brought about.
        self.collect_work();
        room || !self.work.is_empty()
    }

    /// Leaves what goes by transports that have ended.
    fn end_transports(&mut self, now: Instant) {
        while let Some(transport) = self.transports.take_ended() {
            self.node.transport_lost(transport, now);
            self.pass(Some(SwarmEvent::TransportLost { transport }));
        }
    }

    /// Waits behind the turn that began at `turn`.
    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>, turn: Instant) {
        let deadline = self.deadline();
        // Most deadlines move on long before they come. An alarm that is set too early costs one turn, but setting it
        // anew costs as much in every turn.
        if let Some(at) = deadline
            && (sleep.is_elapsed() || at < sleep.deadline().into_std())
        {
            sleep.as_mut().reset(at.into());
        }
        self.slept = deadline;
        let Self {
            shared,
            requests,
            request,
            sockets,
            carriers,
            transports,
            extra,
            held,
            lan,
            sources,
            subscribers,
            paused,
            bell,
            is_quiet,
            busy_poll,
            ..
        } = self;
        let held_by = held.as_ref().map(|(transmit, _)| transmit.path.link);
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
            if let Poll::Ready(woken) = shared.ready.poll_woken(cx) {
                *is_quiet &= !woken;
                return Poll::Ready(());
            }
            if !*is_quiet {
                let bell = &mut Context::from_waker(bell);
                if let Poll::Ready(command) = requests.poll_recv(bell) {
                    *request = command;
                    return Poll::Ready(());
                }
                if carriers.poll_ready(bell).is_ready()
                    || transports.poll_ready(bell).is_ready()
                    || sources.poll_ready(bell).is_ready()
                {
                    return Poll::Ready(());
                }
                *is_quiet = true;
            }
            let ready = sockets.iter().enumerate().any(|(at, socket)| {
                let blocked = blocked == Some(at);
                socket.poll_readable(cx).is_ready() || (blocked && socket.poll_writable(cx).is_ready())
            });
            let ready = ready
                || extra.poll_ready(held_by, cx)
                || (deadline.is_some() && sleep.as_mut().poll(cx).is_ready())
                || lan.as_ref().is_some_and(|lan| lan.poll_readable(cx).is_ready())
                || room.as_mut().as_pin_mut().is_some_and(|room| room.poll(cx).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        };
        let mut came = false;
        if let Some((since, until)) = busy_poll.begin(turn, clock::now) {
            let until = deadline.map_or(until, |at| at.min(until));
            let mut at = since;
            while !came && at < until {
                came = std::future::poll_fn(|cx| Poll::Ready(poll(cx).is_ready())).await;
                if !came {
                    // Other tasks on this thread run, and the runtime looks at the sockets.
                    tokio::task::yield_now().await;
                }
                at = clock::now();
            }
            // A timer of ours is no answer.
            busy_poll.end(since, at, came);
        }
        if !came {
            std::future::poll_fn(|cx| poll(cx)).await;
        }
        self.shared.ready.is_awake();
    }

    /// When to wake without any other cause.
    fn deadline(&self) -> Option<Instant> {
        let node = self.node.poll_timeout().map(|deadline| deadline.at);
        let end = self.ending.map(|end| end.at);
        let publications = self.publications.front().map(|waiting| waiting.until);
        let connections = self.carriers.deadline();
        // Seeds and interfaces are of no interest to a node that ends.
        let house = match self.ending {
            None => [
                Some(self.house_due),
                self.seeds.deadline(),
                self.searches.deadline(),
                self.table.deadline(),
                self.stun.deadline(),
            ],
            Some(_) => [None; 5],
        };
        [node, end, self.stall, self.due, publications, connections].into_iter().chain(house).flatten().min()
    }
}

/// Lets the tasks run that are ready by now, and those that these wake: whoever takes requests from a queue hands each to a task of its
/// own. So whoever was given something in the first half of a turn may answer it before the second half, and the answer leaves with
/// the acknowledgement, in one packet.
async fn others() {
    let mut rounds = 0;
    std::future::poll_fn(|cx| {
        if rounds == 2 {
            return Poll::Ready(());
        }
        rounds += 1;
        // Not the runtime's own yielding, which looks at the sockets first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
