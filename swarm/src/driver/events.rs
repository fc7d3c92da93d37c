//! Everything that happens in a node, as a stream.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;

use super::handle::Peer;
use super::queue::Receiver;
use super::request::RequestId;
use crate::carrier::Listener;
use crate::nat::Nat;
use crate::{DisconnectReason, InboundError, PeerId, Proof, RelayCode, Security, TopicId};

/// A message from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Who sent it; on the v12 wire, which names no author, who sent it or passed it on.
    pub from: PeerId,
    /// The content.
    pub data: Bytes,
    /// The topic that it was published in; `None` for a message to this node alone.
    pub topic: Option<TopicId>,
    /// Whether it came sealed. If not, anybody on the network may have written or changed it: that happens on the v12
    /// wire only, and only if it is allowed.
    pub authenticated: bool,
    /// How the link that it came by is protected.
    pub security: Security,
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
    /// A peer is reached by another way now.
    Moved {
        /// Who.
        peer: PeerId,
        /// Its address.
        addr: SocketAddr,
    },
    /// A peer is in a topic that this node is in.
    Joined {
        /// The topic.
        topic: TopicId,
        /// Who.
        peer: Peer,
    },
    /// A peer left a topic, or is gone.
    Left {
        /// The topic.
        topic: TopicId,
        /// Who.
        peer: PeerId,
        /// Why; [`Goodbye(0)`](DisconnectReason::Goodbye) if it left the topic and is still connected.
        reason: DisconnectReason,
    },
    /// A message arrived.
    Data(Message),
    /// Messages of a peer on the v12 wire were lost on the way.
    Missed {
        /// Whose.
        from: PeerId,
        /// How many.
        count: u64,
    },
    /// What is known of where others see this node, and of its NAT, is something else now: see
    /// [`Swarm::nat`](super::Swarm::nat).
    Nat(Nat),
    /// Others reach this node at an address now, by a listener that is new or, where that is on every interface, because the
    /// machine has it now. What the node began with is told of to nobody: [`Swarm::listeners`](super::Swarm::listeners) lists
    /// everything.
    Listening {
        /// By which listener.
        listener: Listener,
        /// The address; that of the relay, if it is a place there.
        addr: SocketAddr,
    },
    /// Others reach this node at an address no more: the listener is closed, or the machine has it no more, or the relay is
    /// elsewhere.
    ListenExpired {
        /// By which listener they did.
        listener: Listener,
        /// The address.
        addr: SocketAddr,
    },
    /// A listener is gone: it was stopped, or the place at the relay is lost. All of its addresses have
    /// [expired](Self::ListenExpired). The end of the node closes the others and ends this stream.
    ListenerClosed {
        /// Which.
        listener: Listener,
    },
    /// Receiving or accepting had an error, and goes on. Told once in five seconds for each listener, with the last error. For
    /// a relay see [`RelayRefused`](Self::RelayRefused).
    ListenerFailed {
        /// Which.
        listener: Listener,
        /// What the system said.
        error: io::ErrorKind,
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
    /// This node has a place at a relay now: others reach it through that relay.
    RelayGained {
        /// Which.
        relay: PeerId,
    },
    /// A place at a relay is lost. Another relay is asked, if any is known.
    RelayLost {
        /// Which.
        relay: PeerId,
    },
    /// A relay gave this node no place.
    RelayRefused {
        /// Which.
        relay: PeerId,
        /// Why.
        code: RelayCode,
    },
    /// A [`Transport`](crate::Transport) of this node has ended, by an error of its own or a panic: no dial goes by it any more,
    /// sessions that have another way go there, and the others are closed.
    TransportLost {
        /// Its number.
        transport: u16,
    },
    /// A request of a peer was not answered. Whoever answers requests need not look: it tells why an answer was not wanted, and
    /// of requests that came to no handler. Peers can cause any number of these, so a reader that is behind by half of its events
    /// is not told: [`Stats::requests_failed`](super::Stats::requests_failed) counts all.
    RequestFailed {
        /// Which: the [`id`](super::Inbound::id) of what the handler had, if it came to one.
        request: RequestId,
        /// Who asked.
        peer: PeerId,
        /// Why.
        cause: InboundError,
    },
    /// This stream was read too slowly and lost this many events. Others lost nothing, and peers that came or went
    /// meanwhile are told of next.
    Lagged(u64),
}

/// The events of a node, from [`Swarm::events`](super::Swarm::events).
///
/// 256 of them wait. While a reader is behind, messages wait in their sessions, and their senders with them; after 0.1 s
/// of that the reader loses messages instead and is told how many by [`SwarmEvent::Lagged`]. Who is connected is never
/// lost. Messages that no reader of events would get wait for one.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: Receiver,
    #[cfg(feature = "v12")]
    pub(crate) legacy: Option<crate::v12::Events>,
}

impl Events {
    /// The next event, or `None` once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> Option<SwarmEvent> {
        #[cfg(feature = "v12")]
        if let Some(legacy) = &mut self.legacy {
            let event = tokio::select! {
                event = self.receiver.recv() => return event,
                event = legacy.next() => event,
            };
            match event {
                Some(event) => return Some(event.into()),
                None => self.legacy = None,
            }
        }
        self.receiver.recv().await
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<SwarmEvent> {
        if let Some(event) = self.receiver.try_recv() {
            return Some(event);
        }
        #[cfg(feature = "v12")]
        if let Some(legacy) = &mut self.legacy {
            return legacy.try_next().map(SwarmEvent::from);
        }
        None
    }
}

#[cfg(feature = "v12")]
impl From<crate::v12::SwarmEvent> for SwarmEvent {
    fn from(event: crate::v12::SwarmEvent) -> Self {
        use crate::v12::SwarmEvent as V12;
        match event {
            V12::Connected { peer, addr, proof, security } => {
                Self::Connected { peer: Peer::v12(peer), addr, proof, security }
            }
            V12::Proved { peer } => Self::Proved { peer },
            V12::Data(message) => Self::Data(message.into()),
            V12::Missed { from, count } => Self::Missed { from, count },
            V12::Disconnected { peer, reason } => Self::Disconnected { peer, reason },
            V12::Synced { key, value, from } => Self::Synced { key, value, from },
            V12::Lagged(lost) => Self::Lagged(lost),
        }
    }
}

#[cfg(feature = "v12")]
impl From<crate::v12::Message> for Message {
    fn from(message: crate::v12::Message) -> Self {
        let crate::v12::Message { from, data, authenticated } = message;
        Self { from, data, topic: None, authenticated, security: Security::LegacyV12 }
    }
}
