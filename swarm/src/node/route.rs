//! Whose datagram it is.

use framing::v12::{Frame, Kind, NodeId, PublicKey};
use peer::v12::Peer;
use structs::{Datagram, Machine, Path, Rejected};

use super::links::{Origin, PeerLink};
use super::{LAN_LINK, LinkId, Node, ipv4, policy};

impl Node {
    pub(super) fn route(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        let result = self.dispatch(datagram);
        if let Err(Refused::Here(reason)) = result {
            self.stats.rejected.count(reason);
        }
        result.map_err(|refused| match refused {
            Refused::Here(reason) | Refused::ByPeer(reason) => reason,
        })
    }

    fn dispatch(&mut self, datagram: Datagram<'_>) -> Result<(), Refused> {
        if matches!(self.state, super::State::Leaving { .. } | super::State::Closed) {
            return Err(Rejected::Closed.into());
        }
        let first = *datagram.payload.first().ok_or(Rejected::Empty)?;
        let kind = Kind::of(first).ok_or(Rejected::UnknownKind)?;
        if datagram.path.link == LAN_LINK {
            return self.on_multicast(&datagram).map_err(Refused::Here);
        }
        let path = datagram.path;
        if let Some(&id) = self.by_addr.get(&path.remote) {
            return self.on_known_address(id, datagram);
        }
        match kind {
            Kind::Hello | Kind::HelloAck => self.on_stranger(datagram, kind),
            Kind::Data => self.on_stray(datagram),
            _ => Err(Rejected::UnknownPeer.into()),
        }
    }

    fn on_multicast(&mut self, datagram: &Datagram<'_>) -> Result<(), Rejected> {
        if self.is_ending() {
            return Err(Rejected::Closed);
        }
        match Frame::decode(datagram.payload).map_err(Rejected::from)? {
            Frame::Lan { id, .. } if id == self.identity.id() => Err(Rejected::FromSelf),
            Frame::Lan { id, addr, topic } => {
                if !self.beacons.try_take(1, self.now) {
                    return Err(Rejected::LimitReached);
                }
                self.on_beacon(datagram.path.remote, id, addr, topic)
            }
            _ => Err(Rejected::Forbidden),
        }
    }

    fn on_known_address(&mut self, id: LinkId, datagram: Datagram<'_>) -> Result<(), Refused> {
        let path = datagram.path;
        let hello = hello(datagram.payload);
        // Another key from an address that somebody else used: he has gone, or both sit behind one address. The
        // newcomer is a peer of his own only if the old one has not proved that he is there.
        if let (Some((kind, key, _)), Some(link)) = (hello, self.links.get(&id)) {
            let other = link.peer.remote().is_some_and(|known| *known != key);
            if other && !link.peer.is_connected() && kind == Kind::Hello {
                self.drop_link(id);
                return self.on_stranger(datagram, kind);
            }
            // A dial that reached somebody who is known by another address: that is one more address of his.
            let known = self.by_key.get(&key).copied().filter(|&known| known != id);
            if let Some(known) = known {
                self.merge(id, known);
                self.by_addr.remove(&path.remote);
                return self.deliver(known, datagram);
            }
        }
        self.deliver(id, datagram)
    }

    /// A HELLO, or an acknowledgement that no dial of ours to this address asked for.
    fn on_stranger(&mut self, datagram: Datagram<'_>, kind: Kind) -> Result<(), Refused> {
        if !self.handshakes.try_take(1, self.now) {
            return Err(Rejected::LimitReached.into());
        }
        let Some((_, key, matches)) = hello(datagram.payload) else {
            return Err(Rejected::Malformed.into());
        };
        if !matches {
            return Err(Rejected::IdMismatch.into());
        }
        if key == *self.identity.public() {
            return Err(Rejected::FromSelf.into());
        }
        if let Some(&known) = self.by_key.get(&key) {
            return self.deliver(known, datagram);
        }
        if kind == Kind::HelloAck {
            return Err(Rejected::Unsolicited.into());
        }
        if self.is_ending() {
            return Err(Rejected::Closed.into());
        }
        if !self.has_room(peer::v12::Proof::None) {
            return Err(Rejected::LimitReached.into());
        }
        self.make_half_open_room(datagram.path)?;
        let id = self.accept(datagram.path);
        self.deliver(id, datagram)
    }

    /// A sealed packet from an unknown address: a peer may have moved. Its nonce begins as those of the peer do.
    fn on_stray(&mut self, datagram: Datagram<'_>) -> Result<(), Refused> {
        let prefix = datagram.payload.get(1..5).and_then(|prefix| prefix.first_chunk::<4>());
        let prefix = u32::from_be_bytes(*prefix.ok_or(Rejected::Malformed)?);
        let mover = self.links.iter().find(|(_, link)| link.peer.is_connected() && link.peer.may_have_sealed(prefix));
        let Some((&id, _)) = mover else {
            return Err(Rejected::UnknownPeer.into());
        };
        if !self.strays.try_take(1, self.now) {
            return Err(Rejected::LimitReached.into());
        }
        self.deliver(id, datagram)
    }

    fn deliver(&mut self, id: LinkId, datagram: Datagram<'_>) -> Result<(), Refused> {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return Err(Rejected::UnknownPeer.into());
        };
        let result = link.peer.handle_datagram(datagram, now);
        self.touch(id);
        result.map_err(Refused::ByPeer)
    }

    fn accept(&mut self, path: Path) -> LinkId {
        let id = self.next_link();
        let seed = self.seed.fork(&format!("peer {}", id.0));
        let peer = Peer::accept(self.peer_config(), self.identity.clone(), path, &seed, self.epoch, self.now);
        self.insert(id, PeerLink::new(peer, Origin::Inbound, path.remote, self.now));
        id
    }

    /// Makes room for one more handshake: the oldest goes, unless too many come from the newcomer's own address.
    fn make_half_open_room(&mut self, path: Path) -> Result<(), Rejected> {
        let half_open: Vec<(LinkId, bool)> = self
            .links
            .iter()
            .filter(|(_, link)| !link.connected && matches!(link.origin, Origin::Inbound))
            .map(|(&id, link)| (id, ipv4(link.addr) == ipv4(path.remote)))
            .collect();
        if half_open.iter().filter(|(_, same)| *same).count() >= policy::MAX_HALF_OPEN_PER_IP {
            return Err(Rejected::LimitReached);
        }
        if half_open.len() >= policy::MAX_HALF_OPEN {
            if let Some(&(oldest, _)) = half_open.first() {
                self.drop_link(oldest);
            }
        }
        Ok(())
    }
}

/// Whether a datagram was refused by the node, which counts it, or by a peer, which has.
#[derive(Debug, Clone, Copy)]
enum Refused {
    Here(Rejected),
    ByPeer(Rejected),
}

impl From<Rejected> for Refused {
    fn from(reason: Rejected) -> Self {
        Self::Here(reason)
    }
}

/// The kind and the key of a HELLO or its acknowledgement, and whether the id in it is the hash of the key.
fn hello(payload: &[u8]) -> Option<(Kind, PublicKey, bool)> {
    match Frame::decode(payload).ok()? {
        Frame::Hello { id, key } => Some((Kind::Hello, key, NodeId::of(&key).wire() == id)),
        Frame::HelloAck { id, key } => Some((Kind::HelloAck, key, NodeId::of(&key).wire() == id)),
        _ => None,
    }
}
