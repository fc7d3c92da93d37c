//! The peers of an endpoint: where each is, what leads to it, and whose turn it is.
//!
//! Invariants: every index (connection ids, tokens, keys) names a peer that is there; a peer that may have output is in
//! the ready queue, one that may have events in the event queue, one whose deadline may be another than the queue of
//! deadlines says in the list of touched ones, each once.

use std::collections::hash_map::Entry::Vacant;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use crypto::PeerId;
use smallvec::SmallVec;
use structs::{Deadlines, Machine, Path, Rare};

use super::Handle;
use super::admission::Origin;
use super::limits::{LISTINGS, QUANTUM};
use crate::Peer;
use crate::shared::RouteChange;

/// One peer of an endpoint.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) peer: Peer,
    pub(super) phase: Phase,
    /// Whose share of the sessions it takes: that of who opened it, unless we did.
    pub(super) origin: Option<Origin>,
    /// When it was dialled, or accepted.
    pub(super) begun: Instant,
    /// When the first packet came after the handshake.
    pub(super) heard: Option<Instant>,
    /// Our dial waits for that of the other side until then, and at the latest until then.
    pub(super) yields_until: Option<Box<(Instant, Instant)>>,
    /// Where our dial is sent to.
    pub(super) tried: Rare<Vec<Path>>,
    cids: SmallVec<[[u8; 8]; 2]>,
    tokens: SmallVec<[[u8; 16]; 1]>,
    /// Bytes it may send before the others have had their turn; below zero after a batch beyond that.
    pub(super) credit: i64,
    /// What the deadline is for that was asked for last.
    pub(super) reason: &'static str,
    /// It is listed among those that are new, and how often it may yet be.
    pub(super) is_listed: bool,
    pub(super) listings: u8,
    is_ready: bool,
    is_eventful: bool,
    is_touched: bool,
}

impl Entry {
    pub(super) fn new(peer: Peer, phase: Phase, origin: Option<Origin>, begun: Instant) -> Self {
        Self {
            peer,
            phase,
            origin,
            begun,
            heard: None,
            yields_until: None,
            tried: Rare::new(),
            cids: SmallVec::new(),
            tokens: SmallVec::new(),
            credit: QUANTUM,
            reason: "peer",
            is_listed: false,
            listings: LISTINGS,
            is_ready: false,
            is_eventful: false,
            is_touched: false,
        }
    }

    /// Whether our dial is sent there.
    pub(super) fn has_tried(&self, path: &Path) -> bool {
        self.tried.iter().any(|tried| tried.link == path.link && tried.remote == path.remote)
    }

    /// When the peer wants to be woken: asked once, when it has nothing more to send, since finding out takes a while.
    fn deadline(&mut self) -> Option<Instant> {
        let deadline = self.peer.poll_timeout()?;
        self.reason = deadline.reason;
        Some(deadline.at)
    }

    /// Whether our dial waits for that of the other side.
    pub(super) fn yields(&self, now: Instant) -> bool {
        self.phase == Phase::Dialling && self.yields_until.as_ref().is_some_and(|yields| now < yields.0)
    }
}

/// How far a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// We dialled and have no answer.
    Dialling,
    /// There is a session.
    Open,
    /// It has ended; its last events wait to be taken.
    Ended,
}

/// The peers, by their place.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Those that have not ended.
    pub(super) live: usize,
    by_cid: HashMap<[u8; 8], u32, BuildHasherDefault<FirstBytes>>,
    by_token: HashMap<[u8; 16], u32>,
    /// Dials by key.
    pub(super) dialling: HashMap<PeerId, u32>,
    /// Sessions: one for each key.
    pub(super) open: HashMap<PeerId, u32>,
    pub(super) deadlines: Deadlines<u32>,
    ready: VecDeque<u32>,
    eventful: VecDeque<u32>,
    /// Those that something was done with since they last had nothing to send: their deadlines may be others now.
    touched: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Box<Entry>>,
}

impl Table {
    /// Places taken, those of ended peers included.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        self.live += 1;
        let entry = Some(Box::new(entry));
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.entry = entry;
            return index;
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { generation: 0, entry });
        index
    }

    pub(super) fn get(&self, index: u32) -> Option<&Entry> {
        self.slots.get(index as usize)?.entry.as_deref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        entry(&mut self.slots, index)
    }

    /// Takes a peer out, with all that led to it.
    pub(super) fn remove(&mut self, index: u32) -> Option<Box<Entry>> {
        let slot = self.slots.get_mut(index as usize)?;
        let entry = slot.entry.take()?;
        // A place whose numbers are used up is not used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(index);
        }
        for cid in &entry.cids {
            self.by_cid.remove(cid);
        }
        for token in &entry.tokens {
            self.by_token.remove(token);
        }
        self.deadlines.remove(&index);
        Some(entry)
    }

    pub(super) fn handle(&self, index: u32) -> Handle {
        Handle::new(index, self.slots.get(index as usize).map_or(0, |slot| slot.generation))
    }

    /// The place of a peer that is there.
    pub(super) fn index(&self, handle: Handle) -> Option<u32> {
        let slot = self.slots.get(handle.index())?;
        let there = slot.generation == handle.generation() && slot.entry.is_some();
        there.then(|| u32::try_from(handle.index()).ok()).flatten()
    }

    /// All peers, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Handle, &Entry)> {
        let entries = self.slots.iter().enumerate();
        entries.filter_map(|(index, slot)| {
            let index = u32::try_from(index).ok()?;
            Some((Handle::new(index, slot.generation), slot.entry.as_deref()?))
        })
    }

    /// The places of all peers.
    pub(super) fn indexes(&self) -> Vec<u32> {
        self.iter().filter_map(|(handle, _)| u32::try_from(handle.index()).ok()).collect()
    }

    pub(super) fn of_cid(&self, cid: &[u8; 8]) -> Option<u32> {
        self.by_cid.get(cid).copied()
    }

    pub(super) fn of_token(&self, token: &[u8; 16]) -> Option<u32> {
        self.by_token.get(token).copied()
    }

    /// Packets with this connection id are for this peer.
    pub(super) fn add_cid(&mut self, index: u32, cid: [u8; 8]) {
        let Some(entry) = entry(&mut self.slots, index) else { return };
        // Random, and ours: two peers never have the same one. Should they, the first keeps it.
        if let Vacant(place) = self.by_cid.entry(cid) {
            place.insert(index);
            entry.cids.push(cid);
        }
    }

    /// A datagram that ends with this token ends the session of this peer.
    fn add_token(&mut self, index: u32, token: [u8; 16]) {
        let Some(entry) = entry(&mut self.slots, index) else { return };
        // The other side's choice: one who names the token of another peer gains nothing by it.
        if let Vacant(place) = self.by_token.entry(token) {
            place.insert(index);
            entry.tokens.push(token);
        }
    }

    /// Takes over what a peer says about its routes.
    pub(super) fn update_routes(&mut self, index: u32) {
        while let Some(change) = self.get_mut(index).and_then(|entry| entry.peer.poll_route()) {
            match change {
                RouteChange::AddCid(cid) => self.add_cid(index, cid),
                RouteChange::RemoveCid(cid) => {
                    if self.get_mut(index).is_some_and(|entry| take(&mut entry.cids, &cid)) {
                        self.by_cid.remove(&cid);
                    }
                }
                RouteChange::AddToken(token) => self.add_token(index, token),
                RouteChange::RemoveToken(token) => {
                    if self.get_mut(index).is_some_and(|entry| take(&mut entry.tokens, &token)) {
                        self.by_token.remove(&token);
                    }
                }
            }
        }
    }

    /// A peer may have something to send and to tell, and another deadline.
    pub(super) fn wake(&mut self, index: u32) {
        let Some(entry) = entry(&mut self.slots, index) else { return };
        if !entry.is_touched {
            entry.is_touched = true;
            self.touched.push(index);
        }
        if !entry.is_ready {
            entry.is_ready = true;
            self.ready.push_back(index);
        }
        if !entry.is_eventful {
            entry.is_eventful = true;
            self.eventful.push_back(index);
        }
    }

    /// The peer whose turn it is to send (deficit round robin, Shreedhar and Varghese 1995, with a batch allowed to
    /// overdraw). One that has overdrawn waits until the rounds have paid for it.
    pub(super) fn next_ready(&mut self) -> Option<u32> {
        while let Some(index) = self.ready.pop_front() {
            // One that was removed while it waited may have left its place to another, which is not in the queue.
            let Some(entry) = self.get_mut(index).filter(|entry| entry.is_ready) else { continue };
            if entry.credit <= 0 {
                entry.credit = entry.credit.saturating_add(QUANTUM);
            }
            if entry.credit > 0 {
                return Some(index);
            }
            self.ready.push_back(index);
        }
        // All have come to rest, and told their deadlines.
        while let Some(index) = self.touched.pop() {
            if let Some(entry) = self.get_mut(index) {
                entry.is_touched = false;
            }
        }
        None
    }

    /// Asks those for their deadlines that have not been drained since something was done with them.
    pub(super) fn settle_deadlines(&mut self) {
        while let Some(index) = self.touched.pop() {
            if let Some(entry) = self.get_mut(index) {
                entry.is_touched = false;
                let at = entry.deadline();
                self.deadlines.set(index, at);
            }
        }
    }

    /// The peer whose turn it was has sent so much and may have more. Its turn goes on while it has credit: otherwise
    /// those with small batches would get less.
    pub(super) fn sent(&mut self, index: u32, len: usize) {
        let Some(entry) = self.get_mut(index) else { return };
        entry.credit = entry.credit.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX));
        if entry.credit > 0 {
            self.ready.push_front(index);
        } else {
            self.ready.push_back(index);
        }
    }

    /// The peer whose turn it was has nothing to send. Its deadline is final, until it is touched again.
    pub(super) fn rest(&mut self, index: u32) {
        let Some(entry) = self.get_mut(index) else { return };
        entry.is_ready = false;
        entry.credit = QUANTUM;
        let (at, wake) = (entry.deadline(), !entry.is_eventful);
        entry.is_eventful = true;
        if wake {
            self.eventful.push_back(index);
        }
        self.deadlines.set(index, at);
    }

    /// The deadline of a peer may be another one, though nothing else is to be done with it.
    pub(super) fn settle_deadline(&mut self, index: u32) {
        if let Some(entry) = self.get_mut(index).filter(|entry| !entry.is_touched) {
            let at = entry.deadline();
            self.deadlines.set(index, at);
        }
    }

    /// The peer whose turn it is to tell something.
    pub(super) fn next_eventful(&mut self) -> Option<u32> {
        self.eventful.pop_front()
    }

    /// The peer whose turn it was has told something and may have more.
    pub(super) fn told(&mut self, index: u32) {
        self.eventful.push_back(index);
    }

    /// The peer whose turn it was has nothing to tell. Its deadline is what it was: telling changes nothing.
    pub(super) fn hush(&mut self, index: u32) {
        if let Some(entry) = self.get_mut(index) {
            entry.is_eventful = false;
        }
    }
}

/// The peer at a place, where the indexes are needed as well.
fn entry(slots: &mut [Slot], index: u32) -> Option<&mut Entry> {
    slots.get_mut(index as usize)?.entry.as_deref_mut()
}

/// Takes an item out of a few. Whether it was there.
fn take<T: PartialEq, const N: usize>(items: &mut SmallVec<[T; N]>, item: &T) -> bool {
    let at = items.iter().position(|known| known == item);
    at.inspect(|&at| drop(items.swap_remove(at))).is_some()
}

/// A hash that is the key's first bytes: connection ids are random, and ours, so nobody can make them collide.
#[derive(Debug, Default)]
pub(super) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length prefix of arrays says nothing.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crypto::{Identity, Seed};
    use structs::{Epoch, Path};

    use super::*;
    use crate::shared::Shared;
    use crate::{Config, Target};

    fn table(peers: u32) -> Table {
        let now = sim::clock::base();
        let epoch = Epoch { instant: now, unix: Duration::ZERO };
        let shared = Arc::new(Shared::new(Arc::new(Identity::from_seed([1; 32])), Config::default(), epoch));
        let path = Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let mut table = Table::default();
        for number in 0..peers {
            let seed = Seed::fixed(number.into());
            let peer = Peer::dial(Arc::clone(&shared), Target::Anyone, None, None, path, seed, now);
            let index = table.insert(Entry::new(peer, Phase::Dialling, None, sim::clock::base()));
            table.wake(index);
        }
        table
    }

    #[test]
    fn peers_that_never_rest_get_the_same_number_of_bytes() {
        let mut table = table(4);
        let batch = [65_000, 1200, 16_384, 9000_usize];
        let mut sent = [0; 4];
        for _ in 0..10_000 {
            let index = table.next_ready().expect("all have more");
            let len = batch[index as usize];
            table.sent(index, len);
            sent[index as usize] += len;
            let (least, most) = (sent.iter().min(), sent.iter().max());
            let apart = most.zip(least).map(|(most, least)| most - least);
            // One batch overdrawn and one quantum ahead, and as much behind.
            assert!(apart < Some(2 * (65_000 + 16_384)), "{sent:?}");
        }
        // Who always sends less than a quantum cannot fall behind for ever.
        assert!(sent.iter().all(|bytes| *bytes > 2_500_000), "{sent:?}");
    }

    #[test]
    fn one_that_rests_saves_nothing_up() {
        let mut table = table(2);
        let first = table.next_ready().expect("both wait");
        table.rest(first);
        let second = table.next_ready().expect("the other one");
        for _ in 0..100 {
            table.sent(second, 60_000);
            assert_eq!(table.next_ready(), Some(second), "alone");
        }
        table.sent(second, 1000);
        table.wake(first);
        assert_eq!(table.get(first).map(|entry| entry.credit), Some(QUANTUM));
    }

    #[test]
    fn a_place_is_used_again_under_another_handle() {
        let mut table = table(2);
        let old = table.handle(0);
        assert_eq!(table.index(old), Some(0));
        table.add_cid(0, [7; 8]);
        assert_eq!(table.of_cid(&[7; 8]), Some(0));
        let entry = table.remove(0).expect("it was there");
        assert_eq!((table.index(old), table.len(), table.of_cid(&[7; 8])), (None, 1, None));
        assert_eq!(table.next_ready(), Some(1), "who left is passed over");
        let index = table.insert(*entry);
        assert_eq!((index, table.len()), (0, 2));
        assert_ne!(table.handle(index), old);
        assert_eq!(table.index(old), None);
    }

    #[test]
    fn a_connection_id_of_another_is_not_taken_away() {
        let mut table = table(2);
        table.add_cid(0, [7; 8]);
        table.add_cid(1, [7; 8]);
        table.add_token(0, [8; 16]);
        table.add_token(1, [8; 16]);
        table.remove(1);
        assert_eq!((table.of_cid(&[7; 8]), table.of_token(&[8; 16])), (Some(0), Some(0)));
    }
}
