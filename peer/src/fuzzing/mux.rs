//! Two multiplexers, and all that they were given to deliver.

mod content;
mod laws;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framing::{CloseCode, Frame, Frames, Hello, PacketWriter, Role, StreamCode, StreamId};

use crate::Violation;
use crate::mux::{Limits, Messages, Mux, ProtocolId, Read, ReadError, Received, Urgency, WriteError, push_message};
use crate::sent::SentFrames;

use content::{byte, datagram, message, protocols};

/// Protocols of either side. The last ones differ.
const PROTOCOLS: u16 = 4;

const BOTH: [Urgency; 2] = [Urgency::Normal, Urgency::Urgent];

/// Small, so that limits are reached soon.
const LIMITS: Limits = Limits {
    max_message: 16 << 10,
    streams: 16,
    send_memory: 256 << 10,
    receive_memory: 3 << 19,
    initial_window: 64 << 10,
    max_datagram: 1300,
    datagram_memory: 16 << 10,
};

/// Packets of one side whose fate is open, or that may arrive once more.
const MAX_PACKETS: usize = 256;

/// Streams that a side may have, channels included: its own and the other's.
const MAX_STREAMS: usize = 2 * (16 + 2 * PROTOCOLS as usize);

/// Two multiplexers, the packets between them, and everything that was ever sent.
///
/// What is read is what was written, from the first byte on, and no more; messages come once, in order and whole;
/// [`Account`](crate::mux::Account)s add up; memory is bounded; a side says that it has something to send if and only if
/// it has; the honest never break the protocol. Once somebody else spoke for a side, what the other side reads is not
/// looked at, and either may find that the protocol was broken; the rest holds.
#[derive(Debug)]
pub struct Muxes {
    now: Instant,
    ends: [End; 2],
    streams: BTreeMap<StreamId, Stream>,
    /// By sender, protocol and urgency.
    channels: BTreeMap<(usize, u16, Urgency), Channel>,
    /// Somebody spoke for a side, whichever it was.
    hostile: bool,
    checks: usize,
}

/// One side.
#[derive(Debug)]
struct End {
    mux: Mux,
    /// It has the other side's HELLO.
    greeted: bool,
    /// Somebody spoke to it who was not the other side.
    deceived: bool,
    /// It found that the protocol was broken, or was told so.
    over: bool,
    packets: Vec<Packet>,
    /// Bytes of frames in its packets, as it was told.
    room: usize,
    known: Vec<StreamId>,
    failed: BTreeSet<ProtocolId>,
    datagrams: u64,
}

/// A packet that was sent.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    sent: SentFrames,
    /// It arrived, and was taken.
    taken: bool,
    told: bool,
}

/// What was done with a stream of bytes by the writer of either direction, and by its reader.
#[derive(Debug, Clone, Copy)]
struct Stream {
    protocol: ProtocolId,
    ways: [Way; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    written: u64,
    read: u64,
    finished: bool,
    ended: bool,
    given_up: bool,
}

/// The messages of one direction.
#[derive(Debug, Default)]
struct Channel {
    lens: Vec<usize>,
    next: usize,
    acked: u64,
    /// What was closed before these will not come any more.
    resumed_at: BTreeSet<usize>,
    closed: bool,
}

impl Muxes {
    /// A dialler and a responder that have not greeted each other, with the same protocols or with some that differ,
    /// and `datagrams` on all of them or only on some.
    #[must_use]
    pub fn new(same: bool, datagrams: bool, now: Instant) -> Self {
        let ends = [Role::Dialler, Role::Responder].map(|role| End {
            mux: Mux::new(role, Arc::new(protocols(same || role == Role::Dialler, datagrams)), LIMITS, now),
            greeted: false,
            deceived: false,
            over: false,
            packets: Vec::new(),
            room: framing::limits::MIN_PAYLOAD,
            known: Vec::new(),
            failed: BTreeSet::new(),
            datagrams: 0,
        });
        Self { now, ends, streams: BTreeMap::new(), channels: BTreeMap::new(), hostile: false, checks: 0 }
    }

    /// Time passes; rate caps let go.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    /// The round-trip time that a side measured.
    pub fn set_rtt(&mut self, side: usize, rtt: Duration) {
        self.ends[side & 1].mux.set_rtt(rtt);
    }

    /// How much a packet of a side holds.
    pub fn set_packet_room(&mut self, side: usize, room: usize) {
        let end = &mut self.ends[side & 1];
        end.room = room;
        end.mux.set_packet_room(room);
        self.check(side & 1);
    }

    /// A side gets the other's HELLO, if it has not.
    pub fn greet(&mut self, side: usize) {
        let (to, from) = (side & 1, 1 - (side & 1));
        if self.ends[to].greeted || self.ends[to].over {
            return;
        }
        let other = &self.ends[from].mux;
        let body = Hello::compose(other.protocols().entries(), None, None, &other.announced()).unwrap_or_default();
        let Ok(hello) = Hello::parse(&body) else { return };
        self.ends[to].greeted = true;
        let result = self.ends[to].mux.on_hello(&hello);
        self.judge(to, result.map(|()| Received::Taken));
    }

    /// A side fills a packet, in which there may be less room than in others. Says whether there was anything to put into it.
    pub fn transmit(&mut self, side: usize, less: usize) -> bool {
        let (from, now) = (side & 1, self.now);
        let end = &mut self.ends[from];
        if end.over {
            return false;
        }
        // Whoever waits for its cap is told of when that lets go, but may use a packet that leaves before.
        let wants = end.mux.has_output(now) || end.mux.deadline().is_some();
        let mut bytes = vec![0; end.room.saturating_sub(less)];
        let mut sent = SentFrames::new();
        let mut writer = PacketWriter::new(&mut bytes);
        end.mux.fill(&mut writer, &mut sent, now);
        let len = writer.len();
        bytes.truncate(len);
        assert!(wants || len == 0, "there was {sent:?} to send, and nobody was told");
        if len == 0 {
            assert!(sent.is_empty(), "{sent:?} in no packet");
            // A datagram waits for a packet that it fits.
            let still = less == 0 && end.mux.has_output(now);
            assert!(!still, "there is something to send, and nothing is sent");
            return false;
        }
        assert!(Frames::new(&bytes).all(|frame| frame.is_ok()), "what is sent can be read");
        end.packets.push(Packet { bytes, sent, taken: false, told: false });
        if end.packets.len() > MAX_PACKETS {
            self.lose(from, 0);
            self.ends[from].packets.remove(0);
        }
        self.check(from);
        true
    }

    /// How many packets of a side are under way.
    #[must_use]
    pub fn under_way(&self, side: usize) -> usize {
        self.ends[side & 1].packets.len()
    }

    /// A packet of a side arrives, once more perhaps.
    pub fn deliver(&mut self, side: usize, which: usize) {
        let (from, to) = (side & 1, 1 - (side & 1));
        let Some(packet) = self.ends[from].packets.get(which) else { return };
        let bytes = packet.bytes.clone();
        if self.ends[to].over {
            return;
        }
        let result = dispatch(&mut self.ends[to].mux, &bytes);
        let taken = self.judge(to, result);
        if let Some(packet) = self.ends[from].packets.get_mut(which) {
            packet.taken |= taken;
        }
    }

    /// A side hears that its packet arrived, if it did.
    pub fn acknowledge(&mut self, side: usize, which: usize) {
        let end = &mut self.ends[side & 1];
        let Some(packet) = end.packets.get_mut(which).filter(|packet| packet.taken && !packet.told) else { return };
        packet.told = true;
        packet.sent.iter().for_each(|frame| end.mux.on_acked(frame));
        self.check(side & 1);
    }

    /// A side gives its packet up, which may still arrive.
    pub fn lose(&mut self, side: usize, which: usize) {
        let end = &mut self.ends[side & 1];
        let Some(packet) = end.packets.get_mut(which).filter(|packet| !packet.told) else { return };
        packet.told = true;
        packet.sent.iter().for_each(|frame| end.mux.on_lost(frame));
        self.check(side & 1);
    }

    /// Somebody sends these frames to a side in the other's name.
    pub fn deceive(&mut self, side: usize, frames: &[u8]) {
        let to = side & 1;
        if self.ends[to].over {
            return;
        }
        self.hostile = true;
        self.ends[to].deceived = true;
        let result = dispatch(&mut self.ends[to].mux, frames);
        self.judge(to, result);
    }

    fn judge(&mut self, side: usize, result: Result<Received, Violation>) -> bool {
        if let Err(violation) = result {
            assert!(self.hostile, "the honest side is accused of a {violation}");
            self.ends[side].over = true;
        }
        self.check(side);
        result == Ok(Received::Taken)
    }

    /// Opens a stream.
    pub fn open(&mut self, side: usize, protocol: u16) {
        let (at, protocol) = (side & 1, ProtocolId(protocol % PROTOCOLS));
        if let Ok(id) = self.ends[at].mux.open_stream(protocol) {
            let fresh = self.streams.insert(id, Stream { protocol, ways: [Way::default(); 2] });
            assert!(fresh.is_none() || self.hostile, "{id:?} was opened before");
            self.ends[at].known.push(id);
        }
        self.check(at);
    }

    /// Writes to one of the streams that a side knows.
    pub fn write(&mut self, side: usize, which: usize, len: usize) {
        let Some((at, id)) = self.stream(side, which) else { return };
        let Some(way) = self.streams.get_mut(&id).and_then(|stream| stream.ways.get_mut(at)) else { return };
        let data: Vec<u8> = (way.written..).take(len).map(|offset| byte(id, at, offset)).collect();
        match self.ends[at].mux.write(id, &data) {
            Ok(taken) => {
                assert!(taken <= len && (taken > 0 || len == 0) && !way.finished, "{taken} of {len} bytes");
                way.written += taken as u64;
            }
            Err(WriteError::Blocked) => {}
            Err(WriteError::Stopped { .. }) => way.given_up = true,
            Err(WriteError::Closed) => {
                let finished = way.finished;
                // What closed it may not have been told yet.
                self.poll(at);
                assert!(finished || self.hostile || self.has_ended(at, id), "{id:?} is closed");
            }
        }
        self.check(at);
    }

    /// Says that nothing more will be written, or that all is given up.
    pub fn end(&mut self, side: usize, which: usize, reset: bool) {
        let Some((at, id)) = self.stream(side, which) else { return };
        let mux = &mut self.ends[at].mux;
        let done = if reset { mux.reset(id, StreamCode::application(1)) } else { mux.finish(id) };
        if let Some(way) = self.streams.get_mut(&id).and_then(|stream| stream.ways.get_mut(at)) {
            way.given_up |= reset && done.is_ok();
            way.finished |= !reset && done.is_ok();
        }
        self.check(at);
    }

    /// Reads from one of the streams that a side knows. Says whether anything came of it.
    pub fn read(&mut self, side: usize, which: usize, len: usize) -> bool {
        self.read_by(side, which, len, |mux, id, out| {
            out.resize(len, 0);
            mux.read(id, out)
        })
    }

    /// The same, behind what there is.
    pub fn read_into(&mut self, side: usize, which: usize, max: usize) -> bool {
        self.read_by(side, which, max, |mux, id, out| {
            out.extend([0xaa; 3]);
            let result = mux.read_into(id, out, max);
            assert_eq!(out.drain(..3).as_slice(), [0xaa; 3], "what was there stays");
            let read = if let Ok(Read::Bytes(read)) = result { read } else { 0 };
            assert_eq!(out.len(), read, "so many bytes were appended");
            result
        })
    }

    fn read_by(
        &mut self,
        side: usize,
        which: usize,
        len: usize,
        read: impl FnOnce(&mut Mux, StreamId, &mut Vec<u8>) -> Result<Read, ReadError>,
    ) -> bool {
        let Some((at, id)) = self.stream(side, which) else { return false };
        let (hostile, deceived) = (self.hostile, self.ends[at].deceived);
        let mut out = Vec::new();
        let result = read(&mut self.ends[at].mux, id, &mut out);
        let Some(way) = self.streams.get_mut(&id).and_then(|stream| stream.ways.get_mut(1 - at)) else { return false };
        match result {
            Ok(Read::Bytes(read)) => {
                assert!(read <= len, "no more than was asked for");
                let expected = (way.read..).map(|offset| byte(id, 1 - at, offset));
                let same = out.iter().take(read).copied().eq(expected.take(read));
                way.read += read as u64;
                assert!(deceived || same, "not what was written to {id:?}");
                assert!(deceived || way.read <= way.written, "more than was written to {id:?}");
            }
            Ok(Read::End) => {
                assert!(deceived || (way.finished && way.read == way.written), "no end was set at {}", way.read);
                way.ended = true;
            }
            Err(ReadError::Reset { .. }) => {
                way.given_up = true;
            }
            Err(ReadError::Blocked) => {}
            Err(ReadError::Closed) => {
                let known = way.ended || way.given_up;
                assert!(known || hostile || self.has_ended(at, id), "{id:?} is closed");
            }
        }
        self.check(at);
        matches!(result, Ok(Read::Bytes(1..) | Read::End) | Err(ReadError::Reset { .. }))
    }

    /// Reads no further.
    pub fn stop(&mut self, side: usize, which: usize) {
        let Some((at, id)) = self.stream(side, which) else { return };
        let done = self.ends[at].mux.stop(id, StreamCode::application(2));
        if let Some(way) = self.streams.get_mut(&id).and_then(|stream| stream.ways.get_mut(1 - at)) {
            way.given_up |= done.is_ok();
        }
        self.check(at);
    }

    /// Whether a stream may be closed for a side although it did not close it.
    fn has_ended(&self, side: usize, id: StreamId) -> bool {
        let Some(stream) = self.streams.get(&id) else { return true };
        self.ends[side].failed.contains(&stream.protocol) || stream.ways.iter().any(|way| way.given_up)
    }

    fn stream(&self, side: usize, which: usize) -> Option<(usize, StreamId)> {
        let known = &self.ends[side & 1].known;
        Some((side & 1, *known.get(which.checked_rem(known.len())?)?))
    }

    /// Sends a message.
    pub fn send(&mut self, side: usize, protocol: u16, urgency: Urgency, len: usize) {
        let (at, protocol) = (side & 1, protocol % PROTOCOLS);
        let channel = self.channels.entry((at, protocol, urgency)).or_default();
        // An empty one could be of either kind.
        let len = len.max(usize::from(urgency == Urgency::Urgent));
        let message = message((at, protocol, urgency), channel.lens.len(), len);
        if let Ok(id) = self.ends[at].mux.send(ProtocolId(protocol), &message, urgency) {
            assert_eq!(id.0, channel.lens.len() as u64, "messages are numbered as they are accepted");
            channel.lens.push(len);
        }
        self.check(at);
    }

    /// Sends so many messages at once, in lengths from `len` down, and then again.
    pub fn send_batch(&mut self, side: usize, protocol: u16, urgency: Urgency, (count, len): (usize, usize)) {
        let (at, protocol) = (side & 1, protocol % PROTOCOLS);
        let name = (at, protocol, urgency);
        let channel = self.channels.entry(name).or_default();
        let least = usize::from(urgency == Urgency::Urgent);
        let lens: Vec<usize> = (0..count).map(|n| len.saturating_sub(n * 7).max(least)).collect();
        let mut batch = Vec::new();
        for (number, len) in (channel.lens.len()..).zip(&lens) {
            push_message(&mut batch, &message(name, number, *len));
        }
        // One that is not whole is never taken.
        batch.push(1);
        match self.ends[at].mux.send_batch(ProtocolId(protocol), &batch, urgency) {
            Ok(taken) => {
                assert_eq!(taken.first.0, channel.lens.len() as u64, "messages are numbered as they are accepted");
                assert!(taken.messages <= count as u64 && (taken.messages > 0 || count == 0), "{taken:?} of {count}");
                let taken_lens = lens.iter().take(usize::try_from(taken.messages).unwrap_or(usize::MAX));
                channel.lens.extend(taken_lens);
                let rest = batch.get(taken.bytes..).unwrap_or_default();
                assert_eq!(Messages::new(rest).count() as u64, count as u64 - taken.messages, "{taken:?} of {count}");
            }
            Err(_) => assert!(count > 0 || self.ends[at].greeted, "nothing is always taken"),
        }
        self.check(at);
    }

    /// Takes messages, as many as `max` bytes hold. Says whether there was any.
    pub fn recv_batch(&mut self, side: usize, protocol: u16, max: usize) -> bool {
        let (at, protocol) = (side & 1, protocol % PROTOCOLS);
        let mut out = Vec::new();
        let count = self.ends[at].mux.recv_batch(ProtocolId(protocol), &mut out, max);
        assert_eq!(Messages::new(&out).count() as u64, count, "what is appended is whole messages");
        assert!(out.len() <= max || count == 1, "{count} messages of {} bytes, where {max} were wanted", out.len());
        for message in Messages::new(&out) {
            let taken = self.takes_next(at, protocol, message);
            assert!(taken || self.ends[at].deceived, "{} bytes are not the next message", message.len());
        }
        self.check(at);
        count > 0
    }

    /// Whether this is the next message for a side: if so, it is read.
    fn takes_next(&mut self, at: usize, protocol: u16, bytes: &[u8]) -> bool {
        self.is_next(1 - at, protocol, bytes) || {
            // Its sender may have events about what it left out.
            self.poll(1 - at);
            self.is_next(1 - at, protocol, bytes)
        }
    }

    /// Takes the next message. Says whether there was one.
    pub fn recv(&mut self, side: usize, protocol: u16) -> bool {
        let (at, protocol) = (side & 1, protocol % PROTOCOLS);
        let mut out = vec![0xaa; 3];
        let len = self.ends[at].mux.recv(ProtocolId(protocol), &mut out);
        if let Some(len) = len {
            assert_eq!(len, out.len());
            let taken = self.takes_next(at, protocol, &out);
            assert!(taken || self.ends[at].deceived, "{len} bytes are not the next message");
        }
        self.check(at);
        len.is_some()
    }

    /// Whether this is the next message that a side sent: if so, it is read.
    fn is_next(&mut self, from: usize, protocol: u16, bytes: &[u8]) -> bool {
        BOTH.into_iter().any(|urgency| {
            let name = (from, protocol, urgency);
            let Some(channel) = self.channels.get_mut(&name) else { return false };
            let resumed = channel.resumed_at.range(channel.next..).copied();
            let mut next = [channel.next].into_iter().chain(resumed);
            let is = |n: &usize| channel.lens.get(*n).is_some_and(|len| message(name, *n, *len) == bytes);
            let Some(number) = next.find(is) else { return false };
            channel.next = number + 1;
            true
        })
    }

    /// Sends a datagram.
    pub fn send_datagram(&mut self, side: usize, protocol: u16, len: usize) {
        let (at, protocol) = (side & 1, protocol % PROTOCOLS);
        let end = &mut self.ends[at];
        let (id, room, dropped) = (ProtocolId(protocol), end.mux.datagram_room(ProtocolId(protocol)), end.mux.stats());
        if end.mux.send_datagram(id, &datagram(at, protocol, end.datagrams, len)).is_ok() {
            end.datagrams += 1;
            let gave_way = end.mux.stats().datagrams_dropped_sent - dropped.datagrams_dropped_sent;
            let fits = room.is_some_and(|room| len <= room);
            assert_eq!(gave_way > 0, !fits, "{gave_way} gave way for {len} bytes, and there was room for {room:?}");
        }
        self.check(at);
    }

    /// Takes the next datagram. Says whether there was one.
    pub fn recv_datagram(&mut self, side: usize, protocol: u16) -> bool {
        let (at, protocol) = (side & 1, protocol % PROTOCOLS);
        let Some(data) = self.ends[at].mux.recv_datagram(ProtocolId(protocol)) else { return false };
        self.check_datagram(at, protocol, &data);
        self.check(at);
        true
    }

    /// Takes datagrams, as many as `max` bytes hold. Says whether there was any.
    pub fn recv_datagrams(&mut self, side: usize, protocol: u16, max: usize) -> bool {
        let (at, protocol) = (side & 1, protocol % PROTOCOLS);
        let mut out = Vec::new();
        let count = self.ends[at].mux.recv_datagrams(ProtocolId(protocol), &mut out, max);
        assert_eq!(Messages::new(&out).count() as u64, count, "what is appended is whole datagrams");
        assert!(out.len() <= max || count == 1, "{count} datagrams of {} bytes, where {max} were wanted", out.len());
        for data in Messages::new(&out) {
            self.check_datagram(at, protocol, data);
        }
        self.check(at);
        count > 0
    }

    fn check_datagram(&self, at: usize, protocol: u16, data: &[u8]) {
        if let Some(number) = data.first_chunk().map(|number| u64::from_be_bytes(*number)) {
            let sent = number < self.ends[1 - at].datagrams && data == datagram(1 - at, protocol, number, data.len());
            assert!(sent || self.ends[at].deceived, "a datagram that was not sent");
        }
    }

    /// A side cannot make sense of a protocol.
    pub fn fail(&mut self, side: usize, protocol: u16) {
        let (at, protocol) = (side & 1, ProtocolId(protocol % PROTOCOLS));
        self.ends[at].mux.fail_protocol(protocol);
        self.ends[at].failed.insert(protocol);
        self.check(at);
    }

    /// A side lets the other open no more streams, and has said so.
    pub fn refuse(&mut self, side: usize) {
        let at = side & 1;
        self.ends[at].mux.refuse_streams();
        self.ends[1 - at].mux.on_goaway(CloseCode::SHUTDOWN);
        self.check(at);
        self.check(1 - at);
    }

    /// Takes all events.
    pub fn poll(&mut self, side: usize) {
        let at = side & 1;
        let mut events = 0;
        while let Some(event) = self.ends[at].mux.poll_event() {
            events += 1;
            assert!(events <= 8 * MAX_STREAMS + 32 * usize::from(PROTOCOLS), "more events than there are facts");
            self.on_event(at, event);
        }
        self.check(at);
    }
}

fn dispatch(mux: &mut Mux, bytes: &[u8]) -> Result<Received, Violation> {
    let mut received = Received::Taken;
    for frame in Frames::new(bytes) {
        match frame {
            Ok(Frame::Stream(stream)) => {
                if mux.on_stream(&stream)? == Received::Refused {
                    received = Received::Refused;
                }
            }
            Ok(Frame::Hello(hello)) => mux.on_hello(&hello)?,
            Ok(Frame::MaxData(max)) => mux.on_max_data(max),
            Ok(Frame::MaxStreamData { id, max }) => mux.on_max_stream_data(id, max)?,
            Ok(Frame::MaxStreams(max)) => mux.on_max_streams(max),
            Ok(Frame::StreamReset { id, code, final_size }) => mux.on_reset(id, code, final_size)?,
            Ok(Frame::StreamStop { id, code }) => mux.on_stop(id, code)?,
            Ok(Frame::Datagram { protocol, data }) => mux.on_datagram(protocol, data)?,
            Ok(Frame::Goaway { code }) => mux.on_goaway(code),
            Ok(_) => {}
            Err(_) => return Err(Violation::FrameEncoding),
        }
    }
    Ok(received)
}
