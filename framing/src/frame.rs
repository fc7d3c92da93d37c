//! What is inside a sealed packet (SPEC 8): one frame behind the other, to the end.
//!
//! Decoding borrows from the packet and allocates nothing. A frame is either whole and within every limit, or an error; frames of
//! unknown types from 0x40 on have a length and are skipped.

mod ack;
mod codes;
mod decode;
mod encode;
mod hello;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

pub use ack::{Ack, AckRanges, EcnCounts};
pub use codes::{CloseCode, StreamCode};
pub use decode::Frames;
pub use hello::{Hello, Limits, ProtocolEntries, ProtocolEntry};
pub use stream::{Open, Role, Stream, StreamId, StreamKind};

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// 00, as many in a row as the number says: nothing.
    Padding(usize),
    /// 01: asks for an acknowledgement.
    Ping,
    /// 02 and 03: which packets arrived.
    Ack(Ack<'a>),
    /// 04: what the sender speaks and allows.
    Hello(Hello<'a>),
    /// 05: the session ends.
    Close {
        /// Why, as a number.
        code: CloseCode,
        /// Why, in at most 256 bytes for a human.
        reason: &'a str,
    },
    /// 06: to be returned on the path it came by.
    PathChallenge([u8; 8]),
    /// 07: what a challenge carried.
    PathResponse([u8; 8]),
    /// 08: another id under which the sender of the frame can be reached.
    NewCid {
        /// Its number, from 1; the id of the handshake has number 0.
        sequence: u64,
        /// Ids with lower numbers are to be retired.
        retire_prior_to: u64,
        /// The id.
        cid: [u8; 8],
        /// What a reset of that id carries.
        token: [u8; 16],
    },
    /// 09: the sender will not use this id any more.
    RetireCid {
        /// The number that it was issued with.
        sequence: u64,
    },
    /// 0A: a fresh ephemeral key of the dialler.
    Rekey([u8; 32]),
    /// 0B: that of the responder.
    RekeyAck([u8; 32]),
    /// 0C: the next session may begin with this ticket.
    Ticket {
        /// Its name; the key comes from the exporter.
        id: [u8; 16],
        /// How long it is good for.
        lifetime: Duration,
    },
    /// 0D: the address that the receiver of the frame is seen at.
    Observed(SocketAddr),
    /// 0E: how many bytes of stream data the receiver of the frame may have sent in all.
    MaxData(u64),
    /// 0F: how many bytes it may have sent on one stream.
    MaxStreamData {
        /// The stream.
        id: StreamId,
        /// The new bound.
        max: u64,
    },
    /// 10: how many streams it may have opened in all; at most 2^60.
    MaxStreams(u64),
    /// 11: the sender gave up sending on a stream.
    StreamReset {
        /// The stream.
        id: StreamId,
        /// Why.
        code: StreamCode,
        /// How many bytes were sent on it.
        final_size: u64,
    },
    /// 12: the sender does not read a stream any further.
    StreamStop {
        /// The stream.
        id: StreamId,
        /// Why.
        code: StreamCode,
    },
    /// 13: a message that is not repeated if it is lost.
    Datagram {
        /// The place of the protocol in the sender's list.
        protocol: u64,
        /// The message.
        data: &'a [u8],
    },
    /// 14: the sender accepts no new streams.
    Goaway {
        /// Why.
        code: CloseCode,
    },
    /// 18 to 1B: a piece of a stream.
    Stream(Stream<'a>),
    /// Any type from 40 on.
    Unknown {
        /// The type.
        kind: u64,
        /// What it carries.
        body: &'a [u8],
    },
}

// Every frame of every packet is moved once: it stays within a cache line.
const _: () = assert!(size_of::<Frame<'_>>() <= 64);

impl Frame<'_> {
    /// Whether the packet that carries it is acknowledged without waiting for another: all but ACK, PADDING and CLOSE.
    #[must_use]
    #[inline]
    pub const fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Ack(_) | Self::Padding(_) | Self::Close { .. })
    }
}

/// The types.
pub(crate) mod kinds {
    pub(crate) const PADDING: u64 = 0x00;
    pub(crate) const PING: u64 = 0x01;
    pub(crate) const ACK: u64 = 0x02;
    pub(crate) const ACK_ECN: u64 = 0x03;
    pub(crate) const HELLO: u64 = 0x04;
    pub(crate) const CLOSE: u64 = 0x05;
    pub(crate) const PATH_CHALLENGE: u64 = 0x06;
    pub(crate) const PATH_RESPONSE: u64 = 0x07;
    pub(crate) const NEW_CID: u64 = 0x08;
    pub(crate) const RETIRE_CID: u64 = 0x09;
    pub(crate) const REKEY: u64 = 0x0a;
    pub(crate) const REKEY_ACK: u64 = 0x0b;
    pub(crate) const TICKET: u64 = 0x0c;
    pub(crate) const OBSERVED: u64 = 0x0d;
    pub(crate) const MAX_DATA: u64 = 0x0e;
    pub(crate) const MAX_STREAM_DATA: u64 = 0x0f;
    pub(crate) const MAX_STREAMS: u64 = 0x10;
    pub(crate) const STREAM_RESET: u64 = 0x11;
    pub(crate) const STREAM_STOP: u64 = 0x12;
    pub(crate) const DATAGRAM: u64 = 0x13;
    pub(crate) const GOAWAY: u64 = 0x14;
    /// The lowest of four.
    pub(crate) const STREAM: u8 = 0x18;
    /// No data follows on this stream.
    pub(crate) const STREAM_FIN: u8 = 0x01;
    /// The frame says what the stream is for.
    pub(crate) const STREAM_OPEN: u8 = 0x02;
}
