//! Places at relays: who needs them, where they come from, and when this node gives some.
//!
//! The relays that the owner named are used always. Others are looked for while nobody has come to us who was not called:
//! in the distributed hash table, and by asking peers. What we have there is told wherever we say where we are.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use relay::Code;
use relay::client::{Named, Progress};

use super::Node;
use super::event::Event;
use crate::PeerId;
use crate::reach::Reach;
use crate::relaying::{RelayStatus, ServeRelay};

/// What the node keeps of it.
#[derive(Debug)]
pub(super) struct Places {
    /// Whether it relays for others.
    pub(super) serve: ServeRelay,
    /// Whether we use relays that our owner did not name: to be reached, and to dial.
    pub(super) find: bool,
    pub(super) named: BTreeSet<crypto::PeerId>,
    found: BTreeSet<crypto::PeerId>,
    /// Those that our owner took back: whoever else names them, themselves included, they are not used.
    pub(super) removed: BTreeSet<crypto::PeerId>,
    /// Something has changed on which the rest depends.
    pub(super) dirty: bool,
}

impl Places {
    pub(super) const fn new(serve: ServeRelay, find: bool) -> Self {
        Self { serve, find, named: BTreeSet::new(), found: BTreeSet::new(), removed: BTreeSet::new(), dirty: true }
    }

    /// The owner wants places at a relay.
    pub(super) fn name(&mut self, relay: crypto::PeerId) {
        self.named.insert(relay);
        self.removed.remove(&relay);
    }

    /// The owner wants none there any more.
    pub(super) fn take_back(&mut self, relay: &crypto::PeerId) {
        self.named.remove(relay);
        self.found.remove(relay);
        if self.removed.len() < REMOVED {
            self.removed.insert(*relay);
        }
    }
}

impl Node {
    /// The relays that are known for a place, those that the owner named first.
    #[must_use]
    pub fn relays(&self) -> Vec<RelayStatus> {
        let status = |status: relay::client::Status<'_>| {
            let voucher = self.relays.client.vouchers().find(|voucher| voucher.relay() == status.relay);
            let own = voucher.map(|voucher| voucher.addresses().collect::<Vec<_>>()).unwrap_or_default();
            let session = status.session.map(|path| path.remote);
            let mut addrs: Vec<SocketAddr> = Vec::new();
            for addr in session.into_iter().chain(own).chain(status.addrs.iter().copied()) {
                if !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            }
            RelayStatus {
                relay: PeerId::from(status.relay),
                addrs,
                state: status.progress.into(),
                error: status.failed,
                circuits: status.circuits,
                named: self.places.named.contains(&status.relay),
            }
        };
        let mut relays: Vec<RelayStatus> = self.relays.client.places().map(status).collect();
        relays.sort_by_key(|relay| !relay.named);
        relays
    }

    /// Whether this node relays for others now.
    #[must_use]
    pub const fn is_relay(&self) -> bool {
        self.relays.server.serves()
    }

    /// Where this node is, as it tells others: the addresses that enough of them see, and those of its own that reach as far as
    /// the node.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let reaches = |addr: &SocketAddr| Reach::of(addr.ip()) == Some(self.reach) && addr.port() != 0;
        let (told, nat) = (self.finder.as_ref().map(super::Finder::told_now), self.nat());
        let known = nat.forwarded.iter().copied().chain(told.into_iter().flatten()).chain(nat.addresses());
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for addr in known.chain(self.outside.own().iter().copied().filter(reaches)) {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs
    }

    /// Brings everything in line with what has changed.
    pub(super) fn settle_places(&mut self) {
        if self.ending || !std::mem::take(&mut self.places.dirty) {
            return;
        }
        let now = self.now;
        let serves = match self.places.serve {
            ServeRelay::Never => false,
            ServeRelay::Auto => self.nat().is_reachable(),
            ServeRelay::Always => true,
        };
        let addrs = self.addresses();
        self.relays.server.set_serves(serves);
        self.relays.server.set_addresses(&addrs);
        let needs = self.places.find && !self.nat().is_reachable();
        if !needs {
            for relay in std::mem::take(&mut self.places.found) {
                self.relays.client.forget(&relay, now);
            }
        }
        let (held, wanted) = self.relays.client.held();
        let seeks = needs && held < wanted;
        if seeks {
            self.ask_peers();
        }
        let places = self.places_told();
        self.places_are(places.iter().map(|(relay, addr, _)| (*relay, *addr)).collect());
        self.relays.server.set_others(places.iter().map(|(relay, addr, _)| (*relay, *addr)));
        if let Some(finder) = &mut self.finder {
            finder.set_places(&places, now);
            finder.want_relays(seeks, serves && !addrs.is_empty(), now);
        }
        self.drive_relays();
    }

    /// The places that we have: at whom, where that is for others, and the proof.
    fn places_told(&self) -> Vec<(crypto::PeerId, SocketAddr, relay::Voucher)> {
        let mut told = Vec::new();
        let held = self.relays.client.places().filter(|place| place.progress == Progress::Held);
        for place in held {
            let voucher = self.relays.client.vouchers().find(|voucher| voucher.relay() == place.relay);
            let (Some(voucher), Some(session)) = (voucher, place.session) else { continue };
            // One that reaches as far as we do, and of IPv4 if there is any: most have nothing else.
            let reaches = |addr: &SocketAddr| Reach::of(addr.ip()).is_some_and(|reach| reach >= self.reach);
            let known = || std::iter::once(session.remote).chain(voucher.addresses()).filter(reaches);
            let addr = known().find(SocketAddr::is_ipv4).or_else(|| known().next());
            told.push((place.relay, addr.unwrap_or(session.remote), voucher.clone()));
        }
        told
    }

    /// The relays that our owner named, to be asked for a peer too: those with a place for us first, who are there.
    pub(super) fn own_relays(&self, peer: &PeerId, beside: &[Named]) -> Vec<Named> {
        let named = |relay: &crypto::PeerId| self.places.named.contains(relay) && PeerId::from(*relay) != *peer;
        let places = self.relays.client.places().filter(|place| named(&place.relay));
        let mut places: Vec<_> = places.filter(|place| beside.iter().all(|other| other.relay != place.relay)).collect();
        places.sort_by_key(|place| place.progress != Progress::Held);
        places.into_iter().map(|place| Named { relay: place.relay, addrs: place.addrs.to_vec() }).collect()
    }

    /// Asks those who are connected for relays.
    fn ask_peers(&mut self) {
        let now = self.now;
        let direct = self.sessions.values().filter(|session| !session.relayed && !session.asked);
        let peers: Vec<PeerId> = direct.map(|session| session.peer).collect();
        for peer in peers.into_iter().take(ASKED) {
            let asked = crypto::PeerId::try_from(peer).is_ok_and(|key| self.relays.client.ask(key, now));
            let session = self.session(&peer).and_then(|handle| self.sessions.get_mut(&handle));
            if let Some(session) = session.filter(|_| asked) {
                session.asked = true;
            }
        }
    }

    /// Somebody says that there is a relay.
    pub(super) fn relay_found(&mut self, relay: PeerId, addrs: &[SocketAddr]) {
        let Ok(key) = crypto::PeerId::try_from(relay) else { return };
        let known = self.places.named.contains(&key) || self.places.removed.contains(&key);
        if !self.places.find || known || relay == self.id() {
            return;
        }
        let (held, wanted) = self.relays.client.held();
        if held >= wanted || self.places.found.len() >= FOUND && !self.places.found.contains(&key) {
            return;
        }
        let session = self.direct_path(&key);
        let addrs = addrs.get(..ADDRESSES).unwrap_or(addrs);
        if session.is_none() && (addrs.is_empty() || !self.may_dial_relay(addrs)) {
            return;
        }
        if self.relays.client.suggest(&Named { relay: key, addrs: addrs.to_vec() }, session, self.now) {
            self.places.found.insert(key);
        }
    }

    /// A peer names relays, as it sees them.
    pub(super) fn relays_named(&mut self, by: &crypto::PeerId, relays: Vec<(crypto::PeerId, SocketAddr)>) {
        let Some(from) = self.direct_path(by).map(|path| path.remote.ip()) else { return };
        for (relay, addrs) in believed(*by, from, relays) {
            self.relay_found(PeerId::from(relay), &addrs);
        }
    }

    /// A relay that was found is of no use: another one may be.
    pub(super) fn relay_refused(&mut self, relay: crypto::PeerId, code: Code) {
        if code == Code::NOT_RELAYING && self.places.found.remove(&relay) {
            self.relays.client.forget(&relay, self.now);
        }
        self.places.dirty = true;
        self.events.push_back(Event::RelayRefused { relay: PeerId::from(relay), code });
    }
}

/// The relays that a peer at `from` may name: itself, where we talk to it, and others at addresses that mean the same to us.
fn believed(
    by: crypto::PeerId,
    from: IpAddr,
    relays: Vec<(crypto::PeerId, SocketAddr)>,
) -> impl Iterator<Item = (crypto::PeerId, Vec<SocketAddr>)> {
    relays.into_iter().filter_map(move |(relay, addr)| {
        let itself = relay == by;
        let addrs = if itself { Vec::new() } else { vec![addr] };
        (itself || Reach::may_be_named_by(addr.ip(), from)).then_some((relay, addrs))
    })
}

/// Addresses of one that is dialled because somebody else named it.
const ADDRESSES: usize = 4;
/// Relays that were found and are remembered for places.
const FOUND: usize = 32;
/// Relays that the owner took back and that stay so.
const REMOVED: usize = 1024;
/// Peers asked for relays at a time.
const ASKED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_afar_names_nobody_in_our_network() {
        let key = |byte| crypto::Identity::from_seed([byte; 32]).peer_id();
        let relays =
            || vec![(key(1), addr("9.9.9.9:1")), (key(2), addr("192.168.1.1:1")), (key(3), addr("127.0.0.1:1"))];
        let names = |by: &str| {
            let believed = believed(key(3), addr(by).ip(), relays());
            believed.map(|(relay, addrs)| (relay, addrs.len())).collect::<Vec<_>>()
        };
        // Who speaks of itself is where it is talked to.
        assert_eq!(names("8.8.8.8:1"), [(key(1), 1), (key(3), 0)]);
        assert_eq!(names("192.168.1.7:1"), [(key(1), 1), (key(2), 1), (key(3), 0)]);
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }
}
