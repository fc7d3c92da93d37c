//! What a [`Peer`](super::Peer) reports and refuses.

use std::net::SocketAddrV4;

use bytes::Bytes;
use crypto::v12::{PublicKey, WireId};
use structs::Path;

/// What a peer has proved, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// Nothing: it named a key.
    None,
    /// That it answers at its address.
    Address,
    /// That it holds its key.
    Key,
}

/// What happened in a [`Peer`](super::Peer).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The peer named its key: the answer to a dial.
    Identified {
        /// The key; its id was checked.
        key: PublicKey,
    },
    /// The peer proved its address, or its key. The first of these makes it connected.
    Proved(Proof),
    /// A message arrived.
    Message {
        /// The content.
        data: Bytes,
        /// Whether it came sealed.
        authenticated: bool,
    },
    /// Messages were lost on the way: a gap in the numbers was given up.
    Missed {
        /// How many.
        count: u64,
    },
    /// The send queue, reported full before, has room again.
    Writable,
    /// The peer has restarted and starts over.
    Restarted,
    /// The peer has values under these keys.
    Has(Vec<Bytes>),
    /// The peer asks for the value of this key: answer with [`serve`](super::Peer::serve), or not at all.
    Wanted(Bytes),
    /// A value that was asked for is complete.
    Value {
        /// Its key.
        key: Bytes,
        /// Its content.
        value: Bytes,
    },
    /// The peer knows these others.
    Peers(Vec<(WireId, SocketAddrV4)>),
    /// The peer introduces others to each other.
    RelayAnnounced {
        /// The id it gave.
        id: WireId,
        /// The address it gave.
        addr: SocketAddrV4,
    },
    /// The peer asks to be introduced.
    IntroductionRequested {
        /// To whom.
        to: WireId,
        /// The address it gave for itself.
        addr: SocketAddrV4,
    },
    /// A relay says that somebody wants to meet us.
    Introduced {
        /// Who.
        id: WireId,
        /// Where.
        addr: SocketAddrV4,
    },
    /// Datagrams of this peer come from a further address.
    PathAdded(Path),
    /// An address does not lead to this peer any more.
    PathRemoved(Path),
    /// The session is over; nothing follows.
    Closed(CloseReason),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer said goodbye, with this reason code.
    Goodbye(u8),
    /// Nothing came from the peer for 60 s.
    Timeout,
    /// Nobody answered a dial.
    NoAnswer,
    /// The peer did not prove anything in time.
    Unproven,
    /// The key that answered is our own.
    Ourselves,
    /// The key that was named is good for no session.
    WeakKey,
    /// We closed it.
    Local,
    /// All sequence numbers of the session are used; dial again.
    Exhausted,
}

/// Why a message was not queued. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer has not proved anything yet.
    #[error("the peer is not connected yet")]
    NotConnected,
    /// More than one sealed datagram holds for this peer.
    #[error("a message of {len} bytes is over the {max} that reach this peer")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The queue is full; [`Event::Writable`] tells when there is room.
    #[error("the send queue is full")]
    Full,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}

/// Why a value was not asked for or not served. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A key has 1 to 255 bytes.
    #[error("a key has 1 to 255 bytes, not {len}")]
    Key {
        /// Bytes given.
        len: usize,
    },
    /// Values are 1 byte to the limit long.
    #[error("a value of {len} bytes cannot be sent")]
    Value {
        /// Bytes given.
        len: usize,
    },
    /// As many values as may be are under way.
    #[error("too many values are under way with this peer")]
    Busy,
    /// The peer has not proved anything yet.
    #[error("the peer is not connected yet")]
    NotConnected,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}
