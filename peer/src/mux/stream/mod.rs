//! Streams: which there are, and which there were.

pub(super) mod recv;
pub(super) mod send;

use framing::{Role, StreamId};
use structs::RangeSet;

use recv::RecvHalf;
use send::SendHalf;

/// The place of a half in its slab; no half at all if it is [`NONE`].
pub(super) type Slot = u16;

pub(super) const NONE: Slot = Slot::MAX;

/// Streams that places are kept for while there is none, until the session rests.
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
        self.free.push(slot);
        if self.free.len() == self.items.len() {
            self.items.clear();
            self.free.clear();
            if self.items.capacity() > MAX_EMPTY {
                (self.items, self.free) = (Vec::new(), Vec::new());
            }
        }
        true
    }

    fn shrink_to_fit(&mut self) {
        self.items.shrink_to_fit();
        self.free.shrink_to_fit();
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
    index: u64,
    pub(super) send: Slot,
    pub(super) recv: Slot,
}

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Open(Row),
    /// It is over, or ours and never opened: late frames of the former are passed over, the latter is a violation.
    Closed,
    NeverOpened,
}

/// All streams of a session. Finding one is a binary search among those that are open.
#[derive(Debug)]
pub(super) struct Streams {
    role: Role,
    ours: Vec<Row>,
    theirs: Vec<Row>,
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
            ours: Vec::new(),
            theirs: Vec::new(),
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

    fn rows(&self, id: StreamId) -> &Vec<Row> {
        if self.is_ours(id) { &self.ours } else { &self.theirs }
    }

    fn rows_mut(&mut self, id: StreamId) -> &mut Vec<Row> {
        if self.is_ours(id) { &mut self.ours } else { &mut self.theirs }
    }

    pub(super) fn is_ours(&self, id: StreamId) -> bool {
        id.opener() == self.role
    }

    #[inline]
    pub(super) fn find(&self, id: StreamId) -> Found {
        let (rows, index) = (self.rows(id), id.index());
        match place(rows, index) {
            Ok(at) => rows.get(at).map_or(Found::Closed, |row| Found::Open(*row)),
            Err(_) if self.is_ours(id) => {
                if index < self.next {
                    Found::Closed
                } else {
                    Found::NeverOpened
                }
            }
            Err(_) => {
                if self.closed.contains(index) {
                    Found::Closed
                } else {
                    Found::NeverOpened
                }
            }
        }
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

    /// A number for a stream of ours.
    pub(super) fn next_id(&mut self) -> StreamId {
        let id = StreamId::new(self.next, self.role);
        self.next += 1;
        self.ours.push(Row { index: id.index(), send: NONE, recv: NONE });
        id
    }

    /// A number of theirs that is seen for the first time.
    pub(super) fn admit(&mut self, id: StreamId) {
        if let Err(at) = place(&self.theirs, id.index()) {
            self.theirs.insert(at, Row { index: id.index(), send: NONE, recv: NONE });
        }
    }

    pub(super) fn add_send(&mut self, half: SendHalf) -> Slot {
        let id = half.id;
        let slot = self.sends.insert(half);
        self.update(id, |row| row.send = slot);
        slot
    }

    pub(super) fn add_recv(&mut self, half: RecvHalf) -> Slot {
        let id = half.id;
        let slot = self.recvs.insert(half);
        self.update(id, |row| row.recv = slot);
        slot
    }

    /// Forgets a sending half. Whether there was one.
    pub(super) fn remove_send(&mut self, slot: Slot) -> bool {
        let Some(id) = self.sends.get(slot).map(|half| half.id) else { return false };
        self.update(id, |row| row.send = NONE);
        self.sends.remove(slot)
    }

    /// Forgets a receiving half. Whether there was one.
    pub(super) fn remove_recv(&mut self, slot: Slot) -> bool {
        let Some(id) = self.recvs.get(slot).map(|half| half.id) else { return false };
        self.update(id, |row| row.recv = NONE);
        self.recvs.remove(slot)
    }

    /// Changes the row of a stream, and forgets it when nothing is left of it.
    fn update(&mut self, id: StreamId, change: impl FnOnce(&mut Row)) {
        let ours = self.is_ours(id);
        let rows = self.rows_mut(id);
        let Ok(at) = place(rows, id.index()) else { return };
        if let Some(row) = rows.get_mut(at) {
            change(row);
            if row.send != NONE || row.recv != NONE {
                return;
            }
        }
        rows.remove(at);
        if rows.is_empty() && rows.capacity() > MAX_EMPTY {
            *rows = Vec::new();
        }
        if !ours {
            self.closed.insert(id.index()..id.index() + 1);
            self.closed_count += 1;
        }
    }
}

/// Where the row of a stream is, or would have to be.
///
/// Streams are opened in order and most end in order, so the row is mostly as far from one end as its number is from the
/// number there.
#[inline]
fn place(rows: &[Row], index: u64) -> Result<usize, usize> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Err(0) };
    if index > last.index {
        return Err(rows.len());
    }
    let ahead = usize::try_from(index.wrapping_sub(first.index)).unwrap_or(usize::MAX);
    let behind = usize::try_from(last.index - index).unwrap_or(usize::MAX);
    let is_at = |at: usize| rows.get(at).is_some_and(|row| row.index == index);
    match (rows.len() - 1).checked_sub(behind) {
        _ if is_at(ahead) => Ok(ahead),
        Some(at) if is_at(at) => Ok(at),
        _ => rows.binary_search_by_key(&index, |row| row.index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framing::StreamKind;

    #[test]
    fn a_row_is_found_wherever_gaps_are() {
        let row = |index| Row { index, send: NONE, recv: NONE };
        for gaps in 0_u32..1 << 8 {
            let rows: Vec<Row> = (0..8).filter(|bit| gaps >> bit & 1 == 0).map(|bit| row(100 + bit)).collect();
            for index in 98..110 {
                let found = rows.binary_search_by_key(&index, |row| row.index);
                assert_eq!(place(&rows, index), found, "{index} in {rows:?}");
            }
        }
        assert_eq!(place(&[row(0), row(u64::MAX >> 2)], 7), Err(1));
    }

    #[test]
    fn closed_streams_are_remembered_in_as_many_ranges_as_there_are_gaps() {
        let mut streams = Streams::new(Role::Dialler);
        // Theirs arrive in reverse order, and half of them stay open.
        for index in (0..200).rev() {
            let id = StreamId::new(index, Role::Responder);
            assert_eq!(streams.find(id), Found::NeverOpened);
            streams.admit(id);
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
