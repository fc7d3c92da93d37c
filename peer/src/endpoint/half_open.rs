//! Handshakes that were answered and not confirmed: nobody knows yet whether their senders are where, or who, they say.
//!
//! The invariant: every index names entries that exist, and the shares count exactly those. All live equally long, so
//! they end in the order in which they began.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crypto::PeerId;
use crypto::handshake::Incoming;
use structs::{Path, Rejected};

use super::admission::{Origin, Shares};
use super::limits;

/// What makes a first message the same as another: its connection id and its ephemeral key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct First {
    pub(super) cid: [u8; 8],
    pub(super) ephemeral: [u8; 32],
}

impl First {
    pub(super) fn of(incoming: &Incoming<'_>) -> Self {
        Self { cid: incoming.connection_id(), ephemeral: *incoming.ephemeral() }
    }
}

/// One answered first message.
#[derive(Debug)]
pub(super) struct HalfOpen<S> {
    /// What was answered.
    pub(super) first: First,
    /// Whose it is, where that is known before the third message.
    pub(super) peer: Option<PeerId>,
    /// Whether it was begun with a ticket.
    pub(super) is_resumed: bool,
    /// The clock of the other side when it began; zero where it has not told.
    pub(super) timestamp: u64,
    /// When its first message was first seen.
    pub(super) since: Instant,
    /// Where it came from.
    pub(super) path: Path,
    /// Whose share it takes.
    pub(super) origin: Option<Origin>,
    /// The answer, for the case that it gets lost.
    pub(super) answer: Box<[u8]>,
    /// What is needed to go on.
    pub(super) stage: S,
}

impl<S> HalfOpen<S> {
    fn whose(&self) -> Option<(PeerId, bool)> {
        self.peer.map(|peer| (peer, self.is_resumed))
    }
}

/// A bounded table of them, by the connection id that the answer gave out.
#[derive(Debug)]
pub(super) struct HalfOpens<S> {
    entries: HashMap<[u8; 8], Box<HalfOpen<S>>>,
    by_first: HashMap<First, [u8; 8]>,
    /// One that was begun with a ticket and one that was not: a dial may have both under way, and take either answer.
    by_peer: HashMap<(PeerId, bool), [u8; 8]>,
    /// When each ends, in order. Those that ended early are still in it, until their time or until they are the
    /// larger part.
    ends: VecDeque<(Instant, [u8; 8])>,
    shares: Shares,
}

impl<S> HalfOpens<S> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            by_first: HashMap::new(),
            by_peer: HashMap::new(),
            ends: VecDeque::new(),
            shares: Shares::new(limits::HALF_OPEN_PER_ADDRESS, limits::HALF_OPEN_PER_SUBNET),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are of somebody who has not said who it is.
    pub(super) fn strangers(&self) -> usize {
        self.entries.len().saturating_sub(self.by_peer.len())
    }

    /// Bytes of the entries.
    pub(super) fn bytes(&self) -> usize {
        self.len() * ENTRY_BYTES
    }

    /// Whether one more may come from there.
    pub(super) fn has_room(&self, origin: Option<Origin>) -> bool {
        self.len() < limits::HALF_OPEN && self.shares.has_room(origin)
    }

    /// Adds an entry under `cid`, in place of an older one of the same peer and kind.
    ///
    /// # Errors
    ///
    /// [`Rejected::LimitReached`] if there is no room; [`Rejected::Duplicate`] if the id or the first message is known.
    pub(super) fn insert(&mut self, cid: [u8; 8], entry: HalfOpen<S>, now: Instant) -> Result<(), Rejected> {
        if self.entries.contains_key(&cid) || self.by_first.contains_key(&entry.first) {
            return Err(Rejected::Duplicate);
        }
        if let Some(old) = entry.whose().and_then(|whose| self.by_peer.get(&whose).copied()) {
            self.remove(&old);
        }
        if !self.has_room(entry.origin) {
            return Err(Rejected::LimitReached);
        }
        let Some(end) = now.checked_add(limits::HALF_OPEN_LIFE) else {
            return Err(Rejected::LimitReached);
        };
        self.by_first.insert(entry.first, cid);
        if let Some(whose) = entry.whose() {
            self.by_peer.insert(whose, cid);
        }
        self.shares.add(entry.origin);
        self.ends.push_back((end, cid));
        self.entries.insert(cid, Box::new(entry));
        if self.ends.len() > 2 * self.entries.len() + SLACK {
            let entries = &self.entries;
            self.ends.retain(|(_, cid)| entries.contains_key(cid));
        }
        Ok(())
    }

    pub(super) fn get_mut(&mut self, cid: &[u8; 8]) -> Option<&mut HalfOpen<S>> {
        self.entries.get_mut(cid).map(Box::as_mut)
    }

    pub(super) fn get(&self, cid: &[u8; 8]) -> Option<&HalfOpen<S>> {
        self.entries.get(cid).map(Box::as_ref)
    }

    /// The entry that a first message began before.
    pub(super) fn of_first(&self, first: &First) -> Option<&HalfOpen<S>> {
        self.get(self.by_first.get(first)?)
    }

    /// The entries of a peer.
    pub(super) fn of_peer(&self, peer: &PeerId) -> impl Iterator<Item = &HalfOpen<S>> {
        [false, true].into_iter().filter_map(|is_resumed| self.get(self.by_peer.get(&(*peer, is_resumed))?))
    }

    /// Ends an entry: it goes on as a session, or not at all.
    pub(super) fn remove(&mut self, cid: &[u8; 8]) -> Option<HalfOpen<S>> {
        let entry = *self.entries.remove(cid)?;
        self.by_first.remove(&entry.first);
        if let Some(whose) = entry.whose()
            && self.by_peer.get(&whose) == Some(cid)
        {
            self.by_peer.remove(&whose);
        }
        self.shares.remove(entry.origin);
        Some(entry)
    }

    /// Ends the entries of a peer.
    pub(super) fn remove_peer(&mut self, peer: &PeerId) {
        for is_resumed in [false, true] {
            if let Some(cid) = self.by_peer.get(&(*peer, is_resumed)).copied() {
                self.remove(&cid);
            }
        }
    }

    /// Ends those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, cid)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.remove(&cid);
        }
        if self.entries.is_empty() && !self.ends.is_empty() {
            self.ends = VecDeque::new();
        }
    }

    /// When the next one ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.entries.is_empty() {
            return None;
        }
        self.ends.front().map(|(end, _)| *end)
    }

    /// Ends them all.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

/// Ends of entries that ended early, which are kept whatever the number of entries is.
const SLACK: usize = 64;

/// What an entry takes at most, in bytes: itself, its answer, and its places in three tables and a queue that may be
/// half empty.
pub(super) const ENTRY_BYTES: usize = ITSELF + limits::ANSWER_LEN + INDEXES;
/// An entry with its box; see the assertion where its stage is known.
pub(super) const ITSELF: usize = 448;
const INDEXES: usize = 16 * 2 + 48 * 2 + 40 * 2 + 24 * 3;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use crypto::Identity;

    use super::*;
    use crate::SubnetLimits;

    fn peer(number: u8) -> PeerId {
        Identity::from_seed([number; 32]).peer_id()
    }

    fn cid(number: u32) -> [u8; 8] {
        u64::from(number).to_be_bytes()
    }

    fn entry(number: u32, peer: Option<PeerId>, from: [u8; 4]) -> HalfOpen<u32> {
        let mut ephemeral = [0; 32];
        ephemeral[..4].copy_from_slice(&number.to_be_bytes());
        HalfOpen {
            first: First { cid: cid(number), ephemeral },
            peer,
            is_resumed: false,
            timestamp: 0,
            since: sim::clock::base(),
            path: Path::udp(([127, 0, 0, 1], 1).into(), (from, 2).into()),
            origin: Origin::of(IpAddr::from(from), SubnetLimits::Public),
            answer: Box::new([]),
            stage: number,
        }
    }

    fn stage(entry: Option<&HalfOpen<u32>>) -> Option<u32> {
        entry.map(|entry| entry.stage)
    }

    #[test]
    fn found_by_id_by_first_message_and_by_peer() {
        let now = sim::clock::base();
        let mut table = HalfOpens::new();
        table.insert(cid(1), entry(1, Some(peer(1)), [8, 8, 8, 8]), now).expect("room");
        table.insert(cid(2), entry(2, None, [8, 8, 8, 8]), now).expect("room");
        assert_eq!(stage(table.get_mut(&cid(1)).map(|entry| &*entry)), Some(1));
        assert_eq!(stage(table.of_first(&entry(2, None, [1; 4]).first)), Some(2));
        assert_eq!(stage(table.of_peer(&peer(1)).next()), Some(1));
        assert_eq!((table.len(), table.strangers()), (2, 1));
        assert_eq!(table.insert(cid(1), entry(3, None, [8, 8, 8, 8]), now), Err(Rejected::Duplicate), "the id");
        assert_eq!(table.insert(cid(4), entry(2, None, [8, 8, 8, 8]), now), Err(Rejected::Duplicate), "the message");
        assert_eq!(stage(table.remove(&cid(1)).as_ref()), Some(1));
        assert!(table.of_peer(&peer(1)).next().is_none() && table.of_first(&entry(1, None, [1; 4]).first).is_none());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn one_of_each_kind_for_a_peer_the_newest() {
        let now = sim::clock::base();
        let mut table = HalfOpens::new();
        for number in 0..100 {
            let mut entry = entry(number, Some(peer(1)), [8, 8, 8, 8]);
            entry.is_resumed = number % 2 == 1;
            table.insert(cid(number), entry, now).expect("its own place is free");
        }
        assert_eq!((table.len(), table.strangers()), (2, 0));
        assert_eq!(table.of_peer(&peer(1)).map(|entry| entry.stage).collect::<Vec<_>>(), [98, 99]);
        table.remove_peer(&peer(1));
        assert_eq!(table.len(), 0);
        assert!(table.shares.has_room(Origin::of([8, 8, 8, 8].into(), SubnetLimits::Public)));
    }

    #[test]
    fn each_ends_after_five_seconds() {
        let start = sim::clock::base();
        let mut table = HalfOpens::new();
        for second in 0..4 {
            let now = start + Duration::from_secs(u64::from(second));
            table.insert(cid(second), entry(second, None, [8, 8, 8, 8]), now).expect("room");
        }
        table.remove(&cid(0));
        assert_eq!(table.deadline(), Some(start + Duration::from_secs(5)), "a wake too many is no harm");
        table.expire(start + Duration::from_secs(5));
        assert_eq!((table.len(), table.deadline()), (3, Some(start + Duration::from_secs(6))));
        table.expire(start + Duration::from_secs(7));
        assert_eq!(table.len(), 1);
        table.expire(start + Duration::from_secs(8));
        assert_eq!((table.len(), table.deadline()), (0, None));
        assert!(table.ends.is_empty() && table.by_first.is_empty());
    }

    #[test]
    fn shares_of_an_address_and_of_a_network() {
        let now = sim::clock::base();
        let mut table = HalfOpens::new();
        let mut number = 0;
        let mut open = |table: &mut HalfOpens<u32>, from| {
            number += 1;
            table.insert(cid(number), entry(number, None, from), now).is_ok()
        };
        assert_eq!((0..100).filter(|_| open(&mut table, [8, 8, 8, 8])).count(), 64);
        assert_eq!((0..250).filter(|&host| host != 8 && open(&mut table, [8, 8, 8, host])).count(), 256 - 64);
        assert!(open(&mut table, [8, 8, 9, 8]));
        assert_eq!((0..1000).filter(|_| open(&mut table, [10, 0, 0, 1])).count(), 1000, "exempt");
    }

    #[test]
    fn never_more_than_the_bound_and_no_garbage_beyond_it() {
        let now = sim::clock::base();
        let mut table = HalfOpens::new();
        for number in 0..5000 {
            let fits = table.insert(cid(number), entry(number, None, [10, 0, 0, 1]), now).is_ok();
            assert_eq!(fits, number < 4096);
        }
        for number in 0..4096 {
            table.remove(&cid(number));
        }
        for number in 10_000..30_000 {
            table.insert(cid(number), entry(number, None, [10, 0, 0, 1]), now).expect("room");
            table.remove(&cid(number));
        }
        assert!(table.ends.len() <= 2 * SLACK, "{}", table.ends.len());
    }
}
