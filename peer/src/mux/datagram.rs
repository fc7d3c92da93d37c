//! Datagrams: what the application does with them, and a queue with a bound, whose oldest give way.

use bytes::Bytes;

use super::Mux;
use super::error::SendError;
use super::event::Direction;
use super::pages::{Pages, Pool};
use super::protocol::{Protocol, ProtocolId};
use super::transmit::datagram_frame;

#[derive(Debug)]
pub(super) struct Queue {
    /// Each behind its length, in four bytes.
    data: Pages,
    /// The most bytes, lengths included.
    cap: usize,
}

const PREFIX: usize = 4;

impl Queue {
    pub(super) const fn new(cap: usize) -> Self {
        Self { data: Pages::EMPTY, cap }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The longest that a queue with this bound takes.
    pub(super) const fn longest(cap: usize) -> usize {
        cap.saturating_sub(PREFIX)
    }

    /// Puts one behind the others, and drops as many of the oldest as it takes: returns how many. One that is longer than
    /// [`longest`](Self::longest) is dropped itself.
    pub(super) fn push(&mut self, datagram: &[u8], pool: &mut Pool) -> u64 {
        let Some(len) = u32::try_from(datagram.len()).ok().filter(|_| datagram.len() <= Self::longest(self.cap)) else {
            return 1;
        };
        let mut dropped = 0;
        while self.data.len() + PREFIX + datagram.len() > self.cap && self.drop_front(pool) {
            dropped += 1;
        }
        self.data.append(&len.to_be_bytes(), pool);
        self.data.append(datagram, pool);
        dropped
    }

    /// The length of the oldest.
    #[inline]
    pub(super) fn front(&self) -> Option<usize> {
        let mut prefix = [0; PREFIX];
        let read = self.data.copy_to(self.data.start(), &mut prefix);
        (read == PREFIX).then(|| u32::from_be_bytes(prefix) as usize)
    }

    /// Copies the oldest, of which [`front`](Self::front) gave the length, and drops it.
    pub(super) fn pop(&mut self, out: &mut [u8], pool: &mut Pool) {
        self.data.copy_to(self.data.start() + PREFIX as u64, out);
        self.drop_front(pool);
    }

    /// Appends the oldest to `out`, and drops it.
    pub(super) fn pop_into(&mut self, out: &mut Vec<u8>, pool: &mut Pool) {
        if let Some(len) = self.front() {
            self.data.extend(self.data.start() + PREFIX as u64, len, out);
            self.drop_front(pool);
        }
    }

    /// How long a datagram may be for which none gives way; `None` if one does even for an empty one.
    pub(super) const fn room(&self) -> Option<usize> {
        self.cap.checked_sub(self.data.len() + PREFIX)
    }

    /// Drops the oldest.
    pub(super) fn drop_front(&mut self, pool: &mut Pool) -> bool {
        let Some(len) = self.front() else { return false };
        self.data.advance(self.data.start() + (PREFIX + len) as u64, pool);
        true
    }

    /// Drops all that are longer than `max`; returns how many.
    pub(super) fn retain(&mut self, max: usize, pool: &mut Pool) -> u64 {
        let (mut at, end, mut dropped) = (self.data.start(), self.data.end(), 0);
        let mut kept = Self::new(self.cap);
        let mut datagram = Vec::new();
        while at < end {
            let Some(len) = self.front() else { break };
            at += (PREFIX + len) as u64;
            if len <= max {
                datagram.resize(len, 0);
                self.pop(&mut datagram, pool);
                kept.push(&datagram, pool);
            } else {
                self.drop_front(pool);
                dropped += 1;
            }
        }
        self.data.narrow(pool);
        *self = kept;
        dropped
    }

    /// Drops all, before it goes itself; returns how many.
    pub(super) fn clear(&mut self, pool: &mut Pool) -> u64 {
        let mut dropped = 0;
        while self.drop_front(pool) {
            dropped += 1;
        }
        self.data.narrow(pool);
        dropped
    }
}

impl Mux {
    /// Puts a datagram behind those that wait. If there is no room, the oldest are dropped, which is told.
    pub(crate) fn send_datagram(&mut self, protocol: ProtocolId, data: &[u8]) -> Result<(), SendError> {
        let cap = if self.has_datagrams(protocol) { self.datagram_cap() } else { 0 };
        let frame = self.packet_room.min(usize::try_from(self.theirs.max_datagram_frame).unwrap_or(usize::MAX));
        let lane = self.lanes.get_mut(protocol.index()).ok_or(SendError::NotRegistered)?;
        if let Some(code) = lane.failed {
            return Err(SendError::Stopped { code });
        }
        let entry = lane.entry.ok_or(SendError::NotAgreed)?;
        let max = longest_datagram(entry, frame).min(Queue::longest(cap));
        if data.len() > max || frame == 0 || cap == 0 {
            return Err(SendError::TooLarge { len: data.len(), max });
        }
        let queue = lane.outgoing.get_or_insert_with(|| Box::new(Queue::new(cap)));
        let dropped = queue.push(data, &mut self.send_pool);
        self.datagrams_ready |= 1 << protocol.index();
        self.stalled = false;
        self.stats.datagrams_dropped_sent += dropped;
        self.count_dropped(protocol, Direction::Sent, dropped);
        Ok(())
    }

    /// The longest datagram that packets with `room` for frames carry, without a number those of the path that is taken now.
    /// `None` until the other side has said what it takes.
    pub(crate) fn datagram_limit(&self, protocol: ProtocolId, room: Option<usize>) -> Option<usize> {
        let entry = self.lanes.get(protocol.index())?.entry?;
        let cap = if self.has_datagrams(protocol) { self.datagram_cap() } else { 0 };
        let theirs = usize::try_from(self.theirs.max_datagram_frame).unwrap_or(usize::MAX);
        let frame = room.unwrap_or(self.packet_room).min(theirs);
        Some(longest_datagram(entry, frame).min(Queue::longest(cap)))
    }

    /// The oldest datagram.
    pub(crate) fn recv_datagram(&mut self, protocol: ProtocolId) -> Option<Bytes> {
        let len = self.next_datagram(protocol)?;
        let mut datagram = vec![0; len];
        self.lanes.used_mut(protocol.index())?.incoming.as_mut()?.pop(&mut datagram, &mut self.recv_pool);
        Some(datagram.into())
    }

    /// The length of the oldest datagram; without one the next is told of.
    pub(super) fn next_datagram(&mut self, protocol: ProtocolId) -> Option<usize> {
        let lane = self.lanes.used_mut(protocol.index())?;
        let len = lane.incoming.as_ref().and_then(|queue| queue.front());
        if len.is_none() {
            lane.datagram_told = false;
        }
        len
    }

    /// What a protocol with datagrams may have waiting in one direction.
    pub(super) fn datagram_cap(&self) -> usize {
        self.limits.datagram_memory / self.protocols.datagram_shares().max(1)
    }

    /// Whether a protocol has datagrams.
    pub(super) fn has_datagrams(&self, protocol: ProtocolId) -> bool {
        self.protocols.get(protocol).is_some_and(Protocol::has_datagrams)
    }

    /// How many bytes of frames a packet carries: bounds datagrams. Waiting ones that are longer are dropped and counted.
    pub(crate) fn set_packet_room(&mut self, bytes: usize) {
        let narrower = bytes < self.packet_room;
        self.packet_room = bytes;
        if !narrower {
            return;
        }
        for at in 0..self.lanes.len() {
            let Some(lane) = self.lanes.used_mut(at) else { continue };
            if let (Some(queue), Some(entry)) = (&mut lane.outgoing, lane.entry) {
                let dropped = queue.retain(longest_datagram(entry, bytes), &mut self.send_pool);
                if queue.is_empty() {
                    self.datagrams_ready &= !(1 << at);
                }
                self.stats.datagrams_dropped_sent += dropped;
                self.count_dropped(ProtocolId(at as u16), Direction::Sent, dropped);
            }
        }
    }
}

/// The longest datagram whose frame has at most `frame` bytes.
const fn longest_datagram(entry: u8, frame: usize) -> usize {
    let mut len = frame.saturating_sub(2);
    while len > 0 && datagram_frame(entry, len) > frame {
        len -= 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(queue: &mut Queue, pool: &mut Pool) -> Option<Vec<u8>> {
        let mut out = vec![0; queue.front()?];
        queue.pop(&mut out, pool);
        Some(out)
    }

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let (mut queue, mut pool) = (Queue::new(100), Pool::default());
        for n in 0..10 {
            assert_eq!(queue.push(&[n; 16], &mut pool), u64::from(n >= 5));
        }
        assert_eq!(queue.push(&[99; 97], &mut pool), 1);
        assert_eq!(queue.push(&[], &mut pool), 1);
        for n in 6..10 {
            assert_eq!(pop(&mut queue, &mut pool), Some(vec![n; 16]));
        }
        assert_eq!(pop(&mut queue, &mut pool), Some(vec![]));
        assert_eq!(pop(&mut queue, &mut pool), None);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn none_gives_way_for_one_that_there_is_room_for() {
        let (mut queue, mut pool) = (Queue::new(100), Pool::default());
        assert_eq!(queue.room(), Some(96));
        queue.push(&[1; 92], &mut pool);
        assert_eq!(queue.room(), Some(0));
        assert_eq!(queue.push(&[], &mut pool), 0);
        assert_eq!(queue.room(), None);
        assert_eq!(queue.push(&[], &mut pool), 1);
    }

    #[test]
    fn what_fits_no_more_is_dropped_and_the_rest_keeps_its_order() {
        let (mut queue, mut pool) = (Queue::new(10_000), Pool::default());
        for len in [1300, 20, 1200, 5, 1201] {
            queue.push(&vec![len as u8; len], &mut pool);
        }
        assert_eq!(queue.retain(1200, &mut pool), 2);
        let left = std::iter::from_fn(|| pop(&mut queue, &mut pool)).map(|datagram| datagram.len()).collect::<Vec<_>>();
        assert_eq!(left, [20, 1200, 5]);
        assert!(queue.is_empty() && pool.used() == 0);
    }
}
