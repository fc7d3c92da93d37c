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
use super::{Event, Node, topics};
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

impl Node {
    /// Reads what one session has for topics, a bounded part of it: the rest waits in the session, whose credit makes
    /// the other side wait.
    pub(super) fn read_topics(&mut self) -> bool {
        let Some(handle) = self.topic_readable.pop_first() else { return false };
        let (protocol, now) = (self.protocols.topic, self.now);
        let mut messages = Vec::new();
        let drained = self.endpoint.with(handle, now, |session, _| {
            for _ in 0..TOPIC_MESSAGES {
                let mut message = Vec::new();
                if session.recv(protocol, &mut message).is_none() {
                    return true;
                }
                messages.push(message);
            }
            false
        });
        if drained == Some(false) {
            self.topic_readable.insert(handle);
        }
        for message in messages {
            if self.topics.on_message(handle, &message).is_err() {
                // What cannot be understood ends this protocol with this peer, and nothing else.
                self.endpoint.with(handle, now, |session, _| session.fail_protocol(protocol));
                self.topics.on_closed(handle);
                self.topic_readable.remove(&handle);
                break;
            }
        }
        self.flush_topics();
        true
    }

    /// What topics have to say goes into the sessions, and what they found out to the owner.
    pub(super) fn flush_topics(&mut self) {
        let (protocol, now) = (self.protocols.topic, self.now);
        while let Some((handle, frame)) = self.topics.poll_send() {
            if self.sessions.get(&handle).is_some_and(|session| session.outbound.len() > 0) {
                self.topics.blocked(handle);
                continue;
            }
            match self.endpoint.with(handle, now, |session, _| session.send(protocol, &frame, Urgency::Normal)) {
                Some(Ok(_)) => self.topics.sent(handle),
                Some(Err(peer::mux::SendError::Blocked)) => self.topics.blocked(handle),
                // The other side has no topics, or is gone.
                _ => self.topics.on_closed(handle),
            }
        }
        self.collect_topic_events();
    }

    pub(super) fn collect_topic_events(&mut self) {
        let mut changed = std::collections::BTreeSet::new();
        while let Some(event) = self.topics.poll_event() {
            if let topics::Event::Joined { topic, .. } | topics::Event::Left { topic, .. } = &event
                && let Some(finder) = &mut self.finder
            {
                finder.on_neighbours(*topic, self.topics.neighbours(topic).count(), self.now);
            }
            match &event {
                topics::Event::Joined { conn, .. } => drop(changed.insert(*conn)),
                topics::Event::Left { conn, .. } if self.sessions.contains_key(conn) => drop(changed.insert(*conn)),
                _ => {}
            }
            self.events.push_back(match event {
                topics::Event::Joined { topic, conn, peer } => Event::Joined { topic, session: conn, peer },
                topics::Event::Left { topic, conn, peer } => Event::Left { topic, session: conn, peer },
                topics::Event::Message { topic, conn, from, data } => {
                    Event::Publication { topic, session: conn, from, data }
                }
                topics::Event::V12Key { conn, key } => Event::V12Key { session: conn, key },
            });
        }
        changed.into_iter().for_each(|session| self.pex_changed(session));
    }
}

/// Messages of one session read for topics at a time.
const TOPIC_MESSAGES: usize = 64;
