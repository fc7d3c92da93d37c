//! The contacts of a node, many near it in the key space and few far away.
//!
//! The invariants, after every call:
//!
//! - who is in the table has answered us, at the address that it has there, under the key that it has there;
//! - a bucket holds at most [`K`](limits::K) contacts, and all in bucket `n` have exactly the first `n` bits with us in common;
//! - of one subnet there are at most [`MAX_SUBNET_IN_BUCKET`](limits::MAX_SUBNET_IN_BUCKET) contacts in a bucket and
//!   [`MAX_SUBNET_IN_TABLE`](limits::MAX_SUBNET_IN_TABLE) in the table, those that wait included;
//! - an address is there once.
//!
//! Long-known contacts that still answer are never given up for new ones: who floods us with new nodes gains nothing
//! (Maymounkov and Mazieres, "Kademlia", 2002, section 2.2).

use std::time::Instant;

use crypto::Rng;

use crate::bucket::{Bucket, Entry, Spare};
use crate::subnet::{Subnet, is_usable};
use crate::{Contact, Distance, Key, Subnets, limits};

/// The contacts of one node in one address family.
#[derive(Debug, Clone)]
pub struct Table {
    own: Key,
    subnets: Subnets,
    /// By the number of bits in common; as many as are needed for the closest contact.
    buckets: Vec<Bucket>,
    created: Instant,
    /// When one that waits was asked last.
    felt: Instant,
}

/// How a contact came to us. The greater is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// It asked us something.
    Inbound,
    /// A lookup of ours found it, or it was configured.
    Lookup,
}

/// What became of a contact that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It was there already.
    Known,
    /// There was room.
    Added,
    /// It has the place of this contact, which did not answer.
    Replaced(Contact),
    /// Its bucket is full: it waits until a contact there is silent.
    Waits,
    /// It is not wanted.
    Refused(Refusal),
}

/// Why a contact is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It is where we are.
    Own,
    /// Nobody can send to its address.
    Address,
    /// Its bucket has its share of its subnet.
    SubnetInBucket,
    /// The table has its share of its subnet.
    SubnetInTable,
    /// It came to us by itself, and so did half of the table.
    Inbound,
}

/// What is known of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Who and where.
    pub contact: Contact,
    /// Its place in the key space.
    pub key: Key,
    /// When it answered for the first time.
    pub since: Instant,
    /// When it answered last.
    pub heard: Instant,
    /// Requests since then that it did not answer. With any, it is not told to others.
    pub failures: u8,
    /// How it came to us.
    pub origin: Origin,
}

impl Table {
    /// An empty table around the place of its owner.
    #[must_use]
    pub const fn new(own: Key, subnets: Subnets, now: Instant) -> Self {
        Self { own, subnets, buckets: Vec::new(), created: now, felt: now }
    }

    /// The place of the owner.
    #[must_use]
    pub const fn own(&self) -> Key {
        self.own
    }

    /// The contacts, silent ones included and those that wait not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.entries.len()).sum()
    }

    /// Whether there is no contact.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The contacts that wait for a place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.spares.len()).sum()
    }

    /// The number of buckets from the farthest to that of the closest contact so far.
    #[must_use]
    pub fn depth(&self) -> u32 {
        u32::try_from(self.buckets.len()).unwrap_or(Key::BITS)
    }

    /// What is known of a contact, unless it is not there or waits.
    #[must_use]
    pub fn get(&self, contact: &Contact) -> Option<Node> {
        let key = self.subnets.key_of(contact);
        let entries = &self.buckets.get(self.index(&key)?)?.entries;
        entries.iter().find(|entry| entry.key == key && entry.contact == *contact).map(Entry::node)
    }

    /// All contacts, the farthest buckets first, in them the longest known.
    pub fn iter(&self) -> impl Iterator<Item = Node> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries).map(Entry::node)
    }

    /// Takes in that `contact` answered a request of ours, at its address and with its key. Nothing else makes a contact.
    pub fn on_answer(&mut self, contact: Contact, origin: Origin, now: Instant) -> Inserted {
        if !is_usable(&contact.addr) {
            return Inserted::Refused(Refusal::Address);
        }
        let key = self.subnets.key_of(&contact);
        let Some(index) = self.index(&key) else {
            return Inserted::Refused(Refusal::Own);
        };
        if let Some(entry) = self.entry_mut(index, &key).filter(|entry| entry.contact == contact) {
            entry.on_answer(origin, now);
            return Inserted::Known;
        }
        // Who was at this address under another id is there no more.
        self.retain(|other| other.addr != contact.addr || other.id == contact.id, now);
        let subnet = self.subnets.of(contact.addr.ip());
        if let Some(entry) = self.buckets.get_mut(index).and_then(|bucket| bucket.entry_mut(&key)) {
            let old = entry.contact;
            if self.subnets.of(old.addr.ip()) == subnet {
                // It moved within its subnet, as behind a NAT that forgot it: its place is the same.
                entry.contact = contact;
                entry.on_answer(origin, now);
                return Inserted::Known;
            }
            self.retain(|other| *other != old, now);
        }
        // Who waits goes on waiting: it has its share of its subnet already.
        let (subnets, bucket) = (self.subnets, self.buckets.get_mut(index));
        if bucket.is_some_and(|bucket| bucket.hear_waiting(&key, Spare { contact, origin, heard: now }, subnets)) {
            return Inserted::Waits;
        }
        self.admit(contact, key, index, origin, now)
    }

    fn admit(&mut self, contact: Contact, key: Key, index: usize, origin: Origin, now: Instant) -> Inserted {
        if let Some(refusal) = self.refusal(&contact, index, origin) {
            return Inserted::Refused(refusal);
        }
        while self.buckets.len() <= index {
            self.buckets.push(Bucket::new(self.created));
        }
        let Some(bucket) = self.buckets.get_mut(index) else {
            return Inserted::Refused(Refusal::Own); // the loop has made it
        };
        let entry = Entry::new(key, contact, origin, now);
        if bucket.has_room() {
            bucket.push(entry);
            return Inserted::Added;
        }
        if let Some(silent) = bucket.yielding() {
            let old = bucket.entries.remove(silent);
            bucket.push(entry);
            return Inserted::Replaced(old.contact);
        }
        bucket.wait(Spare { contact, origin, heard: now });
        Inserted::Waits
    }

    /// Takes in that `contact` did not answer a request. Returns it if it is no contact any more.
    ///
    /// After [`FAILURES_TO_YIELD`](limits::FAILURES_TO_YIELD) it makes room for the one that waits and was heard last, which
    /// is asked at once whether it is still there; where nobody waits it is kept until
    /// [`FAILURES_TO_FORGET`](limits::FAILURES_TO_FORGET).
    pub fn on_failure(&mut self, contact: &Contact, now: Instant) -> Option<Contact> {
        let key = self.subnets.key_of(contact);
        let subnets = self.subnets;
        let index = self.index(&key)?;
        let bucket = self.buckets.get_mut(index)?;
        bucket.spares.retain(|spare| spare.contact != *contact);
        let place = bucket.entries.iter().position(|entry| entry.key == key && entry.contact == *contact)?;
        let entry = bucket.entries.get_mut(place)?;
        entry.on_failure(now);
        let failures = entry.failures;
        if failures < limits::FAILURES_TO_YIELD {
            return None;
        }
        if bucket.spares.is_empty() && failures < limits::FAILURES_TO_FORGET {
            return None;
        }
        bucket.entries.remove(place);
        bucket.promote(subnets, now);
        Some(*contact)
    }

    /// Forgets a contact, for what it did. Returns whether it was there, or waited.
    pub fn remove(&mut self, contact: &Contact, now: Instant) -> bool {
        let before = self.len() + self.waiting();
        self.retain(|other| other != contact, now);
        self.len() + self.waiting() < before
    }

    /// The `n` contacts closest to `target` that answered when they were asked last, the closest first: what others are
    /// told.
    #[must_use]
    pub fn closest(&self, target: &Key, n: usize) -> Vec<Contact> {
        self.closest_of(target, n, Entry::is_live)
    }

    /// How many contacts that answered when they were asked last are closer to `target` than the owner.
    pub(crate) fn closer(&self, target: &Key) -> usize {
        let own = self.own.distance(target);
        let live = self.buckets.iter().flat_map(|bucket| &bucket.entries).filter(|entry| entry.is_live());
        live.filter(|entry| entry.key.distance(target) < own).count()
    }

    /// As [`closest`](Self::closest), with those that did not answer last: where lookups of our own begin.
    #[must_use]
    pub fn candidates(&self, target: &Key, n: usize) -> Vec<Contact> {
        self.closest_of(target, n, |_| true)
    }

    /// How far from the owner the [`K`](limits::K) closest contacts are: as nodes are spread evenly, the `K` closest to any other
    /// key are about as far from that. The greatest distance if there are fewer.
    pub(crate) fn radius(&self) -> Distance {
        let closest = self.candidates(&self.own, limits::K);
        let farthest = closest.get(limits::K - 1).map(|contact| self.subnets.key_of(contact).distance(&self.own));
        farthest.unwrap_or(Distance::MAX)
    }

    /// How many nodes there are besides the owner, by the look of its neighbourhood.
    pub(crate) fn population(&self) -> u64 {
        self.radius().population(self.len().min(limits::K))
    }

    fn closest_of(&self, target: &Key, n: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Contact> {
        let mut found = Vec::with_capacity(n.min(limits::K));
        let mut sorted = Vec::with_capacity(limits::K);
        for bucket in self.outwards(target) {
            if found.len() >= n {
                break;
            }
            let entries = bucket.entries.iter().filter(|entry| wanted(entry));
            sorted.extend(entries.map(|entry| (entry.key.distance(target), entry)));
            sorted.sort_unstable_by_key(|(distance, _)| *distance);
            let room = n - found.len();
            found.extend(sorted.drain(..).take(room).map(|(_, entry)| entry.contact));
        }
        found
    }

    /// The buckets such that all contacts of one are closer to `target` than all of those behind it.
    ///
    /// Of the contacts that share more bits with us than `target` does, each shares as many bits with `target` as we do; at
    /// the bit where its bucket branches off, it is on the side of `target` exactly if we are not.
    fn outwards(&self, target: &Key) -> impl Iterator<Item = &Bucket> {
        let apart = self.own.distance(target);
        let home = apart.common_bits() as usize;
        let end = self.buckets.len();
        let nearer = (home + 1).min(end)..end;
        let towards = nearer.clone().filter(move |bit| apart.differs_at(*bit));
        let away = nearer.rev().filter(move |bit| !apart.differs_at(*bit));
        let farther = (0..home.min(end)).rev();
        std::iter::once(home).chain(towards).chain(away).chain(farther).filter_map(|index| self.buckets.get(index))
    }

    /// When somebody is to be asked whether it is still there; `None` in an empty table.
    #[must_use]
    pub fn next_check(&self) -> Option<Instant> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries).map(|entry| entry.check).min()
    }

    /// The contact that is to be asked most urgently, if that is due. The next one for it is then a whole
    /// [`CHECK_INTERVAL`](limits::CHECK_INTERVAL) ahead, unless its answer or silence says otherwise.
    pub fn pop_check(&mut self, now: Instant) -> Option<Contact> {
        let entries = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.entries);
        let entry = entries.min_by_key(|entry| entry.check).filter(|entry| entry.check <= now)?;
        entry.check = now + limits::CHECK_INTERVAL;
        Some(entry.contact)
    }

    /// When one of those that wait is to be asked whether it is still there; `None` if nobody waits.
    #[must_use]
    pub fn next_feeler(&self) -> Option<Instant> {
        let oldest = self.buckets.iter().filter_map(|bucket| bucket.spares.first()).map(|spare| spare.heard).min()?;
        Some(oldest.max(self.felt) + limits::FEELER_INTERVAL)
    }

    /// Of those that wait, the one heard longest ago, with how it came to us, if one is due. The next one is then
    /// [`FEELER_INTERVAL`](limits::FEELER_INTERVAL) ahead.
    pub fn pop_feeler(&mut self, now: Instant) -> Option<(Contact, Origin)> {
        self.next_feeler().filter(|due| *due <= now)?;
        self.felt = now;
        let oldest = self.buckets.iter().filter_map(|bucket| bucket.spares.first());
        oldest.min_by_key(|spare| spare.heard).map(|spare| (spare.contact, spare.origin))
    }

    /// Notes that `target` was looked up: its bucket needs no refresh for some time.
    pub fn on_lookup(&mut self, target: &Key, now: Instant) {
        let bucket = self.index(target).and_then(|index| self.buckets.get_mut(index));
        if let Some(bucket) = bucket {
            bucket.refreshed = now;
        }
    }

    /// When a bucket has seen no lookup for [`REFRESH_INTERVAL`](limits::REFRESH_INTERVAL); `None` in an empty table.
    #[must_use]
    pub fn next_refresh(&self) -> Option<Instant> {
        self.buckets.iter().map(|bucket| bucket.refreshed + limits::REFRESH_INTERVAL).min()
    }

    /// A random key in the range of the bucket that has seen no lookup for longest, if one is due. It counts as looked up.
    pub fn pop_refresh(&mut self, now: Instant, rng: &mut Rng) -> Option<Key> {
        let (bits, bucket) = (0..).zip(&mut self.buckets).min_by_key(|(_, bucket)| bucket.refreshed)?;
        if bucket.refreshed + limits::REFRESH_INTERVAL > now {
            return None;
        }
        bucket.refreshed = now;
        Some(self.own.random_beside(bits, rng))
    }

    /// Up to `n` live contacts to begin with after a restart: the longest known, and of different subnets where these
    /// count. [`save`](crate::save) makes bytes of them.
    #[must_use]
    pub fn anchors(&self, n: usize) -> Vec<Contact> {
        let mut live: Vec<&Entry> = self.buckets.iter().flat_map(|bucket| &bucket.entries).collect();
        live.retain(|entry| entry.is_live());
        live.sort_by_key(|entry| (entry.since, entry.key));
        let mut anchors: Vec<Contact> = Vec::new();
        for entry in live {
            if anchors.len() >= n {
                break;
            }
            let subnet = self.subnets.of(entry.contact.addr.ip());
            if subnet.is_none() || anchors.iter().all(|other| self.subnets.of(other.addr.ip()) != subnet) {
                anchors.push(entry.contact);
            }
        }
        anchors
    }

    /// Moves the owner to another place, as when it learned under which address others see it. Contacts keep what is known
    /// of them; the longest known come first, and who finds no place where it belongs now is forgotten.
    pub fn recentre(&mut self, own: Key, now: Instant) {
        if own == self.own {
            return;
        }
        let old = std::mem::replace(self, Self::new(own, self.subnets, now));
        let mut entries: Vec<Entry> = old.buckets.into_iter().flat_map(|bucket| bucket.entries).collect();
        entries.sort_by_key(|entry| (entry.since, entry.key));
        for entry in entries {
            let Some(index) = self.index(&entry.key) else { continue };
            let admitted = self.admit(entry.contact, entry.key, index, Origin::Lookup, now);
            if let (Inserted::Added | Inserted::Replaced(_), Some(place)) =
                (admitted, self.entry_mut(index, &entry.key))
            {
                *place = entry;
            }
        }
        self.buckets.iter_mut().for_each(|bucket| bucket.spares.clear());
    }

    /// The number of the bucket of a key; `None` for our own.
    fn index(&self, key: &Key) -> Option<usize> {
        let bits = self.own.distance(key).common_bits();
        (bits < Key::BITS).then_some(bits as usize)
    }

    fn entry_mut(&mut self, index: usize, key: &Key) -> Option<&mut Entry> {
        self.buckets.get_mut(index)?.entry_mut(key)
    }

    /// Forgets everybody but those to keep, and gives their places to those that wait.
    fn retain(&mut self, keep: impl Fn(&Contact) -> bool, now: Instant) {
        for bucket in &mut self.buckets {
            bucket.spares.retain(|spare| keep(&spare.contact));
            bucket.entries.retain(|entry| keep(&entry.contact));
            bucket.promote(self.subnets, now);
        }
    }

    /// Why a newcomer may not come in. One pass over the table, for newcomers only.
    fn refusal(&self, contact: &Contact, index: usize, origin: Origin) -> Option<Refusal> {
        let subnet = self.subnets.of(contact.addr.ip());
        let (mut in_table, mut in_bucket, mut inbound, mut len) = (0, 0, 0, 0);
        for (number, bucket) in self.buckets.iter().enumerate() {
            let same = self.of_subnet(bucket, subnet);
            in_table += same;
            in_bucket += if number == index { same } else { 0 };
            len += bucket.entries.len();
            inbound += bucket.entries.iter().filter(|entry| entry.origin == Origin::Inbound).count();
        }
        if in_bucket >= limits::MAX_SUBNET_IN_BUCKET {
            Some(Refusal::SubnetInBucket)
        } else if in_table >= limits::MAX_SUBNET_IN_TABLE {
            Some(Refusal::SubnetInTable)
        } else if origin == Origin::Inbound && inbound * 2 > len {
            Some(Refusal::Inbound)
        } else {
            None
        }
    }

    /// How many contacts of a bucket are in a subnet that counts.
    fn of_subnet(&self, bucket: &Bucket, subnet: Option<Subnet>) -> usize {
        if subnet.is_none() {
            return 0;
        }
        let entries = bucket.entries.iter().map(|entry| entry.contact);
        let all = entries.chain(bucket.spares.iter().map(|spare| spare.contact));
        all.filter(|contact| self.subnets.of(contact.addr.ip()) == subnet).count()
    }
}
