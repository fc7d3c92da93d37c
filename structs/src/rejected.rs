//! Why a datagram was not accepted: a closed list, so that every refusal can be counted.

use std::fmt;

macro_rules! rejected {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a datagram, or a frame in it, was not accepted.
        ///
        /// A refusal is a fact to be counted, never a reason to stop: see [`RejectedCounts`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rejected { $($(#[$doc])* $name,)* }

        impl Rejected {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason in words, as metrics and logs name it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rejected! {
    /// Nothing in it.
    Empty = "empty",
    /// The first byte names no frame that we know.
    UnknownKind = "unknown kind",
    /// Too short or inconsistent for what its first byte says it is.
    Malformed = "malformed",
    /// Longer than its kind may be.
    TooLarge = "too large",
    /// A frame that must come from a known peer came from somebody else.
    UnknownPeer = "unknown peer",
    /// The claimed id is not the hash of the claimed key.
    IdMismatch = "id is not the hash of the key",
    /// The public key gives an all-zero shared secret.
    WeakKey = "weak public key",
    /// Another key already stands for this id.
    KeyConflict = "key conflicts with the one known",
    /// The datagram is our own.
    FromSelf = "from ourselves",
    /// The authentication tag does not match.
    Unauthentic = "not authentic",
    /// A sealed packet that was received before, or is too old to tell.
    Replayed = "replayed",
    /// A message that arrived after those behind it were delivered.
    Late = "late",
    /// The peer has not yet proved what this frame requires.
    Unproven = "sender unproven",
    /// An answer to a question that was not asked.
    Unsolicited = "unsolicited",
    /// The configuration does not allow it.
    Forbidden = "forbidden by configuration",
    /// A container inside a container.
    Nested = "nested",
    /// A bound is reached: the sender's, or the total.
    LimitReached = "limit reached",
    /// An address that must not be dialled or shared.
    BadAddress = "unusable address",
    /// The same content arrived before.
    Duplicate = "duplicate",
    /// The machine has ended.
    Closed = "closed",
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Rejected {}

/// How often each [`Rejected`] occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectedCounts([u64; Rejected::ALL.len()]);

impl Default for RejectedCounts {
    fn default() -> Self {
        Self([0; Rejected::ALL.len()])
    }
}

impl RejectedCounts {
    /// Counts one refusal and gives it back, so that it can be returned in the same line.
    pub fn count(&mut self, reason: Rejected) -> Rejected {
        if let Some(slot) = self.0.get_mut(reason as usize) {
            *slot = slot.saturating_add(1);
        }
        reason
    }

    /// How often `reason` occurred.
    #[must_use]
    pub fn of(&self, reason: Rejected) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many refusals there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds the counts of another machine to these.
    pub fn merge(&mut self, other: &Self) {
        for (slot, more) in self.0.iter_mut().zip(other.0) {
            *slot = slot.saturating_add(more);
        }
    }

    /// Every reason that occurred, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Rejected, u64)> + '_ {
        Rejected::ALL.iter().map(|&reason| (reason, self.of(reason))).filter(|&(_, count)| count > 0)
    }
}
