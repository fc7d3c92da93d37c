//! Which of many parts wants to be woken next.
//!
//! The invariant: both indexes hold the same pairs, so a key has at most one deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A queue of at most one deadline per key, earliest first, ties in the order of the keys.
///
/// Its size is bounded by the number of keys, which its owner bounds. Setting, removing and popping are O(log n);
/// setting the deadline that a key has already is one lookup, for that is what happens after most turns.
///
/// ```
/// use std::time::{Duration, Instant};
/// use structs::Deadlines;
///
/// # let now = std::time::Instant::now();
/// let mut deadlines = Deadlines::new();
/// deadlines.set("ping", Some(now + Duration::from_secs(5)));
/// deadlines.set("retry", Some(now));
/// assert_eq!(deadlines.pop_due(now), Some("retry"));
/// assert_eq!(deadlines.pop_due(now), None);
/// assert_eq!(deadlines.next(), Some((now + Duration::from_secs(5), &"ping")));
/// ```
#[derive(Debug, Clone)]
pub struct Deadlines<K> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Deadlines<K> {
    /// An empty queue, which holds no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// The number of deadlines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no deadline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Gives `key` the deadline `at` in place of the one it has; `None` removes it.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        let Some(at) = at else {
            self.remove(&key);
            return;
        };
        match self.by_key.get_mut(&key) {
            Some(old) if *old == at => {}
            Some(old) => {
                let mut pair = (*old, key);
                *old = at;
                self.by_time.remove(&pair);
                pair.0 = at;
                self.by_time.insert(pair);
            }
            None => {
                self.by_key.insert(key.clone(), at);
                self.by_time.insert((at, key));
            }
        }
    }

    /// Removes the deadline of `key` and returns it.
    pub fn remove(&mut self, key: &K) -> Option<Instant> {
        let (key, at) = self.by_key.remove_entry(key)?;
        self.by_time.remove(&(at, key));
        Some(at)
    }

    /// The deadline of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<Instant> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline and its key.
    #[must_use]
    pub fn next(&self) -> Option<(Instant, &K)> {
        self.by_time.first().map(|(at, key)| (*at, key))
    }

    /// Removes the earliest deadline if it is at or before `now`, and returns its key.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}
