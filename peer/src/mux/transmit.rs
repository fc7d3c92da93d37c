//! What this side sends: frames, by whose turn it is, and what becomes of them.

use std::time::Instant;

use framing::{Frame, PacketWriter, StreamCode, StreamId, StreamKind, varint};

use super::limits::{DATAGRAM, MIN_ROOM, ROUND, UNFIT_TRIES};
use super::protocol::ProtocolId;
use super::scheduler::Turn;
use super::stream::send::{SendHalf, Told, Wrote};
use super::stream::{NONE, Slot};
use super::{Control, Direction, Event, Mux, Urgency, relax};
use crate::sent::{Sent, SentFrames};

impl Mux {
    /// Writes frames until the packet is full or there is nothing more to send, and records what it wrote: control first, then urgent
    /// messages, what was lost, and the protocols in turn.
    pub(crate) fn fill(&mut self, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) {
        let (before, room) = (out.len(), out.remaining());
        if self.scheduler.wake(now) {
            self.stalled = false;
        }
        let others_wait = self.others_wait();
        let whole = self.write_control(out, sent, now)
            && self.write_urgent(others_wait, out, sent, now)
            && self.write_again(out, sent, now)
            && self.write_turns(out, sent, now)
            // Whoever else waits can send nothing: what is left is not taken from anybody.
            && (!others_wait || self.write_urgent(false, out, sent, now));
        // Nothing can be sent until something changes: whoever asks whether there is something is told so.
        if whole && out.len() == before && room >= MIN_ROOM {
            self.stalled = true;
        }
    }

    /// Whether [`fill`](Self::fill) has something to write.
    pub(crate) fn has_output(&self, now: Instant) -> bool {
        if self.scheduler.deadline().is_some_and(|at| at <= now) {
            return true;
        }
        let new = if self.credit.left() > 0 { self.urgent_ready | self.streams_ready } else { 0 };
        !self.stalled
            && (self.data_queued
                || self.streams_queued
                || !self.control.is_empty()
                || !self.again.is_empty()
                || self.scheduler.unparked(new | self.datagrams_ready) != 0)
    }

    /// Whether nothing waits but datagrams, and the first of each protocol fits into a packet with so much room.
    pub(crate) fn has_only_datagrams(&self, room: usize) -> bool {
        let mut ready = self.scheduler.unparked(self.datagrams_ready);
        let others = if self.credit.left() > 0 { self.urgent_ready | self.streams_ready } else { 0 };
        if others != 0 || ready == 0 || self.data_queued || self.streams_queued {
            return false;
        }
        while ready != 0 {
            let lane = self.lanes.get(ready.trailing_zeros() as usize);
            let first = lane.and_then(|lane| Some((lane.entry?, lane.outgoing.as_ref()?.front()?)));
            if first.is_none_or(|(entry, len)| datagram_frame(entry, len) > room) {
                return false;
            }
            ready &= ready - 1;
        }
        self.control.is_empty() && self.again.is_empty()
    }

    /// When a protocol that waits for its rate cap may go on, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.scheduler.deadline()
    }

    fn write_control(&mut self, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) -> bool {
        if self.data_queued {
            if !Frame::MaxData(self.window.announce(self.consumed, self.rtt(), now)).encode(out) {
                return false;
            }
            self.data_queued = false;
            sent.push(Sent::MaxData);
        }
        if self.streams_queued {
            self.max_streams = self.limits.max_streams(self.lanes.len()) + self.streams.closed_count();
            if !Frame::MaxStreams(self.max_streams).encode(out) {
                return false;
            }
            self.streams_queued = false;
            sent.push(Sent::MaxStreams);
        }
        while let Some(control) = self.control.front() {
            let fits = match *control {
                Control::Reset(id) => self.write_reset(id, out, sent),
                Control::Stop(id) => self.write_stop(id, out, sent),
                Control::Credit(id) => self.write_credit(id, out, sent, now),
            };
            if !fits {
                return false;
            }
            self.control.pop_front();
            relax(&mut self.control);
        }
        true
    }

    fn write_reset(&mut self, id: StreamId, out: &mut PacketWriter<'_>, sent: &mut SentFrames) -> bool {
        let slot = self.streams.send_slot(id);
        let Some(half) = self.streams.sends.get_mut(slot).filter(|half| half.reset == Told::Queued) else {
            return true;
        };
        if !(Frame::StreamReset { id, code: half.code, final_size: half.next }).encode(out) {
            return false;
        }
        half.reset = Told::Sent;
        sent.push(Sent::StreamReset(id));
        true
    }

    fn write_stop(&mut self, id: StreamId, out: &mut PacketWriter<'_>, sent: &mut SentFrames) -> bool {
        let slot = self.streams.recv_slot(id);
        let Some(half) = self.streams.recvs.get_mut(slot) else { return true };
        let Some(code) = half.stop.filter(|_| half.stop_queued) else { return true };
        if !(Frame::StreamStop { id, code }).encode(out) {
            return false;
        }
        half.stop_queued = false;
        sent.push(Sent::StreamStop(id));
        true
    }

    fn write_credit(&mut self, id: StreamId, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) -> bool {
        let slot = self.streams.recv_slot(id);
        let rtt = self.rtt();
        let Some(half) = self.streams.recvs.get_mut(slot) else { return true };
        if half.is_discarded() || half.final_size.is_some() {
            half.credit_queued = false;
            return true;
        }
        let before = half.window.size();
        let max = half.window.announce(half.read(), rtt, now);
        let wider = half.window.size() - before;
        // What one stream may send more is not at the cost of the others.
        if wider > 0 && self.window.widen(self.window.size() + wider) {
            self.data_queued = true;
        }
        if !(Frame::MaxStreamData { id, max }).encode(out) {
            return false;
        }
        half.credit_queued = false;
        sent.push(Sent::MaxStreamData(id));
        true
    }

    /// Whether something other than urgent messages waits.
    fn others_wait(&self) -> bool {
        let new = if self.credit.left() > 0 { self.streams_ready } else { 0 };
        !self.again.is_empty() || self.scheduler.unparked(new | self.datagrams_ready) != 0
    }

    fn write_urgent(&mut self, bounded: bool, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) -> bool {
        let mut left = self.scheduler.unparked(self.urgent_ready);
        while left != 0 && self.credit.left() > 0 {
            // Who comes behind the last that was served is first.
            let behind = left & (u64::MAX << self.urgent_turn << 1);
            let at = if behind == 0 { left } else { behind }.trailing_zeros();
            left &= !(1 << at);
            self.urgent_turn = u8::try_from(at).unwrap_or(0);
            let allowed = self.scheduler.urgent_allowance(bounded);
            let Some(slot) = self.lanes.get(at as usize).map(|lane| lane.channel(Urgency::Urgent).send) else {
                continue;
            };
            match self.write_new(at as usize, slot, allowed, out, sent, now) {
                Wrote::Full => return false,
                Wrote::Nothing => {}
                Wrote::Frame { bytes, .. } if bounded => self.scheduler.on_urgent(bytes),
                Wrote::Frame { .. } => {}
            }
            if !self.streams.sends.get(slot).is_some_and(SendHalf::has_new) {
                self.urgent_ready &= !(1 << at);
            }
        }
        true
    }

    fn write_again(&mut self, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) -> bool {
        while let Some(slot) = self.again.front().copied() {
            let credit = self.credit.left() > 0;
            let Some(half) = self.streams.sends.get_mut(slot) else {
                self.again.pop_front();
                continue;
            };
            let protocol = half.protocol;
            let wrote =
                if credit && half.opens_with_data() { Wrote::Nothing } else { half.write_again(slot, out, sent) };
            let more = half.has_again();
            match wrote {
                Wrote::Full => return false,
                Wrote::Frame { bytes, .. } => {
                    self.scheduler.charge(protocol.index(), bytes, now);
                    self.scheduler.on_others(bytes);
                    if more {
                        // Streams take turns here too.
                        self.again.rotate_left(1);
                        continue;
                    }
                }
                Wrote::Nothing => {}
            }
            half.resending = false;
            self.again.pop_front();
            relax(&mut self.again);
        }
        true
    }

    fn write_turns(&mut self, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) -> bool {
        let mut passed = 0_u64;
        // What did not fit in the last packet, and was owed to its protocol there.
        if let Some(at) = self.unfit.take().filter(|at| self.datagrams_ready >> at & 1 == 1) {
            match self.write_datagram(usize::from(at), out, sent, now) {
                Wrote::Frame { bytes, .. } => {
                    self.scheduler.on_others(bytes);
                    // And the next, if the turn was not over: behind the others there is never room for it.
                    let more = self.datagrams_ready >> at & 1 == 1 && self.scheduler.has_claim(usize::from(at));
                    self.unfit = Some(at).filter(|_| more);
                }
                _ => passed |= 1 << at,
            }
        }
        loop {
            if out.remaining() < MIN_FRAME {
                return false;
            }
            let streams = if self.credit.left() > 0 { self.streams_ready } else { 0 };
            let Some(turn) = self.scheduler.pick(streams | self.datagrams_ready, passed) else {
                return self.unfit.is_none();
            };
            match self.serve(turn, streams, out, sent, now) {
                Wrote::Full => return false,
                Wrote::Nothing => passed |= 1 << turn.at,
                Wrote::Frame { bytes, .. } => self.scheduler.on_others(bytes),
            }
        }
    }

    /// One frame of the protocol whose turn it is: its streams and its datagrams in turn.
    fn serve(
        &mut self,
        turn: Turn,
        streams: u64,
        out: &mut PacketWriter<'_>,
        sent: &mut SentFrames,
        now: Instant,
    ) -> Wrote {
        let bit = 1 << turn.at;
        let Some(lane) = self.lanes.get_mut(turn.at) else { return Wrote::Nothing };
        let (streams, datagrams) = (streams & bit != 0, self.datagrams_ready & bit != 0);
        if datagrams && (lane.datagrams_next || !streams) {
            lane.datagrams_next = false;
            let wrote = self.write_datagram(turn.at, out, sent, now);
            if wrote != Wrote::Nothing || !streams {
                return wrote;
            }
        } else {
            lane.datagrams_next = true;
        }
        self.serve_streams(turn, out, sent, now)
    }

    fn serve_streams(&mut self, turn: Turn, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) -> Wrote {
        let waiting = self.lanes.get(turn.at).map_or(0, |lane| lane.ready.len());
        // Who is alone has the packet, but its streams take turns.
        let limit = if turn.alone && waiting > 1 { ROUND as usize } else { turn.bytes };
        // Many short streams are in one packet: their frames are written down in one place, not in ever larger ones.
        if waiting > 1 && sent.len() == sent.inline_size() {
            sent.reserve(waiting.min(SHORT_STREAMS));
        }
        for _ in 0..waiting {
            let Some(slot) = self.lanes.get(turn.at).and_then(|lane| lane.ready.front().copied()) else { break };
            let wrote = self.write_new(turn.at, slot, limit, out, sent, now);
            if wrote == Wrote::Full {
                return Wrote::Full;
            }
            let Some(lane) = self.lanes.get_mut(turn.at) else { break };
            let half = self.streams.sends.get_mut(slot);
            if let Some(half) = half.filter(|half| !half.has_new()) {
                half.ready = false;
                lane.ready.pop_front();
                if lane.ready.is_empty() {
                    relax(&mut lane.ready);
                    self.streams_ready &= !(1 << turn.at);
                }
            } else if lane.ready.len() > 1 {
                lane.ready.rotate_left(1);
            }
            if wrote != Wrote::Nothing {
                return wrote;
            }
        }
        Wrote::Nothing
    }

    /// New data of one stream, at most `limit` bytes, as its cap and all credit allow.
    #[inline]
    fn write_new(
        &mut self,
        at: usize,
        slot: Slot,
        limit: usize,
        out: &mut PacketWriter<'_>,
        sent: &mut SentFrames,
        now: Instant,
    ) -> Wrote {
        let Some(half) = self.streams.sends.get(slot) else { return Wrote::Nothing };
        let unsent = usize::try_from(half.unsent()).unwrap_or(usize::MAX);
        // Hardly more than the packet has room for: what follows looks at each message of it.
        let limit = limit.min(out.remaining() + 1);
        let wanted = self.scheduler.capped(at, unsent.min(limit), unsent.min(MIN_CAPPED), now);
        let wanted = self.affordable(slot, wanted);
        let Some(half) = self.streams.sends.get_mut(slot) else { return Wrote::Nothing };
        let wrote = half.write_new(slot, wanted, out, sent);
        if let Wrote::Frame { bytes, new } = wrote {
            self.unblock |= half.wanted != 0 && half.kind == StreamKind::Bytes && half.wants_more();
            self.credit.used += new as u64;
            self.unsent -= new as u64;
            self.scheduler.charge(at, bytes, now);
        }
        wrote
    }

    /// How much of `wanted` new bytes of a stream the credit of the session allows.
    ///
    /// While there is credit for everything that waits: all. Otherwise there is a danger: the receiver can read a message only when it
    /// is whole, so pieces of many could use up the window, and none would ever become whole. Therefore a message is begun only if the
    /// credit allows all of it, beside the rest of those begun before. One at a time may be longer than that: the receiver sees its
    /// length and gives credit for it.
    #[inline]
    fn affordable(&mut self, slot: Slot, wanted: usize) -> usize {
        let credit = self.credit.left();
        let Some(half) = self.streams.sends.get(slot) else { return 0 };
        let whole = match half.kind {
            // Whatever all others have begun.
            StreamKind::Bytes => self.unsent - half.unsent() + wanted as u64 <= credit,
            StreamKind::Messages | StreamKind::Urgent => self.unsent <= credit && half.data.end() <= half.max,
        };
        if whole {
            return wanted;
        }
        self.affordable_now(slot, wanted, credit)
    }

    #[cold]
    fn affordable_now(&mut self, slot: Slot, wanted: usize, credit: u64) -> usize {
        // The oversized one may have ended, and nothing follows it on its own channel.
        let ended = |half: &mut SendHalf| half.message_end() == half.next;
        if self.oversized != NONE && self.streams.sends.get_mut(self.oversized).is_none_or(ended) {
            self.oversized = NONE;
        }
        let free = credit.saturating_sub(self.reserved(slot));
        let wanted = wanted as u64;
        let Some(half) = self.streams.sends.get_mut(slot) else { return 0 };
        let clamp = |bytes: u64| usize::try_from(bytes.min(wanted)).unwrap_or(usize::MAX);
        if half.kind == StreamKind::Bytes {
            return clamp(free);
        }
        // To the end of the message that was begun.
        let mut end = half.message_end();
        if self.oversized == slot {
            let rest = end - half.next;
            if rest > free || end > half.max {
                return clamp(rest.min(free));
            }
            // Now the credit allows it like any other.
            self.oversized = NONE;
        }
        while end - half.next < wanted {
            let Some(behind) = half.message_behind(end) else { break };
            if behind - half.next > free || behind > half.max {
                if end == half.next && self.oversized == NONE {
                    self.oversized = slot;
                    end = behind;
                }
                break;
            }
            end = behind;
        }
        half.begin(end);
        clamp((end - half.next).min(free))
    }

    /// What is needed to end the messages that were begun, but that of `except` and the oversized one.
    fn reserved(&mut self, except: Slot) -> u64 {
        let channels = self.lanes.iter().flat_map(|lane| Urgency::BOTH.map(|urgency| lane.channel(urgency).send));
        let begun = channels.filter(|slot| *slot != NONE && *slot != except && *slot != self.oversized);
        let mut sum = 0;
        for slot in begun {
            if let Some(half) = self.streams.sends.get_mut(slot) {
                sum += half.message_end() - half.next;
            }
        }
        sum
    }

    fn write_datagram(&mut self, at: usize, out: &mut PacketWriter<'_>, sent: &mut SentFrames, now: Instant) -> Wrote {
        let Some(lane) = self.lanes.get_mut(at) else { return Wrote::Nothing };
        let (Some(queue), Some(entry)) = (&mut lane.outgoing, lane.entry) else { return Wrote::Nothing };
        let Some(len) = queue.front() else {
            self.datagrams_ready &= !(1 << at);
            return Wrote::Nothing;
        };
        let bytes = datagram_frame(entry, len);
        if bytes > out.remaining() {
            // It will be first in a packet. If it is not even then sent again and again, paths have become too narrow for it.
            if out.is_empty() || self.unfit_tries > 0 {
                self.unfit_tries += 1;
            }
            self.unfit = u8::try_from(at).ok();
            if self.unfit_tries > UNFIT_TRIES {
                self.unfit_tries = 0;
                queue.drop_front(&mut self.send_pool);
                if queue.is_empty() {
                    self.datagrams_ready &= !(1 << at);
                }
                self.stats.datagrams_dropped_sent += 1;
                self.count_dropped(ProtocolId(at as u16), Direction::Sent, 1);
            }
            return Wrote::Nothing;
        }
        if self.scheduler.capped(at, bytes, bytes, now) == 0 {
            return Wrote::Nothing;
        }
        let header = out.varint(DATAGRAM) && out.varint(u64::from(entry)) && out.varint(len as u64);
        debug_assert!(header, "there is room for all of it");
        if let Some(space) = out.reserve(len) {
            queue.pop(space, &mut self.send_pool);
        }
        if queue.is_empty() {
            self.datagrams_ready &= !(1 << at);
        }
        self.unfit_tries = 0;
        sent.push(Sent::Datagram(u32::try_from(len).unwrap_or(u32::MAX)));
        self.scheduler.charge(at, bytes, now);
        Wrote::Frame { bytes, new: 0 }
    }

    /// A frame that [`fill`](Self::fill) wrote arrived. Frames of others are passed over.
    #[inline]
    pub(crate) fn on_acked(&mut self, frame: &Sent) {
        match *frame {
            Sent::Stream { id, offset, len, slot, fin } => {
                let Some(half) = self.streams.sends.get_mut(slot).filter(|half| half.id == id) else { return };
                let used = self.send_pool.used();
                let whole = half.on_acked(offset, len, fin, &mut self.send_pool);
                let (protocol, kind) = (half.protocol, half.kind);
                if self.send_pool.used() < used && !self.waiting.is_empty() {
                    self.unblock = true;
                }
                if whole > 0 {
                    self.count_acked(protocol, kind, whole);
                }
                self.finish_send(slot);
            }
            Sent::StreamReset(id) => {
                let slot = self.streams.send_slot(id);
                if let Some(half) = self.streams.sends.get_mut(slot) {
                    half.reset = Told::Acked;
                    self.finish_send(slot);
                }
            }
            _ => {}
        }
    }

    /// A frame that [`fill`](Self::fill) wrote was lost. Frames of others are passed over.
    pub(crate) fn on_lost(&mut self, frame: &Sent) {
        match *frame {
            Sent::Stream { id, offset, len, slot, fin } => {
                if let Some(half) = self.streams.sends.get_mut(slot).filter(|half| half.id == id) {
                    half.on_lost(offset, len, fin);
                    self.queue_again(slot);
                }
            }
            Sent::MaxData => self.data_queued = true,
            Sent::MaxStreams => self.streams_queued = true,
            Sent::MaxStreamData(id) => self.queue_credit(self.streams.recv_slot(id)),
            Sent::StreamReset(id) => {
                let slot = self.streams.send_slot(id);
                if let Some(half) = self.streams.sends.get_mut(slot).filter(|half| half.reset == Told::Sent) {
                    half.reset = Told::Queued;
                    self.control.push_back(Control::Reset(id));
                }
            }
            Sent::StreamStop(id) => {
                let slot = self.streams.recv_slot(id);
                let half = self.streams.recvs.get_mut(slot);
                if let Some(half) = half.filter(|half| half.final_size.is_none() && !half.stop_queued) {
                    half.stop_queued = true;
                    self.control.push_back(Control::Stop(id));
                }
            }
            Sent::Datagram(_) => self.stats.datagrams_lost += 1,
            _ => return,
        }
        self.stalled = false;
    }

    /// Messages arrived.
    pub(super) fn count_acked(&mut self, protocol: ProtocolId, kind: StreamKind, whole: u64) {
        let Some(urgency) = Urgency::of(kind) else { return };
        let Some(lane) = self.lanes.get_mut(protocol.index()) else { return };
        let channel = lane.channel_mut(urgency);
        if whole > 0 {
            channel.on_acked(whole);
            if !std::mem::replace(&mut channel.acked_queued, true) {
                let through = channel.through;
                self.push(Event::Acked { protocol, urgency, through });
            }
        }
    }

    /// Lets a stream take part in the turns if it has new data that may be sent.
    #[inline]
    pub(super) fn queue_ready(&mut self, slot: Slot) {
        let Some(half) = self.streams.sends.get_mut(slot).filter(|half| half.has_new()) else { return };
        self.stalled = false;
        let bit = 1_u64 << (half.protocol.0 & 63);
        if half.kind == StreamKind::Urgent {
            self.urgent_ready |= bit;
        } else if !half.ready
            && let Some(lane) = self.lanes.get_mut(half.protocol.index())
        {
            half.ready = true;
            lane.ready.push_back(slot);
            self.streams_ready |= bit;
        }
    }

    /// Lets a stream send what was lost, or what needs no credit.
    pub(super) fn queue_again(&mut self, slot: Slot) {
        let Some(half) = self.streams.sends.get_mut(slot).filter(|half| half.has_again() && !half.resending) else {
            return;
        };
        half.resending = true;
        if half.kind == StreamKind::Urgent {
            self.again.push_front(slot);
        } else {
            self.again.push_back(slot);
        }
        self.stalled = false;
    }

    /// Gives up the sending half of a stream.
    pub(super) fn give_up(&mut self, slot: Slot, code: StreamCode) {
        let Some(half) = self.streams.sends.get_mut(slot).filter(|half| !half.has_given_up()) else { return };
        self.unsent -= half.unsent();
        half.give_up(code, &mut self.send_pool);
        half.early = false;
        self.control.push_back(Control::Reset(half.id));
        if self.oversized == slot {
            self.oversized = NONE;
        }
        self.unblock = !self.waiting.is_empty();
        self.stalled = false;
        self.queue_again(slot);
    }

    /// The other side does not read a stream of bytes any further.
    pub(super) fn on_stopped(&mut self, slot: Slot, code: StreamCode) {
        let Some(half) = self.streams.sends.get_mut(slot) else { return };
        half.stopped = true;
        let stream = half.id;
        self.give_up(slot, code);
        self.push(Event::Stopped { stream, code });
    }

    /// Forgets the sending half of a stream if everything is done.
    #[inline]
    pub(super) fn finish_send(&mut self, slot: Slot) {
        if self.streams.sends.get(slot).is_some_and(SendHalf::is_done) {
            self.remove_send(slot);
        }
    }
}

/// The bytes of a DATAGRAM frame.
pub(super) const fn datagram_frame(entry: u8, len: usize) -> usize {
    1 + varint::len(entry as u64) + varint::len(len as u64) + len
}

/// Not even an empty frame of a stream or a datagram is shorter.
const MIN_FRAME: usize = 3;

/// Frames of short streams that a packet has room for, about.
const SHORT_STREAMS: usize = 24;

/// Less than this of a capped protocol is sent only if that is all it has.
const MIN_CAPPED: usize = 256;
