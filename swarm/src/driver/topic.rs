//! A joined topic.

use std::sync::Arc;

use bytes::Bytes;

use super::command::Command;
use super::events::{Message, SwarmEvent};
use super::handle::{Peer, Swarm};
use super::queue::{Overflow, Receiver};
use super::shared::Shared;
use super::subscriber::Subscriber;
use crate::{DisconnectReason, JoinError, PeerId, SendError, Ticket, TopicId};

/// A joined topic. Cheap to clone; when the last clone is dropped the topic is left.
///
/// Peers are in it who proved inside of their session that they know it. On the v12 wire, which joins topics in
/// discovery only, every connected peer is in every topic.
#[derive(Debug, Clone)]
pub struct Topic {
    membership: Arc<Membership>,
    #[cfg(feature = "v12")]
    legacy: Option<crate::v12::Topic>,
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
    /// Neighbours that the message is on its way to. Zero when alone, which is no error.
    pub neighbours: usize,
}

impl Topic {
    pub(crate) fn join(shared: &Arc<Shared>, id: TopicId, announce: bool, lookup: bool) -> Result<Self, JoinError> {
        shared.join(id, announce, lookup)?;
        let membership = Arc::new(Membership { shared: Arc::clone(shared), id });
        Ok(Self {
            membership,
            #[cfg(feature = "v12")]
            legacy: None,
        })
    }

    /// Adds the membership on the v12 wire.
    #[cfg(feature = "v12")]
    pub(crate) fn with_v12(mut self, legacy: Option<crate::v12::Topic>) -> Self {
        self.legacy = legacy;
        self
    }

    /// The id of the topic.
    #[must_use]
    pub fn id(&self) -> TopicId {
        self.membership.id
    }

    /// An invitation to this topic by way of a node in it. Whoever has it knows the topic.
    #[must_use]
    pub fn ticket(&self, swarm: &Swarm) -> Ticket {
        swarm.ticket().topic(self.id())
    }

    /// The events of the topic, from now on; peers that are there already are told of first.
    #[must_use]
    pub fn events(&self) -> TopicEvents {
        self.events_with(Overflow::default())
    }

    /// As [`events`](Self::events), with another answer to the question what becomes of messages that are not read. It
    /// is for native sessions; the v12 wire knows no other than the default.
    #[must_use]
    pub fn events_with(&self, overflow: Overflow) -> TopicEvents {
        let (subscriber, receiver) = Subscriber::new(Some(self.id()), overflow);
        self.membership.shared.subscribe(subscriber);
        TopicEvents {
            receiver,
            #[cfg(feature = "v12")]
            legacy: self.legacy.as_ref().map(crate::v12::Topic::events),
        }
    }

    /// Sends a message to the neighbours in the topic. Waits up to a second for those without room, and leaves out those
    /// that have none by then: they are not in the number of neighbours returned.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`], [`SendError::Closed`] once the node has ended. Nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to all neighbours with room, or to nobody. Those without room may
    /// still get it.
    pub async fn publish(&self, data: impl Into<Bytes>) -> Result<Published, SendError> {
        self.send(data.into(), true).await
    }

    /// As [`publish`](Self::publish), but neighbours without room are left out at once.
    ///
    /// # Errors
    ///
    /// As those of [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to all neighbours with room, or to nobody.
    pub async fn try_publish(&self, data: impl Into<Bytes>) -> Result<Published, SendError> {
        self.send(data.into(), false).await
    }

    async fn send(&self, data: Bytes, wait: bool) -> Result<Published, SendError> {
        let Membership { shared, id: topic } = &*self.membership;
        let permit = match wait {
            // Closed with the node.
            true => match Arc::clone(&shared.publications).acquire_owned().await {
                Ok(permit) => Some(permit),
                Err(_) => return Err(SendError::Closed),
            },
            false => None,
        };
        #[cfg(feature = "v12")]
        let copy = data.clone();
        let answer = shared.ask(|reply| Command::Publish { topic: *topic, data, permit, reply }).await;
        #[cfg_attr(not(feature = "v12"), expect(unused_mut, reason = "the other wire adds to it"))]
        let mut neighbours = answer.unwrap_or(Err(SendError::Closed))?;
        #[cfg(feature = "v12")]
        if let Some(legacy) = &self.legacy {
            let sent = if wait { legacy.publish(copy).await } else { legacy.try_publish(copy).await };
            // One wire has it: what the other cannot carry is no reason to say that nothing was sent.
            neighbours += sent.map_or(0, |published| published.neighbours);
        }
        Ok(Published { neighbours })
    }
}

/// What happened in a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TopicEvent {
    /// A peer is there.
    Joined(Peer),
    /// A message arrived: one that was published in the topic, or one that a peer in it sent to this node alone.
    Message(Message),
    /// A peer left.
    Left(PeerId, DisconnectReason),
    /// This stream was read too slowly and lost this many messages. Others lost nothing, and peers that came or went
    /// meanwhile are told of next.
    Lagged(u64),
}

/// The events of a topic, from [`Topic::events`].
///
/// 256 of them wait. While a reader is behind, messages wait in their sessions, and their senders with them; after 0.1 s
/// of that the reader loses messages instead and is told how many by [`TopicEvent::Lagged`]. Who is there is never lost.
#[derive(Debug)]
pub struct TopicEvents {
    receiver: Receiver,
    #[cfg(feature = "v12")]
    legacy: Option<crate::v12::TopicEvents>,
}

impl TopicEvents {
    /// The next event, or `None` once the topic is left or the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> Option<TopicEvent> {
        #[cfg(feature = "v12")]
        while let Some(legacy) = &mut self.legacy {
            let event = tokio::select! {
                event = self.receiver.recv() => {
                    if let Some(event) = TopicEvent::of(event?) {
                        return Some(event);
                    }
                    continue;
                }
                event = legacy.next() => event,
            };
            match event {
                Some(event) => return Some(event.into()),
                None => self.legacy = None,
            }
        }
        loop {
            if let Some(event) = TopicEvent::of(self.receiver.recv().await?) {
                return Some(event);
            }
        }
    }
}

impl TopicEvent {
    /// What an event of a node means for a topic.
    fn of(event: SwarmEvent) -> Option<Self> {
        Some(match event {
            SwarmEvent::Joined { peer, .. } => Self::Joined(peer),
            SwarmEvent::Data(message) => Self::Message(message),
            SwarmEvent::Left { peer, reason, .. } => Self::Left(peer, reason),
            SwarmEvent::Lagged(lost) => Self::Lagged(lost),
            _ => return None,
        })
    }
}

#[cfg(feature = "v12")]
impl From<crate::v12::TopicEvent> for TopicEvent {
    fn from(event: crate::v12::TopicEvent) -> Self {
        use crate::v12::TopicEvent as V12;
        match event {
            V12::Joined(peer) => Self::Joined(Peer::v12(peer)),
            V12::Message(message) => Self::Message(message.into()),
            V12::Left(peer, reason) => Self::Left(peer, reason),
            V12::Lagged(lost) => Self::Lagged(lost),
        }
    }
}
