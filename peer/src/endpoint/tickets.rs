//! Tickets for shorter handshakes: those that peers gave us, and those that we gave to peers (SPEC 6.6).
//!
//! The invariant: a ticket leaves its store before it is used, so none is used twice. Both stores keep the newest few of
//! each peer, for a bounded number of peers: nobody can push out the tickets of another but by being a thousand.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Instant;

use crypto::PeerId;
use crypto::handshake::Ticket;
use structs::Lru;

use super::limits;

/// Tickets that peers gave us, oldest first.
#[derive(Debug)]
pub(super) struct Held(Lru<PeerId, Vec<Ticket>>);

impl Held {
    pub(super) fn new() -> Self {
        Self(store())
    }

    pub(super) fn insert(&mut self, ticket: Ticket, now: Instant) {
        let _replaced = insert(&mut self.0, ticket, now);
    }

    /// The newest ticket for a peer, which is thereby used. Those that have expired go.
    pub(super) fn take(&mut self, peer: &PeerId, now: Instant) -> Option<Ticket> {
        let tickets = self.0.get_mut(peer, now)?;
        tickets.retain(|ticket| now < ticket.expires());
        let newest = tickets.pop();
        if tickets.is_empty() {
            self.0.remove(peer);
        }
        newest
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, tickets)| tickets.len()).sum()
    }
}

/// Tickets that we gave to peers. Without its ticket no resumption can even be recognised as genuine.
#[derive(Debug)]
pub(super) struct Issued {
    /// Oldest first.
    by_peer: Lru<PeerId, Vec<Ticket>>,
    /// Whose ticket an id names. The ids are our own random ones.
    by_id: HashMap<[u8; 16], PeerId>,
}

impl Issued {
    pub(super) fn new() -> Self {
        Self { by_peer: store(), by_id: HashMap::new() }
    }

    pub(super) fn insert(&mut self, ticket: Ticket, now: Instant) {
        self.by_id.insert(*ticket.id(), ticket.peer());
        for dropped in insert(&mut self.by_peer, ticket, now) {
            self.by_id.remove(dropped.id());
        }
    }

    /// The ticket with this id, if it can still be used. It stays.
    pub(super) fn get(&self, id: &[u8; 16], now: Instant) -> Option<&Ticket> {
        let tickets = self.by_peer.peek(self.by_id.get(id)?, now)?;
        tickets.iter().find(|ticket| ticket.id() == id && now < ticket.expires())
    }

    /// Takes the ticket with this id out.
    pub(super) fn take(&mut self, id: &[u8; 16], now: Instant) -> Option<Ticket> {
        let peer = self.by_id.remove(id)?;
        let tickets = self.by_peer.get_mut(&peer, now)?;
        let at = tickets.iter().position(|ticket| ticket.id() == id)?;
        let ticket = tickets.remove(at);
        if tickets.is_empty() {
            self.by_peer.remove(&peer);
        }
        (now < ticket.expires()).then_some(ticket)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

fn store() -> Lru<PeerId, Vec<Ticket>> {
    Lru::new(NonZeroUsize::new(limits::TICKET_PEERS).unwrap_or(NonZeroUsize::MIN))
}

/// Adds a ticket and returns those that made room for it.
fn insert(store: &mut Lru<PeerId, Vec<Ticket>>, ticket: Ticket, now: Instant) -> Vec<Ticket> {
    let peer = ticket.peer();
    if let Some(tickets) = store.get_mut(&peer, now) {
        let mut dropped = Vec::new();
        while tickets.len() >= limits::TICKETS_PER_PEER {
            dropped.push(tickets.remove(0));
        }
        // A peer gives two as a rule.
        tickets.reserve_exact(1);
        tickets.push(ticket);
        return dropped;
    }
    match store.insert(peer, vec![ticket], 0, now) {
        Ok(inserted) => inserted.evicted.into_iter().flat_map(|(_, tickets)| tickets).collect(),
        // No weight is bounded.
        Err(_too_heavy) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto::Identity;

    use super::*;

    fn peer(number: u16) -> PeerId {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        Identity::from_seed(seed).peer_id()
    }

    fn ticket(number: u16, peer: PeerId, expires: Instant) -> Ticket {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Ticket::new(id, [7; 32], peer, expires)
    }

    fn id(number: u16) -> [u8; 16] {
        *ticket(number, peer(0), sim::clock::base()).id()
    }

    #[test]
    fn the_newest_is_used_first_and_once() {
        let now = sim::clock::base();
        let later = now + Duration::from_secs(10);
        let mut held = Held::new();
        for number in 0..6 {
            held.insert(ticket(number, peer(1), later), now);
        }
        held.insert(ticket(9, peer(2), now + Duration::from_secs(1)), now);
        assert_eq!(held.len(), 5, "four of a peer");
        let soon = now + Duration::from_secs(1);
        assert!(held.take(&peer(2), soon).is_none(), "expired");
        let mut taken = Vec::new();
        while let Some(ticket) = held.take(&peer(1), soon) {
            taken.push(*ticket.id());
        }
        assert_eq!(taken, [id(5), id(4), id(3), id(2)]);
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn an_issued_one_is_found_by_its_id_until_it_is_taken_or_expires() {
        let now = sim::clock::base();
        let later = now + Duration::from_secs(10);
        let mut issued = Issued::new();
        for number in 0..6 {
            issued.insert(ticket(number, peer(1), later), now);
        }
        assert_eq!(issued.len(), 4);
        assert!(issued.get(&id(1), now).is_none() && issued.take(&id(1), now).is_none(), "pushed out by newer ones");
        assert_eq!(issued.get(&id(2), now).map(Ticket::peer), Some(peer(1)));
        assert!(issued.take(&id(2), now).is_some());
        assert!(issued.take(&id(2), now).is_none() && issued.get(&id(2), now).is_none(), "used");
        assert!(issued.get(&id(3), later).is_none() && issued.take(&id(3), later).is_none(), "expired");
    }

    #[test]
    fn a_thousand_peers_at_most() {
        let now = sim::clock::base();
        let later = now + Duration::from_secs(10);
        let (mut held, mut issued) = (Held::new(), Issued::new());
        for number in 0..1100 {
            held.insert(ticket(number, peer(number), later), now);
            issued.insert(ticket(number, peer(number), later), now);
        }
        assert_eq!((held.len(), issued.len()), (1024, 1024));
        assert!(issued.get(&id(0), now).is_none() && held.take(&peer(0), now).is_none(), "the oldest went");
        assert!(issued.get(&id(1099), now).is_some() && held.take(&peer(1099), now).is_some());
    }
}
