//! What is known of one session: which tags it told, which of our topics they prove, and what it has yet to be told.

use std::collections::BTreeMap;

use bytes::Bytes;
use crypto::Rng;
use crypto::topic::{TAG, member_tag, same_tag};
use framing::Role;

use super::Slot;
use super::frame::{Entry, Frame, Place};
use crate::{PeerId, TopicId};

/// One session. It keeps at most 256 tags of 16 bytes and 64 expected ones.
pub(super) struct Neighbour {
    pub(super) peer: PeerId,
    /// Ours.
    role: Role,
    exporter: [u8; 32],
    /// By its slots, in their order, whether or not they mean anything to us. Most tell few, and most neighbours have none.
    tags: Vec<(u8, Told)>,
    /// By our topics: the tags that prove them.
    expected: BTreeMap<TopicId, [u8; TAG]>,
    /// By its slots: the topics that it proved.
    proved: BTreeMap<u8, TopicId>,
    /// What it has yet to be told.
    owed: Owed,
    /// What of it is in a frame that the owner tries to send.
    offered: Owed,
    /// Its channel is full.
    pub(super) is_blocked: bool,
    /// It said with which number its publications begin.
    pub(super) has_started: bool,
    pub(super) v12_key: Option<Box<[u8; 32]>>,
}

/// So many tags take no more room than they need: some nodes tell nothing else.
const FEW_TAGS: usize = 4;

/// State to be told, each as it is when it is told.
#[derive(Debug, Default)]
struct Owed {
    start: bool,
    slots: SlotSet,
    v12_key: bool,
}

impl Owed {
    fn is_empty(&self) -> bool {
        !self.start && !self.v12_key && self.slots.is_empty()
    }
}

/// Slots of ours: of 64, one bit for each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotSet(u64);

const _: () = assert!(super::MAX_TOPICS <= 64);

impl SlotSet {
    const fn contains(self, slot: u8) -> bool {
        slot < 64 && self.0 >> slot & 1 == 1
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |slot| self.contains(*slot))
    }
}

impl Extend<u8> for SlotSet {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, slots: I) {
        slots.into_iter().for_each(|slot| self.0 |= 1_u64.checked_shl(slot.into()).unwrap_or(0));
    }
}

impl FromIterator<u8> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u8>>(slots: I) -> Self {
        let mut set = Self::default();
        set.extend(slots);
        set
    }
}

/// What stands in a slot of its table.
#[derive(Debug, Clone, Copy)]
struct Told {
    turn: u8,
    tag: [u8; TAG],
}

/// What all neighbours are told.
pub(super) struct News<'a> {
    pub(super) next: u64,
    /// Our table.
    pub(super) slots: &'a [Slot],
    pub(super) v12_key: Option<[u8; 32]>,
}

impl Neighbour {
    /// A session that has been told nothing yet.
    pub(super) fn new(peer: PeerId, role: Role, exporter: [u8; 32], slots: u8, v12_key: bool) -> Self {
        Self {
            peer,
            role,
            exporter,
            tags: Vec::new(),
            expected: BTreeMap::new(),
            proved: BTreeMap::new(),
            owed: Owed { start: true, slots: (0..slots).collect(), v12_key },
            offered: Owed::default(),
            is_blocked: false,
            has_started: false,
            v12_key: None,
        }
    }

    /// We are in a topic: some of its tags may be proofs now.
    pub(super) fn expect(&mut self, topic: TopicId) {
        let expected = member_tag(topic.as_bytes(), &self.exporter, number(self.role.other()));
        self.expected.insert(topic, expected);
        let proofs =
            self.tags.iter().filter(|(_, told)| same_tag(&told.tag, &expected)).map(|(slot, _)| (*slot, topic));
        self.proved.extend(proofs);
    }

    /// We are no longer in a topic: nothing proves it.
    pub(super) fn forget(&mut self, topic: &TopicId) {
        self.expected.remove(topic);
        self.proved.retain(|_, proved| proved != topic);
    }

    /// It told a tag. Returns the topics, of which it may be in one no longer, and in the other now.
    pub(super) fn on_tag(&mut self, entry: &Entry) -> (Option<TopicId>, Option<TopicId>) {
        let [slot, turn, ref tag @ ..] = *entry;
        let told = Told { turn, tag: *tag };
        match self.tags.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => {
                if let Some((_, known)) = self.tags.get_mut(at) {
                    *known = told;
                }
            }
            Err(at) => {
                if self.tags.len() == self.tags.capacity() && self.tags.len() < FEW_TAGS {
                    self.tags.reserve_exact(1);
                }
                self.tags.insert(at, (slot, told));
            }
        }
        let now = self.expected.iter().find(|(_, expected)| same_tag(tag, expected)).map(|(topic, _)| *topic);
        let before = match now {
            Some(topic) => self.proved.insert(slot, topic),
            None => self.proved.remove(&slot),
        };
        (before, now)
    }

    /// The topic that its tag in this place proves.
    pub(super) fn topic_of(&self, place: Place) -> Option<TopicId> {
        let at = self.tags.binary_search_by_key(&place.slot, |(slot, _)| *slot).ok()?;
        self.tags.get(at).filter(|(_, told)| told.turn == place.turn)?;
        self.proved.get(&place.slot).copied()
    }

    /// Whether it proved the topic, and was told that we are in it by the tag in our `slot`.
    pub(super) fn shares(&self, topic: &TopicId, slot: u8) -> bool {
        let is_told = !self.owed.slots.contains(slot) && !self.offered.slots.contains(slot);
        is_told && self.proved.values().any(|proved| proved == topic)
    }

    /// Our slots have changed.
    pub(super) fn owe_slots(&mut self, slots: impl IntoIterator<Item = u8>) {
        self.owed.slots.extend(slots);
    }

    /// Our v12 key has changed.
    pub(super) fn owe_v12_key(&mut self, owed: bool) {
        self.owed.v12_key = owed;
    }

    /// Whether there is something to be told.
    pub(super) fn is_ready(&self) -> bool {
        !(self.is_blocked || self.owed.is_empty() && self.offered.is_empty())
    }

    /// The next frame; [`settle`](Self::settle) says what became of it.
    pub(super) fn offer(&mut self, news: &News<'_>, rng: &mut Rng) -> Option<Bytes> {
        self.settle(false);
        if std::mem::take(&mut self.owed.start) {
            self.offered.start = true;
            return Some(Frame::Start { next: news.next }.encode());
        }
        if !self.owed.slots.is_empty() {
            self.offered.slots = std::mem::take(&mut self.owed.slots);
            let slots = self.offered.slots.iter().filter_map(|slot| Some((slot, news.slots.get(usize::from(slot))?)));
            let entries = slots.map(|(slot, &Slot { turn, topic })| {
                let proof = |topic: TopicId| member_tag(topic.as_bytes(), &self.exporter, number(self.role));
                entry(slot, turn, topic.map_or_else(|| rng.array(), proof))
            });
            return Some(Frame::Tags(&entries.collect::<Vec<_>>()).encode());
        }
        self.offered.v12_key = std::mem::take(&mut self.owed.v12_key);
        news.v12_key.filter(|_| self.offered.v12_key).map(|key| Frame::V12Key(key).encode())
    }

    /// The frame that was offered is on its way, or has to be offered again. Returns our slots that it told.
    pub(super) fn settle(&mut self, is_sent: bool) -> SlotSet {
        let offered = std::mem::take(&mut self.offered);
        if is_sent {
            return offered.slots;
        }
        self.owed.start |= offered.start;
        self.owed.v12_key |= offered.v12_key;
        self.owed.slots.extend(offered.slots.iter());
        SlotSet::default()
    }
}

fn entry(slot: u8, turn: u8, tag: [u8; TAG]) -> Entry {
    let mut entry = [slot, turn, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(space) = entry.last_chunk_mut() {
        *space = tag;
    }
    entry
}

/// A role in a tag: 0 dialled, 1 answered.
const fn number(role: Role) -> u8 {
    match role {
        Role::Dialler => 0,
        Role::Responder => 1,
    }
}
