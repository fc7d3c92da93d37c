//! Which sealed packets are new.
//!
//! The v12 wire has no rule against replays. Within one run of the peer the 64-bit counter of its nonces goes up,
//! so a sliding window tells. When a peer of the existing implementations restarts with the same key, its counter
//! starts again at zero under the same key and prefix, and only its next HELLO hints at that: such a new *epoch* is
//! opened by a packet near the start of the count that was never seen, and from then on whatever was received in
//! the last minutes is refused by its tag. Peers of this implementation count from the wall clock, so their nonces
//! only ever go up.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::v12::Nonce;
use structs::{RotatingFilter, SlidingWindow};

/// The last bytes of a sealed packet stand for all of it: nobody makes two packets with one tag.
pub(super) type Tag = [u8; 8];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not seen before in this epoch.
    Fresh,
    /// The first of a new epoch: the peer has restarted.
    Restarted,
    /// Seen before, or too old to tell.
    Replayed,
}

#[derive(Debug)]
pub(super) struct Replay {
    prefix: Option<u32>,
    window: SlidingWindow,
    epochs: u32,
    /// A HELLO came since the last packet: the peer may have restarted.
    hello: bool,
    /// The peer counts from the wall clock: nothing below what was seen is ever new.
    monotonic: bool,
    /// Earlier sessions with the same key.
    earlier: Vec<Arc<Memory>>,
    /// When the last epoch began.
    began: Option<Instant>,
    /// Tags of the first packets of every epoch, which alone could open an epoch once more.
    openers: VecDeque<Tag>,
    /// Tags of the last minutes, of peers that count from zero.
    tags: Option<RotatingFilter>,
}

/// A new epoch starts with a sequence number and a counter below this: a few packets may be lost or overtaken.
const OPENING: u64 = 64;
const MAX_OPENERS: usize = 256;

/// 128 messages a second, the rate of the existing implementations, for five minutes.
const TAGS_PER_PERIOD: usize = 128 * 300;
const PERIOD: Duration = Duration::from_secs(300);

/// Epochs follow each other no faster than this: whoever could start them at will could have us say hello at will.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// What is remembered of a key beyond a session: see [`Peer::forget`](super::Peer::forget).
#[derive(Debug)]
pub struct Memory {
    highest: u64,
    monotonic: bool,
    openers: VecDeque<Tag>,
    tags: Option<RotatingFilter>,
}

/// Earlier sessions with the same key that are remembered; the latest count.
const MAX_MEMORIES: usize = 4;

impl Memory {
    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tags = self.tags.as_ref().map_or(0, RotatingFilter::memory_bytes);
        size_of::<Self>() + self.openers.len() * size_of::<Tag>() + tags
    }

    fn knows(&self, nonce: Nonce, tag: Tag, now: Instant) -> bool {
        (self.monotonic && nonce.counter() <= self.highest)
            || self.openers.contains(&tag)
            || self.tags.as_ref().is_some_and(|tags| tags.contains(&tag, now))
    }
}

impl Replay {
    /// What was seen in this session and in those remembered.
    pub(super) fn into_memories(self) -> Vec<Arc<Memory>> {
        let mut memories = self.earlier;
        if let Some(highest) = self.window.highest() {
            let Self { monotonic, openers, tags, .. } = self;
            memories.push(Arc::new(Memory { highest, monotonic, openers, tags }));
        }
        let surplus = memories.len().saturating_sub(MAX_MEMORIES);
        memories.split_off(surplus)
    }

    /// What earlier sessions with the same key saw is not new in this one.
    pub(super) fn recall(&mut self, memories: &[Arc<Memory>]) {
        self.earlier = memories.to_vec();
    }

    pub(super) fn new(seed: [u8; 32]) -> Self {
        let expected = NonZeroUsize::new(TAGS_PER_PERIOD).unwrap_or(NonZeroUsize::MIN);
        Self {
            prefix: None,
            window: SlidingWindow::new(),
            epochs: 0,
            hello: false,
            monotonic: false,
            earlier: Vec::new(),
            began: None,
            openers: VecDeque::new(),
            tags: Some(RotatingFilter::new(expected, seed).period(PERIOD).false_positive_rate(1e-4)),
        }
    }

    /// What the peer puts in front of its nonces in this epoch.
    pub(super) fn prefix(&self) -> Option<u32> {
        self.prefix
    }

    pub(super) fn on_hello(&mut self) {
        self.hello = true;
    }

    /// The peer was made to forget the session: its count starts again at zero.
    pub(super) fn begin_epoch(&mut self) {
        self.prefix = None;
        self.window = SlidingWindow::new();
    }

    /// The peer has shown that it is of this implementation: its nonces never begin again, so no tags are needed.
    pub(super) fn set_monotonic(&mut self) {
        self.monotonic = true;
        self.tags = None;
        self.openers = VecDeque::new();
    }

    /// Frees the memory of tags that are old enough to forget.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(tags) = &mut self.tags {
            tags.rotate(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.tags.as_ref().and_then(RotatingFilter::next_rotation)
    }

    /// The highest counter seen, for "newer than anything before".
    pub(super) fn is_newest(&self, nonce: Nonce) -> bool {
        self.window.highest().is_none_or(|highest| nonce.counter() > highest)
    }

    /// Judges an authentic packet and remembers it. `seq` is the sequence number of a message, `None` for a note;
    /// `ours` says that only a peer of this implementation would have written it.
    pub(super) fn accept(&mut self, nonce: Nonce, seq: Option<u32>, tag: Tag, ours: bool, now: Instant) -> Verdict {
        let verdict = self.judge(nonce, seq, tag, now);
        if verdict == Verdict::Replayed {
            return verdict;
        }
        if verdict == Verdict::Restarted || self.prefix.is_none() {
            self.window = SlidingWindow::new();
            self.began = Some(now);
            self.prefix = Some(nonce.prefix());
            self.epochs = self.epochs.saturating_add(1);
        }
        self.hello = false;
        self.window.accept(nonce.counter());
        if ours {
            self.set_monotonic();
        }
        if let Some(tags) = &mut self.tags {
            tags.seen(&tag, now);
            if nonce.counter() < OPENING {
                if self.openers.len() == MAX_OPENERS {
                    self.openers.pop_front();
                }
                self.openers.push_back(tag);
            }
        }
        verdict
    }

    fn judge(&self, nonce: Nonce, seq: Option<u32>, tag: Tag, now: Instant) -> Verdict {
        if self.earlier.iter().any(|memory| memory.knows(nonce, tag, now)) {
            return Verdict::Replayed;
        }
        let Some(prefix) = self.prefix else {
            let earlier = self.openers.contains(&tag) || self.knows(tag, now);
            return if earlier { Verdict::Replayed } else { Verdict::Fresh };
        };
        let newer = self.is_newest(nonce);
        if prefix != nonce.prefix() {
            // A peer that starts says HELLO, or answers ours, and does not start all the time.
            let at_rest = self.began.is_none_or(|began| now.saturating_duration_since(began) >= RESTART_INTERVAL);
            return if newer && self.hello && at_rest { Verdict::Restarted } else { Verdict::Replayed };
        }
        if self.window.check(nonce.counter()) == structs::Verdict::Fresh {
            let earlier_epoch = self.epochs > 1 && self.knows(tag, now);
            return if earlier_epoch { Verdict::Replayed } else { Verdict::Fresh };
        }
        let opens = self.hello
            && !self.monotonic
            && nonce.counter() < OPENING
            && seq.is_some_and(|seq| u64::from(seq) < OPENING)
            && !self.openers.contains(&tag)
            && !self.knows(tag, now);
        if opens { Verdict::Restarted } else { Verdict::Replayed }
    }

    fn knows(&self, tag: Tag, now: Instant) -> bool {
        self.tags.as_ref().is_some_and(|tags| tags.contains(&tag, now))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.tags.as_ref().map_or(0, RotatingFilter::memory_bytes)
    }
}
