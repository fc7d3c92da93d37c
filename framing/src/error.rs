//! What a decoder and an encoder can refuse.

use crypto::NotSigned;
use structs::Rejected;
use thiserror::Error;

/// Why bytes are not a frame. Nothing was changed by the attempt.
///
/// It converts into the [`Rejected`] under which a machine counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes at all.
    #[error("empty")]
    Empty,
    /// The first byte names no frame that we know.
    #[error("unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// A native frame of a type below 0x40 that we do not know.
    #[error("unknown frame type {0:#04x}")]
    UnknownFrame(u64),
    /// An entry with a tag that we do not know, where none may be.
    #[error("unknown tag {0}")]
    UnknownTag(u64),
    /// The bytes end before the layout does.
    #[error("truncated")]
    Truncated,
    /// The layout ends before the bytes do.
    #[error("trailing bytes")]
    TrailingBytes,
    /// A field, or the number of entries, is above its limit.
    #[error("{len} is more than the {max} allowed")]
    TooLong {
        /// What the frame has.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// A piece that carries nothing.
    #[error("empty piece")]
    EmptyPiece,
    /// The number of a piece is not below the number of pieces.
    #[error("piece {index} of {total}")]
    BadIndex {
        /// The number of the piece, from 0.
        index: u16,
        /// How many pieces there are, as the frame says.
        total: u16,
    },
    /// A number that its place does not allow: below zero after a subtraction, or above what can be counted to.
    #[error("number out of range")]
    OutOfRange,
    /// Entries that repeat themselves or are not in the order they must have.
    #[error("entries out of order")]
    BadOrder,
    /// A public key that no peer can have.
    #[error("bad key")]
    BadKey,
    /// A signature that is not that of the bytes before it.
    #[error("bad signature")]
    BadSignature,
    /// An id that is not of the one length ids have.
    #[error("bad id")]
    BadId,
    /// An address that cannot be sent to: on the v12 wire all but literal IPv4, and everywhere those with port 0.
    #[error("bad address")]
    BadAddress,
    /// Text that does not follow the form it must have.
    #[error("bad text")]
    BadText,
    /// A container inside a container.
    #[error("nested")]
    Nested,
}

impl From<NotSigned> for DecodeError {
    fn from(error: NotSigned) -> Self {
        match error {
            NotSigned::Key(_) => Self::BadKey,
            NotSigned::Signature(_) => Self::BadSignature,
        }
    }
}

impl From<DecodeError> for Rejected {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Empty => Self::Empty,
            DecodeError::UnknownKind(_) | DecodeError::UnknownFrame(_) | DecodeError::UnknownTag(_) => {
                Self::UnknownKind
            }
            DecodeError::TooLong { .. } => Self::TooLarge,
            DecodeError::BadAddress => Self::BadAddress,
            DecodeError::Nested => Self::Nested,
            DecodeError::BadKey => Self::WeakKey,
            DecodeError::BadSignature => Self::Unauthentic,
            DecodeError::Truncated
            | DecodeError::TrailingBytes
            | DecodeError::EmptyPiece
            | DecodeError::BadIndex { .. }
            | DecodeError::BadId
            | DecodeError::OutOfRange
            | DecodeError::BadOrder
            | DecodeError::BadText => Self::Malformed,
        }
    }
}

/// Why values cannot be put on the wire. The output is as it was before the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field is longer than its length can say, or than receivers take.
    #[error("{len} bytes are more than the {max} allowed")]
    TooLong {
        /// The length of the field, in bytes.
        len: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// A field is shorter than receivers take.
    #[error("{len} bytes are fewer than the {min} required")]
    TooShort {
        /// The length of the field, in bytes.
        len: usize,
        /// The shortest that is allowed.
        min: usize,
    },
    /// More entries than fit in one frame.
    #[error("more than {max} entries")]
    TooMany {
        /// The most that fit.
        max: usize,
    },
    /// The number of a piece is not below the number of pieces.
    #[error("piece {index} of {total}")]
    BadIndex {
        /// The number of the piece, from 0.
        index: u16,
        /// How many pieces there are.
        total: u16,
    },
    /// An address whose port is 0.
    #[error("bad address")]
    BadAddress,
    /// A number above 2^62 - 1, or above what its place allows.
    #[error("number out of range")]
    OutOfRange,
    /// Entries that repeat themselves or are not in the order they must have.
    #[error("entries out of order")]
    BadOrder,
    /// Text that receivers could not take apart again.
    #[error("bad text")]
    BadText,
    /// A container inside a container.
    #[error("nested")]
    Nested,
}
