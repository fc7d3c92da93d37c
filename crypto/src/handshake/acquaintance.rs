//! What is the same in every handshake with one peer, kept for the next one.
//!
//! Of the four key agreements of IK one, that of both lasting keys, gives the same each time, and so do the X25519 key of a
//! [`PeerId`] and the `PeerId` of an X25519 key, each of which costs a square root. What is kept is as secret as the lasting
//! key: whoever has either can pretend towards us to be that peer, and nobody needs it to be wiped before that key is.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{Identity, PeerId};

/// A peer, its key in handshakes, and what that agrees on with ours. Wiped on drop, and not shown by `Debug`.
///
/// Lives behind an [`Arc`], so that no move leaves a copy behind.
pub struct Acquaintance {
    peer: PeerId,
    key: [u8; 32],
    agreed: Zeroizing<[u8; 32]>,
}

impl Acquaintance {
    /// What `identity` and `peer` have in common: one key agreement. `None` for a key that agrees on zero with everyone, which
    /// no [`PeerId`] has.
    pub fn new(identity: &Identity, peer: PeerId) -> Option<Arc<Self>> {
        let key = peer.x25519();
        let agreed = identity.agreement().agree(&key)?;
        Some(Self::of(peer, key, agreed))
    }

    pub(super) fn of(peer: PeerId, key: [u8; 32], agreed: Zeroizing<[u8; 32]>) -> Arc<Self> {
        Arc::new(Self { peer, key, agreed })
    }

    /// Who it is.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    pub(crate) const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub(crate) fn agreed(&self) -> &[u8; 32] {
        &self.agreed
    }
}

impl fmt::Debug for Acquaintance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquaintance").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The newest acquaintances of one identity, up to a limit.
///
/// Shared with a handshake while that reads, which is why it is changed through an [`Arc`] that nobody else holds.
#[derive(Clone, Debug, Default)]
pub struct Acquaintances {
    limit: usize,
    by_key: HashMap<[u8; 32], Arc<Acquaintance>>,
    by_peer: HashMap<PeerId, Arc<Acquaintance>>,
    /// Oldest first.
    order: VecDeque<Arc<Acquaintance>>,
}

impl Acquaintances {
    /// None yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Keeps one, in place of the one that was made first if there are as many as there may be.
    pub fn insert(&mut self, acquaintance: Arc<Acquaintance>) {
        if self.limit == 0 || self.by_peer.contains_key(&acquaintance.peer) {
            return;
        }
        while self.order.len() >= self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.by_peer.remove(&oldest.peer);
                self.by_key.remove(&oldest.key);
            }
        }
        self.order.push_back(Arc::clone(&acquaintance));
        self.by_key.insert(acquaintance.key, Arc::clone(&acquaintance));
        self.by_peer.insert(acquaintance.peer, acquaintance);
    }

    /// Who it is that has this key.
    pub(crate) fn by_key(&self, key: &[u8; 32]) -> Option<&Arc<Acquaintance>> {
        self.by_key.get(key)
    }

    /// The one whose id has these bytes.
    pub fn get(&self, id: &[u8; 32]) -> Option<&Arc<Acquaintance>> {
        self.by_peer.get(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_makes_room_for_the_newest() {
        let us = Identity::from_seed([0; 32]);
        let others: Vec<_> = (1..=4).map(|number| Identity::from_seed([number; 32]).peer_id()).collect();
        let mut kept = Acquaintances::new(3);
        for &peer in &others {
            kept.insert(Acquaintance::new(&us, peer).unwrap());
            kept.insert(Acquaintance::new(&us, peer).unwrap());
        }
        assert_eq!(kept.len(), 3);
        let is_kept = |peer: &PeerId| (kept.get(peer.as_bytes()).is_some(), kept.by_key(&peer.x25519()).is_some());
        assert_eq!(
            others.iter().map(is_kept).collect::<Vec<_>>(),
            [(false, false), (true, true), (true, true), (true, true)]
        );
        assert_eq!((kept.by_key.len(), kept.by_peer.len()), (3, 3));
        let mut none = Acquaintances::new(0);
        none.insert(Acquaintance::new(&us, Identity::from_seed([1; 32]).peer_id()).unwrap());
        assert!(none.is_empty());
    }

    #[test]
    fn both_sides_have_the_same_in_common() {
        let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let (at_alice, at_bob) =
            (Acquaintance::new(&alice, bob.peer_id()).unwrap(), Acquaintance::new(&bob, alice.peer_id()).unwrap());
        assert_eq!(at_alice.agreed(), at_bob.agreed());
        assert_eq!(PeerId::from_x25519(at_alice.key()), Ok(bob.peer_id()));
        let shown = format!("{at_alice:?}");
        assert!(shown.contains(&bob.peer_id().to_string()) && !shown.contains("agreed"));
    }
}
