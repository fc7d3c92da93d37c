//! A set of recently seen keys in constant memory, which may take a new key for a known one but never the reverse.
//!
//! The invariant: no half ever holds more keys than it is sized for, so the false-positive rate never exceeds the
//! stated one. Under a flood it is the horizon that gives way.

use std::fmt;
use std::hash::Hasher;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bloomfilter::Bloom;
use bloomfilter::reexports::siphasher::sip::SipHasher13;

/// Remembers keys for one to two periods, in two Bloom filters that take turns.
///
/// A key enters the current half when it is first seen and leaves with that half, at the end of the next period.
/// Seeing it again does not prolong its stay.
///
/// **Under a flood.** A half that reaches the expected number of keys before its period is over ends early. Then
/// keys are remembered for less than a period, but always until at least that number of further keys has come;
/// the false-positive rate does not grow. [`early_rotations`](Self::early_rotations) counts this.
///
/// **Against chosen keys.** Every half hashes with two SipHash keys of its own, derived from the seed: without the
/// seed nobody can prepare keys that collide, and a key that is mistaken for a known one in one half is not
/// in the next.
///
/// Halves are allocated with their first key and freed when they are forgotten: an idle filter holds no memory.
pub struct RotatingFilter {
    expected: usize,
    period: Duration,
    rate: f64,
    seed: [u8; 32],
    /// Receives new keys.
    current: Option<Half>,
    /// Is only asked.
    previous: Option<Half>,
    /// When the current half began; `None` while both are empty.
    began: Option<Instant>,
    generation: u64,
    early: u64,
}

struct Half {
    bits: Bloom<[u8]>,
    keys: usize,
}

impl RotatingFilter {
    /// The period unless [`period`](Self::period) is set.
    pub const DEFAULT_PERIOD: Duration = Duration::from_secs(5 * 60);
    /// The false-positive rate unless [`false_positive_rate`](Self::false_positive_rate) is set.
    pub const DEFAULT_RATE: f64 = 0.000_1;
    /// The most keys per period: above, a half would take more than 1 GiB at the lowest rate.
    pub const MAX_EXPECTED: usize = 1 << 27;

    /// An empty filter for `expected` keys per period, at most [`MAX_EXPECTED`](Self::MAX_EXPECTED).
    ///
    /// The seed must be secret and must not be shared with other filters. At the default rate a half takes
    /// 20.6 bits per expected key.
    #[must_use]
    pub fn new(expected: NonZeroUsize, seed: [u8; 32]) -> Self {
        Self {
            expected: expected.get().min(Self::MAX_EXPECTED),
            period: Self::DEFAULT_PERIOD,
            rate: Self::DEFAULT_RATE,
            seed,
            current: None,
            previous: None,
            began: None,
            generation: 0,
            early: 0,
        }
    }

    /// Sets how long a key is remembered at least; at most it is twice that. Raised to a nanosecond.
    #[must_use]
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period.max(Duration::from_nanos(1));
        self
    }

    /// Sets how often at most a new key is taken for a known one, from 1e-9 to 0.5. Each halving costs 1.44 bits
    /// per key and half. Takes hold with the next half, so set it before use.
    #[must_use]
    pub fn false_positive_rate(mut self, rate: f64) -> Self {
        self.rate = if rate.is_nan() {
            Self::DEFAULT_RATE
        } else {
            rate.clamp(1e-9, 0.5)
        };
        self
    }

    /// Whether `key` was seen before; if not, it is from now on.
    pub fn seen(&mut self, key: &[u8], now: Instant) -> bool {
        self.rotate(now);
        if self.previous.as_ref().is_some_and(|half| half.bits.check(key)) {
            return true;
        }
        if let Some(half) = &mut self.current {
            if half.keys < self.expected {
                let known = half.bits.check_and_set(key);
                half.keys += usize::from(!known);
                return known;
            }
            if half.bits.check(key) {
                return true;
            }
            self.early = self.early.saturating_add(1);
            self.previous = self.current.take();
            self.began = self.began.max(Some(now));
        }
        if self.current.is_none() {
            self.current = self.half();
        }
        if let Some(half) = &mut self.current {
            half.bits.set(key);
            half.keys = 1;
            self.began.get_or_insert(now);
        }
        false
    }

    /// Whether `key` was seen before. Changes nothing.
    #[must_use]
    pub fn contains(&self, key: &[u8], now: Instant) -> bool {
        let known = |half: &Option<Half>| half.as_ref().is_some_and(|half| half.bits.check(key));
        match self.periods_passed(now) {
            0 => known(&self.current) || known(&self.previous),
            1 => known(&self.current),
            _ => false,
        }
    }

    /// Forgets what is over and frees its memory, as [`seen`](Self::seen) does on its own.
    pub fn rotate(&mut self, now: Instant) {
        match self.periods_passed(now) {
            0 => return,
            1 => {
                self.previous = self.current.take();
                self.began = self.began.and_then(|began| began.checked_add(self.period));
            }
            _ => {
                self.previous = None;
                self.current = None;
            }
        }
        if self.previous.is_none() {
            self.began = None;
        }
    }

    /// When [`rotate`](Self::rotate) will next have something to do; `None` while the filter is empty.
    #[must_use]
    pub fn next_rotation(&self) -> Option<Instant> {
        self.began.and_then(|began| began.checked_add(self.period))
    }

    /// The number of keys in both halves.
    #[must_use]
    pub fn len(&self) -> usize {
        let keys = |half: &Option<Half>| half.as_ref().map_or(0, |half| half.keys);
        keys(&self.current) + keys(&self.previous)
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the halves hold; 0 while the filter is empty.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let bytes = |half: &Option<Half>| half.as_ref().map_or(0, |half| half.bits.as_slice().len());
        bytes(&self.current) + bytes(&self.previous)
    }

    /// How often a half was full before its period was over.
    #[must_use]
    pub fn early_rotations(&self) -> u64 {
        self.early
    }

    /// Whole periods since the current half began.
    fn periods_passed(&self, now: Instant) -> u128 {
        let Some(began) = self.began else { return 0 };
        now.saturating_duration_since(began).as_nanos() / self.period.as_nanos()
    }

    /// An empty half with keys of its own.
    fn half(&mut self) -> Option<Half> {
        self.generation = self.generation.wrapping_add(1);
        let mut keys = [0; 32];
        for (index, (word, key)) in (0_u64..).zip(keys.chunks_exact_mut(8).zip([0, 0, 1, 1])) {
            let mut parent = [0; 16];
            parent.copy_from_slice(if key == 0 { &self.seed[..16] } else { &self.seed[16..] });
            let mut hasher = SipHasher13::new_with_key(&parent);
            hasher.write_u64(self.generation);
            hasher.write_u64(index);
            word.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        // The rates of the two halves add up, hence the half; rounding the number of hash functions and deriving
        // them from two costs up to a tenth of what remains.
        let size = Bloom::<[u8]>::compute_bitmap_size(self.expected, self.rate * 0.45);
        // The library never fails here. If it came to, no key would be known, which is the safe side.
        let bits = Bloom::new_with_seed(size.max(8), self.expected, &keys).ok()?;
        Some(Half { bits, keys: 0 })
    }
}

impl fmt::Debug for RotatingFilter {
    /// Leaves the seed out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotatingFilter")
            .field("len", &self.len())
            .field("expected", &self.expected)
            .field("period", &self.period)
            .field("rate", &self.rate)
            .field("early_rotations", &self.early)
            .finish_non_exhaustive()
    }
}
