//! Two endpoints over a network that the input commands: datagrams late, lost, repeated, changed and invented, addresses
//! that change, machines that sleep and restart, and what applications ask of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crypto::{Identity, PeerId, Seed};
use framing::{Role, StreamCode, StreamId};
use peer::congestion::Algorithm;
use peer::endpoint::Event;
use peer::mux::{Protocol, ProtocolId, Protocols, Read, SendError, Urgency, WriteError};
use peer::{Closed, Config, DialError, Endpoint, Handle, Idle, Peer, Reason, SubnetLimits, Target};
use sim::clock;
use structs::{Datagram, Deadline, Ecn, Epoch, Machine, Path, TransmitBuf};

use crate::input::{Input, pattern};

/// Runs conversations as the input commands.
///
/// Whatever the network does: no panic, memory within its bound, timers that make progress and do not fire for nothing,
/// no packet twice, no more bytes to an address that proved nothing than it is owed, nothing read that was not sent, none
/// twice and none out of order, accounts that add up, nobody accused of what only the network did, everything delivered
/// once the network is good, and silence after the end.
pub fn session(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_empty() && world.budget > 0 {
        world.step(&mut input);
    }
    world.finish();
}

const LATENCY: Duration = Duration::from_millis(10);
/// What one step lets pass at most with the network at work.
const LONGEST_RUN: Duration = Duration::from_secs(12);
/// Datagrams and wake-ups of one input, and of its end: bounds its running time.
const BUDGET: usize = 6000;
/// What the network carries.
const MTU: usize = 1500;
const MAX_PEERS: usize = 4;
/// What one session buffers, both ways.
const BUFFERS: usize = (256 << 10) + (2 << 20);
/// What strangers and the peers of the past can make an endpoint hold.
const STRANGERS: usize = 10 << 20;
const BYE: u64 = 0x100;
const LABEL: &[u8] = b"fuzz";

/// A datagram under way.
#[derive(Clone)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    at: Instant,
    bytes: Vec<u8>,
}

/// A stream, whoever looks at it: the end that opened it, and its number.
type Stream = (usize, u64);

/// What one end did in one session.
#[derive(Default)]
struct Flow {
    /// Messages and datagrams sent; messages received.
    sent: BTreeMap<(u16, Urgency), u64>,
    received: BTreeMap<(u16, Urgency), u64>,
    datagrams: u64,
    /// Bytes written, and whether that was all; bytes read, and whether the end was.
    written: BTreeMap<Stream, (u64, bool)>,
    read: BTreeMap<Stream, (u64, bool)>,
    /// Given up by whoever writes or reads here.
    given_up: BTreeSet<Stream>,
    ended: Option<Closed>,
}

struct End {
    endpoint: Endpoint,
    config: Config,
    restarts: u64,
    /// Where the other end sees it.
    address: SocketAddr,
    flows: BTreeMap<Handle, Flow>,
    /// What each address sent, got, and may get without having proved anything.
    owed: BTreeMap<SocketAddr, (u64, u64)>,
    proved: BTreeSet<SocketAddr>,
    closing: bool,
    silent: bool,
    dirty: bool,
}

struct World {
    now: Instant,
    ends: [End; 2],
    /// The session of each end, by the secret that both have.
    sessions: BTreeMap<[u8; 32], [Option<Handle>; 2]>,
    names: BTreeMap<(usize, Handle), [u8; 32]>,
    pending: VecDeque<Packet>,
    history: VecDeque<Packet>,
    sealed: BTreeSet<Vec<u8>>,
    /// The end whose address changes, and how often it did.
    mover: Option<usize>,
    rebinds: u16,
    budget: usize,
}

fn home(end: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + u8::from(end == 1)], 4000))
}

fn stranger(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 9, 9, number % 4], 1000))
}

fn is_stranger(address: SocketAddr) -> bool {
    (0..4).any(|number| stranger(number) == address)
}

fn identity(end: usize) -> Identity {
    Identity::from_seed(Seed::fixed(end as u64).rng().array())
}

fn id(end: usize) -> PeerId {
    identity(end).peer_id()
}

fn protocols() -> Protocols {
    let mut protocols = Protocols::new();
    for protocol in [Protocol::new("a", 1), Protocol::new("b", 1).rate_cap(NonZeroU32::new(1_000_000))] {
        protocols.register(protocol).expect("they differ");
    }
    protocols
}

fn start(end: usize, config: Config, restarts: u64, now: Instant) -> Endpoint {
    let epoch = Epoch { instant: clock::base(), unix: Duration::from_secs(1_735_689_600) };
    let seed = Seed::fixed(end as u64).fork(&restarts.to_string());
    Endpoint::new(identity(end), config, epoch, &seed, now)
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let now = clock::base();
        let flags = input.u8();
        let flag = |bit: u8| flags & (1 << bit) != 0;
        let ends = [0, 1].map(|end| {
            let config = Config::default()
                .protocols(protocols())
                .congestion(input.pick(&[Algorithm::Bbr, Algorithm::Cubic, Algorithm::Fixed(30_000)]))
                .max_datagram(input.pick(&[1500, 1200, 9000]))
                .send_buffer(256 << 10)
                .receive_buffer(2 << 20)
                .max_message(16 << 10)
                .datagram_queue(16 << 10)
                .max_streams(16)
                .max_peers(MAX_PEERS)
                .aes(flag(2))
                .subnet_limits(if flag(4) { SubnetLimits::All } else { SubnetLimits::Off })
                .idle(if flag(5) {
                    Idle::CloseAfter(Duration::from_secs(8))
                } else {
                    Idle::KeepAlive(Duration::from_secs(5))
                })
                .update_after(Duration::from_secs(1), if flag(6) { 16 } else { 1 << 20 })
                .rekey_after(Duration::from_secs(2), if flag(6) { 40 } else { 1 << 20 });
            End {
                endpoint: start(end, config.clone(), 0, now),
                config,
                restarts: 0,
                address: home(end),
                flows: BTreeMap::new(),
                owed: BTreeMap::new(),
                proved: BTreeSet::new(),
                closing: false,
                silent: false,
                dirty: true,
            }
        });
        let mut world = Self {
            now,
            ends,
            sessions: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: VecDeque::new(),
            history: VecDeque::new(),
            sealed: BTreeSet::new(),
            mover: None,
            rebinds: 0,
            budget: BUDGET,
        };
        if flag(0) {
            world.dial(0, Target::Known(id(1)));
            if flag(7) {
                world.dial(1, Target::Known(id(0)));
            }
            if flag(1) {
                world.run(Duration::from_millis(100));
            }
        }
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (operation, which) = (input.u8(), input.u8());
        let end = usize::from(operation >> 7);
        let urgency = if which & 2 == 0 { Urgency::Normal } else { Urgency::Urgent };
        let protocol = u16::from(which & 1);
        match operation % 32 {
            0..=3 => self.run(input.pause()),
            4 => self.now += input.pause(),
            5 => {
                let target = match which % 8 {
                    0 => Target::Anyone,
                    1 => Target::Known(id(2)),
                    _ => Target::Known(id(1 - end)),
                };
                self.dial(end, target);
            }
            6..=8 => self.send(end, which, protocol, urgency, input),
            9 => self.send_datagram(end, which, protocol, input.len()),
            10 => self.open(end, which, protocol),
            11 | 12 => self.write(end, which, input),
            13 => self.end_stream(end, which, input.below(3)),
            14 => self.read_all(end),
            // The network loses, repeats, delays and changes.
            15 | 16 => drop(self.take_pending(which)),
            17 => self.pending.clear(),
            18 | 19 => {
                if let Some(packet) = self.take_pending(which) {
                    self.deliver(packet);
                }
            }
            20 => {
                if let Some(mut packet) = self.take_pending(which) {
                    packet.at = self.now + input.pause();
                    self.pending.push_back(packet);
                }
            }
            21 | 22 => {
                if let Some(packet) = self.pick_history(which) {
                    self.deliver(packet);
                }
            }
            23 => {
                // It comes from where nobody is.
                let taken = if input.flip() { self.take_pending(which) } else { self.pick_history(which) };
                if let Some(packet) = taken {
                    self.deliver(Packet { from: stranger(input.u8()), ..packet });
                }
            }
            24 | 25 => {
                let taken = if input.flip() { self.take_pending(which) } else { self.pick_history(which) };
                if let Some(mut packet) = taken {
                    change(&mut packet.bytes, input);
                    self.deliver(packet);
                }
            }
            26 => {
                let from = if which & 1 == 0 { stranger(which) } else { self.ends[1 - end].address };
                let to = self.ends[end].address;
                self.deliver(Packet { from, to, at: self.now, bytes: input.bytes().to_vec() });
            }
            27 => {
                // Of two who move at once neither finds the other.
                let mover = *self.mover.get_or_insert(end);
                self.rebinds += 1;
                self.ends[mover].address.set_port(4000 + self.rebinds);
            }
            28 => {
                let now = self.now;
                self.ends[end].endpoint.handle_resume(now);
            }
            29 => {
                let grace = input.pause();
                self.with(end, which, |peer, now| peer.close(BYE, "so long", grace, now));
            }
            30 => {
                let path = Path::udp(home(end), self.ends[1 - end].address);
                self.with(end, which, |peer, now| peer.add_path(path, now));
            }
            _ if which < 64 => self.restart(end),
            _ if which >= 250 => self.close(end),
            _ => {}
        }
        self.ends[end].dirty = true;
        self.drain_all();
    }

    fn dial(&mut self, end: usize, target: Target) {
        let now = self.now;
        let (ours, theirs) = (home(end), self.ends[1 - end].address);
        let state = &mut self.ends[end];
        match state.endpoint.dial(target, Path::udp(ours, theirs), now) {
            Ok(handle) => {
                assert!(!state.closing, "a dial after the end");
                state.flows.entry(handle).or_default();
            }
            Err(DialError::Closed) => assert!(state.closing),
            Err(DialError::AlreadyConnected(handle)) => assert!(state.endpoint.peer(handle).is_some()),
            Err(DialError::Full) => assert!(state.endpoint.peers().count() >= MAX_PEERS),
            Err(error) => panic!("{error}"),
        }
    }

    fn restart(&mut self, end: usize) {
        let now = self.now;
        let state = &mut self.ends[end];
        state.restarts += 1;
        state.endpoint = start(end, state.config.clone(), state.restarts, now);
        (state.closing, state.silent) = (false, false);
        state.flows.clear();
        self.names.retain(|(of, _), _| *of != end);
        for handles in self.sessions.values_mut() {
            handles[end] = None;
        }
    }

    fn close(&mut self, end: usize) {
        let now = self.now;
        self.ends[end].closing = true;
        self.ends[end].endpoint.close(BYE, "bye", Duration::from_secs(1), now);
    }

    fn handle(&self, end: usize, which: u8) -> Option<Handle> {
        let handles: Vec<Handle> = self.ends[end].endpoint.peers().map(|(handle, _)| handle).collect();
        handles.get(usize::from(which >> 2).checked_rem(handles.len())?).copied()
    }

    fn with<R>(&mut self, end: usize, which: u8, command: impl FnOnce(&mut Peer, Instant) -> R) -> Option<R> {
        let handle = self.handle(end, which)?;
        self.ends[end].endpoint.with(handle, self.now, command)
    }

    fn send(&mut self, end: usize, which: u8, protocol: u16, urgency: Urgency, input: &mut Input<'_>) {
        let (Some(handle), len, now) = (self.handle(end, which), input.len(), self.now) else { return };
        for _ in 0..=input.u8() / 16 {
            let state = &mut self.ends[end];
            let sent = state.flows.entry(handle).or_default().sent.entry((protocol, urgency)).or_default();
            let message = message(end, (protocol, urgency), *sent, len);
            let result =
                state.endpoint.with(handle, now, |peer, _| peer.send(protocol_id(protocol), &message, urgency));
            match result.expect("it is there") {
                Ok(number) => {
                    assert_eq!(number.0, *sent, "messages are numbered as they are accepted");
                    *sent += 1;
                }
                Err(SendError::TooLarge { max, .. }) => assert!(message.len() > max),
                Err(SendError::Blocked | SendError::Stopped { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn send_datagram(&mut self, end: usize, which: u8, protocol: u16, len: usize) {
        let (Some(handle), now) = (self.handle(end, which), self.now) else { return };
        let state = &mut self.ends[end];
        let flow = state.flows.entry(handle).or_default();
        let data = message(end, (protocol, Urgency::Normal), flow.datagrams, len);
        let sent = state.endpoint.with(handle, now, |peer, _| peer.send_datagram(protocol_id(protocol), &data));
        flow.datagrams += u64::from(sent.is_some_and(|sent| sent.is_ok()));
    }

    fn open(&mut self, end: usize, which: u8, protocol: u16) {
        let (Some(handle), now) = (self.handle(end, which), self.now) else { return };
        let state = &mut self.ends[end];
        let opened = state.endpoint.with(handle, now, |peer, _| peer.open_stream(protocol_id(protocol)));
        if let Some(Ok(id)) = opened {
            let flow = state.flows.entry(handle).or_default();
            let (written, read) = (&mut flow.written, &mut flow.read);
            assert!(written.insert(name(end, id), (0, false)).is_none(), "{id:?} was opened before");
            read.insert(name(end, id), (0, false));
        }
    }

    /// One of the streams that are known in a session.
    fn stream(&self, end: usize, which: u8, input: &mut Input<'_>) -> Option<(Handle, Stream)> {
        let handle = self.handle(end, which)?;
        let known = &self.ends[end].flows.get(&handle)?.written;
        let at = input.below(256).checked_rem(known.len())?;
        Some((handle, *known.keys().nth(at)?))
    }

    fn write(&mut self, end: usize, which: u8, input: &mut Input<'_>) {
        let (Some((handle, stream)), now) = (self.stream(end, which, input), self.now) else { return };
        let state = &mut self.ends[end];
        let Some(flow) = state.flows.get_mut(&handle) else { return };
        let Some((written, finished)) = flow.written.get_mut(&stream) else { return };
        let data: Vec<u8> = (*written..).take(input.len()).map(|at| byte(end, stream, at)).collect();
        let result = state.endpoint.with(handle, now, |peer, _| peer.write(stream_id(end, stream), &data));
        match result.expect("it is there") {
            Ok(taken) => {
                assert!(!*finished && taken <= data.len());
                *written += taken as u64;
            }
            Err(WriteError::Blocked | WriteError::Closed) => {}
            Err(_) => drop(flow.given_up.insert(stream)),
        }
    }

    fn end_stream(&mut self, end: usize, which: u8, how: usize) {
        let (Some(handle), now) = (self.handle(end, which), self.now) else { return };
        let state = &mut self.ends[end];
        let Some(flow) = state.flows.get_mut(&handle) else { return };
        let Some(stream) = flow.written.keys().nth(usize::from(which) % flow.written.len().max(1)).copied() else {
            return;
        };
        let id = stream_id(end, stream);
        let code = StreamCode::application(1);
        let done = state.endpoint.with(handle, now, |peer, _| match how {
            0 => peer.finish_stream(id).is_ok(),
            1 => peer.reset_stream(id, code).is_ok(),
            _ => peer.stop_stream(id, code).is_ok(),
        });
        match (done, how) {
            (Some(true), 0) => flow.written.entry(stream).or_default().1 = true,
            (Some(true), _) => drop(flow.given_up.insert(stream)),
            _ => {}
        }
    }

    /// Takes everything that came.
    fn read_all(&mut self, end: usize) {
        let handles: Vec<Handle> = self.ends[end].endpoint.peers().map(|(handle, _)| handle).collect();
        for handle in handles {
            self.read_messages(end, handle);
            self.read_streams(end, handle);
        }
    }

    /// What the other end did in the same session.
    fn opposite(&self, end: usize, handle: Handle) -> Option<&Flow> {
        let handles = self.sessions.get(self.names.get(&(end, handle))?)?;
        self.ends[1 - end].flows.get(&handles[1 - end]?)
    }

    fn read_messages(&mut self, end: usize, handle: Handle) {
        let (now, mut out) = (self.now, Vec::new());
        for protocol in 0..2 {
            let id = protocol_id(protocol);
            while self.ends[end].endpoint.with(handle, now, |peer, _| peer.recv(id, &mut out)).flatten().is_some() {
                let urgency = if out.first() == Some(&0) { Urgency::Normal } else { Urgency::Urgent };
                let channel = (protocol, urgency);
                let flow = self.ends[end].flows.entry(handle).or_default();
                let number = flow.received.entry(channel).or_default();
                assert_eq!(out, message(1 - end, channel, *number, out.len()), "not message {number} of {channel:?}");
                *number += 1;
                let number = *number;
                if let Some(other) = self.opposite(end, handle) {
                    let sent = other.sent.get(&channel).copied().unwrap_or(0);
                    assert!(number <= sent, "{number} messages came, {sent} were sent");
                }
            }
            while let Some(data) = self.ends[end].endpoint.with(handle, now, |peer, _| peer.recv_datagram(id)).flatten()
            {
                let number = data.get(1..9).and_then(|number| number.try_into().ok()).map_or(0, u64::from_be_bytes);
                assert_eq!(data, message(1 - end, (protocol, Urgency::Normal), number, data.len()));
            }
        }
    }

    fn read_streams(&mut self, end: usize, handle: Handle) {
        let now = self.now;
        let Some(flow) = self.ends[end].flows.get(&handle) else { return };
        let streams: Vec<Stream> = flow.read.keys().copied().collect();
        let mut out = vec![0; 20_000];
        for stream in streams {
            let id = stream_id(end, stream);
            while let Some(Ok(read)) = self.ends[end].endpoint.with(handle, now, |peer, _| peer.read(id, &mut out)) {
                let flow = self.ends[end].flows.entry(handle).or_default();
                let (at, ended) = flow.read.entry(stream).or_default();
                match read {
                    Read::Bytes(len) => {
                        let expected = (*at..).map(|at| byte(1 - end, stream, at));
                        assert!(
                            out[..len].iter().copied().eq(expected.take(len)),
                            "not what was written to {stream:?}"
                        );
                        *at += len as u64;
                    }
                    Read::End => *ended = true,
                }
                let (at, ended) = (*at, *ended);
                if let Some(other) = self.opposite(end, handle) {
                    let (written, finished) = other.written.get(&stream).copied().unwrap_or_default();
                    assert!(at <= written, "{at} bytes came, {written} were written");
                    assert!(!ended || (finished && at == written), "an end that was not set");
                }
                if ended {
                    break;
                }
            }
        }
    }

    fn take_pending(&mut self, which: u8) -> Option<Packet> {
        let at = usize::from(which).checked_rem(self.pending.len())?;
        self.pending.remove(at)
    }

    fn pick_history(&self, which: u8) -> Option<Packet> {
        let back = usize::from(which).checked_rem(self.history.len())?;
        self.history.get(self.history.len() - 1 - back).cloned()
    }

    fn deliver(&mut self, mut packet: Packet) {
        self.budget = self.budget.saturating_sub(1);
        let Some(to) = (0..2).find(|&end| self.ends[end].address == packet.to) else { return };
        let now = self.now;
        let end = &mut self.ends[to];
        end.dirty = true;
        end.owed.entry(packet.from).or_default().0 += packet.bytes.len() as u64;
        let path = Path::udp(home(to), packet.from);
        let datagram = Datagram { path, ecn: Ecn::NotEct, payload: &mut packet.bytes };
        let before = end.endpoint.stats().rejected.total();
        if let Err(reason) = end.endpoint.handle_datagram(datagram, now) {
            let after = self.ends[to].endpoint.stats().rejected.total();
            assert!(after > before, "{reason} is not counted");
        }
        self.check(to);
    }

    /// The network does as it should, for this long.
    fn run(&mut self, time: Duration) {
        let until = self.now + time.min(LONGEST_RUN);
        let (mut idle, mut woken) = (0, self.now);
        while self.budget > 0 {
            self.budget -= 1;
            let mut active = false;
            for end in 0..2 {
                let due = self.ends[end].endpoint.poll_timeout().is_some_and(|deadline| deadline.at <= self.now);
                if due || std::mem::take(&mut self.ends[end].dirty) {
                    active |= self.drain(end);
                }
            }
            let next = (0..self.pending.len()).min_by_key(|&at| self.pending[at].at);
            if let Some(packet) =
                next.filter(|&at| self.pending[at].at <= self.now).and_then(|at| self.pending.remove(at))
            {
                self.deliver(packet);
                idle = 0;
                continue;
            }
            let arrival = next.map(|at| self.pending[at].at);
            let timers = self.deadline();
            let next = arrival.into_iter().chain(timers.map(|deadline| deadline.at)).min();
            let Some(next) = next.filter(|&next| next <= until) else { break };
            self.now = self.now.max(next);
            // Timers that fire without effect as fast as they may are never disarmed.
            let quick = self.now.saturating_duration_since(woken) <= Duration::from_millis(2);
            idle = if active || !quick { 0 } else { idle + 1 };
            woken = self.now;
            assert!(idle < 50, "the timer `{}` fires for nothing", timers.map_or("", |deadline| deadline.reason));
        }
        if self.budget > 0 {
            self.now = self.now.max(until);
        }
    }

    fn deadline(&self) -> Option<Deadline> {
        let [a, b] = [0, 1].map(|end: usize| self.ends[end].endpoint.poll_timeout());
        Deadline::earliest(a, b)
    }

    fn drain_all(&mut self) {
        for end in 0..2 {
            self.drain(end);
        }
    }

    /// Lets an endpoint act, in the order of the run loop. Returns whether it did anything.
    fn drain(&mut self, end: usize) -> bool {
        let now = self.now;
        let mut active = false;
        self.ends[end].endpoint.handle_timeout(now);
        self.learn_names(end);
        let (mut out, mut batches) = (TransmitBuf::new(16), 0);
        while let Some(transmit) = self.ends[end].endpoint.poll_transmit(&mut out, now) {
            active = true;
            batches += 1;
            assert!(batches < 4000, "a drain without end");
            for bytes in out.segments(&transmit) {
                self.on_sent(end, transmit.path, bytes);
            }
            out.clear();
        }
        let mut events = 0;
        while let Some(event) = self.ends[end].endpoint.poll_event() {
            active = true;
            events += 1;
            assert!(events < 4000, "more events than there are facts");
            self.on_event(end, event);
        }
        let state = &mut self.ends[end];
        let deadline = state.endpoint.poll_timeout();
        assert!(deadline.is_none_or(|deadline| deadline.at > now), "{deadline:?} is no progress");
        state.silent = state.endpoint.is_closed();
        assert!(!state.silent || deadline.is_none(), "an endpoint that has ended wants {deadline:?}");
        self.check(end);
        active
    }

    /// Notes which sessions belong together.
    fn learn_names(&mut self, end: usize) {
        for (handle, peer) in self.ends[end].endpoint.peers() {
            if !self.names.contains_key(&(end, handle))
                && let Some(name) = peer.exporter(LABEL)
            {
                self.names.insert((end, handle), name);
                let handles = self.sessions.entry(name).or_default();
                assert!(handles[end].replace(handle).is_none(), "a secret of two sessions");
            }
        }
    }

    fn on_sent(&mut self, end: usize, path: Path, bytes: &[u8]) {
        self.budget = self.budget.saturating_sub(1);
        let state = &mut self.ends[end];
        assert!(!state.silent, "an endpoint that has ended sends {bytes:02x?}");
        assert_eq!(path.local, home(end));
        let (received, sent) = state.owed.entry(path.remote).or_default();
        *sent += bytes.len() as u64;
        let trusted = !is_stranger(path.remote) || state.proved.contains(&path.remote);
        assert!(trusted || *sent <= 3 * *received, "{} gets {sent} bytes for {received}", path.remote);
        if bytes.first().is_some_and(|first| *first >= 0xe0) {
            assert!(self.sealed.insert(bytes.to_vec()), "a packet is sent twice");
        }
        let packet = Packet { from: state.address, to: path.remote, at: self.now + LATENCY, bytes: bytes.to_vec() };
        if self.history.len() == 256 {
            self.history.pop_front();
        }
        self.history.push_back(packet.clone());
        if bytes.len() <= MTU && self.pending.len() < 1024 {
            self.pending.push_back(packet);
        }
    }

    fn on_event(&mut self, end: usize, Event { peer: handle, event }: Event) {
        self.learn_names(end);
        let state = &mut self.ends[end];
        let flow = state.flows.entry(handle).or_default();
        assert!(flow.ended.is_none(), "{event:?} after the end");
        match event {
            peer::Event::Connected(connected) => {
                assert_eq!(connected.peer, id(1 - end), "nobody else has a key");
                state.proved.insert(connected.path.remote);
            }
            peer::Event::PathChanged(path) => {
                let proved = !is_stranger(path.remote) || state.proved.contains(&path.remote);
                assert!(proved, "{} answered nothing", path.remote);
            }
            peer::Event::Mux(peer::mux::Event::Opened { stream, .. }) => {
                let stream = name(end, stream);
                flow.written.entry(stream).or_default();
                flow.read.entry(stream).or_default();
            }
            peer::Event::Mux(peer::mux::Event::Stopped { stream, .. }) => {
                flow.given_up.insert(name(end, stream));
            }
            peer::Event::Mux(event @ peer::mux::Event::ProtocolFailed { .. }) => panic!("{event:?}"),
            peer::Event::Closed(closed) => self.on_closed(end, handle, closed),
            _ => {}
        }
    }

    fn on_closed(&mut self, end: usize, handle: Handle, closed: Closed) {
        let innocent = match &closed.reason {
            Reason::Violation(_) | Reason::KeyLimit | Reason::NoCommonVersion => false,
            // What the other side found wrong with us.
            Reason::Remote { code, .. } => !matches!(code, 1..=5 | 9..=11),
            Reason::WrongPeer { obtained } => *obtained == id(1 - end),
            _ => true,
        };
        assert!(innocent, "the network alone did this: {:?}", closed.reason);
        for unfinished in &closed.unfinished {
            let account = unfinished.account;
            assert_eq!(account.accepted, account.acked + account.unknown + account.unsent);
            let channel = (u16::try_from(unfinished.protocol.index()).unwrap_or(u16::MAX), unfinished.urgency);
            let sent = self.ends[end].flows.get(&handle).and_then(|flow| flow.sent.get(&channel).copied());
            assert_eq!(account.accepted, sent.unwrap_or(0));
            if let Some(other) = self.opposite(end, handle) {
                let received = other.received.get(&channel).copied().unwrap_or(0);
                assert!(received <= account.acked + account.unknown, "{received} messages came: {account:?}");
            }
        }
        self.ends[end].flows.entry(handle).or_default().ended = Some(closed);
    }

    fn check(&self, end: usize) {
        let endpoint = &self.ends[end].endpoint;
        let held = endpoint.buffered_bytes();
        assert!(held <= MAX_PEERS * BUFFERS + STRANGERS, "{held} bytes are held");
        assert!(endpoint.peers().count() <= 2 * MAX_PEERS, "more peers than are allowed");
    }

    /// Over a good network everything arrives; after the end there is silence.
    fn finish(&mut self) {
        for seconds in [1, 4, 12, 12] {
            self.budget = BUDGET;
            (0..2).for_each(|end| self.read_all(end));
            self.ends.iter_mut().for_each(|end| end.dirty = true);
            self.run(Duration::from_secs(seconds));
        }
        (0..2).for_each(|end| self.read_all(end));
        if self.budget > 0 {
            self.check_whole();
        }
        self.budget = BUDGET;
        (0..2).for_each(|end| self.close(end));
        self.ends.iter_mut().for_each(|end| end.dirty = true);
        self.run(Duration::from_secs(12));
        for _ in 0..100 {
            self.drain_all();
            self.pending.clear();
            let Some(next) = self.deadline() else { break };
            self.now = self.now.max(next.at);
        }
        for end in 0..2 {
            let endpoint = &self.ends[end].endpoint;
            assert!(endpoint.is_closed(), "a hundred wake-ups in silence: {endpoint:?}");
            assert_eq!((endpoint.peers().count(), endpoint.buffered_bytes()), (0, 0), "held after the end");
        }
    }

    /// Sessions that are open at both ends have delivered all there was.
    fn check_whole(&self) {
        let open = |end: usize, handle: Option<Handle>| {
            let peer = self.ends[end].endpoint.peer(handle?)?;
            (!peer.is_closed()).then_some(peer)
        };
        for handles in self.sessions.values() {
            let [Some(a), Some(b)] = [open(0, handles[0]), open(1, handles[1])] else { continue };
            for (end, peer) in [(0, a), (1, b)] {
                let [Some(from), Some(to)] = [(end, handles[end]), (1 - end, handles[1 - end])]
                    .map(|(end, handle)| self.ends[end].flows.get(&handle?))
                else {
                    continue;
                };
                for (&(protocol, urgency), &sent) in &from.sent {
                    let account = peer.account(protocol_id(protocol), urgency);
                    let received = to.received.get(&(protocol, urgency)).copied().unwrap_or(0);
                    assert_eq!(
                        (received, account.acked),
                        (sent, sent),
                        "messages of {protocol} {urgency:?}: {account:?}"
                    );
                }
                for (stream, &(written, finished)) in &from.written {
                    let given_up = from.given_up.contains(stream) || to.given_up.contains(stream);
                    let read = to.read.get(stream).copied().unwrap_or_default();
                    assert!(given_up || read == (written, finished), "{stream:?}: {read:?} of {written}, {finished}");
                }
            }
        }
    }
}

fn protocol_id(protocol: u16) -> ProtocolId {
    let name = if protocol == 0 { "a" } else { "b" };
    protocols().id(name).expect("it is registered")
}

/// The name of a stream as an end has it: there, its own are those of a dialler.
fn name(end: usize, id: StreamId) -> Stream {
    (if id.opener() == Role::Dialler { end } else { 1 - end }, id.index())
}

fn stream_id(end: usize, (opener, index): Stream) -> StreamId {
    StreamId::new(index, if opener == end { Role::Dialler } else { Role::Responder })
}

fn byte(writer: usize, (opener, index): Stream, at: u64) -> u8 {
    let [low, high, ..] = (at.wrapping_mul(7) ^ at >> 8).to_le_bytes();
    let [salt, ..] = (index * 4 + opener as u64 * 2 + writer as u64).wrapping_mul(29).to_le_bytes();
    low ^ high.rotate_left(3) ^ salt
}

/// Urgency, number, where it is from, and some bytes.
fn message(from: usize, (protocol, urgency): (u16, Urgency), number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![u8::from(urgency == Urgency::Urgent)];
    bytes.extend(number.to_be_bytes());
    bytes.extend(protocol.to_be_bytes());
    bytes.push(u8::from(from == 1));
    bytes.extend(pattern(0, len.saturating_sub(bytes.len())));
    bytes
}

fn change(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let at = usize::from(input.u16()).checked_rem(bytes.len()).unwrap_or(0);
    match input.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.extend(input.bytes()),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << input.below(8);
            }
        }
    }
}
