//! What the handles and the net task share: wishes in one direction, messages in the other, wake-ups between them.
//!
//! Two locks, both held for a few instructions and never across sealing, I/O, protocol code or each other. They are
//! here because a message through a channel of its own would cost more than sealing it: a sender appends to the
//! outbox of its peer, and the net task is woken once per batch.

#![expect(clippy::disallowed_types, reason = "the locks of the outboxes: see above")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use super::command::Command;
use super::limits::{MESSAGE_COST, OUTBOX_BYTES, TOPICS};
use super::subscriber::Subscriber;
use crate::discovery::{Progress, Report};
use crate::{Closed, JoinError, PeerId, SendError, TopicId, Unsent};

/// Shared by every handle and the net task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: PeerId,
    pub(crate) local: SocketAddr,
    /// The largest message that any peer may be sent.
    pub(crate) max_message: usize,
    pub(crate) commands: mpsc::Sender<Command>,
    /// One permit per broadcast that is under way.
    pub(crate) broadcasts: Arc<Semaphore>,
    outcome: watch::Receiver<Option<Unsent>>,
    sources: Vec<watch::Receiver<Vec<Progress>>>,
    wake: Notify,
    closed: AtomicBool,
    state: Mutex<State>,
}

/// What the handles wish for, until the net task takes it.
#[derive(Debug, Default)]
struct State {
    ending: Option<Ending>,
    topics: BTreeMap<TopicId, Wish>,
    topics_changed: bool,
    subscribers: Vec<Subscriber>,
    outboxes: BTreeMap<PeerId, Arc<Outbox>>,
    ready: Vec<Arc<Outbox>>,
}

/// How the node is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Goodbyes at once.
    Abort,
    /// What waits is sent first, for at most this long.
    Shutdown(Duration),
}

/// How a topic is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    handles: usize,
    pub(crate) announce: bool,
    pub(crate) lookup: bool,
}

/// What changed since the net task looked last.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) ending: Option<Ending>,
    pub(crate) topics: Option<BTreeMap<TopicId, Wish>>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) ready: Vec<Arc<Outbox>>,
}

impl Shared {
    pub(crate) fn new(
        id: PeerId,
        local: SocketAddr,
        max_message: usize,
        commands: mpsc::Sender<Command>,
        outcome: watch::Receiver<Option<Unsent>>,
        sources: Vec<watch::Receiver<Vec<Progress>>>,
    ) -> Self {
        Self {
            id,
            local,
            max_message,
            commands,
            broadcasts: Arc::new(Semaphore::new(super::limits::BROADCASTS)),
            outcome,
            sources,
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held is impossible but for memory exhaustion; the state stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the node takes no new work: it has ended, or was told to.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How the tasks of all sources go.
    pub(crate) fn discovery(&self) -> Report {
        self.sources.iter().flat_map(|source| source.borrow().clone()).collect()
    }

    /// Resolves when a handle has left something for the net task. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Asks for the answer of the net task to a command.
    pub(crate) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        if self.is_closed() || self.commands.send(make(reply)).await.is_err() {
            return Err(Closed);
        }
        answer.await.or(Err(Closed))
    }

    /// Counts one more handle of a topic.
    pub(crate) fn join(&self, topic: TopicId, announce: bool, lookup: bool) -> Result<(), JoinError> {
        if self.is_closed() {
            return Err(JoinError::Closed);
        }
        let mut state = self.state();
        if !state.topics.contains_key(&topic) && state.topics.len() >= TOPICS {
            return Err(JoinError::TooMany { limit: TOPICS });
        }
        let wish = state.topics.entry(topic).or_insert(Wish { handles: 0, announce: false, lookup: false });
        wish.handles = wish.handles.saturating_add(1);
        wish.announce |= announce;
        wish.lookup |= lookup;
        state.topics_changed = true;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Counts one handle of a topic less; without any the topic is left.
    pub(crate) fn leave(&self, topic: TopicId) {
        let mut state = self.state();
        if let Some(wish) = state.topics.get_mut(&topic) {
            wish.handles = wish.handles.saturating_sub(1);
            if wish.handles == 0 {
                state.topics.remove(&topic);
                state.topics_changed = true;
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn subscribe(&self, subscriber: Subscriber) {
        let mut state = self.state();
        // Under the lock, as `close` is: whoever comes later must not wait for a net task that is gone.
        if !self.is_closed() {
            state.subscribers.push(subscriber);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Tells the node to end. The gentler wish that came first stays, but for an abort.
    pub(crate) fn end(&self, ending: Ending) {
        let mut state = self.state();
        if state.ending.is_none() || ending == Ending::Abort {
            state.ending = Some(ending);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Resolves when the node has ended. Cancel-safe.
    pub(crate) async fn ended(&self) -> Unsent {
        let mut outcome = self.outcome.clone();
        // An error means that the runtime has dropped the net task.
        outcome.wait_for(Option::is_some).await.ok().and_then(|unsent| *unsent).unwrap_or_default()
    }

    pub(crate) fn outbox(&self, peer: &PeerId) -> Option<Arc<Outbox>> {
        self.state().outboxes.get(peer).cloned()
    }

    /// Why nothing can be sent to a peer whose outbox is gone or closed.
    pub(crate) fn unreachable(&self, peer: PeerId) -> SendError {
        if self.is_closed() { SendError::Closed } else { SendError::NotConnected { peer } }
    }

    /// Appends to an outbox and tells the net task. Gives false if the outbox is closed.
    pub(crate) fn push(&self, outbox: &Arc<Outbox>, item: Item) -> bool {
        let mut queue = outbox.queue();
        if queue.closed {
            return false;
        }
        queue.items.push_back(item);
        let first = !std::mem::replace(&mut queue.listed, true);
        drop(queue);
        if first {
            self.state().ready.push(Arc::clone(outbox));
            self.wake.notify_one();
        }
        true
    }

    // The side of the net task.

    pub(crate) fn take(&self) -> Changes {
        let mut state = self.state();
        let topics = state.topics_changed.then(|| state.topics.clone());
        state.topics_changed = false;
        Changes {
            ending: state.ending,
            topics,
            subscribers: std::mem::take(&mut state.subscribers),
            ready: std::mem::take(&mut state.ready),
        }
    }

    /// The outboxes that something was put into.
    pub(crate) fn take_ready(&self) -> Vec<Arc<Outbox>> {
        std::mem::take(&mut self.state().ready)
    }

    pub(crate) fn connect(&self, outbox: Arc<Outbox>) {
        self.state().outboxes.insert(outbox.peer, outbox);
    }

    /// Forgets the outbox of a peer, unless a newer connection has replaced it.
    pub(crate) fn disconnect(&self, outbox: &Arc<Outbox>) {
        let mut state = self.state();
        if state.outboxes.get(&outbox.peer).is_some_and(|known| Arc::ptr_eq(known, outbox)) {
            state.outboxes.remove(&outbox.peer);
        }
    }

    /// From now on every handle says that the node has ended.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        self.closed.store(true, Ordering::Release);
        let old = std::mem::take(&mut *state);
        drop(state);
        self.broadcasts.close();
        for outbox in old.outboxes.values() {
            outbox.refuse();
        }
    }
}

/// The messages on their way from the handles to the node, for one connection of one peer.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) peer: PeerId,
    /// The largest message that this peer takes, as far as known.
    max: AtomicUsize,
    /// One permit per byte of room. Fair: who waits longest is served first.
    pub(crate) room: Semaphore,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Whether the net task has been told of these items.
    listed: bool,
    closed: bool,
}

/// A message in an outbox.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) data: Bytes,
    /// Permits to give back once the node has it.
    pub(crate) cost: u32,
    pub(crate) then: Then,
}

/// Who waits for the fate of a message.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nobody: its acceptance was promised already.
    Nothing,
    /// A sender who waits for the answer of the node.
    Reply(oneshot::Sender<Result<(), SendError>>),
    /// The broadcast with this number.
    Broadcast(u64),
}

impl Outbox {
    pub(crate) fn new(peer: PeerId, max_message: usize) -> Self {
        Self {
            peer,
            max: AtomicUsize::new(max_message),
            room: Semaphore::new(OUTBOX_BYTES as usize),
            queue: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The permits that a message of this size takes. One over the whole room takes all of it.
    pub(crate) fn cost(len: usize) -> u32 {
        u32::try_from(len).unwrap_or(u32::MAX).saturating_add(MESSAGE_COST).min(OUTBOX_BYTES)
    }

    /// Whether the peer takes a message of this size, as far as known.
    pub(crate) fn check(&self, len: usize) -> Result<(), SendError> {
        let max = self.max.load(Ordering::Relaxed);
        if len > max { Err(SendError::TooLarge { len, max }) } else { Ok(()) }
    }

    /// Remembers what the node said of the peer.
    pub(crate) fn learn_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Moves everything that waits to the end of `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<Item>) {
        let mut queue = self.queue();
        queue.listed = false;
        if into.is_empty() {
            std::mem::swap(&mut queue.items, into);
        } else {
            into.append(&mut queue.items);
        }
    }

    /// Takes no more messages; those in it stay.
    pub(crate) fn refuse(&self) {
        self.queue().closed = true;
        self.room.close();
    }

    /// Takes no more messages and forgets those in it: who waits for their fate is told that there is none.
    pub(crate) fn abandon(&self) {
        self.refuse();
        let items = std::mem::take(&mut self.queue().items);
        // Whoever is woken by this may come back here.
        drop(items);
    }
}
