//! The messages of topics on their way into the sessions.
//!
//! Each session has one queue for what its channel had no room for: publications are accepted up to a bound and refused
//! beyond it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use peer::Handle;
use peer::mux::{SendError as Refused, Urgency};

use super::topics::PublishError;
use super::{Node, topics};
use crate::{SendError, TopicId};

/// A message for the neighbours of a topic.
#[derive(Debug, Clone)]
pub struct Publication {
    /// What goes to each of them.
    frame: Bytes,
    /// Those that have no room for it.
    waiting: Vec<Handle>,
    sent: usize,
}

impl Publication {
    /// Neighbours that it is on its way to.
    #[must_use]
    pub const fn sent(&self) -> usize {
        self.sent
    }

    /// Whether some neighbours had no room for it.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// What waits for room in the channel of one session.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbound {
    /// Frames that wait.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn has_room(&self) -> bool {
        self.bytes < OUTBOUND_BYTES && self.frames.len() < OUTBOUND_FRAMES
    }
}

impl Node {
    /// Sends a message to the neighbours of a topic. Those without room for it are kept in the [`Publication`], and
    /// are tried again by [`publish_more`](Self::publish_more).
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was sent then.
    pub fn publish(&mut self, topic: &TopicId, data: &[u8], now: Instant) -> Result<Publication, SendError> {
        self.tick(now);
        if self.ending {
            return Err(SendError::Closed);
        }
        let topics::Publication { frame, neighbours, .. } = self.topics.publish(topic, data)?;
        let mut publication = Publication { frame, waiting: neighbours, sent: 0 };
        self.publish_more(&mut publication, now);
        Ok(publication)
    }

    /// Tries the neighbours again that had no room.
    pub fn publish_more(&mut self, publication: &mut Publication, now: Instant) {
        self.tick(now);
        let Publication { frame, waiting, sent } = publication;
        waiting.retain(|&handle| {
            // Who left has been told of.
            let Some(session) = self.sessions.get_mut(&handle) else { return false };
            if !session.outbound.has_room() {
                return true;
            }
            session.outbound.push(frame.clone());
            self.send_outbound(handle);
            *sent += 1;
            false
        });
    }

    /// Moves what waits into the channel of a session. Says whether nothing is left.
    pub(super) fn send_outbound(&mut self, handle: Handle) -> bool {
        let (protocol, now) = (self.protocols.topic, self.now);
        let Some(session) = self.sessions.get_mut(&handle).filter(|session| !session.outbound.frames.is_empty()) else {
            return true;
        };
        let Outbound { frames, bytes } = &mut session.outbound;
        let mut dropped = 0;
        self.endpoint.with(handle, now, |session, _| {
            while let Some(frame) = frames.front() {
                match session.send(protocol, frame, Urgency::Normal) {
                    Err(Refused::Blocked) => return,
                    Err(_) => dropped += 1,
                    Ok(_) => {}
                }
                *bytes = bytes.saturating_sub(frame.len());
                frames.pop_front();
            }
        });
        let left = frames.len();
        self.publications_dropped += dropped;
        left == 0
    }
}

/// Bytes of frames that may wait for one session before it takes no more publications.
const OUTBOUND_BYTES: usize = 256 << 10;
/// The same in frames.
const OUTBOUND_FRAMES: usize = 1024;

impl From<PublishError> for SendError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge { len, max } => Self::TooLarge { len, max },
            PublishError::NotJoined => Self::NotJoined,
        }
    }
}
