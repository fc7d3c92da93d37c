//! The serving side of a transfer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use super::super::encode;
use super::super::limits::{
    CHUNK, CHUNK_RTO, CHUNK_SEND_TIMEOUT, CHUNK_WINDOW, MAX_CHUNKED_VALUE, MAX_KEY, RTT_INITIAL,
};
use crate::time::after;

/// How a [`ChunkSender`] goes about it.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    window: usize,
    burst: u16,
    rtt: Duration,
    unacknowledged: bool,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self { window: CHUNK_WINDOW, burst: BURST_INITIAL, rtt: RTT_INITIAL, unacknowledged: false }
    }
}

impl SenderConfig {
    /// How many parts may be unacknowledged: 1 to 256, 8 unless set. More is faster over long distances and fills the socket
    /// buffer of the receiver sooner.
    #[must_use]
    pub fn window(mut self, parts: usize) -> Self {
        self.window = parts.clamp(1, 256);
        self
    }

    /// How many parts go out before the first mark: 4 to 64, 32 unless set. Give what [`ChunkSender::burst`] had reached in
    /// the last transfer to the same peer.
    #[must_use]
    pub fn burst(mut self, parts: u16) -> Self {
        self.burst = parts.clamp(BURST_MIN, BURST_MAX);
        self
    }

    /// The round-trip time to the peer, 100 ms unless set. Four of them are waited for an acknowledgement, at least 250 ms, and for a
    /// mark, at least 200 ms. Too low a value doubles traffic, too high a value makes a peer that does not acknowledge wait.
    #[must_use]
    pub const fn rtt(mut self, rtt: Duration) -> Self {
        self.rtt = rtt;
        self
    }

    /// Starts in [`Mode::Marked`], for a peer that is known not to acknowledge.
    #[must_use]
    pub const fn assume_unacknowledged(mut self) -> Self {
        self.unacknowledged = true;
        self
    }
}

/// Why a value cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The key is above 255 bytes.
    #[error("a key of {len} bytes")]
    KeyTooLong {
        /// Its length.
        len: usize,
    },
    /// The value is above 65 535 × 900 bytes.
    #[error("a value of {len} bytes")]
    ValueTooLong {
        /// Its length.
        len: usize,
    },
}

/// What the owner is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this frame.
    Chunk(Vec<u8>),
    /// Send a PING behind the frames so far, and call [`ChunkSender::on_mark`] when its PONG is here.
    Mark,
}

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is more to do.
    Running,
    /// Everything was sent and, above 900 bytes, taken in by the peer.
    Done,
    /// No progress for 60 s.
    Failed,
}

/// How the transfer learns what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By acknowledgements, though none has come yet.
    Undecided,
    /// By acknowledgements, of which at least one came.
    Acknowledged,
    /// By marks, since no acknowledgement comes.
    ///
    /// Bursts of parts are followed by a mark, a PING. A peer handles datagrams in order, so its PONG says that it got to the end of the
    /// burst without its buffer overflowing there: the next burst is larger by 4 parts, up to 64. Without a PONG in time the burst is
    /// repeated, half as large, down to 4 parts. A single part lost in the middle goes unnoticed; the peer, which
    /// misses the value, asks for all of it again.
    ///
    /// An acknowledgement that comes all the same leads back to [`Mode::Acknowledged`].
    Marked,
}

/// Sends one value to one peer.
#[derive(Debug)]
pub struct ChunkSender {
    key: Bytes,
    value: Bytes,
    /// 0 for a value that goes whole.
    total: u16,
    config: SenderConfig,
    taken: PartSet,
    heard_ack: bool,
    phase: Phase,
    progress: Instant,
    state: State,
}

#[derive(Debug)]
enum Phase {
    Whole,
    Window {
        /// Everything below was sent.
        cursor: u16,
        /// When the unacknowledged parts were last sent.
        in_flight: BTreeMap<u16, Instant>,
        first_sent: Option<Instant>,
    },
    Marked {
        /// The burst is `start..end`, sent up to `cursor`.
        start: u16,
        cursor: u16,
        end: u16,
        mark: MarkState,
        /// Marks given up in a row.
        misses: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarkState {
    Unsent,
    Sent(Instant),
}

impl ChunkSender {
    /// Prepares to send `value` as that of `key`.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn new(key: Bytes, value: Bytes, config: SenderConfig, now: Instant) -> Result<Self, SendError> {
        if key.len() > MAX_KEY {
            return Err(SendError::KeyTooLong { len: key.len() });
        }
        let too_long = SendError::ValueTooLong { len: value.len() };
        let whole = value.len() <= CHUNK;
        let total = if whole { 0 } else { u16::try_from(value.len().div_ceil(CHUNK)).or(Err(too_long))? };
        debug_assert!(value.len() <= MAX_CHUNKED_VALUE);
        let phase = if whole { Phase::Whole } else { Phase::window() };
        let taken = PartSet::new(total);
        let mut sender =
            Self { key, value, total, config, taken, heard_ack: false, phase, progress: now, state: State::Running };
        if sender.config.unacknowledged {
            sender.assume_unacknowledged();
        }
        Ok(sender)
    }

    /// What to do next; `None` until the deadline, an acknowledgement or a mark.
    pub fn poll(&mut self, now: Instant) -> Option<Step> {
        self.handle_timeout(now);
        if self.state != State::Running {
            return None;
        }
        let index = match &mut self.phase {
            Phase::Whole => {
                let mut frame = Vec::new();
                let encoded = encode::chunk(&self.key, &self.value, &mut frame);
                self.state = if encoded.is_ok() { State::Done } else { State::Failed };
                return encoded.is_ok().then_some(Step::Chunk(frame));
            }
            Phase::Window { cursor, in_flight, first_sent } => {
                let overdue =
                    in_flight.iter().find(|&(_, &sent)| after(sent, CHUNK_RTO) <= now).map(|(&index, _)| index);
                let index = match overdue {
                    Some(index) => index,
                    None if in_flight.len() < self.config.window => {
                        let index = self.taken.first_missing(*cursor).filter(|&index| index < self.total)?;
                        *cursor = index.saturating_add(1);
                        index
                    }
                    None => return None,
                };
                in_flight.insert(index, now);
                first_sent.get_or_insert(now);
                index
            }
            Phase::Marked { cursor, end, mark, .. } => {
                match self.taken.first_missing(*cursor).filter(|index| index < end) {
                    Some(index) => {
                        *cursor = index.saturating_add(1);
                        index
                    }
                    None if *mark == MarkState::Unsent => {
                        *mark = MarkState::Sent(now);
                        return Some(Step::Mark);
                    }
                    None => return None,
                }
            }
        };
        self.part(index).map(Step::Chunk)
    }

    /// The peer acknowledged a part. Parts acknowledged before, or that do not exist, are ignored.
    pub fn on_ack(&mut self, index: u16, now: Instant) {
        if self.state != State::Running || index >= self.total {
            return;
        }
        self.heard_ack = true;
        if let Phase::Marked { .. } = self.phase {
            self.phase = Phase::window();
        }
        if let Phase::Window { in_flight, .. } = &mut self.phase {
            in_flight.remove(&index);
        }
        if self.taken.insert(index) {
            self.advance(now);
        }
    }

    /// The PONG for the last [`Step::Mark`] is here. Ignored if no mark is outstanding.
    pub fn on_mark(&mut self, now: Instant) {
        if self.state != State::Running {
            return;
        }
        if let Phase::Marked { start, end, mark: MarkState::Sent(_), .. } = self.phase {
            for index in start..end {
                self.taken.insert(index);
            }
            self.config.burst = self.config.burst.saturating_add(BURST_STEP).min(BURST_MAX);
            self.advance(now);
            self.start_burst(0);
        }
    }

    /// Switches to [`Mode::Marked`] at once; does nothing after an acknowledgement, or at the end.
    pub fn assume_unacknowledged(&mut self) {
        let undecided = matches!(self.phase, Phase::Window { .. }) && !self.heard_ack;
        if self.state == State::Running && undecided {
            self.start_burst(0);
        }
    }

    /// When [`Self::handle_timeout`] has something to do. Final once [`Self::poll`] gave `None`.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.state != State::Running {
            return None;
        }
        let (first, second) = match &self.phase {
            Phase::Whole => (None, None),
            Phase::Window { in_flight, first_sent, .. } => {
                let resend = in_flight.values().min().map(|&sent| after(sent, CHUNK_RTO));
                let switch = first_sent.filter(|_| !self.heard_ack).map(|sent| after(sent, self.ack_wait()));
                (resend, switch)
            }
            Phase::Marked { mark: MarkState::Sent(sent), misses, .. } => {
                (Some(after(*sent, self.mark_wait(*misses))), None)
            }
            Phase::Marked { .. } => (None, None),
        };
        let end = after(self.progress, CHUNK_SEND_TIMEOUT);
        Some([first, second].into_iter().flatten().fold(end, Instant::min))
    }

    /// Gives up what waited too long: the transfer, the hope for acknowledgements, or a mark.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != State::Running {
            return;
        }
        if after(self.progress, CHUNK_SEND_TIMEOUT) <= now {
            self.finish(State::Failed);
            return;
        }
        match self.phase {
            Phase::Window { first_sent: Some(sent), .. } if !self.heard_ack && after(sent, self.ack_wait()) <= now => {
                self.start_burst(0);
            }
            Phase::Marked { mark: MarkState::Sent(sent), misses, .. } if after(sent, self.mark_wait(misses)) <= now => {
                self.config.burst = self.config.burst.checked_div(2).unwrap_or_default().max(BURST_MIN);
                self.start_burst(misses.saturating_add(1));
            }
            _ => {}
        }
    }

    /// Where the transfer stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// How it learns what arrived: remember [`Mode::Marked`] of a peer for the next transfer.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self.phase {
            Phase::Marked { .. } => Mode::Marked,
            _ if self.heard_ack => Mode::Acknowledged,
            _ => Mode::Undecided,
        }
    }

    /// How many parts a burst has now.
    #[must_use]
    pub const fn burst(&self) -> u16 {
        self.config.burst
    }

    /// The key of the value.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        &self.key
    }

    /// How many parts the peer has taken in, of how many. (0, 1) or (1, 1) for a value that goes whole.
    #[must_use]
    pub fn progress(&self) -> (u16, u16) {
        match self.phase {
            Phase::Whole => (u16::from(self.state == State::Done), 1),
            _ => (self.taken.len, self.total),
        }
    }

    fn part(&mut self, index: u16) -> Option<Vec<u8>> {
        let start = usize::from(index).saturating_mul(CHUNK);
        let end = start.saturating_add(CHUNK).min(self.value.len());
        let data = self.value.get(start..end)?;
        let mut frame = Vec::with_capacity(data.len().saturating_add(self.key.len()).saturating_add(HEADER));
        if encode::chunk_part(&self.key, index, self.total, data, &mut frame).is_err() {
            // `new` checked all that can be wrong with it.
            debug_assert!(false, "a part of a checked value encodes");
            self.finish(State::Failed);
            return None;
        }
        Some(frame)
    }

    /// Something new was taken in.
    fn advance(&mut self, now: Instant) {
        self.progress = now;
        if self.taken.len == self.total {
            self.finish(State::Done);
        }
    }

    fn finish(&mut self, state: State) {
        self.state = state;
        // Nothing is sent any more, and the owner may keep the sender for its outcome.
        self.value = Bytes::new();
    }

    /// Begins the burst at the first part that is missing.
    fn start_burst(&mut self, misses: u32) {
        let start = self.taken.first_missing(0).unwrap_or(self.total);
        let end = start.saturating_add(self.config.burst).min(self.total);
        self.phase = Phase::Marked { start, cursor: start, end, mark: MarkState::Unsent, misses };
    }

    fn ack_wait(&self) -> Duration {
        self.config.rtt.saturating_mul(4).max(ACK_WAIT_MIN)
    }

    /// Doubles with each mark missed in a row, so that a peer that is gone costs little.
    fn mark_wait(&self, misses: u32) -> Duration {
        let wait = self.config.rtt.saturating_mul(4).max(MARK_WAIT_MIN);
        let doubled = wait.saturating_mul(1_u32.checked_shl(misses.min(16)).unwrap_or(u32::MAX));
        doubled.min(CHUNK_RTO.max(wait))
    }
}

impl Phase {
    const fn window() -> Self {
        Self::Window { cursor: 0, in_flight: BTreeMap::new(), first_sent: None }
    }
}

/// Which parts were taken in: one bit each.
#[derive(Debug)]
struct PartSet {
    words: Vec<u64>,
    len: u16,
}

impl PartSet {
    fn new(total: u16) -> Self {
        Self { words: vec![0; usize::from(total).div_ceil(64)], len: 0 }
    }

    /// Returns whether it was missing.
    fn insert(&mut self, index: u16) -> bool {
        let bit = 1_u64 << (index & 63);
        let Some(word) = self.words.get_mut(usize::from(index >> 6)) else {
            return false;
        };
        let fresh = *word & bit == 0;
        *word |= bit;
        self.len = self.len.saturating_add(u16::from(fresh));
        fresh
    }

    /// The first missing part from `from` on. May be one behind the last: compare with the total.
    fn first_missing(&self, from: u16) -> Option<u16> {
        let mut skip = u64::MAX.checked_shl(u32::from(from & 63)).unwrap_or(0);
        for (place, word) in self.words.iter().enumerate().skip(usize::from(from >> 6)) {
            let missing = !word & skip;
            skip = u64::MAX;
            if missing != 0 {
                let base = u16::try_from(place).ok()?.checked_mul(64)?;
                return base.checked_add(u16::try_from(missing.trailing_zeros()).ok()?);
            }
        }
        None
    }
}

const BURST_INITIAL: u16 = 32;
const BURST_MIN: u16 = 4;
/// About 70 datagrams of this size fit in the socket buffer that systems give by default.
const BURST_MAX: u16 = 64;
const BURST_STEP: u16 = 4;

const ACK_WAIT_MIN: Duration = Duration::from_millis(250);
const MARK_WAIT_MIN: Duration = Duration::from_millis(200);

/// Kind, length of the key, mark, index and total.
const HEADER: usize = 8;
