//! Bytes to frames.

use std::time::Duration;

use super::{Ack, CloseCode, Frame, Hello, Stream, StreamCode, StreamId, kinds};
use crate::{DecodeError, Reader, address, limits};

/// The frames of a packet, in their order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    reader: Reader<'a>,
}

impl<'a> Frames<'a> {
    /// Reads what a packet contained.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { reader: Reader::new(payload) }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let frame = Frame::decode(&mut self.reader);
        if frame.is_err() {
            self.reader.rest();
        }
        Some(frame)
    }
}

impl<'a> Frame<'a> {
    /// Reads one frame. After an error the reader stands somewhere within it.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`]; [`DecodeError::UnknownFrame`] for an unknown type below 0x40; and the limits of SPEC 8.
    #[inline]
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.varint()?;
        match u8::try_from(kind) {
            Ok(kind) if kind & !3 == kinds::STREAM => Stream::decode(kind, reader).map(Self::Stream),
            _ => Self::decode_other(kind, reader),
        }
    }

    fn decode_other(kind: u64, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match kind {
            kinds::PADDING => padding(reader),
            kinds::PING => Self::Ping,
            kinds::ACK => Self::Ack(Ack::decode(false, reader)?),
            kinds::ACK_ECN => Self::Ack(Ack::decode(true, reader)?),
            kinds::HELLO => Self::Hello(Hello::parse(reader.long_bytes()?)?),
            kinds::CLOSE => Self::Close { code: CloseCode(reader.varint()?), reason: reason(reader.long_bytes()?)? },
            kinds::PATH_CHALLENGE => Self::PathChallenge(reader.array()?),
            kinds::PATH_RESPONSE => Self::PathResponse(reader.array()?),
            kinds::NEW_CID => {
                let (sequence, retire_prior_to) = (reader.varint()?, reader.varint()?);
                if retire_prior_to > sequence {
                    return Err(DecodeError::OutOfRange);
                }
                Self::NewCid { sequence, retire_prior_to, cid: reader.array()?, token: reader.array()? }
            }
            kinds::RETIRE_CID => Self::RetireCid { sequence: reader.varint()? },
            kinds::REKEY => Self::Rekey(reader.array()?),
            kinds::REKEY_ACK => Self::RekeyAck(reader.array()?),
            kinds::TICKET => Self::Ticket { id: reader.array()?, lifetime: Duration::from_secs(reader.varint()?) },
            kinds::OBSERVED => Self::Observed(address::decode(reader.array()?)),
            kinds::MAX_DATA => Self::MaxData(reader.varint()?),
            kinds::MAX_STREAM_DATA => Self::MaxStreamData { id: StreamId::decode(reader)?, max: reader.varint()? },
            kinds::MAX_STREAMS => match reader.varint()? {
                max @ ..=limits::MAX_STREAMS => Self::MaxStreams(max),
                _ => return Err(DecodeError::OutOfRange),
            },
            kinds::STREAM_RESET => Self::StreamReset {
                id: StreamId::decode(reader)?,
                code: StreamCode(reader.varint()?),
                final_size: reader.varint()?,
            },
            kinds::STREAM_STOP => {
                Self::StreamStop { id: StreamId::decode(reader)?, code: StreamCode(reader.varint()?) }
            }
            kinds::DATAGRAM => Self::Datagram { protocol: reader.varint()?, data: reader.long_bytes()? },
            kinds::GOAWAY => Self::Goaway { code: CloseCode(reader.varint()?) },
            limits::FIRST_SKIPPABLE.. => Self::Unknown { kind, body: reader.long_bytes()? },
            _ => return Err(DecodeError::UnknownFrame(kind)),
        })
    }
}

/// The zeros behind a first one count with it.
fn padding<'a>(reader: &mut Reader<'a>) -> Frame<'a> {
    let rest = reader.clone().rest();
    // A path probe is a kilobyte of these: 16 at a time, then the last few.
    let (blocks, _) = rest.as_chunks::<16>();
    let blocks = blocks.iter().take_while(|block| **block == [0; 16]).count().saturating_mul(16);
    let few = rest.iter().skip(blocks).take_while(|byte| **byte == 0).count();
    let taken = reader.take(blocks.saturating_add(few)).map_or(0, <[u8]>::len);
    Frame::Padding(taken.saturating_add(1))
}

fn reason(bytes: &[u8]) -> Result<&str, DecodeError> {
    if bytes.len() > limits::MAX_REASON {
        return Err(DecodeError::TooLong { len: bytes.len(), max: limits::MAX_REASON });
    }
    std::str::from_utf8(bytes).map_err(|_not_utf8| DecodeError::BadText)
}
