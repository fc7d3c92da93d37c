//! What the handles and the net task share: wishes in one direction, sessions in the other, wake-ups between them.

#![expect(
    clippy::disallowed_types,
    reason = "the lock of wishes and of the list of sessions, held for a few instructions"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crypto::Rng;
use relay::client::Named;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::addresses::Book;
use super::command::Command;
use super::conn::{Conn, Gone, Ready};
use super::limits::{PUBLICATIONS, QUERIES, RELAY_PATIENCE, RELAY_PATIENCE_ALONE, REMEMBERED, SEEDS, TOPICS};
use super::listening::Bound;
use super::relays::{Outward, learn_all};
use super::services::Services;
use super::source::Reports;
use super::subscriber::Subscriber;
use super::target::{DialTarget, Resolved};
use crate::discovery::Report;
use crate::nat::Nat;
use crate::{Closed, DialError, DialWay, JoinError, PeerId, RequestError, SendError, TopicId, Unsent};

/// Shared by every handle and the net task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: PeerId,
    /// What the node listens on.
    pub(crate) bound: watch::Sender<Bound>,
    #[cfg(feature = "portmap")]
    pub(crate) mapping: watch::Receiver<crate::nat::PortMapping>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) ready: Arc<Ready>,
    pub(crate) services: Services,
    /// What each source tells about its tasks.
    sources: Vec<Reports>,
    /// One permit per query of a handle in the distributed hash table.
    pub(crate) queries: Arc<Semaphore>,
    /// One permit per publication that is under way.
    pub(crate) publications: Arc<Semaphore>,
    /// Where this node is for others.
    pub(crate) outward: watch::Receiver<Outward>,
    outcome: watch::Receiver<Option<Unsent>>,
    closed: AtomicBool,
    state: Mutex<State>,
    rng: Mutex<Rng>,
    nat: watch::Sender<Nat>,
}

/// What the handles wish for, until the net task takes it; and who is there.
#[derive(Debug, Default)]
struct State {
    ending: Option<Ending>,
    topics: BTreeMap<TopicId, Wish>,
    topics_changed: bool,
    subscribers: Vec<Subscriber>,
    seeds: Vec<DialTarget>,
    conns: BTreeMap<PeerId, Arc<Conn>>,
    /// Where peers were last, who are not connected any more.
    remembered: BTreeMap<PeerId, Last>,
    /// Where they are, as the owner says.
    book: Book,
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
    pub(crate) seeds: Vec<DialTarget>,
}

impl Shared {
    pub(crate) fn new(
        id: PeerId,
        bound: Bound,
        commands: mpsc::Sender<Command>,
        outcome: watch::Receiver<Option<Unsent>>,
        sources: Vec<Reports>,
        outward: watch::Receiver<Outward>,
        rng: Rng,
    ) -> Self {
        Self {
            id,
            bound: watch::Sender::new(bound),
            #[cfg(feature = "portmap")]
            mapping: watch::channel(crate::nat::PortMapping::Off).1,
            sources,
            commands,
            ready: Arc::default(),
            services: Services::default(),
            queries: Arc::new(Semaphore::new(QUERIES)),
            publications: Arc::new(Semaphore::new(PUBLICATIONS)),
            outward,
            outcome,
            closed: AtomicBool::new(false),
            state: Mutex::default(),
            rng: Mutex::new(rng),
            nat: watch::Sender::default(),
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
        self.ready.wake();
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
        self.ready.wake();
    }

    pub(crate) fn subscribe(&self, subscriber: Subscriber) {
        let mut state = self.state();
        // Under the lock, as `close` is: whoever comes later must not wait for a net task that is gone.
        if !self.is_closed() {
            state.subscribers.push(subscriber);
            drop(state);
            self.ready.wake();
        }
    }

    /// One more peer to dial while nobody is connected. Beyond the bound the node has enough of them.
    pub(crate) fn add_seed(&self, seed: DialTarget) {
        let mut state = self.state();
        if state.seeds.len() < SEEDS {
            state.seeds.push(seed);
        }
        drop(state);
        self.ready.wake();
    }

    /// Tells the node to end. The gentler wish that came first stays, but for an abort.
    pub(crate) fn end(&self, ending: Ending) {
        let mut state = self.state();
        if state.ending.is_none() || ending == Ending::Abort {
            state.ending = Some(ending);
        }
        drop(state);
        self.ready.wake();
    }

    /// Resolves when the node has ended. Cancel-safe.
    pub(crate) async fn ended(&self) -> Unsent {
        let mut outcome = self.outcome.clone();
        // An error means that the runtime has dropped the net task.
        outcome.wait_for(Option::is_some).await.ok().and_then(|unsent| *unsent).unwrap_or_default()
    }

    /// The open session with a peer.
    pub(crate) fn conn(&self, peer: &PeerId) -> Option<Arc<Conn>> {
        self.state().conns.get(peer).cloned()
    }

    /// All open sessions.
    pub(crate) fn conns(&self) -> Vec<Arc<Conn>> {
        self.state().conns.values().cloned().collect()
    }

    /// How many sessions are open.
    pub(crate) fn connected(&self) -> usize {
        self.state().conns.len()
    }

    /// A random number below this one, or 0 if that is 0.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(limit)
    }

    /// Puts sessions into a random order.
    pub(crate) fn shuffle(&self, conns: &mut [Arc<Conn>]) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        for last in (1..conns.len()).rev() {
            let other = usize::try_from(rng.below(last as u64 + 1)).unwrap_or(last);
            conns.swap(last, other);
        }
    }

    /// Connects to whom a target names, where that and the owner say that he is.
    pub(crate) async fn dial(&self, mut target: DialTarget) -> Result<PeerId, DialError> {
        let (relays, way) = (std::mem::take(&mut target.relays), target.way);
        let Resolved { peer, mut addrs, streams } = target.resolve().await?;
        if let Some(peer) = peer.filter(|_| way != DialWay::Relayed) {
            let known = self.with_book(|book| book.of(&peer));
            addrs.extend(known.into_iter().filter(|addr| !addrs.contains(addr)).collect::<Vec<_>>());
        }
        let alone = addrs.is_empty() && streams.is_empty();
        let patience = if alone { RELAY_PATIENCE_ALONE } else { RELAY_PATIENCE };
        let relays = learn_all(relays, patience, &self.commands).await;
        let answer = self.ask(|reply| Command::Dial { peer, addrs, streams, relays, way, reply }).await;
        answer.unwrap_or(Err(DialError::Closed))
    }

    /// Dials a peer that was connected before.
    pub(crate) async fn connect_again(&self, peer: PeerId) -> Result<Arc<Conn>, RequestError> {
        if self.is_closed() {
            return Err(RequestError::Closed);
        }
        let (addrs, relays) = {
            let state = self.state();
            let (last, relay) = match state.remembered.get(&peer) {
                Some(Last::At(addr)) => (Some(*addr), None),
                Some(Last::Behind(relay, addr)) => (None, named(*relay, *addr)),
                None => (None, None),
            };
            let known = state.book.of(&peer).into_iter().filter(|addr| Some(*addr) != last);
            let addrs: Vec<SocketAddr> = last.into_iter().chain(known).collect();
            (addrs, Vec::from_iter(relay))
        };
        if addrs.is_empty() && relays.is_empty() {
            return Err(RequestError::Dial(DialError::NoAddress));
        }
        let (streams, way) = (Vec::new(), DialWay::Any);
        let dialled = self.ask(|reply| Command::Dial { peer: Some(peer), addrs, streams, relays, way, reply }).await;
        dialled.or(Err(RequestError::Closed))?.map_err(RequestError::Dial)?;
        self.conn(&peer).ok_or(RequestError::Disconnected)
    }

    /// Looks at what the owner says of addresses, or changes it.
    pub(crate) fn with_book<R>(&self, with: impl FnOnce(&mut Book) -> R) -> R {
        with(&mut self.state().book)
    }

    /// How the tasks of all sources go.
    pub(crate) fn discovery(&self) -> Report {
        self.sources.iter().flat_map(|source| source.borrow().clone()).collect()
    }

    /// What is known of the NAT.
    pub(crate) fn nat(&self) -> Nat {
        self.nat.borrow().clone()
    }

    pub(crate) fn set_nat(&self, nat: &Nat) {
        self.nat.send_replace(nat.clone());
    }

    /// Why nothing can be sent to a peer without an open session.
    pub(crate) fn unreachable(&self, peer: PeerId) -> SendError {
        if self.is_closed() { SendError::Closed } else { SendError::NotConnected { peer } }
    }

    // The side of the net task.

    pub(crate) fn take(&self) -> Changes {
        let mut state = self.state();
        let topics = state.topics_changed.then(|| state.topics.clone());
        state.topics_changed = false;
        let (subscribers, seeds) = (std::mem::take(&mut state.subscribers), std::mem::take(&mut state.seeds));
        Changes { ending: state.ending, topics, subscribers, seeds }
    }

    pub(crate) fn connect(&self, conn: Arc<Conn>) {
        let mut state = self.state();
        state.remembered.remove(&conn.peer);
        state.conns.insert(conn.peer, conn);
    }

    /// Forgets a session, unless a newer one has replaced it, and remembers where the peer was.
    pub(crate) fn disconnect(&self, conn: &Arc<Conn>, last: Last) {
        let mut state = self.state();
        if state.conns.get(&conn.peer).is_some_and(|known| Arc::ptr_eq(known, conn)) {
            state.conns.remove(&conn.peer);
            if state.remembered.len() >= REMEMBERED {
                state.remembered.pop_first();
            }
            state.remembered.insert(conn.peer, last);
        }
    }

    /// From now on every handle says that the node has ended.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        self.closed.store(true, Ordering::Release);
        let old = std::mem::take(&mut *state);
        drop(state);
        self.publications.close();
        self.queries.close();
        self.services.clear();
        for conn in old.conns.values() {
            drop(conn.close(Gone::Closed));
        }
    }
}

/// Where a peer was when its session ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Last {
    /// At this address.
    At(SocketAddr),
    /// Behind this relay, which is at the address.
    Behind(PeerId, SocketAddr),
}

fn named(relay: PeerId, addr: SocketAddr) -> Option<Named> {
    let relay = crypto::PeerId::try_from(relay).ok()?;
    Some(Named { relay, addrs: vec![addr] })
}
