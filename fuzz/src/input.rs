//! How a target reads its input: small numbers from the front, so that a mutated byte changes one decision.

use std::time::Duration;

use arbitrary::Unstructured;

/// The rest of an input. At its end everything is zero or empty, and [`Input::is_empty`] says so.
#[derive(Debug)]
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let there = N.min(self.0.len());
        bytes[..there].copy_from_slice(self.0.bytes(there).unwrap_or_default());
        bytes
    }

    /// A number below `n`, from one byte.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.u8()) % n
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// Up to 255 bytes, as the next one says.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8()).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }

    /// A length: mostly small, sometimes at a limit of the wire.
    pub(crate) fn len(&mut self) -> usize {
        match self.u8() {
            small @ 0..=127 => usize::from(small),
            128..=191 => usize::from(self.u16()) % 4096,
            limit => *LENGTHS.get(usize::from(limit) % LENGTHS.len()).unwrap_or(&0),
        }
    }

    /// From nothing to beyond every timeout of the peer.
    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_millis(match self.u8() {
            byte @ 0..=127 => u64::from(byte),
            byte @ 128..=239 => u64::from(byte - 128) * 50,
            byte => u64::from(byte - 239) * 5000,
        })
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let len = self.0.len();
        self.0.bytes(len).unwrap_or_default()
    }
}

const LENGTHS: &[usize] = &[
    0, 1, 8, 899, 900, 901, 1187, 1188, 1189, 1200, 1201, 1400, 1401, 1800, 2376, 4049, 4096, 9000, 16_384, 65_474,
    65_475, 65_507, 70_000,
];

/// Bytes that tell their place, so that parts in the wrong order show.
pub(crate) fn pattern(salt: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(7) ^ (at >> 8)).to_le_bytes()[0].wrapping_add(salt)).collect()
}
