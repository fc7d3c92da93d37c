//! The jitter buffer of DATA: messages leave in the order of their sequence numbers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use structs::Rejected;
use thiserror::Error;

use super::limits::{JITTER_HOLD, QUEUE_DATA};
use crate::time::after;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReorderError {
    /// Its number was delivered, or given up, before.
    #[error("late: {seq} after {next} was reached")]
    Late {
        /// The number of the message.
        seq: u32,
        /// The lowest number that is still taken.
        next: u64,
    },
    /// A message with this number is here already.
    #[error("duplicate of {seq}")]
    Duplicate {
        /// The number of the message.
        seq: u32,
    },
    /// The messages that could leave are not being polled.
    #[error("full")]
    Full,
}

impl From<ReorderError> for Rejected {
    fn from(error: ReorderError) -> Self {
        match error {
            ReorderError::Late { .. } => Self::Late,
            ReorderError::Duplicate { .. } => Self::Duplicate,
            ReorderError::Full => Self::LimitReached,
        }
    }
}

/// Puts the messages of one sender back in order, waiting at most 50 ms for what is missing.
///
/// A message that is next leaves at once. One that comes early is held until those before it are here, or until it was held for 50 ms:
/// then every gap before it is given up for good, and what was held is delivered in order. Delivery goes on from there without
/// further delay.
///
/// Bounds: 2048 messages and 4 MiB are held. Beyond either, gaps are given up early, the oldest first, so nothing that arrived is lost
/// by it. Messages that may leave count for themselves, with the same bounds; only when those are exceeded, because nobody polls, are
/// messages refused.
///
/// The numbers do not wrap, as in the reference nodes: after 0xFFFF_FFFF everything is late until [`Self::reset`].
#[derive(Debug)]
pub struct Reorder {
    max_items: usize,
    max_bytes: usize,
    /// The lowest number that may still come.
    next: u64,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    ready_since: Option<Instant>,
    /// What came early, by number; none equals `next`.
    held: BTreeMap<u64, Bytes>,
    held_bytes: usize,
    /// When and what came early, oldest first. Some of it may not be held any more.
    arrivals: VecDeque<(Instant, u64)>,
    skipped: u64,
}

impl Default for Reorder {
    fn default() -> Self {
        Self::new(QUEUE_DATA, Self::DEFAULT_MAX_BYTES)
    }
}

impl Reorder {
    /// What [`Self::default`] allows: 4 MiB.
    pub const DEFAULT_MAX_BYTES: usize = 4 * 1024 * 1024;

    /// Expects number 0 first, and holds up to `max_items` messages and `max_bytes`.
    #[must_use]
    pub const fn new(max_items: usize, max_bytes: usize) -> Self {
        Self {
            max_items,
            max_bytes,
            next: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            ready_since: None,
            held: BTreeMap::new(),
            held_bytes: 0,
            arrivals: VecDeque::new(),
            skipped: 0,
        }
    }

    /// Hands in the message with number `seq`.
    ///
    /// # Errors
    /// See [`ReorderError`]; the message is dropped and nothing else changes.
    pub fn push(&mut self, seq: u32, payload: Bytes, now: Instant) -> Result<(), ReorderError> {
        let number = u64::from(seq);
        if number < self.next {
            return Err(ReorderError::Late { seq, next: self.next });
        }
        if self.held.contains_key(&number) {
            return Err(ReorderError::Duplicate { seq });
        }
        if self.ready.len() >= self.max_items || self.ready_bytes.saturating_add(payload.len()) > self.max_bytes {
            return Err(ReorderError::Full);
        }
        if number == self.next {
            self.release(payload, now);
            self.release_run(now);
            return Ok(());
        }
        self.held_bytes = self.held_bytes.saturating_add(payload.len());
        self.held.insert(number, payload);
        self.note_arrival(number, now);
        while self.held.len() > self.max_items || self.held_bytes > self.max_bytes {
            self.give_up_gap(now);
        }
        Ok(())
    }

    /// The next message in order.
    pub fn poll(&mut self, now: Instant) -> Option<Bytes> {
        if self.ready.is_empty() && self.held_until().is_some_and(|at| at <= now) {
            self.give_up_gap(now);
        }
        let payload = self.ready.pop_front()?;
        self.ready_bytes = self.ready_bytes.saturating_sub(payload.len());
        Some(payload)
    }

    /// When [`Self::poll`] next has something, should nothing arrive; in the past if it has already.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let ready = self.ready_since.filter(|_| !self.ready.is_empty());
        ready.or_else(|| self.held_until())
    }

    /// The lowest number that is still taken; 2^32 once all are used up.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next
    }

    /// Forgets what is held and expects `next`: the sender began anew. What may leave already still does.
    pub fn reset(&mut self, next: u32) {
        self.held.clear();
        self.held_bytes = 0;
        self.arrivals.clear();
        self.next = u64::from(next);
    }

    /// How many numbers were given up.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Messages held or ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len().saturating_add(self.ready.len())
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.ready.is_empty()
    }

    /// Bytes of the messages held or ready.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.held_bytes.saturating_add(self.ready_bytes)
    }

    /// When the message that was held longest must leave.
    fn held_until(&self) -> Option<Instant> {
        self.arrivals.front().map(|&(arrived, _)| after(arrived, JITTER_HOLD))
    }

    fn note_arrival(&mut self, number: u64, now: Instant) {
        // Entries go stale when a gap closes. Sweep before they outnumber what is held, which costs O(1) per message.
        if self.arrivals.len() > self.held.len().saturating_mul(2).saturating_add(SLACK) {
            let held = &self.held;
            self.arrivals.retain(|(_, number)| held.contains_key(number));
        }
        self.arrivals.push_back((now, number));
    }

    /// Makes the message with number `next` ready.
    fn release(&mut self, payload: Bytes, now: Instant) {
        self.ready_bytes = self.ready_bytes.saturating_add(payload.len());
        if self.ready.is_empty() {
            self.ready_since = Some(now);
        }
        self.ready.push_back(payload);
        self.next = self.next.saturating_add(1);
    }

    /// Makes everything ready that follows without a gap.
    fn release_run(&mut self, now: Instant) {
        if self.held.is_empty() {
            return;
        }
        while let Some(payload) = self.held.remove(&self.next) {
            self.held_bytes = self.held_bytes.saturating_sub(payload.len());
            self.release(payload, now);
        }
        while self.arrivals.front().is_some_and(|(_, number)| *number < self.next) {
            self.arrivals.pop_front();
        }
    }

    /// Goes on at the earliest message held.
    fn give_up_gap(&mut self, now: Instant) {
        if let Some((&first, _)) = self.held.first_key_value() {
            self.skipped = self.skipped.saturating_add(first.saturating_sub(self.next));
            self.next = first;
            self.release_run(now);
        }
    }
}

/// Stale entries that are not worth a sweep.
const SLACK: usize = 16;
