//! What an endpoint tells its owner.

use std::fmt;

/// A peer of an endpoint, from its dial or its first packet until its [`Closed`](crate::Event::Closed) was taken.
///
/// Never used again for another peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(u64);

impl Handle {
    pub(super) const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    /// The place in the table. As many are in use as there are peers, and low ones are used first.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    pub const fn index(self) -> usize {
        self.0 as u32 as usize
    }

    pub(super) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

/// Something happened in one of the sessions.
#[derive(Debug)]
pub struct Event {
    /// In which. After [`Closed`](crate::Event::Closed) the handle is void.
    pub peer: Handle,
    /// What.
    pub event: crate::Event,
}
