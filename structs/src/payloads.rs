//! The last payloads by id, to serve those who missed them.
//!
//! The invariant: `len() <= max_entries` and `bytes() <= max_bytes` after every call.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use bytes::Bytes;

use crate::Ring;

/// The most recently inserted payloads, first in first out, bounded in entries and in bytes.
///
/// Looking a payload up does not keep it: an asker must not be able to decide what stays. Payloads are shared and
/// not copied, and only their own length counts: one that is a slice of a larger buffer keeps that buffer alive,
/// so copy it before if the rest is large.
#[derive(Debug, Clone)]
pub struct PayloadCache<K> {
    payloads: HashMap<K, Bytes>,
    order: Ring<K>,
    bytes: usize,
    max_bytes: usize,
}

impl<K: Hash + Eq + Clone> PayloadCache<K> {
    /// An empty cache. With `max_entries` 0 it stores nothing.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { payloads: HashMap::new(), order: Ring::new(max_entries), bytes: 0, max_bytes }
    }

    /// Stores `payload`, and drops the oldest ones as far as the bounds demand. Returns whether it was stored.
    ///
    /// It is not if `id` is there already (the first payload stays, at its place in the order) or if the payload
    /// alone exceeds the bounds; nothing has changed then.
    pub fn insert(&mut self, id: K, payload: Bytes) -> bool {
        let size = payload.len();
        if size > self.max_bytes || self.order.capacity() == 0 || self.payloads.contains_key(&id) {
            return false;
        }
        while self.order.is_full() || self.bytes > self.max_bytes - size {
            let Some(oldest) = self.order.pop() else { break };
            if let Some(dropped) = self.payloads.remove(&oldest) {
                self.bytes -= dropped.len();
            }
        }
        if self.payloads.capacity() > SHRINK_ABOVE && self.payloads.len() < self.payloads.capacity() / 8 {
            self.payloads.shrink_to(self.payloads.len() * 2);
        }
        if self.order.push(id.clone()).is_err() {
            return false; // room was made above
        }
        self.bytes += size; // at most `max_bytes`: the loop has made room
        self.payloads.insert(id, payload);
        true
    }

    /// The payload of `id`.
    #[must_use]
    pub fn get<Q>(&self, id: &Q) -> Option<&Bytes>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.payloads.get(id)
    }

    /// Whether the payload of `id` is there.
    #[must_use]
    pub fn contains<Q>(&self, id: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.payloads.contains_key(id)
    }

    /// Every id, oldest first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.order.iter()
    }

    /// The number of payloads.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// The length of all payloads together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops every payload and frees the memory.
    pub fn clear(&mut self) {
        self.payloads = HashMap::new();
        self.order.clear();
        self.bytes = 0;
    }
}

/// Tables of no more entries are not worth shrinking.
const SHRINK_ABOVE: usize = 64;
