//! Everything that happens in a node, as a stream.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::handle::Peer;
use crate::{DisconnectReason, PeerId, Proof, Security};

/// A message from a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The neighbour that sent it or passed it on; the v12 wire does not name the author.
    pub from: PeerId,
    /// The content.
    pub data: Bytes,
    /// Whether it came sealed. If not, anybody on the network may have written or changed it.
    pub authenticated: bool,
}

/// What happened in a node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SwarmEvent {
    /// A peer is connected. A fresh stream begins with one of these per peer that is.
    Connected {
        /// Who.
        peer: Peer,
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
    /// A message arrived.
    Data(Message),
    /// Messages of a peer were lost on the way.
    Missed {
        /// Whose.
        from: PeerId,
        /// How many.
        count: u64,
    },
    /// A peer is gone.
    Disconnected {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A value that was asked for arrived and is kept.
    Synced {
        /// Its key.
        key: Bytes,
        /// Its content.
        value: Bytes,
        /// Who delivered it.
        from: PeerId,
    },
    /// This stream was read too slowly and lost this many events. Others lost nothing, and peers that came or went
    /// meanwhile are told of next.
    Lagged(u64),
}

/// The events of a node, from [`Swarm::events`](super::Swarm::events).
///
/// 256 of them wait. A reader that falls behind slows the node down for 0.1 s, then loses events and is told how many
/// by [`SwarmEvent::Lagged`]; who is connected is never lost.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<SwarmEvent>,
}

impl Events {
    /// The next event, or `None` once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> Option<SwarmEvent> {
        self.receiver.recv().await
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<SwarmEvent> {
        self.receiver.try_recv().ok()
    }
}
