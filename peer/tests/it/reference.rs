//! A test double of the existing nodes: what the Python and JavaScript implementations do on the wire, including what
//! they should not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::v12::{Identity, NodeId, Nonce, PublicKey, Session};
use framing::v12::{Batcher, Chunk, Frame, Kind, Pong, Reassembler, encode, fragments, limits};
use structs::{Datagram, Deadline, Ecn, Machine, Path, Rejected, TokenBucket, Transmit, TransmitBuf};

/// Which release: they differ in how values travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The Python package 0.1.0: sends a value at once, acknowledges no chunk.
    First,
    /// What came after it: eight chunks under way, acknowledged one by one.
    Later,
}

/// What the application of the node sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Connected,
    Message(Bytes),
    Value { key: Bytes, value: Bytes },
    Gone,
}

/// One node with at most one peer.
#[derive(Debug)]
pub(crate) struct Reference {
    identity: Arc<Identity>,
    release: Release,
    now: Instant,
    dial: Option<(Path, u32, Instant)>,
    peer: Option<Conversation>,
    pub(crate) values: BTreeMap<Bytes, Bytes>,
    /// Keys asked for.
    pub(crate) wants: BTreeSet<Bytes>,
    assembly: BTreeMap<Bytes, (u16, BTreeMap<u16, Vec<u8>>)>,
    serving: Vec<Serving>,
    out: VecDeque<(Path, Vec<u8>)>,
    told: VecDeque<Told>,
    /// Messages that its token bucket or its ring lost, silently.
    pub(crate) lost: u64,
    /// Content that was taken for a repetition.
    pub(crate) duplicates: u64,
}

#[derive(Debug)]
struct Conversation {
    key: PublicKey,
    session: Session,
    counter: u64,
    seq: u32,
    addrs: Vec<(Path, Duration)>,
    pinged: Option<Instant>,
    next_ping: Instant,
    heard: Instant,
    queue: VecDeque<Bytes>,
    in_flight: i64,
    cwnd: i64,
    bucket: TokenBucket,
    batcher: Batcher,
    expected: u64,
    held: BTreeMap<u64, (Instant, Bytes)>,
    seen: BTreeSet<Bytes>,
    fragments: Reassembler,
}

#[derive(Debug)]
struct Serving {
    key: Bytes,
    value: Bytes,
    acked: BTreeSet<u16>,
    sent: BTreeMap<u16, Instant>,
    began: Instant,
}

const RTO: Duration = Duration::from_millis(1500);

impl Reference {
    pub(crate) fn new(name: &str, release: Release, now: Instant) -> Self {
        Self {
            identity: super::support::identity(name),
            release,
            now,
            dial: None,
            peer: None,
            values: BTreeMap::new(),
            wants: BTreeSet::new(),
            assembly: BTreeMap::new(),
            serving: Vec::new(),
            out: VecDeque::new(),
            told: VecDeque::new(),
            lost: 0,
            duplicates: 0,
        }
    }

    /// Sends eight HELLOs, whatever is answered.
    pub(crate) fn dial(mut self, path: Path) -> Self {
        self.dial = Some((path, limits::PUNCH_TRIES, self.now));
        self
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.peer.is_some()
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.peer.as_ref().map_or(limits::RTT_INITIAL, |peer| peer.addrs.iter().map(|addr| addr.1).min().expect("one"))
    }

    /// What its application writes.
    pub(crate) fn write(&mut self, message: Bytes, now: Instant) {
        self.now = self.now.max(now);
        let peer = self.peer.as_mut().expect("connected");
        peer.queue.push_back(message);
        if peer.queue.len() >= limits::QUEUE_DATA {
            peer.queue.pop_front();
            self.lost += 1;
        }
        self.flush();
    }

    pub(crate) fn fetch(&mut self, key: Bytes, now: Instant) {
        self.now = self.now.max(now);
        self.wants.insert(key.clone());
        self.send(|out| encode::want(&key, out).expect("a key"));
    }

    /// Sends a frame as it is, unless the peer is gone.
    pub(crate) fn send(&mut self, frame: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        frame(&mut bytes);
        if let Some(peer) = &mut self.peer {
            peer.batcher.push(bytes, self.now);
        }
    }

    fn flush(&mut self) {
        let now = self.now;
        let Some(peer) = &mut self.peer else { return };
        while peer.in_flight < peer.cwnd {
            let Some(message) = peer.queue.pop_front() else { break };
            if !peer.bucket.try_take(1, now) {
                self.lost += 1;
                continue;
            }
            if message.len() > limits::MAX_PAYLOAD {
                let id = [peer.seq.to_be_bytes(), *b"frag"].concat().try_into().expect("eight bytes");
                for piece in fragments(id, &message).expect("not too long") {
                    peer.batcher.push(piece, now);
                }
                continue;
            }
            let mut frame = vec![Kind::Data.byte()];
            let nonce = Nonce::new(peer.session.session_id(), peer.counter);
            peer.session.seal(nonce, &[&peer.seq.to_be_bytes(), &message], &mut frame);
            peer.counter += 1;
            peer.seq += 1;
            peer.in_flight += 1;
            peer.batcher.push(frame, now);
        }
    }

    fn receive(&mut self, bytes: &mut [u8], path: Path) {
        if bytes.len() < 2 {
            return;
        }
        if bytes[0] == Kind::Data.byte() {
            self.on_data(&mut bytes[1..], path);
            return;
        }
        let Ok(frame) = Frame::decode(bytes) else { return };
        match frame {
            Frame::Hello { key, .. } => {
                self.meet(key, path);
                let mut ack = Vec::new();
                encode::hello_ack(self.identity.wire_id(), *self.identity.public(), &mut ack);
                self.out.push_back((path, ack));
                return;
            }
            Frame::HelloAck { key, .. } => return self.meet(key, path),
            Frame::Ping { id, .. } => {
                let mut pong = Vec::new();
                encode::pong(self.identity.id(), &mut pong);
                self.out.push_back((path, pong));
                if self.peer.as_ref().is_some_and(|peer| NodeId::of(&peer.key).wire() == id.wire()) {
                    self.heard(path);
                }
                return;
            }
            Frame::Pong(Pong::Id(id)) => {
                let now = self.now;
                if let Some(peer) = self.peer.as_mut().filter(|peer| NodeId::of(&peer.key).wire() == id.wire()) {
                    peer.learn(path);
                    if let Some(pinged) = peer.pinged.take() {
                        let sample = now - pinged;
                        let addr = peer.addrs.iter_mut().find(|addr| addr.0.remote == path.remote);
                        addr.into_iter().for_each(|addr| addr.1 = (addr.1 * 7 + sample) / 8);
                    }
                    peer.opened();
                    self.heard(path);
                    self.flush();
                }
                return;
            }
            Frame::Batch(frames) => {
                let frames: Vec<Vec<u8>> = frames.iter().map(<[u8]>::to_vec).collect();
                frames.into_iter().for_each(|mut frame| self.receive(&mut frame, path));
                return;
            }
            Frame::Chunk(chunk) => return self.on_chunk(chunk),
            _ => {}
        }
        let now = self.now;
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.knows(path)) else { return };
        match frame {
            Frame::Goaway { .. } => {
                self.peer = None;
                self.told.push_back(Told::Gone);
            }
            Frame::Frag { id, index, total, data } => {
                if let Ok(Some(message)) = peer.fragments.add(id, index, total, data, now) {
                    self.told.push_back(Told::Message(message));
                }
            }
            Frame::Have(keys) => {
                let wanted: Vec<Vec<u8>> =
                    keys.iter().filter(|key| self.wants.contains(*key)).map(<[u8]>::to_vec).collect();
                for key in wanted {
                    self.send(|out| encode::want(&key, out).expect("a key"));
                }
            }
            Frame::Want { key } => self.on_want(Bytes::copy_from_slice(key)),
            Frame::ChunkAck { key, index } if self.release == Release::Later => {
                for serving in self.serving.iter_mut().filter(|serving| serving.key == key) {
                    serving.acked.insert(index);
                    serving.sent.remove(&index);
                }
                self.serve();
            }
            _ => {}
        }
        self.heard(path);
    }

    /// The first HELLO or HELLO_ACK makes a peer; a later one adds an address and keeps everything else.
    fn meet(&mut self, key: PublicKey, path: Path) {
        let now = self.now;
        if let Some(peer) = &mut self.peer {
            if peer.key == key {
                peer.learn(path);
            }
            return;
        }
        let session = Session::derive(&self.identity, &key).expect("a good key");
        self.peer = Some(Conversation {
            key,
            session,
            counter: 0,
            seq: 0,
            addrs: vec![(path, limits::RTT_INITIAL)],
            pinged: None,
            next_ping: now + limits::HEARTBEAT,
            heard: now,
            queue: VecDeque::new(),
            in_flight: 0,
            cwnd: i64::from(limits::CWND_INITIAL),
            bucket: TokenBucket::new(limits::RATE, limits::RATE_BURST, now),
            batcher: Batcher::new(),
            expected: 0,
            held: BTreeMap::new(),
            seen: BTreeSet::new(),
            fragments: Reassembler::default(),
        });
        let keys: Vec<Bytes> = self.values.keys().take(limits::HAVE_BATCH).cloned().collect();
        if !keys.is_empty() {
            self.send(|out| encode::have(keys.iter().map(|key| &**key), out).expect("keys"));
        }
        self.told.push_back(Told::Connected);
    }

    fn heard(&mut self, path: Path) {
        let now = self.now;
        if let Some(peer) = &mut self.peer {
            peer.heard = now;
            peer.learn(path);
        }
    }

    fn on_data(&mut self, sealed: &mut [u8], path: Path) {
        let now = self.now;
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.knows(path)) else { return };
        let Ok((_nonce, text)) = peer.session.open_in_place(sealed) else { return };
        peer.opened();
        let gossip = |text: &[u8]| text.first() == Some(&b'{') && text.windows(9).any(|part| part == b"\"_gossip\"");
        match text.split_first_chunk::<4>() {
            _ if gossip(text) => {}
            None => self.told.push_back(Told::Message(Bytes::copy_from_slice(text))),
            Some((seq, payload)) => {
                let (seq, payload) = (u64::from(u32::from_be_bytes(*seq)), Bytes::copy_from_slice(payload));
                if seq == peer.expected {
                    peer.expected += 1;
                    self.deliver(payload);
                    self.release();
                } else if seq > peer.expected {
                    peer.held.insert(seq, (now + limits::JITTER_HOLD, payload));
                }
            }
        }
        self.heard(path);
        self.flush();
    }

    /// What follows the last delivered number without a gap.
    fn release(&mut self) {
        while let Some(peer) = &mut self.peer
            && let Some((_, payload)) = peer.held.remove(&peer.expected)
        {
            peer.expected += 1;
            self.deliver(payload);
        }
    }

    /// Messages with the same content as one before are lost.
    fn deliver(&mut self, payload: Bytes) {
        let Some(peer) = &mut self.peer else { return };
        if peer.seen.insert(payload.clone()) {
            self.told.push_back(Told::Message(payload));
        } else {
            self.duplicates += 1;
        }
    }

    fn on_want(&mut self, key: Bytes) {
        let Some(value) = self.values.get(&key).cloned() else { return };
        if value.len() <= limits::CHUNK {
            self.send(|out| encode::chunk(&key, &value, out).expect("a value"));
        } else if self.release == Release::First {
            // All at once through a ring of 255: only the last ones leave.
            let total = value.len().div_ceil(limits::CHUNK);
            for index in total.saturating_sub(limits::QUEUE_CTRL - 1)..total {
                self.send_part(&key, &value, index as u16);
            }
        } else if !self.serving.iter().any(|serving| serving.key == key) {
            let (acked, sent, began) = (BTreeSet::new(), BTreeMap::new(), self.now);
            self.serving.push(Serving { key, value, acked, sent, began });
            self.serve();
        }
    }

    fn send_part(&mut self, key: &[u8], value: &[u8], index: u16) {
        let total = value.len().div_ceil(limits::CHUNK) as u16;
        let start = usize::from(index) * limits::CHUNK;
        let data = &value[start..value.len().min(start + limits::CHUNK)];
        self.send(|out| encode::chunk_part(key, index, total, data, out).expect("a part"));
    }

    /// Eight chunks under way, each sent again after 1.5 s, for a minute.
    fn serve(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        self.serving.retain_mut(|serving| {
            let total = serving.value.len().div_ceil(limits::CHUNK) as u16;
            if serving.acked.len() == usize::from(total) || now >= serving.began + limits::CHUNK_SEND_TIMEOUT {
                return false;
            }
            for index in 0..total {
                if serving.sent.len() >= limits::CHUNK_WINDOW && !serving.sent.contains_key(&index) {
                    continue;
                }
                let waits = serving.sent.get(&index).is_some_and(|&at| now < at + RTO);
                if !waits && !serving.acked.contains(&index) {
                    serving.sent.insert(index, now);
                    due.push((serving.key.clone(), serving.value.clone(), index));
                }
            }
            true
        });
        due.into_iter().for_each(|(key, value, index)| self.send_part(&key, &value, index));
    }

    /// A chunk is stored whether anybody asked for it or not.
    fn on_chunk(&mut self, chunk: Chunk<'_>) {
        let (key, value) = match chunk {
            Chunk::Whole { key, value } => (Bytes::copy_from_slice(key), Some(value.to_vec())),
            Chunk::Part { key, index, total, data } => {
                let parts = self.assembly.entry(Bytes::copy_from_slice(key)).or_insert((total, BTreeMap::new()));
                parts.1.insert(index, data.to_vec());
                let complete = parts.1.len() == usize::from(parts.0);
                let value = complete.then(|| parts.1.values().flatten().copied().collect());
                if self.release == Release::Later {
                    let key = key.to_vec();
                    self.send(|out| encode::chunk_ack(&key, index, out).expect("a key"));
                }
                (Bytes::copy_from_slice(key), value)
            }
        };
        if let Some(value) = value {
            self.assembly.remove(&key);
            self.wants.remove(&key);
            self.told.push_back(Told::Value { key, value: value.into() });
        }
    }
}

impl Conversation {
    fn knows(&self, path: Path) -> bool {
        self.addrs.iter().any(|addr| addr.0.remote == path.remote)
    }

    fn learn(&mut self, path: Path) {
        if !self.knows(path) {
            self.addrs.push((path, limits::RTT_INITIAL));
            if self.addrs.len() > limits::MAX_ADDRS_PER_PEER {
                self.addrs.remove(0);
            }
        }
    }

    /// The lowest round-trip time that was ever seen.
    fn best(&self) -> Path {
        self.addrs.iter().min_by_key(|addr| addr.1).expect("never empty").0
    }

    /// Anything sealed, and any PONG, counts as an acknowledgement.
    fn opened(&mut self) {
        self.in_flight = (self.in_flight - 1).max(0);
        self.cwnd = (self.cwnd + 1).min(i64::from(limits::CWND_MAX));
    }
}

impl Machine for Reference {
    type Event = Told;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.now = self.now.max(now);
        self.receive(datagram.payload, datagram.path);
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let now = self.now;
        if let Some((path, left, at)) = self.dial
            && at <= now
        {
            let mut hello = Vec::new();
            encode::hello(self.identity.wire_id(), *self.identity.public(), &mut hello);
            self.out.push_back((path, hello));
            self.dial = (left > 1).then_some((path, left - 1, at + limits::PUNCH_INTERVAL));
        }
        if self.peer.as_ref().is_some_and(|peer| now >= peer.heard + limits::PEER_TIMEOUT) {
            self.peer = None;
            self.told.push_back(Told::Gone);
        }
        let id = self.identity.id();
        if let Some(peer) = &mut self.peer {
            if peer.next_ping <= now {
                peer.next_ping = now + limits::HEARTBEAT;
                peer.pinged = Some(now);
                let mut ping = Vec::new();
                encode::ping(0, id, &mut ping);
                peer.batcher.push(ping, now);
            }
            // A gap is given up by going on at what was held longest, which is then expected once more.
            if let Some((&seq, _)) = peer.held.iter().find(|(_, held)| held.0 <= now) {
                let (_, payload) = peer.held.remove(&seq).expect("found");
                if seq >= peer.expected {
                    peer.expected = seq;
                    self.deliver(payload);
                }
            }
        }
        self.serve();
        self.flush();
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.now = self.now.max(now);
        if let Some((path, bytes)) = self.out.pop_front() {
            out.push(&bytes);
            return out.finish(path, Ecn::NotEct);
        }
        let peer = self.peer.as_mut()?;
        let bytes = peer.batcher.poll(now)?;
        out.push(&bytes);
        out.finish(peer.best(), Ecn::NotEct)
    }

    fn poll_event(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let peer = self.peer.as_ref();
        let soon = [
            self.dial.map(|(_, _, at)| at),
            peer.map(|peer| peer.next_ping),
            peer.and_then(|peer| peer.batcher.deadline()),
            peer.and_then(|peer| peer.held.values().map(|held| held.0).min()),
            self.serving.iter().flat_map(|serving| serving.sent.values()).min().map(|&at| at + RTO),
        ];
        let at = soon.into_iter().flatten().min()?;
        Some(Deadline { at: at.max(self.now + Duration::from_millis(1)), reason: "something" })
    }
}
