//! The net task's end of an event stream.
//!
//! A subscriber that does not read costs its own events and nothing else: its queue is bounded, what does not fit is
//! counted, and who is present is worked out again once it reads on, so that joins and leaves never get lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::conn::Conn;
use super::events::{Message, SwarmEvent};
use super::handle::Peer;
use super::limits::EVENTS;
use super::queue::{Overflow, Receiver, Sender, queue};
use super::shared::Shared;
use crate::{DisconnectReason, PeerId, Proof, Security, TopicId};

/// Who is connected, and in which topics.
#[derive(Debug)]
pub(crate) struct Roster {
    shared: Arc<Shared>,
    peers: BTreeMap<PeerId, Present>,
}

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Present {
    pub(crate) conn: Arc<Conn>,
    /// Where it is.
    pub(crate) addr: SocketAddr,
    pub(crate) topics: Topics,
}

/// The topics that somebody is in: few, and none as a rule.
#[derive(Debug, Default, Clone)]
pub(crate) struct Topics(Vec<TopicId>);

impl Topics {
    pub(crate) fn contains(&self, topic: &TopicId) -> bool {
        self.0.binary_search(topic).is_ok()
    }

    pub(crate) fn insert(&mut self, topic: TopicId) {
        if let Err(at) = self.0.binary_search(&topic) {
            self.0.insert(at, topic);
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, topic: &TopicId) -> bool {
        self.0.binary_search(topic).map(|at| self.0.remove(at)).is_ok()
    }
}

impl IntoIterator for Topics {
    type Item = TopicId;
    type IntoIter = std::vec::IntoIter<TopicId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Roster {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, peers: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(crate) fn insert(&mut self, conn: Arc<Conn>, addr: SocketAddr) {
        self.peers.insert(conn.peer, Present { conn, addr, topics: Topics::default() });
    }

    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    pub(crate) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Present> {
        self.peers.get_mut(peer)
    }

    fn handle(&self, present: &Present) -> Peer {
        Peer::native(Arc::clone(&self.shared), present.conn.peer, Some(Arc::clone(&present.conn)))
    }

    /// The event that says that a peer is there, to a subscriber of everything.
    pub(crate) fn connected(&self, peer: &PeerId) -> Option<SwarmEvent> {
        let present = self.peers.get(peer)?;
        let (addr, proof, security) = (present.addr, Proof::Key, Security::Native);
        Some(SwarmEvent::Connected { peer: self.handle(present), addr, proof, security })
    }

    /// The event that says that a peer is in a topic.
    pub(crate) fn joined(&self, topic: TopicId, peer: &PeerId) -> Option<SwarmEvent> {
        self.peers.get(peer).map(|present| SwarmEvent::Joined { topic, peer: self.handle(present) })
    }

    fn shares(&self, topic: &TopicId, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|present| present.topics.contains(topic))
    }
}

/// One stream of events.
#[derive(Debug)]
pub(crate) struct Subscriber {
    events: Sender,
    overflow: Overflow,
    /// Set for the events of a topic, which are fewer.
    topic: Option<TopicId>,
    /// Peers that the subscriber was told are there: connected, or in its topic.
    known: BTreeSet<PeerId>,
    /// Those of them that left while it was behind.
    gone: BTreeMap<PeerId, DisconnectReason>,
    lost: u64,
    /// Whether presence has to be worked out before anything else is sent. So it begins.
    behind: bool,
    /// Whether messages wait for it. Whoever lost some must first read everything there is.
    patience: bool,
}

impl Subscriber {
    pub(crate) fn new(topic: Option<TopicId>, overflow: Overflow) -> (Self, Receiver) {
        let (events, receiver) = queue();
        let (known, gone) = (BTreeSet::new(), BTreeMap::new());
        (Self { events, overflow, topic, known, gone, lost: 0, behind: true, patience: true }, receiver)
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    pub(crate) const fn topic(&self) -> Option<&TopicId> {
        self.topic.as_ref()
    }

    /// Whether messages should wait for this subscriber.
    pub(crate) fn is_full(&self) -> bool {
        let waits = match self.overflow {
            Overflow::Patience => self.patience,
            Overflow::Wait => true,
            Overflow::DropNewest | Overflow::DropOldest => false,
        };
        waits && self.events.capacity() == 0 && !self.is_closed()
    }

    /// Whether messages wait for this subscriber for as long as it takes.
    pub(crate) fn waits_forever(&self) -> bool {
        self.overflow == Overflow::Wait
    }

    /// No more waiting: what does not fit is lost to it.
    pub(crate) fn give_up(&mut self) {
        self.patience = false;
    }

    /// Resolves when half of the queue is free, so that the net task is not woken for every event that is read.
    /// Cancel-safe.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + use<> {
        self.events.room()
    }

    /// Whether a message of this peer, for this topic or for this node alone, would be passed on.
    pub(crate) fn wants_message(&self, from: &PeerId, topic: Option<&TopicId>, roster: &Roster) -> bool {
        match (&self.topic, topic) {
            (None, _) => true,
            (Some(own), Some(topic)) => own == topic,
            (Some(own), None) => roster.shares(own, from),
        }
    }

    fn wants(&self, event: &SwarmEvent, roster: &Roster) -> bool {
        match (event, &self.topic) {
            (SwarmEvent::Data(Message { from, topic, .. }), _) => self.wants_message(from, topic.as_ref(), roster),
            (SwarmEvent::Joined { topic, .. } | SwarmEvent::Left { topic, .. }, Some(own)) => topic == own,
            (_, Some(_)) => false,
            // Peers cause as many as they like.
            (SwarmEvent::RequestFailed { .. }, None) => self.events.capacity() >= EVENTS / 2,
            (_, None) => true,
        }
    }

    /// Passes an event on, or notes that it is lost.
    pub(crate) fn pass(&mut self, event: &SwarmEvent, roster: &Roster) {
        if !self.wants(event, roster) {
            return;
        }
        self.catch_up(roster);
        let presence = self.presence(event);
        if let Some((peer, is_there)) = presence
            && self.known.contains(&peer) == is_there
            && !self.behind
        {
            // Catching up has just told of it, or never did.
            return;
        }
        let sent = !self.behind
            && match (self.overflow, presence) {
                (Overflow::DropOldest, None) => self.events.force(event.clone()),
                _ => self.events.try_send(event.clone()),
            };
        if sent {
            match presence {
                Some((peer, true)) => drop(self.known.insert(peer)),
                Some((peer, false)) => drop(self.known.remove(&peer)),
                None => {}
            }
            return;
        }
        self.behind = true;
        match (presence, event) {
            // Who is there is worked out later.
            (Some((_, true)), _) => {}
            (Some((peer, false)), SwarmEvent::Disconnected { reason, .. } | SwarmEvent::Left { reason, .. }) => {
                if self.known.contains(&peer) {
                    self.gone.insert(peer, *reason);
                }
            }
            _ => self.lost = self.lost.saturating_add(1),
        }
    }

    /// Who comes or goes by an event, as this subscriber sees it.
    fn presence(&self, event: &SwarmEvent) -> Option<(PeerId, bool)> {
        match event {
            SwarmEvent::Connected { peer, .. } if self.topic.is_none() => Some((peer.id(), true)),
            SwarmEvent::Disconnected { peer, .. } if self.topic.is_none() => Some((*peer, false)),
            SwarmEvent::Joined { peer, .. } if self.topic.is_some() => Some((peer.id(), true)),
            SwarmEvent::Left { peer, .. } if self.topic.is_some() => Some((*peer, false)),
            _ => None,
        }
    }

    /// Tells what the subscriber missed, as far as there is room.
    pub(crate) fn catch_up(&mut self, roster: &Roster) {
        self.patience |= self.events.capacity() == EVENTS;
        // With half of the queue free it has begun to read again; before, this would only fail.
        if !self.behind || (self.lost > 0 && self.events.capacity() < EVENTS / 2) {
            return;
        }
        if self.lost > 0 {
            if !self.events.try_send(SwarmEvent::Lagged(self.lost)) {
                return;
            }
            self.lost = 0;
        }
        while let Some((&peer, &reason)) = self.gone.first_key_value() {
            let event = match self.topic {
                Some(topic) => SwarmEvent::Left { topic, peer, reason },
                None => SwarmEvent::Disconnected { peer, reason },
            };
            if !self.events.try_send(event) {
                return;
            }
            self.gone.pop_first();
            self.known.remove(&peer);
        }
        for (id, present) in &roster.peers {
            let event = match &self.topic {
                _ if self.known.contains(id) => continue,
                Some(topic) if present.topics.contains(topic) => roster.joined(*topic, id),
                Some(_) => None,
                None => roster.connected(id),
            };
            let Some(event) = event else { continue };
            if !self.events.try_send(event) {
                return;
            }
            self.known.insert(*id);
        }
        self.behind = false;
    }
}
