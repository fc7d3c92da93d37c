//! One conversation: two peers, or one and somebody who has the other's key, over a network that the input commands.

mod laws;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::Seed;
use crypto::v12::Nonce;
use framing::v12::{GoawayReason, Kind, encode};
use peer::v12::{Config, DIAL_BUDGET, Peer, Proof, SendError};
use sim::clock;
use structs::{Datagram, Deadline, Epoch, Machine, Path, TransmitBuf};

use crate::account::Accounts;
use crate::actors::{self, home, identity};
use crate::input::{Input, pattern};

/// Runs a conversation as the input commands.
///
/// Whatever the network does: no panic, memory within its bound, timers that make progress, no more bytes to an address
/// that proved nothing than it sent, no message that was not sent, none twice and none out of order (forged fragments
/// aside), no value that was not asked for, silence after the end.
pub fn v12_peer(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_empty() && world.budget > 0 {
        world.step(&mut input);
    }
    world.finish();
}

/// Largest value: small, so that the bound on memory is tight.
const VALUE_LIMIT: usize = 64 * 1024;
/// What one step lets pass at most with the network at work: heartbeats cost time. Jumps are longer.
const LONGEST_RUN: Duration = Duration::from_secs(12);
const LATENCY: Duration = Duration::from_millis(10);
/// Datagrams and wake-ups of one input: bounds its running time.
const BUDGET: usize = 20_000;
/// Events that may wait when their owner takes none: the bound for messages, and what may come on top of it.
const MAX_EVENTS: usize = 2048 + 256;

#[derive(Clone)]
struct Packet {
    from: usize,
    /// Where it was sent to.
    to: SocketAddr,
    at: Instant,
    bytes: Vec<u8>,
}

struct World {
    now: Instant,
    ends: [End; 2],
    config: Config,
    /// Sent and not yet delivered.
    pending: VecDeque<Packet>,
    /// The latest that were sent.
    history: VecDeque<Packet>,
    /// Somebody has the keys of both.
    forger: bool,
    next_content: u64,
    next_nonce: u64,
    next_seq: u32,
    hold_events: bool,
    hold_datagrams: bool,
    budget: usize,
}

/// One of the two; without a machine, only the forger speaks for it.
struct End {
    peer: Option<Peer>,
    instance: u64,
    accounts: Accounts,
    /// DATA frames that open under the keys of the session.
    sealed_for: BTreeSet<Vec<u8>>,
    newest_nonce: Option<Nonce>,
    /// What this end has sent, ever, and what this machine has delivered.
    sent: BTreeMap<Bytes, u32>,
    delivered: BTreeMap<Bytes, u32>,
    newest: u64,
    restarts: u32,
    wanted: BTreeSet<Bytes>,
    /// It was handed something that the other end did not send.
    tampered: bool,
    proof: Proof,
    paths: BTreeSet<SocketAddr>,
    closed: bool,
    /// Something was handed in or commanded since it was last drained.
    dirty: bool,
    silent: bool,
}

impl End {
    fn new(peer: Option<Peer>) -> Self {
        Self {
            peer,
            instance: 0,
            accounts: Accounts::default(),
            sealed_for: BTreeSet::new(),
            newest_nonce: None,
            sent: BTreeMap::new(),
            delivered: BTreeMap::new(),
            newest: 0,
            restarts: 0,
            wanted: BTreeSet::new(),
            tampered: false,
            proof: Proof::None,
            paths: BTreeSet::new(),
            closed: false,
            dirty: true,
            silent: false,
        }
    }
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let flags = input.u8();
        let flag = |bit: u8| flags & (1 << bit) != 0;
        let lone = flag(1);
        let config = Config::default()
            .value_limit(VALUE_LIMIT)
            .accept_plaintext_fragments(flag(2))
            .persistent_identity(flag(3))
            .danger_send_plaintext_fragments(flag(4));
        let mut world = Self {
            now: clock::base(),
            ends: [End::new(None), End::new(None)],
            config,
            pending: VecDeque::new(),
            history: VecDeque::new(),
            forger: flag(5) || lone,
            next_content: 0,
            next_nonce: 0,
            next_seq: 0,
            hold_events: false,
            hold_datagrams: false,
            budget: BUDGET,
        };
        world.start(0, flag(6));
        if !lone {
            world.start(1, false);
        }
        if flag(0) {
            world.shake_hands(lone, flag(6));
        }
        world
    }

    /// Puts a new machine at one end, which dials or expects to be dialled.
    fn start(&mut self, end: usize, accept: bool) {
        let other = home(1 - end);
        let path = Path::udp(home(end), other);
        let (config, identity, now) = (self.config.clone(), identity(end), self.now);
        let epoch = Epoch { instant: clock::base(), unix: Duration::from_secs(1_700_000_000) };
        let state = &mut self.ends[end];
        state.instance += 1;
        let seed = Seed::fixed(end as u64).fork(&state.instance.to_string());
        let dials = end == 0 && !accept;
        state.accounts = Accounts::default();
        let peer = if dials {
            state.accounts.grant(other, DIAL_BUDGET);
            Peer::dial(config, identity, path, 8, &seed, epoch, now)
        } else {
            Peer::accept(config, identity, path, &seed, epoch, now)
        };
        state.peer = Some(peer);
        state.dirty = true;
        state.restarts = state.restarts.saturating_add(u32::from(state.instance > 1));
        state.delivered.clear();
        state.wanted.clear();
        state.paths.clear();
        state.newest = 0;
        state.proof = Proof::None;
        (state.closed, state.silent) = (false, false);
    }

    fn shake_hands(&mut self, lone: bool, accept: bool) {
        if lone {
            // As a node of the existing implementations does it.
            let (them, mut frame) = (identity(1), Vec::new());
            match accept {
                true => encode::hello(them.wire_id(), *them.public(), &mut frame),
                false => encode::hello_ack(them.wire_id(), *them.public(), &mut frame),
            }
            self.deliver(0, home(1), frame);
            self.say(0, home(1), Nonce::new(9, 0), &[0; 5]);
            self.next_seq = 1;
            self.drain(0);
        } else if accept {
            let (us, mut frame) = (identity(0), Vec::new());
            encode::hello(us.wire_id(), *us.public(), &mut frame);
            self.deliver(1, home(0), frame.clone());
            frame.clear();
            let them = identity(1);
            encode::hello(them.wire_id(), *them.public(), &mut frame);
            self.deliver(0, home(1), frame);
            self.run(Duration::from_secs(2));
        } else {
            self.run(Duration::from_secs(2));
            assert!(self.ends.iter().all(|end| end.proof == Proof::Key), "nothing kept them from meeting");
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(24) {
            0..=3 => self.run(input.pause()),
            4 => {
                if let Some(packet) = self.take_pending(input) {
                    let from = if input.below(4) == 0 { actors::addr(input).into() } else { home(packet.from) };
                    self.deliver(1 - packet.from, from, packet.bytes);
                }
            }
            5 => {
                self.take_pending(input);
            }
            6 => {
                if let Some(packet) = self.pick_history(input) {
                    let from = if input.flip() { actors::addr(input).into() } else { home(packet.from) };
                    let to = if input.below(8) == 0 { packet.from } else { 1 - packet.from };
                    self.deliver(to, from, packet.bytes);
                }
            }
            7 => {
                if let Some(packet) = self.pick_history(input) {
                    let bytes = mutate(packet.bytes, input);
                    let from = if input.flip() { actors::addr(input).into() } else { home(packet.from) };
                    self.tamper(1 - packet.from, from, bytes);
                }
            }
            8 => {
                let (to, from) = (input.below(2), actors::addr(input).into());
                let bytes = input.bytes().to_vec();
                self.tamper(to, from, bytes);
            }
            9 | 10 => {
                let (to, from) = (input.below(2), actors::addr(input).into());
                let bytes = actors::frame(input, 0);
                for _ in 0..=input.u8() / 32 {
                    self.tamper(to, from, bytes.clone());
                }
            }
            11 | 12 => self.send(input),
            13 => {
                let (end, frame) = (input.below(2), actors::frame(input, 0));
                // Whoever builds control frames passes only what its own functions gave it.
                let kind = frame.first().copied().and_then(Kind::of);
                if let (Some(Kind::Have | Kind::Pex | Kind::RelayAnn | Kind::Ihave), Some(peer)) =
                    (kind, &mut self.ends[end].peer)
                {
                    peer.send_control(frame);
                }
            }
            14 => {
                let (end, key) = (input.below(2), Bytes::from(actors::key(input)));
                let (now, state) = (self.now, &mut self.ends[end]);
                if let Some(peer) = &mut state.peer {
                    if input.below(8) == 0 {
                        peer.cancel_want(&key);
                        state.wanted.remove(&key);
                    } else if peer.want(key.clone(), now).is_ok() {
                        state.wanted.insert(key);
                    }
                }
            }
            15 => {
                let (end, key) = (input.below(2), actors::key(input));
                let value = Bytes::from(actors::value(&key));
                if let Some(peer) = &mut self.ends[end].peer {
                    // Refusals are part of the interface.
                    let _ = peer.serve(key.into(), value, self.now);
                }
            }
            16 => {
                let (end, code) = (input.below(2), GoawayReason::from_code(input.u8()));
                // Rarely: after it nothing happens any more.
                if let (true, Some(peer)) = (input.below(4) == 0, &mut self.ends[end].peer) {
                    peer.close(code, self.now);
                    assert!(peer.is_closed());
                }
            }
            17 => self.now += input.pause(),
            18 => {
                let flags = input.u8();
                (self.hold_events, self.hold_datagrams) = (flags & 1 == 1, flags & 6 == 6);
            }
            19 | 20 if self.forger => {
                let (to, from) = (input.below(2), home(1));
                let seen = self.ends[1 - to].newest_nonce;
                let from = if input.below(8) == 0 { actors::addr(input).into() } else { from };
                let mut next = self.next_nonce;
                let nonce = actors::nonce(input, 1 - to, to, seen, &mut next);
                self.next_nonce = next;
                let plaintext = actors::plaintext(input, &mut self.next_seq);
                let repeat = u64::from(input.u8() / 4);
                for more in 0..=repeat {
                    let nonce = Nonce::new(nonce.prefix(), nonce.counter().wrapping_add(more));
                    self.say(to, from, nonce, &plaintext);
                }
                self.next_nonce += repeat;
            }
            21 => {
                let end = input.below(2);
                if self.ends[end].peer.is_some() && input.below(4) == 0 {
                    let accept = input.flip();
                    self.start(end, accept);
                }
            }
            22 => {
                // One frame from many addresses: a spoofed flood.
                let (to, frame) = (input.below(2), actors::frame(input, 0));
                let count = input.u8();
                for port in 0..u16::from(count) {
                    let from = SocketAddr::from(([10, 9, 9, 9], 1000 + port));
                    self.tamper(to, from, frame.clone());
                }
            }
            _ => {
                // What was sent comes again inside a BATCH.
                let frames: Vec<Vec<u8>> =
                    (0..input.below(6)).filter_map(|_| self.pick_history(input)).map(|packet| packet.bytes).collect();
                let (to, mut batch) = (input.below(2), Vec::new());
                let from = if input.flip() { actors::addr(input).into() } else { home(1 - to) };
                if encode::batch(frames.iter().map(Vec::as_slice), &mut batch).is_ok() {
                    self.tamper(to, from, batch);
                }
            }
        }
        self.drain(0);
        self.drain(1);
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let (end, len) = (input.below(2), input.len());
        let now = self.now;
        for _ in 0..=input.u8() / 8 {
            self.next_content += 1;
            let mut content = self.next_content.to_be_bytes().to_vec();
            content.extend(pattern(0, len));
            let content = Bytes::from(content);
            let state = &mut self.ends[end];
            let Some(peer) = &mut state.peer else { return };
            let (connected, max) = (peer.is_connected(), peer.max_message());
            match peer.send(content.clone(), now) {
                Ok(()) => {
                    assert!(connected && content.len() <= max);
                    *state.sent.entry(content).or_default() += 1;
                }
                Err(SendError::TooLarge { .. }) => assert!(content.len() > max),
                Err(SendError::NotConnected) => assert!(!connected && !peer.is_closed()),
                Err(SendError::Closed) => assert!(peer.is_closed()),
                Err(_) => assert!(peer.queued() > 0, "full, and nothing is queued"),
            }
        }
    }

    fn timer(&self, end: usize) -> Option<Deadline> {
        self.ends[end].peer.as_ref()?.poll_timeout()
    }

    /// The network does as it should, for this long.
    fn run(&mut self, time: Duration) {
        let until = self.now + time.min(LONGEST_RUN);
        let mut idle = 0;
        let mut woken = self.now;
        while self.budget > 0 {
            self.budget -= 1;
            let mut active = false;
            for end in 0..2 {
                let due = self.timer(end).is_some_and(|deadline| deadline.at <= self.now);
                if due || std::mem::take(&mut self.ends[end].dirty) {
                    active |= self.drain(end);
                }
            }
            if let Some(packet) = self.pending.front()
                && packet.at <= self.now
            {
                let packet = self.pending.pop_front().expect("it was there");
                if packet.to == home(1 - packet.from) {
                    self.deliver(1 - packet.from, home(packet.from), packet.bytes);
                }
                idle = 0;
                continue;
            }
            let arrival = self.pending.front().map(|packet| packet.at);
            let timers = Deadline::earliest(self.timer(0), self.timer(1));
            let next = arrival.into_iter().chain(timers.map(|deadline| deadline.at)).min();
            let Some(next) = next.filter(|&next| next <= until) else { break };
            self.now = self.now.max(next);
            // Timers that fire without effect as fast as they may are never disarmed.
            let held = self.hold_events || self.hold_datagrams;
            let quick = self.now.saturating_duration_since(woken) <= Duration::from_millis(2);
            idle = if active || held || !quick { 0 } else { idle + 1 };
            woken = self.now;
            assert!(idle < 50, "the timer `{}` fires for nothing", timers.map_or("", |deadline| deadline.reason));
        }
        self.now = self.now.max(until);
    }

    /// Hands a datagram that the other end did not send like this.
    fn tamper(&mut self, to: usize, from: SocketAddr, bytes: Vec<u8>) {
        self.ends[to].tampered = true;
        self.deliver(to, from, bytes);
    }

    fn deliver(&mut self, to: usize, from: SocketAddr, mut bytes: Vec<u8>) {
        self.budget = self.budget.saturating_sub(1);
        let now = self.now;
        let end = &mut self.ends[to];
        end.dirty = true;
        let Some(peer) = &mut end.peer else { return };
        end.accounts.on_received(from, &bytes, &end.sealed_for);
        let (before, closed) = (peer.stats().rejected.total(), peer.is_closed());
        let path = Path::udp(home(to), from);
        if let Err(reason) = peer.handle_datagram(Datagram::new(path, &mut bytes), now) {
            assert!(peer.stats().rejected.total() > before, "{reason} is not counted");
        } else {
            assert!(!closed, "a session that is over takes nothing in");
        }
        self.check(to);
    }

    /// The forger seals something in the name of one end for the other.
    fn say(&mut self, to: usize, from: SocketAddr, nonce: Nonce, plaintext: &[u8]) {
        let frame = actors::seal(1 - to, to, nonce, plaintext);
        let payload = plaintext.get(4..).unwrap_or(plaintext);
        for said in [payload, plaintext] {
            *self.ends[1 - to].sent.entry(Bytes::copy_from_slice(said)).or_default() += 1;
        }
        self.ends[to].sealed_for.insert(frame.clone());
        self.remember(Packet { from: 1 - to, to: home(to), at: self.now, bytes: frame.clone() });
        self.deliver(to, from, frame);
    }

    fn take_pending(&mut self, input: &mut Input<'_>) -> Option<Packet> {
        let place = input.below(256);
        let count = self.pending.len();
        self.pending.remove(place % count.max(1))
    }

    fn pick_history(&self, input: &mut Input<'_>) -> Option<Packet> {
        let back = input.below(256);
        let count = self.history.len();
        self.history.get(count.checked_sub(1)? - back % count).cloned()
    }

    fn remember(&mut self, packet: Packet) {
        if self.history.len() == 256 {
            self.history.pop_front();
        }
        self.history.push_back(packet);
    }

    /// Lets a machine act, in the order of the run loop. Returns whether it did anything.
    fn drain(&mut self, end: usize) -> bool {
        self.check(end);
        let now = self.now;
        let Some(mut peer) = self.ends[end].peer.take() else { return false };
        peer.handle_timeout(now);
        let mut active = false;
        if !self.hold_datagrams {
            let mut out = TransmitBuf::new(16);
            let mut transmits = 0;
            while let Some(transmit) = peer.poll_transmit(&mut out, now) {
                transmits += 1;
                assert!(transmits < 10_000, "a drain without end");
                for datagram in out.segments(&transmit) {
                    active = true;
                    self.on_sent(end, transmit.path.remote, datagram);
                }
                out.clear();
            }
        }
        if !self.hold_events {
            let mut events = 0;
            while let Some(event) = peer.poll_event() {
                active = true;
                events += 1;
                assert!(events <= MAX_EVENTS, "more events than may wait");
                self.on_event(end, event, &mut peer);
            }
            if !self.ends[end].closed {
                let paths: BTreeSet<SocketAddr> = peer.paths().map(|path| path.remote).collect();
                assert_eq!(paths, self.ends[end].paths, "paths as the events have it");
            }
        }
        if !self.hold_events && !self.hold_datagrams {
            let deadline = peer.poll_timeout();
            assert!(deadline.is_none_or(|deadline| deadline.at > now), "{deadline:?} is no progress");
            assert!(!peer.is_closed() || deadline.is_none(), "a session that is over wants {deadline:?}");
            assert_eq!(peer.is_closed(), self.ends[end].closed, "the end of a session is told");
            self.ends[end].silent = peer.is_closed();
        }
        self.ends[end].peer = Some(peer);
        self.check(end);
        active
    }
}

fn mutate(mut bytes: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    let at = if bytes.is_empty() { 0 } else { usize::from(input.u16()) % bytes.len() };
    match input.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.extend(input.bytes()),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.u8().max(1);
            }
        }
    }
    bytes
}
