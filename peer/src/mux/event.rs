//! What a session tells about its protocols.

use std::fmt;

use framing::{StreamCode, StreamId};

use super::protocol::ProtocolId;

/// Whether messages leave before everything else. Either kind has its own order and its own [`MessageId`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// In turn with the other protocols, by weight.
    #[default]
    Normal,
    /// In the next packet, but never more than half of all bytes while others wait. For short messages.
    Urgent,
}

/// The number of a message among those that were accepted for the same protocol with the same urgency, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What reading a stream brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one unless the buffer had no room.
    Bytes(usize),
    /// The other side finished, and everything was read. The stream is closed for reading now.
    End,
}

/// What became of the messages of one protocol and urgency: `accepted = acked + unknown + unsent`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// How many the session took.
    pub accepted: u64,
    /// How many the other side has in its buffers or further on.
    pub acked: u64,
    /// How many left in full and may or may not have arrived.
    pub unknown: u64,
    /// How many the other side cannot have: not, or not entirely, sent.
    pub unsent: u64,
}

/// The way that datagrams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the other side.
    Sent,
    /// From it.
    Received,
}

/// Something that the application should know. Events about one thing are merged until they are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The other side's HELLO came: it is known which protocols are on, and in which versions.
    Agreed,
    /// The other side opened a stream of bytes.
    Opened {
        /// The stream.
        stream: StreamId,
        /// What it is for.
        protocol: ProtocolId,
        /// In which version.
        version: u16,
    },
    /// There is something to read: bytes, the end, or a reset. Not told again before a read said that there is nothing.
    Readable {
        /// The stream.
        stream: StreamId,
    },
    /// There is room again after a write that was refused.
    Writable {
        /// The stream.
        stream: StreamId,
    },
    /// Everything up to the end that was set by `finish` arrived.
    Delivered {
        /// The stream.
        stream: StreamId,
    },
    /// The other side reads no further; what was not delivered is given up.
    Stopped {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: StreamCode,
    },
    /// Streams can be opened again after one was refused.
    StreamsAvailable,
    /// There is a message. Not told again before a receive said that there is none.
    Message {
        /// For this protocol.
        protocol: ProtocolId,
    },
    /// There is room again after a message that was refused.
    SendReady {
        /// The protocol.
        protocol: ProtocolId,
        /// Among these messages.
        urgency: Urgency,
    },
    /// All messages up to one arrived at the other side, but those that an earlier [`ChannelClosed`](Self::ChannelClosed) counts.
    Acked {
        /// The protocol.
        protocol: ProtocolId,
        /// Among these messages.
        urgency: Urgency,
        /// The last that arrived.
        through: MessageId,
    },
    /// Messages that were accepted will not be sent any further. If the protocol is still on, later ones will.
    ChannelClosed {
        /// The protocol.
        protocol: ProtocolId,
        /// Among these messages.
        urgency: Urgency,
        /// Why.
        code: StreamCode,
        /// What became of all that were accepted.
        account: Account,
    },
    /// There is a datagram. Not told again before a receive said that there is none.
    Datagram {
        /// For this protocol.
        protocol: ProtocolId,
    },
    /// The oldest datagrams of a full queue were dropped.
    DatagramsDropped {
        /// The protocol.
        protocol: ProtocolId,
        /// Which queue.
        direction: Direction,
        /// How many since this was last told.
        count: u64,
    },
    /// A protocol stopped on this session; the others go on.
    ProtocolFailed {
        /// The protocol.
        protocol: ProtocolId,
        /// Why.
        code: StreamCode,
    },
}
