//! Copies of flooded messages, told from honest repeats.
//!
//! The v12 wire names neither author nor message, so a copy is recognised by its content. Saying the same thing
//! twice is no copy, though: every neighbour passes each message on once, so of a content that was said n times each
//! neighbour sends at most n. A message is new when its neighbour has now sent more of that content than any other.

use std::num::NonZeroUsize;
use std::time::Instant;

use framing::v12::WireId;
use sha2::{Digest, Sha256};
use structs::Lru;

use super::policy::{SEEN_FOR, SEEN_MESSAGES, SEEN_SOURCES};

#[derive(Debug)]
pub(super) struct Seen {
    /// Unknown to others, so that nobody can prepare contents that collide.
    key: [u8; 32],
    ourselves: WireId,
    /// How often each neighbour sent a content, by the neighbour's name: it may come back on another session.
    contents: Lru<[u8; 16], Vec<(WireId, u32)>>,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Novelty {
    /// The application gets it.
    pub(super) deliver: bool,
    /// The mesh gets it.
    pub(super) flood: bool,
}

impl Seen {
    pub(super) fn new(key: [u8; 32], ourselves: WireId) -> Self {
        let entries = NonZeroUsize::new(SEEN_MESSAGES).unwrap_or(NonZeroUsize::MIN);
        Self { key, ourselves, contents: Lru::new(entries).time_to_live(SEEN_FOR) }
    }

    /// What is to be done with a message of this content from this neighbour.
    pub(super) fn judge(&mut self, from: WireId, content: &[u8], now: Instant) -> Novelty {
        let ourselves = self.ourselves;
        let counts = self.count(from, content, now);
        let count = counts.iter().find(|(name, _)| *name == from).map_or(0, |(_, count)| *count);
        let others = counts.iter().filter(|(name, _)| *name != from);
        let most = others.clone().filter(|(name, _)| *name != ourselves).map(|(_, count)| *count).max();
        let most_of_all = others.map(|(_, count)| *count).max();
        Novelty { deliver: count > most.unwrap_or(0), flood: count > most_of_all.unwrap_or(0) }
    }

    /// A message of our own: should a copy come back, it is not flooded again. It is delivered, since somebody else may
    /// have said the same.
    pub(super) fn own(&mut self, content: &[u8], now: Instant) {
        self.count(self.ourselves, content, now);
    }

    fn count(&mut self, from: WireId, content: &[u8], now: Instant) -> &[(WireId, u32)] {
        let digest = self.digest(content);
        if !self.contents.contains(&digest, now) {
            // One entry weighs nothing: the bound is their number.
            let _evicted = self.contents.insert(digest, Vec::with_capacity(1), 0, now);
        }
        let Some(counts) = self.contents.get_mut(&digest, now) else {
            return &[];
        };
        if let Some((_, count)) = counts.iter_mut().find(|(name, _)| *name == from) {
            *count = count.saturating_add(1);
        } else if counts.len() < SEEN_SOURCES {
            counts.push((from, 1));
        }
        counts
    }

    fn digest(&self, content: &[u8]) -> [u8; 16] {
        let digest: [u8; 32] = Sha256::new().chain_update(self.key).chain_update(content).finalize().into();
        let mut short = [0; 16];
        short.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u8) -> WireId {
        [number; 8].into()
    }

    #[test]
    fn copies_are_not_new_and_repeats_are() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
        let now = Instant::now();
        let (a, b) = (name(1), name(2));
        let mut seen = Seen::new([7; 32], name(0));
        let mut new = |from, content: &[u8], now| {
            let novelty = seen.judge(from, content, now);
            assert_eq!(novelty.deliver, novelty.flood);
            novelty.deliver
        };
        assert!(new(a, b"hello", now));
        assert!(!new(b, b"hello", now), "a copy by another way");
        assert!(new(a, b"hello", now), "said again");
        assert!(!new(b, b"hello", now), "the copy of the second");
        assert!(new(b, b"hello", now), "a third time, and this way first");
        assert!(new(a, b"hello", now + SEEN_FOR * 2), "forgotten");
    }

    #[test]
    fn what_we_said_ourselves_is_heard_from_others_but_not_passed_on() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
        let now = Instant::now();
        let mut seen = Seen::new([7; 32], name(0));
        seen.own(b"mine", now);
        assert_eq!(seen.judge(name(1), b"mine", now), Novelty { deliver: true, flood: false });
        assert_eq!(seen.judge(name(2), b"mine", now), Novelty { deliver: false, flood: false });
    }
}
