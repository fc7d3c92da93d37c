//! What the node says, on its way to subscribers and to callers that wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use structs::Machine;
use tokio::sync::oneshot;

use super::limits::STALL;
use super::subscriber::{Subscriber, connected};
use super::{Driver, Message, SwarmEvent};
use crate::clock;
use crate::v12::Event;

impl Driver {
    /// Passes the node's events on, unless a subscriber that is worth the wait has no room. Returns whether they gave
    /// cause for another turn.
    pub(super) fn pass_events(&mut self, now: Instant) -> bool {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &mut self.subscribers {
            subscriber.catch_up(&self.lanes, &self.shared);
        }
        let stalled = self.stall.is_some();
        let mut passed = false;
        loop {
            // A node that ends waits for nobody.
            if self.subscribers.iter().any(Subscriber::is_full) && self.ending.is_none() {
                // Counted from the end of this turn: the subscriber could not read while it lasted.
                let until = *self.stall.get_or_insert_with(|| clock::now() + STALL);
                if now < until {
                    return false;
                }
                self.subscribers.iter_mut().filter(|s| s.is_full()).for_each(Subscriber::give_up);
            }
            self.stall = None;
            match self.node.poll_event() {
                Some(event) => self.pass(event),
                None => break,
            }
            passed = true;
        }
        passed || stalled
    }

    fn pass(&mut self, event: Event) {
        let event = match event {
            Event::Connected { peer, addr, proof, security } => {
                let lane = self.lanes.connect(peer, addr, proof, security);
                self.shared.connect(Arc::clone(&lane.outbox));
                connected(lane, &self.shared)
            }
            Event::Proved { peer } => {
                self.lanes.proved(&peer);
                SwarmEvent::Proved { peer }
            }
            Event::Message { from, data, authenticated } => SwarmEvent::Data(Message { from, data, authenticated }),
            Event::Missed { from, count } => SwarmEvent::Missed { from, count },
            Event::Disconnected { peer, reason } => {
                self.lanes.disconnect(&peer, &self.shared);
                SwarmEvent::Disconnected { peer, reason }
            }
            Event::Synced { key, value, from } => SwarmEvent::Synced { key, value, from },
            Event::Writable { peer } => return self.lanes.writable(&peer),
            Event::Dialled { id, peer } => return answer(&mut self.dials, &id, Ok(peer)),
            Event::DialFailed { id, error } => return answer(&mut self.dials, &id, Err(error)),
            Event::Fetched { id, result } => return answer(&mut self.fetches, &id, result),
            Event::Closed { unsent } => return self.unsent = unsent,
        };
        for subscriber in &mut self.subscribers {
            subscriber.pass(&event, &self.lanes, &self.shared);
        }
    }
}

/// Gives the caller of a finished command its answer. Seeds are dialled for nobody.
fn answer<K: Ord, T>(waiting: &mut BTreeMap<K, oneshot::Sender<T>>, id: &K, result: T) {
    if let Some(reply) = waiting.remove(id) {
        // The caller may have given up.
        let _ = reply.send(result);
    }
}
