//! What a v12 node reports.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::{DialError, DialId, DisconnectReason, FetchError, FetchId, PeerId, Proof, Security};

/// What happened in a [`Node`](crate::v12::Node).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A peer is connected: messages can be sent to it.
    Connected {
        /// Who.
        peer: PeerId,
        /// Where.
        addr: SocketAddr,
        /// What it has proved.
        proof: Proof,
        /// How the link is protected.
        security: Security,
    },
    /// A peer that had only proved its address proved its key.
    Proved {
        /// Who.
        peer: PeerId,
    },
    /// A dial ended with a connected peer, newly or already.
    Dialled {
        /// The dial.
        id: DialId,
        /// Who answered.
        peer: PeerId,
    },
    /// A dial failed.
    DialFailed {
        /// The dial.
        id: DialId,
        /// Why.
        error: DialError,
    },
    /// A message arrived.
    Message {
        /// The neighbour that sent or passed it on; the v12 wire does not name the author.
        from: PeerId,
        /// The content.
        data: Bytes,
        /// Whether it came sealed. Fragments of the v12 wire are not: anybody may have written them.
        authenticated: bool,
    },
    /// Messages of a peer were lost on the way: the wire cannot repair loss, but it shows the gap.
    Missed {
        /// Whose.
        from: PeerId,
        /// How many.
        count: u64,
    },
    /// There is room again in the queue of a peer that was reported full.
    Writable {
        /// Whose queue.
        peer: PeerId,
    },
    /// A peer is gone.
    Disconnected {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A fetch ended.
    Fetched {
        /// The fetch.
        id: FetchId,
        /// The value, or why there is none.
        result: Result<Bytes, FetchError>,
    },
    /// A value that we asked for arrived and is kept.
    Synced {
        /// Its key.
        key: Bytes,
        /// Its content.
        value: Bytes,
        /// Who delivered it.
        from: PeerId,
    },
    /// The node has ended: queues are drained or the time for it is over, and goodbyes are sent.
    Closed {
        /// Messages that had not left when the time was over.
        unsent: u64,
    },
}
