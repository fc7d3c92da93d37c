//! Coalescing: frames that are handed in within 2 ms share one datagram.

use std::collections::VecDeque;
use std::time::Instant;

use super::encode;
use super::frame::Kind;
use super::limits::{BATCH_INTERVAL, BATCH_MAX, BATCH_MTU};
use crate::time::after;

/// Packs the frames for one destination into datagrams, in their order.
///
/// Frames wait up to 2 ms for company. Two or more become one BATCH of at most 1402 bytes and 255 frames; a frame that stays alone, or
/// is too long to share, leaves bare. A frame that does not fit closes the datagram before it, which is due at once.
/// A BATCH is never put inside another.
///
/// Bound: 1 MiB. When a push would exceed it, the oldest datagrams are dropped and counted, as a full socket buffer would;
/// an owner that polls after every push never gets there.
#[derive(Debug)]
pub struct Batcher {
    /// Frames that wait for company; `waiting_len` is the sum of `len + 2`.
    waiting: Vec<Vec<u8>>,
    waiting_len: usize,
    waiting_since: Option<Instant>,
    /// Complete datagrams, and since when they are due.
    due: VecDeque<(Instant, Vec<u8>)>,
    due_bytes: usize,
    coalescing: bool,
    dropped: u64,
}

impl Default for Batcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Batcher {
    /// The most bytes that wait, 1 MiB.
    pub const MAX_BUFFERED: usize = 1024 * 1024;

    /// An empty one that coalesces.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiting: Vec::new(),
            waiting_len: 0,
            waiting_since: None,
            due: VecDeque::new(),
            due_bytes: 0,
            coalescing: true,
            dropped: 0,
        }
    }

    /// Whether frames may share datagrams. Off, every frame is due at once and bare: the Rust reference node ignores BATCH.
    ///
    /// What waits already becomes due, each frame on its own when coalescing is turned off.
    pub fn set_coalescing(&mut self, on: bool) {
        if self.coalescing && !on {
            let since = self.waiting_since.take();
            self.waiting_len = 0;
            for frame in std::mem::take(&mut self.waiting) {
                if let Some(since) = since {
                    self.make_due(frame, since);
                }
            }
        }
        self.coalescing = on;
    }

    /// Hands in one frame. An empty one is ignored: there is nothing to send.
    pub fn push(&mut self, frame: Vec<u8>, now: Instant) {
        if frame.is_empty() {
            return;
        }
        let len = frame.len().saturating_add(FRAME_OVERHEAD);
        let bare = !self.coalescing || len > BATCH_MTU || frame.first() == Some(&Kind::Batch.byte());
        let full = self.waiting_len.saturating_add(len) > BATCH_MTU || self.waiting.len() >= BATCH_MAX;
        if bare || full {
            self.close(now);
        }
        if bare {
            self.make_due(frame, now);
        } else {
            self.waiting.push(frame);
            self.waiting_len = self.waiting_len.saturating_add(len);
            self.waiting_since.get_or_insert(now);
        }
        while self.buffered_bytes() > Self::MAX_BUFFERED && self.due.len() > 1 {
            self.pop();
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The next datagram that is due.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.due.is_empty() && self.waiting_since.is_some_and(|since| after(since, BATCH_INTERVAL) <= now) {
            self.close(now);
        }
        self.pop()
    }

    /// Makes everything due.
    pub fn flush(&mut self) {
        if let Some(since) = self.waiting_since {
            self.close(since);
        }
    }

    /// When [`Self::poll`] next has something; in the past if it has already.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting_since.map(|since| after(since, BATCH_INTERVAL));
        self.due.front().map(|&(since, _)| since).or(waiting)
    }

    /// Bytes handed in and not yet polled, headers of finished BATCHes included.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.due_bytes.saturating_add(self.waiting_len)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && self.waiting.is_empty()
    }

    /// How many datagrams were dropped at the bound.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Turns what waits into one datagram.
    fn close(&mut self, now: Instant) {
        self.waiting_since = None;
        let len = std::mem::take(&mut self.waiting_len);
        if self.waiting.len() < 2 {
            if let Some(frame) = self.waiting.pop() {
                self.make_due(frame, now);
            }
            return;
        }
        let mut datagram = Vec::with_capacity(len.saturating_add(BATCH_OVERHEAD));
        // `push` keeps every limit that `batch` checks.
        let encoded = encode::batch(self.waiting.iter().map(Vec::as_slice), &mut datagram);
        debug_assert_eq!(encoded, Ok(()));
        self.waiting.clear();
        self.make_due(datagram, now);
    }

    fn make_due(&mut self, datagram: Vec<u8>, since: Instant) {
        self.due_bytes = self.due_bytes.saturating_add(datagram.len());
        self.due.push_back((since, datagram));
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let (_, datagram) = self.due.pop_front()?;
        self.due_bytes = self.due_bytes.saturating_sub(datagram.len());
        Some(datagram)
    }
}

/// The length in front of each frame.
const FRAME_OVERHEAD: usize = 2;

/// The kind and the count.
const BATCH_OVERHEAD: usize = 2;
