//! Circuits that are open: datagrams in and out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use crypto::PeerId;
use framing::Kind;
use structs::{Ecn, Link, Path, Rejected, Transmit, TransmitBuf};

use super::places::Place;
use super::{Client, Event};
use crate::datagram::{header, split};
use crate::message::Request;
use crate::{CircuitId, Code, HEADER_LEN, limits};

#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) peer: PeerId,
    pub(super) relay: PeerId,
    id: CircuitId,
    path: Path,
}

impl Client {
    /// Wraps datagrams for a circuit: those of `transmit`, whose bytes are `batch`, into `out`, which must be empty. Returns how
    /// they leave; `None` if the circuit has ended, and they are lost as on any path that ended.
    ///
    /// Datagrams above 1200 bytes are left out: circuits do not carry them.
    pub fn wrap(&mut self, transmit: &Transmit, batch: &[u8], out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.tick(now);
        let Link::Circuit(number) = transmit.path.link else { return None };
        let circuit = self.circuits.get(&number)?;
        let relay = self.relays.get_mut(&circuit.relay)?;
        let path = relay.session?;
        let front = header(Kind::ToRelay, circuit.id);
        for inner in batch.get(..transmit.len).unwrap_or(batch).chunks(transmit.segment_size.max(1)) {
            let whole = HEADER_LEN + inner.len();
            if inner.len() <= limits::MAX_INNER
                && out.fits(whole)
                && let Some(space) = out.space(whole)
                && let Some((head, rest)) = space.split_first_chunk_mut()
            {
                *head = front;
                rest.copy_from_slice(inner);
                out.commit(whole);
            }
        }
        relay.on_sent(self.now);
        out.finish(path, Ecn::NotEct)
    }

    /// Takes apart a datagram of a relay, which came over `path`: the path of the circuit, and what it carried, in place.
    ///
    /// # Errors
    /// [`Rejected::UnknownPeer`] for a circuit that is not, [`Rejected::Unproven`] if it does not come from where the relay is,
    /// [`Rejected::Nested`] if it carries something else than the datagrams of sessions, and what is wrong with its form.
    pub fn unwrap<'d>(
        &mut self,
        path: &Path,
        datagram: &'d mut [u8],
        now: Instant,
    ) -> Result<(Path, &'d mut [u8]), Rejected> {
        self.tick(now);
        let inside = self.admit(path, datagram).map_err(|reason| self.rejected.count(reason))?;
        let inner = datagram.get_mut(HEADER_LEN..).ok_or(Rejected::Malformed)?;
        Ok((inside, inner))
    }

    fn admit(&mut self, path: &Path, datagram: &[u8]) -> Result<Path, Rejected> {
        let (id, inner) = split(Kind::FromRelay, datagram)?;
        let number = self.by_id.get(&id).ok_or(Rejected::UnknownPeer)?;
        let circuit = self.circuits.get(number).ok_or(Rejected::UnknownPeer)?;
        let relay = self.relays.get_mut(&circuit.relay).ok_or(Rejected::UnknownPeer)?;
        let at = relay.session.ok_or(Rejected::UnknownPeer)?;
        if (at.link, at.remote) != (path.link, path.remote) {
            return Err(Rejected::Unproven);
        }
        relay.on_heard(self.now);
        let session = inner.first().and_then(|first| Kind::of(*first)).is_some_and(Kind::is_session);
        if session { Ok(circuit.path) } else { Err(Rejected::Nested) }
    }

    /// Ends a circuit, or refuses one that came in. There is no event for it.
    pub fn close(&mut self, link: Link, code: Code, now: Instant) {
        self.tick(now);
        let Link::Circuit(number) = link else { return };
        if let Some(circuit) = self.remove_circuit(number) {
            self.send(circuit.relay, Request::Close { circuit: circuit.id, code });
        }
    }

    /// The paths of all circuits with a peer.
    pub fn circuits_to(&self, peer: &PeerId) -> impl Iterator<Item = Path> {
        self.circuits.values().filter(move |circuit| circuit.peer == *peer).map(|circuit| circuit.path)
    }

    pub(super) fn add_circuit(&mut self, relay: PeerId, id: CircuitId, peer: PeerId) -> Result<Path, Rejected> {
        let known = self.relays.get_mut(&relay).ok_or(Rejected::UnknownPeer)?;
        let session = known.session.ok_or(Rejected::UnknownPeer)?;
        let full = self.circuits.len() >= limits::MAX_CIRCUITS || known.circuits >= limits::MAX_CIRCUITS_BY_RELAY;
        if full || self.by_id.contains_key(&id) {
            self.send(relay, Request::Close { circuit: id, code: Code::TOO_MANY });
            return Err(Rejected::LimitReached);
        }
        known.circuits += 1;
        let number = loop {
            self.next_circuit = self.next_circuit.wrapping_add(1);
            if !self.circuits.contains_key(&self.next_circuit) {
                break self.next_circuit;
            }
        };
        let path = Path { link: Link::Circuit(number), local: unspecified(session.remote), remote: session.remote };
        self.circuits.insert(number, Circuit { peer, relay, id, path });
        self.by_id.insert(id, number);
        Ok(path)
    }

    pub(super) fn on_incoming(
        &mut self,
        relay: PeerId,
        circuit: CircuitId,
        peer: PeerId,
        addr: Option<SocketAddr>,
    ) -> Result<(), Rejected> {
        let held = self.relays.get(&relay).is_some_and(|relay| matches!(relay.place, Place::Held(_)));
        if !held || peer == self.own || peer == relay {
            self.send(relay, Request::Close { circuit, code: Code::REFUSED });
            return Err(Rejected::Unsolicited);
        }
        let path = self.add_circuit(relay, circuit, peer)?;
        self.events.push_back(Event::Incoming { peer, relay, path, addr });
        Ok(())
    }

    pub(super) fn on_circuit_closed(&mut self, relay: &PeerId, circuit: CircuitId, code: Code) -> Result<(), Rejected> {
        let number = *self.by_id.get(&circuit).ok_or(Rejected::UnknownPeer)?;
        if self.circuits.get(&number).is_none_or(|circuit| circuit.relay != *relay) {
            return Err(Rejected::UnknownPeer);
        }
        self.lose_circuit(number, code);
        Ok(())
    }

    /// A relay carries nothing any more.
    pub(super) fn lose_circuits(&mut self, relay: &PeerId, code: Code) {
        let of = |(number, circuit): (&u32, &Circuit)| (circuit.relay == *relay).then_some(*number);
        let gone: Vec<u32> = self.circuits.iter().filter_map(of).collect();
        gone.into_iter().for_each(|number| self.lose_circuit(number, code));
    }

    fn lose_circuit(&mut self, number: u32, code: Code) {
        if let Some(circuit) = self.remove_circuit(number) {
            self.events.push_back(Event::Closed { peer: circuit.peer, path: circuit.path, code });
        }
    }

    fn remove_circuit(&mut self, number: u32) -> Option<Circuit> {
        let circuit = self.circuits.remove(&number)?;
        self.by_id.remove(&circuit.id);
        if let Some(relay) = self.relays.get_mut(&circuit.relay) {
            relay.circuits = relay.circuits.saturating_sub(1);
        }
        Some(circuit)
    }
}

/// The unspecified address of the same family.
const fn unspecified(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}
