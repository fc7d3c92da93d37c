//! Streams: their numbers, their kinds, and the frame that carries a piece of one.

use super::kinds;
use crate::{DecodeError, Reader, limits, varint};

/// Which side of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It sent the first message.
    Dialler,
    /// It answered.
    Responder,
}

impl Role {
    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Responder,
            Self::Responder => Self::Dialler,
        }
    }
}

/// The number of a stream: its index among those its opener opened, and in the lowest bit who that was.
///
/// In a frame the bit is 0 for streams that the sender of the frame opened ([`Role::Dialler`]) and 1 for those of its receiver, so
/// that it does not matter which of two crossing dials became the session: see [`mirrored`](Self::mirrored).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    /// The stream with this index among those that `opener` opens. Indices above 2^60 are cut.
    #[must_use]
    pub const fn new(index: u64, opener: Role) -> Self {
        Self((index & (limits::MAX_STREAMS - 1)) << 1 | opener as u64)
    }

    /// The stream with this number on the wire; `None` if its index is not below 2^60.
    #[must_use]
    #[inline]
    pub const fn from_value(value: u64) -> Option<Self> {
        if value >> 1 < limits::MAX_STREAMS { Some(Self(value)) } else { None }
    }

    /// The number on the wire.
    #[must_use]
    #[inline]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Its place among the streams of its opener.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0 >> 1
    }

    /// Who opened it, from the view of whoever names the stream.
    #[must_use]
    pub const fn opener(self) -> Role {
        if self.0 & 1 == 0 { Role::Dialler } else { Role::Responder }
    }

    /// The same stream as the other side numbers it: frames name a stream from the view of their sender.
    #[must_use]
    #[inline]
    pub const fn mirrored(self) -> Self {
        Self(self.0 ^ 1)
    }

    #[inline]
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_value(reader.varint()?).ok_or(DecodeError::OutOfRange)
    }
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// 0: bytes, both ways.
    Bytes,
    /// 1: messages, from the opener only, each behind its length.
    Messages,
    /// 2: the same, sent before everything else.
    Urgent,
}

impl StreamKind {
    /// The byte on the wire.
    #[must_use]
    #[inline]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Messages => 1,
            Self::Urgent => 2,
        }
    }

    /// The kind with this byte.
    #[must_use]
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Bytes,
            1 => Self::Messages,
            2 => Self::Urgent,
            _ => return None,
        })
    }

    /// Whether both sides send on it.
    #[must_use]
    pub const fn is_bidirectional(self) -> bool {
        matches!(self, Self::Bytes)
    }
}

/// What a stream is for: in every frame of its opener that carries the first byte, or nothing at offset 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Open {
    /// The place of the protocol in the opener's list.
    pub protocol: u64,
    /// What it carries.
    pub kind: StreamKind,
}

/// A piece of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream<'a> {
    /// The stream.
    pub id: StreamId,
    /// Where the piece begins. It ends at or before 2^62 - 1.
    pub offset: u64,
    /// What the stream is for.
    pub open: Option<Open>,
    /// Whether the stream ends with this piece.
    pub fin: bool,
    /// The piece; may be empty.
    pub data: &'a [u8],
}

impl<'a> Stream<'a> {
    /// Where the piece ends.
    #[must_use]
    #[inline]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }

    #[inline]
    pub(super) fn decode(flags: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let id = StreamId::decode(reader)?;
        let offset = reader.varint()?;
        let open = if flags & kinds::STREAM_OPEN == 0 {
            None
        } else {
            let protocol = reader.varint()?;
            let kind = StreamKind::from_byte(reader.u8()?).ok_or(DecodeError::OutOfRange)?;
            Some(Open { protocol, kind })
        };
        let stream = Self { id, offset, open, fin: flags & kinds::STREAM_FIN != 0, data: reader.long_bytes()? };
        if stream.end() > varint::MAX { Err(DecodeError::OutOfRange) } else { Ok(stream) }
    }
}
