//! Bytes at absolute offsets, in one ring that grows with its content.

use std::fmt;

/// A window `start..end` over an endless sequence of bytes.
///
/// A send buffer appends at the end, reads at any offset (again, after a loss) and lets go of the front; a receive
/// buffer writes at any offset ahead and reads from the front. Gaps in what was written hold arbitrary bytes: the
/// owner knows which are filled.
///
/// The memory is a power of two of at least [`MIN`](Self::MIN) bytes that doubles when the window outgrows it, never
/// beyond `cap`, and is given back when the window empties while it is larger than 64 KiB. A new ring has none.
pub struct ByteRing {
    bytes: Vec<u8>,
    start: u64,
    len: usize,
    cap: usize,
}

impl ByteRing {
    /// The first allocation, unless `cap` is smaller.
    pub const MIN: usize = 256;
    /// What an empty ring may keep for its next use.
    const KEEP: usize = 64 * 1024;

    /// An empty ring for at most `cap` bytes, rounded up to a power of two of at least [`MIN`](Self::MIN).
    #[must_use]
    pub const fn new(cap: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, len: 0, cap: Self::round(cap) }
    }

    const fn round(cap: usize) -> usize {
        let cap = if cap < Self::MIN { Self::MIN } else { cap };
        match cap.checked_next_power_of_two() {
            Some(power) => power,
            None => usize::MAX / 2 + 1,
        }
    }

    /// Changes the cap. A lower one than the memory in use takes effect when the ring empties.
    pub const fn set_cap(&mut self, cap: usize) {
        self.cap = Self::round(cap);
    }

    /// The offset of the first byte held.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// The offset behind the last byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start + self.len as u64
    }

    /// How many bytes the window spans.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the window is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes of memory it holds.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// How many more bytes can be appended.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.cap.saturating_sub(self.len)
    }

    /// Appends as much of `data` as there is [`room`](Self::room) for, and says how much that was.
    pub fn write(&mut self, data: &[u8]) -> usize {
        let take = data.len().min(self.room());
        let (data, _) = data.split_at(take);
        let end = self.end();
        // Within the room, so it cannot fail.
        self.write_at(end, data);
        take
    }

    /// Puts `data` at `offset`, moving the end there if it lies beyond it. What lies before the start is left out.
    ///
    /// Returns false, and changes nothing, if the window would become longer than the cap.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> bool {
        let before = usize::try_from(self.start.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
        let (_, data) = data.split_at(before);
        if data.is_empty() {
            return true;
        }
        // Not below the start: otherwise `before` would have taken all of it.
        let Ok(at) = usize::try_from(offset.saturating_sub(self.start)) else { return false };
        let Some(new_len) = at.checked_add(data.len()).map(|end| end.max(self.len)) else { return false };
        if new_len > self.cap.max(self.bytes.len()) {
            return false;
        }
        self.grow(new_len);
        self.len = new_len;
        let mask = self.bytes.len() - 1;
        let from = position(self.start, at, mask);
        let first = data.len().min(self.bytes.len() - from);
        let (head, tail) = data.split_at(first);
        self.bytes[from..from + first].copy_from_slice(head);
        self.bytes[..tail.len()].copy_from_slice(tail);
        true
    }

    /// The bytes `offset..offset + len`, cut to the window, as the two pieces in which the ring holds them.
    #[must_use]
    pub fn slices(&self, offset: u64, len: usize) -> (&[u8], &[u8]) {
        let Some(at) = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok()) else {
            return (&[], &[]);
        };
        if at >= self.len {
            return (&[], &[]);
        }
        let len = len.min(self.len - at);
        let mask = self.bytes.len() - 1;
        let from = position(self.start, at, mask);
        let first = len.min(self.bytes.len() - from);
        (&self.bytes[from..from + first], &self.bytes[..len - first])
    }

    /// Copies bytes from `offset` on into `out` and says how many there were.
    pub fn copy_to(&self, offset: u64, out: &mut [u8]) -> usize {
        let (head, tail) = self.slices(offset, out.len());
        let len = head.len() + tail.len();
        out[..head.len()].copy_from_slice(head);
        out[head.len()..len].copy_from_slice(tail);
        len
    }

    /// Lets go of everything before `offset`. Beyond the end, the window is empty and begins there.
    pub fn advance(&mut self, offset: u64) {
        let by = offset.saturating_sub(self.start);
        self.start += by;
        self.len = usize::try_from(by).map_or(0, |by| self.len.saturating_sub(by));
        if self.len == 0 && self.bytes.len() > Self::KEEP {
            self.bytes = Vec::new();
        }
    }

    /// Gives the memory back and forgets the content; the offsets stay.
    pub fn release(&mut self) {
        self.start = self.end();
        self.len = 0;
        self.bytes = Vec::new();
    }

    fn grow(&mut self, len: usize) {
        if len <= self.bytes.len() {
            return;
        }
        let size = len.next_power_of_two().clamp(Self::MIN, self.cap);
        let mut bytes = vec![0; size];
        let (head, tail) = self.slices(self.start, self.len);
        let mut at = self.start;
        for piece in [head, tail] {
            let from = position(at, 0, size - 1);
            let first = piece.len().min(size - from);
            let (one, two) = piece.split_at(first);
            bytes[from..from + first].copy_from_slice(one);
            bytes[..two.len()].copy_from_slice(two);
            at += piece.len() as u64;
        }
        self.bytes = bytes;
    }
}

/// Where the byte `at` behind `start` lies in a ring of `mask + 1` bytes.
#[expect(clippy::cast_possible_truncation, reason = "the mask is a usize")]
const fn position(start: u64, at: usize, mask: usize) -> usize {
    (start.wrapping_add(at as u64) & mask as u64) as usize
}

impl fmt::Debug for ByteRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteRing")
            .field("start", &self.start)
            .field("end", &self.end())
            .field("capacity", &self.capacity())
            .finish()
    }
}
