//! Who may cost us how much: requests by address and subnet, key agreements for strangers, and contacts that we ask back.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::time::Instant;

use structs::{Lru, TokenBucket};

use crate::subnet::{Subnet, address_of, is_public};
use crate::{Contact, Subnets, limits};

#[derive(Debug)]
pub(crate) struct Guard {
    subnets: Subnets,
    /// By IPv4 address and IPv6 /64.
    askers: Lru<u128, TokenBucket>,
    networks: Lru<Subnet, TokenBucket>,
    /// Nodes without a valid token.
    unproven: Lru<Contact, TokenBucket>,
    strangers: TokenBucket,
    /// Those of whom an answer is awaited.
    awaited: TokenBucket,
    /// Those with a token: contacts of ours, and others.
    contacts: TokenBucket,
    proven: Shared,
    agreers: Lru<Subnet, TokenBucket>,
    writes: Shared,
    writers: Lru<Subnet, TokenBucket>,
    verified: TokenBucket,
    /// Addresses that others had us ask.
    asked: Lru<u128, TokenBucket>,
}

/// A rate for all together, of which those of no public address have half beside those who have one: they have no shares by subnet.
#[derive(Debug)]
struct Shared {
    all: TokenBucket,
    home: TokenBucket,
}

impl Shared {
    fn new(rate: u32, now: Instant) -> Self {
        Self { all: TokenBucket::new(rate, rate, now), home: TokenBucket::new(rate / 2, rate / 2, now) }
    }

    fn try_take(&mut self, is_home: bool, now: Instant) -> bool {
        (!is_home || self.home.try_take(1, now)) && self.all.try_take(1, now)
    }
}

impl Guard {
    pub(crate) fn new(subnets: Subnets, now: Instant) -> Self {
        let most = NonZeroUsize::MIN.saturating_add(limits::MAX_COUNTED - 1);
        Self {
            subnets,
            askers: Lru::new(most).time_to_live(limits::COUNTED_FOR),
            networks: Lru::new(most).time_to_live(limits::COUNTED_FOR),
            unproven: Lru::new(most).time_to_live(limits::COUNTED_FOR),
            strangers: TokenBucket::new(limits::STRANGERS_PER_SECOND, limits::STRANGERS_PER_SECOND, now),
            awaited: TokenBucket::new(limits::STRANGERS_PER_SECOND, limits::STRANGERS_PER_SECOND, now),
            contacts: TokenBucket::new(limits::PROVEN_PER_SECOND, limits::PROVEN_PER_SECOND, now),
            proven: Shared::new(limits::PROVEN_PER_SECOND, now),
            agreers: Lru::new(most).time_to_live(limits::COUNTED_FOR),
            writes: Shared::new(limits::WRITES_PER_SECOND, now),
            writers: Lru::new(most).time_to_live(limits::COUNTED_FOR),
            verified: TokenBucket::new(limits::VERIFIED_PER_SECOND, limits::VERIFIED_PER_SECOND, now),
            asked: Lru::new(NonZeroUsize::MIN.saturating_add(limits::MAX_ASKED_COUNTED - 1))
                .time_to_live(limits::ASKED_COUNTED_FOR),
        }
    }

    /// Forgets those who were counted for long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.askers.remove_expired(now);
        self.networks.remove_expired(now);
        self.unproven.remove_expired(now);
        self.agreers.remove_expired(now);
        self.writers.remove_expired(now);
        self.asked.remove_expired(now);
    }

    /// Whether an address may ask once more.
    pub(crate) fn may_ask(&mut self, ip: IpAddr, now: Instant) -> bool {
        let Some(subnet) = self.subnets.of(ip) else { return true };
        let rates = (limits::SUBNET_REQUESTS_PER_SECOND, limits::SUBNET_REQUESTS_AT_ONCE);
        take(&mut self.askers, address_of(ip), (limits::REQUESTS_PER_SECOND, limits::REQUESTS_AT_ONCE), now)
            && take(&mut self.networks, subnet, rates, now)
    }

    /// Whether a node may ask once more without showing a valid token.
    pub(crate) fn may_ask_unproven(&mut self, from: &Contact, now: Instant) -> bool {
        let rates = (limits::UNPROVEN_PER_SECOND, limits::UNPROVEN_AT_ONCE);
        self.subnets.of(from.addr.ip()).is_none() || take(&mut self.unproven, *from, rates, now)
    }

    /// Whether there is a key agreement left for somebody without a token.
    pub(crate) fn may_agree(&mut self, now: Instant) -> bool {
        self.strangers.try_take(1, now)
    }

    /// Whether there is a key agreement left for somebody who was asked something. Who sends in his name must know whom we ask.
    pub(crate) fn may_agree_with_awaited(&mut self, now: Instant) -> bool {
        self.awaited.try_take(1, now)
    }

    /// Whether there is a key agreement left for a contact with a token.
    pub(crate) fn may_agree_with_contact(&mut self, now: Instant) -> bool {
        self.contacts.try_take(1, now)
    }

    /// Whether there is a key agreement left for anybody else with a token. Whoever has many addresses has many tokens, but those
    /// of one network have a share only.
    pub(crate) fn may_agree_with_proven(&mut self, ip: IpAddr, now: Instant) -> bool {
        let rates = (limits::SUBNET_PROVEN_PER_SECOND, limits::SUBNET_PROVEN_AT_ONCE);
        let may = self.subnets.of(ip).is_none() || take(&mut self.agreers, provider_of(ip), rates, now);
        may && self.proven.try_take(self.is_home(ip), now)
    }

    /// Whether there is the check of a signature left for a record that an address shows.
    pub(crate) fn may_write(&mut self, ip: IpAddr, now: Instant) -> bool {
        let rates = (limits::SUBNET_WRITES_PER_SECOND, limits::SUBNET_WRITES_AT_ONCE);
        self.subnets.of(ip).is_none_or(|subnet| take(&mut self.writers, subnet, rates, now))
            && self.writes.try_take(self.is_home(ip), now)
    }

    /// Whether somebody who asked us may be asked back.
    pub(crate) fn may_verify(&mut self, now: Instant) -> bool {
        self.verified.try_take(1, now)
    }

    /// Whether a node may be asked of which we know by hearsay only, in a search that others want.
    pub(crate) fn may_ask_stranger(&mut self, ip: IpAddr, now: Instant) -> bool {
        let burst = limits::STRANGERS_ASKED_AT_ONCE.saturating_mul(limits::STRANGER_ASKED_EVERY);
        self.subnets.of(ip).is_none()
            || take_some(&mut self.asked, address_of(ip), limits::STRANGER_ASKED_EVERY, (1, burst), now)
    }

    /// Whether an address does not count beside others that do.
    fn is_home(&self, ip: IpAddr) -> bool {
        self.subnets == Subnets::Public && !is_public(ip)
    }
}

/// The network that shares key agreements: an IPv4 /24, an IPv6 /32, since one of these is easily had with many /48.
fn provider_of(ip: IpAddr) -> Subnet {
    Subnet::of(match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 96)).into(),
    })
}

/// Takes one from the bucket of `key`, which is full at first.
fn take<K: Hash + Eq>(buckets: &mut Lru<K, TokenBucket>, key: K, rates: (u32, u32), now: Instant) -> bool {
    take_some(buckets, key, 1, rates, now)
}

/// Takes `n` from the bucket of `key`, which is full at first.
fn take_some<K: Hash + Eq>(
    buckets: &mut Lru<K, TokenBucket>,
    key: K,
    n: u32,
    (rate, burst): (u32, u32),
    now: Instant,
) -> bool {
    if let Some(bucket) = buckets.get_mut(&key, now) {
        return bucket.try_take(n, now);
    }
    let mut bucket = TokenBucket::new(rate, burst, now);
    let may = bucket.try_take(n, now);
    // Without weights nothing is too heavy.
    let _ = buckets.insert(key, bucket, 0, now);
    may
}
