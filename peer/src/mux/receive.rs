//! What the other side sends.

use framing::{CloseCode, Hello, Open, Stream, StreamCode, StreamId, StreamKind};

use super::event::Event;
use super::limits::{MAX_RANGES, MAX_UNKNOWN, MESSAGES_AHEAD, STREAM_WINDOW};
use super::protocol::{Agreement, ProtocolId};
use super::stream::recv::{Arrival, Front, Purpose, RecvHalf};
use super::stream::send::SendHalf;
use super::stream::{Found, NONE, Slot};
use super::{Control, Direction, Mux, Queue, Received, Urgency};
use crate::Violation;

impl Mux {
    /// Takes the other side's HELLO. A second one is a violation.
    pub(crate) fn on_hello(&mut self, hello: &Hello<'_>) -> Result<(), Violation> {
        if self.agreement.is_some() {
            return Err(Violation::Protocol);
        }
        self.stalled = false;
        let agreement = Agreement::new(&self.protocols, hello);
        let known = self.theirs;
        self.theirs = hello.limits();
        self.theirs.max_streams = self.theirs.max_streams.max(known.max_streams);
        self.credit.raise(self.theirs.max_data);
        for at in 0..self.lanes.len() {
            self.lanes.set_entry(at, agreement.best(&self.protocols, ProtocolId(at as u16)));
            let Some(lane) = self.lanes.used_mut(at) else { continue };
            if lane.entry.is_none() {
                for (queue, pool) in
                    [(&mut lane.outgoing, &mut self.send_pool), (&mut lane.incoming, &mut self.recv_pool)]
                {
                    if let Some(mut queue) = queue.take() {
                        self.stats.datagrams_dropped_sent += queue.clear(pool);
                    }
                }
                self.datagrams_ready &= !(1 << at);
            }
            // What a version of ours that the other side lacks came to does not concern one that it has.
            for urgency in Urgency::BOTH {
                let on = lane.entry.is_some();
                if let Some(channel) = lane.used_channel(urgency).filter(|_| on)
                    && channel.closed == Some(StreamCode::UNKNOWN_PROTOCOL)
                {
                    channel.closed = None;
                }
            }
        }
        let early = self.streams.sends.iter().map(|half| (half.id, half.entry())).collect::<Vec<_>>();
        for (id, entry) in early {
            let slot = self.streams.send_slot(id);
            let agreed = entry.and_then(|entry| u8::try_from(entry).ok()).is_none_or(|entry| agreement.has(entry));
            self.settle_early(slot, agreed);
        }
        self.agreement = Some(agreement);
        self.push(Event::Agreed);
        self.wake_waiting();
        let held = self.streams.recvs.iter().filter_map(|half| match half.purpose {
            Purpose::Unknown(Some(open)) => Some((half.id, open)),
            _ => None,
        });
        for (id, open) in held.collect::<Vec<_>>() {
            let slot = self.streams.recv_slot(id);
            self.resolve(slot, open)?;
            self.notify(slot);
        }
        Ok(())
    }

    /// A stream that was opened before HELLO is on, or it is not.
    fn settle_early(&mut self, slot: Slot, agreed: bool) {
        let Some(half) = self.streams.sends.get_mut(slot) else { return };
        half.max = half.max.max(self.theirs.max_stream_data);
        let (early, kind, protocol) = (half.early, half.kind, half.protocol);
        if !early {
            self.queue_ready(slot);
        } else if agreed {
            let whole = half.on_agreed(&mut self.send_pool);
            self.count_acked(protocol, kind, whole);
            self.queue_ready(slot);
            self.finish_send(slot);
        } else if let Some(urgency) = Urgency::of(kind) {
            self.close_channel(protocol, urgency, StreamCode::UNKNOWN_PROTOCOL);
            let lane = self.lanes.get_mut(protocol.index());
            if let Some(lane) = lane.filter(|lane| lane.entry.is_some()) {
                lane.channel_mut(urgency).closed = None;
            }
        } else {
            self.on_stopped(slot, StreamCode::UNKNOWN_PROTOCOL);
        }
    }

    /// Takes a piece of a stream.
    #[inline]
    pub(crate) fn on_stream(&mut self, frame: &Stream<'_>) -> Result<Received, Violation> {
        let Some(slot) = self.incoming(frame.id)? else { return Ok(Received::Taken) };
        // The frame with the first byte says what the stream is for, if its opener sent it; no other does.
        if frame.open.is_some() != (frame.offset == 0 && !self.streams.is_ours(frame.id)) {
            return Err(Violation::Protocol);
        }
        let Some(half) = self.streams.recvs.get_mut(slot) else { return Ok(Received::Taken) };
        let ranges = half.ranges();
        let session = self.window.max().saturating_sub(self.received);
        let may_split = self.ranges < MAX_RANGES;
        let arrival = half.on_data(frame.offset, frame.data, frame.fin, session, may_split, &mut self.recv_pool)?;
        self.ranges = self.ranges + half.ranges() - ranges;
        let new = match arrival {
            Arrival::Taken { new } => new,
            Arrival::Refused => {
                self.stats.refused += 1;
                return Ok(Received::Refused);
            }
        };
        self.received += new;
        if self.window.max() - self.received < self.limits.initial_window as u64 / 2 {
            self.leave_room();
        }
        let Some(half) = self.streams.recvs.get_mut(slot) else { return Ok(Received::Taken) };
        match half.purpose {
            Purpose::Known { .. } => {}
            Purpose::Discarded => self.consumed(new),
            Purpose::Unknown(before) => {
                if before.is_some() && frame.open.is_some() && before != frame.open {
                    return Err(Violation::Protocol);
                }
                let Some(open) = frame.open else { return Ok(Received::Taken) };
                half.purpose = Purpose::Unknown(Some(open));
                if self.agreement.is_none() {
                    return Ok(Received::Taken);
                }
                self.resolve(slot, open)?;
            }
        }
        self.notify(slot);
        Ok(Received::Taken)
    }

    /// The receiving half that a frame is about; `None` if that is over. Streams of the other side begin with any of their frames.
    #[inline]
    fn incoming(&mut self, id: StreamId) -> Result<Option<Slot>, Violation> {
        match self.streams.find(id) {
            Found::Open(row) if row.recv != NONE => Ok(Some(row.recv)),
            Found::Open(row) => {
                let only_ours = self.streams.is_ours(id)
                    && self.streams.sends.get(row.send).is_some_and(|half| half.kind != StreamKind::Bytes);
                if only_ours { Err(Violation::Protocol) } else { Ok(None) }
            }
            Found::Closed => Ok(None),
            Found::NeverOpened if self.streams.is_ours(id) => Err(Violation::Protocol),
            Found::NeverOpened if id.index() >= self.max_streams => Err(Violation::StreamLimit),
            Found::NeverOpened => {
                Ok(Some(self.streams.add_recv(RecvHalf::new(id, STREAM_WINDOW, self.stream_ceiling()))))
            }
        }
    }

    /// It is known now what a stream is for.
    fn resolve(&mut self, slot: Slot, open: Open) -> Result<(), Violation> {
        let known = self.agreement.as_ref().and_then(|agreement| agreement.ours(open.protocol));
        let Some(entry) = known.and_then(|at| self.protocols.entry(at)) else {
            self.unknown()?;
            self.refuse(slot, open.kind, StreamCode::UNKNOWN_PROTOCOL);
            return Ok(());
        };
        let protocol = entry.protocol;
        let Some(lane) = self.lanes.get_mut(protocol.index()) else { return Ok(()) };
        let takes_streams = self.protocols.get(protocol).is_some_and(super::Protocol::takes_streams);
        let refusal = match lane.failed {
            Some(code) => Some(code),
            None if self.refuses_streams => Some(StreamCode::REFUSED),
            None if open.kind == StreamKind::Bytes && !takes_streams => Some(StreamCode::REFUSED),
            None => None,
        };
        if let Some(code) = refusal {
            self.refuse(slot, open.kind, code);
            return Ok(());
        }
        if let Some(urgency) = Urgency::of(open.kind) {
            let channel = lane.channel_mut(urgency);
            if channel.recv != NONE {
                return Err(Violation::Protocol);
            }
            channel.recv = slot;
        }
        let Some(half) = self.streams.recvs.get_mut(slot) else { return Ok(()) };
        half.purpose = Purpose::Known { protocol, kind: open.kind };
        if open.kind == StreamKind::Bytes {
            let (id, stopped) = (half.id, half.stopped_early);
            let send = SendHalf::new(id, protocol, StreamKind::Bytes, None, self.theirs.max_stream_data);
            let send = self.streams.add_send(send);
            self.push(Event::Opened { stream: id, protocol, version: entry.version });
            if let Some(code) = stopped {
                self.on_stopped(send, code);
            }
        }
        Ok(())
    }

    /// Reads nothing of a stream, and writes nothing on it.
    fn refuse(&mut self, slot: Slot, kind: StreamKind, code: StreamCode) {
        let Some(half) = self.streams.recvs.get(slot) else { return };
        let id = half.id;
        if kind == StreamKind::Bytes {
            // It belongs to no protocol; nothing but the reset is ever sent on it.
            let send = self.streams.add_send(SendHalf::new(id, ProtocolId(u16::MAX), kind, None, 0));
            self.give_up(send, code);
        }
        self.discard(slot, code);
    }

    /// A frame was for a protocol that we lack.
    fn unknown(&mut self) -> Result<(), Violation> {
        self.stats.unknown_protocol += 1;
        if self.stats.unknown_protocol > MAX_UNKNOWN { Err(Violation::UnknownProtocol) } else { Ok(()) }
    }

    /// Something changed at the receiving half of a stream.
    #[inline]
    fn notify(&mut self, slot: Slot) {
        let Some(half) = self.streams.recvs.get_mut(slot) else { return };
        match half.purpose {
            Purpose::Known { kind: StreamKind::Bytes, .. } => {
                if half.reset.is_some() && half.ready > half.data.start() {
                    let unread = half.ready - half.data.start();
                    half.data.advance(half.ready, &mut self.recv_pool);
                    self.consumed(unread);
                    self.notify(slot);
                } else if !half.told && (half.ready > half.data.start() || half.is_complete() || half.reset.is_some()) {
                    half.told = true;
                    let stream = half.id;
                    self.push(Event::Readable { stream });
                }
            }
            Purpose::Known { protocol, kind } => self.inspect(slot, protocol, kind),
            Purpose::Discarded => self.finish_recv(slot),
            Purpose::Unknown(_) => {}
        }
    }

    /// Widens the window of the session by what is not read: who reads nothing makes its own sender wait, and nobody else as long as the
    /// memory of the session allows it.
    #[cold]
    fn leave_room(&mut self) {
        let unread = self.received.saturating_sub(self.consumed);
        if self.window.widen(unread + self.limits.initial_window as u64) {
            self.data_queued = true;
            self.stalled = false;
        }
    }

    /// Looks at the first message of a stream: tells the application, asks for the rest, or ends what cannot go on.
    pub(super) fn inspect(&mut self, slot: Slot, protocol: ProtocolId, kind: StreamKind) {
        let Some(half) = self.streams.recvs.get_mut(slot) else { return };
        let front = half.front(self.limits.max_message);
        let ended = half.reset.is_some() || half.is_complete();
        let clean = half.reset.is_some() || half.data.is_empty();
        match front {
            Front::Whole { .. } => {
                let Some(lane) = self.lanes.get_mut(protocol.index()) else { return };
                if !lane.message_told {
                    lane.message_told = true;
                    self.push(Event::Message { protocol });
                }
            }
            Front::TooLarge => self.fail(protocol, StreamCode::TOO_LARGE),
            // The stream ends in the middle of a message: that is for the protocol to answer, not for the session.
            _ if ended && !clean => self.fail(protocol, StreamCode::FAILED),
            _ if ended => {
                if let Some(lane) = self.lanes.get_mut(protocol.index())
                    && let Some(urgency) = Urgency::of(kind)
                {
                    lane.channel_mut(urgency).recv = NONE;
                }
                let unread = half.discard(&mut self.recv_pool);
                self.consumed(unread);
                self.finish_recv(slot);
            }
            Front::Nothing => {}
            Front::Partial { end } => {
                // Credit for the rest: it must not wait for reading, since nothing can be read before it is whole.
                let len = end - half.data.start();
                // And room for those behind it, which are begun only when there is credit for all of them: a window of one
                // message would carry one in each round trip.
                let wider = half.window.widen(MESSAGES_AHEAD * len);
                if wider || half.window.max() < end {
                    self.queue_credit(slot);
                }
                if self.window.widen(2 * len) {
                    self.data_queued = true;
                }
                self.stalled = false;
            }
        }
    }

    pub(crate) fn on_max_data(&mut self, max: u64) {
        if self.credit.raise(max) {
            self.stalled = false;
        }
    }

    pub(crate) fn on_max_stream_data(&mut self, id: StreamId, max: u64) -> Result<(), Violation> {
        match self.streams.find(id) {
            Found::Open(row) => {
                if let Some(half) = self.streams.sends.get_mut(row.send) {
                    half.max = half.max.max(max);
                    self.queue_ready(row.send);
                    Ok(())
                } else {
                    self.check_sends_on(id, row.recv)
                }
            }
            Found::NeverOpened if self.streams.is_ours(id) => Err(Violation::Protocol),
            // It overtook what opens the stream. The credit of HELLO does until more is given.
            Found::NeverOpened | Found::Closed => Ok(()),
        }
    }

    /// We never send on a stream of the other side's messages.
    fn check_sends_on(&self, id: StreamId, recv: Slot) -> Result<(), Violation> {
        let only_theirs =
            !self.streams.is_ours(id)
                && self.streams.recvs.get(recv).is_some_and(
                    |half| matches!(half.purpose, Purpose::Known { kind, .. } if kind != StreamKind::Bytes),
                );
        if only_theirs { Err(Violation::Protocol) } else { Ok(()) }
    }

    pub(crate) fn on_max_streams(&mut self, max: u64) {
        if max > self.theirs.max_streams {
            self.theirs.max_streams = max;
            self.stalled = false;
            self.wake_waiting();
        }
    }

    /// The other side gave up sending on a stream.
    pub(crate) fn on_reset(&mut self, id: StreamId, code: StreamCode, final_size: u64) -> Result<(), Violation> {
        let Some(slot) = self.incoming(id)? else { return Ok(()) };
        let Some(half) = self.streams.recvs.get_mut(slot) else { return Ok(()) };
        let session = self.window.max().saturating_sub(self.received);
        let ranges = half.ranges();
        let (new, lost) = half.on_reset(code, final_size, session, &mut self.recv_pool)?;
        self.ranges = self.ranges + half.ranges() - ranges;
        self.received += new;
        self.consumed(lost);
        self.notify(slot);
        Ok(())
    }

    /// The other side does not read a stream any further.
    pub(crate) fn on_stop(&mut self, id: StreamId, code: StreamCode) -> Result<(), Violation> {
        let slot = match self.streams.find(id) {
            Found::Open(row) if row.send != NONE => row.send,
            Found::Open(row) => {
                self.check_sends_on(id, row.recv)?;
                if let Some(half) = self.streams.recvs.get_mut(row.recv)
                    && matches!(half.purpose, Purpose::Unknown(_))
                {
                    half.stopped_early = Some(code);
                }
                return Ok(());
            }
            Found::Closed => return Ok(()),
            Found::NeverOpened => {
                let slot = self.incoming(id)?;
                if let Some(half) = slot.and_then(|slot| self.streams.recvs.get_mut(slot)) {
                    half.stopped_early = Some(code);
                }
                return Ok(());
            }
        };
        let Some(half) = self.streams.sends.get(slot) else { return Ok(()) };
        let (protocol, kind, gave_up) = (half.protocol, half.kind, half.has_given_up());
        match Urgency::of(kind) {
            _ if gave_up => {}
            Some(urgency) => self.close_channel(protocol, urgency, code),
            None => self.on_stopped(slot, code),
        }
        Ok(())
    }

    /// Takes a datagram, or drops the oldest for it.
    pub(crate) fn on_datagram(&mut self, protocol: u64, data: &[u8]) -> Result<(), Violation> {
        let Some(agreement) = &self.agreement else {
            self.stats.datagrams_dropped_received += 1;
            return Ok(());
        };
        let Some(entry) = agreement.ours(protocol).and_then(|at| self.protocols.entry(at)) else {
            // Once for each entry: an honest side may send many before it hears what we lack.
            self.stats.datagrams_dropped_received += 1;
            let bit = if protocol < 64 { 1_u64 << protocol } else { 0 };
            let known = self.strange_datagrams & bit != 0;
            self.strange_datagrams |= bit;
            return if known { Ok(()) } else { self.unknown() };
        };
        let cap = if self.has_datagrams(entry.protocol) { self.datagram_cap() } else { 0 };
        let Some(lane) = self.lanes.get_mut(entry.protocol.index()).filter(|lane| lane.failed.is_none()) else {
            return Ok(());
        };
        let queue = lane.incoming.get_or_insert_with(|| Box::new(Queue::new(cap)));
        // None are wanted: as if the queue had no room.
        let unwanted = self.limits.max_datagram == 0 || cap == 0;
        let dropped = if unwanted { 1 } else { queue.push(data, &mut self.recv_pool) };
        let tell = !queue.is_empty() && !std::mem::replace(&mut lane.datagram_told, true);
        self.stats.datagrams_dropped_received += dropped;
        self.count_dropped(entry.protocol, Direction::Received, dropped);
        if tell {
            self.push(Event::Datagram { protocol: entry.protocol });
        }
        Ok(())
    }

    /// The other side accepts no new streams.
    pub(crate) fn on_goaway(&mut self, _code: CloseCode) {
        self.refused_streams = true;
    }

    /// So many bytes were read, or never will be: their credit goes back.
    #[inline]
    pub(super) fn consumed(&mut self, bytes: u64) {
        self.consumed += bytes;
        if self.window.is_due(self.consumed) {
            self.data_queued = true;
            self.stalled = false;
        }
    }

    /// Announces more credit for a stream, unless it is known where that ends.
    #[inline]
    pub(super) fn queue_credit(&mut self, slot: Slot) {
        let Some(half) = self.streams.recvs.get_mut(slot) else { return };
        if half.final_size.is_none() && !half.is_discarded() && !half.credit_queued {
            half.credit_queued = true;
            self.control.push_back(Control::Credit(half.id));
            self.stalled = false;
        }
    }

    /// Reads nothing more of a stream, and says so unless it is known where it ends.
    pub(super) fn discard(&mut self, slot: Slot, code: StreamCode) {
        let Some(half) = self.streams.recvs.get_mut(slot) else { return };
        let ranges = half.ranges();
        let unread = half.discard(&mut self.recv_pool);
        self.ranges -= ranges;
        if half.final_size.is_none() && half.stop.is_none() {
            half.stop = Some(code);
            half.stop_queued = true;
            self.control.push_back(Control::Stop(half.id));
            self.stalled = false;
        }
        self.consumed(unread);
        self.finish_recv(slot);
    }

    /// Forgets the receiving half of a stream if nobody waits for anything from it.
    pub(super) fn finish_recv(&mut self, slot: Slot) {
        if self.streams.recvs.get(slot).is_some_and(RecvHalf::is_done) {
            self.remove_recv(slot);
        }
    }
}
