//! Sessions whose only path has fallen silent: a NAT on the way may have forgotten it, or the network of one side is another.
//!
//! Whoever is at the new end of a path does not know it. So both do what they can: the relays that have a place for us hear
//! from where we are now, and whoever dialled, who knows the relays of the other, opens a circuit through them. On that the session
//! goes on, until a direct path is found again.
//!
//! So that those relays are the right ones when it matters, whoever was dialled and cannot be reached without help tells where
//! it has places, and again when they change; the dialler keeps a circuit through a second one in reserve.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use framing::Role;
use nat::scope::Subnet;
use peer::Handle;
use relay::client::Named;

use super::{Node, is_circuit};
use crate::reach::Reach;
use crate::{DialWay, PeerId};

/// The relays of the peers that were dialled and are connected, and who is silent.
#[derive(Debug, Default)]
pub(super) struct Silence {
    relays: BTreeMap<PeerId, Known>,
    /// Where we have places ourselves, and how many lists there were before this one.
    own: Vec<(crypto::PeerId, SocketAddr)>,
    version: u64,
    /// When circuits are opened for a session.
    due: BTreeMap<Handle, Instant>,
}

#[derive(Debug, Default)]
struct Known {
    /// The newest first.
    relays: Vec<Named>,
    /// When circuits were opened last, and how long it is until they may be again: a peer that is silent now and then shall not have
    /// us dial whom it names all the time.
    opened: Option<(Instant, Duration)>,
    /// When a circuit was opened in reserve.
    reserved: Option<Instant>,
}

impl Known {
    fn may_open_at(&self) -> Option<Instant> {
        self.opened.map(|(at, pause)| at + pause)
    }

    fn open(&mut self, now: Instant) {
        let pause = match self.opened {
            Some((at, pause)) if now < at + PAUSE.1 * 2 => (pause * 2).min(PAUSE.1),
            _ => PAUSE.0,
        };
        self.opened = Some((now, pause));
    }
}

impl Silence {
    /// Those that a dial knew, once it has led to a session, and those that the peer names since.
    pub(super) fn remember(&mut self, peer: PeerId, mut relays: Vec<Named>) {
        if relays.is_empty() {
            return;
        }
        let Some(known) = self.known(peer) else { return };
        let known = &mut known.relays;
        // Where a relay is does not change by its being named without that.
        for new in relays.iter_mut().filter(|new| new.addrs.is_empty()) {
            let old = known.iter_mut().find(|old| old.relay == new.relay);
            new.addrs = old.map(|old| std::mem::take(&mut old.addrs)).unwrap_or_default();
        }
        known.retain(|old| relays.iter().all(|new| new.relay != old.relay));
        known.splice(0..0, relays);
        known.truncate(MAX_RELAYS);
        thin_out(known);
    }

    fn known(&mut self, peer: PeerId) -> Option<&mut Known> {
        let room = self.relays.len() < MAX_PEERS || self.relays.contains_key(&peer);
        room.then(|| self.relays.entry(peer).or_default())
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.relays.remove(peer);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.values().copied().min()
    }
}

impl Node {
    /// A session hears nothing on the only path that it has.
    pub(super) fn on_silent(&mut self, session: Handle) {
        // If the network is another one on the other side, that side does the same: the relay has to know where it is now before
        // anything goes there.
        let soonest = self.now + HEAD_START;
        let dialled = self.endpoint.peer(session).is_some_and(|session| session.role() == Role::Dialler);
        let peer = self.sessions.get(&session).map(|session| session.peer).filter(|_| dialled);
        if let Some(known) = peer.and_then(|peer| self.silence.known(peer)) {
            let at = known.may_open_at().map_or(soonest, |at| at.max(soonest));
            self.silence.due.insert(session, at);
        }
        self.relays.client.check(self.now);
        self.drive_relays();
    }

    /// Opens circuits for those who are still silent.
    pub(super) fn pass_silence(&mut self) {
        let now = self.now;
        while let Some((session, _)) = self.silence.due.iter().find(|(_, at)| **at <= now) {
            let session = *session;
            self.silence.due.remove(&session);
            if self.endpoint.peer(session).is_some_and(peer::Peer::is_silent) {
                // The relay may not know yet where the other side is now: again, if that was not all.
                if let Some(again) = self.open_circuits(session) {
                    self.silence.due.insert(session, again);
                }
            }
        }
    }

    /// Says when they may be opened again.
    fn open_circuits(&mut self, session: Handle) -> Option<Instant> {
        let (key, path) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?)))?;
        let peer = PeerId::from(key);
        let way = self.relays.hints.way(&key);
        if self.session(&peer) != Some(session) || way == DialWay::Direct {
            return None;
        }
        let known = self.silence.relays.get_mut(&peer)?;
        known.open(self.now);
        let (mut relays, again) = (known.relays.clone(), known.may_open_at());
        // Who has a place where we have one costs a question.
        if is_circuit(&path) || self.is_punched(session, &path) {
            let new = |(relay, _): &&(crypto::PeerId, _)| relays.iter().all(|named| named.relay != *relay);
            let own: Vec<_> = self.silence.own.iter().filter(new).map(|(relay, _)| *relay).collect();
            relays.extend(own.into_iter().map(|relay| Named { relay, addrs: Vec::new() }));
        }
        // The relay that the silent path goes through is asked last.
        let through = self.relays.client.circuit(path.link).map(|(_, relay)| relay);
        relays.sort_by_key(|named| Some(named.relay) == through);
        self.try_relays(peer, relays, way);
        again
    }

    /// Opens circuits. What comes of it is one more path, or none.
    fn try_relays(&mut self, peer: PeerId, mut relays: Vec<Named>, way: DialWay) {
        // Others named them: those that would have to be dialled are dialled as rarely as addresses that others name.
        relays.retain(|named| {
            let is_near = self.session(&PeerId::from(named.relay)).is_some();
            is_near || named.addrs.is_empty() || self.may_dial_relay(&named.addrs)
        });
        if !relays.is_empty() {
            let _attempt = self.connect_via(peer, &relays, way != DialWay::Relayed);
            self.drive_relays();
        }
    }

    /// We have places at these relays, and at no others.
    pub(super) fn places_are(&mut self, places: Vec<(crypto::PeerId, SocketAddr)>) {
        if self.silence.own == places {
            return;
        }
        self.silence.own = places;
        self.silence.version += 1;
        let sessions: Vec<Handle> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.tell_places(session));
    }

    /// Tells who dialled us, and did not reach us without help, where we have places now, unless it knows.
    pub(super) fn tell_places(&mut self, session: Handle) {
        let Silence { own, version, .. } = &self.silence;
        let Some((key, path, role)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?, s.role())))
        else {
            return;
        };
        let helped = is_circuit(&path) || self.is_punched(session, &path);
        let Some(known) = self.sessions.get_mut(&session) else { return };
        if role == Role::Responder && helped && known.places_told != *version && !own.is_empty() {
            known.places_told = *version;
            // Without room it has not read much of what we said before; what it knows has to do.
            let _room = self.relays.client.tell(key, own);
        }
    }

    /// A peer says at which relays it has places.
    pub(super) fn on_places_of(&mut self, of: crypto::PeerId, relays: Vec<(crypto::PeerId, SocketAddr)>) {
        let peer = PeerId::from(of);
        let Some(session) = self.session(&peer) else { return };
        let Some((path, role)) = self.endpoint.peer(session).and_then(|s| Some((s.path()?, s.role()))) else { return };
        if role != Role::Dialler {
            return;
        }
        let own = self.id();
        let useful = relays.into_iter().filter(|(relay, _)| ![own, peer].contains(&PeerId::from(*relay)));
        // Where the peer is: at the other end of a circuit that is where relays see it, if they show that.
        let by = if is_circuit(&path) { self.relays.hints.stated(&of) } else { vec![path.remote.ip()] };
        // An address that does not mean the same to both is left out, but there may be a session with the relay.
        let named = useful.map(|(relay, addr)| {
            let means_the_same = by.iter().any(|by| Reach::may_be_named_by(addr.ip(), *by));
            let believed = means_the_same || Reach::of(addr.ip()) == Some(Reach::World);
            Named { relay, addrs: believed.then_some(addr).into_iter().collect() }
        });
        self.silence.remember(peer, named.take(MAX_RELAYS).collect());
        self.reserve_circuit(session);
    }

    /// Opens a second circuit for a session that has one.
    fn reserve_circuit(&mut self, session: Handle) {
        let now = self.now;
        let Some((key, path)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?))) else { return };
        let (peer, way) = (PeerId::from(key), self.relays.hints.way(&key));
        let client = &self.relays.client;
        let used: Vec<_> = client.circuits_to(&key).filter_map(|path| Some(client.circuit(path.link)?.1)).collect();
        if !is_circuit(&path) || used.len() != 1 || client.is_connecting(&key) {
            return;
        }
        let Some(known) = self.silence.relays.get_mut(&peer) else { return };
        let relays: Vec<Named> = known.relays.iter().filter(|named| !used.contains(&named.relay)).cloned().collect();
        if relays.is_empty() || known.reserved.is_some_and(|at| now < at + RESERVE_PAUSE) {
            return;
        }
        known.reserved = Some(now);
        self.try_relays(peer, relays, way);
    }
}

/// Leaves two addresses in each network (IPv4 /24, IPv6 /48), whoever is said to be there.
fn thin_out(relays: &mut [Named]) {
    let mut networks: BTreeMap<Subnet, usize> = BTreeMap::new();
    for named in relays {
        named.addrs.retain(|addr| {
            let count = networks.entry(Subnet::of(addr.ip())).or_default();
            *count += 1;
            *count <= ADDRESSES_OF_NETWORK
        });
    }
}

/// How long the other side has to tell its relays where it is.
const HEAD_START: Duration = Duration::from_millis(200);
/// How soon circuits are opened again for the same peer: the first time, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(64));
/// How soon a second circuit is opened again for the same peer.
const RESERVE_PAUSE: Duration = Duration::from_secs(64);
/// Peers whose relays are remembered, and relays of each.
const MAX_PEERS: usize = 1024;
const MAX_RELAYS: usize = 4;
/// Addresses of those in one network.
const ADDRESSES_OF_NETWORK: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_that_a_peer_names_are_few_and_few_of_them_in_one_network() {
        let key = |seed| crypto::Identity::from_seed([seed; 32]).peer_id();
        let named = |seed: u8| Named {
            relay: key(seed),
            addrs: (1..=8).map(|host| ([203, 0, if seed < 3 { 113 } else { seed }, host], 4000).into()).collect(),
        };
        let (mut silence, peer) = (Silence::default(), PeerId::from(key(99)));
        silence.remember(peer, (1..=8).map(named).collect());
        let kept: Vec<usize> = silence.relays[&peer].relays.iter().map(|named| named.addrs.len()).collect();
        assert_eq!(kept, [2, 0, 2, 2]);
    }

    #[test]
    fn a_peer_that_is_silent_again_and_again_causes_few_dials() {
        let (mut known, mut now) = (Known::default(), sim::clock::base());
        let end = now + Duration::from_mins(1);
        let mut opened = 0;
        while now < end {
            known.open(now);
            opened += 1;
            now = known.may_open_at().unwrap();
        }
        assert_eq!(opened, 4);
    }
}
