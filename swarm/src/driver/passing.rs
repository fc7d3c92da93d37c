//! Events and messages, to those who read them.

use std::time::Instant;

use bytes::Bytes;
use framing::StreamId;
use peer::Handle;

use super::Driver;
use super::events::{Message, SwarmEvent};
use super::limits::STALL;
use super::request::RequestId;
use super::subscriber::Subscriber;
use crate::{InboundError, PeerId, Security, clock};

impl Driver {
    pub(super) fn pass(&mut self, event: Option<SwarmEvent>) {
        let Some(event) = event else { return };
        for subscriber in &mut self.subscribers {
            subscriber.pass(&event, &self.roster);
        }
    }

    /// Tells of requests of a peer that were not answered.
    pub(super) fn pass_failed(&mut self, session: Handle, peer: PeerId, failed: Vec<(StreamId, InboundError)>) {
        for (stream, cause) in failed {
            self.requests_failed = self.requests_failed.saturating_add(1);
            let request = RequestId::new(session, stream);
            self.pass(Some(SwarmEvent::RequestFailed { request, peer, cause }));
        }
    }

    /// Passes the messages on that no reader has claimed, unless a subscriber that is worth the wait has no room.
    pub(super) fn pass_messages(&mut self, now: Instant) {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &mut self.subscribers {
            subscriber.catch_up(&self.roster);
        }
        let stalled = self.is_stalled(now);
        self.node.pause_topics(stalled);
        let protocol = self.node.protocols().message;
        let mut after = None;
        while let Some(handle) = self.next_unread(after) {
            after = Some(handle);
            // It is visited when its reader has room, or is gone.
            let Some(session) = self.sessions.get(&handle).filter(|session| session.conn.inbox_room().is_none()) else {
                self.unread.remove(&handle);
                continue;
            };
            let from = session.conn.peer;
            loop {
                if self.is_stalled(now) {
                    self.paused = true;
                    return;
                }
                // Where nobody would get it, it waits in the session.
                if !self.subscribers.iter().any(|subscriber| subscriber.wants_message(&from, None, &self.roster)) {
                    break;
                }
                let mut data = Vec::new();
                let taken = self.node.with(handle, now, |peer, _| peer.recv(protocol, &mut data)).flatten();
                if taken.is_none() {
                    if let Some(session) = self.sessions.get_mut(&handle) {
                        session.readable = false;
                    }
                    self.unread.remove(&handle);
                    break;
                }
                let (data, security) = (Bytes::from(data), Security::Native);
                let message = Message { from, data, topic: None, authenticated: true, security };
                self.pass(Some(SwarmEvent::Data(message)));
            }
        }
        // Who has room again is not waited for any more.
        self.paused = self.is_stalled(now);
    }

    pub(super) fn next_unread(&self, after: Option<Handle>) -> Option<Handle> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.unread.range((after.map_or(Unbounded, Excluded), Unbounded)).next().copied()
    }

    /// Whether messages wait for a subscriber. One that is full for too long is waited for no longer.
    pub(super) fn is_stalled(&mut self, now: Instant) -> bool {
        if !self.subscribers.iter().any(Subscriber::is_full) || self.ending.is_some() {
            self.stall = None;
            return false;
        }
        if self.subscribers.iter().any(|s| s.waits_forever() && s.is_full()) {
            // The room is waited for, and no time.
            self.stall = None;
            return true;
        }
        // Counted from the end of this turn: the subscriber could not read while it lasted.
        let until = *self.stall.get_or_insert_with(|| clock::now() + STALL);
        if now < until {
            return true;
        }
        self.subscribers.iter_mut().filter(|s| s.is_full()).for_each(Subscriber::give_up);
        self.stall = None;
        false
    }
}
