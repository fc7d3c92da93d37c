//! The client: places at relays for those who look for us, and circuits to those whom we look for.
//!
//! The invariant: a circuit ends with the relay that carries it, and whatever ends is told: a place by [`Event::Changed`], a
//! circuit by [`Event::Closed`], an attempt by [`Event::Failed`] or, if it opened circuits, [`Event::Done`].
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Client`]: its state, its commands, time |
//! | `places.rs` | at which relays it has a place, and whether they are alive |
//! | `attempts.rs` | circuits on the way to be opened |
//! | `circuits.rs` | circuits that are open: datagrams in and out |

mod attempts;
mod circuits;
mod places;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use crypto::{PeerId, Rng, Seed};
use framing::voucher::Voucher;
use structs::{Deadline, Link, Path, Rejected, RejectedCounts};
use thiserror::Error;

use crate::message::{Message, Notice};
use crate::outbox::Outbox;
use crate::{CircuitId, Code, Networks, limits};

use attempts::Attempt;
use circuits::Circuit;
use places::{Place, Relay};

pub use places::{Progress, Status};

/// What a client is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    wanted: usize,
    show: bool,
    networks: Networks,
}

impl Default for Config {
    fn default() -> Self {
        Self { wanted: limits::WANTED, show: true, networks: Networks::Public }
    }
}

impl Config {
    /// At how many relays, in different networks, a place is kept. Default: 2. With 0 the client only dials.
    #[must_use]
    pub const fn wanted(mut self, relays: usize) -> Self {
        self.wanted = relays;
        self
    }

    /// Whether the other ends of circuits may know from the relay where we are, which it takes to find a direct path. Default:
    /// yes.
    #[must_use]
    pub const fn show(mut self, show: bool) -> Self {
        self.show = show;
        self
    }

    /// Which addresses make two relays different. Default: public ones.
    #[must_use]
    pub const fn networks(mut self, networks: Networks) -> Self {
        self.networks = networks;
        self
    }
}

/// A relay, as a record, a voucher or a ticket names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Who.
    pub relay: PeerId,
    /// Where it can be dialled, if that is known.
    pub addrs: Vec<SocketAddr>,
}

/// An attempt to open circuits to a peer; its events carry the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u64);

/// What a client tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session with a relay is wanted. Answer with [`connected`](Client::connected) or [`dial_failed`](Client::dial_failed).
    Dial {
        /// Who.
        relay: PeerId,
        /// Where.
        addrs: Vec<SocketAddr>,
    },
    /// The relays at which we have a place, or their vouchers, are others now: see [`vouchers`](Client::vouchers). Publish them
    /// at once, because nobody finds us by the old ones.
    Changed,
    /// A relay did not give us a place, or took it back.
    Refused {
        /// Which.
        relay: PeerId,
        /// Why.
        code: Code,
    },
    /// A circuit that we asked for is open.
    Opened {
        /// By this attempt, which may open another one.
        attempt: AttemptId,
        /// To whom.
        peer: PeerId,
        /// Through whom.
        relay: PeerId,
        /// What to send on.
        path: Path,
        /// Where the relay sees the other end, if it shows it. It is the word of the relay.
        addr: Option<SocketAddr>,
    },
    /// An attempt has failed, at each relay for a reason of its own.
    Failed {
        /// Which.
        attempt: AttemptId,
        /// To whom.
        peer: PeerId,
        /// Why.
        reasons: Vec<(PeerId, Code)>,
    },
    /// An attempt that opened circuits is over: no other comes of it.
    Done {
        /// Which.
        attempt: AttemptId,
        /// To whom.
        peer: PeerId,
    },
    /// Somebody has opened a circuit to us. To refuse it, [`close`](Client::close) it.
    Incoming {
        /// Who, says the relay.
        peer: PeerId,
        /// Through whom.
        relay: PeerId,
        /// What to send on.
        path: Path,
        /// Where the relay sees the other end, if it shows it. It is the word of the relay.
        addr: Option<SocketAddr>,
    },
    /// A peer that was [asked](Client::ask) for relays names these. It is the word of that peer.
    Named {
        /// Who.
        by: PeerId,
        /// Whom, and where.
        relays: Vec<(PeerId, SocketAddr)>,
    },
    /// A peer says at which relays it has places, and so is reached if no other way is left. It is the word of that peer.
    Places {
        /// Who.
        of: PeerId,
        /// At whom, and where.
        relays: Vec<(PeerId, SocketAddr)>,
    },
    /// A circuit has ended.
    Closed {
        /// To whom.
        peer: PeerId,
        /// What it was.
        path: Path,
        /// Why.
        code: Code,
    },
}

/// Why an attempt was not begun. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No relay was named that is not ourselves or the peer.
    #[error("no relay is known")]
    NoRelay,
    /// Too many attempts, relays or circuits at a time.
    #[error("too many at a time")]
    Busy,
    /// The client has ended.
    #[error("the client has ended")]
    Closed,
}

/// The client side of relays, as a state machine without datagrams of its own: it wraps and unwraps those of its owner, and its
/// control messages travel in the sessions of its owner.
pub struct Client {
    config: Config,
    own: PeerId,
    rng: Rng,
    relays: BTreeMap<PeerId, Relay>,
    next_relay: u64,
    circuits: BTreeMap<u32, Circuit>,
    by_id: BTreeMap<CircuitId, u32>,
    next_circuit: u32,
    /// Peers that are to say which relays they know.
    asked: BTreeSet<PeerId>,
    attempts: BTreeMap<AttemptId, Attempt>,
    next_attempt: u64,
    next_request: u32,
    outbox: Outbox,
    events: VecDeque<Event>,
    rejected: RejectedCounts,
    /// The newest time seen.
    now: Instant,
    closed: bool,
}

impl Client {
    /// The client of the node `own`.
    #[must_use]
    pub fn new(own: PeerId, config: Config, seed: &Seed, now: Instant) -> Self {
        Self {
            config,
            own,
            rng: seed.fork("relay client").rng(),
            relays: BTreeMap::new(),
            next_relay: 0,
            circuits: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next_circuit: 0,
            asked: BTreeSet::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            next_request: 0,
            outbox: Outbox::default(),
            events: VecDeque::new(),
            rejected: RejectedCounts::default(),
            now,
            closed: false,
        }
    }

    /// The session with a peer is open, and goes over `path`. Of peers that are no relays it is passed over.
    pub fn connected(&mut self, peer: PeerId, path: Path, now: Instant) {
        self.tick(now);
        if self.relays.get(&peer).is_some_and(|relay| relay.session.is_some()) {
            // What the relay had for us went with the session before this one.
            self.lose_circuits(&peer, Code::GONE);
            self.lose_place(&peer);
        }
        let (now, show) = (self.now, self.config.show);
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        relay.on_connected(path, now);
        if relay.chosen {
            relay.place = Place::Asked(now + limits::ANSWER);
            self.send(peer, crate::message::Request::Reserve { show });
        }
        self.attempts_connected(&peer);
    }

    /// The session with a peer goes another way now. One that was not told of before is [`connected`](Self::connected).
    pub fn moved(&mut self, peer: &PeerId, path: Path, now: Instant) {
        match self.relays.get_mut(peer).map(|relay| &mut relay.session) {
            Some(Some(session)) => *session = path,
            Some(None) => self.connected(*peer, path, now),
            None => {}
        }
    }

    /// Asks any peer, with which there is a session, for relays. [`Event::Named`] follows if it answers. Says whether there was
    /// room for the question.
    pub fn ask(&mut self, peer: PeerId, now: Instant) -> bool {
        self.tick(now);
        let room = !self.closed && (self.asked.len() < limits::MAX_ASKED || self.asked.contains(&peer));
        let asked = room && self.outbox.push(peer, crate::message::Request::Relays.encode());
        if asked {
            self.asked.insert(peer);
        }
        asked
    }

    /// Tells any peer, with which there is a session, at which relays we have places: [`Event::Places`] there. Says whether there
    /// was room for it.
    pub fn tell(&mut self, peer: PeerId, places: &[(PeerId, SocketAddr)]) -> bool {
        !self.closed && self.outbox.push(peer, Notice::Places(places.to_vec()).encode())
    }

    /// The network may have changed: the relays in use are asked for a sign of life now, which tells them where we are.
    pub fn check(&mut self, now: Instant) {
        self.tick(now);
        self.ask_relays();
    }

    /// The session with a peer is over.
    pub fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        self.tick(now);
        self.asked.remove(peer);
        self.outbox.forget(peer);
        if let Some(relay) = self.relays.get_mut(peer) {
            relay.session = None;
            self.give_up(peer, Code::UNREACHABLE);
        }
    }

    /// A session that [`Event::Dial`] wanted could not be opened.
    pub fn dial_failed(&mut self, peer: &PeerId, now: Instant) {
        self.tick(now);
        if self.relays.get(peer).is_some_and(|relay| relay.session.is_none()) {
            self.give_up(peer, Code::UNREACHABLE);
        }
    }

    /// Takes in a control message of a peer.
    ///
    /// # Errors
    /// [`Rejected`] says why it was passed over, and was counted. [`Rejected::Malformed`] and [`Rejected::TooLarge`] are no
    /// accidents in a session: end the protocol in it.
    pub fn handle_message(&mut self, from: PeerId, message: &[u8], now: Instant) -> Result<(), Rejected> {
        self.tick(now);
        self.on_message(from, message).map_err(|reason| self.rejected.count(reason))
    }

    fn on_message(&mut self, from: PeerId, message: &[u8]) -> Result<(), Rejected> {
        if self.closed {
            return Err(Rejected::Closed);
        }
        let notice = match Message::decode(message)? {
            Some(Message::Notice(notice)) => notice,
            Some(Message::Request(_)) => return Err(Rejected::Unsolicited),
            None => return Err(Rejected::UnknownKind),
        };
        if let Notice::Relays(relays) = notice {
            let asked = self.asked.remove(&from);
            asked.then(|| self.events.push_back(Event::Named { by: from, relays })).ok_or(Rejected::Unsolicited)?;
            return Ok(());
        }
        if let Notice::Places(relays) = notice {
            self.events.push_back(Event::Places { of: from, relays });
            return Ok(());
        }
        let now = self.now;
        let relay = self.relays.get_mut(&from).filter(|relay| relay.session.is_some()).ok_or(Rejected::Unsolicited)?;
        relay.on_heard(now);
        match notice {
            Notice::Reserved { lifetime, voucher, .. } => self.on_reserved(from, lifetime, &voucher),
            Notice::Refused { code, wait } => self.on_refused(from, code, wait),
            Notice::Opened { request, circuit, addr } => self.on_opened(from, request, circuit, addr),
            Notice::NotOpened { request, code } => self.on_not_opened(&from, request, code),
            Notice::Incoming { circuit, peer, addr } => self.on_incoming(from, circuit, peer, addr),
            Notice::Closed { circuit, code } => self.on_circuit_closed(&from, circuit, code),
            Notice::Pong(_) | Notice::Relays(_) | Notice::Places(_) => Ok(()),
        }
    }

    /// The next control message, and whose session it is for. It stays the next one until [`sent`](Self::sent) or
    /// [`blocked`](Self::blocked).
    #[must_use]
    pub fn peek_message(&self) -> Option<(PeerId, &[u8])> {
        self.outbox.peek()
    }

    /// The session has taken the message.
    pub fn sent(&mut self, peer: &PeerId) {
        self.outbox.sent(peer);
    }

    /// The session has no room for it: its peer waits for [`writable`](Self::writable).
    pub fn blocked(&mut self, peer: &PeerId) {
        self.outbox.blocked(peer);
    }

    /// The session has room again.
    pub fn writable(&mut self, peer: &PeerId) {
        self.outbox.writable(peer);
    }

    /// Tells the machine that its deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        if self.closed {
            return;
        }
        self.check_relays();
        self.check_attempts();
        self.choose();
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next. Takes time in proportion to the number of relays.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.closed {
            return None;
        }
        let relays = self.relays_deadline().map(|at| Deadline { at, reason: "relay" });
        let attempts = self.attempts_deadline().map(|at| Deadline { at, reason: "circuit on the way" });
        Deadline::earliest(relays, attempts)
    }

    /// The proofs of the places that we have, by relay.
    pub fn vouchers(&self) -> impl Iterator<Item = &Voucher> {
        self.relays.values().filter_map(|relay| match &relay.place {
            Place::Held(held) => Some(&held.voucher),
            Place::None | Place::Asked(_) => None,
        })
    }

    /// At how many relays a place is kept from now on. Places beyond it stay until they end.
    pub fn set_wanted(&mut self, relays: usize, now: Instant) {
        self.tick(now);
        self.config.wanted = relays;
        self.choose();
    }

    /// At how many relays there is a place, and at how many one is wanted.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.vouchers().count(), self.config.wanted)
    }

    /// The relays that were suggested for a place, and how that goes.
    pub fn places(&self) -> impl Iterator<Item = Status<'_>> {
        self.relays.iter().filter_map(|(relay, known)| known.status(*relay))
    }

    /// Whether a session with a peer serves this client: it holds a place or a circuit there, or is about to.
    #[must_use]
    pub fn needs(&self, peer: &PeerId) -> bool {
        self.relays.get(peer).is_some_and(|relay| relay.chosen || relay.circuits > 0) || self.awaits(peer)
    }

    /// The peer at the other end of a circuit, and the relay between.
    #[must_use]
    pub fn circuit(&self, link: Link) -> Option<(PeerId, PeerId)> {
        let Link::Circuit(number) = link else { return None };
        self.circuits.get(&number).map(|circuit| (circuit.peer, circuit.relay))
    }

    /// What was refused, by reason.
    #[must_use]
    pub const fn rejected(&self) -> &RejectedCounts {
        &self.rejected
    }

    /// Ends it. What the relays have for us ends with the sessions.
    pub fn shut_down(&mut self) {
        self.closed = true;
        self.relays.clear();
        self.circuits.clear();
        self.by_id.clear();
        self.attempts.clear();
        self.asked.clear();
        self.outbox.clear();
        self.events.clear();
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn send(&mut self, to: PeerId, request: crate::message::Request) {
        if !self.outbox.push(to, request.encode()) {
            // Who reads so little is no relay.
            self.outbox.forget(&to);
            self.fall_silent(&to);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("own", &self.own)
            .field("relays", &self.relays.len())
            .field("circuits", &self.circuits.len())
            .finish_non_exhaustive()
    }
}
