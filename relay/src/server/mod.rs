//! The relay: places for those who cannot be reached, and circuits to them.
//!
//! The invariants: a datagram is passed on only if it comes from where the session of one end is, under the name that this end
//! has for the circuit, to where the session of the other end is, and it is as long there as it was here. So nobody gets
//! anything who has not proved an address to us and agreed, and nothing is read but nine bytes in front.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Server`]: its state, the machine's five methods |
//! | `requests.rs` | what clients ask for, and when it ends |
//! | `circuit.rs` | one circuit: what waits, and what may leave |

mod circuit;
mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crypto::{Identity, PeerId, Rng, Seed};
use framing::Kind;
use structs::{
    Datagram, Deadline, Deadlines, Ecn, Epoch, Machine, Path, Rejected, RejectedCounts, Ring, TokenBucket, Transmit,
    TransmitBuf,
};

use crate::datagram::split;
use crate::network::Shares;
use crate::outbox::Outbox;
use crate::{CircuitId, Code, Config, Place};

use circuit::{Circuit, Side, Turn};

/// What a relay tells its owner: for logs. Of events that nobody takes the oldest go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer has a place, for the first time in this session.
    Reserved {
        /// Who.
        peer: PeerId,
    },
    /// A peer has no place any more.
    Released {
        /// Who.
        peer: PeerId,
    },
    /// A request was refused.
    Refused {
        /// Whose.
        peer: PeerId,
        /// Why.
        code: Code,
    },
    /// A circuit is open.
    Opened {
        /// Who asked for it.
        from: PeerId,
        /// To whom.
        to: PeerId,
    },
    /// A circuit has ended.
    Closed {
        /// Who asked for it.
        from: PeerId,
        /// To whom.
        to: PeerId,
        /// Why.
        code: Code,
        /// Bytes that it carried, with their headers.
        carried: u64,
    },
}

/// What a relay has, and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Places that are taken.
    pub reservations: usize,
    /// Circuits that are open.
    pub circuits: usize,
    /// Circuits since the beginning.
    pub opened: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Datagrams, and bytes with their headers, that were passed on.
    pub datagrams: u64,
    /// See [`datagrams`](Self::datagrams).
    pub bytes: u64,
    /// Bytes that found no room in the queues.
    pub dropped: u64,
}

/// A relay, as a state machine.
///
/// Its datagrams are those of circuits. Control messages come with the sessions of its owner: in by
/// [`handle_message`](Self::handle_message), out by [`peek_message`](Self::peek_message).
pub struct Server {
    config: Config,
    identity: Arc<Identity>,
    epoch: Epoch,
    /// Where we can be reached, for vouchers.
    addresses: Vec<SocketAddr>,
    /// Relays that we name to those who ask.
    others: Vec<(PeerId, SocketAddr)>,
    rng: Rng,
    clients: BTreeMap<PeerId, Client>,
    reserved: usize,
    reserved_by: Shares,
    circuits: BTreeMap<u64, Circuit>,
    circuits_by: Shares,
    by_id: BTreeMap<CircuitId, (u64, Side)>,
    next_circuit: u64,
    /// Ends with something to send, in turn.
    line: VecDeque<(u64, Side)>,
    all: TokenBucket,
    /// When there are tokens for the first in line again.
    all_ready: Option<Instant>,
    deadlines: Deadlines<Timer>,
    outbox: Outbox,
    events: Ring<Event>,
    rejected: RejectedCounts,
    stats: Stats,
    /// The newest time seen.
    now: Instant,
    closed: bool,
}

/// Somebody who has asked for something.
#[derive(Debug)]
struct Client {
    path: Path,
    requests: TokenBucket,
    reserved: Option<Reservation>,
    circuits: Vec<u64>,
}

#[derive(Debug)]
struct Reservation {
    /// What it counts against.
    place: Option<Place>,
    /// Who opens a circuit may know the address.
    show: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Reservation(PeerId),
    Circuit(u64),
    Lane(u64, Side),
}

impl Server {
    /// A relay of this identity, which signs the vouchers. `epoch` is what it knows of the wall clock.
    #[must_use]
    pub fn new(identity: impl Into<Arc<Identity>>, config: Config, epoch: Epoch, seed: &Seed, now: Instant) -> Self {
        Self {
            config,
            identity: identity.into(),
            epoch,
            addresses: Vec::new(),
            others: Vec::new(),
            rng: seed.fork("relay server").rng(),
            clients: BTreeMap::new(),
            reserved: 0,
            reserved_by: Shares::default(),
            circuits: BTreeMap::new(),
            circuits_by: Shares::default(),
            by_id: BTreeMap::new(),
            next_circuit: 0,
            line: VecDeque::new(),
            all: TokenBucket::new(config.total_rate, config.total_burst, now),
            all_ready: None,
            deadlines: Deadlines::new(),
            outbox: Outbox::default(),
            events: Ring::new(MAX_EVENTS),
            rejected: RejectedCounts::default(),
            stats: Stats::default(),
            now,
            closed: false,
        }
    }

    /// Says where this relay can be reached: the first four go into the vouchers from now on.
    pub fn set_addresses(&mut self, addresses: &[SocketAddr]) {
        let usable = addresses.iter().filter(|addr| crate::network::is_usable(addr));
        self.addresses = usable.take(framing::limits::MAX_VOUCHER_ADDRESSES).copied().collect();
    }

    /// Says which other relays are named to those who ask: the first seven.
    pub fn set_others(&mut self, relays: impl IntoIterator<Item = (PeerId, SocketAddr)>) {
        let usable = relays.into_iter().filter(|(_, addr)| crate::network::is_usable(addr));
        self.others = usable.take(crate::limits::MAX_NAMED - 1).collect();
    }

    /// Pairs the clocks anew, because the wall clock was set.
    pub const fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// The session of a peer goes another way now, which it has proved.
    pub fn moved(&mut self, peer: &PeerId, path: Path) {
        let Some(client) = self.clients.get_mut(peer) else { return };
        client.path = path;
        for number in &client.circuits {
            let Some(circuit) = self.circuits.get_mut(number) else { continue };
            for side in [Side::Dialler, Side::Target] {
                let end = circuit.end_mut(side);
                if end.peer == *peer {
                    end.path = path;
                }
            }
        }
    }

    /// The session of a peer is over: its place is free, and its circuits end.
    pub fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        self.tick(now);
        let circuits = self.clients.get(peer).map(|client| client.circuits.clone()).unwrap_or_default();
        for number in circuits {
            self.end_circuit(number, Code::GONE, Some(*peer));
        }
        self.release(peer);
        self.clients.remove(peer);
        self.outbox.forget(peer);
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

    /// Whether it relays from now on. What there is already stays.
    pub const fn set_serves(&mut self, serves: bool) {
        self.config.serves = serves;
    }

    /// Whether it gives places at all.
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.config.serves
    }

    /// Whether a peer has a place.
    #[must_use]
    pub fn has_reservation(&self, peer: &PeerId) -> bool {
        self.clients.get(peer).is_some_and(|client| client.reserved.is_some())
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { reservations: self.reserved, circuits: self.circuits.len(), ..self.stats }
    }

    /// What was refused, by reason. Requests that got an answer are not among it.
    #[must_use]
    pub const fn rejected(&self) -> &RejectedCounts {
        &self.rejected
    }

    /// Bytes that wait: at most 64 KiB in each circuit, and 64 messages for each peer.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.circuits.values().map(Circuit::buffered).sum::<usize>() + self.outbox.bytes()
    }

    /// Ends it: nothing is passed on any more, nothing taken in. Clients find out by the end of their sessions.
    pub fn close(&mut self) {
        self.closed = true;
        self.clients.clear();
        self.circuits.clear();
        self.by_id.clear();
        self.line.clear();
        self.deadlines = Deadlines::new();
        self.outbox.clear();
        self.events.clear();
        self.reserved = 0;
        (self.reserved_by, self.circuits_by) = (Shares::default(), Shares::default());
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Passes a datagram on, or says why not.
    fn forward(&mut self, path: Path, datagram: &[u8]) -> Result<(), Rejected> {
        if self.closed {
            return Err(Rejected::Closed);
        }
        let (id, inner) = split(Kind::ToRelay, datagram)?;
        let (number, from) = *self.by_id.get(&id).ok_or(Rejected::UnknownPeer)?;
        let circuit = self.circuits.get_mut(&number).ok_or(Rejected::UnknownPeer)?;
        let at = circuit.end(from).path;
        if (at.link, at.remote) != (path.link, path.remote) {
            // A forger, or an end that a translator moved: its session will prove the new address.
            return Err(Rejected::Unproven);
        }
        let to = from.other();
        if !circuit.push(to, inner, self.now) {
            self.stats.dropped = self.stats.dropped.saturating_add(inner.len() as u64);
            return Err(Rejected::LimitReached);
        }
        if !std::mem::replace(&mut circuit.end_mut(to).in_line, true) {
            self.line.push_back((number, to));
        }
        Ok(())
    }
}

impl Machine for Server {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.tick(now);
        self.forward(datagram.path, datagram.payload).map_err(|reason| self.rejected.count(reason))
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        // The line moves with the next batch: until somebody takes that, there is nothing to wake up for.
        self.all_ready = self.all_ready.filter(|at| *at > self.now);
        while let Some(timer) = self.deadlines.pop_due(self.now) {
            match timer {
                Timer::Reservation(peer) => self.release(&peer),
                Timer::Circuit(number) => self.check_circuit(number),
                Timer::Lane(number, side) => self.line.push_back((number, side)),
            }
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.tick(now);
        self.all_ready = None;
        while let Some((number, side)) = self.line.front().copied() {
            let Some(circuit) = self.circuits.get_mut(&number) else {
                self.line.pop_front();
                continue;
            };
            let before = circuit.carried;
            let turn = circuit.turn(side, &mut self.all, out, self.now);
            let end = circuit.end_mut(side);
            let transmit = out.finish(end.path, Ecn::NotEct);
            match turn {
                Turn::Empty => end.in_line = false,
                Turn::Over => self.line.push_back((number, side)),
                Turn::Wait(at) => self.deadlines.set(Timer::Lane(number, side), at),
                Turn::WaitForAll(_) if transmit.is_some() => self.line.push_back((number, side)),
                Turn::WaitForAll(tokens) => {
                    self.all_ready = self.all.ready_at(tokens, self.now);
                    return None;
                }
            }
            self.line.pop_front();
            let carried = circuit.carried;
            if let Some(transmit) = transmit {
                self.stats.datagrams += transmit.len.div_ceil(transmit.segment_size.max(1)) as u64;
                self.stats.bytes = self.stats.bytes.saturating_add(carried - before);
                if self.config.circuit_bytes.is_some_and(|most| carried >= most) {
                    self.end_circuit(number, Code::BYTES, None);
                }
                return Some(transmit);
            }
        }
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let timer = self.deadlines.next().map(|(at, timer)| {
            let reason = match timer {
                Timer::Reservation(_) => "end of a reservation",
                Timer::Circuit(_) => "idle circuit",
                Timer::Lane(..) => "rate of a circuit",
            };
            Deadline { at, reason }
        });
        let all = self.all_ready.map(|at| Deadline { at, reason: "rate of the relay" });
        Deadline::earliest(timer, all)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("reservations", &self.reserved)
            .field("circuits", &self.circuits.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Events that wait to be taken.
const MAX_EVENTS: usize = 256;
