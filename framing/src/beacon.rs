//! What a node says on the local network: that somebody with these topics listens on this port (SPEC 10.1).

use crypto::topic::{NONCE, TAG};

use crate::{DecodeError, EncodeError, Kind, Reader, Writer, limits};

/// A beacon: `kind, version, flags 2, nonce 16, port 2, count 1`, then as many tags of 16 bytes.
///
/// The address is that which it comes from. What stands behind the tags is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon<'a> {
    /// Random, the same in all copies that leave over the interfaces of the sender, never used twice.
    pub nonce: [u8; NONCE],
    /// The UDP port of the sender, never 0.
    pub port: u16,
    /// One for each topic, 1 to 64; some may be random.
    pub tags: &'a [[u8; TAG]],
}

impl<'a> Beacon<'a> {
    /// What stands before the tags, in bytes.
    pub const HEADER: usize = 1 + 1 + 2 + NONCE + 2 + 1;

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`DecodeError::Empty`], [`DecodeError::Truncated`]; [`DecodeError::UnknownKind`] if it is no beacon; [`DecodeError::OutOfRange`]
    /// for version 0; [`DecodeError::BadAddress`] for port 0; [`DecodeError::EmptyPiece`] without tags, [`DecodeError::TooLong`] above
    /// 64 of them.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let first = reader.u8().map_err(|_truncated| DecodeError::Empty)?;
        if Kind::of(first) != Some(Kind::Beacon) {
            return Err(DecodeError::UnknownKind(first));
        }
        if reader.u8()? == 0 {
            return Err(DecodeError::OutOfRange);
        }
        reader.u16()?;
        let nonce = reader.array()?;
        let port = reader.u16()?;
        if port == 0 {
            return Err(DecodeError::BadAddress);
        }
        let count = usize::from(reader.u8()?);
        if count == 0 {
            return Err(DecodeError::EmptyPiece);
        }
        if count > limits::MAX_BEACON_TAGS {
            return Err(DecodeError::TooLong { len: count, max: limits::MAX_BEACON_TAGS });
        }
        let (tags, _) = reader.take(count.saturating_mul(TAG))?.as_chunks();
        Ok(Self { nonce, port, tags })
    }

    /// Appends the datagram.
    ///
    /// # Errors
    /// [`EncodeError::BadAddress`] for port 0, [`EncodeError::TooShort`] without tags, [`EncodeError::TooMany`] above 64 of them;
    /// nothing was written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.port == 0 {
            return Err(EncodeError::BadAddress);
        }
        let count = match u8::try_from(self.tags.len()) {
            Ok(0) => return Err(EncodeError::TooShort { len: 0, min: 1 }),
            Ok(count) if usize::from(count) <= limits::MAX_BEACON_TAGS => count,
            _ => return Err(EncodeError::TooMany { max: limits::MAX_BEACON_TAGS }),
        };
        let mut writer = Writer::new(out);
        writer.u8(Kind::Beacon.byte());
        writer.u8(limits::VERSION);
        writer.u16(0);
        writer.put(&self.nonce);
        writer.u16(self.port);
        writer.u8(count);
        writer.put(self.tags.as_flattened());
        Ok(())
    }
}
