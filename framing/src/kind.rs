//! What a datagram is, by its first byte.
//!
//! The values are disjoint from those of the v12 wire, so that one socket can carry both.

/// The kinds of native datagrams (SPEC 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// C8: from one end of a circuit to the relay.
    ToRelay,
    /// C9: from the relay to the other end.
    FromRelay,
    /// D0: first message to a peer whose key is known (Noise IK).
    Init,
    /// D1: the answer to [`Init`](Self::Init).
    Resp,
    /// D2: a cookie that the answered message has to be repeated with.
    Cookie,
    /// D3: first message to an address whose key is not known (Noise XX).
    Xx1,
    /// D4: the answer to [`Xx1`](Self::Xx1).
    Xx2,
    /// D5: the third message of that handshake.
    Xx3,
    /// D6: first message with a ticket of an earlier session (Noise `NNpsk0`).
    InitR,
    /// D7: the answer to [`InitR`](Self::InitR).
    RespR,
    /// D8 to DB: the distributed hash table.
    Dht,
    /// DC: probes between addresses; DD is reserved.
    Probe,
    /// DE: a beacon on the local network.
    Beacon,
    /// DF: the ticket of an [`InitR`](Self::InitR) is unknown; a hint to send an [`Init`](Self::Init).
    Retry,
    /// E0 to EF: a sealed packet, or a reset that looks like one.
    Data,
}

impl Kind {
    /// The kind that the first byte of a datagram names; `None` for those of other protocols.
    #[must_use]
    #[inline]
    pub const fn of(first: u8) -> Option<Self> {
        Some(match first {
            0xe0..=0xef => Self::Data,
            0xd0 => Self::Init,
            0xd1 => Self::Resp,
            0xd2 => Self::Cookie,
            0xd3 => Self::Xx1,
            0xd4 => Self::Xx2,
            0xd5 => Self::Xx3,
            0xd6 => Self::InitR,
            0xd7 => Self::RespR,
            0xd8..=0xdb => Self::Dht,
            0xc8 => Self::ToRelay,
            0xc9 => Self::FromRelay,
            0xdc | 0xdd => Self::Probe,
            0xde => Self::Beacon,
            0xdf => Self::Retry,
            _ => return None,
        })
    }

    /// The first byte; the lowest one where a kind has several.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::ToRelay => 0xc8,
            Self::FromRelay => 0xc9,
            Self::Init => 0xd0,
            Self::Resp => 0xd1,
            Self::Cookie => 0xd2,
            Self::Xx1 => 0xd3,
            Self::Xx2 => 0xd4,
            Self::Xx3 => 0xd5,
            Self::InitR => 0xd6,
            Self::RespR => 0xd7,
            Self::Dht => 0xd8,
            Self::Probe => 0xdc,
            Self::Beacon => 0xde,
            Self::Retry => 0xdf,
            Self::Data => 0xe0,
        }
    }

    /// Whether it belongs to a session: a handshake message or a sealed packet.
    #[must_use]
    pub const fn is_session(self) -> bool {
        !matches!(self, Self::ToRelay | Self::FromRelay | Self::Dht | Self::Probe | Self::Beacon)
    }
}
