//! From the outboxes into the node: in order for each peer, in turn between peers, and no further than there is room.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::limits::OUTBOX_PER_VISIT;
use super::shared::{Item, Outbox, Shared, Then};
use crate::node::{Broadcast, Node};
use crate::{PeerId, Proof, Security, SendError, TopicId};

/// One connected peer.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) addr: SocketAddr,
    pub(crate) proof: Proof,
    pub(crate) security: Security,
    /// Taken from the outbox, not yet taken by the node.
    pending: VecDeque<Item>,
    /// The node said that its queue for the peer is full, and will say when there is room.
    full: bool,
    /// Listed in `work`.
    listed: bool,
}

/// All connected peers, and what waits to be handed to the node.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: BTreeMap<PeerId, Lane>,
    /// Peers that something waits for and that are not full.
    work: VecDeque<PeerId>,
    broadcasts: BTreeMap<u64, Waiting>,
    next_broadcast: u64,
    max_message: usize,
    /// Messages that were promised to a peer which then left, or that turned out too large for it.
    pub(crate) dropped: u64,
}

/// What came of the visit of a lane.
#[derive(Debug)]
struct Visit {
    /// Nothing is left: who puts something into the outbox from now on says so.
    empty: bool,
    /// Broadcasts that this peer got, or cannot get.
    settled: Vec<(u64, bool)>,
}

/// A broadcast that waits for room at some peers.
#[derive(Debug)]
struct Waiting {
    peers: usize,
    sent: usize,
    reply: oneshot::Sender<Result<usize, SendError>>,
    _permit: OwnedSemaphorePermit,
}

impl Lanes {
    pub(crate) fn new(max_message: usize) -> Self {
        let (lanes, work, broadcasts) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self { lanes, work, broadcasts, next_broadcast: 0, max_message, dropped: 0 }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Lane)> {
        self.lanes.iter()
    }

    /// Whether something can be handed to the node.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// Messages that the node has not taken.
    pub(crate) fn pending(&self) -> usize {
        self.lanes.values().map(|lane| lane.pending.len()).sum()
    }

    pub(crate) fn connect(&mut self, peer: PeerId, addr: SocketAddr, proof: Proof, security: Security) -> &Lane {
        let outbox = Arc::new(Outbox::new(peer, self.max_message));
        let (pending, full, listed) = (VecDeque::new(), false, false);
        let lane = Lane { outbox, addr, proof, security, pending, full, listed };
        self.lanes.entry(peer).insert_entry(lane).into_mut()
    }

    pub(crate) fn proved(&mut self, peer: &PeerId) {
        if let Some(lane) = self.lanes.get_mut(peer) {
            lane.proof = Proof::Key;
        }
    }

    /// Gives up what waits for a peer that left.
    pub(crate) fn disconnect(&mut self, peer: &PeerId, shared: &Shared) {
        let Some(mut lane) = self.lanes.remove(peer) else {
            return;
        };
        shared.disconnect(&lane.outbox);
        lane.outbox.refuse();
        lane.outbox.take(&mut lane.pending);
        for item in std::mem::take(&mut lane.pending) {
            match item.then {
                Then::Nothing => self.dropped = self.dropped.saturating_add(1),
                Then::Reply(reply) => drop(reply.send(Err(shared.unreachable(*peer)))),
                Then::Broadcast(number) => self.settle(number, false),
            }
        }
    }

    /// The node has room again for a peer.
    pub(crate) fn writable(&mut self, peer: &PeerId) {
        if let Some(lane) = self.lanes.get_mut(peer) {
            lane.full = false;
            list(&mut self.work, *peer, lane);
        }
    }

    /// Something was put into these outboxes.
    pub(crate) fn ready(&mut self, outboxes: Vec<Arc<Outbox>>) {
        for outbox in outboxes {
            // A message into the outbox of an earlier connection was refused, or given up with it.
            if let Some(lane) = self.lanes.get_mut(&outbox.peer).filter(|lane| Arc::ptr_eq(&lane.outbox, &outbox)) {
                list(&mut self.work, outbox.peer, lane);
            }
        }
    }

    /// Takes everything out of the outboxes, which take no more.
    pub(crate) fn collect(&mut self) {
        for (peer, lane) in &mut self.lanes {
            lane.outbox.take(&mut lane.pending);
            list(&mut self.work, *peer, lane);
        }
    }

    /// Visits every peer that has work once.
    pub(crate) fn visit(&mut self, node: &mut Node, now: Instant) {
        for _ in 0..self.work.len() {
            if node.is_congested() {
                return;
            }
            let Some(peer) = self.work.pop_front() else { return };
            let Some(lane) = self.lanes.get_mut(&peer) else { continue };
            lane.listed = false;
            let visit = lane.hand_over(node, &mut self.dropped, now);
            if !visit.empty {
                list(&mut self.work, peer, lane);
            }
            for (number, sent) in visit.settled {
                self.settle(number, sent);
            }
        }
    }

    /// Sends to the neighbours of a topic, or to every peer. With a permit the answer waits for those that are full.
    pub(crate) fn broadcast(
        &mut self,
        (topic, data): (Option<TopicId>, Bytes),
        permit: Option<OwnedSemaphorePermit>,
        reply: oneshot::Sender<Result<usize, SendError>>,
        node: &mut Node,
        now: Instant,
    ) {
        // What was sent before goes before.
        while self.has_work() && !node.is_congested() {
            self.visit(node, now);
        }
        let result = match &topic {
            Some(topic) => node.publish(topic, data.clone(), now),
            None => node.broadcast(data.clone(), now),
        };
        let Broadcast { sent, full, .. } = match result {
            Ok(broadcast) => broadcast,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let Some(permit) = permit.filter(|_| !full.is_empty()) else {
            return drop(reply.send(Ok(sent)));
        };
        let number = self.next_broadcast;
        self.next_broadcast = number.wrapping_add(1);
        self.broadcasts.insert(number, Waiting { peers: full.len(), sent, reply, _permit: permit });
        for peer in full {
            match self.lanes.get_mut(&peer) {
                Some(lane) => {
                    lane.full = true;
                    lane.outbox.take(&mut lane.pending);
                    lane.pending.push_back(Item { data: data.clone(), cost: 0, then: Then::Broadcast(number) });
                }
                // Its connection has not been announced yet.
                None => self.settle(number, false),
            }
        }
    }

    /// One of the peers that a broadcast waited for has it, or left.
    fn settle(&mut self, number: u64, sent: bool) {
        let Some(waiting) = self.broadcasts.get_mut(&number) else {
            return;
        };
        waiting.peers = waiting.peers.saturating_sub(1);
        waiting.sent = waiting.sent.saturating_add(usize::from(sent));
        if waiting.peers == 0
            && let Some(done) = self.broadcasts.remove(&number)
        {
            drop(done.reply.send(Ok(done.sent)));
        }
    }
}

fn list(work: &mut VecDeque<PeerId>, peer: PeerId, lane: &mut Lane) {
    if !lane.full && !std::mem::replace(&mut lane.listed, true) {
        work.push_back(peer);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.outbox.abandon();
    }
}

impl Lane {
    /// Hands messages to the node until there are none, the visit is over or the node is full.
    fn hand_over(&mut self, node: &mut Node, dropped: &mut u64, now: Instant) -> Visit {
        let (peer, mut room) = (self.outbox.peer, 0usize);
        let mut visit = Visit { empty: false, settled: Vec::new() };
        for _ in 0..OUTBOX_PER_VISIT {
            if self.pending.is_empty() {
                self.outbox.take(&mut self.pending);
            }
            let Some(item) = self.pending.pop_front() else {
                visit.empty = true;
                break;
            };
            let result = node.send(&peer, item.data.clone(), now);
            if result == Err(SendError::Full) {
                self.full = true;
                self.pending.push_front(item);
                break;
            }
            if let Err(SendError::TooLarge { max, .. }) = &result {
                self.outbox.learn_max(*max);
            }
            room = room.saturating_add(item.cost as usize);
            match item.then {
                Then::Nothing if result.is_err() => *dropped = dropped.saturating_add(1),
                Then::Nothing => {}
                Then::Reply(reply) => drop(reply.send(result)),
                Then::Broadcast(number) => visit.settled.push((number, result.is_ok())),
            }
        }
        if room > 0 {
            self.outbox.room.add_permits(room);
        }
        visit
    }
}
