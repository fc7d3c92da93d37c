//! Bytes at absolute offsets, in pages that are allocated when something is put there and given back as soon as they are read.
//!
//! A ring whose size doubles would hold up to twice its content, and all of its largest size while one byte is left. Pages hold what
//! was put there, two unfilled ones at most: the memory of a session is bounded by the window it announced, whatever is sent.

mod pool;

use std::collections::VecDeque;

use framing::varint;

pub(super) use pool::Pool;

/// The bytes of a page.
pub(super) const PAGE: usize = 1024;

/// The bytes of a wide page, for the few that hold much.
pub(super) const WIDE: usize = 16 * PAGE;

/// How many windows of one pool may have wide pages. Each may have two of them hardly filled.
pub(super) const MAX_WIDE: usize = 4;

type Page = Box<[u8]>;

/// The pages of a window, from the page of its start on; places without a page are gaps.
///
/// The first is beside the others: what lies within one page, as most of what is sent in short streams, needs no list.
#[derive(Debug, Default)]
struct List {
    first: Option<Page>,
    others: VecDeque<Option<Page>>,
}

impl List {
    const EMPTY: Self = Self { first: None, others: VecDeque::new() };

    /// How many places there are.
    fn len(&self) -> usize {
        1 + self.others.len()
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&[u8]> {
        let page = if index == 0 { &self.first } else { self.others.get(index - 1)? };
        page.as_deref()
    }

    /// A place, with those before it.
    #[inline]
    fn place(&mut self, index: usize) -> Option<&mut Option<Page>> {
        if index == 0 {
            return Some(&mut self.first);
        }
        while self.others.len() < index {
            self.others.push_back(None);
        }
        self.others.get_mut(index - 1)
    }

    /// The page in the last place.
    #[inline]
    fn last_mut(&mut self) -> Option<&mut Page> {
        self.others.back_mut().unwrap_or(&mut self.first).as_mut()
    }

    /// Takes the first place away.
    #[inline]
    fn pop_front(&mut self) -> Option<Page> {
        let next = self.others.pop_front().flatten();
        std::mem::replace(&mut self.first, next)
    }

    /// Empties the last place, and takes it away if it is not the only one.
    fn pop_back(&mut self) -> Option<Page> {
        self.others.pop_back().unwrap_or_else(|| self.first.take())
    }
}

/// Places for pages that an empty window keeps.
const MAX_EMPTY: usize = 32;

/// Lists of pages that are kept for other windows: enough for both directions of a hundred short streams.
const MAX_LISTS: usize = 256;

/// A window `start..end` over an endless sequence of bytes. Bytes that were not put there are arbitrary.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// From the page of `start` on.
    pages: List,
    start: u64,
    end: u64,
    /// All pages are wide: so from when there was much until it is [narrow](Self::narrow) again.
    wide: bool,
}

impl Pages {
    pub(super) const EMPTY: Self = Self { pages: List::EMPTY, start: 0, end: 0, wide: false };

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

    const fn width(&self) -> usize {
        if self.wide { WIDE } else { PAGE }
    }

    /// Which page an offset is in, counted from the first, and where in it.
    #[inline]
    const fn place(&self, offset: u64) -> (usize, usize) {
        let shift = self.width().trailing_zeros();
        (((offset >> shift) - (self.start >> shift)) as usize, offset as usize & (self.width() - 1))
    }

    /// Narrow pages that would hold the window.
    const fn span(&self) -> u32 {
        if self.start == self.end { 0 } else { ((self.end - 1) / PAGE as u64 - self.start / PAGE as u64) as u32 + 1 }
    }

    /// Puts `data` behind the end.
    #[inline]
    pub(super) fn append(&mut self, data: &[u8], pool: &mut Pool) {
        // In the page that the end is in: most messages.
        let at = self.end as usize & (self.width() - 1);
        if at & (PAGE - 1) != 0
            && at % PAGE + data.len() <= PAGE
            && let Some(page) = self.pages.last_mut()
            && let Some(space) = page.get_mut(at..at + data.len())
        {
            space.copy_from_slice(data);
            self.end += data.len() as u64;
            return;
        }
        // In a page that is the only one: most requests and answers.
        if self.pages.first.is_none()
            && self.is_empty()
            && !self.wide
            && !data.is_empty()
            && at + data.len() <= PAGE
            && let Some(space) = self.pages.first.insert(pool.take()).get_mut(at..at + data.len())
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
        let end = offset + data.len() as u64;
        if offset < self.start || data.is_empty() {
            self.end = self.end.max(end);
            return;
        }
        if !self.wide && end - self.start >= WIDE as u64 && pool.may_widen {
            self.widen(pool);
        }
        let before = self.span();
        let width = self.width();
        let ((mut index, mut at), mut left) = (self.place(offset), data);
        if (index > 0 || at + left.len() > width)
            && self.pages.others.capacity() == 0
            && let Some(list) = pool.busy.as_mut().and_then(|busy| busy.lists.pop())
        {
            self.pages.others = list;
        }
        while !left.is_empty() {
            let Some(page) = self.pages.place(index) else { return };
            let page = page.get_or_insert_with(|| if width == WIDE { pool.take_wide() } else { pool.take() });
            let (now, rest) = left.split_at(left.len().min(width - at));
            if let Some(space) = page.get_mut(at..at + now.len()) {
                space.copy_from_slice(now);
            }
            (index, at, left) = (index + 1, 0, rest);
        }
        self.end = self.end.max(end);
        if self.wide {
            pool.used += self.span() - before;
        }
    }

    /// From narrow pages to wide ones.
    #[cold]
    fn widen(&mut self, pool: &mut Pool) {
        let first = self.start / PAGE as u64;
        let narrow = std::mem::take(&mut self.pages);
        self.wide = true;
        let narrow = std::iter::once(narrow.first).chain(narrow.others);
        for (offset, page) in (first * PAGE as u64..).step_by(PAGE).zip(narrow) {
            let Some(page) = page else { continue };
            let (index, at) = self.place(offset.max(self.start));
            let at = at / PAGE * PAGE;
            let wide = self.pages.place(index).map(|wide| wide.get_or_insert_with(|| pool.take_wide()));
            if let Some(space) = wide.and_then(|wide| wide.get_mut(at..at + PAGE)) {
                space.copy_from_slice(&page);
            }
            pool.give(page);
        }
        pool.used += self.span();
        pool.widened += 1;
        pool.may_widen = usize::from(pool.widened) < MAX_WIDE;
    }

    /// Lets others have wide pages, and the list of pages, if there are none here.
    pub(super) fn narrow(&mut self, pool: &mut Pool) {
        if !self.is_empty() {
            return;
        }
        if std::mem::take(&mut self.wide) {
            pool.widened = pool.widened.saturating_sub(1);
            pool.may_widen = true;
        }
        if self.pages.others.capacity() > 0 {
            let list = std::mem::take(&mut self.pages.others);
            let lists = &mut pool.busy.get_or_insert_default().lists;
            if lists.len() < MAX_LISTS {
                lists.push(list);
            }
        }
    }

    /// The longest piece from `offset` on that lies in one page, cut to `max` bytes and to the window.
    #[inline]
    pub(super) fn run(&self, offset: u64, max: usize) -> &[u8] {
        if offset < self.start || offset >= self.end {
            return &[];
        }
        let (index, at) = self.place(offset);
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let len = max.min(left).min(self.width() - at);
        self.pages.get(index).and_then(|page| page.get(at..at + len)).unwrap_or_default()
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
        let (before, whole) = (self.span(), offset >= self.end);
        let passed = if whole { self.pages.len() } else { self.place(offset).0 };
        self.start = offset;
        self.end = self.end.max(offset);
        if self.wide {
            pool.used -= before - self.span();
        }
        for _ in 0..passed {
            if let Some(page) = self.pages.pop_front() {
                pool.give(page);
            }
        }
        if whole && self.pages.others.capacity() > MAX_EMPTY {
            self.pages.others = VecDeque::new();
        }
    }

    /// Keeps no more places for pages than there are pages.
    pub(super) fn rest(&mut self) {
        self.pages.others.shrink_to_fit();
    }

    /// Lets go of everything from `offset` on.
    pub(super) fn truncate(&mut self, offset: u64, pool: &mut Pool) {
        if offset >= self.end {
            return;
        }
        let before = self.span();
        self.end = offset.max(self.start);
        if self.wide {
            pool.used -= before - self.span();
        }
        let keep = if self.is_empty() { 0 } else { self.place(self.end - 1).0 + 1 };
        for _ in keep..self.pages.len() {
            if let Some(page) = self.pages.pop_back() {
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
    use super::pool::{MAX_IDLE, MIN_WIDE_MEMORY};
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
            let (mut pages, mut pool) = (Pages::default(), Pool::new(MIN_WIDE_MEMORY * (seed % 2) as usize));
            let (mut model, mut peak): (Vec<u8>, usize) = (Vec::new(), 0);
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
                peak = peak.max(pool.used());
                let most = peak + if seed % 2 == 1 { 2 * WIDE } else { 0 };
                assert!(pool.memory() <= most, "{} after {peak}", pool.memory());
                if pages.is_empty() {
                    assert_eq!(pool.used(), 0);
                    assert!(pool.memory() <= 2 * MAX_IDLE);
                    if next(&mut rng).is_multiple_of(2) {
                        pages.narrow(&mut pool);
                        pool.rest();
                        assert_eq!(pool.memory(), 0);
                    }
                }
            }
        }
    }

    #[test]
    fn pages_are_kept_where_more_than_a_few_were_needed() {
        let (mut pool, mut all) = (Pool::default(), [const { Pages::EMPTY }; 6]);
        for (windows, kept) in [(1, 0), (4, 0), (5, 5 * PAGE), (6, 6 * PAGE), (5, 5 * PAGE), (4, 0), (1, 0)] {
            all[..windows].iter_mut().for_each(|pages| pages.append(b"request", &mut pool));
            assert_eq!(pool.used(), windows * PAGE);
            all[..windows].iter_mut().for_each(|pages| pages.advance(pages.end(), &mut pool));
            assert_eq!((pool.used(), pool.memory()), (0, kept), "{windows}");
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
