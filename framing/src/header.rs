//! The clear fronts of native datagrams (SPEC 5.3): 12 bytes on a first message, 20 on an answer, 13 on a sealed packet.
//!
//! Each carries the 8-byte id under which its receiver finds the session, chosen by that receiver; first messages carry the one
//! under which the dialler wants to be answered.

use crate::{DecodeError, Kind, Reader, limits};

/// `kind, version, flags 2, id 8`: INIT, COOKIE, XX1, `INIT_R` and RETRY with the id of the dialler, XX3 with that of the responder.
///
/// The flags are sent as zero and not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstHeader {
    /// What the datagram is.
    pub kind: Kind,
    /// The generation of the layout, at least 1.
    pub version: u8,
    /// The id that it carries.
    pub cid: [u8; 8],
}

impl FirstHeader {
    /// Its length, in bytes.
    pub const LEN: usize = 12;

    /// Reads the front of a datagram; what is behind it stays in the reader.
    ///
    /// # Errors
    /// [`DecodeError::Empty`], [`DecodeError::Truncated`]; [`DecodeError::UnknownKind`] if the first byte is not that of a handshake
    /// message; [`DecodeError::OutOfRange`] for version 0.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = reader.clone();
        let first = ahead.u8().map_err(|_truncated| DecodeError::Empty)?;
        let kind = match Kind::of(first) {
            Some(kind) if kind.is_session() && kind != Kind::Data => kind,
            _ => return Err(DecodeError::UnknownKind(first)),
        };
        let version = ahead.u8()?;
        if version == 0 {
            return Err(DecodeError::OutOfRange);
        }
        ahead.u16()?;
        let cid = ahead.array()?;
        *reader = ahead;
        Ok(Self { kind, version, cid })
    }

    /// The bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f, g, h] = self.cid;
        [self.kind.byte(), self.version, 0, 0, a, b, c, d, e, f, g, h]
    }
}

/// A [`FirstHeader`] with the id of the dialler, then that of the responder: RESP, XX2, `RESP_R`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHeader {
    /// The front, with the id that the dialler chose: where the answer belongs.
    pub first: FirstHeader,
    /// The id that the responder chose.
    pub responder: [u8; 8],
}

impl AnswerHeader {
    /// Its length, in bytes.
    pub const LEN: usize = 20;

    /// Reads the front of a datagram; what is behind it stays in the reader.
    ///
    /// # Errors
    /// As [`FirstHeader::decode`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = reader.clone();
        let first = FirstHeader::decode(&mut ahead)?;
        let responder = ahead.array()?;
        *reader = ahead;
        Ok(Self { first, responder })
    }

    /// The bytes.
    #[must_use]
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (front, id) = bytes.split_at_mut(FirstHeader::LEN);
        front.copy_from_slice(&self.first.encode());
        id.copy_from_slice(&self.responder);
        bytes
    }
}

/// `E0 | phase, id 8, packet number 4`: in front of every sealed packet.
///
/// On the network the low four bits of the first byte, and the packet number, are masked: before the mask is off, only the id says
/// something, see [`destination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// The generation of the key, modulo 4.
    pub phase: u8,
    /// The id of the receiver.
    pub cid: [u8; 8],
    /// The low 32 bits of the packet number.
    pub number: u32,
}

impl DataHeader {
    /// Its length, in bytes.
    pub const LEN: usize = 13;

    /// Reads the front of an unmasked packet; what is behind it stays in the reader. The reserved bits are not looked at.
    ///
    /// # Errors
    /// [`DecodeError::Empty`], [`DecodeError::Truncated`]; [`DecodeError::UnknownKind`] if the first byte is not E0 to EF.
    #[inline]
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = reader.clone();
        let first = ahead.u8().map_err(|_truncated| DecodeError::Empty)?;
        if Kind::of(first) != Some(Kind::Data) {
            return Err(DecodeError::UnknownKind(first));
        }
        let header = Self { phase: first & 3, cid: ahead.array()?, number: ahead.u32()? };
        *reader = ahead;
        Ok(header)
    }

    /// The bytes, not masked; the reserved bits are zero.
    #[must_use]
    #[inline]
    pub const fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f, g, h] = self.cid;
        let [i, j, k, l] = self.number.to_be_bytes();
        [Kind::Data.byte() | self.phase & 3, a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

/// The id of the session that a datagram is for: the receiver's own id, in all kinds that answer something.
///
/// `None` for first messages (INIT, XX1, `INIT_R`: the id in them is the sender's), for what is no session's, and for what is too
/// short. A datagram with an unknown id may still be a reset: see [`reset_token`].
#[must_use]
#[inline]
pub fn destination(datagram: &[u8]) -> Option<[u8; 8]> {
    let mut reader = Reader::new(datagram);
    match Kind::of(reader.u8().ok()?)? {
        Kind::Data => {}
        Kind::Resp | Kind::Cookie | Kind::Xx2 | Kind::Xx3 | Kind::RespR | Kind::Retry => {
            reader.take(3).ok()?;
        }
        _ => return None,
    }
    reader.array().ok()
}

/// A datagram that tells a peer to forget a session which the sender has forgotten itself. It looks like a sealed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    bytes: [u8; limits::MAX_RESET],
    len: usize,
}

impl Reset {
    /// Answers a packet of `trigger` bytes, which must not be authentic. `random` hides that it is no packet, `token` is that of the
    /// id to which the packet went.
    ///
    /// `None` for triggers below 43 bytes: a reset is always shorter than what it answers, so two nodes that know nothing of each
    /// other fall silent.
    #[must_use]
    pub fn new(trigger: usize, random: [u8; 27], token: [u8; 16]) -> Option<Self> {
        if trigger < limits::MIN_RESET_TRIGGER {
            return None;
        }
        let [first, .., last] = random;
        // 39 to 42 bytes: no fixed length by which to filter.
        let len = limits::MIN_RESET.saturating_add(usize::from(last & 3));
        let mut bytes = [0; limits::MAX_RESET];
        let (body, tail) = bytes.split_at_mut_checked(len.saturating_sub(token.len()))?;
        body.iter_mut().zip(random).for_each(|(byte, random)| *byte = random);
        *body.first_mut()? = Kind::Data.byte() | first & 0x0f;
        tail.get_mut(..token.len())?.copy_from_slice(&token);
        Some(Self { bytes, len })
    }
}

impl AsRef<[u8]> for Reset {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// The token, if `datagram` may be a reset: any packet that did not open. To be compared in constant time.
#[must_use]
pub fn reset_token(datagram: &[u8]) -> Option<[u8; 16]> {
    let first = Kind::of(*datagram.first()?)?;
    if first != Kind::Data || datagram.len() < limits::MIN_RESET {
        return None;
    }
    datagram.last_chunk().copied()
}
