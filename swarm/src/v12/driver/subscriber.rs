//! The net task's end of an event stream.
//!
//! A subscriber that does not read costs its own events and nothing else: its queue is bounded, what does not fit is
//! counted, and who is present is worked out again once it reads on, so that joins and leaves never get lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::events::SwarmEvent;
use super::handle::Peer;
use super::lanes::{Lane, Lanes};
use super::limits::EVENTS;
use super::shared::Shared;
use crate::{DisconnectReason, PeerId, TopicId};

/// One stream of events.
#[derive(Debug)]
pub(crate) struct Subscriber {
    events: mpsc::Sender<SwarmEvent>,
    /// Set for the events of a topic, which are fewer.
    topic: Option<TopicId>,
    /// Peers that the subscriber was told are there.
    known: BTreeSet<PeerId>,
    /// Those of them that left while it was behind.
    gone: BTreeMap<PeerId, DisconnectReason>,
    lost: u64,
    /// Whether presence has to be worked out before anything else is sent. So it begins.
    behind: bool,
    /// Whether the node stops receiving for it. Whoever lost events must first read everything there is.
    patience: bool,
}

impl Subscriber {
    pub(crate) fn new(topic: Option<TopicId>) -> (Self, mpsc::Receiver<SwarmEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let (known, gone) = (BTreeSet::new(), BTreeMap::new());
        (Self { events, topic, known, gone, lost: 0, behind: true, patience: true }, receiver)
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    pub(crate) const fn topic(&self) -> Option<&TopicId> {
        self.topic.as_ref()
    }

    /// Whether the node should wait for this subscriber before it takes in more.
    pub(crate) fn is_full(&self) -> bool {
        self.patience && self.events.capacity() == 0 && !self.is_closed()
    }

    /// No more waiting: what does not fit is lost to it.
    pub(crate) fn give_up(&mut self) {
        self.patience = false;
    }

    /// Resolves when half of the queue is free, so that the net task is not woken for every event that is read.
    /// Cancel-safe.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + use<> {
        let events = self.events.clone();
        async move { drop(events.reserve_many(EVENTS / 2).await) }
    }

    /// Passes an event on, or notes that it is lost.
    pub(crate) fn pass(&mut self, event: &SwarmEvent, lanes: &Lanes, shared: &Arc<Shared>) {
        if !self.wants(event) {
            return;
        }
        self.catch_up(lanes, shared);
        let told = |peer: &PeerId| self.known.contains(peer);
        let settled = match event {
            // Catching up has just told of it, or never did.
            SwarmEvent::Connected { peer, .. } => told(&peer.id()) && !self.behind,
            SwarmEvent::Disconnected { peer, .. } => !told(peer),
            _ => false,
        };
        if settled {
            return;
        }
        if !self.behind && self.events.try_send(event.clone()).is_ok() {
            match event {
                SwarmEvent::Connected { peer, .. } => drop(self.known.insert(peer.id())),
                SwarmEvent::Disconnected { peer, .. } => drop(self.known.remove(peer)),
                _ => {}
            }
            return;
        }
        self.behind = true;
        match event {
            // Who is there is worked out later.
            SwarmEvent::Connected { .. } => {}
            SwarmEvent::Disconnected { peer, reason } => {
                if self.known.contains(peer) {
                    self.gone.insert(*peer, *reason);
                }
            }
            _ => self.lost = self.lost.saturating_add(1),
        }
    }

    /// Tells what the subscriber missed, as far as there is room.
    pub(crate) fn catch_up(&mut self, lanes: &Lanes, shared: &Arc<Shared>) {
        self.patience |= self.events.capacity() == EVENTS;
        // With half of the queue free it has begun to read again; before, this would only fail.
        if !self.behind || (self.lost > 0 && self.events.capacity() < EVENTS / 2) {
            return;
        }
        if self.lost > 0 {
            if self.events.try_send(SwarmEvent::Lagged(self.lost)).is_err() {
                return;
            }
            self.lost = 0;
        }
        while let Some((&peer, &reason)) = self.gone.first_key_value() {
            if self.events.try_send(SwarmEvent::Disconnected { peer, reason }).is_err() {
                return;
            }
            self.gone.pop_first();
            self.known.remove(&peer);
        }
        for (id, lane) in lanes.iter() {
            if !self.known.contains(id) {
                if self.events.try_send(connected(lane, shared)).is_err() {
                    return;
                }
                self.known.insert(*id);
            }
        }
        self.behind = false;
    }

    fn wants(&self, event: &SwarmEvent) -> bool {
        let of_topic = matches!(
            event,
            SwarmEvent::Connected { .. }
                | SwarmEvent::Data(_)
                | SwarmEvent::Disconnected { .. }
                | SwarmEvent::Lagged(_)
        );
        self.topic.is_none() || of_topic
    }
}

/// The event that says that the peer of this lane is there.
pub(crate) fn connected(lane: &Lane, shared: &Arc<Shared>) -> SwarmEvent {
    let peer = Peer::connected(Arc::clone(shared), Arc::clone(&lane.outbox));
    SwarmEvent::Connected { peer, addr: lane.addr, proof: lane.proof, security: lane.security }
}
