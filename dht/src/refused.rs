//! Why a node does not do what it was asked to.

use framing::DecodeError;
use thiserror::Error;

/// Why a request was not answered, or a record not stored. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[non_exhaustive]
pub enum Refused {
    /// The other node does not know this type of request, or kind of record.
    #[error("the type of the request is not known to the other node")]
    Unknown,
    /// A signature or a key is wrong.
    #[error("the signature or the key is wrong")]
    Signature,
    /// Too long, or not what such a record looks like.
    #[error("the record is longer than its limit, or malformed")]
    Limit,
    /// One with a higher sequence, or a later time, is there.
    #[error("a newer record is there")]
    Older,
    /// Another one with the same sequence, or of the same time, is there.
    #[error("another record has the same sequence number")]
    Conflict,
    /// It has ended, was signed in the future, or would last too long: perhaps one of the clocks is wrong.
    #[error("the record has expired, or is of another time")]
    Time,
    /// The signer, the address or its subnet has as many records as it may.
    #[error("the sender has as many records as it may")]
    Quota,
    /// There is no room, and nobody who has more than a fair part of it.
    #[error("no room for another record")]
    Full,
    /// It is asked to store more than it can look at now.
    #[error("the other node is asked to store too much at the moment")]
    Busy,
    /// A reason that we do not know.
    #[error("refused with the unknown code {0}")]
    Other(u8),
}

impl Refused {
    /// The number on the wire (SPEC 11.3).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Signature => 1,
            Self::Limit => 2,
            Self::Older => 3,
            Self::Conflict => 4,
            Self::Time => 5,
            Self::Quota => 6,
            Self::Full => 7,
            Self::Busy => 8,
            Self::Other(code) => code,
        }
    }

    /// The reason with this number on the wire.
    #[must_use]
    pub const fn of(code: u8) -> Self {
        match code {
            0 => Self::Unknown,
            1 => Self::Signature,
            2 => Self::Limit,
            3 => Self::Older,
            4 => Self::Conflict,
            5 => Self::Time,
            6 => Self::Quota,
            7 => Self::Full,
            8 => Self::Busy,
            other => Self::Other(other),
        }
    }
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::BadSignature | DecodeError::BadKey => Self::Signature,
            _ => Self::Limit,
        }
    }
}
