//! The generator behind every random choice, with a stream that is part of the interface.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use chacha20::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng, TryCryptoRng, TryRng};
use zeroize::Zeroizing;

/// A cryptographic generator whose stream is the same on every platform and in every release.
///
/// The stream is the key stream of ChaCha with 12 rounds: the seed is the key, the 64-bit block counter starts at 0,
/// the 64-bit nonce is 0, and the output is read as little-endian 32-bit words. [`next_u32`](Self::next_u32) takes one
/// word, [`next_u64`](Self::next_u64) two (the low one first), [`fill`](Self::fill) whole words, of which the bytes
/// after the last wanted one are thrown away. The helpers below state how much they take, so a simulation recorded
/// with one release replays with the next.
///
/// Use it for keys, nonces, tokens, jitter and sampling alike. It implements the [`rand_core`] traits for code that is
/// generic over generators. Not `Clone`, because a copy would repeat the stream. The state is wiped on drop.
///
/// 48 bytes, and 320 on the heap from the first number to the next [`rest`](Self::rest).
pub struct Rng {
    seed: Zeroizing<[u8; 32]>,
    /// The place in the stream, in words, while the stream is not there.
    place: u64,
    stream: Option<Box<ChaCha12Rng>>,
}

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed: Zeroizing::new(seed), place: 0, stream: None }
    }

    /// Gives memory back, for a generator that is not needed for some time. The stream goes on where it was.
    pub fn rest(&mut self) {
        if let Some(stream) = self.stream.take() {
            // 2^66 bytes are never drawn.
            self.place = u64::try_from(stream.get_word_pos()).unwrap_or(u64::MAX);
        }
    }

    #[inline]
    fn stream(&mut self) -> &mut ChaCha12Rng {
        self.stream.get_or_insert_with(|| {
            let mut stream = Box::new(ChaCha12Rng::from_seed(*self.seed));
            stream.set_word_pos(self.place.into());
            stream
        })
    }

    /// A uniform 32-bit number. Takes one word.
    pub fn next_u32(&mut self) -> u32 {
        self.stream().next_u32()
    }

    /// A uniform 64-bit number. Takes two words.
    pub fn next_u64(&mut self) -> u64 {
        self.stream().next_u64()
    }

    /// Fills `out` with random bytes. Takes `out.len() / 4` words, rounded up.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.stream().fill_bytes(out);
    }

    /// `N` random bytes. Takes `N / 4` words, rounded up.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A uniform number in `0..n`, or 0 if `n` is 0. Takes two words, and two more for each rejected draw.
    ///
    /// Exactly uniform, by multiplication and rejection (Lemire, "Fast Random Integer Generation in an Interval",
    /// 2019). A draw is rejected with probability below `n / 2^64`. For `n = 0` it takes nothing.
    #[expect(clippy::cast_possible_truncation, reason = "the low and the high half of the product are what is wanted")]
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            // 2^64 mod n: so many of the products with a given high half are one too many.
            let excess = n.wrapping_neg() % n;
            while (product as u64) < excess {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// A uniform duration in `0..end`, to the nanosecond, or zero if `end` is zero. Takes what [`below`](Self::below)
    /// takes.
    ///
    /// An `end` above 2^64 - 1 ns (584 years) counts as that.
    pub fn duration_below(&mut self, end: Duration) -> Duration {
        let end = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(end))
    }

    /// Puts `items` into an order that is uniform among all orders.
    ///
    /// From the last item to the second, each changes places with one of the items up to itself (Fisher and Yates):
    /// `items.len() - 1` draws by [`below`](Self::below).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // `last` is an index, so `below(last + 1)` fits a `usize` again.
            #[expect(clippy::cast_possible_truncation, reason = "at most `last`")]
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next_u64())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Rng {}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rng").finish_non_exhaustive()
    }
}
