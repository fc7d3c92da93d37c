//! Circuits through relays: places for this node at some, circuits to others through theirs, and this node as a relay.
//!
//! The machines are those of the `relay` crate. Here their messages travel in the sessions, their datagrams beside them, and a
//! circuit becomes a path that the endpoint knows nothing more of. A session that itself goes through a relay serves for no
//! other: there are no circuits in circuits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crypto::{Identity, Seed};
use framing::{Kind, Role};
use peer::Handle;
use peer::mux::{SendError, Urgency};
use relay::client::{self, AttemptId, Named};
use relay::{Client, Code, Server, Voucher};
use structs::{Datagram, Deadline, Epoch, Link, Machine, Path, Rejected, Transmit, TransmitBuf};

use super::circuits::Circuits;
use super::direct::Hints;
use super::event::Event;
use super::{Node, is_circuit};
use crate::{DialId, PeerId};

/// What a node has of relays.
#[derive(Debug)]
pub(super) struct Relays {
    pub(super) server: Server,
    pub(super) client: Client,
    /// Sessions that have messages of relays to read.
    readable: BTreeSet<Handle>,
    /// Dials of relays, which nobody else waits for.
    dials: BTreeMap<DialId, crypto::PeerId>,
    pub(super) hints: Hints,
    pub(super) circuits: Circuits,
    /// A batch on its way into a circuit.
    batch: Vec<u8>,
}

impl Relays {
    pub(super) fn new(
        identity: Arc<Identity>,
        serve: relay::Config,
        config: client::Config,
        epoch: Epoch,
        seed: &Seed,
        now: Instant,
    ) -> Self {
        let client = Client::new(identity.peer_id(), config, seed, now);
        Self {
            server: Server::new(identity, serve, epoch, seed, now),
            client,
            readable: BTreeSet::new(),
            dials: BTreeMap::new(),
            hints: Hints::default(),
            circuits: Circuits::default(),
            batch: Vec::new(),
        }
    }

    /// A session has messages.
    pub(super) fn on_readable(&mut self, session: Handle) {
        self.readable.insert(session);
    }
}

impl Node {
    /// Suggests a relay for a place. Two of those suggested, in different networks, are used, and replaced within 20 s when
    /// they fall silent. Says whether there was room for it.
    pub fn add_relay(&mut self, relay: PeerId, addrs: &[SocketAddr], now: Instant) -> bool {
        self.tick(now);
        let Ok(key) = crypto::PeerId::try_from(relay) else { return false };
        let session = self.direct_path(&key);
        let named = Named { relay: key, addrs: addrs.to_vec() };
        let known = !self.ending && self.relays.client.suggest(&named, session, self.now);
        if known {
            self.places.name(key);
            self.relays.client.prefer(&key);
        }
        self.drive_relays();
        known
    }

    /// Takes the suggestion of a relay back, and gives up the place there.
    pub fn remove_relay(&mut self, relay: PeerId, now: Instant) {
        self.tick(now);
        if let Ok(key) = crypto::PeerId::try_from(relay) {
            self.places.take_back(&key);
            self.relays.client.forget(&key, self.now);
            self.drive_relays();
        }
    }

    /// Whether a relay was taken back, and not suggested since.
    #[must_use]
    pub fn is_relay_removed(&self, relay: &PeerId) -> bool {
        crypto::PeerId::try_from(*relay).is_ok_and(|key| self.places.removed.contains(&key))
    }

    /// The proofs of the places that this node has at relays.
    pub fn vouchers(&self) -> impl Iterator<Item = &Voucher> {
        self.relays.client.vouchers()
    }

    /// The relay that a session goes through now, if it goes through one.
    #[must_use]
    pub fn relay_of(&self, session: Handle) -> Option<PeerId> {
        let path = self.endpoint.peer(session)?.path()?;
        self.relays.client.circuit(path.link).map(|(_, relay)| PeerId::from(relay))
    }

    /// The path of the session with a peer, unless it goes through a relay.
    pub(super) fn direct_path(&self, key: &crypto::PeerId) -> Option<Path> {
        let handle = self.session(&PeerId::from(*key))?;
        self.endpoint.peer(handle)?.path().filter(|path| !is_circuit(path))
    }

    /// A datagram that is no beacon.
    pub(super) fn handle_from_anywhere(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        let now = self.now;
        let kind = datagram.payload.first().copied().and_then(Kind::of);
        self.note_beginning(kind, &datagram.path);
        match kind {
            // What came out of a circuit is for a session.
            _ if is_circuit(&datagram.path) => Err(Rejected::Nested),
            Some(Kind::Probe) => self.on_probe(datagram),
            None if nat::stun::is_stun(datagram.payload) => match datagram.path.link {
                Link::Udp => self.on_stun(datagram),
                _ => self.on_fresh(datagram),
            },
            Some(Kind::ToRelay) => self.relays.server.handle_datagram(datagram, now),
            Some(Kind::FromRelay) => {
                let (path, payload) = self.relays.client.unwrap(&datagram.path, datagram.payload, now)?;
                self.endpoint.handle_datagram(Datagram::new(path, payload), now)
            }
            _ => self.endpoint.handle_datagram(datagram, now),
        }
    }

    /// The next datagrams of circuits that we carry, and of our sessions.
    pub(super) fn transmit(&mut self, out: &mut TransmitBuf) -> Option<Transmit> {
        let now = self.now;
        if let Some(transmit) = self.relays.server.poll_transmit(out, now) {
            return Some(transmit);
        }
        loop {
            let transmit = self.endpoint.poll_transmit(out, now)?;
            if !is_circuit(&transmit.path) {
                return Some(transmit);
            }
            let Relays { client, batch, .. } = &mut self.relays;
            batch.clear();
            batch.extend_from_slice(out.bytes());
            out.clear();
            if let Some(wrapped) = client.wrap(&transmit, batch, out, now) {
                return Some(wrapped);
            }
            // The circuit has ended: it is lost, as on any path that did.
            out.clear();
        }
    }

    /// A session is open.
    pub(super) fn relays_connected(&mut self, session: Handle) {
        let now = self.now;
        let Some((key, path, role)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?, s.role())))
        else {
            return;
        };
        // What waited for room in a session before this one has it now.
        self.relays.client.writable(&key);
        self.relays.server.writable(&key);
        if !is_circuit(&path) {
            self.relays.client.connected(key, path, now);
        }
        if role == Role::Dialler {
            // Circuits that were opened in reserve.
            let circuits: Vec<Path> = self.relays.client.circuits_to(&key).filter(|other| *other != path).collect();
            for circuit in circuits {
                self.endpoint.with(session, now, |session, now| session.add_path(circuit, now));
            }
        }
        self.seek_direct(session);
        self.tell_places(session);
        // It may know a relay.
        self.places.dirty = true;
        self.drive_relays();
    }

    /// A session goes another way now.
    pub(super) fn relays_moved(&mut self, session: Handle) {
        let Some((key, path)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?))) else { return };
        if is_circuit(&path) {
            // What waits for room in the session is forgotten with that.
            if let Some(known) = self.sessions.get_mut(&session) {
                known.places_told = 0;
            }
            self.relays.client.disconnected(&key, self.now);
            self.relays.server.disconnected(&key, self.now);
            // The way before may have ended because we are elsewhere now, of which the relay does not know.
            self.relays.client.check(self.now);
        } else {
            self.relays.client.moved(&key, path, self.now);
            self.relays.server.moved(&key, path);
        }
        self.seek_direct(session);
        self.tell_places(session);
        self.drive_relays();
    }

    /// There is no session with a peer any more.
    pub(super) fn relays_disconnected(&mut self, key: crypto::PeerId) {
        self.relays.client.disconnected(&key, self.now);
        self.relays.server.disconnected(&key, self.now);
        let circuits: Vec<Path> = self.relays.client.circuits_to(&key).collect();
        for circuit in circuits {
            self.close_circuit(&key, &circuit);
        }
        self.relays.hints.forget(&key);
        self.drive_relays();
    }

    /// A newer session with a peer takes the place of the one before. What a relay had for us went with that, and is asked for
    /// again when the new one is [connected](Self::relays_connected); circuits to the peer may be its own.
    pub(super) fn relays_replaced(&mut self, key: &crypto::PeerId) {
        self.relays.server.disconnected(key, self.now);
        self.drive_relays();
    }

    /// A session has room for messages of relays again.
    pub(super) fn relay_writable(&mut self, session: Handle) {
        if let Some(key) = self.endpoint.peer(session).and_then(peer::Peer::id) {
            self.relays.client.writable(&key);
            self.relays.server.writable(&key);
            self.drive_relays();
        }
    }

    /// Reads what one session has for relays, a bounded part of it: the rest waits in the session, whose credit makes the
    /// other side wait.
    pub(super) fn read_relays(&mut self) -> bool {
        let Some(session) = self.relays.readable.pop_first() else { return false };
        let (protocol, now) = (self.protocols.relay, self.now);
        let mut message = Vec::new();
        for turn in 0.. {
            let received = self.endpoint.with(session, now, |session, _| session.recv(protocol, &mut message));
            let Some(Some(_)) = received else { break };
            let Some((key, path)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?))) else { break };
            let from_relay = message.first().is_some_and(|kind| kind & 0x80 != 0);
            let result = if from_relay {
                self.relays.client.handle_message(key, &message, now)
            } else if is_circuit(&path) {
                Err(Rejected::Nested)
            } else {
                self.relays.server.handle_message(key, path, &message, now)
            };
            if let Err(Rejected::Empty | Rejected::Malformed | Rejected::TooLarge | Rejected::WeakKey) = result {
                // What cannot be understood ends this protocol with this peer, and nothing else.
                self.endpoint.with(session, now, |session, _| session.fail_protocol(protocol));
                self.relays.client.disconnected(&key, now);
                self.relays.server.disconnected(&key, now);
                break;
            }
            if turn >= MESSAGES {
                self.relays.readable.insert(session);
                break;
            }
        }
        self.drive_relays();
        true
    }

    pub(super) fn relays_timeout(&mut self) {
        if self.is_closed() {
            return;
        }
        self.relays.client.handle_timeout(self.now);
        self.relays.server.handle_timeout(self.now);
        self.check_circuits();
        self.pass_silence();
        self.try_direct();
        self.drive_relays();
    }

    pub(super) fn relays_deadline(&self) -> Option<Deadline> {
        if self.is_closed() {
            return None;
        }
        let asked = self.relays_asked_at().map(|at| Deadline { at, reason: "dial through relays" });
        let direct = self.relays.hints.deadline().map(|at| Deadline { at, reason: "direct path" });
        let machines = Deadline::earliest(self.relays.client.poll_timeout(), self.relays.server.poll_timeout());
        let circuits = self.relays.circuits.deadline().map(|at| Deadline { at, reason: "unused circuit" });
        let silence = self.silence.deadline().map(|at| Deadline { at, reason: "silent session" });
        let machines = Deadline::earliest(Deadline::earliest(machines, circuits), silence);
        Deadline::earliest(machines, Deadline::earliest(asked, direct))
    }

    /// Begins to open circuits to a peer. What comes of it is heard with the next [`drive_relays`](Self::drive_relays).
    pub(super) fn connect_via(&mut self, peer: PeerId, relays: &[Named], show: bool) -> Option<AttemptId> {
        let key = crypto::PeerId::try_from(peer).ok()?;
        let paths: Vec<Option<Path>> = relays.iter().map(|named| self.direct_path(&named.relay)).collect();
        let session = |relay: &crypto::PeerId| {
            relays.iter().zip(&paths).find(|(named, _)| named.relay == *relay).and_then(|(_, path)| *path)
        };
        self.relays.client.connect_with(key, relays, show, session, self.now).ok()
    }

    /// Whether an event is the end of a dial that only the client of relays waits for.
    pub(super) fn is_dial_of_relay(&mut self, event: &Event) -> bool {
        let (id, failed) = match event {
            Event::Dialled { id, .. } => (id, false),
            Event::DialFailed { id, .. } => (id, true),
            _ => return false,
        };
        let Some(relay) = self.relays.dials.remove(id) else { return false };
        // A session that goes through a relay is of no use for a relay.
        if failed || self.direct_path(&relay).is_none() {
            self.relays.client.dial_failed(&relay, self.now);
            self.drive_relays();
        }
        true
    }

    /// Does what the client of relays wants, and carries messages into the sessions, until there is no more of either.
    pub(super) fn drive_relays(&mut self) {
        loop {
            if let Some(event) = self.relays.client.poll_event() {
                self.on_client_event(event);
            } else if let Some((to, message)) = self.relays.client.peek_message().map(owned) {
                match self.send_to_relay(&to, &message) {
                    Sent::Taken => self.relays.client.sent(&to),
                    Sent::Blocked => self.relays.client.blocked(&to),
                    Sent::Gone => self.relays.client.disconnected(&to, self.now),
                }
            } else if let Some((to, message)) = self.relays.server.peek_message().map(owned) {
                match self.send_to_relay(&to, &message) {
                    Sent::Taken => self.relays.server.sent(&to),
                    Sent::Blocked => self.relays.server.blocked(&to),
                    Sent::Gone => self.relays.server.disconnected(&to, self.now),
                }
            } else {
                return;
            }
        }
    }

    fn send_to_relay(&mut self, to: &crypto::PeerId, message: &[u8]) -> Sent {
        let Some(handle) = self.session(&PeerId::from(*to)) else { return Sent::Gone };
        let protocol = self.protocols.relay;
        // A question whether a relay is alive is of no use behind bulk.
        match self.endpoint.with(handle, self.now, |session, _| session.send(protocol, message, Urgency::Urgent)) {
            Some(Ok(_)) => Sent::Taken,
            Some(Err(SendError::Blocked)) => Sent::Blocked,
            _ => Sent::Gone,
        }
    }

    fn on_client_event(&mut self, event: client::Event) {
        use client::Event as Client;
        match event {
            Client::Dial { relay, addrs } => match self.direct_path(&relay) {
                Some(path) => self.relays.client.connected(relay, path, self.now),
                None => match self.dial_streams(Some(PeerId::from(relay)), &addrs, &[], true, self.now) {
                    Ok(id) => drop(self.relays.dials.insert(id, relay)),
                    Err(_) => self.relays.client.dial_failed(&relay, self.now),
                },
            },
            Client::Opened { peer, path, addr, .. } => {
                let believed = self.watch_circuit(peer, path, addr.map(|addr| addr.ip()));
                let addrs = self.addrs_dialled(&PeerId::from(peer));
                self.hint(peer, addr.filter(|_| believed), &addrs);
                self.dial_circuit(peer, path);
            }
            Client::Incoming { peer, path, addr, .. } => {
                let believed = self.watch_circuit(peer, path, addr.map(|addr| addr.ip()));
                self.hint(peer, addr.filter(|_| believed), &[]);
            }
            Client::Failed { attempt, reasons, .. } => {
                let code = reasons.last().map_or(Code::UNREACHABLE, |(_, code)| *code);
                self.attempt_over(attempt, code);
            }
            Client::Done { attempt, .. } => self.attempt_over(attempt, Code::NO_ANSWER),
            Client::Closed { peer, path, .. } => self.circuit_closed(&peer, &path),
            Client::Changed => {
                self.places.dirty = true;
                self.events.push_back(Event::RelaysChanged);
            }
            Client::Refused { relay, code } => self.relay_refused(relay, code),
            Client::Named { by, relays } => self.relays_named(&by, relays),
            Client::Places { of, relays } => self.on_places_of(of, relays),
            _ => {}
        }
    }
}

/// What became of a message.
enum Sent {
    Taken,
    Blocked,
    /// The other side has no relays, or is gone.
    Gone,
}

fn owned((to, message): (crypto::PeerId, &[u8])) -> (crypto::PeerId, Vec<u8>) {
    (to, message.to_vec())
}

/// Messages of one session read at a time.
const MESSAGES: usize = 64;
