//! One bucket: the contacts at a range of distances, and those that wait for one of them to go.
//!
//! The invariant: at most [`K`](limits::K) entries and [`MAX_SPARES`](limits::MAX_SPARES) spares, and nobody waits while
//! there is room.

use std::time::{Duration, Instant};

use crate::{Contact, Key, Node, Origin, Subnets, limits};

/// A contact in its place.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) contact: Contact,
    pub(crate) origin: Origin,
    /// When it answered for the first time.
    pub(crate) since: Instant,
    /// When it answered last.
    pub(crate) heard: Instant,
    /// When it is to be asked whether it is there.
    pub(crate) check: Instant,
    /// Requests since then that it did not answer.
    pub(crate) failures: u8,
}

impl Entry {
    pub(crate) fn new(key: Key, contact: Contact, origin: Origin, now: Instant) -> Self {
        let check = now + limits::CHECK_INTERVAL;
        Self { key, contact, origin, since: now, heard: now, check, failures: 0 }
    }

    pub(crate) const fn node(&self) -> Node {
        let Self { key, contact, origin, since, heard, failures, .. } = *self;
        Node { contact, key, since, heard, failures, origin }
    }

    /// Whether it answered the last request, so that it can be told to others.
    pub(crate) const fn is_live(&self) -> bool {
        self.failures == 0
    }

    pub(crate) fn on_answer(&mut self, origin: Origin, now: Instant) {
        self.heard = now;
        self.check = now + limits::CHECK_INTERVAL;
        self.failures = 0;
        self.origin = self.origin.max(origin);
    }

    pub(crate) fn on_failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.check = now + recheck_after(self.failures);
    }
}

fn recheck_after(failures: u8) -> Duration {
    let doublings = u32::from(failures.saturating_sub(1)).min(16);
    limits::RECHECK_INTERVAL.saturating_mul(1 << doublings).min(limits::CHECK_INTERVAL)
}

/// A contact that answered when its bucket was full.
#[derive(Debug, Clone)]
pub(crate) struct Spare {
    pub(crate) contact: Contact,
    pub(crate) origin: Origin,
    pub(crate) heard: Instant,
}

#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// In the order of arrival: the longest known first.
    pub(crate) entries: Vec<Entry>,
    /// The one heard last at the end.
    pub(crate) spares: Vec<Spare>,
    /// When a key of its range was looked up last.
    pub(crate) refreshed: Instant,
}

impl Bucket {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { entries: Vec::new(), spares: Vec::new(), refreshed: now }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < limits::K
    }

    pub(crate) fn entry_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == *key)
    }

    /// Adds an entry where there is room.
    pub(crate) fn push(&mut self, entry: Entry) {
        // Doubling would leave a third of a full bucket unused.
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(4);
        }
        self.entries.push(entry);
    }

    /// The entry that a newcomer may have the place of: of those that do not answer, the one silent for longest.
    pub(crate) fn yielding(&self) -> Option<usize> {
        let silent = |entry: &Entry| entry.failures >= limits::FAILURES_TO_YIELD;
        let silent = self.entries.iter().enumerate().filter(|(_, entry)| silent(entry));
        silent.min_by_key(|(_, entry)| entry.heard).map(|(index, _)| index)
    }

    /// Gives free places to those that wait, the one heard last first. They are asked at once whether they are still there,
    /// and not told to others before they answered.
    pub(crate) fn promote(&mut self, subnets: Subnets, now: Instant) {
        while self.has_room() {
            let Some(Spare { contact, origin, heard }) = self.spares.pop() else { return };
            let entry = Entry::new(subnets.key_of(&contact), contact, origin, heard);
            self.push(Entry { check: now, failures: 1, ..entry });
        }
    }

    /// Takes in that one that waits answered, maybe at another address of its place: it is the one heard last now. Returns whether
    /// there is such a one.
    pub(crate) fn hear_waiting(&mut self, key: &Key, new: Spare, subnets: Subnets) -> bool {
        let same = |spare: &Spare| spare.contact.id == new.contact.id && subnets.key_of(&spare.contact) == *key;
        let Some(index) = self.spares.iter().position(same) else { return false };
        let old = self.spares.remove(index);
        self.spares.push(Spare { origin: old.origin.max(new.origin), ..new });
        true
    }

    /// Lets a contact wait. If there are too many, the one heard longest ago goes.
    pub(crate) fn wait(&mut self, spare: Spare) {
        if self.spares.len() >= limits::MAX_SPARES {
            self.spares.remove(0);
        }
        if self.spares.len() == self.spares.capacity() {
            self.spares.reserve_exact(2);
        }
        self.spares.push(spare);
    }
}
