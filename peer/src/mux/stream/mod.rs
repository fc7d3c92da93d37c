//! Streams: which there are, and which there were.

pub(super) mod recv;
pub(super) mod send;

use framing::{Role, StreamId};
use structs::{RangeSet, SequenceMap};

use recv::RecvHalf;
use send::SendHalf;

/// The place of a half in its slab; no half at all if it is [`NONE`].
pub(super) type Slot = u16;

pub(super) const NONE: Slot = Slot::MAX;

/// Streams that places are kept for while there is none, until the session rests: at least so many, and at most.
const FEW: usize = 3;
const MAX_EMPTY: usize = 128;

/// Halves of streams by place: found without search, places are reused.
#[derive(Debug)]
pub(super) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<Slot>,
}

impl<T> Slab<T> {
    const fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    fn insert(&mut self, item: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.items.get_mut(usize::from(slot)) {
                *place = Some(item);
            }
            return slot;
        }
        // Far fewer streams are allowed than there are numbers.
        debug_assert!(self.items.len() < usize::from(NONE), "more streams than places");
        // Most sessions have a few channels and no streams: what is reserved for more is most of what they hold.
        if self.items.len() == self.items.capacity() && self.items.len() < 16 {
            self.items.reserve_exact(2);
        }
        self.items.push(Some(item));
        Slot::try_from(self.items.len() - 1).unwrap_or(NONE)
    }

    /// Drops an item where it is: it is large, and nobody wants it any more. Whether there was one.
    fn remove(&mut self, slot: Slot) -> bool {
        let Some(item) = self.items.get_mut(usize::from(slot)).filter(|item| item.is_some()) else { return false };
        *item = None;
        if self.free.len() + 1 < self.items.len() {
            self.free.push(slot);
            return true;
        }
        // It was the last one. Neither much nor little is kept: who had one stream at a time is one of many that say little.
        self.items.clear();
        self.free.clear();
        if !(FEW..=MAX_EMPTY).contains(&self.items.capacity()) {
            (self.items, self.free) = (Vec::new(), Vec::new());
        }
        true
    }

    fn shrink_to_fit(&mut self) {
        let used = self.items.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.items.truncate(used);
        self.free.retain(|slot| usize::from(*slot) < used);
        self.items.shrink_to_fit();
        self.free.shrink_to_fit();
    }

    /// Puts what is there side by side, and says of each where it was and where it is now.
    fn pack(&mut self, mut moved: impl FnMut(&T, Slot, Slot)) {
        let old = std::mem::take(&mut self.items);
        self.items.reserve_exact(old.iter().flatten().count());
        self.free = Vec::new();
        for (was, item) in (0..).zip(old).filter_map(|(was, item)| Some((was, item?))) {
            moved(&item, was, Slot::try_from(self.items.len()).unwrap_or(NONE));
            self.items.push(Some(item));
        }
    }

    /// Places that nothing is in.
    #[cfg(test)]
    pub(super) fn gaps(&self) -> usize {
        self.items.iter().filter(|item| item.is_none()).count()
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.items.get(usize::from(slot))?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.items.get_mut(usize::from(slot))?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().flatten()
    }
}

/// The halves of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) send: Slot,
    pub(super) recv: Slot,
}

impl Row {
    const EMPTY: Self = Self { send: NONE, recv: NONE };
}

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Open(Row),
    /// It is over, or ours and never opened: late frames of the former are passed over, the latter is a violation.
    Closed,
    NeverOpened,
}

/// All streams of a session. Those that are open are found by their index: they are opened in order, and most end in order.
#[derive(Debug)]
pub(super) struct Streams {
    role: Role,
    ours: SequenceMap<Row>,
    theirs: SequenceMap<Row>,
    /// The next that we open.
    next: u64,
    /// Indices of theirs that are over. As many as this are announced beyond the limit, so the gaps are as many as streams are open.
    closed: RangeSet,
    closed_count: u64,
    pub(super) sends: Slab<SendHalf>,
    pub(super) recvs: Slab<RecvHalf>,
}

impl Streams {
    pub(super) const fn new(role: Role) -> Self {
        Self {
            role,
            ours: SequenceMap::new(),
            theirs: SequenceMap::new(),
            next: 0,
            closed: RangeSet::new(),
            closed_count: 0,
            sends: Slab::new(),
            recvs: Slab::new(),
        }
    }

    /// Gives back room that nothing needs now.
    pub(super) fn rest(&mut self) {
        self.ours.shrink_to_fit();
        self.theirs.shrink_to_fit();
        self.closed.shrink_to_fit();
        self.sends.shrink_to_fit();
        self.recvs.shrink_to_fit();
        self.sends.items.iter_mut().flatten().for_each(SendHalf::rest);
        self.recvs.items.iter_mut().flatten().for_each(RecvHalf::rest);
    }

    /// Gives back the places of sending halves that ended beside others, and says which went where. Not while something is
    /// under way: what was sent is known by its place.
    pub(super) fn pack_sends(&mut self, mut moved: impl FnMut(&SendHalf, Slot, Slot)) {
        let Self { role, ours, theirs, sends, .. } = self;
        if sends.free.is_empty() || !sends.iter().all(SendHalf::is_settled) {
            return;
        }
        sends.pack(|half, from, to| {
            let rows = if half.id.opener() == *role { &mut *ours } else { &mut *theirs };
            if let Some(row) = rows.get_mut(half.id.index()) {
                row.send = to;
            }
            moved(half, from, to);
        });
    }

    /// The same of receiving halves.
    pub(super) fn pack_recvs(&mut self, mut moved: impl FnMut(&RecvHalf, Slot, Slot)) {
        let Self { role, ours, theirs, recvs, .. } = self;
        if recvs.free.is_empty() {
            return;
        }
        recvs.pack(|half, from, to| {
            let rows = if half.id.opener() == *role { &mut *ours } else { &mut *theirs };
            if let Some(row) = rows.get_mut(half.id.index()) {
                row.recv = to;
            }
            moved(half, from, to);
        });
    }

    fn rows(&self, id: StreamId) -> &SequenceMap<Row> {
        if self.is_ours(id) { &self.ours } else { &self.theirs }
    }

    fn rows_mut(&mut self, id: StreamId) -> &mut SequenceMap<Row> {
        if self.is_ours(id) { &mut self.ours } else { &mut self.theirs }
    }

    pub(super) fn is_ours(&self, id: StreamId) -> bool {
        id.opener() == self.role
    }

    #[inline]
    pub(super) fn find(&self, id: StreamId) -> Found {
        let index = id.index();
        let known = match self.rows(id).get(index) {
            Some(row) => return Found::Open(*row),
            None if self.is_ours(id) => index < self.next,
            None => self.closed.contains(index),
        };
        if known { Found::Closed } else { Found::NeverOpened }
    }

    /// The sending half of a stream.
    #[inline]
    pub(super) fn send_slot(&self, id: StreamId) -> Slot {
        if let Found::Open(row) = self.find(id) { row.send } else { NONE }
    }

    /// The receiving half of a stream.
    #[inline]
    pub(super) fn recv_slot(&self, id: StreamId) -> Slot {
        if let Found::Open(row) = self.find(id) { row.recv } else { NONE }
    }

    /// How many of ours are open.
    pub(super) fn ours(&self) -> usize {
        self.ours.len()
    }

    /// The index of the next that we open.
    pub(super) const fn next_index(&self) -> u64 {
        self.next
    }

    /// How many of theirs are over.
    pub(super) const fn closed_count(&self) -> u64 {
        self.closed_count
    }

    /// A number for a stream of ours, which is there with its first half.
    pub(super) fn next_id(&mut self) -> StreamId {
        let id = StreamId::new(self.next, self.role);
        self.next += 1;
        id
    }

    /// Adds the sending half of a new stream, or of one whose other half is there.
    pub(super) fn add_send(&mut self, half: SendHalf) -> Slot {
        let id = half.id;
        let slot = self.sends.insert(half);
        let rows = self.rows_mut(id);
        match rows.get_mut(id.index()) {
            Some(row) => row.send = slot,
            None => drop(rows.insert(id.index(), Row { send: slot, ..Row::EMPTY })),
        }
        slot
    }

    /// The same for the receiving half.
    pub(super) fn add_recv(&mut self, half: RecvHalf) -> Slot {
        let id = half.id;
        let slot = self.recvs.insert(half);
        let rows = self.rows_mut(id);
        match rows.get_mut(id.index()) {
            Some(row) => row.recv = slot,
            None => drop(rows.insert(id.index(), Row { recv: slot, ..Row::EMPTY })),
        }
        slot
    }

    /// Both halves of a new stream of ours.
    pub(super) fn add(&mut self, send: SendHalf, recv: RecvHalf) -> Row {
        let id = send.id;
        let row = Row { send: self.sends.insert(send), recv: self.recvs.insert(recv) };
        self.rows_mut(id).insert(id.index(), row);
        row
    }

    /// Forgets a sending half. Whether that was the last of its stream.
    pub(super) fn remove_send(&mut self, slot: Slot) -> bool {
        let Some(id) = self.sends.get(slot).map(|half| half.id) else { return false };
        self.sends.remove(slot);
        self.forget(id, |row| row.send = NONE)
    }

    /// Forgets a receiving half. Whether that was the last of its stream.
    pub(super) fn remove_recv(&mut self, slot: Slot) -> bool {
        let Some(id) = self.recvs.get(slot).map(|half| half.id) else { return false };
        self.recvs.remove(slot);
        self.forget(id, |row| row.recv = NONE)
    }

    /// Changes the row of a stream, and forgets it when nothing is left of it. Whether it did.
    fn forget(&mut self, id: StreamId, change: impl FnOnce(&mut Row)) -> bool {
        let ours = self.is_ours(id);
        let rows = self.rows_mut(id);
        let Some(row) = rows.get_mut(id.index()) else { return false };
        change(row);
        if *row != Row::EMPTY {
            return false;
        }
        rows.remove(id.index());
        if rows.is_empty() && rows.capacity() > MAX_EMPTY {
            *rows = SequenceMap::new();
        }
        if !ours {
            self.closed.insert(id.index()..id.index() + 1);
            self.closed_count += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framing::StreamKind;

    #[test]
    fn closed_streams_are_remembered_in_as_many_ranges_as_there_are_gaps() {
        let mut streams = Streams::new(Role::Dialler);
        // Theirs arrive in reverse order, and half of them stay open.
        for index in (0..200).rev() {
            let id = StreamId::new(index, Role::Responder);
            assert_eq!(streams.find(id), Found::NeverOpened);
            let slot = streams.add_recv(RecvHalf::new(id, 100, 100));
            assert!(matches!(streams.find(id), Found::Open(row) if row.recv == slot && row.send == NONE));
        }
        for index in (0..200).filter(|index| index % 2 == 0) {
            let id = StreamId::new(index, Role::Responder);
            assert!(streams.remove_recv(streams.recv_slot(id)));
            assert_eq!(streams.find(id), Found::Closed);
        }
        assert_eq!((streams.closed.len(), streams.closed_count()), (100, 100));
        let ours = streams.next_id();
        let open = framing::Open { protocol: 0, kind: StreamKind::Messages };
        let slot =
            streams.add_send(SendHalf::new(ours, crate::mux::ProtocolId(0), StreamKind::Messages, Some(open), 10));
        assert_eq!(streams.send_slot(ours), slot);
        assert!(streams.remove_send(slot));
        assert_eq!(streams.find(ours), Found::Closed);
        assert_eq!(streams.find(StreamId::new(1, Role::Dialler)), Found::NeverOpened);
        streams.rest();
        assert!(streams.sends.items.capacity() == 0 && streams.ours.capacity() == 0);
    }
}
