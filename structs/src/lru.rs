//! A map that forgets what was used least recently, bounded in entries, in weight and in time.
//!
//! The invariant: `len() <= max_entries` and `weight() <= max_weight` after every call. Memory follows what is
//! held, never the bound, so that a generous bound costs an idle node nothing.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

/// A map bounded in entries and, if wanted, in weight and in time to live.
///
/// Weight is what the caller says it is, usually bytes. When a bound is reached the least recently *used* entry
/// goes first: [`insert`](Self::insert), [`get`](Self::get) and [`get_mut`](Self::get_mut) are uses,
/// [`peek`](Self::peek) and [`contains`](Self::contains) are not. Age counts from insertion, and an entry as old
/// as the time to live is absent.
///
/// Lookups are O(1). The order of iteration is the order of use, so it does not depend on hashes.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::time::Instant;
/// use structs::Lru;
///
/// # let now = std::time::Instant::now();
/// let mut addresses = Lru::new(NonZeroUsize::MIN.saturating_add(1)).max_weight(100);
/// addresses.insert("a", 1, 40, now)?;
/// addresses.insert("b", 2, 40, now)?;
/// addresses.get("a", now);
/// let inserted = addresses.insert("c", 3, 40, now)?;
/// assert_eq!(inserted.evicted, [("b", 2)]);
/// # Ok::<(), structs::TooHeavy>(())
/// ```
pub struct Lru<K, V> {
    entries: LruCache<K, Entry<V>>,
    max_entries: NonZeroUsize,
    max_weight: u64,
    time_to_live: Option<Duration>,
    weight: u64,
    /// The most entries since the table last shrank: the table's allocation is of this order.
    peak: usize,
}

struct Entry<V> {
    value: V,
    weight: u64,
    inserted: Instant,
}

/// What an insertion pushed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted<K, V> {
    /// The former value of the key, whether or not it had expired.
    pub replaced: Option<V>,
    /// The entries that made room, least recently used first.
    pub evicted: Vec<(K, V)>,
}

/// One item alone is heavier than the whole container may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooHeavy {
    /// The item's weight.
    pub weight: u64,
    /// The container's bound.
    pub max: u64,
}

impl fmt::Display for TooHeavy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {} exceeds the bound of {}", self.weight, self.max)
    }
}

impl std::error::Error for TooHeavy {}

impl<K: Hash + Eq, V> Lru<K, V> {
    /// An empty map for at most `max_entries` entries, without bounds on weight and age.
    #[must_use]
    pub fn new(max_entries: NonZeroUsize) -> Self {
        Self {
            entries: LruCache::unbounded(),
            max_entries,
            max_weight: u64::MAX,
            time_to_live: None,
            weight: 0,
            peak: 0,
        }
    }

    /// Bounds the sum of the weights. Set it before the first insertion: a lower bound takes hold with the next.
    #[must_use]
    pub fn max_weight(mut self, max: u64) -> Self {
        self.max_weight = max;
        self
    }

    /// Lets entries expire `time_to_live` after their insertion.
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Inserts or replaces an entry, and evicts the least recently used ones as far as the bounds demand.
    ///
    /// Recency alone decides what goes: an expired entry that was used later outlives a valid one, so call
    /// [`remove_expired`](Self::remove_expired) before if that matters.
    ///
    /// # Errors
    ///
    /// [`TooHeavy`] if `weight` alone exceeds the bound; nothing has changed then, and a former value of the key
    /// stays.
    pub fn insert(&mut self, key: K, value: V, weight: u64, now: Instant) -> Result<Inserted<K, V>, TooHeavy> {
        if weight > self.max_weight {
            return Err(TooHeavy { weight, max: self.max_weight });
        }
        let replaced = self.take(&key).map(|(_, value)| value);
        let mut evicted = Vec::new();
        while self.entries.len() >= self.max_entries.get() || self.weight > self.max_weight - weight {
            let Some(oldest) = self.take_oldest() else { break };
            evicted.push(oldest);
        }
        self.entries.put(key, Entry { value, weight, inserted: now });
        self.weight += weight; // at most `max_weight`: the loop has made room
        self.peak = self.peak.max(self.entries.len());
        self.shrink();
        Ok(Inserted { replaced, evicted })
    }

    /// The value of `key`, which becomes the most recently used. An expired entry is removed.
    pub fn get<Q>(&mut self, key: &Q, now: Instant) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get_mut(key, now).map(|value| &*value)
    }

    /// As [`get`](Self::get), for changing the value. Its weight stays: insert it anew to change that.
    pub fn get_mut<Q>(&mut self, key: &Q, now: Instant) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let time_to_live = self.time_to_live;
        if time_to_live.is_some() && self.entries.peek(key).is_some_and(|entry| entry.is_expired(time_to_live, now)) {
            self.remove(key);
            return None;
        }
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// The value of `key` if it is there and has not expired. Does not count as a use.
    pub fn peek<Q>(&self, key: &Q, now: Instant) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.entries.peek(key)?;
        (!entry.is_expired(self.time_to_live, now)).then_some(&entry.value)
    }

    /// Whether `key` is there and has not expired. Does not count as a use.
    pub fn contains<Q>(&self, key: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.peek(key, now).is_some()
    }

    /// Removes `key` and returns its value, expired or not.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (_, value) = self.take(key)?;
        self.shrink();
        Some(value)
    }

    /// Removes and returns the least recently used entry, expired or not.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let oldest = self.take_oldest()?;
        self.shrink();
        Some(oldest)
    }

    /// Removes every expired entry and returns how many there were. O(n), and nothing without a time to live.
    pub fn remove_expired(&mut self, now: Instant) -> usize {
        if self.time_to_live.is_none() {
            return 0;
        }
        let before = self.entries.len();
        let mut freed = 0;
        self.entries.retain(|_, entry| {
            let keep = !entry.is_expired(self.time_to_live, now);
            freed += if keep { 0 } else { entry.weight };
            keep
        });
        self.weight -= freed;
        self.shrink();
        before - self.entries.len()
    }

    /// Every entry, the most recently used first. Expired entries that nothing has removed yet are among them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// Removes every entry and frees the memory.
    pub fn clear(&mut self) {
        self.entries = LruCache::unbounded();
        self.weight = 0;
        self.peak = 0;
    }

    /// The number of entries, with expired ones that nothing has removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of the weights of all entries.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weight
    }

    fn take<Q>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (key, entry) = self.entries.pop_entry(key)?;
        self.weight -= entry.weight;
        Some((key, entry.value))
    }

    fn take_oldest(&mut self) -> Option<(K, V)> {
        let (key, entry) = self.entries.pop_lru()?;
        self.weight -= entry.weight;
        Some((key, entry.value))
    }

    /// Gives the table's memory back after a burst. Amortised O(1): at least three quarters of `peak` entries
    /// have been removed for one rehash of the rest.
    fn shrink(&mut self) {
        let len = self.entries.len();
        if self.peak > SHRINK_ABOVE && len < self.peak / 4 {
            // A change of capacity is the one call of the `lru` crate that shrinks its table.
            self.entries.resize(NonZeroUsize::MIN.saturating_add(len));
            self.entries.resize(NonZeroUsize::MAX);
            self.peak = len;
        }
    }
}

impl<V> Entry<V> {
    fn is_expired(&self, time_to_live: Option<Duration>, now: Instant) -> bool {
        time_to_live.is_some_and(|limit| now.saturating_duration_since(self.inserted) >= limit)
    }
}

impl<K: Hash + Eq, V> fmt::Debug for Lru<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lru")
            .field("len", &self.entries.len())
            .field("max_entries", &self.max_entries)
            .field("weight", &self.weight)
            .field("max_weight", &self.max_weight)
            .field("time_to_live", &self.time_to_live)
            .finish()
    }
}

/// Tables of no more entries are not worth shrinking.
const SHRINK_ABOVE: usize = 64;
