//! The node: every session of one identity, its topics and its discovery, as one state machine.
//!
//! A [`Node`] owns an [`Endpoint`] and gives its sessions their protocols: one for topics, one for messages and
//! datagrams, one for streams, one for requests. What the application sends goes straight into the sessions
//! ([`with`](Node::with)); what the node itself does with them is to prove membership in topics, to pass on
//! publications, and to dial whom the network suggests.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Node`]: its state, its commands, the machine's five methods |
//! | `dials.rs` | dials with several addresses, and what becomes of them |
//! | `candidates.rs` | whom strangers name: who is dialled, and when again |
//! | `publish.rs` | the messages of topics on their way into the sessions and out of them |
//! | `machine.rs` | what comes in and goes out, and when |
//! | `finder.rs`, `table.rs` | the distributed hash table: what the node does there, and what its owner may ask |
//! | `asking.rs`, `answering.rs` | what peers do there for each other where UDP does not pass |
//! | `topics.rs` | topics: who proved to be in them, and what is published there |
//! | `lan.rs` | beacons on the local network |
//! | `places.rs` | relays for us, and we for others |
//! | `relays.rs`, `circuits.rs`, `direct.rs` | circuits through relays, which of them are needed, and the way from them to direct paths |
//! | `silence.rs` | sessions whose only path has fallen silent |
//! | `punching.rs`, `fresh.rs` | attempts to punch through NATs, and the sockets for them |
//! | `pex.rs` | peers tell each other of others in a topic |
//! | `outside.rs` | where others see the node, and what that says of its NAT |
//! | `protocols.rs` | what every session speaks |
//! | `streams.rs` | byte streams where UDP does not pass, and the way from them to UDP |
//! | `naming.rs` | how a stream says what it is for, and a request how it ended |
//! | `event.rs`, `config.rs` | what a node tells, and what its owner decides |

mod answering;
mod asking;
mod candidates;
mod circuits;
mod config;
mod dials;
mod direct;
mod event;
mod finder;
mod fresh;
mod lan;
mod machine;
pub mod naming;
mod outside;
mod pex;
mod places;
mod protocols;
mod publish;
mod punching;
mod relays;
mod silence;
mod streams;
mod table;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::{Identity, Seed};
use peer::{Endpoint, Handle};
use structs::{Epoch, Link, Path};

pub use config::{Config, Ways, transport_link};
pub use event::{Connection, Event};
pub use finder::TableStats;
pub use lan::{Interface, LAN_LINK, MAX_INTERFACES};
pub use pex::Counters as PexCounters;
pub use protocols::ProtocolIds;
pub use publish::Publication;
pub use streams::ACCEPTED;
pub use topics::Counters as TopicCounters;

use answering::Answering;
use asking::Asking;
use candidates::Candidates;
use dials::Dials;
use finder::Finder;
use lan::Lan;
use outside::Outside;
use pex::Pex;
use places::Places;
use publish::Outbound;
use punching::Punches;
use relays::Relays;
use silence::Silence;
use streams::{Streams, is_datagrams};
use topics::Topics;

use crate::reach::Reach;
use crate::{DisconnectReason, JoinError, PeerId, ServeRelay, TopicId};

/// All of one identity: see the [module documentation](self).
pub struct Node {
    endpoint: Endpoint,
    protocols: ProtocolIds,
    max_message: usize,
    now: Instant,
    sessions: BTreeMap<Handle, Box<Session>>,
    by_peer: BTreeMap<PeerId, Handle>,
    topics: Topics,
    /// Sessions that have messages of the topic protocol to read.
    topic_readable: BTreeSet<Handle>,
    /// The owner has no room for publications.
    paused: bool,
    lan: Option<Lan>,
    identity: Arc<Identity>,
    finder: Option<Finder>,
    asking: Asking,
    answering: Answering,
    dials: Dials,
    candidates: Candidates,
    relays: Relays,
    silence: Silence,
    outside: Outside,
    pex: Option<Pex>,
    punches: Punches,
    streams: Streams,
    places: Places,
    reach: Reach,
    ways: Ways,
    events: VecDeque<Event>,
    ending: bool,
    told_closed: bool,
    publications_dropped: u64,
}

/// An open session.
#[derive(Debug)]
struct Session {
    peer: PeerId,
    addr: SocketAddr,
    /// It goes through a relay, whose address that is.
    relayed: bool,
    /// What topics have for it and its channel had no room for.
    outbound: Outbound,
    /// We said goodbye.
    ending: bool,
    /// It was asked for relays.
    asked: bool,
    /// Which of our lists of places it was told: see `silence.rs`.
    places_told: u64,
}

/// What a node counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// What its endpoint counts.
    pub endpoint: peer::endpoint::Stats,
    /// Open sessions.
    pub connected: usize,
    /// Dials under way.
    pub dials: usize,
    /// Publications that were accepted for a neighbour whose session ended before they left.
    pub publications_dropped: u64,
    /// What came for topics.
    pub topics: topics::Counters,
    /// What peers told each other of others.
    pub pex: pex::Counters,
    /// What it did as a relay.
    pub relay: relay::server::Stats,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id())
            .field("sessions", &self.sessions.len())
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// A node of this identity. `seed` is the source of all its randomness, `epoch` what it knows of the wall clock.
    #[must_use]
    pub fn new(identity: impl Into<Arc<Identity>>, config: Config, epoch: Epoch, seed: &Seed, now: Instant) -> Self {
        let now = now.max(epoch.instant);
        let (protocols, ids) = protocols::register(config.pex.is_some());
        let session = config.session.protocols(protocols);
        let max_message = session.largest_message();
        let lan = config.lan.then(|| Lan::new(epoch, &seed.fork("lan")));
        let identity = identity.into();
        let finder = |reach| Finder::new(Arc::clone(&identity), reach, epoch, &seed.fork("dht"), now);
        let finder = config.dht.map(finder);
        let serves = if config.serve.serves() { ServeRelay::Always } else { ServeRelay::Never };
        let places = Places::new(config.serve_relay.unwrap_or(serves), config.find_relays);
        let relays = Relays::new(Arc::clone(&identity), config.serve, config.relays, epoch, seed, now);
        let pex = config.pex.map(|reach| Pex::new(reach, Arc::clone(&identity), epoch));
        let outside = Outside::new(config.observers, config.serve_stun, seed, now);
        let punches = Punches::new(config.direct, seed);
        let endpoint = Endpoint::new(Arc::clone(&identity), session, epoch, &seed.fork("endpoint"), now);
        Self {
            protocols: ids,
            max_message,
            now,
            sessions: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            topics: Topics::new(epoch, &seed.fork("topics")),
            topic_readable: BTreeSet::new(),
            paused: false,
            lan,
            finder,
            identity,
            asking: Asking::default(),
            answering: Answering::default(),
            dials: Dials::new(now),
            candidates: Candidates::new(),
            relays,
            silence: Silence::default(),
            outside,
            pex,
            punches,
            streams: Streams::new(config.tcp_fallback),
            places,
            reach: config.reach,
            ways: config.ways,
            events: VecDeque::new(),
            ending: false,
            told_closed: false,
            publications_dropped: 0,
            endpoint,
        }
    }

    /// Our own id.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::from(self.endpoint.id())
    }

    /// How far the addresses reach that others may name to this node.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        self.reach
    }

    /// The protocols of the sessions.
    #[must_use]
    pub const fn protocols(&self) -> ProtocolIds {
        self.protocols
    }

    /// The longest message that sessions take.
    #[must_use]
    pub const fn max_message(&self) -> usize {
        self.max_message
    }

    /// Runs a command on a session; `None` if there is none with this handle. Every command must go through here, so
    /// that what it causes is sent.
    pub fn with<R>(
        &mut self,
        session: Handle,
        now: Instant,
        command: impl FnOnce(&mut peer::Peer, Instant) -> R,
    ) -> Option<R> {
        self.tick(now);
        self.endpoint.with(session, self.now, command)
    }

    /// The open session with a peer.
    #[must_use]
    pub fn session(&self, peer: &PeerId) -> Option<Handle> {
        self.by_peer.get(peer).copied()
    }

    /// The open sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (Handle, PeerId, &peer::Peer)> {
        self.sessions.iter().filter_map(|(&handle, session)| Some((handle, session.peer, self.endpoint.peer(handle)?)))
    }

    /// Joins a topic, or changes how: `announce` says so on the local network, `lookup` dials the others who do.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing changed then.
    pub fn join(&mut self, topic: TopicId, announce: bool, lookup: bool, now: Instant) -> Result<(), JoinError> {
        self.tick(now);
        if self.ending {
            return Err(JoinError::Closed);
        }
        self.topics.join(topic)?;
        if let Some(lan) = &mut self.lan {
            lan.join(topic, announce, lookup, self.now)?;
        }
        if let Some(finder) = &mut self.finder {
            finder.join(topic, announce, lookup, self.now);
        }
        if let Some(pex) = &mut self.pex {
            pex.join(topic, announce, lookup);
        }
        self.flush_topics();
        Ok(())
    }

    /// The topics that are joined, in order.
    pub fn topics(&self) -> impl Iterator<Item = &TopicId> {
        self.topics.joined()
    }

    /// Who proved to be in a topic, by session.
    pub fn neighbours(&self, topic: &TopicId) -> impl Iterator<Item = PeerId> {
        self.topics.neighbours(topic).filter_map(|handle| Some(self.sessions.get(&handle)?.peer))
    }

    /// Leaves a topic.
    pub fn leave(&mut self, topic: &TopicId, now: Instant) {
        self.tick(now);
        self.topics.leave(topic);
        if let Some(lan) = &mut self.lan {
            lan.leave(topic);
        }
        if let Some(finder) = &mut self.finder {
            finder.join(*topic, false, false, self.now);
        }
        if let Some(pex) = &mut self.pex {
            pex.join(*topic, false, false);
        }
        self.flush_topics();
    }

    /// Whether publications stay in their sessions for now, whose credit makes their senders wait.
    pub const fn pause_topics(&mut self, pause: bool) {
        self.paused = pause;
    }

    /// Names the interfaces that beacons leave by.
    pub fn set_interfaces(&mut self, interfaces: &[Interface], now: Instant) {
        self.tick(now);
        if let Some(lan) = &mut self.lan {
            lan.set_interfaces(interfaces, self.now);
        }
    }

    /// Pairs the clocks anew, because the machine slept or its wall clock was set.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.relays.server.set_epoch(epoch);
        if let Some(pex) = &mut self.pex {
            pex.set_epoch(epoch);
        }
        if let Some(lan) = &mut self.lan {
            lan.set_epoch(epoch);
        }
        if let Some(finder) = &mut self.finder {
            finder.set_epoch(epoch);
        }
    }

    /// Names the key that this node has on the v12 wire to its peers, so that they talk to it on one wire only.
    pub fn set_v12_key(&mut self, key: Option<[u8; 32]>) {
        self.topics.set_v12_key(key);
        self.flush_topics();
    }

    /// Ends the session with a peer, after at most `grace` for what is queued. Says whether there was one.
    pub fn disconnect(&mut self, peer: &PeerId, grace: Duration, now: Instant) -> bool {
        self.tick(now);
        let Some(handle) = self.session(peer) else { return false };
        if let Some(session) = self.sessions.get_mut(&handle) {
            session.ending = true;
        }
        let now = self.now;
        self.endpoint.with(handle, now, |session, now| session.close(LEAVING, "", grace, now)).is_some()
    }

    /// Closes every session, after at most `grace` for what is queued, and lets nobody in any more. Ends with
    /// [`Event::Closed`].
    pub fn shutdown(&mut self, grace: Duration, now: Instant) {
        self.tick(now);
        self.ending = true;
        self.lan = None;
        self.finder = None;
        self.pex = None;
        self.outside.stop();
        self.fail_dials();
        self.endpoint.close(LEAVING, "", grace, self.now);
    }

    /// Whether the node has ended: it sends nothing any more and wants no timeout.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.endpoint.is_closed()
    }

    /// The network has changed, or the machine was asleep: every session asks every path anew, and silence so far is
    /// forgiven.
    pub fn handle_resume(&mut self, now: Instant) {
        self.tick(now);
        self.endpoint.handle_resume(self.now);
        self.outside.restart(self.now);
        self.search_again();
        if let Some(finder) = &mut self.finder {
            finder.restart(self.now);
        }
    }

    /// Figures since the start. Takes time in proportion to the number of sessions.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            endpoint: self.endpoint.stats(),
            connected: self.sessions.len(),
            dials: self.dials.len(),
            publications_dropped: self.publications_dropped,
            topics: self.topics.counters(),
            pex: self.pex.as_ref().map(Pex::counters).unwrap_or_default(),
            relay: self.relays.server.stats(),
        }
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn on_session_event(&mut self, handle: Handle, event: peer::Event) {
        match event {
            peer::Event::Connected(connected) => self.on_connected(handle, &connected),
            peer::Event::Mux(event) => self.on_mux_event(handle, event),
            peer::Event::PathChanged(path) => {
                if let Some(session) = self.sessions.get_mut(&handle) {
                    (session.addr, session.relayed) = (path.remote, is_circuit(&path));
                    self.events.push_back(Event::Moved { session: handle, path });
                }
                self.seek_datagrams(handle);
                self.relays_moved(handle);
                self.note_helper(handle);
                self.keep_mapping(handle);
            }
            // Through a circuit the other side sees the relay, and behind a stream a port that is not of our socket.
            peer::Event::Observed(addr) if self.goes_by_datagrams(handle) => {
                if let (Some(finder), Some(session)) = (&mut self.finder, self.sessions.get(&handle)) {
                    finder.on_seen(addr, session.addr.ip(), self.now);
                }
                if let Some(path) = self.endpoint.peer(handle).and_then(peer::Peer::path)
                    && path.link == Link::Udp
                {
                    self.on_seen(addr, path.remote);
                }
                self.events.push_back(Event::Observed { session: handle, addr });
            }
            peer::Event::Observed(_) => {}
            peer::Event::Silent => self.on_silent(handle),
            peer::Event::Closed(closed) => self.on_closed(handle, closed),
            _ => {}
        }
    }

    fn on_connected(&mut self, handle: Handle, connected: &peer::Connected) {
        let peer = PeerId::from(connected.peer);
        if peer == self.id() {
            return self.dial_reached_ourselves(handle);
        }
        if self.endpoint.by_id(&connected.peer).is_some_and(|open| open != handle) {
            // Two dials crossed, and this is not the session that both sides keep: its end is on the way.
            return;
        }
        let addr = connected.path.remote;
        let relayed = is_circuit(&connected.path);
        if connected.path.link == Link::Udp {
            self.outside.on_proved(addr);
            self.tell_nat(false);
        }
        let outbound = Outbound::default();
        let session = Session { peer, addr, relayed, outbound, ending: false, asked: false, places_told: 0 };
        self.sessions.insert(handle, Box::new(session));
        let earlier = self.by_peer.insert(peer, handle);
        if let Some(earlier) = earlier {
            // Its own end is told of later: from here on the newer one counts.
            self.topics.on_closed(earlier);
            self.relays_replaced(&connected.peer);
        }
        let exporter = self.endpoint.peer(handle).and_then(|session| session.exporter(TOPIC_EXPORTER));
        if let Some(exporter) = exporter {
            self.topics.on_connected(handle, peer, connected.role, exporter);
        }
        let connection = Connection { peer, addr, resumed: connected.resumed, cipher: connected.cipher };
        self.events.push_back(Event::Connected { session: handle, connection });
        self.dial_reached(handle, peer);
        self.streams_connected(handle);
        self.relays_connected(handle);
        self.note_helper(handle);
        self.keep_mapping(handle);
        if let Some(finder) = self.finder.as_mut().filter(|_| is_datagrams(&connected.path)) {
            finder.on_session(addr, self.now);
        }
        self.flush_topics();
    }

    fn on_mux_event(&mut self, handle: Handle, event: peer::mux::Event) {
        if !self.sessions.contains_key(&handle) {
            return;
        }
        if let Some(event) = self.take_topic_event(handle, event) {
            self.events.push_back(Event::Session { session: handle, event });
        }
    }

    /// What else happened on the protocols of a session that an [`Event::Session`] was just told of: without asking all
    /// others in between, which costs more than most of what there is to tell.
    #[cfg(feature = "tokio")]
    pub(crate) fn drain_session(&mut self, handle: Handle, mut each: impl FnMut(peer::mux::Event)) {
        while let Some(event) = self.endpoint.poll_mux_event(handle) {
            if let Some(event) = self.take_topic_event(handle, event) {
                each(event);
            }
        }
    }

    /// Acts on what concerns topics, and returns what does not.
    fn take_topic_event(&mut self, handle: Handle, event: peer::mux::Event) -> Option<peer::mux::Event> {
        use peer::mux::Event as Mux;
        match event {
            Mux::Message { protocol } if protocol == self.protocols.topic => drop(self.topic_readable.insert(handle)),
            Mux::SendReady { protocol, .. } if protocol == self.protocols.topic => {
                // Publications wait for longer than what topics have to say now, which may be that we leave one.
                if self.send_outbound(handle) {
                    self.topics.writable(handle);
                    self.flush_topics();
                }
            }
            Mux::Acked { protocol, .. } if protocol == self.protocols.topic => {}
            Mux::Message { protocol } if Some(protocol) == self.protocols.pex => {
                if let Some(pex) = &mut self.pex {
                    pex.readable.insert(handle);
                }
            }
            Mux::SendReady { protocol, .. } | Mux::Acked { protocol, .. } if Some(protocol) == self.protocols.pex => {}
            Mux::Message { protocol } if protocol == self.protocols.relay => self.relays.on_readable(handle),
            Mux::SendReady { protocol, .. } if protocol == self.protocols.relay => self.relay_writable(handle),
            Mux::Acked { protocol, .. } if protocol == self.protocols.relay => {}
            Mux::Message { protocol } if protocol == self.protocols.find => {
                self.asking.readable.insert(handle);
            }
            Mux::SendReady { protocol, .. } if protocol == self.protocols.find => self.find_writable(handle),
            Mux::Acked { protocol, .. } if protocol == self.protocols.find => {}
            Mux::Message { protocol } if protocol == self.protocols.punch => self.punches.on_readable(handle),
            Mux::SendReady { protocol, .. } if protocol == self.protocols.punch => self.punch_writable(),
            Mux::Acked { protocol, .. } if protocol == self.protocols.punch => {}
            event => return Some(event),
        }
        None
    }

    fn on_closed(&mut self, handle: Handle, closed: peer::Closed) {
        let session = self.sessions.remove(&handle);
        // Before a dial that waited for this end begins anew.
        if let Some(peer) = session.as_ref().map(|session| session.peer)
            && self.by_peer.get(&peer) == Some(&handle)
        {
            self.by_peer.remove(&peer);
            self.topics.on_closed(handle);
            let is_replaced = closed.reason == peer::Reason::Replaced;
            match self.endpoint.peer(handle).and_then(peer::Peer::id) {
                Some(key) if is_replaced => self.relays_replaced(&key),
                Some(key) => self.relays_disconnected(key),
                None => {}
            }
            if !is_replaced {
                self.silence.forget(&peer);
            }
        }
        self.dial_ended(handle, &closed.reason);
        self.punching_closed(handle);
        self.streams_closed(handle);
        self.forget_helper(handle);
        self.topic_readable.remove(&handle);
        if let Some(pex) = &mut self.pex {
            pex.forget(handle);
        }
        let Some(session) = session else { return };
        if let Some(lan) = &mut self.lan {
            lan.forget(session.addr);
        }
        self.candidates.forget(session.addr);
        self.publications_dropped += session.outbound.len() as u64;
        self.collect_topic_events();
        let (peer, reason) = (session.peer, DisconnectReason::from(&closed.reason));
        self.events.push_back(Event::Disconnected { session: handle, peer, reason, unfinished: closed.unfinished });
    }
}

/// Whether a path leads through a relay.
const fn is_circuit(path: &Path) -> bool {
    matches!(path.link, Link::Circuit(_))
}

/// What the keys that prove membership are derived for.
const TOPIC_EXPORTER: &[u8] = b"setowire topic v1";
/// The code of a session that is closed because its owner leaves: no error (SPEC 8.9).
const LEAVING: u64 = 0;
