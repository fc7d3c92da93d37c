//! Two endpoints over a network that the input commands: datagrams late, lost, repeated, changed and invented, addresses
//! that change, machines that sleep and restart, and what applications ask of them.

mod application;
mod laws;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crypto::{Identity, PeerId, Seed};
use peer::congestion::Algorithm;
use peer::mux::{Protocol, Protocols, Urgency};
use peer::{Closed, Config, DialError, Endpoint, Handle, Idle, Peer, SubnetLimits, Target};
use sim::clock;
use structs::{Datagram, Deadline, Ecn, Epoch, Machine, Path, TransmitBuf};

use crate::input::Input;

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

    /// What the other end did in the same session.
    fn opposite(&self, end: usize, handle: Handle) -> Option<&Flow> {
        let handles = self.sessions.get(self.names.get(&(end, handle))?)?;
        self.ends[1 - end].flows.get(&handles[1 - end]?)
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
