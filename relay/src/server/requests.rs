//! What clients ask for, and when it ends.

use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::PeerId;
use framing::voucher::Voucher;
use structs::{Link, Path, Rejected, TokenBucket};

use super::circuit::{Circuit, End, Side};
use super::{Client, Event, Reservation, Server, Timer};
use crate::message::{Message, Notice, Request};
use crate::{CircuitId, Code, Place, limits};

impl Server {
    /// Takes in a control message of a peer, whose session goes over `path` now.
    ///
    /// # Errors
    /// [`Rejected`] says why it was passed over, and was counted. [`Rejected::Malformed`] and [`Rejected::TooLarge`] are no
    /// accidents in a session: end the protocol in it.
    pub fn handle_message(&mut self, from: PeerId, path: Path, message: &[u8], now: Instant) -> Result<(), Rejected> {
        self.tick(now);
        self.on_message(from, path, message).map_err(|reason| self.rejected.count(reason))
    }

    fn on_message(&mut self, from: PeerId, path: Path, message: &[u8]) -> Result<(), Rejected> {
        if self.closed {
            return Err(Rejected::Closed);
        }
        let request = match Message::decode(message)? {
            Some(Message::Request(request)) => request,
            Some(Message::Notice(_)) => return Err(Rejected::Unsolicited),
            None => return Err(Rejected::UnknownKind),
        };
        self.admit(from, path)?;
        match request {
            Request::Reserve { show } => self.on_reserve(from, show),
            Request::Release => self.release(&from),
            Request::Connect { request, show, target } => {
                let opened = self.open(from, target, request, show);
                if let Err(code) = opened {
                    self.refused(from, code);
                    self.tell(&from, &Notice::NotOpened { request, code });
                }
            }
            Request::Close { circuit, code } => {
                let (number, side) = *self.by_id.get(&circuit).ok_or(Rejected::UnknownPeer)?;
                if self.circuits.get(&number).is_none_or(|open| open.end(side).peer != from) {
                    return Err(Rejected::UnknownPeer);
                }
                self.end_circuit(number, code, Some(from));
            }
            Request::Ping(data) => self.tell(&from, &Notice::Pong(data)),
            Request::Relays => {
                let ours = self.addresses.first().filter(|_| self.config.serves);
                let ours = ours.map(|addr| (self.identity.peer_id(), *addr));
                let others = self.others.iter().copied().filter(|(relay, _)| *relay != from);
                let named = ours.into_iter().chain(others).take(limits::MAX_NAMED).collect();
                self.tell(&from, &Notice::Relays(named));
            }
        }
        Ok(())
    }

    /// Lets a peer ask for something, if it does not ask for more than it reads, or too often.
    fn admit(&mut self, from: PeerId, path: Path) -> Result<(), Rejected> {
        if !self.clients.contains_key(&from) {
            if self.clients.len() >= limits::MAX_SESSIONS {
                return Err(Rejected::LimitReached);
            }
            let requests = TokenBucket::new(limits::REQUESTS_PER_SECOND, limits::REQUESTS_AT_ONCE, self.now);
            self.clients.insert(from, Client { path, requests, reserved: None, circuits: Vec::new() });
        }
        self.moved(&from, path);
        let unread = self.outbox.waiting(&from) >= limits::MAX_UNREAD;
        let client = self.clients.get_mut(&from).filter(|_| !unread).ok_or(Rejected::LimitReached)?;
        client.requests.try_take(1, self.now).then_some(()).ok_or(Rejected::LimitReached)
    }

    fn on_reserve(&mut self, from: PeerId, show: bool) {
        let config = self.config;
        let Some(client) = self.clients.get_mut(&from) else { return };
        let place = config.networks.of(client.path.remote.ip());
        // A renewal keeps its place in number, and counts where the peer is now.
        let before = client.reserved.take();
        if let Some(before) = &before {
            self.reserved_by.remove(before.place);
        }
        let renewed = before.is_some();
        let code = if !config.serves {
            Some(Code::NOT_RELAYING)
        } else if !renewed && self.reserved >= config.reservations {
            Some(Code::FULL)
        } else if !self.reserved_by.has_room(place, config.reservations_by_address, config.reservations_by_network) {
            Some(Code::SHARE)
        } else {
            None
        };
        if let Some(code) = code {
            if renewed {
                self.reserved -= 1;
                self.deadlines.remove(&Timer::Reservation(from));
                self.events.push_overwrite(Event::Released { peer: from });
            }
            self.refused(from, code);
            // Places become free as they end.
            let wait = self.next_end().unwrap_or(limits::RESERVATION).max(SOONEST);
            return self.tell(&from, &Notice::Refused { code, wait });
        }
        client.reserved = Some(Reservation { place, show });
        self.reserved_by.add(place);
        if !renewed {
            self.reserved += 1;
            self.events.push_overwrite(Event::Reserved { peer: from });
        }
        self.deadlines.set(Timer::Reservation(from), self.now.checked_add(limits::RESERVATION));
        let expires = self.epoch.unix_at(self.now).saturating_add(limits::RESERVATION);
        // The addresses are usable, and few: it cannot fail.
        let voucher = Voucher::sign(&self.identity, from, expires, &self.addresses);
        let voucher = voucher.map(|voucher| voucher.as_bytes().to_vec()).unwrap_or_default();
        self.tell(&from, &Notice::Reserved { lifetime: limits::RESERVATION, rate: config.rate, voucher });
    }

    /// How long it is until the next reservation ends.
    fn next_end(&self) -> Option<Duration> {
        let ends = self.clients.iter().filter(|(_, client)| client.reserved.is_some());
        let ends = ends.filter_map(|(peer, _)| self.deadlines.get(&Timer::Reservation(*peer)));
        ends.min().map(|at| at.saturating_duration_since(self.now))
    }

    /// Takes the place of a peer back, if it has one.
    pub(super) fn release(&mut self, peer: &PeerId) {
        let Some(reservation) = self.clients.get_mut(peer).and_then(|client| client.reserved.take()) else { return };
        self.reserved -= 1;
        self.reserved_by.remove(reservation.place);
        self.deadlines.remove(&Timer::Reservation(*peer));
        self.events.push_overwrite(Event::Released { peer: *peer });
    }

    fn open(&mut self, from: PeerId, to: PeerId, request: u32, show: bool) -> Result<(), Code> {
        let config = self.config;
        if !config.serves {
            return Err(Code::NOT_RELAYING);
        }
        if from == to {
            return Err(Code::SELF);
        }
        let target = self.clients.get(&to).ok_or(Code::NOT_HERE)?;
        let reservation = target.reserved.as_ref().ok_or(Code::NOT_HERE)?;
        let (shown, target_path) = (reservation.show, target.path);
        // Whoever asks again has lost the first.
        let before = target
            .circuits
            .iter()
            .copied()
            .find(|number| self.circuits.get(number).is_some_and(|open| open.end(Side::Dialler).peer == from));
        if let Some(before) = before {
            self.end_circuit(before, Code::REPLACED, None);
        }
        let dialler = self.clients.get(&from).ok_or(Code::BUSY)?;
        let place = config.networks.of(dialler.path.remote.ip());
        let dialler_path = dialler.path;
        let many = |peer: &PeerId| {
            self.clients.get(peer).is_some_and(|client| client.circuits.len() >= config.circuits_by_peer)
        };
        if self.circuits.len() >= config.circuits {
            return Err(Code::FULL);
        }
        let (same, near) = self.circuits_between(place, &to);
        if !self.circuits_by.has_room(place, config.circuits_by_address, config.circuits_by_network)
            || same >= config.circuits_by_pair
            || near >= config.circuits_by_network_to_peer
        {
            return Err(Code::SHARE);
        }
        if many(&from) {
            return Err(Code::TOO_MANY);
        }
        let unfair = if many(&to) { Some(self.unfair_circuit(near, &to).ok_or(Code::TOO_MANY)?) } else { None };
        if self.outbox.waiting(&to) >= limits::MAX_UNREAD {
            return Err(Code::BUSY);
        }
        if let Some(unfair) = unfair {
            self.end_circuit(unfair, Code::SHARE, None);
        }
        let number = self.next_circuit;
        self.next_circuit += 1;
        let ours = self.new_id(number, Side::Dialler);
        let theirs = self.new_id(number, Side::Target);
        let bucket = TokenBucket::new(config.rate, config.burst, self.now);
        let ends = (End::new(ours, from, dialler_path), End::new(theirs, to, target_path));
        self.circuits.insert(number, Circuit::new(ends.0, ends.1, bucket, place, self.now));
        self.circuits_by.add(place);
        for peer in [&from, &to] {
            if let Some(client) = self.clients.get_mut(peer) {
                client.circuits.push(number);
            }
        }
        self.check_circuit(number);
        self.stats.opened += 1;
        self.events.push_overwrite(Event::Opened { from, to });
        let addr = show.then(|| seen(&dialler_path)).flatten();
        self.tell(&to, &Notice::Incoming { circuit: theirs, peer: from, addr });
        let addr = shown.then(|| seen(&target_path)).flatten();
        self.tell(&from, &Notice::Opened { request, circuit: ours, addr });
        Ok(())
    }

    /// Circuits to a peer that were begun at the address of `place`, and in its network; none where places do not count.
    fn circuits_between(&self, place: Option<Place>, to: &PeerId) -> (usize, usize) {
        let Some(place) = place else { return (0, 0) };
        let count = |counts: &dyn Fn(&Place) -> bool| self.begun_to(to).filter(|(_, other)| counts(other)).count();
        (count(&|other| other.is_same(&place)), count(&|other| other.is_near(&place)))
    }

    /// The circuits to a peer, and where they were begun, if that counts.
    fn begun_to(&self, to: &PeerId) -> impl Iterator<Item = (u64, Place)> {
        let circuits = self.clients.get(to).map(|target| target.circuits.as_slice()).unwrap_or_default();
        circuits.iter().filter_map(move |number| {
            let open = self.circuits.get(number).filter(|open| open.end(Side::Target).peer == *to)?;
            Some((*number, open.place?))
        })
    }

    /// The newest circuit of the network that has most of those to a peer, if that has at least two more than the `near` ones of
    /// who wants another.
    fn unfair_circuit(&self, near: usize, to: &PeerId) -> Option<u64> {
        let share = |place: &Place| self.begun_to(to).filter(|(_, other)| other.is_near(place)).count();
        let (count, number) = self.begun_to(to).map(|(number, place)| (share(&place), number)).max()?;
        (count >= near + 2).then_some(number)
    }

    fn new_id(&mut self, number: u64, side: Side) -> CircuitId {
        loop {
            let id = CircuitId(self.rng.array());
            if let Entry::Vacant(free) = self.by_id.entry(id) {
                free.insert((number, side));
                return id;
            }
        }
    }

    /// Ends a circuit that was idle, or there, for too long; otherwise says when to look again.
    pub(super) fn check_circuit(&mut self, number: u64) {
        let Some(circuit) = self.circuits.get(&number) else { return };
        let idle = circuit.used.checked_add(limits::CIRCUIT_IDLE);
        let over = self.config.circuit_time.and_then(|most| circuit.since.checked_add(most));
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= self.now);
        if due(over) {
            self.end_circuit(number, Code::TIME, None);
        } else if due(idle) {
            self.end_circuit(number, Code::IDLE, None);
        } else {
            let next = [idle, over].into_iter().flatten().min();
            self.deadlines.set(Timer::Circuit(number), next);
        }
    }

    /// Ends a circuit, and tells both ends but the one that wants it or is gone.
    pub(super) fn end_circuit(&mut self, number: u64, code: Code, but: Option<PeerId>) {
        let Some(circuit) = self.circuits.remove(&number) else { return };
        self.circuits_by.remove(circuit.place);
        self.deadlines.remove(&Timer::Circuit(number));
        for (side, end) in circuit.ends() {
            self.by_id.remove(&end.id);
            self.deadlines.remove(&Timer::Lane(number, side));
            if let Some(client) = self.clients.get_mut(&end.peer) {
                client.circuits.retain(|other| *other != number);
            }
            if Some(end.peer) != but {
                self.tell(&end.peer, &Notice::Closed { circuit: end.id, code });
            }
        }
        let [from, to] = [Side::Dialler, Side::Target].map(|side| circuit.end(side).peer);
        self.events.push_overwrite(Event::Closed { from, to, code, carried: circuit.carried });
    }

    fn refused(&mut self, peer: PeerId, code: Code) {
        self.stats.refused += 1;
        self.events.push_overwrite(Event::Refused { peer, code });
    }

    /// There is room: nobody is told of a new circuit, or answered, while more than [`MAX_UNREAD`](limits::MAX_UNREAD) wait, and
    /// what the ends of circuits cause beyond that is bounded by their number.
    fn tell(&mut self, peer: &PeerId, notice: &Notice) {
        let taken = self.outbox.push(*peer, notice.encode());
        debug_assert!(taken, "the bounds of circuits and of unread messages leave room");
    }
}

/// Who was refused need not ask again before.
const SOONEST: Duration = Duration::from_secs(30);

/// The address that others may try. The port of a connection is of no use to them, nor what is none of a network.
fn seen(path: &Path) -> Option<SocketAddr> {
    (!matches!(path.link, Link::Stream(_) | Link::Custom(_))).then_some(path.remote)
}
