//! Who has how many records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Entry, Place};
use crate::subnet::{Subnet, address_of};
use crate::{Refused, Subnets, limits};

/// Counts by signer, address and subnet. Subnets that do not count are one.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    signers: BTreeMap<[u8; 32], usize>,
    addresses: BTreeMap<u128, usize>,
    /// The records of each subnet, the first to end first.
    subnets: BTreeMap<Option<Subnet>, BTreeSet<(Instant, Place)>>,
    /// Subnets by the number of their records.
    crowds: BTreeSet<(usize, Option<Subnet>)>,
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
        let count = self.count(Some(subnet));
        if count - freed(old.is_some_and(|old| subnets.of(old.from) == Some(subnet))) >= limits::MAX_STORED_PER_SUBNET {
            return Err(Refused::Quota);
        }
        Ok(())
    }

    /// The records of the subnet that has most, the first to end first, as long as it has more than that of `new` will.
    pub(super) fn crowded(&self, subnets: Subnets, new: &Entry) -> impl Iterator<Item = Place> {
        let own = self.count(subnets.of(new.from));
        let crowd = self.crowds.last().filter(|(count, _)| *count > own + 1);
        let most = crowd.map_or(0, |(count, _)| count - own - 1);
        let records = crowd.and_then(|(_, subnet)| self.subnets.get(subnet));
        records.into_iter().flatten().take(most).map(|(_, place)| *place)
    }

    pub(super) fn add(&mut self, subnets: Subnets, place: Place, entry: &Entry) {
        if let Some(signer) = entry.signer {
            *self.signers.entry(signer).or_default() += 1;
        }
        *self.addresses.entry(address_of(entry.from)).or_default() += 1;
        self.change(subnets.of(entry.from), |records| records.insert((entry.end, place)));
    }

    pub(super) fn remove(&mut self, subnets: Subnets, place: &Place, entry: &Entry) {
        if let Some(signer) = &entry.signer {
            decrement(&mut self.signers, signer);
        }
        decrement(&mut self.addresses, &address_of(entry.from));
        self.change(subnets.of(entry.from), |records| records.remove(&(entry.end, *place)));
    }

    fn count(&self, subnet: Option<Subnet>) -> usize {
        self.subnets.get(&subnet).map_or(0, BTreeSet::len)
    }

    fn change(&mut self, subnet: Option<Subnet>, change: impl FnOnce(&mut BTreeSet<(Instant, Place)>) -> bool) {
        let records = self.subnets.entry(subnet).or_default();
        self.crowds.remove(&(records.len(), subnet));
        change(records);
        if records.is_empty() {
            self.subnets.remove(&subnet);
        } else {
            self.crowds.insert((records.len(), subnet));
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
