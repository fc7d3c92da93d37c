//! What both ends speak, from what each says it can.

use crate::Cipher;

/// A version of the protocol: what is said in a session once it is there. Its layout generation is another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u8);

impl Version {
    /// The first version: bit 0 of the bitmaps.
    pub const V1: Self = Self(1);

    /// The number, from 1 to 32.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The bit that stands for it.
    pub const fn bit(self) -> u32 {
        1 << (self.0 - 1)
    }
}

/// The versions that this crate's handshakes are good for, as a bitmap.
pub const VERSIONS: u32 = Version::V1.bit();

/// Capability bit 0: AES-256-GCM in hardware and a back end that uses it. Sealing uses it if both ends have it:
/// [`Cipher::negotiated`].
pub const CAPABILITY_AES: u64 = Cipher::AES_CAPABILITY;

/// The highest version that both bitmaps have: bit *n* stands for version *n* + 1. `None` if they share none.
///
/// Both bitmaps are part of the transcript that the keys depend on, so nobody on the way can lower the outcome.
pub const fn negotiate(local: u32, remote: u32) -> Option<Version> {
    match (local & remote).checked_ilog2() {
        // 31 at most.
        #[expect(clippy::cast_possible_truncation, reason = "below 32")]
        Some(bit) => Some(Version(bit as u8 + 1)),
        None => None,
    }
}
