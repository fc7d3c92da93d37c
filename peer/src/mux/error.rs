//! What the verbs of a session refuse: one enum for each. No refusal changes anything.

use framing::StreamCode;
use thiserror::Error;

/// Why a protocol was not registered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is empty or longer than 64 bytes.
    #[error("the name of a protocol has 1 to {max} bytes, not {len}")]
    BadName {
        /// Its length.
        len: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// The name is registered already.
    #[error("the protocol is registered already")]
    Duplicate,
    /// There is no version, or one is there twice.
    #[error("the versions of a protocol are at least one and differ")]
    BadVersions,
    /// The announcement would not fit its frame: too many versions or too long names in all.
    #[error("too many protocols: {len} of at most {max}")]
    TooMany {
        /// Entries (a name with a version), or bytes of announcement.
        len: usize,
        /// The bound that was exceeded.
        max: usize,
    },
}

/// Why no stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No protocol is registered under this id.
    #[error("not a registered protocol")]
    NotRegistered,
    /// The other side has no version of the protocol in common with us.
    #[error("the other side does not speak the protocol")]
    NotAgreed,
    /// The protocol was stopped, here or there, or the other side takes no new streams.
    #[error("refused: {code}")]
    Refused {
        /// Why.
        code: StreamCode,
    },
    /// The other side allows no more streams now. [`Event::StreamsAvailable`](super::Event::StreamsAvailable) tells when it does.
    #[error("all {max} streams are in use")]
    Limit {
        /// How many may be open.
        max: u64,
    },
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The buffer is full. [`Event::Writable`](super::Event::Writable) tells when to try again.
    #[error("the send buffer is full")]
    Blocked,
    /// There is no such stream, it is not ours to write, or it was finished or reset before.
    #[error("the stream is closed for writing")]
    Closed,
    /// The other side reads no further.
    #[error("stopped by the other side: {code}")]
    Stopped {
        /// Why.
        code: StreamCode,
    },
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing has come. [`Event::Readable`](super::Event::Readable) tells when to try again.
    #[error("nothing to read yet")]
    Blocked,
    /// There is no such stream, it is not ours to read, or its end was read before.
    #[error("the stream is closed for reading")]
    Closed,
    /// The other side gave up; what had not been read is lost.
    #[error("reset by the other side: {code}")]
    Reset {
        /// Why.
        code: StreamCode,
    },
}

/// Why a message or a datagram was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The buffer is full, or the other side has yet to allow the stream or the length.
    /// [`Event::SendReady`](super::Event::SendReady) tells when to try again.
    #[error("the send buffer is full")]
    Blocked,
    /// Longer than this side or the other takes, or for a datagram than a packet carries.
    #[error("{len} bytes are more than the {max} allowed")]
    TooLarge {
        /// The length.
        len: usize,
        /// The longest that is allowed now.
        max: usize,
    },
    /// No protocol is registered under this id.
    #[error("not a registered protocol")]
    NotRegistered,
    /// The other side has no version of the protocol in common with us.
    #[error("the other side does not speak the protocol")]
    NotAgreed,
    /// The protocol was stopped, here or there.
    #[error("stopped: {code}")]
    Stopped {
        /// Why.
        code: StreamCode,
    },
}
