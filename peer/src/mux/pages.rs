//! Bytes at absolute offsets, in pages that are allocated when something is put there and given back as soon as they are read.
//!
//! A ring whose size doubles would hold up to twice its content, and all of its largest size while one byte is left. Pages hold what
//! was put there, two unfilled ones at most: the memory of a session is bounded by the window it announced, whatever is sent.

use std::collections::VecDeque;

use framing::varint;

/// The bytes of a page.
pub(super) const PAGE: usize = 1024;

type Page = Box<[u8; PAGE]>;

/// The pages of one direction of a session: counted, and a few kept for reuse while others are in use.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Vec<Page>,
    used: usize,
}

/// Free pages that are kept.
pub(super) const MAX_FREE: usize = 128;

impl Pool {
    fn take(&mut self) -> Page {
        self.used += 1;
        // What a page held before is never read: its owner knows which bytes it filled.
        self.free.pop().unwrap_or_else(|| Box::new([0; PAGE]))
    }

    fn give(&mut self, page: Page) {
        self.used = self.used.saturating_sub(1);
        if self.used == 0 {
            self.free = Vec::new();
        } else if self.free.len() < MAX_FREE {
            self.free.push(page);
        }
    }

    /// Keeps nothing for reuse.
    pub(super) fn rest(&mut self) {
        self.free = Vec::new();
    }

    /// Bytes of pages in use.
    pub(super) const fn used(&self) -> usize {
        self.used * PAGE
    }

    /// Bytes of all pages.
    pub(super) const fn memory(&self) -> usize {
        (self.used + self.free.len()) * PAGE
    }
}

/// A window `start..end` over an endless sequence of bytes. Bytes that were not put there are arbitrary.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// From the page of `start` on.
    pages: VecDeque<Option<Page>>,
    start: u64,
    end: u64,
}

impl Pages {
    pub(super) const EMPTY: Self = Self { pages: VecDeque::new(), start: 0, end: 0 };

    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    pub(super) const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Keeps no room for more pages.
    pub(super) fn rest(&mut self) {
        self.pages.shrink_to_fit();
    }

    /// Puts `data` behind the end.
    #[inline]
    pub(super) fn append(&mut self, data: &[u8], pool: &mut Pool) {
        // In the page that the end is in: most messages.
        let at = self.end as usize % PAGE;
        if let Some(Some(page)) = self.pages.back_mut()
            && at != 0
            && let Some(space) = page.get_mut(at..at + data.len())
        {
            space.copy_from_slice(data);
            self.end += data.len() as u64;
            return;
        }
        self.write_at(self.end, data, pool);
    }

    /// Puts `data` at `offset`, which must not lie before the start, and moves the end behind it.
    pub(super) fn write_at(&mut self, offset: u64, data: &[u8], pool: &mut Pool) {
        debug_assert!(offset >= self.start, "a byte that was let go of");
        let Some(first) = (offset / PAGE as u64).checked_sub(self.start / PAGE as u64) else { return };
        let (mut index, mut at, mut left) = (first as usize, offset as usize % PAGE, data);
        while !left.is_empty() {
            while self.pages.len() <= index {
                self.pages.push_back(None);
            }
            let Some(page) = self.pages.get_mut(index) else { return };
            let page = page.get_or_insert_with(|| pool.take());
            let (now, rest) = left.split_at(left.len().min(PAGE - at));
            if let Some(space) = page.get_mut(at..at + now.len()) {
                space.copy_from_slice(now);
            }
            (index, at, left) = (index + 1, 0, rest);
        }
        self.end = self.end.max(offset + data.len() as u64);
    }

    /// The longest piece from `offset` on that lies in one page, cut to `max` bytes and to the window.
    #[inline]
    pub(super) fn run(&self, offset: u64, max: usize) -> &[u8] {
        if offset < self.start || offset >= self.end {
            return &[];
        }
        let index = (offset / PAGE as u64 - self.start / PAGE as u64) as usize;
        let at = offset as usize % PAGE;
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let len = max.min(left).min(PAGE - at);
        self.pages.get(index).and_then(Option::as_deref).and_then(|page| page.get(at..at + len)).unwrap_or_default()
    }

    /// Fills `out` from `offset` on, as far as the window goes; returns how much that was.
    #[inline]
    pub(super) fn copy_to(&self, mut offset: u64, out: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(space) = out.get_mut(done..).filter(|space| !space.is_empty()) {
            let run = self.run(offset, space.len());
            if run.is_empty() {
                break;
            }
            space[..run.len()].copy_from_slice(run);
            done += run.len();
            offset += run.len() as u64;
        }
        done
    }

    /// Appends `len` bytes from `offset` on to `out`.
    #[inline]
    pub(super) fn extend(&self, mut offset: u64, mut len: usize, out: &mut Vec<u8>) {
        while len > 0 {
            let run = self.run(offset, len);
            if run.is_empty() {
                return;
            }
            out.extend_from_slice(run);
            len -= run.len();
            offset += run.len() as u64;
        }
    }

    /// The variable-length integer at `offset`, if all of it lies before `end`: how many bytes it takes, and its value.
    #[inline]
    pub(super) fn varint(&self, offset: u64, end: u64) -> Option<(usize, u64)> {
        let max = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(varint::MAX_LEN);
        // The lengths of short messages, first: in one page but for one byte in a thousand.
        match *self.run(offset, max) {
            [first @ 0..0x40, ..] => Some((1, u64::from(first))),
            [first @ 0x40..0x80, second, ..] => Some((2, u64::from(u16::from_be_bytes([first & 0x3f, second])))),
            [first, ..] => self.long_varint(offset, 1 << (first >> 6), max),
            [] => None,
        }
    }

    /// Walks over the messages, each behind its length, that begin at `offset` and end by `end`, up to one that is longer than `max`.
    pub(super) fn messages(&self, offset: u64, end: u64, max: usize) -> Walk {
        let mut walk = Walk { messages: 0, end: offset };
        while walk.end < end {
            // Inside a page without looking the page up again for each message.
            let run = self.run(walk.end, usize::try_from(end - walk.end).unwrap_or(usize::MAX));
            let mut at = 0;
            while let Some(next) = short(run, at).filter(|next| *next <= run.len()) {
                if next - at > max {
                    break;
                }
                (at, walk.messages) = (next, walk.messages + 1);
            }
            walk.end += at as u64;
            // At the end of the page, and where the length is a long one.
            let Some((prefix, len)) = self.varint(walk.end, end) else { break };
            let behind = walk.end + prefix as u64 + len;
            if len > max as u64 || behind > end {
                break;
            }
            (walk.messages, walk.end) = (walk.messages + 1, behind);
        }
        walk
    }

    fn long_varint(&self, offset: u64, len: usize, max: usize) -> Option<(usize, u64)> {
        let mut bytes = [0; varint::MAX_LEN];
        if max < len || self.copy_to(offset, bytes.get_mut(..len)?) < len {
            return None;
        }
        let value = u64::from_be_bytes(bytes) & varint::MAX;
        Some((len, value >> (8 * (varint::MAX_LEN - len))))
    }

    /// Lets go of everything before `offset`. Beyond the end, the window is empty and begins there.
    #[inline]
    pub(super) fn advance(&mut self, offset: u64, pool: &mut Pool) {
        if offset <= self.start {
            return;
        }
        if offset >= self.end {
            self.end = offset;
            for page in self.pages.drain(..).flatten() {
                pool.give(page);
            }
            if self.pages.capacity() > 4 {
                self.pages = VecDeque::new();
            }
        } else {
            for _ in self.start / PAGE as u64..offset / PAGE as u64 {
                if let Some(page) = self.pages.pop_front().flatten() {
                    pool.give(page);
                }
            }
        }
        self.start = offset;
    }

    /// Lets go of everything from `offset` on.
    pub(super) fn truncate(&mut self, offset: u64, pool: &mut Pool) {
        if offset >= self.end {
            return;
        }
        self.end = offset.max(self.start);
        let keep =
            if self.is_empty() { 0 } else { ((self.end - 1) / PAGE as u64 - self.start / PAGE as u64) as usize + 1 };
        while self.pages.len() > keep {
            if let Some(page) = self.pages.pop_back().flatten() {
                pool.give(page);
            }
        }
    }
}

/// What [`Pages::messages`] passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) messages: u64,
    /// Where the last of them ends.
    pub(super) end: u64,
}

/// Where the message ends whose length is at `at`, if that is of one or two bytes.
#[inline]
fn short(run: &[u8], at: usize) -> Option<usize> {
    match *run.get(at..)? {
        [first @ 0..0x40, ..] => Some(at + 1 + usize::from(first)),
        [first @ 0x40..0x80, second, ..] => Some(at + 2 + (usize::from(first & 0x3f) << 8 | usize::from(second))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator for tests: SplitMix64.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    #[test]
    fn random_operations_agree_with_a_plain_vector() {
        for seed in 0..50 {
            let mut rng = seed;
            let (mut pages, mut pool) = (Pages::default(), Pool::default());
            let mut model: Vec<u8> = Vec::new();
            let start_at = next(&mut rng) % 5000;
            pages.advance(start_at, &mut pool);
            model.resize(start_at as usize, 0);
            for _ in 0..400 {
                let data = vec![next(&mut rng) as u8; next(&mut rng) as usize % 3000];
                match next(&mut rng) % 5 {
                    0 | 1 => {
                        pages.append(&data, &mut pool);
                        model.extend_from_slice(&data);
                    }
                    2 => {
                        let room = pages.len() as u64;
                        let offset = pages.start() + if room == 0 { 0 } else { next(&mut rng) % room };
                        pages.write_at(offset, &data, &mut pool);
                        let end = offset as usize + data.len();
                        model.resize(model.len().max(end), 0);
                        model[offset as usize..end].copy_from_slice(&data);
                    }
                    3 => {
                        let to = pages.start() + next(&mut rng) % 2500;
                        pages.advance(to, &mut pool);
                        model.resize(model.len().max(to as usize), 0);
                    }
                    _ => {
                        let to = pages.start() + next(&mut rng) % 20_000;
                        pages.truncate(to, &mut pool);
                        model.truncate(to.max(pages.start()) as usize);
                    }
                }
                assert_eq!(pages.end(), model.len() as u64);
                let mut out = vec![0; pages.len() + 1];
                assert_eq!(pages.copy_to(pages.start(), &mut out), pages.len());
                assert_eq!(out[..pages.len()], model[pages.start() as usize..]);
                assert!(pool.used() <= pages.len() + 2 * PAGE, "{} for {}", pool.used(), pages.len());
                assert!(!pages.is_empty() || pool.memory() == 0);
            }
        }
    }

    #[test]
    fn integers_are_read_across_pages_and_not_before_they_are_whole() {
        for (value, bytes) in [
            (37, vec![37]),
            (15_293, vec![0x7b, 0xbd]),
            (494_878_333, vec![0x9d, 0x7f, 0x3e, 0x7d]),
            (5, vec![0x80, 0, 0, 5]),
        ] {
            for offset in PAGE as u64 - 5..PAGE as u64 + 1 {
                let (mut pages, mut pool) = (Pages::default(), Pool::default());
                pages.advance(offset, &mut pool);
                pages.append(&bytes, &mut pool);
                let end = offset + bytes.len() as u64;
                assert_eq!(pages.varint(offset, end), Some((bytes.len(), value)));
                assert_eq!(pages.varint(offset, end - 1), None);
                assert_eq!(pages.varint(end, end), None);
            }
        }
    }
}
