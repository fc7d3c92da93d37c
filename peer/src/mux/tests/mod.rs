//! Two multiplexers and what lies between them.

mod batch;
mod bench;
mod delivery;
mod fairness;
mod hostile;
mod limits;
mod rest;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framing::{Frame, Frames, Hello, PacketWriter, Role, Stream};

use super::*;
use crate::Violation;
use crate::sent::{Sent, SentFrames};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const ROOM: usize = framing::limits::MIN_PAYLOAD;

/// Some time to begin with.
#[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
pub(super) fn start() -> Instant {
    Instant::now()
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Protocols in one version, without caps.
pub(super) fn protocols(weights: &[(&str, u16)]) -> Arc<Protocols> {
    let mut protocols = Protocols::new();
    for (name, weight) in weights {
        protocols.register(Protocol::new(name, 1).weight((*weight).try_into().unwrap())).unwrap();
    }
    Arc::new(protocols)
}

pub(super) fn mux(role: Role, protocols: &Arc<Protocols>, now: Instant) -> Mux {
    Mux::new(role, protocols.clone(), Limits::default(), now)
}

#[expect(clippy::unwrap_in_result, reason = "what we compose can be composed")]
pub(super) fn greet(to: &mut Mux, from: &Mux) -> Result<(), Violation> {
    let body = Hello::compose(from.protocols().entries(), None, None, &from.announced()).unwrap();
    to.on_hello(&Hello::parse(&body).unwrap())
}

/// A dialler and a responder that have greeted each other.
pub(super) fn pair(protocols: &Arc<Protocols>, now: Instant) -> [Mux; 2] {
    pair_within(protocols, Limits::default(), now)
}

pub(super) fn pair_within(protocols: &Arc<Protocols>, limits: Limits, now: Instant) -> [Mux; 2] {
    let [mut a, mut b] = [Role::Dialler, Role::Responder].map(|role| Mux::new(role, protocols.clone(), limits, now));
    greet(&mut a, &b).unwrap();
    greet(&mut b, &a).unwrap();
    assert_eq!((events(&mut a), events(&mut b)), (vec![Event::Agreed], vec![Event::Agreed]));
    [a, b]
}

/// Fills one packet.
pub(super) fn packet(mux: &mut Mux, room: usize, now: Instant) -> (Vec<u8>, SentFrames) {
    let mut bytes = vec![0; room];
    let mut sent = SentFrames::new();
    let mut writer = PacketWriter::new(&mut bytes);
    mux.fill(&mut writer, &mut sent, now);
    let len = writer.len();
    bytes.truncate(len);
    (bytes, sent)
}

/// Hands over the frames of a packet. Refused if any of them is.
#[expect(clippy::unwrap_in_result, reason = "what we wrote decodes")]
pub(super) fn deliver(mux: &mut Mux, packet: &[u8]) -> Result<Received, Violation> {
    let mut received = Received::Taken;
    for frame in Frames::new(packet) {
        match frame.unwrap() {
            Frame::Stream(stream) => {
                if mux.on_stream(&stream)? == Received::Refused {
                    received = Received::Refused;
                }
            }
            Frame::MaxData(max) => mux.on_max_data(max),
            Frame::MaxStreamData { id, max } => mux.on_max_stream_data(id, max)?,
            Frame::MaxStreams(max) => mux.on_max_streams(max),
            Frame::StreamReset { id, code, final_size } => mux.on_reset(id, code, final_size)?,
            Frame::StreamStop { id, code } => mux.on_stop(id, code)?,
            Frame::Datagram { protocol, data } => mux.on_datagram(protocol, data)?,
            other => panic!("{other:?}"),
        }
    }
    Ok(received)
}

/// Sends all there is, without a loss, until neither side has more. Returns how many packets that took.
pub(super) fn settle(sides: &mut [Mux; 2], now: Instant) -> usize {
    let mut packets = 0;
    loop {
        let mut idle = true;
        for from in 0..2 {
            while sides[from].has_output(now) {
                let (bytes, sent) = packet(&mut sides[from], ROOM, now);
                if bytes.is_empty() {
                    break;
                }
                idle = false;
                packets += 1;
                assert_eq!(deliver(&mut sides[1 - from], &bytes), Ok(Received::Taken));
                for frame in &sent {
                    sides[from].on_acked(frame);
                }
                assert!(packets < 1_000_000, "it never ends");
            }
        }
        if idle {
            return packets;
        }
    }
}

pub(super) fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.poll_event()).collect()
}

/// How a path treats packets, in percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub(super) loss: u64,
    pub(super) duplicates: u64,
    pub(super) latency: u64,
    pub(super) jitter: u64,
    /// Packets a millisecond.
    pub(super) rate: usize,
    /// Bytes of frames in a packet, at most.
    pub(super) room: usize,
}

/// What happens to a packet, and when.
enum Fate {
    Arrives { from: usize, bytes: Vec<u8>, sent: Option<SentFrames> },
    Acked { from: usize, sent: SentFrames },
    Lost { from: usize, sent: SentFrames },
}

/// Two sides and the path between them, in virtual time.
pub(super) struct Net {
    pub(super) sides: [Mux; 2],
    pub(super) now: Instant,
    pub(super) random: Random,
    pub(super) path: Path,
    start: Instant,
    /// By millisecond and order.
    due: BTreeMap<(u64, u64), Fate>,
    count: u64,
    /// Packets in flight, each way.
    pub(super) in_flight: [usize; 2],
    pub(super) sent: [u64; 2],
}

impl Net {
    pub(super) fn new(sides: [Mux; 2], path: Path, seed: u64, now: Instant) -> Self {
        let random = Random(seed);
        Self { sides, now, random, path, start: now, due: BTreeMap::new(), count: 0, in_flight: [0; 2], sent: [0; 2] }
    }

    fn at(&mut self, after: u64, fate: Fate) {
        let now = self.now.duration_since(self.start).as_millis() as u64;
        self.count += 1;
        self.due.insert((now + after, self.count), fate);
    }

    /// One millisecond: what is due happens, then both sides send.
    pub(super) fn step(&mut self) {
        self.now += MS;
        let now = self.now.duration_since(self.start).as_millis() as u64;
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Fate::Arrives { from, bytes, sent } => {
                    let received = deliver(&mut self.sides[1 - from], &bytes).unwrap();
                    if let Some(sent) = sent {
                        let after = self.path.latency;
                        if received == Received::Taken {
                            self.at(after, Fate::Acked { from, sent });
                        } else {
                            self.at(3 * after, Fate::Lost { from, sent });
                        }
                    }
                }
                Fate::Acked { from, sent } => {
                    self.in_flight[from] -= 1;
                    sent.iter().for_each(|frame| self.sides[from].on_acked(frame));
                }
                Fate::Lost { from, sent } => {
                    self.in_flight[from] -= 1;
                    sent.iter().for_each(|frame| self.sides[from].on_lost(frame));
                }
            }
        }
        if self.random.chance(2) {
            // It changes nothing, whenever that happens.
            let side = self.random.below(2) as usize;
            self.sides[side].rest();
        }
        for from in 0..2 {
            self.sides[from].set_rtt(MS * (2 * self.path.latency) as u32);
            for _ in 0..self.path.rate {
                if !self.sides[from].has_output(self.now) {
                    break;
                }
                let room = self.path.room - self.random.below(64) as usize;
                let (bytes, sent) = packet(&mut self.sides[from], room, self.now);
                if bytes.is_empty() {
                    break;
                }
                self.sent[from] += 1;
                self.in_flight[from] += 1;
                let after = self.path.latency + self.random.below(self.path.jitter + 1);
                if self.random.chance(self.path.loss) {
                    self.at(3 * self.path.latency + 1, Fate::Lost { from, sent });
                    continue;
                }
                if self.random.chance(self.path.duplicates) {
                    let later = after + self.random.below(50);
                    self.at(later, Fate::Arrives { from, bytes: bytes.clone(), sent: None });
                }
                // Sometimes what arrives was held for lost before.
                if self.random.chance(self.path.loss / 4) {
                    self.in_flight[from] += 1;
                    self.at(self.path.latency / 2, Fate::Lost { from, sent: sent.clone() });
                }
                self.at(after, Fate::Arrives { from, bytes, sent: Some(sent) });
            }
        }
        for side in &self.sides {
            let limits = Limits::default();
            let held = side.buffered_bytes();
            assert!(held <= limits.send_memory + limits.receive_memory, "{held} bytes are held");
        }
    }
}

pub(super) fn stream(id: StreamId, offset: u64, open: Option<framing::Open>, fin: bool, data: &[u8]) -> Stream<'_> {
    Stream { id, offset, open, fin, data }
}
