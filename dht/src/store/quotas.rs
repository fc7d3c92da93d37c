//! Who has how many records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Entry, Place};
use crate::subnet::{Subnet, address_of};
use crate::{Refused, Subnets, limits};

/// Counts by signer, address and subnet. Addresses that do not count are one subnet beside others, and rivals of each other in it.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    signers: BTreeMap<[u8; 32], usize>,
    addresses: BTreeMap<u128, usize>,
    subnets: Crowds<Option<Subnet>>,
    /// Of addresses that do not count.
    homes: Crowds<u128>,
}

/// Records by where they come from.
#[derive(Debug)]
struct Crowds<K> {
    /// Of each origin, the first to end first.
    records: BTreeMap<K, BTreeSet<(Instant, Place)>>,
    /// Origins by the number of their records.
    sizes: BTreeSet<(usize, K)>,
}

impl<K> Default for Crowds<K> {
    fn default() -> Self {
        Self { records: BTreeMap::new(), sizes: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Crowds<K> {
    fn count(&self, origin: K) -> usize {
        self.records.get(&origin).map_or(0, BTreeSet::len)
    }

    fn most(&self) -> Option<(usize, K)> {
        self.sizes.last().copied()
    }

    fn change(&mut self, origin: K, change: impl FnOnce(&mut BTreeSet<(Instant, Place)>) -> bool) {
        let records = self.records.entry(origin).or_default();
        self.sizes.remove(&(records.len(), origin));
        change(records);
        if records.is_empty() {
            self.records.remove(&origin);
        } else {
            self.sizes.insert((records.len(), origin));
        }
    }
}

impl Quotas {
    /// Whether a record may take the place of another one, or one more.
    pub(super) fn check(&self, subnets: Subnets, old: Option<&Entry>, new: &Entry) -> Result<(), Refused> {
        let freed = |same: bool| usize::from(same);
        if let Some(signer) = &new.signer {
            let count = self.signers.get(signer).copied().unwrap_or(0);
            if count - freed(old.is_some_and(|old| old.signer == new.signer)) >= limits::MAX_STORED_PER_SIGNER {
                return Err(Refused::Quota);
            }
        }
        let Some(subnet) = subnets.of(new.from) else { return Ok(()) };
        let address = address_of(new.from);
        let count = self.addresses.get(&address).copied().unwrap_or(0);
        if count - freed(old.is_some_and(|old| address_of(old.from) == address)) >= limits::MAX_STORED_PER_ADDRESS {
            return Err(Refused::Quota);
        }
        let count = self.subnets.count(Some(subnet));
        if count - freed(old.is_some_and(|old| subnets.of(old.from) == Some(subnet))) >= limits::MAX_STORED_PER_SUBNET {
            return Err(Refused::Quota);
        }
        Ok(())
    }

    /// The records of the subnet that has most, the first to end first, as long as it has more than that of `new` will; if that is
    /// none that counts, those of the address there that has most, and if `new` is of none either, as long as that has more than its own.
    pub(super) fn crowded(&self, subnets: Subnets, new: &Entry) -> impl Iterator<Item = Place> {
        let (own, (largest, crowd)) = (subnets.of(new.from), self.subnets.most().unwrap_or((0, None)));
        let (mut most, mut records) =
            (largest.saturating_sub(self.subnets.count(own) + 1), self.subnets.records.get(&crowd));
        if let (None, Some((count, home))) = (crowd, self.homes.most()) {
            records = self.homes.records.get(&home);
            if own.is_none() {
                most = count.saturating_sub(self.homes.count(address_of(new.from)) + 1);
            }
        }
        records.into_iter().flatten().take(most).map(|(_, place)| *place)
    }

    pub(super) fn add(&mut self, subnets: Subnets, place: Place, entry: &Entry) {
        if let Some(signer) = entry.signer {
            *self.signers.entry(signer).or_default() += 1;
        }
        *self.addresses.entry(address_of(entry.from)).or_default() += 1;
        self.change(subnets, entry, |records| records.insert((entry.end, place)));
    }

    pub(super) fn remove(&mut self, subnets: Subnets, place: &Place, entry: &Entry) {
        if let Some(signer) = &entry.signer {
            decrement(&mut self.signers, signer);
        }
        decrement(&mut self.addresses, &address_of(entry.from));
        self.change(subnets, entry, |records| records.remove(&(entry.end, *place)));
    }

    fn change(&mut self, subnets: Subnets, entry: &Entry, change: impl Fn(&mut BTreeSet<(Instant, Place)>) -> bool) {
        let subnet = subnets.of(entry.from);
        self.subnets.change(subnet, &change);
        if subnet.is_none() {
            self.homes.change(address_of(entry.from), change);
        }
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
