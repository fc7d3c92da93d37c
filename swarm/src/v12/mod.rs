//! The v12 wire: every datagram of one socket, as one state machine.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Node`]: its state, its commands, the machine's five methods |
//! | `route.rs` | whose datagram it is |
//! | `links.rs` | the peers: from the first datagram to the last, and what they report |
//! | `redial.rs` | dials that reach a peer who is connected by another address |
//! | `topics.rs` | topics, and the beacons that announce them on the local network |
//! | `mesh.rs`, `seen.rs` | flooding: through whom, and which messages are copies |
//! | `values.rs` | store and fetch |
//! | `introduce.rs` | peer exchange, relays' introductions, and which of it is dialled |
//! | `dht/` | the distributed hash table, a machine of its own |
//! | `policy.rs` | every bound, and which addresses may be dialled on whose word |

mod config;
pub mod dht;
#[cfg(feature = "tokio")]
pub(crate) mod driver;
mod event;
mod introduce;
mod links;
mod mesh;
mod policy;
mod redial;
mod route;
mod seen;
mod topics;
mod values;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::Seed;
use crypto::v12::PublicKey;
use framing::v12::{GoawayReason, limits};
use peer::v12::Memory;
use structs::{
    Datagram, Deadline, Deadlines, Ecn, Epoch, Link, Lru, Machine, Path, Rejected, RejectedCounts, TokenBucket,
    Transmit, TransmitBuf,
};

use crate::{DialError, DialId, PeerId, PeerInfo, Security, SendError, TopicId};

pub use config::Config;
pub use crypto::v12::{Identity, NodeId, SeedError, TopicHash, WireId};
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use driver::{
    Builder, Dht, Driver, Events, Fetch, Message, Peer, Published, Stats, Swarm, SwarmEvent, Topic, TopicEvent,
    TopicEvents,
};
pub use event::Event;

use introduce::Introductions;
use links::PeerLink;
use mesh::Mesh;
use redial::Redial;
use seen::Seen;
use topics::Topics;
use values::Values;

/// The link of multicast beacons on the local network. A transmit on it goes out of the interface that has the
/// local address of its path; a datagram received on a multicast socket comes in on it.
pub const LAN_LINK: Link = Link::Custom(0);

/// Where beacons go.
pub const LAN_GROUP: SocketAddrV4 = limits::LAN_GROUP;

/// What a broadcast or a publication reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Broadcast {
    /// Peers whose queue took the message.
    pub sent: usize,
    /// Peers whose queue was full: they do not get it, unless it is sent to them once they are writable.
    pub full: Vec<PeerId>,
    /// Peers that the message is too large for.
    pub too_large: usize,
}

/// What a node counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NodeStats {
    /// Connected peers.
    pub peers: usize,
    /// Handshakes that have not been proved.
    pub half_open: usize,
    /// Datagrams received, accepted or not.
    pub datagrams_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Copies of flooded messages that were not delivered again.
    pub duplicates: u64,
    /// Copies that were not flooded to a neighbour because its queue was full.
    pub not_flooded: u64,
    /// Datagrams that the operating system refused to send.
    pub send_errors: u64,
    /// Bytes held in queues and buffers.
    pub buffered_bytes: usize,
    /// What was not accepted, by reason, of all peers that are or were connected.
    pub rejected: RejectedCounts,
}

/// One peer of this node, from its first datagram to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct LinkId(u64);

/// A node: see the [module documentation](self).
#[derive(Debug)]
pub struct Node {
    config: Config,
    identity: Arc<Identity>,
    seed: Seed,
    epoch: Epoch,
    now: Instant,
    state: State,
    local: Vec<SocketAddrV4>,

    links: BTreeMap<LinkId, PeerLink>,
    by_addr: BTreeMap<SocketAddr, LinkId>,
    by_key: BTreeMap<PublicKey, LinkId>,
    by_wire_id: BTreeMap<WireId, LinkId>,
    redials: Vec<Redial>,
    next_link: u64,
    next_operation: u64,
    deadlines: Deadlines<LinkId>,
    ready: VecDeque<LinkId>,
    stalled: VecDeque<LinkId>,
    /// Stalled peers were resumed: what they have to send has not been asked for.
    resumed: bool,

    topics: Topics,
    mesh: Mesh,
    seen: Seen,
    values: Values,
    introductions: Introductions,
    handshakes: TokenBucket,
    strays: TokenBucket,
    memories: Lru<PublicKey, Vec<Arc<Memory>>>,
    /// Keys of peers that are reached by another wire.
    forbidden: Lru<(PublicKey, IpAddr), ()>,
    beacons: TokenBucket,

    out: VecDeque<(Path, Vec<u8>)>,
    events: VecDeque<Event>,
    event_bytes: usize,
    stats: NodeStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Queues drain until then at the latest.
    Draining {
        until: Instant,
        check: Instant,
    },
    /// Goodbyes leave; so many messages did not.
    Leaving {
        unsent: u64,
    },
    Closed,
}

/// How often a draining node looks whether it is empty.
const DRAIN_CHECK: Duration = Duration::from_millis(5);
/// Timers fire no closer together than this.
const GRANULARITY: Duration = Duration::from_millis(1);

impl Node {
    /// A node with this identity. `seed` is the source of all its randomness, `epoch` what it knows of the wall clock.
    #[must_use]
    pub fn new(config: Config, identity: Identity, seed: Seed, epoch: Epoch) -> Self {
        let now = epoch.instant;
        let bucket = |(rate, burst)| TokenBucket::new(rate, burst, now);
        Self {
            seen: Seen::new(seed.fork("seen").rng().array(), identity.wire_id()),
            values: Values::new(&config),
            config,
            identity: Arc::new(identity),
            seed,
            epoch,
            now,
            state: State::Open,
            local: Vec::new(),
            links: BTreeMap::new(),
            by_addr: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_wire_id: BTreeMap::new(),
            redials: Vec::new(),
            next_link: 0,
            next_operation: 0,
            deadlines: Deadlines::new(),
            ready: VecDeque::new(),
            stalled: VecDeque::new(),
            resumed: false,
            topics: Topics::default(),
            mesh: Mesh::new(now),
            introductions: Introductions::new(now),
            handshakes: bucket(policy::HANDSHAKE_RATE),
            strays: bucket(policy::STRAY_RATE),
            memories: Lru::new(NonZeroUsize::new(policy::MEMORIES).unwrap_or(NonZeroUsize::MIN))
                .max_weight(policy::MEMORY_BYTES)
                .time_to_live(policy::MEMORY_FOR),
            forbidden: Lru::new(NonZeroUsize::new(policy::FORBIDDEN).unwrap_or(NonZeroUsize::MIN)),
            beacons: bucket(policy::BEACON_RATE),
            out: VecDeque::new(),
            events: VecDeque::new(),
            event_bytes: 0,
            stats: NodeStats::default(),
        }
    }

    /// Our own id.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::from_bytes(*self.identity.public().as_bytes())
    }

    /// Dials an address that the user names: eight HELLOs over seven seconds. Ends with [`Event::Dialled`] or
    /// [`Event::DialFailed`] carrying the id.
    ///
    /// # Errors
    ///
    /// [`DialError`]; nothing was sent then.
    pub fn dial(&mut self, addr: SocketAddr, now: Instant) -> Result<DialId, DialError> {
        self.tick(now);
        if self.is_ending() {
            return Err(DialError::Closed);
        }
        let target = policy::dialable(addr)?;
        if self.local.contains(&target) {
            return Err(DialError::Ourselves { addr });
        }
        self.start_dial(target)
    }

    /// Queues a message for one peer.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then. After [`Full`](SendError::Full) an [`Event::Writable`] says when there is
    /// room.
    pub fn send(&mut self, peer: &PeerId, data: Bytes, now: Instant) -> Result<(), SendError> {
        self.tick(now);
        if self.is_ending() {
            return Err(SendError::Closed);
        }
        let id = self.connected_link(peer).ok_or(SendError::NotConnected { peer: *peer })?;
        self.send_to(id, data.clone())?;
        self.said(&data);
        Ok(())
    }

    /// Queues a message for every connected peer; each passes it on through its mesh.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if it is for every peer of this wire, [`SendError::Closed`].
    pub fn broadcast(&mut self, data: Bytes, now: Instant) -> Result<Broadcast, SendError> {
        self.tick(now);
        if self.is_ending() {
            return Err(SendError::Closed);
        }
        let max = if self.config.send_plaintext_fragments { 512 * 1024 } else { limits::MAX_DATA_PAYLOAD };
        if data.len() > max {
            return Err(SendError::TooLarge { len: data.len(), max });
        }
        let mut reached = Broadcast::default();
        let ids: Vec<LinkId> = self.connected().map(|(id, _)| id).collect();
        for id in ids {
            match self.send_to(id, data.clone()) {
                Ok(()) => reached.sent += 1,
                Err(SendError::Full) => reached.full.extend(self.links.get(&id).and_then(PeerLink::peer_id)),
                Err(SendError::TooLarge { .. }) => reached.too_large += 1,
                Err(_) => {}
            }
        }
        if reached.sent > 0 {
            self.said(&data);
        }
        Ok(reached)
    }

    /// Queues a message for the neighbours of a topic. The v12 wire knows no topics beyond meeting: that is every
    /// connected peer.
    ///
    /// # Errors
    ///
    /// [`SendError::NotJoined`], and those of [`broadcast`](Self::broadcast).
    pub fn publish(&mut self, topic: &TopicId, data: Bytes, now: Instant) -> Result<Broadcast, SendError> {
        if !self.is_ending() && !self.topics.contains(topic) {
            return Err(SendError::NotJoined);
        }
        self.broadcast(data, now)
    }

    /// Ends the session with a peer. Returns how many messages to it had not left.
    pub fn disconnect(&mut self, peer: &PeerId, now: Instant) -> u64 {
        self.tick(now);
        let Some(id) = self.connected_link(peer) else { return 0 };
        self.close_link(id, GoawayReason::from_code(0))
    }

    /// Does not talk to a peer at an address any more: an open session with it is ended, and none is begun while it is
    /// among the last 1,024 that were named here. The same key elsewhere is another matter: whoever names a key in
    /// order to have it forbidden has no say about others.
    pub fn forbid(&mut self, peer: &PeerId, ip: IpAddr, now: Instant) {
        self.tick(now);
        let key = PublicKey::from(*peer.as_bytes());
        let _ = self.forbidden.insert((key, ip), (), 0, self.now);
        let open = self.by_key.get(&key).copied();
        if let Some(id) = open.filter(|id| self.links.get(id).is_some_and(|link| link.addr.ip() == ip)) {
            self.close_link(id, GoawayReason::from_code(0));
        }
    }

    /// Drains the queues for at most the configured time, says goodbye, then reports [`Event::Closed`].
    pub fn shutdown(&mut self, now: Instant) {
        self.tick(now);
        if self.state == State::Open {
            self.topics.clear();
            self.fail_operations();
            self.fail_redials();
            self.state = State::Draining { until: later(self.now, self.config.drain_timeout), check: self.now };
            self.check_drained();
        }
    }

    /// Says goodbye at once, without draining.
    pub fn abort(&mut self, now: Instant) {
        self.tick(now);
        if matches!(self.state, State::Open | State::Draining { .. }) {
            self.topics.clear();
            self.fail_operations();
            self.fail_redials();
            self.leave_all();
        }
    }

    /// Whether the node has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether so much waits to leave that new work should wait.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.out.len() >= policy::MAX_OUT / 2
    }

    /// The connected peers, sorted by id.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let mut peers: Vec<PeerInfo> = self.connected().filter_map(|(_, link)| link.info()).collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }

    /// Figures since the start.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        let mut stats = self.stats.clone();
        stats.peers = self.connected().count();
        stats.half_open = self.links.len() - stats.peers;
        stats.buffered_bytes = self.buffered_bytes();
        for link in self.links.values() {
            stats.rejected.merge(&link.peer.stats().rejected);
        }
        stats
    }

    /// Bytes held in queues and buffers, the values stored included.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let links: usize = self.links.values().map(|link| link.peer.buffered_bytes()).sum();
        let out: usize = self.out.iter().map(|(_, bytes)| bytes.len()).sum();
        links + out + self.event_bytes + self.values.bytes()
    }

    /// The operating system refused to send on a path: a hint, which is counted. What is to be done about a peer that
    /// cannot be reached is decided by its silence.
    pub fn handle_send_error(&mut self, _path: Path, _kind: io::ErrorKind, now: Instant) {
        self.tick(now);
        self.stats.send_errors += 1;
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn is_ending(&self) -> bool {
        self.state != State::Open
    }

    /// Whether anybody has named a key: what is done every second or minute for peers is done from then on.
    fn has_company(&self) -> bool {
        !self.by_key.is_empty()
    }

    fn next_operation(&mut self) -> u64 {
        self.next_operation += 1;
        self.next_operation
    }

    /// A message of ours is under way: should it come back, it is not passed on. It cannot come back to a node with
    /// one neighbour.
    fn said(&mut self, message: &Bytes) {
        if self.config.flood && self.connected().nth(1).is_some() {
            self.seen.own(message, self.now);
        }
    }

    /// Hands a datagram of the node itself to the socket. Beacons and the like: what does not fit is not sent.
    fn send_out(&mut self, path: Path, bytes: Vec<u8>) {
        if self.out.len() < policy::MAX_OUT {
            self.out.push_back((path, bytes));
        }
    }

    fn push_event(&mut self, event: Event) {
        self.event_bytes += weight(&event);
        self.events.push_back(event);
    }

    /// Whether the application takes events too slowly to be given more.
    fn is_backlogged(&self) -> bool {
        self.events.len() >= policy::MAX_EVENTS || self.event_bytes >= policy::EVENT_BYTES
    }

    fn check_drained(&mut self) {
        let State::Draining { until, .. } = self.state else {
            return;
        };
        let drained = self.connected().all(|(_, link)| link.peer.is_drained()) && self.out.is_empty();
        if drained || self.now >= until {
            self.leave_all();
        } else {
            self.state = State::Draining { until, check: until.min(self.now + DRAIN_CHECK) };
        }
    }

    fn leave_all(&mut self) {
        self.state = State::Leaving { unsent: 0 };
        // Some may have been held since the drain began.
        self.fail_redials();
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        let quitting = GoawayReason::from_code(0x08);
        let unsent = ids.into_iter().map(|id| self.close_link(id, quitting)).sum();
        self.out.clear();
        self.state = State::Leaving { unsent };
        self.finish();
    }

    /// The last goodbye has left.
    fn finish(&mut self) {
        if let State::Leaving { unsent } = self.state
            && self.links.is_empty()
        {
            self.state = State::Closed;
            self.push_event(Event::Closed { unsent });
        }
    }
}

impl Machine for Node {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.tick(now);
        self.stats.datagrams_received += 1;
        self.route(datagram)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        while let Some(id) = self.deadlines.pop_due(self.now) {
            if let Some(link) = self.links.get_mut(&id) {
                link.peer.handle_timeout(self.now);
            }
            self.touch(id);
        }
        match self.state {
            State::Open => {
                self.send_beacons();
                self.expire_fetches();
                self.run_redials();
                if self.has_company() {
                    self.maintain_mesh();
                    self.introduce();
                }
            }
            State::Draining { check, .. } if self.now >= check => self.check_drained(),
            _ => {}
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.tick(now);
        if let Some((path, bytes)) = self.out.pop_front() {
            self.stats.datagrams_sent += 1;
            out.push(&bytes);
            return out.finish(path, Ecn::NotEct);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let transmit = link.peer.poll_transmit(out, self.now);
            link.is_ready = transmit.is_some();
            match transmit {
                Some(transmit) => {
                    self.ready.push_back(id);
                    let segments = transmit.len.div_ceil(transmit.segment_size.max(1));
                    self.stats.datagrams_sent += segments as u64;
                    return Some(transmit);
                }
                None => self.settle(id),
            }
        }
        self.resumed = false;
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        while !self.is_backlogged() {
            let Some(id) = self.stalled.pop_front() else { break };
            if let Some(link) = self.links.get_mut(&id) {
                link.is_stalled = false;
            }
            self.touch(id);
            self.resumed = true;
        }
        let event = self.events.pop_front()?;
        self.event_bytes = self.event_bytes.saturating_sub(weight(&event));
        Some(event)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let ahead = |at| if at > self.now { at } else { self.now + GRANULARITY };
        let deadline = |at: Option<Instant>, reason| at.map(|at| Deadline { at: ahead(at), reason });
        let links = deadline(self.deadlines.next().map(|(at, _)| at), "peer");
        let own = match self.state {
            State::Open => {
                let beacons = deadline(self.topics.deadline(), "beacon");
                let values = deadline(self.values.deadline(), "fetch");
                let redials = deadline(self.redial_deadline(), "redial");
                let connected = self.has_company();
                let mesh = deadline(connected.then_some(self.mesh.maintain_at), "mesh");
                let others = deadline(connected.then(|| self.introductions.deadline()), "introductions");
                [values, redials, mesh, others].into_iter().fold(beacons, Deadline::earliest)
            }
            State::Draining { check, .. } => deadline(Some(check), "drain"),
            State::Leaving { .. } | State::Closed => None,
        };
        let resumed = deadline(self.resumed.then_some(self.now), "resumed");
        Deadline::earliest(resumed, Deadline::earliest(links, own))
    }
}

/// `span` after `now`, or as far ahead as makes no difference.
fn later(now: Instant, span: Duration) -> Instant {
    now.checked_add(span).unwrap_or(now + FOREVER)
}

/// A century.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Bytes that an event holds.
fn weight(event: &Event) -> usize {
    match event {
        Event::Message { data, .. } => data.len(),
        Event::Synced { value, .. } => value.len(),
        Event::Fetched { result: Ok(value), .. } => value.len(),
        _ => 0,
    }
}

/// How every link of this node is protected.
const SECURITY: Security = Security::LegacyV12;

/// The IPv4 address behind a socket address; there is no other on this wire.
fn ipv4(addr: SocketAddr) -> Option<Ipv4Addr> {
    match addr {
        SocketAddr::V4(addr) => Some(*addr.ip()),
        SocketAddr::V6(addr) => addr.ip().to_ipv4_mapped(),
    }
}
