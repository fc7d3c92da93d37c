//! PONG and GOAWAY.

use crypto::v12::NodeId;

use crate::{DecodeError, Reader};

/// The answer to a PING: its two forms are told apart by their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pong<'a> {
    /// `id20`, the whole id of the sender. It does not say which PING it answers.
    Id(NodeId),
    /// The body of the PING as it was sent, with *our* id in it: from C++ nodes only.
    Echo {
        /// The time that the PING carried.
        time_ms: u64,
        /// The id that the PING carried.
        id: NodeId,
        /// What else the PING carried.
        extra: &'a [u8],
    },
}

impl<'a> Pong<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut echo = reader.clone();
        if let (Ok(time_ms), Ok(id)) = (echo.u64(), echo.array::<20>()) {
            return Ok(Self::Echo { time_ms, id: NodeId::from(id), extra: echo.rest() });
        }
        Ok(Self::Id(NodeId::from(reader.array()?)))
    }
}

/// Why a node says GOAWAY.
///
/// Reference nodes neither send nor read a reason. The codes are those of devp2p's disconnect message, for want of a list of
/// our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoawayReason {
    /// 0x00: nothing wrong, it was asked for.
    Requested,
    /// 0x01: the network below failed.
    NetworkError,
    /// 0x02: the peer broke the protocol.
    ProtocolBreach,
    /// 0x03: the peer is of no use.
    UselessPeer,
    /// 0x04: there are enough peers.
    TooManyPeers,
    /// 0x05: there is a connection already.
    AlreadyConnected,
    /// 0x06: no version in common.
    IncompatibleVersion,
    /// 0x08: the node ends.
    Quitting,
    /// 0x09: the peer is not who it was expected to be.
    UnexpectedIdentity,
    /// 0x0a: the peer is the node itself.
    SelfConnection,
    /// 0x0b: the peer was silent for too long.
    Timeout,
    /// 0x10: anything else.
    Other,
    /// A code that is not in this list.
    Unknown(u8),
}

impl GoawayReason {
    /// The reason that `code` stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0x00 => Self::Requested,
            0x01 => Self::NetworkError,
            0x02 => Self::ProtocolBreach,
            0x03 => Self::UselessPeer,
            0x04 => Self::TooManyPeers,
            0x05 => Self::AlreadyConnected,
            0x06 => Self::IncompatibleVersion,
            0x08 => Self::Quitting,
            0x09 => Self::UnexpectedIdentity,
            0x0a => Self::SelfConnection,
            0x0b => Self::Timeout,
            0x10 => Self::Other,
            other => Self::Unknown(other),
        }
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Requested => 0x00,
            Self::NetworkError => 0x01,
            Self::ProtocolBreach => 0x02,
            Self::UselessPeer => 0x03,
            Self::TooManyPeers => 0x04,
            Self::AlreadyConnected => 0x05,
            Self::IncompatibleVersion => 0x06,
            Self::Quitting => 0x08,
            Self::UnexpectedIdentity => 0x09,
            Self::SelfConnection => 0x0a,
            Self::Timeout => 0x0b,
            Self::Other => 0x10,
            Self::Unknown(code) => code,
        }
    }
}
