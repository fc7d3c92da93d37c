//! Copies of flooded messages, told from honest repeats.
//!
//! The v12 wire names neither author nor message, so a copy is recognised by its content. Saying the same thing
//! twice is no copy, though: every neighbour passes each message on once, so of a content that was said n times each
//! neighbour sends at most n. A message is new when its neighbour has now sent more of that content than any other.

use std::num::NonZeroUsize;
use std::time::Instant;

use sha2::{Digest, Sha256};
use structs::Lru;

use super::LinkId;
use super::policy::{SEEN_FOR, SEEN_MESSAGES, SEEN_SOURCES};

#[derive(Debug)]
pub(super) struct Seen {
    /// Unknown to others, so that nobody can prepare contents that collide.
    key: [u8; 32],
    contents: Lru<[u8; 16], Vec<(LinkId, u32)>>,
}

impl Seen {
    pub(super) fn new(key: [u8; 32]) -> Self {
        let entries = NonZeroUsize::new(SEEN_MESSAGES).unwrap_or(NonZeroUsize::MIN);
        Self {
            key,
            contents: Lru::new(entries).time_to_live(SEEN_FOR),
        }
    }

    /// Whether a message of this content from this neighbour is new.
    pub(super) fn is_new(&mut self, from: LinkId, content: &[u8], now: Instant) -> bool {
        let digest = self.digest(content);
        if let Some(counts) = self.contents.get_mut(&digest, now) {
            let most = counts.iter().map(|&(_, count)| count).max().unwrap_or(0);
            if let Some((_, count)) = counts.iter_mut().find(|(link, _)| *link == from) {
                *count = count.saturating_add(1);
                return *count > most;
            }
            if counts.len() < SEEN_SOURCES {
                counts.push((from, 1));
            }
            return most == 0;
        }
        // One entry weighs nothing: the bound is their number.
        let _evicted = self.contents.insert(digest, vec![(from, 1)], 0, now);
        true
    }

    /// A message of our own: copies that come back are not new.
    pub(super) fn own(&mut self, content: &[u8], now: Instant) {
        self.is_new(LinkId::OURSELVES, content, now);
    }

    fn digest(&self, content: &[u8]) -> [u8; 16] {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(self.key)
            .chain_update(content)
            .finalize()
            .into();
        let mut short = [0; 16];
        short.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_not_new_and_repeats_are() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
        let now = Instant::now();
        let (a, b) = (LinkId(1), LinkId(2));
        let mut seen = Seen::new([7; 32]);
        assert!(seen.is_new(a, b"hello", now));
        assert!(!seen.is_new(b, b"hello", now), "a copy by another way");
        assert!(seen.is_new(a, b"hello", now), "said again");
        assert!(!seen.is_new(b, b"hello", now), "the copy of the second");
        assert!(seen.is_new(b, b"hello", now), "a third time, and this way first");
        seen.own(b"mine", now);
        assert!(!seen.is_new(a, b"mine", now), "our own comes back");
        assert!(seen.is_new(a, b"hello", now + SEEN_FOR * 2), "forgotten");
    }
}
