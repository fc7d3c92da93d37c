//! Sessions whose only path has fallen silent: a NAT on the way may have forgotten it, or the network of one side is another.
//!
//! Whoever is at the new end of a path does not know it. So both do what they can: the relays that have a place for us hear
//! from where we are now, and whoever dialled, who knows the relays of the other, opens a circuit through them. On that the session
//! goes on, until a direct path is found again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::scope::Subnet;
use peer::Handle;
use relay::client::Named;

use super::Node;
use crate::{DialWay, PeerId};

/// The relays of the peers that were dialled and are connected, and who is silent.
#[derive(Debug, Default)]
pub(super) struct Silence {
    relays: BTreeMap<PeerId, Known>,
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
    /// Those that a dial knew, once it has led to a session.
    pub(super) fn remember(&mut self, peer: PeerId, relays: Vec<Named>) {
        if relays.is_empty() || (self.relays.len() >= MAX_PEERS && !self.relays.contains_key(&peer)) {
            return;
        }
        let known = &mut self.relays.entry(peer).or_default().relays;
        known.retain(|old| relays.iter().all(|new| new.relay != old.relay));
        known.splice(0..0, relays);
        known.truncate(MAX_RELAYS);
        thin_out(known);
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
        let peer = self.sessions.get(&session).map(|session| session.peer);
        if let Some(known) = peer.and_then(|peer| self.silence.relays.get(&peer)) {
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
        // The relay that the silent path goes through is asked last.
        let through = self.relays.client.circuit(path.link).map(|(_, relay)| relay);
        relays.sort_by_key(|named| Some(named.relay) == through);
        // Others named them: those that would have to be dialled are dialled as rarely as addresses that others name.
        let is_near = |named: &Named| self.session(&PeerId::from(named.relay)).is_some();
        let strange: Vec<SocketAddr> =
            relays.iter().filter(|named| !is_near(named)).flat_map(|named| &named.addrs).copied().collect();
        if !strange.is_empty() && !self.may_dial_relay(&strange) {
            relays.retain(|named| self.session(&PeerId::from(named.relay)).is_some());
        }
        if relays.is_empty() {
            return again;
        }
        // What comes of it is one more path, or none.
        let _attempt = self.connect_via(peer, &relays, way != DialWay::Relayed);
        self.drive_relays();
        again
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
