//! All sessions of one socket, as one state machine.
//!
//! An [`Endpoint`] finds out whose datagram it is, by connection id and never by address; lets strangers in as far as
//! the load allows; settles dials that cross, and sessions that a restart left behind; answers what needs no state; and
//! lets the sessions send in turn. What a datagram costs does not depend on how many sessions there are, and a wake-up
//! costs what the sessions cost that asked for it.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Endpoint`]: its state, its commands, the machine's five methods |
//! | `route.rs` | whose datagram it is |
//! | `accept.rs` | first messages, and the packet that makes a session of one |
//! | `lifecycle.rs` | what follows when a dial is answered, a session ends, or two sessions have one key |
//! | `table.rs` | the peers, and whose turn it is |
//! | `half_open.rs` | handshakes that were answered and not confirmed |
//! | `admission.rs` | who gets a handshake, who a cookie, who nothing |
//! | `young.rs` | when new sessions give back what they needed to begin |
//! | `tickets.rs`, `answers.rs`, `reset.rs` | bounded stores and queues |
//! | `limits.rs` | every bound |

mod accept;
mod admission;
mod answers;
mod error;
mod event;
mod half_open;
mod lifecycle;
mod limits;
mod reset;
mod route;
mod table;
mod tickets;
mod young;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::handshake::{Acquaintance, Acquaintances};
use crypto::{CookieJar, Identity, PeerId, Rng, Seed};
use structs::{Datagram, Deadline, Epoch, Lru, Machine, Path, Rejected, RejectedCounts, Transmit, TransmitBuf};

use crate::shared::Shared;
use crate::{Config, Peer, Target};

pub use error::DialError;
pub use event::{Event, Handle};

use accept::Stage;
use admission::{Admission, Shares};
use answers::Answers;
use half_open::HalfOpens;
use reset::Resets;
use table::{Entry, Phase, Table};
use tickets::{Held, Issued};
use young::Young;

/// What an endpoint counts, and what it holds. All counts are since the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Peers that have not ended, dials included.
    pub peers: usize,
    /// Sessions among them that hold more than they need while nothing happens.
    pub awake: usize,
    /// Handshakes that were answered and not confirmed.
    pub half_open: usize,
    /// Tickets that peers gave us, and that we gave to peers.
    pub tickets_held: usize,
    /// See [`tickets_held`](Self::tickets_held).
    pub tickets_issued: usize,
    /// First messages that were answered with keys.
    pub handshakes_answered: u64,
    /// Answers that were sent again, because the first message came again.
    pub answers_repeated: u64,
    /// Sessions that others opened.
    pub accepted: u64,
    /// COOKIE datagrams.
    pub cookies_sent: u64,
    /// RETRY datagrams.
    pub retries_sent: u64,
    /// Resets.
    pub resets_sent: u64,
    /// Key agreements and makings of keys for others: what a flood of first messages costs.
    pub dh_operations: u64,
    /// Bytes held in queues, buffers and tables.
    pub buffered_bytes: usize,
    /// What was not accepted, by reason, of all peers that are or were there.
    pub rejected: RejectedCounts,
}

/// All sessions of one socket: see the [module documentation](self).
pub struct Endpoint {
    shared: Arc<Shared>,
    id: PeerId,
    seed: Seed,
    rng: Rng,
    now: Instant,
    closing: bool,
    table: Table,
    young: Young,
    /// Sessions that others opened, by where they did it from.
    sessions: Shares,
    half_open: HalfOpens<Stage>,
    admission: Admission,
    cookies: CookieJar,
    /// Ephemeral keys of first messages that led to sessions.
    recent: Lru<[u8; 32], ()>,
    /// When the last confirmed handshake of a key began, by the clock of its holder.
    confirmed: Lru<PeerId, u64>,
    /// What spares work in handshakes with peers that come again.
    known: Arc<Acquaintances>,
    held: Held,
    issued: Issued,
    answers: Answers,
    resets: Resets,
    next_peer: u64,
    stats: Stats,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("peers", &self.table.live)
            .field("half_open", &self.half_open.len())
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint of this identity. `seed` is the source of all its randomness, `epoch` what it knows of the wall clock.
    #[must_use]
    pub fn new(identity: impl Into<Arc<Identity>>, config: Config, epoch: Epoch, seed: &Seed, now: Instant) -> Self {
        let identity = identity.into();
        let now = now.max(epoch.instant);
        let entries = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        let admission = Admission::new(config.handshakes_per_second, now);
        let id = identity.peer_id();
        Self {
            shared: Arc::new(Shared::new(identity, config, epoch)),
            id,
            rng: seed.fork("endpoint").rng(),
            cookies: CookieJar::new(&seed.fork("cookies")),
            seed: seed.fork("peers"),
            now,
            closing: false,
            table: Table::default(),
            young: Young::default(),
            sessions: Shares::new(limits::SESSIONS_PER_ADDRESS, limits::SESSIONS_PER_SUBNET),
            half_open: HalfOpens::new(),
            admission,
            recent: Lru::new(entries(limits::RECENT)),
            confirmed: Lru::new(entries(limits::CONFIRMED)),
            known: Arc::new(Acquaintances::new(limits::ACQUAINTANCES)),
            held: Held::new(),
            issued: Issued::new(),
            answers: Answers::default(),
            resets: Resets::new(now),
            next_peer: 0,
            stats: Stats::default(),
        }
    }

    /// Our own id.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// Dials. The first message leaves at the next [`poll_transmit`](Machine::poll_transmit); the dial ends with
    /// [`Connected`](crate::Event::Connected) or [`Closed`](crate::Event::Closed). A ticket that the peer gave us is
    /// used, and used up.
    ///
    /// While a dial to the same key is under way, the path is added to it, and its handle is returned.
    ///
    /// # Errors
    ///
    /// [`DialError`]; nothing has changed then.
    pub fn dial(&mut self, target: Target, path: Path, now: Instant) -> Result<Handle, DialError> {
        self.tick(now);
        if self.closing {
            return Err(DialError::Closed);
        }
        let known = target.id();
        if known == Some(self.id) {
            return Err(DialError::SelfDial);
        }
        if let Some(index) = known.and_then(|id| self.table.open.get(&id).copied()) {
            return Err(DialError::AlreadyConnected(self.table.handle(index)));
        }
        if let Some(index) = known.and_then(|id| self.table.dialling.get(&id).copied()) {
            self.also_try(index, path);
            return Ok(self.table.handle(index));
        }
        if self.table.len() >= self.shared.config.max_peers {
            return Err(DialError::Full);
        }
        let ticket = known.filter(|_| self.shared.config.tickets).and_then(|id| self.held.take(&id, self.now));
        let seed = self.peer_seed();
        // With a ticket there is no need of it, as a rule.
        let acquaintance = known.filter(|_| ticket.is_none()).and_then(|id| self.acquaintance(id));
        let peer = Peer::dial(Arc::clone(&self.shared), target, acquaintance, ticket, path, seed, self.now);
        let mut entry = Entry::new(peer, Phase::Dialling, None, self.now);
        entry.tried.push(path);
        let index = self.table.insert(entry);
        if let Some(id) = known {
            self.table.dialling.insert(id, index);
            if self.half_open.of_peer(&id).next().is_some() {
                // The other side was faster: its first packet may be on the way.
                self.yield_dial(index);
            }
        }
        self.touch(index);
        Ok(self.table.handle(index))
    }

    /// Says that a path carries nothing any more, to a session ([`Peer::lose_path`]) or to a dial, which has room for another one
    /// then. Says whether it was a path of theirs.
    pub fn lose_path(&mut self, handle: Handle, path: &Path, now: Instant) -> bool {
        if let Some(entry) = self.table.index(handle).and_then(|index| self.table.get_mut(index)) {
            entry.tried.retain(|tried| tried != path);
        }
        self.with(handle, now, |peer, now| peer.lose_path(path, now)).unwrap_or(false)
    }

    /// Runs a command on a peer; `None` if there is none with this handle. Every command must go through here, so that
    /// what it causes is sent.
    pub fn with<R>(
        &mut self,
        handle: Handle,
        now: Instant,
        command: impl FnOnce(&mut Peer, Instant) -> R,
    ) -> Option<R> {
        self.tick(now);
        let index = self.table.index(handle)?;
        let now = self.now;
        let reply = command(&mut self.table.get_mut(index)?.peer, now);
        self.touch(index);
        Some(reply)
    }

    /// The peer with this handle.
    #[must_use]
    pub fn peer(&self, handle: Handle) -> Option<&Peer> {
        Some(&self.table.get(self.table.index(handle)?)?.peer)
    }

    /// The session with the holder of a key, or the dial to it.
    #[must_use]
    pub fn by_id(&self, id: &PeerId) -> Option<Handle> {
        let index = self.table.open.get(id).or_else(|| self.table.dialling.get(id));
        index.map(|&index| self.table.handle(index))
    }

    /// The id with these bytes, if there was a handshake with its holder of late: they need not be looked at again, which takes
    /// longer than all else that a dial does besides agreeing on keys.
    #[must_use]
    pub fn met(&self, id: &[u8; 32]) -> Option<PeerId> {
        self.known.get(id).map(|acquaintance| acquaintance.peer())
    }

    /// Every peer that is there: dials, sessions, and those whose [`Closed`](crate::Event::Closed) was not taken yet.
    pub fn peers(&self) -> impl Iterator<Item = (Handle, &Peer)> {
        self.table.iter().map(|(handle, entry)| (handle, &entry.peer))
    }

    /// What else happened on the protocols of a peer that an [event](Machine::poll_event) of this kind has just come of. To
    /// be asked until `None`: it is quicker than to wait until that peer has its turn again, once for each event.
    pub fn poll_mux_event(&mut self, handle: Handle) -> Option<crate::mux::Event> {
        let index = self.table.index(handle)?;
        self.table.get_mut(index)?.peer.poll_mux_event()
    }

    /// Closes every session with this code and these words, after at most `grace` for what is queued, and lets nobody in
    /// any more. The endpoint [has ended](Self::is_closed) when all of them have.
    pub fn close(&mut self, code: u64, reason: &str, grace: Duration, now: Instant) {
        self.tick(now);
        self.closing = true;
        self.half_open.clear();
        self.answers.clear();
        for index in self.table.indexes() {
            let now = self.now;
            if let Some(entry) = self.table.get_mut(index) {
                entry.peer.close(code, reason, grace, now);
            }
            self.touch(index);
        }
    }

    /// The network has changed, or the machine was asleep: every session asks every path anew, and silence so far is
    /// forgiven.
    pub fn handle_resume(&mut self, now: Instant) {
        self.tick(now);
        for index in self.table.indexes() {
            let now = self.now;
            if let Some(entry) = self.table.get_mut(index) {
                entry.peer.handle_resume(now);
            }
            self.touch(index);
        }
    }

    /// Whether the endpoint has ended: it sends nothing any more and wants no timeout. Events may wait to be taken.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closing && self.table.live == 0
    }

    /// Figures since the start. Takes time in proportion to the number of peers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.peers = self.table.live;
        stats.half_open = self.half_open.len();
        stats.tickets_held = self.held.len();
        stats.tickets_issued = self.issued.len();
        stats.resets_sent = self.resets.sent();
        stats.buffered_bytes = self.buffered_bytes();
        for (_, entry) in self.table.iter() {
            stats.awake += usize::from(entry.peer.is_awake());
            stats.rejected.merge(&entry.peer.stats().rejected);
        }
        stats
    }

    /// Bytes held in queues, buffers and tables. Takes time in proportion to the number of peers.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let peers: usize = self.table.iter().map(|(_, entry)| entry.peer.buffered_bytes()).sum();
        peers + self.half_open.bytes() + self.answers.bytes()
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.half_open.expire(self.now);
    }

    /// What we have in common with a peer, which is kept.
    fn acquaintance(&mut self, id: PeerId) -> Option<Arc<Acquaintance>> {
        if let Some(acquaintance) = self.known.get(id.as_bytes()) {
            return Some(Arc::clone(acquaintance));
        }
        Acquaintance::new(&self.shared.identity, id).inspect(|new| self.acquaint(new))
    }

    /// Keeps what spares a key agreement when the same peer comes again.
    fn acquaint(&mut self, acquaintance: &Arc<Acquaintance>) {
        // Handshakes hold it only while they read.
        if let Some(known) = Arc::get_mut(&mut self.known) {
            known.insert(Arc::clone(acquaintance));
        }
    }

    fn peer_seed(&mut self) -> Seed {
        self.next_peer += 1;
        self.seed.fork(&format!("peer {}", self.next_peer))
    }

    /// To be called after every access to a peer.
    fn touch(&mut self, index: u32) {
        self.table.update_routes(index);
        self.advance(index);
        self.table.wake(index);
    }
}

impl Machine for Endpoint {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.tick(now);
        self.route(datagram)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        self.table.settle_deadlines();
        while let Some(index) = self.table.deadlines.pop_due(self.now) {
            if let Some(entry) = self.table.get_mut(index) {
                entry.peer.handle_timeout(self.now);
            }
            self.touch(index);
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.tick(now);
        if let Some(transmit) = self.answers.poll(out) {
            return Some(transmit);
        }
        while let Some(index) = self.table.next_ready() {
            let now = self.now;
            let transmit = self.table.get_mut(index).and_then(|entry| entry.peer.poll_transmit(out, now));
            // What leaves may name a connection id, by which the answer will come.
            self.table.update_routes(index);
            self.advance(index);
            match transmit {
                Some(transmit) => {
                    self.table.sent(index, transmit.len);
                    return Some(transmit);
                }
                None => {
                    self.table.rest(index);
                    self.young.had_turn(&mut self.table, index, now);
                }
            }
        }
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        while let Some(index) = self.table.next_eventful() {
            let Some(entry) = self.table.get_mut(index) else { continue };
            // Most that happens does so on protocols.
            if let Some(event) = entry.peer.poll_mux_event() {
                self.table.told(index);
                return Some(Event { peer: self.table.handle(index), event: crate::Event::Mux(event) });
            }
            let Some(event) = entry.peer.poll_event() else {
                self.table.update_routes(index);
                self.advance(index);
                self.table.hush(index);
                self.remove_ended(index);
                continue;
            };
            self.table.told(index);
            match event {
                crate::Event::Ticket(ticket) => self.held.insert(ticket, self.now),
                crate::Event::Issued(ticket) => self.issued.insert(ticket, self.now),
                event => return Some(Event { peer: self.table.handle(index), event }),
            }
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let reason = |index| self.table.get(index).map_or("peer", |entry| entry.reason);
        let peers = self.table.deadlines.next().map(|(at, &index)| Deadline { at, reason: reason(index) });
        let half_open = self.half_open.deadline().map(|at| Deadline { at, reason: "half-open" });
        Deadline::earliest(peers, half_open)
    }
}
