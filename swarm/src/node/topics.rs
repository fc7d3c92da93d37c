//! Topics: membership proved inside of sessions, and messages for all of the neighbours (SPEC 10.2).
//!
//! Each side of a session keeps a table of tags at the other: a tag is made from a topic and a secret of the session,
//! so it proves to who knows the topic that its sender does, and says nothing to others. Slots without a topic hold
//! random tags. A publication names the place of its tag, so it is the same bytes for every neighbour.
//!
//! | file | content |
//! |---|---|
//! | `topics.rs` | [`Topics`]: commands, dispatch, events |
//! | `topics/frame.rs` | the messages of the protocol |
//! | `topics/neighbour.rs` | what is known of one session, and what it has yet to be told |

mod frame;
mod neighbour;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Instant;

use bytes::Bytes;
use crypto::{Rng, Seed};
use framing::{DecodeError, Role};
use peer::Handle;
use structs::{Epoch, Lru, SlidingWindow};

use self::frame::{Frame, Place};
use self::neighbour::{Neighbour, News};
use crate::{JoinError, PeerId, TopicId};

/// The name of the protocol, whose version is 1 (SPEC 10.2). Its messages are reliable, in order, and of one urgency.
pub(crate) const PROTOCOL: &str = "setowire/topic";
/// Topics joined at once.
pub(crate) const MAX_TOPICS: usize = 64;
/// The longest message of the protocol.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;
/// The longest data of a publication.
pub(crate) const MAX_DATA: usize = MAX_MESSAGE - frame::OVERHEAD;
/// The fewest slots of a table, so that the first topics change nothing that a stranger sees (SPEC 10.2).
const MIN_SLOTS: usize = 4;
/// Authors whose publications are remembered, each with the last 1024: 250 KiB and about as much for the table.
const MAX_AUTHORS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// Numbers for each millisecond of the unix time: nobody publishes more, so those of a later run are higher (SPEC
/// 10.2).
const PER_MS: u64 = 1 << 20;

// A table has as many slots as a byte can number.
const _: () = assert!(MAX_TOPICS.is_power_of_two() && MAX_TOPICS <= 256);

/// The topics of a node and who shares them, over all of its sessions.
///
/// The owner moves messages: what [`poll_send`](Self::poll_send) and [`publish`](Self::publish) give goes into the
/// channel of the session in the order it was given, what comes out of it goes to [`on_message`](Self::on_message). It
/// takes all events after each call, so that at most what one message can cause is waiting.
pub(crate) struct Topics {
    topics: BTreeMap<TopicId, Joined>,
    /// Our table: a power of two of slots.
    slots: Vec<Slot>,
    /// Boxed, since the nodes of a tree whose keys rise are half empty.
    neighbours: BTreeMap<Handle, Box<Neighbour>>,
    /// Neighbours that have to be told something and whose channel is not full.
    ready: BTreeSet<Handle>,
    /// Which numbers of an author were delivered.
    authors: Lru<PeerId, SlidingWindow>,
    /// The number of our next publication.
    next: u64,
    v12_key: Option<[u8; 32]>,
    events: VecDeque<Event>,
    counters: Counters,
    /// For containers that want a time and have no use for it here.
    origin: Instant,
    rng: Rng,
}

/// A slot of our table.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Raised with every change; random at first, so that it says nothing about what was before.
    turn: u8,
    /// What its tag is made from; without one it is random.
    topic: Option<TopicId>,
}

#[derive(Debug)]
struct Joined {
    /// Our slot.
    slot: u8,
    neighbours: BTreeSet<Handle>,
}

/// What happened in the topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A neighbour proved to be in one of our topics, and has been told that we are.
    Joined {
        /// The topic.
        topic: TopicId,
        /// The session.
        conn: Handle,
        /// Who is at its other side.
        peer: PeerId,
    },
    /// A neighbour left one of our topics, or its session ended. Our own [`leave`](Topics::leave) causes none.
    Left {
        /// The topic.
        topic: TopicId,
        /// The session, which may be over.
        conn: Handle,
        /// Who is at its other side.
        peer: PeerId,
    },
    /// A publication in one of our topics, delivered for the first time.
    Message {
        /// The topic.
        topic: TopicId,
        /// The session that it came by.
        conn: Handle,
        /// Its author.
        from: PeerId,
        /// What was published.
        data: Bytes,
    },
    /// A neighbour says that this is its key on the v12 wire. It proves nothing: who says so may mean to keep us from
    /// a stranger with that key.
    V12Key {
        /// The session.
        conn: Handle,
        /// The key.
        key: [u8; 32],
    },
}

/// What was not delivered, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Publications delivered.
    pub delivered: u64,
    /// Publications that were delivered before, or too long ago to tell.
    pub duplicates: u64,
    /// Publications in topics that their sender did not prove, or that we are not in.
    pub unproved: u64,
    /// Messages of later versions.
    pub unknown: u64,
}

/// Why a message does not follow the protocol: the session can go on without this protocol only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Malformed {
    /// Nothing in it, too short, or slots that do not ascend.
    #[error("a malformed message: {0}")]
    Frame(#[from] DecodeError),
    /// The session was not announced, or is over.
    #[error("a message of a session that is not connected")]
    NotConnected,
}

/// Why something was not published. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PublishError {
    /// The topic is not joined.
    #[error("the topic is not joined")]
    NotJoined,
    /// More than a message can carry.
    #[error("{len} bytes are more than the {max} of a publication")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
}

/// A publication on its way out.
#[derive(Debug)]
pub(crate) struct Publication {
    /// The message, the same for all.
    pub(crate) frame: Bytes,
    /// The sessions whose channels it goes into, in order.
    pub(crate) neighbours: Vec<Handle>,
}

impl Topics {
    /// No topics and no sessions. `seed` must be this machine's alone.
    ///
    /// Publications are numbered from `epoch` on, so those of a run are above those of the run before.
    pub(crate) fn new(epoch: Epoch, seed: &Seed) -> Self {
        let unix_ms = u64::try_from(epoch.unix.as_millis()).unwrap_or(u64::MAX);
        let mut topics = Self {
            topics: BTreeMap::new(),
            slots: Vec::new(),
            neighbours: BTreeMap::new(),
            ready: BTreeSet::new(),
            authors: Lru::new(MAX_AUTHORS),
            next: unix_ms.saturating_mul(PER_MS),
            v12_key: None,
            events: VecDeque::new(),
            counters: Counters::default(),
            origin: epoch.instant,
            rng: seed.rng(),
        };
        topics.grow(MIN_SLOTS);
        topics
    }

    /// Joins a topic; nothing if it is joined. Neighbours are told, and those that told it are in it.
    ///
    /// # Errors
    ///
    /// [`JoinError::TooMany`] above 64 topics.
    pub(crate) fn join(&mut self, topic: TopicId) -> Result<(), JoinError> {
        if self.topics.contains_key(&topic) {
            return Ok(());
        }
        if self.topics.len() >= MAX_TOPICS {
            return Err(JoinError::TooMany { limit: MAX_TOPICS });
        }
        let mut changed = Vec::new();
        if self.topics.len() == self.slots.len() {
            let len = self.slots.len();
            self.grow(len * 2);
            changed.extend((len..self.slots.len()).filter_map(|slot| u8::try_from(slot).ok()));
        }
        let slot = self.free_slot();
        self.set_slot(slot, Some(topic));
        changed.push(slot);
        self.topics.insert(topic, Joined { slot, neighbours: BTreeSet::new() });
        for (conn, neighbour) in &mut self.neighbours {
            neighbour.expect(topic);
            neighbour.owe_slots(changed.iter().copied());
            if neighbour.is_ready() {
                self.ready.insert(*conn);
            }
        }
        Ok(())
    }

    /// Leaves a topic; nothing if it is not joined. Neighbours find a random tag where that of the topic was.
    pub(crate) fn leave(&mut self, topic: &TopicId) {
        let Some(Joined { slot, .. }) = self.topics.remove(topic) else { return };
        self.set_slot(slot, None);
        for (conn, neighbour) in &mut self.neighbours {
            neighbour.forget(topic);
            neighbour.owe_slots([slot]);
            if neighbour.is_ready() {
                self.ready.insert(*conn);
            }
        }
    }

    /// The topics joined, in order.
    pub(crate) fn joined(&self) -> impl Iterator<Item = &TopicId> {
        self.topics.keys()
    }

    /// The neighbours in a topic, in order: those that [`publish`](Self::publish) names.
    pub(crate) fn neighbours(&self, topic: &TopicId) -> impl Iterator<Item = Handle> {
        self.topics.get(topic).into_iter().flat_map(|joined| joined.neighbours.iter().copied())
    }

    /// The key under which this node speaks v12, told to all neighbours. One that was told is not taken back.
    pub(crate) fn set_v12_key(&mut self, key: Option<[u8; 32]>) {
        if self.v12_key == key {
            return;
        }
        self.v12_key = key;
        for (conn, neighbour) in &mut self.neighbours {
            neighbour.owe_v12_key(key.is_some());
            if neighbour.is_ready() {
                self.ready.insert(*conn);
            }
        }
    }

    /// A session with `peer` can carry messages. `role` is ours, `exporter` the secret of the session with the label
    /// that is for topics (SPEC 10.2).
    pub(crate) fn on_connected(&mut self, conn: Handle, peer: PeerId, role: Role, exporter: [u8; 32]) {
        self.on_closed(conn);
        // At most 64 slots.
        let slots = u8::try_from(self.slots.len()).unwrap_or(u8::MAX);
        let mut neighbour = Neighbour::new(peer, role, exporter, slots, self.v12_key.is_some());
        self.topics.keys().for_each(|topic| neighbour.expect(*topic));
        self.neighbours.insert(conn, Box::new(neighbour));
        self.ready.insert(conn);
    }

    /// A session is over, or does not carry the protocol any more.
    pub(crate) fn on_closed(&mut self, conn: Handle) {
        self.ready.remove(&conn);
        let Some(peer) = self.neighbours.remove(&conn).map(|neighbour| neighbour.peer) else { return };
        for (topic, joined) in &mut self.topics {
            if joined.neighbours.remove(&conn) {
                self.events.push_back(Event::Left { topic: *topic, conn, peer });
            }
        }
    }

    /// The next control frame: to be put into the channel of the session, and followed by [`sent`](Self::sent) or
    /// [`blocked`](Self::blocked) before anything else is asked. At most a few for each neighbour and change: state is
    /// told as it is when it can be sent.
    pub(crate) fn poll_send(&mut self) -> Option<(Handle, Bytes)> {
        let news = News { next: self.next, slots: &self.slots, v12_key: self.v12_key };
        while let Some(&conn) = self.ready.first() {
            let frame = self.neighbours.get_mut(&conn).and_then(|neighbour| neighbour.offer(&news, &mut self.rng));
            if let Some(frame) = frame {
                return Some((conn, frame));
            }
            self.ready.pop_first();
        }
        None
    }

    /// The channel took the frame that was polled.
    pub(crate) fn sent(&mut self, conn: Handle) {
        let Some(neighbour) = self.neighbours.get_mut(&conn) else { return };
        let told = neighbour.settle(true);
        if !neighbour.is_ready() {
            self.ready.remove(&conn);
        }
        for slot in told.iter() {
            if let Some(topic) = self.slots.get(usize::from(slot)).and_then(|slot| slot.topic) {
                self.review(conn, topic);
            }
        }
    }

    /// The channel is full: the frame is made again after [`writable`](Self::writable).
    pub(crate) fn blocked(&mut self, conn: Handle) {
        if let Some(neighbour) = self.neighbours.get_mut(&conn) {
            neighbour.settle(false);
            neighbour.is_blocked = true;
            self.ready.remove(&conn);
        }
    }

    /// The channel has room again.
    pub(crate) fn writable(&mut self, conn: Handle) {
        if let Some(neighbour) = self.neighbours.get_mut(&conn) {
            neighbour.is_blocked = false;
            if neighbour.is_ready() {
                self.ready.insert(conn);
            }
        }
    }

    /// A message from a session.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: nothing changed. The owner ends the protocol in this session and calls
    /// [`on_closed`](Self::on_closed).
    pub(crate) fn on_message(&mut self, conn: Handle, message: &[u8]) -> Result<(), Malformed> {
        let neighbour = self.neighbours.get_mut(&conn).ok_or(Malformed::NotConnected)?;
        match Frame::decode(message)? {
            Frame::Start { next } => {
                if !std::mem::replace(&mut neighbour.has_started, true) {
                    let peer = neighbour.peer;
                    self.on_start(peer, next);
                }
            }
            Frame::Tags(entries) => {
                for entry in entries {
                    let Some(neighbour) = self.neighbours.get_mut(&conn) else { break };
                    let (before, now) = neighbour.on_tag(entry);
                    if before != now {
                        before.into_iter().chain(now).for_each(|topic| self.review(conn, topic));
                    }
                }
            }
            Frame::Publication { place, sequence, data } => {
                let (from, topic) = (neighbour.peer, neighbour.topic_of(place));
                self.on_publication(conn, from, topic, sequence, data);
            }
            Frame::V12Key(key) => {
                if neighbour.v12_key.replace(Box::new(key)).as_deref() != Some(&key) {
                    self.events.push_back(Event::V12Key { conn, key });
                }
            }
            Frame::Unknown => self.counters.unknown = self.counters.unknown.saturating_add(1),
        }
        Ok(())
    }

    /// Numbers a message for the neighbours in a topic, and says who they are. There may be none.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; no number was used.
    pub(crate) fn publish(&mut self, topic: &TopicId, data: &[u8]) -> Result<Publication, PublishError> {
        let joined = self.topics.get(topic).ok_or(PublishError::NotJoined)?;
        if data.len() > MAX_DATA {
            return Err(PublishError::TooLarge { len: data.len(), max: MAX_DATA });
        }
        let slot = joined.slot;
        let turn = self.slots.get(usize::from(slot)).map_or(0, |slot| slot.turn);
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        let frame = Frame::Publication { place: Place { slot, turn }, sequence, data }.encode();
        Ok(Publication { frame, neighbours: joined.neighbours.iter().copied().collect() })
    }

    /// What happened, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was delivered and what was not.
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    fn grow(&mut self, len: usize) {
        self.slots.resize_with(len, || Slot { turn: self.rng.array::<1>()[0], topic: None });
    }

    fn set_slot(&mut self, slot: u8, topic: Option<TopicId>) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            *slot = Slot { turn: slot.turn.wrapping_add(1), topic };
        }
    }

    /// A random slot without a topic, so that the place of a topic says nothing about when it was joined. There is one.
    fn free_slot(&mut self) -> u8 {
        let free = self.slots.len() - self.topics.len();
        let nth = usize::try_from(self.rng.below(free as u64)).unwrap_or(0);
        let mut empty = self.slots.iter().zip(0..).filter_map(|(place, slot)| place.topic.is_none().then_some(slot));
        empty.nth(nth).unwrap_or(0)
    }

    /// Whether a neighbour is in a topic of ours may have changed.
    fn review(&mut self, conn: Handle, topic: TopicId) {
        let (Some(neighbour), Some(joined)) = (self.neighbours.get(&conn), self.topics.get_mut(&topic)) else { return };
        let peer = neighbour.peer;
        if neighbour.shares(&topic, joined.slot) {
            if joined.neighbours.insert(conn) {
                self.events.push_back(Event::Joined { topic, conn, peer });
            }
        } else if joined.neighbours.remove(&conn) {
            self.events.push_back(Event::Left { topic, conn, peer });
        }
    }

    /// An author whose numbers begin far below those that we saw has set its clock back. What it said then is nothing
    /// to compare with; otherwise all that it says would be taken for old.
    fn on_start(&mut self, author: PeerId, next: u64) {
        let window = self.authors.get(&author, self.origin);
        if window.and_then(SlidingWindow::highest).is_some_and(|highest| highest.saturating_sub(next) >= PER_MS) {
            self.authors.remove(&author);
        }
    }

    fn on_publication(&mut self, conn: Handle, from: PeerId, topic: Option<TopicId>, sequence: u64, data: &[u8]) {
        let shared =
            topic.filter(|topic| self.topics.get(topic).is_some_and(|joined| joined.neighbours.contains(&conn)));
        let Some(topic) = shared else {
            self.counters.unproved = self.counters.unproved.saturating_add(1);
            return;
        };
        if !self.is_new(from, sequence) {
            self.counters.duplicates = self.counters.duplicates.saturating_add(1);
            return;
        }
        self.counters.delivered = self.counters.delivered.saturating_add(1);
        self.events.push_back(Event::Message { topic, conn, from, data: Bytes::copy_from_slice(data) });
    }

    fn is_new(&mut self, author: PeerId, sequence: u64) -> bool {
        if let Some(window) = self.authors.get_mut(&author, self.origin) {
            return window.accept(sequence);
        }
        let mut window = SlidingWindow::new();
        window.accept(sequence);
        // Without a bound on weights nothing is too heavy.
        self.authors.insert(author, window, 0, self.origin).is_ok()
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics")
            .field("topics", &self.topics)
            .field("neighbours", &self.neighbours.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
