//! A token bucket in exact integer arithmetic: no drift, and no token is ever lost to rounding.

use std::time::{Duration, Instant};

/// Allows `rate` tokens per second on average and `burst` at once.
///
/// The level is kept in billionths of a token, of which a nanosecond brings exactly `rate`. A `now` older than
/// the newest seen counts as the newest.
///
/// ```
/// use std::time::{Duration, Instant};
/// use structs::TokenBucket;
///
/// # let start = std::time::Instant::now();
/// let mut answers = TokenBucket::new(2, 3, start); // two a second, three at once
/// assert!(answers.try_take(3, start));
/// assert!(!answers.try_take(1, start));
/// assert_eq!(answers.ready_at(1, start), Some(start + Duration::from_millis(500)));
/// ```
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// Billionths of a token at `updated`; at most `burst` tokens, which is below 2^62.
    level: u64,
    updated: Instant,
    rate: u32,
    burst: u32,
}

impl TokenBucket {
    /// A full bucket: `burst` tokens now, and `rate` more per second up to `burst`. A rate of 0 never refills.
    #[must_use]
    pub fn new(rate: u32, burst: u32, now: Instant) -> Self {
        Self { level: billionths(burst), updated: now, rate, burst }
    }

    /// Takes `n` tokens if they are there; otherwise takes none. Returns whether it took them.
    pub fn try_take(&mut self, n: u32, now: Instant) -> bool {
        self.refill(now);
        match self.level.checked_sub(billionths(n)) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }

    /// How many whole tokens are there.
    #[must_use]
    pub fn available(&self, now: Instant) -> u32 {
        u32::try_from(self.level_at(now) / BILLION).unwrap_or(self.burst)
    }

    /// The first moment at which [`try_take`](Self::try_take) of `n` tokens succeeds if nothing is taken until
    /// then: `now` if that is now, `None` if it is never, because `n` exceeds the burst or the rate is 0.
    #[must_use]
    pub fn ready_at(&self, n: u32, now: Instant) -> Option<Instant> {
        if n > self.burst {
            return None;
        }
        let missing = billionths(n).saturating_sub(self.level_at(now));
        if missing == 0 {
            return Some(now);
        }
        if self.rate == 0 {
            return None;
        }
        let wait = missing.div_ceil(u64::from(self.rate));
        now.max(self.updated).checked_add(Duration::from_nanos(wait))
    }

    /// Changes the rate and the burst from `now` on. Tokens above the new burst are lost, none are given.
    pub fn set_rate(&mut self, rate: u32, burst: u32, now: Instant) {
        self.refill(now);
        self.rate = rate;
        self.burst = burst;
        self.level = self.level.min(billionths(burst));
    }

    fn refill(&mut self, now: Instant) {
        self.level = self.level_at(now);
        self.updated = self.updated.max(now);
    }

    fn level_at(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.updated);
        // Below 2^94 nanoseconds times a rate below 2^32: no overflow.
        let gained = elapsed.as_nanos() * u128::from(self.rate);
        let full = billionths(self.burst);
        u64::try_from(gained).map_or(full, |gained| self.level.saturating_add(gained).min(full))
    }
}

/// Tokens in the unit of the level: below 2^62.
const fn billionths(tokens: u32) -> u64 {
    tokens as u64 * BILLION
}

const BILLION: u64 = 1_000_000_000;
