//! The half of a stream that we write: what was accepted stays until it is acknowledged.

use framing::{Open, PacketWriter, StreamCode, StreamId, StreamKind, stream_room};
use structs::RangeSet;

use super::Slot;
use crate::mux::limits::{STREAM_AHEAD, STREAM_LEAST_AHEAD};
use crate::mux::pages::{Pages, Pool};
use crate::mux::protocol::ProtocolId;
use crate::sent::{Sent, SentFrames};

/// How far the end of a stream, its reset, or the fact that it was opened has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::mux) enum Told {
    /// There is nothing to tell.
    No,
    /// It is to be sent, for the first time or again.
    Queued,
    Sent,
    Acked,
}

/// What writing a frame came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mux) enum Wrote {
    Nothing,
    /// The packet is full.
    Full,
    /// A frame of so many bytes, of which so many are new data.
    Frame {
        bytes: usize,
        new: usize,
    },
}

#[derive(Debug)]
pub(in crate::mux) struct SendHalf {
    pub(in crate::mux) id: StreamId,
    pub(in crate::mux) protocol: ProtocolId,
    pub(in crate::mux) kind: StreamKind,
    /// It waits among those of its protocol that have something new to send.
    pub(in crate::mux) ready: bool,
    /// It waits among those that have something to send again, or something that needs no credit.
    pub(in crate::mux) resending: bool,
    /// It was opened before we knew whether the other side speaks that version: what it acknowledges may go nowhere.
    pub(in crate::mux) early: bool,
    /// Nobody is told when all of it has arrived.
    pub(in crate::mux) quiet: bool,
    /// What a refused write needs; 0 if none was refused.
    pub(in crate::mux) wanted: u32,
    /// What the stream is for, if it is ours.
    open: Option<Open>,
    opened: Told,
    pub(in crate::mux) fin: Told,
    pub(in crate::mux) reset: Told,
    pub(in crate::mux) code: StreamCode,
    /// It was the other side that wanted it to end.
    pub(in crate::mux) stopped: bool,
    /// What was accepted and is not acknowledged: starts where the first gap in the acknowledgements does.
    pub(in crate::mux) data: Pages,
    /// The first byte that was never sent.
    pub(in crate::mux) next: u64,
    /// What the other side allows.
    pub(in crate::mux) max: u64,
    acked: RangeSet,
    lost: RangeSet,
    /// The end of the last message that was acknowledged as a whole.
    settled: u64,
    /// The end of the message behind `settled`, if part of it, and with it its length, was let go of; otherwise not above `settled`.
    partial: u64,
    /// An end of a message, behind all of those that were begun or may be.
    boundary: u64,
}

impl SendHalf {
    /// A half that may send `max` bytes. If we opened the stream, `open` says so to the other side.
    pub(in crate::mux) fn new(
        id: StreamId,
        protocol: ProtocolId,
        kind: StreamKind,
        open: Option<Open>,
        max: u64,
    ) -> Self {
        Self {
            id,
            protocol,
            kind,
            ready: false,
            resending: false,
            early: false,
            quiet: false,
            wanted: 0,
            open,
            opened: if open.is_some() { Told::Queued } else { Told::Acked },
            fin: Told::No,
            reset: Told::No,
            code: StreamCode::CANCELLED,
            stopped: false,
            data: Pages::default(),
            next: 0,
            max,
            acked: RangeSet::new(),
            lost: RangeSet::new(),
            settled: 0,
            partial: 0,
            boundary: 0,
        }
    }

    /// Gives back room that nothing needs now.
    pub(in crate::mux) fn rest(&mut self) {
        self.data.rest();
        self.acked.shrink_to_fit();
        self.lost.shrink_to_fit();
    }

    /// Whether nothing of it is under way, nor waits to be.
    pub(in crate::mux) fn is_settled(&self) -> bool {
        let told = |told: Told| matches!(told, Told::No | Told::Acked);
        self.data.is_empty()
            && !self.ready
            && !self.resending
            && told(self.opened)
            && told(self.fin)
            && told(self.reset)
    }

    /// The place in our list that the other side was told.
    pub(in crate::mux) const fn entry(&self) -> Option<u64> {
        match self.open {
            Some(open) => Some(open.protocol),
            None => None,
        }
    }

    /// Whether only the fact that it was opened is to be told, which the first data will do as well.
    pub(in crate::mux) fn opens_with_data(&self) -> bool {
        self.reset == Told::No && self.next == 0 && self.has_new()
    }

    /// Whether nothing but a reset will be sent.
    pub(in crate::mux) fn has_given_up(&self) -> bool {
        self.reset != Told::No
    }

    /// How many bytes were never sent.
    pub(in crate::mux) const fn unsent(&self) -> u64 {
        self.data.end() - self.next
    }

    /// What may wait to be sent: as much as the other side takes beyond what it has.
    #[inline]
    fn ahead(&self) -> usize {
        let credit = usize::try_from(self.max.saturating_sub(self.data.start())).unwrap_or(usize::MAX);
        credit.clamp(STREAM_LEAST_AHEAD, STREAM_AHEAD)
    }

    /// How much may be written before more of it was sent.
    #[inline]
    pub(in crate::mux) fn room_ahead(&self) -> usize {
        self.ahead().saturating_sub(usize::try_from(self.unsent()).unwrap_or(usize::MAX))
    }

    /// Whether so much of a stream of bytes was sent that its writer may go on.
    #[inline]
    pub(in crate::mux) fn wants_more(&self) -> bool {
        self.room_ahead() >= self.ahead() / 2
    }

    /// Whether there is new data that the credit of the stream allows.
    #[inline]
    pub(in crate::mux) const fn has_new(&self) -> bool {
        self.next < self.data.end() && self.next < self.max
    }

    /// Whether there is something that needs no credit.
    pub(in crate::mux) fn has_again(&self) -> bool {
        if self.reset != Told::No {
            return matches!(self.opened, Told::Queued);
        }
        !self.lost.is_empty() || self.fin_alone() || (matches!(self.opened, Told::Queued) && self.next == 0)
    }

    /// The end is to be told and no data is left that could carry it.
    fn fin_alone(&self) -> bool {
        self.fin == Told::Queued && self.next == self.data.end()
    }

    /// Whether nothing is left to be done.
    pub(in crate::mux) fn is_done(&self) -> bool {
        let ended = match self.reset {
            Told::No => self.fin == Told::Acked && self.data.is_empty(),
            reset => reset == Told::Acked,
        };
        ended && self.opened == Told::Acked && !self.early
    }

    /// Writes up to `limit` new bytes, as the credit of the stream allows. Its place is `slot`.
    #[inline]
    pub(in crate::mux) fn write_new(
        &mut self,
        slot: Slot,
        limit: usize,
        out: &mut PacketWriter<'_>,
        sent: &mut SentFrames,
    ) -> Wrote {
        let left = self.data.end().min(self.max).saturating_sub(self.next);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(limit);
        if wanted == 0 {
            return Wrote::Nothing;
        }
        let open = self.open.filter(|_| self.next == 0);
        let Some(room) = stream_room(self.id, self.next, open, out.remaining()) else { return Wrote::Full };
        let len = wanted.min(room);
        // A crumb at the end of a packet costs a header here and one where the rest goes.
        if len < wanted && len < MIN_PIECE {
            return Wrote::Full;
        }
        let Some((frame, bytes)) = self.write_frame(slot, self.next, len, open, out) else { return Wrote::Full };
        sent.push(frame);
        self.next += len as u64;
        Wrote::Frame { bytes, new: len }
    }

    /// Writes the first thing that needs no credit. Its place is `slot`.
    pub(in crate::mux) fn write_again(
        &mut self,
        slot: Slot,
        out: &mut PacketWriter<'_>,
        sent: &mut SentFrames,
    ) -> Wrote {
        if !self.has_again() {
            return Wrote::Nothing;
        }
        let (offset, wanted) = match self.lost.first() {
            Some(lost) if self.reset == Told::No => (lost.start, (lost.end - lost.start) as usize),
            // That it was opened, or that it ended.
            _ if self.opened == Told::Queued => (0, 0),
            _ => (self.data.end(), 0),
        };
        let open = self.open.filter(|_| offset == 0);
        let Some(room) = stream_room(self.id, offset, open, out.remaining()) else { return Wrote::Full };
        let len = wanted.min(room);
        if len < wanted && len < MIN_PIECE {
            return Wrote::Full;
        }
        let Some((frame, bytes)) = self.write_frame(slot, offset, len, open, out) else { return Wrote::Full };
        sent.push(frame);
        self.lost.remove(offset..offset + len as u64);
        Wrote::Frame { bytes, new: 0 }
    }

    #[inline]
    fn write_frame(
        &mut self,
        slot: Slot,
        offset: u64,
        len: usize,
        open: Option<Open>,
        out: &mut PacketWriter<'_>,
    ) -> Option<(Sent, usize)> {
        let before = out.len();
        let end = offset + len as u64;
        let fin = self.fin != Told::No && self.reset == Told::No && end == self.data.end() && end >= self.next;
        if !out.stream_header(self.id, offset, open, fin, len) {
            return None;
        }
        if let Some(space) = out.reserve(len) {
            let copied = self.data.copy_to(offset, space);
            debug_assert_eq!(copied, len, "what is sent is held");
        }
        if open.is_some() && self.opened != Told::Acked {
            self.opened = Told::Sent;
        }
        if fin && self.fin != Told::Acked {
            self.fin = Told::Sent;
        }
        // A frame is never longer than a packet.
        let sent = Sent::Stream { id: self.id, offset, len: u32::try_from(len).unwrap_or(u32::MAX), slot, fin };
        Some((sent, out.len() - before))
    }

    /// A frame arrived. Returns how many messages that completes, if it is a stream of messages.
    pub(in crate::mux) fn on_acked(&mut self, offset: u64, len: u32, fin: bool, pool: &mut Pool) -> u64 {
        if offset == 0 {
            self.opened = Told::Acked;
        }
        if self.reset != Told::No {
            return 0;
        }
        if fin {
            self.fin = Told::Acked;
        }
        let end = offset + u64::from(len);
        if !self.lost.is_empty() {
            self.lost.remove(offset..end);
        }
        if offset > self.data.start() || self.early {
            self.acked.insert(offset.max(self.data.start())..end);
            return 0;
        }
        self.settle(end, pool)
    }

    /// It is known now that the other side speaks the version. Returns how many messages it has.
    pub(in crate::mux) fn on_agreed(&mut self, pool: &mut Pool) -> u64 {
        self.early = false;
        self.settle(self.data.start(), pool)
    }

    /// Everything before `end` arrived: lets go of it, and of what was acknowledged behind it.
    fn settle(&mut self, mut end: u64, pool: &mut Pool) -> u64 {
        while let Some(next) = self.acked.first().filter(|next| next.start <= end) {
            end = end.max(next.end);
            self.acked.pop_first();
        }
        if self.acked.is_empty() {
            self.acked.clear();
        }
        let end = end.min(self.next);
        let mut whole = 0;
        if self.kind != StreamKind::Bytes {
            // The lengths are in what is about to be let go of.
            if self.settled < self.partial && self.partial <= end {
                (self.settled, whole) = (self.partial, 1);
            }
            if self.settled >= self.partial {
                let walk = self.data.messages(self.settled, end, usize::MAX);
                (self.settled, whole) = (walk.end, whole + walk.messages);
                if self.settled < end {
                    self.partial = self.message_end_at(self.settled).unwrap_or(self.settled);
                }
            }
        }
        self.data.advance(end, pool);
        // What arrived after all although it was held for lost.
        if !self.lost.is_empty() {
            self.lost.remove(0..end);
        }
        whole
    }

    /// A frame was lost. What arrived nevertheless, or is given up, is not sent again.
    pub(in crate::mux) fn on_lost(&mut self, offset: u64, len: u32, fin: bool) {
        if offset == 0 && self.opened == Told::Sent && (len == 0 || self.reset != Told::No) {
            self.opened = Told::Queued;
        }
        if self.reset != Told::No {
            return;
        }
        if fin && self.fin == Told::Sent {
            self.fin = Told::Queued;
        }
        self.lost.insert(offset.max(self.data.start())..offset + u64::from(len));
    }

    /// Gives up: nothing but the reset, and that the stream was opened, will be sent.
    pub(in crate::mux) fn give_up(&mut self, code: StreamCode, pool: &mut Pool) {
        if self.reset != Told::No {
            return;
        }
        (self.reset, self.code) = (Told::Queued, code);
        // What opened it may be among what was lost.
        if self.opened == Told::Sent && self.lost.contains(0) {
            self.opened = Told::Queued;
        }
        self.lost.clear();
        self.acked.clear();
        self.data.truncate(self.next, pool);
        self.data.advance(self.next, pool);
    }

    /// The end of the message that begins at `offset`.
    #[inline]
    fn message_end_at(&self, offset: u64) -> Option<u64> {
        let (prefix, len) = self.data.varint(offset, self.data.end())?;
        Some(offset + prefix as u64 + len)
    }

    /// The end of the first message that was not acknowledged as a whole.
    #[inline]
    fn first_end(&self) -> Option<u64> {
        if self.partial > self.settled { Some(self.partial) } else { self.message_end_at(self.settled) }
    }

    /// The end of the messages that were begun, or may be: `next` if there is none.
    pub(in crate::mux) fn message_end(&mut self) -> u64 {
        self.boundary = self.boundary.max(self.settled).max(self.partial);
        while self.boundary < self.next {
            // What was given up has no messages any more.
            self.boundary = self.message_end_at(self.boundary).unwrap_or(self.next);
        }
        self.boundary
    }

    /// What is sent next is part of the messages up to `end`.
    pub(in crate::mux) fn begin(&mut self, end: u64) {
        self.boundary = self.boundary.max(end);
    }

    /// The end of the message behind `end`, which is an end itself.
    pub(in crate::mux) fn message_behind(&self, end: u64) -> Option<u64> {
        self.message_end_at(end)
    }

    /// How many messages were sent in full but not acknowledged, and how many were not.
    pub(in crate::mux) fn tally(&self) -> (u64, u64) {
        let (mut end, mut sent, mut unsent) = (self.first_end(), 0, 0);
        while let Some(at) = end {
            if at <= self.next {
                sent += 1
            } else {
                unsent += 1
            }
            end = self.message_end_at(at);
        }
        (sent, unsent)
    }
}

/// The shortest piece of something longer that is put at the end of a packet.
const MIN_PIECE: usize = 32;
