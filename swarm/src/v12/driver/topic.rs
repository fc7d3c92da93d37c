//! A joined topic.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::events::{Message, SwarmEvent};
use super::handle::{Peer, broadcast};
use super::shared::Shared;
use super::subscriber::Subscriber;
use crate::{DisconnectReason, JoinError, PeerId, SendError, TopicId};

/// A joined topic. Cheap to clone; when the last clone is dropped the topic is left.
///
/// The v12 wire joins topics in discovery only: its messages name none. So a peer is in every topic that is joined,
/// and every topic sees every message.
#[derive(Debug, Clone)]
pub struct Topic {
    membership: Arc<Membership>,
}

/// Leaves the topic when dropped.
#[derive(Debug)]
struct Membership {
    shared: Arc<Shared>,
    id: TopicId,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}

/// What a publication reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Neighbours that the message is on its way to. They pass it on. Zero when alone, which is no error.
    pub neighbours: usize,
}

impl Topic {
    pub(crate) fn join(shared: &Arc<Shared>, id: TopicId, announce: bool, lookup: bool) -> Result<Self, JoinError> {
        shared.join(id, announce, lookup)?;
        Ok(Self { membership: Arc::new(Membership { shared: Arc::clone(shared), id }) })
    }

    /// The id of the topic.
    #[must_use]
    pub fn id(&self) -> TopicId {
        self.membership.id
    }

    /// The events of the topic, from now on; peers that are there already are told of first.
    #[must_use]
    pub fn events(&self) -> TopicEvents {
        let (subscriber, receiver) = Subscriber::new(Some(self.id()));
        self.membership.shared.subscribe(subscriber);
        TopicEvents { receiver }
    }

    /// Sends a message to everybody in the topic, by way of the neighbours. Waits for those whose queue is full as long
    /// as they get on, and skips them from then on until they have room, as [`Swarm::broadcast`](super::Swarm::broadcast)
    /// does: they are not in the number of neighbours returned.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if no neighbour takes a message of this size, [`SendError::Closed`] once the node has
    /// ended. Nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to all neighbours with room, or to nobody. Those without room may
    /// still get it.
    pub async fn publish(&self, data: impl Into<Bytes>) -> Result<Published, SendError> {
        let neighbours = broadcast(&self.membership.shared, Some(self.id()), data.into(), true).await?;
        Ok(Published { neighbours })
    }

    /// As [`publish`](Self::publish), but neighbours without room are left out.
    ///
    /// # Errors
    ///
    /// As those of [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to all neighbours with room, or to nobody.
    pub async fn try_publish(&self, data: impl Into<Bytes>) -> Result<Published, SendError> {
        let neighbours = broadcast(&self.membership.shared, Some(self.id()), data.into(), false).await?;
        Ok(Published { neighbours })
    }
}

/// What happened in a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TopicEvent {
    /// A peer is there.
    Joined(Peer),
    /// A message arrived.
    Message(Message),
    /// A peer left.
    Left(PeerId, DisconnectReason),
    /// This stream was read too slowly and lost this many messages. Others lost nothing, and peers that came or went
    /// meanwhile are told of next.
    Lagged(u64),
}

/// The events of a topic, from [`Topic::events`].
///
/// 256 of them wait. A reader that falls behind slows the node down for 0.1 s, then loses messages and is told how
/// many by [`TopicEvent::Lagged`]; who is there is never lost.
#[derive(Debug)]
pub struct TopicEvents {
    receiver: mpsc::Receiver<SwarmEvent>,
}

impl TopicEvents {
    /// The next event, or `None` once the topic is left or the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> Option<TopicEvent> {
        loop {
            return Some(match self.receiver.recv().await? {
                SwarmEvent::Connected { peer, .. } => TopicEvent::Joined(peer),
                SwarmEvent::Data(message) => TopicEvent::Message(message),
                SwarmEvent::Disconnected { peer, reason } => TopicEvent::Left(peer, reason),
                SwarmEvent::Lagged(lost) => TopicEvent::Lagged(lost),
                SwarmEvent::Proved { .. } | SwarmEvent::Missed { .. } | SwarmEvent::Synced { .. } => continue,
            });
        }
    }
}
