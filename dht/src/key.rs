//! The space of 256 bits in which nodes and what is looked for have their places, and its metric.

use std::fmt;

use crypto::Rng;

/// A place in the space: of a node, or of what is stored or looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Length in bytes.
    pub const LEN: usize = 32;
    /// Length in bits.
    pub const BITS: u32 = 256;

    /// The key with these bytes. Any bytes will do.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, the most significant first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How far apart two keys are: the bits in which they differ, read as a number (Maymounkov and Mazieres, "Kademlia",
    /// 2002, section 2.1).
    #[must_use]
    #[inline]
    pub fn distance(&self, other: &Self) -> Distance {
        let [a, b] = [self.words(), other.words()];
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a, b);
        Distance([a0 ^ b0, a1 ^ b1, a2 ^ b2, a3 ^ b3])
    }

    /// A key drawn evenly from those that have the first `bits` bits in common with this one, and not the next: the keys
    /// of one bucket. From 256 on it is this key itself. Takes 32 bytes from `rng`.
    #[must_use]
    pub fn random_beside(&self, bits: u32, rng: &mut Rng) -> Self {
        let mut bytes = rng.array::<32>();
        for ((byte, own), place) in bytes.iter_mut().zip(self.0).zip((0_u32..).step_by(8)) {
            // The bits of this byte that are to be as in this key.
            let kept = bits.saturating_sub(place).min(8);
            let mask = !u8::MAX.checked_shr(kept).unwrap_or(0);
            *byte = (own & mask) | (*byte & !mask);
            if let Some(differs) = bits.checked_sub(place).and_then(|bit| 0x80_u8.checked_shr(bit)) {
                *byte = (*byte & !differs) | (!own & differs);
            }
        }
        Self(bytes)
    }

    #[inline]
    fn words(&self) -> [u64; 4] {
        let (words, _) = self.0.as_chunks::<8>();
        // 32 bytes are four words.
        words.first_chunk::<4>().map_or([0; 4], |words| words.map(u64::from_be_bytes))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Key({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// How far two [keys](Key) are apart. Less is closer, and from one key no two others are equally far.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u64; 4]);

impl Distance {
    /// Between a key and itself.
    pub const ZERO: Self = Self([0; 4]);
    /// The greatest.
    pub const MAX: Self = Self([u64::MAX; 4]);

    /// How many bits the two keys have in common before the first in which they differ: 0 to 256.
    #[must_use]
    #[inline]
    pub fn common_bits(&self) -> u32 {
        let first = self.0.iter().position(|word| *word != 0);
        let (zeros, rest) = self.0.split_at(first.unwrap_or(self.0.len()));
        u64::BITS * u32::try_from(zeros.len()).unwrap_or(0) + rest.first().map_or(0, |word| word.leading_zeros())
    }

    /// How many keys there are in all if `n` of them are no farther away than this, and all are spread evenly.
    pub(crate) fn population(&self, n: usize) -> u64 {
        let [first, ..] = self.0;
        let all = (n as u128) << u64::BITS;
        u64::try_from(all / (u128::from(first) + 1)).unwrap_or(u64::MAX)
    }

    /// Whether the keys differ in bit `index`, counted from the most significant.
    #[must_use]
    #[inline]
    pub fn differs_at(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (63 - index % 64) & 1 == 1)
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance({} bits in common)", self.common_bits())
    }
}
