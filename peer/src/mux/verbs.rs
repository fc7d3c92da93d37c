//! What the application asks for.

use framing::{Open, StreamCode, StreamId, StreamKind};

use super::error::{OpenError, ReadError, SendError, WriteError};
use super::event::{Account, Direction, Event, MessageId, Read, Urgency};
use super::limits::{STREAM_WINDOW, WRITABLE};
use super::message::Prefix;
use super::pages::{PAGE, Pages, Pool};
use super::protocol::ProtocolId;
use super::stream::recv::{Front, Purpose, RecvHalf};
use super::stream::send::{SendHalf, Told};
use super::stream::{NONE, Slot};
use super::{Mux, Stats, relax};

impl Mux {
    /// The version in which a protocol is on: before HELLO our newest, `None` if the other side lacks it.
    pub(crate) fn version(&self, protocol: ProtocolId) -> Option<u16> {
        let lane = self.lanes.get(protocol.index()).filter(|lane| lane.failed.is_none())?;
        Some(self.protocols.entry(lane.entry?)?.version)
    }

    pub(crate) const fn stats(&self) -> Stats {
        self.stats
    }

    /// Opens a stream of bytes. The other side is told at once.
    pub(crate) fn open_stream(&mut self, protocol: ProtocolId) -> Result<StreamId, OpenError> {
        let lane = self.lanes.get(protocol.index()).ok_or(OpenError::NotRegistered)?;
        if let Some(code) = lane.failed {
            return Err(OpenError::Refused { code });
        }
        if self.refused_streams {
            return Err(OpenError::Refused { code: StreamCode::REFUSED });
        }
        let entry = lane.entry.ok_or(OpenError::NotAgreed)?;
        let Some(send) = self.new_stream(protocol, entry, StreamKind::Bytes) else {
            self.wants_streams = true;
            return Err(OpenError::Limit {
                max: self.theirs.max_streams.min(self.limits.max_streams(self.lanes.len())),
            });
        };
        let id = send.id;
        let mut recv = RecvHalf::new(id, STREAM_WINDOW, self.stream_ceiling());
        recv.purpose = Purpose::Known { protocol, kind: StreamKind::Bytes };
        let row = self.streams.add(send, recv);
        self.queue_again(row.send);
        Ok(id)
    }

    /// The sending half of a new stream of ours, which is still to be added, if one more is allowed.
    fn new_stream(&mut self, protocol: ProtocolId, entry: u8, kind: StreamKind) -> Option<SendHalf> {
        let own = usize::try_from(self.limits.max_streams(self.lanes.len())).unwrap_or(usize::MAX);
        if self.streams.next_index() >= self.theirs.max_streams || self.streams.ours() >= own {
            return None;
        }
        let open = Open { protocol: u64::from(entry), kind };
        let id = self.streams.next_id();
        let mut half = SendHalf::new(id, protocol, kind, Some(open), self.theirs.max_stream_data);
        half.early = self.agreement.is_none();
        Some(half)
    }

    /// How much may be appended to a buffer that holds `held` bytes.
    ///
    /// A buffer may hold at most twice what is free: whoever comes finds room, however many streams nobody reads. The memory of one
    /// message more is left to those that hold nothing, so that none of them waits for others.
    #[inline]
    pub(super) fn room(&self, held: usize) -> usize {
        let pool = self.send_ceiling().saturating_sub(self.limits.max_message + 2 * PAGE);
        let free = pool.saturating_sub(self.send_pool.used());
        let fair = (2 * free).saturating_sub(held) / 3;
        let floor = WRITABLE.saturating_sub(held);
        fair.max(floor).min(free.saturating_sub(PAGE))
    }

    /// Whether a message, with its length, may be appended.
    #[inline]
    fn admits(&self, held: usize, len: usize) -> bool {
        len <= self.room(held) || (held == 0 && self.send_pool.used() + len + 2 * PAGE <= self.send_ceiling())
    }

    /// What streams and messages may take of the memory for sending.
    fn send_ceiling(&self) -> usize {
        self.limits.send_memory - self.limits.datagram_memory - Pool::slack(self.limits.send_memory)
    }

    /// Takes as many of `data` as there is room for, at least one byte unless `data` is empty.
    pub(crate) fn write(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        let slot = self.writable(stream)?;
        self.append(slot, data)
    }

    /// The same; if that was all, nothing more will be written, and no event says that it arrived.
    pub(crate) fn write_last(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        let slot = self.writable(stream)?;
        let taken = if data.is_empty() { 0 } else { self.append(slot, data)? };
        if taken == data.len() {
            if let Some(half) = self.streams.sends.get_mut(slot) {
                half.quiet = true;
            }
            self.end(slot);
        }
        Ok(taken)
    }

    #[inline]
    fn append(&mut self, slot: Slot, data: &[u8]) -> Result<usize, WriteError> {
        let Some(half) = self.streams.sends.get(slot) else { return Err(WriteError::Closed) };
        let room = self.room(half.data.len()).min(half.room_ahead());
        let Some(half) = self.streams.sends.get_mut(slot) else { return Err(WriteError::Closed) };
        if room == 0 && !data.is_empty() {
            Self::wait(&mut self.waiting, half, slot, WRITABLE);
            return Err(WriteError::Blocked);
        }
        let (data, _) = data.split_at(data.len().min(room));
        half.data.append(data, &mut self.send_pool);
        self.unsent += data.len() as u64;
        self.queue_ready(slot);
        Ok(data.len())
    }

    pub(super) fn wait(waiting: &mut Vec<Slot>, half: &mut SendHalf, slot: Slot, wanted: usize) {
        if half.wanted == 0 {
            waiting.push(slot);
        }
        half.wanted = u32::try_from(wanted).unwrap_or(u32::MAX).max(1);
    }

    /// The sending half of a stream of bytes that the application may still write to.
    fn writable(&self, stream: StreamId) -> Result<Slot, WriteError> {
        let slot = self.streams.send_slot(stream);
        let half = self.streams.sends.get(slot).filter(|half| half.kind == StreamKind::Bytes);
        match half {
            Some(half) if half.has_given_up() && half.stopped => Err(WriteError::Stopped { code: half.code }),
            Some(half) if !half.has_given_up() && half.fin == Told::No => Ok(slot),
            _ => Err(WriteError::Closed),
        }
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&mut self, stream: StreamId) -> Result<(), WriteError> {
        let slot = self.writable(stream)?;
        self.end(slot);
        Ok(())
    }

    #[inline]
    fn end(&mut self, slot: Slot) {
        if let Some(half) = self.streams.sends.get_mut(slot) {
            half.fin = Told::Queued;
        }
        self.queue_again(slot);
    }

    /// Gives up what was not delivered.
    pub(crate) fn reset(&mut self, stream: StreamId, code: StreamCode) -> Result<(), WriteError> {
        let slot = self.streams.send_slot(stream);
        let half = self.streams.sends.get(slot).filter(|half| half.kind == StreamKind::Bytes && !half.has_given_up());
        if half.is_none() {
            return Err(WriteError::Closed);
        }
        self.give_up(slot, code);
        Ok(())
    }

    /// The receiving half of a stream of bytes that the application knows.
    fn readable(&self, stream: StreamId) -> Option<Slot> {
        let slot = self.streams.recv_slot(stream);
        let half = self.streams.recvs.get(slot)?;
        matches!(half.purpose, Purpose::Known { kind: StreamKind::Bytes, .. }).then_some(slot)
    }

    /// Takes what has come, as much as `out` has room for.
    pub(crate) fn read(&mut self, stream: StreamId, out: &mut [u8]) -> Result<Read, ReadError> {
        self.read_with(stream, out.len(), |data, len| {
            let (out, _) = out.split_at_mut(len);
            let _ = data.copy_to(data.start(), out);
        })
    }

    /// Appends what has come to `out`, `max` bytes at most.
    pub(crate) fn read_into(&mut self, stream: StreamId, out: &mut Vec<u8>, max: usize) -> Result<Read, ReadError> {
        self.read_with(stream, max, |data, len| data.extend(data.start(), len, out))
    }

    /// The same, and says [`Read::End`] with the last of it rather than behind it. Where less came than `max`, nothing is left to be
    /// read now.
    pub(crate) fn read_rest(&mut self, stream: StreamId, out: &mut Vec<u8>, max: usize) -> Result<Read, ReadError> {
        let slot = self.readable(stream).ok_or(ReadError::Closed)?;
        let Some(half) = self.streams.recvs.get_mut(slot) else { return Err(ReadError::Closed) };
        if let Some(code) = half.reset {
            self.remove_recv(slot);
            return Err(ReadError::Reset { code });
        }
        let available = usize::try_from(half.ready - half.data.start()).unwrap_or(usize::MAX);
        let len = available.min(max);
        half.data.extend(half.data.start(), len, out);
        half.consume(len, &mut self.recv_pool);
        let (due, complete) = (half.window.is_due(half.read()), half.is_complete());
        half.told = len < available || complete;
        self.on_read(slot, due, len);
        match len {
            len if len < available => Ok(Read::Bytes(len)),
            _ if complete => {
                self.remove_recv(slot);
                Ok(Read::End)
            }
            0 => Err(ReadError::Blocked),
            len => Ok(Read::Bytes(len)),
        }
    }

    fn read_with(&mut self, stream: StreamId, max: usize, take: impl FnOnce(&Pages, usize)) -> Result<Read, ReadError> {
        let slot = self.readable(stream).ok_or(ReadError::Closed)?;
        let Some(half) = self.streams.recvs.get_mut(slot) else { return Err(ReadError::Closed) };
        if let Some(code) = half.reset {
            self.remove_recv(slot);
            return Err(ReadError::Reset { code });
        }
        let available = usize::try_from(half.ready - half.data.start()).unwrap_or(usize::MAX);
        if available == 0 {
            if half.is_complete() {
                self.remove_recv(slot);
                return Ok(Read::End);
            }
            half.told = false;
            return Err(ReadError::Blocked);
        }
        let len = available.min(max);
        take(&half.data, len);
        half.consume(len, &mut self.recv_pool);
        let due = half.window.is_due(half.read());
        self.on_read(slot, due, len);
        Ok(Read::Bytes(len))
    }

    /// The application has so many bytes more of a stream.
    #[inline]
    pub(super) fn on_read(&mut self, slot: Slot, due: bool, len: usize) {
        self.consumed(len as u64);
        if due {
            self.queue_credit(slot);
        }
    }

    /// Nothing more will be read.
    pub(crate) fn stop(&mut self, stream: StreamId, code: StreamCode) -> Result<(), ReadError> {
        let slot = self.readable(stream).ok_or(ReadError::Closed)?;
        self.discard(slot, code);
        Ok(())
    }

    /// Takes a message, as a whole or not at all.
    pub(crate) fn send(
        &mut self,
        protocol: ProtocolId,
        message: &[u8],
        urgency: Urgency,
    ) -> Result<MessageId, SendError> {
        let lane = self.lanes.get_mut(protocol.index()).ok_or(SendError::NotRegistered)?;
        let channel = lane.channel(urgency);
        if let Some(code) = lane.failed {
            return Err(SendError::Stopped { code });
        }
        let entry = lane.entry.ok_or(SendError::NotAgreed)?;
        if let Some(code) = channel.closed {
            return Err(SendError::Stopped { code });
        }
        let theirs = usize::try_from(self.theirs.max_message).unwrap_or(usize::MAX);
        let (len, max) = (message.len(), self.limits.max_message);
        if len > max.min(theirs) {
            // Before HELLO it is not known whether that is too long for the other side.
            if self.agreement.is_some() {
                return Err(SendError::TooLarge { len, max: max.min(theirs) });
            }
            if len > max {
                return Err(SendError::TooLarge { len, max });
            }
            lane.channel_mut(urgency).waiting = true;
            self.channels_wait = true;
            return Err(SendError::Blocked);
        }
        let mut slot = channel.send;
        if slot == NONE {
            slot = self.open_channel(protocol, entry, urgency)?;
        }
        let prefix = Prefix::new(len);
        let whole = prefix.bytes().len() + len;
        let Some(held) = self.streams.sends.get(slot).map(|half| half.data.len()) else {
            return Err(SendError::Blocked);
        };
        let admitted = self.admits(held, whole);
        let Some(half) = self.streams.sends.get_mut(slot) else { return Err(SendError::Blocked) };
        if !admitted {
            Self::wait(&mut self.waiting, half, slot, whole);
            return Err(SendError::Blocked);
        }
        half.data.append(prefix.bytes(), &mut self.send_pool);
        half.data.append(message, &mut self.send_pool);
        self.unsent += whole as u64;
        self.queue_ready(slot);
        let Some(lane) = self.lanes.get_mut(protocol.index()) else { return Err(SendError::NotRegistered) };
        let accepted = &mut lane.channel_mut(urgency).account.accepted;
        *accepted += 1;
        Ok(MessageId(*accepted - 1))
    }

    /// The stream for messages that are the first, or the first since an earlier one was closed.
    fn open_channel(&mut self, protocol: ProtocolId, entry: u8, urgency: Urgency) -> Result<Slot, SendError> {
        if self.refused_streams {
            return Err(SendError::Stopped { code: StreamCode::REFUSED });
        }
        let slot = self.new_stream(protocol, entry, urgency.kind()).map(|half| self.streams.add_send(half));
        let Some(lane) = self.lanes.get_mut(protocol.index()) else { return Err(SendError::NotRegistered) };
        let channel = lane.channel_mut(urgency);
        let Some(slot) = slot else {
            channel.waiting = true;
            self.channels_wait = true;
            return Err(SendError::Blocked);
        };
        channel.send = slot;
        channel.acked_before = channel.account.acked;
        Ok(slot)
    }

    /// Puts the next message in `out`, replacing what it held: urgent ones first. Returns its length.
    pub(crate) fn recv(&mut self, protocol: ProtocolId, out: &mut Vec<u8>) -> Option<usize> {
        for urgency in Urgency::BOTH {
            let slot = self.lanes.get(protocol.index())?.channel(urgency).recv;
            let Some(half) = self.streams.recvs.get_mut(slot) else { continue };
            let Front::Whole { prefix, len } = half.front(self.limits.max_message) else {
                self.inspect(slot, protocol, urgency.kind());
                continue;
            };
            out.clear();
            half.data.extend(half.data.start() + prefix as u64, len, out);
            half.consume(prefix + len, &mut self.recv_pool);
            let due = half.window.is_due(half.read());
            self.on_read(slot, due, prefix + len);
            return Some(len);
        }
        self.lanes.used_mut(protocol.index())?.message_told = false;
        None
    }

    /// Datagrams were dropped: an event says how many until it is polled.
    pub(super) fn count_dropped(&mut self, protocol: ProtocolId, direction: Direction, count: u64) {
        if count == 0 {
            return;
        }
        let Some(lane) = self.lanes.get_mut(protocol.index()) else { return };
        let [sent, received] = &mut lane.dropped;
        let dropped = if direction == Direction::Sent { sent } else { received };
        let tell = *dropped == 0;
        *dropped = dropped.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if tell {
            self.push(Event::DatagramsDropped { protocol, direction, count });
        }
    }

    /// The application could not make sense of what came: stops this protocol on this session, and nothing else.
    pub(crate) fn fail_protocol(&mut self, protocol: ProtocolId) {
        self.fail(protocol, StreamCode::FAILED);
    }

    pub(super) fn fail(&mut self, protocol: ProtocolId, code: StreamCode) {
        let Some(lane) = self.lanes.get_mut(protocol.index()).filter(|lane| lane.failed.is_none()) else { return };
        lane.failed = Some(code);
        let (incoming, outgoing) = (lane.incoming.take(), lane.outgoing.take());
        self.datagrams_ready &= !(1 << protocol.index());
        if let Some(mut queue) = outgoing {
            self.stats.datagrams_dropped_sent += queue.clear(&mut self.send_pool);
        }
        if let Some(mut queue) = incoming {
            self.stats.datagrams_dropped_received += queue.clear(&mut self.recv_pool);
        }
        for urgency in Urgency::BOTH {
            self.close_channel(protocol, urgency, code);
        }
        let sends = self.streams.sends.iter().filter(|half| half.protocol == protocol).map(|half| half.id);
        for id in sends.collect::<Vec<_>>() {
            self.give_up(self.streams.send_slot(id), code);
        }
        let recvs = self
            .streams
            .recvs
            .iter()
            .filter(|half| matches!(half.purpose, Purpose::Known { protocol: of, .. } if of == protocol));
        for id in recvs.map(|half| half.id).collect::<Vec<_>>() {
            self.discard(self.streams.recv_slot(id), code);
        }
        if let Some(lane) = self.lanes.get_mut(protocol.index()) {
            for urgency in Urgency::BOTH {
                lane.channel_mut(urgency).recv = NONE;
            }
        }
        self.push(Event::ProtocolFailed { protocol, code });
    }

    /// Sends no more on a channel, and says what became of what it took.
    pub(super) fn close_channel(&mut self, protocol: ProtocolId, urgency: Urgency, code: StreamCode) {
        let Some(lane) = self.lanes.get_mut(protocol.index()) else { return };
        let channel = lane.channel_mut(urgency);
        channel.closed = channel.closed.or(Some(code));
        let slot = std::mem::replace(&mut channel.send, NONE);
        let Some(half) = self.streams.sends.get(slot) else { return };
        let (sent, unsent) = half.tally();
        // What was sent in a version that the other side lacks it cannot have.
        let (unknown, unsent) = if half.early { (0, sent + unsent) } else { (sent, unsent) };
        channel.account.unknown += unknown;
        channel.account.unsent += unsent;
        // The other side took none of what came on a stream that it refused, whatever packets it acknowledged.
        if code == StreamCode::REFUSED {
            let refused = channel.account.acked - channel.acked_before;
            channel.account.acked = channel.acked_before;
            channel.account.unknown += refused;
        }
        let account = channel.account;
        self.give_up(slot, code);
        self.push(Event::ChannelClosed { protocol, urgency, code, account });
    }

    /// What became of the messages so far.
    pub(crate) fn account(&self, protocol: ProtocolId, urgency: Urgency) -> Account {
        let Some(channel) = self.lanes.get(protocol.index()).map(|lane| lane.channel(urgency)) else {
            return Account::default();
        };
        let (unknown, unsent) = self.streams.sends.get(channel.send).map_or((0, 0), SendHalf::tally);
        let mut account = channel.account;
        account.unknown += unknown;
        account.unsent += unsent;
        account
    }

    /// Whether everything that was accepted for sending was acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        self.datagrams_ready == 0
            && self.control.is_empty()
            && self.again.is_empty()
            && self
                .streams
                .sends
                .iter()
                .all(|half| half.data.is_empty() && half.fin == Told::No && !half.has_given_up())
    }

    /// Forgets the sending half of a stream.
    pub(super) fn remove_send(&mut self, slot: Slot) {
        let Some(half) = self.streams.sends.get_mut(slot) else { return };
        half.data.narrow(&mut self.send_pool);
        if half.ready
            && let Some(lane) = self.lanes.get_mut(half.protocol.index())
        {
            lane.ready.retain(|other| *other != slot);
            if lane.ready.is_empty() {
                self.streams_ready &= !(1 << half.protocol.index());
            }
        }
        if half.resending {
            self.again.retain(|other| *other != slot);
        }
        if half.wanted != 0 {
            self.waiting.retain(|other| *other != slot);
        }
        if self.oversized == slot {
            self.oversized = NONE;
        }
        let (stream, delivered) = (half.id, half.fin == Told::Acked && !half.quiet);
        let over = self.streams.remove_send(slot);
        if delivered {
            self.push(Event::Delivered { stream });
        }
        if over {
            self.on_over(stream);
        }
    }

    /// Forgets the receiving half of a stream.
    pub(super) fn remove_recv(&mut self, slot: Slot) {
        let Some(half) = self.streams.recvs.get_mut(slot) else { return };
        debug_assert!(half.data.is_empty() && half.ranges() == 0, "nothing is held");
        half.data.narrow(&mut self.recv_pool);
        let stream = half.id;
        if self.streams.remove_recv(slot) {
            self.on_over(stream);
        }
    }

    /// A stream is over: another may be opened.
    fn on_over(&mut self, id: StreamId) {
        if self.streams.is_ours(id) {
            self.wake_waiting();
        } else {
            let limit = self.limits.max_streams(self.lanes.len());
            if limit + self.streams.closed_count() - self.max_streams >= limit / 8 {
                self.streams_queued = true;
                self.stalled = false;
            }
        }
    }

    /// Streams may be available, or messages may be allowed, that were not.
    pub(super) fn wake_waiting(&mut self) {
        if std::mem::take(&mut self.wants_streams) {
            self.push(Event::StreamsAvailable);
        }
        if !std::mem::take(&mut self.channels_wait) {
            return;
        }
        for at in 0..self.lanes.len() {
            for urgency in Urgency::BOTH {
                let Some(lane) = self.lanes.used_mut(at) else { continue };
                if lane.used_channel(urgency).is_some_and(|channel| std::mem::take(&mut channel.waiting)) {
                    self.push(Event::SendReady { protocol: ProtocolId(at as u16), urgency });
                }
            }
        }
    }

    /// Tells those that wait for room and have it now.
    fn wake_blocked(&mut self) {
        self.unblock = false;
        let waiting = self.waiting.take();
        for slot in waiting {
            let Some(half) = self.streams.sends.get(slot) else { continue };
            let (held, wanted, given_up) = (half.data.len(), half.wanted as usize, half.has_given_up());
            let urgency = Urgency::of(half.kind);
            let room = match urgency {
                Some(_) => self.admits(held, wanted),
                None => self.room(held) >= wanted && half.wants_more(),
            };
            let Some(half) = self.streams.sends.get_mut(slot) else { continue };
            if given_up {
                half.wanted = 0;
            } else if room {
                half.wanted = 0;
                let (protocol, stream) = (half.protocol, half.id);
                self.push(match urgency {
                    Some(urgency) => Event::SendReady { protocol, urgency },
                    None => Event::Writable { stream },
                });
            } else {
                self.waiting.push(slot);
            }
        }
    }

    /// What happened, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if self.unblock {
            self.wake_blocked();
        }
        let mut event = self.events.pop_front()?;
        relax(&mut self.events);
        match &mut event {
            Event::Acked { protocol, urgency, through } => {
                if let Some(lane) = self.lanes.get_mut(protocol.index()) {
                    let channel = lane.channel_mut(*urgency);
                    channel.acked_queued = false;
                    *through = channel.through;
                }
            }
            Event::DatagramsDropped { protocol, direction, count } => {
                if let Some(lane) = self.lanes.get_mut(protocol.index()) {
                    let [sent, received] = &mut lane.dropped;
                    let dropped = if *direction == Direction::Sent { sent } else { received };
                    *count = u64::from(std::mem::take(dropped));
                }
            }
            _ => {}
        }
        Some(event)
    }
}
