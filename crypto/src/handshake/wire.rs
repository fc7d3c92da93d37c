//! First bytes, headers and lengths of the handshake messages.

use super::HandshakeError;

/// Kind, version, flags (2), connection id (8): how every handshake message begins.
pub type FirstHeader = [u8; 12];

/// Kind, version, flags (2), connection id of the initiator (8), connection id of the responder (8): how RESP, XX2 and
/// RESP_R begin.
pub type AnswerHeader = [u8; 20];

/// No handshake message may be longer, in bytes. Ours are 240 at most; the rest is for payloads of later versions.
pub const MAX_MESSAGE: usize = 1200;

/// The layout generation that we send. Any other than 0 is read, as far as this one goes.
pub(super) const LAYOUT: u8 = 1;

/// A handshake message, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// D0: first message of IK.
    Init = 0xd0,
    /// D1: its answer.
    Resp = 0xd1,
    /// D2: "repeat that with this cookie": proof of address, wanted by a responder under load.
    Cookie = 0xd2,
    /// D3: first message of XX.
    Xx1 = 0xd3,
    /// D4: its answer.
    Xx2 = 0xd4,
    /// D5: who the initiator of XX is.
    Xx3 = 0xd5,
    /// D6: first message with a ticket.
    InitR = 0xd6,
    /// D7: its answer.
    RespR = 0xd7,
    /// DF: "that ticket is unknown here". A hint anyone can send.
    Retry = 0xdf,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::Init, Self::Resp, Self::Cookie, Self::Xx1, Self::Xx2, Self::Xx3, Self::InitR, Self::RespR, Self::Retry];

    /// The kind with this first byte.
    pub const fn of(first: u8) -> Option<Self> {
        Some(match first {
            0xd0 => Self::Init,
            0xd1 => Self::Resp,
            0xd2 => Self::Cookie,
            0xd3 => Self::Xx1,
            0xd4 => Self::Xx2,
            0xd5 => Self::Xx3,
            0xd6 => Self::InitR,
            0xd7 => Self::RespR,
            0xdf => Self::Retry,
            _ => return None,
        })
    }

    /// The first byte.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The length of the message as this version sends it, in bytes; what is shorter is refused.
    ///
    /// No answer is longer than what it answers.
    pub const fn min_len(self) -> usize {
        match self {
            Self::Init | Self::Xx2 => 180,
            Self::Resp | Self::Xx3 | Self::RespR => 132,
            Self::Cookie => 68,
            Self::Xx1 => 240,
            Self::InitR => 148,
            Self::Retry => 12,
        }
    }

    /// The connection id behind the flags: the one that the receiver of the message chose, or, in a first message, the
    /// one that its sender did. `None` if the datagram is too short.
    pub fn connection_id(datagram: &[u8]) -> Option<[u8; 8]> {
        datagram.get(4..)?.first_chunk().copied()
    }

    /// Checks kind, length and version, in this order: all that can be checked before any key is used.
    pub(super) fn check(self, datagram: &[u8]) -> Result<(), HandshakeError> {
        let len = datagram.len();
        match datagram {
            [first, ..] if *first != self.byte() => Err(HandshakeError::WrongKind),
            _ if len < self.min_len() || len > MAX_MESSAGE => Err(HandshakeError::WrongLength { len }),
            [_, 0, ..] => Err(HandshakeError::WrongVersion),
            _ => Ok(()),
        }
    }

    /// The header of a message of this kind.
    pub(crate) fn header(self, cid: [u8; 8]) -> FirstHeader {
        let [a, b, c, d, e, f, g, h] = cid;
        [self.byte(), LAYOUT, 0, 0, a, b, c, d, e, f, g, h]
    }

    /// The header of an answer of this kind.
    pub(super) fn answer_header(self, cid_i: [u8; 8], cid_r: [u8; 8]) -> AnswerHeader {
        let mut header = [0; 20];
        let parts = self.header(cid_i).into_iter().chain(cid_r);
        header.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        header
    }
}

/// A message in its parts. The lengths were checked before, so that `None` is a fault.
pub(super) struct Parts<'a, const HEADER: usize> {
    pub(super) header: &'a [u8; HEADER],
    /// What `snow` reads.
    pub(super) noise: &'a [u8],
    /// What mac1 covers.
    pub(super) covered: &'a [u8],
    pub(super) mac1: &'a [u8; 16],
}

impl<'a, const HEADER: usize> Parts<'a, HEADER> {
    /// Of a message that ends in mac1.
    pub(super) fn of(datagram: &'a [u8]) -> Option<Self> {
        let (covered, mac1) = datagram.split_last_chunk()?;
        let (header, noise) = covered.split_first_chunk()?;
        Some(Self { header, noise, covered, mac1 })
    }
}
