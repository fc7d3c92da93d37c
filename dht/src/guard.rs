//! Who may cost us how much: requests by address, key agreements for strangers, and contacts that we ask back.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Instant;

use structs::{Lru, TokenBucket};

use crate::{Subnets, limits};

#[derive(Debug)]
pub(crate) struct Guard {
    subnets: Subnets,
    /// By IPv4 address and IPv6 /64.
    askers: Lru<u128, TokenBucket>,
    strangers: TokenBucket,
    verified: TokenBucket,
}

impl Guard {
    pub(crate) fn new(subnets: Subnets, now: Instant) -> Self {
        Self {
            subnets,
            askers: Lru::new(NonZeroUsize::MIN.saturating_add(limits::MAX_COUNTED - 1)),
            strangers: TokenBucket::new(limits::STRANGERS_PER_SECOND, limits::STRANGERS_PER_SECOND, now),
            verified: TokenBucket::new(limits::VERIFIED_PER_SECOND, limits::VERIFIED_PER_SECOND, now),
        }
    }

    /// Whether an address may ask once more.
    pub(crate) fn may_ask(&mut self, ip: IpAddr, now: Instant) -> bool {
        if self.subnets.of(ip).is_none() {
            return true;
        }
        let asker = match ip.to_canonical() {
            IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => u128::from(ip) & (u128::MAX << 64),
        };
        if let Some(bucket) = self.askers.get_mut(&asker, now) {
            return bucket.try_take(1, now);
        }
        let mut bucket = TokenBucket::new(limits::REQUESTS_PER_SECOND, limits::REQUESTS_AT_ONCE, now);
        let may = bucket.try_take(1, now);
        // Without weights nothing is too heavy.
        let _ = self.askers.insert(asker, bucket, 0, now);
        may
    }

    /// Whether there is a key agreement left for somebody without a token.
    pub(crate) fn may_agree(&mut self, now: Instant) -> bool {
        self.strangers.try_take(1, now)
    }

    /// Whether somebody who asked us may be asked back.
    pub(crate) fn may_verify(&mut self, now: Instant) -> bool {
        self.verified.try_take(1, now)
    }
}
