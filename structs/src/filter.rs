//! A set of recently seen keys in constant memory, which may take a new key for a known one but never the reverse.
//!
//! The invariant: no half ever holds more keys than it is sized for, so the false-positive rate never exceeds the
//! stated one. Under a flood it is the horizon that gives way.

use std::f64::consts::LN_2;
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
/// **Under a flood.** A half that reaches its [`capacity`](Self::capacity) before its period is over ends early. Then
/// keys are remembered for less than a period, but always until at least that number of further keys has come;
/// the false-positive rate does not grow. [`early_rotations`](Self::early_rotations) counts this.
///
/// **Against chosen keys.** Every half hashes with SipHash keys of its own, derived from the seed: without the
/// seed nobody can prepare keys that collide, and a key that is mistaken for a known one in one half is not
/// in the next.
///
/// Halves are allocated with their first key and freed when they are forgotten: an idle filter holds no memory.
pub struct RotatingFilter {
    expected: usize,
    /// Keys per half: `expected`, or more where the smallest sound size has room for more.
    capacity: usize,
    period: Duration,
    rate: f64,
    seed: [u8; 32],
    /// Receives new keys.
    current: Option<Half>,
    /// Is only asked.
    previous: Option<Half>,
    /// When the current half began; `None` while both are empty.
    began: Option<Instant>,
    /// How many words of hash keys were derived from the seed.
    derived: u64,
    early: u64,
}

/// One generation of keys, in two Bloom filters that must agree.
///
/// The library derives all hash functions of a filter from two, which degenerate for about one key in as many as
/// there are bits (as when the second hash is a multiple of the size). In one filter for 1,000 keys at 1e-4 that
/// alone adds 6e-5. With two filters of half the size and independent hashes it must happen twice, and the memory is
/// the same.
struct Half {
    layers: [Bloom<[u8]>; 2],
    keys: usize,
}

impl Half {
    fn contains(&self, key: &[u8]) -> bool {
        self.layers.iter().all(|layer| layer.check(key))
    }

    /// Returns whether `key` was there before.
    fn insert(&mut self, key: &[u8]) -> bool {
        let [first, second] = &mut self.layers;
        let known = first.check_and_set(key) & second.check_and_set(key);
        self.keys += usize::from(!known);
        known
    }
}

impl RotatingFilter {
    /// The period unless [`period`](Self::period) is set.
    pub const DEFAULT_PERIOD: Duration = Duration::from_secs(5 * 60);
    /// The false-positive rate unless [`false_positive_rate`](Self::false_positive_rate) is set.
    pub const DEFAULT_RATE: f64 = 0.000_1;
    /// The most keys per period: at the lowest rate a half then takes 0.75 GB.
    pub const MAX_EXPECTED: usize = 1 << 27;

    /// An empty filter for at least `expected` keys per period, themselves at most [`MAX_EXPECTED`](Self::MAX_EXPECTED).
    ///
    /// The seed must be secret and must not be shared with other filters. At the default rate a half takes
    /// 20.9 bits per expected key.
    #[must_use]
    pub fn new(expected: NonZeroUsize, seed: [u8; 32]) -> Self {
        let expected = expected.get().min(Self::MAX_EXPECTED);
        Self {
            expected,
            capacity: capacity_for(expected, Self::DEFAULT_RATE),
            period: Self::DEFAULT_PERIOD,
            rate: Self::DEFAULT_RATE,
            seed,
            current: None,
            previous: None,
            began: None,
            derived: 0,
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
    /// per key and half. To be set before use.
    #[must_use]
    pub fn false_positive_rate(mut self, rate: f64) -> Self {
        self.rate = if rate.is_nan() { Self::DEFAULT_RATE } else { rate.clamp(1e-9, 0.5) };
        self.capacity = capacity_for(self.expected, self.rate);
        self
    }

    /// Whether `key` was seen before; if not, it is from now on.
    pub fn seen(&mut self, key: &[u8], now: Instant) -> bool {
        self.rotate(now);
        if self.previous.as_ref().is_some_and(|half| half.contains(key)) {
            return true;
        }
        if let Some(half) = &mut self.current {
            if half.keys < self.capacity {
                return half.insert(key);
            }
            if half.contains(key) {
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
            half.insert(key);
            self.began.get_or_insert(now);
        }
        false
    }

    /// Whether `key` was seen before. Changes nothing.
    #[must_use]
    pub fn contains(&self, key: &[u8], now: Instant) -> bool {
        let known = |half: &Option<Half>| half.as_ref().is_some_and(|half| half.contains(key));
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
        let bytes = |half: &Option<Half>| {
            half.as_ref().map_or(0, |half| half.layers.iter().map(|layer| layer.as_slice().len()).sum())
        };
        bytes(&self.current) + bytes(&self.previous)
    }

    /// How many keys a half takes before it ends early: the expected number, or somewhat more in a small filter (343
    /// at the default rate).
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
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

    /// An empty half with hash keys of its own.
    fn half(&mut self) -> Option<Half> {
        let size = Bloom::<[u8]>::compute_bitmap_size(self.capacity, layer_rate(self.rate));
        // The library never fails here. If it came to, no key would be known, which is the safe side.
        let first = Bloom::new_with_seed(size, self.capacity, &self.next_keys()).ok()?;
        let second = Bloom::new_with_seed(size, self.capacity, &self.next_keys()).ok()?;
        Some(Half { layers: [first, second], keys: 0 })
    }

    /// Two hash keys that were not used before: each is the hash of a counter under one half of the seed.
    fn next_keys(&mut self) -> [u8; 32] {
        let mut keys = [0; 32];
        for (parent, key) in self.seed.chunks_exact(16).zip(keys.chunks_exact_mut(16)) {
            let mut fixed = [0; 16];
            fixed.copy_from_slice(parent);
            for word in key.chunks_exact_mut(8) {
                // No count comes twice, so the keys differ even where the halves of the seed do not.
                self.derived = self.derived.wrapping_add(1);
                let mut hasher = SipHasher13::new_with_key(&fixed);
                hasher.write_u64(self.derived);
                word.copy_from_slice(&hasher.finish().to_le_bytes());
            }
        }
        keys
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

/// The false-positive rate of one layer.
///
/// The rates of the two halves add up, so each gets half of the whole. The tenth that is held back covers what the
/// formula for the size neglects, such as that the number of hash functions is whole. The two layers of a half must
/// agree, so their rates multiply.
fn layer_rate(rate: f64) -> f64 {
    (rate * 0.45).sqrt()
}

/// How many keys a half is sized for.
///
/// Below `24 / layer_rate` bits the degenerate keys would add more than a twentieth to the rate, so a layer has at
/// least that many; what fits into them is then used, lest a flood makes us clear much memory for few keys.
fn capacity_for(expected: usize, rate: f64) -> usize {
    let rate = layer_rate(rate);
    let fitting = 24.0 / rate * LN_2 * LN_2 / -rate.ln();
    expected.max(fitting as usize)
}
