//! What a packet carried, in the few bytes that an acknowledgement or a loss has to hand back.

use framing::StreamId;
use smallvec::SmallVec;

/// One frame of a packet that was sent, as far as its fate matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Our acknowledgements up to this packet number: once it arrived, older ranges need not be repeated.
    Ack { largest: u64 },
    /// Our greeting.
    Hello,
    /// A range of a stream, whose sending half had this place: if another stream is there, that one is over.
    Stream { id: StreamId, offset: u64, len: u32, slot: u16, fin: bool },
    /// Credit for the session.
    MaxData,
    /// Credit for a stream.
    MaxStreamData(StreamId),
    /// How many streams may be opened.
    MaxStreams,
    /// We gave up sending on a stream.
    StreamReset(StreamId),
    /// We gave up reading a stream.
    StreamStop(StreamId),
    /// A connection id with this sequence number was issued.
    NewCid(u64),
    /// A connection id with this sequence number was given back.
    RetireCid(u64),
    /// The request for fresh ephemeral keys.
    Rekey,
    /// The answer to it.
    RekeyAck,
    /// A resumption ticket, by its number in this session.
    Ticket(u8),
    /// No new streams.
    Goaway,
    /// The address the peer is seen at.
    Observed,
    /// Nothing but a reason to acknowledge.
    Ping,
    /// An unreliable datagram of so many bytes: its loss is told, not mended.
    Datagram(u32),
    /// The end of the session.
    Close,
}

/// What one packet carried.
pub(crate) type SentFrames = SmallVec<[Sent; 2]>;

const _: () = assert!(size_of::<Sent>() <= 24);
