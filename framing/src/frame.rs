//! Frames of the native wire (being written: types first).

/// Which side of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It sent the first message.
    Dialler,
    /// It answered.
    Responder,
}

/// The number of a stream: its index among those its opener opened, and the opener in the lowest bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    /// The stream with this index among those that `opener` opens. Indices above 2^60 are cut.
    #[must_use]
    pub const fn new(index: u64, opener: Role) -> Self {
        Self((index & ((1 << 60) - 1)) << 1 | opener as u64)
    }

    /// Its place among the streams of its opener.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0 >> 1
    }

    /// Who opened it.
    #[must_use]
    pub const fn opener(self) -> Role {
        if self.0 & 1 == 0 { Role::Dialler } else { Role::Responder }
    }
}
