//! A rate for all addresses of a network, of which none has more than half.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use structs::{Lru, TokenBucket};

#[derive(Debug)]
pub(super) struct Shared {
    all: TokenBucket,
    /// Half of it each.
    hosts: Lru<IpAddr, TokenBucket>,
    half: (u32, u32),
}

impl Shared {
    /// So much per second, and at once.
    pub(super) fn new((rate, burst): (u32, u32), now: Instant) -> Self {
        let hosts = Lru::new(MAX_HOSTS).time_to_live(COUNTED_FOR);
        Self { all: TokenBucket::new(rate, burst, now), hosts, half: (rate / 2, burst / 2) }
    }

    /// Takes `n` for an address, if they are there for it. Whoever is on this machine need not share.
    pub(super) fn try_take(&mut self, host: IpAddr, n: u32, now: Instant) -> bool {
        if !host.is_loopback() {
            if !self.hosts.contains(&host, now) {
                let (rate, burst) = self.half;
                // Without a weight nothing is too heavy.
                let _ = self.hosts.insert(host, TokenBucket::new(rate, burst, now), 0, now);
            }
            if !self.hosts.get_mut(&host, now).is_some_and(|bucket| bucket.try_take(n, now)) {
                return false;
            }
        }
        self.all.try_take(n, now)
    }
}

/// Addresses that are counted. The one heard longest ago goes.
const MAX_HOSTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// How long one is counted, and then begins anew.
const COUNTED_FOR: Duration = Duration::from_secs(60);
