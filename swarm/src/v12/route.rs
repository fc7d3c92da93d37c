//! Whose datagram it is.

use std::net::SocketAddr;

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
        let (Some((kind, key, true)), Some(link)) = (hello(datagram.payload), self.links.get(&id)) else {
            return self.deliver(id, datagram);
        };
        match link.peer.remote() {
            // Somebody throws our HELLO back at us in the name of a peer; only a dial can have reached ourselves.
            _ if key == *self.identity.public() && !link.peer.is_dialing() => Err(Rejected::FromSelf.into()),
            Some(known) if *known != key && kind == Kind::Hello && self.has_left(link) => {
                if link.connected {
                    self.lose(id);
                } else {
                    self.drop_link(id);
                }
                self.on_stranger(datagram, kind)
            }
            Some(_) => self.deliver(id, datagram),
            None => self.on_dial_answered(id, key, datagram),
        }
    }

    /// Whether another key may take the address of a peer: he has not proved that he is there, or has not been heard
    /// from for longer than a live one can be silent. A dial of ours waits for its own answer.
    fn has_left(&self, link: &PeerLink) -> bool {
        if link.peer.is_connected() {
            !link.is_stalled && self.now.saturating_duration_since(link.peer.last_heard()) > policy::SUCCESSION
        } else {
            link.origin == Origin::Inbound
        }
    }

    /// Whoever we dialled named a key. If it is that of a connected peer, it is seen first whether he still is; if
    /// somebody merely claims it, the dial is worth more.
    fn on_dial_answered(&mut self, id: LinkId, key: PublicKey, datagram: Datagram<'_>) -> Result<(), Refused> {
        if self.forbidden.contains(&(key, datagram.path.remote.ip()), self.now) {
            self.drop_link(id);
            return Err(Rejected::Forbidden.into());
        }
        let known = self.by_key.get(&key).copied().filter(|&known| known != id);
        let Some((known, link)) = known.and_then(|known| Some((known, self.links.get(&known)?))) else {
            return self.deliver(id, datagram);
        };
        if link.peer.is_connected() {
            let dials = self.take_dials(id);
            if let Some(link) = self.links.get(&id)
                && let SocketAddr::V4(target) = link.addr
            {
                self.hold_dial(known, target, dials);
            }
            self.drop_link(id);
            return if datagram.payload.first() == Some(&Kind::Hello.byte()) {
                self.deliver(known, datagram)
            } else {
                Ok(())
            };
        }
        if link.origin == Origin::Inbound {
            self.drop_link(known);
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
        if self.forbidden.contains(&(key, datagram.path.remote.ip()), self.now) {
            return Err(Rejected::Forbidden.into());
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
        self.recall(id, &key);
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
        let answer = datagram.payload.first() == Some(&Kind::Pong.byte());
        let result = link.peer.handle_datagram(datagram, now);
        link.answered |= answer && result.is_ok();
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

    /// Makes room for one more handshake: the oldest goes, first of those that answered nothing, whose address may be
    /// forged; unless too many come from the newcomer's own address.
    fn make_half_open_room(&mut self, path: Path) -> Result<(), Rejected> {
        let half_open = self.links.iter().filter(|(_, link)| !link.connected && link.origin == Origin::Inbound);
        let (mut count, mut same, mut first) = (0, 0, (true, LinkId(u64::MAX)));
        for (&id, link) in half_open {
            count += 1;
            same += usize::from(ipv4(link.addr) == ipv4(path.remote));
            first = first.min((link.answered, id));
        }
        if same >= policy::MAX_HALF_OPEN_PER_IP {
            return Err(Rejected::LimitReached);
        }
        if count >= policy::MAX_HALF_OPEN {
            self.drop_link(first.1);
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
