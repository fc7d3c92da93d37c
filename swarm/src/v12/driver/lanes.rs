//! From the outboxes into the node: in order for each peer, in turn between peers, and no further than there is room.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::limits::{BROADCAST_PROGRESS, BROADCAST_PROGRESS_BYTES, BROADCAST_RETRY, BROADCAST_TRIES, OUTBOX_PER_VISIT};
use super::shared::{Item, Outbox, Shared, Then};
use crate::v12::{Broadcast, Node};
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
    /// The node said that its queue for the peer is full, and will say when half of it is free.
    full: bool,
    /// Broadcasts among `pending`.
    copies: usize,
    progress: Progress,
    /// Listed in `work`.
    listed: bool,
}

/// How much a peer took while broadcasts waited for it.
#[derive(Debug, Default)]
struct Progress {
    /// Looks at a full queue since the count began: a measure of the time waited that stands still with the task.
    tries: u32,
    taken: usize,
    /// Too little was taken: no broadcast waits for this peer until the node says that there is room.
    lapsed: bool,
}

/// All connected peers, and what waits to be handed to the node.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: BTreeMap<PeerId, Lane>,
    /// Peers that something waits for and that are not full.
    work: VecDeque<PeerId>,
    broadcasts: BTreeMap<u64, Waiting>,
    /// When to look again at the peers that broadcasts wait for, if any.
    retry_at: Option<Instant>,
    next_broadcast: u64,
    max_message: usize,
    /// Messages that were promised to a peer which then left, or that turned out too large for it.
    pub(crate) dropped: u64,
    /// Copies of broadcasts that waited, or would have, for a peer that takes too little.
    pub(crate) skipped: u64,
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
        Self { lanes, work, broadcasts, retry_at: None, next_broadcast: 0, max_message, dropped: 0, skipped: 0 }
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
        let (copies, progress) = (0, Progress::default());
        let lane = Lane { outbox, addr, proof, security, pending, full, copies, progress, listed };
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

    /// The node has room again for a peer, and plenty.
    pub(crate) fn writable(&mut self, peer: &PeerId) {
        if let Some(lane) = self.lanes.get_mut(peer) {
            lane.full = false;
            lane.progress = Progress::default();
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

    /// When [`keep_time`](Self::keep_time) wants to be called.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Has another look at the full peers that broadcasts wait for, since the node speaks up at half a queue only, and
    /// waits no longer for those that take too little.
    pub(crate) fn keep_time(&mut self, now: Instant) {
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        let mut given_up = Vec::new();
        let mut waits = false;
        for (peer, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.copies > 0) {
            // If it is listed still, then the node as a whole had no room, which is not the fault of this peer.
            if lane.full {
                lane.count_try(&mut given_up);
                lane.full = lane.pending.is_empty();
                list(&mut self.work, *peer, lane);
            }
            waits |= lane.copies > 0;
        }
        self.retry_at = if waits { now.checked_add(BROADCAST_RETRY) } else { None };
        for number in given_up {
            self.skip(number);
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
        // What was sent before goes before, also where room has come up that the node has not spoken of.
        for (peer, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.full) {
            lane.outbox.take(&mut lane.pending);
            lane.full = lane.pending.is_empty();
            list(&mut self.work, *peer, lane);
        }
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
                Some(lane) if lane.progress.lapsed => {
                    lane.full = true;
                    self.skip(number);
                }
                Some(lane) => {
                    lane.full = true;
                    lane.copies = lane.copies.saturating_add(1);
                    lane.outbox.take(&mut lane.pending);
                    lane.pending.push_back(Item { data: data.clone(), cost: 0, then: Then::Broadcast(number) });
                }
                // Its connection has not been announced yet.
                None => self.settle(number, false),
            }
        }
        if self.broadcasts.contains_key(&number) && self.retry_at.is_none() {
            self.retry_at = now.checked_add(BROADCAST_RETRY);
        }
    }

    /// One of the peers that a broadcast is for takes too little to be waited for.
    fn skip(&mut self, number: u64) {
        self.skipped = self.skipped.saturating_add(1);
        self.settle(number, false);
    }

    /// One of the peers that a broadcast waited for has it, left or is skipped.
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
    /// One more look at a full queue. Once it has gone on for too long with too little taken, no broadcast waits here
    /// any more: their numbers are added to `given_up`.
    fn count_try(&mut self, given_up: &mut Vec<u64>) {
        self.progress.tries = self.progress.tries.saturating_add(1);
        if self.progress.tries < BROADCAST_TRIES {
            return;
        }
        let lapsed = self.progress.taken < BROADCAST_PROGRESS;
        self.progress = Progress { lapsed, ..Progress::default() };
        if lapsed {
            self.copies = 0;
            // What was sent to this peer alone goes on waiting.
            self.pending.retain(|item| match item.then {
                Then::Broadcast(number) => {
                    given_up.push(number);
                    false
                }
                Then::Nothing | Then::Reply(_) => true,
            });
        }
    }

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
            if result.is_ok() {
                let units = 1 + item.data.len() / BROADCAST_PROGRESS_BYTES;
                self.progress.taken = self.progress.taken.saturating_add(units);
            }
            room = room.saturating_add(item.cost as usize);
            match item.then {
                Then::Nothing if result.is_err() => *dropped = dropped.saturating_add(1),
                Then::Nothing => {}
                Then::Reply(reply) => drop(reply.send(result)),
                Then::Broadcast(number) => {
                    self.copies = self.copies.saturating_sub(1);
                    visit.settled.push((number, result.is_ok()));
                }
            }
        }
        if room > 0 {
            self.outbox.room.add_permits(room);
        }
        visit
    }
}
