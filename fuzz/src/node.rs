//! Two nodes and two strangers: sockets, multicast and commands as the input has them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::Seed;
use crypto::v12::Nonce;
use framing::v12::{Frame, Kind, encode};
use peer::v12::DIAL_BUDGET;
use sim::clock;
use structs::{Datagram, Deadline, Epoch, Link, Machine, Path, TransmitBuf};
use swarm::v12::{Config, Event};
use swarm::v12::{LAN_LINK, Node};
use swarm::{DialId, FetchId, PeerId, SendError, TopicId};

use crate::account::Accounts;
use crate::actors::{self, ACTORS, home, identity};
use crate::input::{Input, pattern};

/// Runs two nodes as the input commands.
///
/// Whatever arrives: no panic, timers that make progress, bounded peers and events, no more bytes to an address that
/// proved nothing than it sent and than dials may spend, each operation ends once, peers connect before they leave or
/// speak, messages were sent by somebody and are delivered once, and a node that has ended is silent.
pub fn v12_node(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_empty() && world.budget > 0 {
        world.step(&mut input);
    }
    world.finish();
}

/// What one step lets pass at most with the network at work: heartbeats cost time. Jumps are longer.
const LONGEST_RUN: Duration = Duration::from_secs(12);
const LATENCY: Duration = Duration::from_millis(10);
const BUDGET: usize = 20_000;
/// Events that may wait when the application takes none: the bound for messages, and what may come on top of it.
const MAX_EVENTS: usize = 4096 + 1024;
/// Links that are not connected: handshakes, dials, and goodbyes that wait to leave.
const MAX_HALF_OPEN: usize = 64 + 64 + 128;

#[derive(Clone)]
struct Packet {
    from: usize,
    path: Path,
    at: Instant,
    bytes: Vec<u8>,
}

struct World {
    now: Instant,
    sites: [Site; 2],
    max_peers: usize,
    fragments: bool,
    /// Somebody has the keys of the nodes themselves.
    forger: bool,
    pending: VecDeque<Packet>,
    history: VecDeque<Packet>,
    /// Every message, and the node that sent it; strangers have no number.
    sent: BTreeMap<Bytes, Option<usize>>,
    next_content: u64,
    next_nonce: u64,
    next_seq: u32,
    hold_events: bool,
    budget: usize,
}

/// One node, and what is known of it from outside.
struct Site {
    node: Node,
    accounts: Accounts,
    sealed_for: BTreeSet<Vec<u8>>,
    newest_nonce: Option<Nonce>,
    dials: BTreeSet<DialId>,
    fetches: BTreeSet<FetchId>,
    connected: BTreeSet<PeerId>,
    delivered: BTreeSet<Bytes>,
    closed: bool,
    /// Datagrams that it refused.
    refused: u64,
    /// Something was handed in or commanded since it was last drained.
    dirty: bool,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let (flags, sizes) = (input.u8(), input.u8());
        let flag = |bit: u8| flags & (1 << bit) != 0;
        let max_peers = [1, 2, 3, 100][usize::from(sizes & 3)];
        let size = |number: usize| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        let config = Config::default()
            .max_peers(size(max_peers))
            .lan(!flag(1))
            .flood(!flag(2))
            .relay(flag(3))
            .persistent_identity(flag(4))
            .accept_plaintext_fragments(flag(5))
            .store_entries(size(1 + usize::from(sizes >> 4)))
            .store_bytes(100_000)
            .value_limit(64 * 1024)
            .drain_timeout(Duration::from_millis(500));
        let now = clock::base();
        let sites = [0, 1].map(|site| {
            let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
            let mut node = Node::new(config.clone(), actors::owned_identity(site), Seed::fixed(site as u64), epoch);
            if let SocketAddr::V4(addr) = home(site) {
                node.set_local_addresses(&[addr], now);
            }
            Site {
                node,
                accounts: Accounts::default(),
                sealed_for: BTreeSet::new(),
                newest_nonce: None,
                dials: BTreeSet::new(),
                fetches: BTreeSet::new(),
                connected: BTreeSet::new(),
                delivered: BTreeSet::new(),
                closed: false,
                refused: 0,
                dirty: true,
            }
        });
        let mut world = Self {
            now,
            sites,
            max_peers,
            fragments: flag(5),
            forger: flag(6),
            pending: VecDeque::new(),
            history: VecDeque::new(),
            sent: BTreeMap::new(),
            next_content: 0,
            next_nonce: 0,
            next_seq: 0,
            hold_events: false,
            budget: BUDGET,
        };
        if flag(0) {
            world.dial(0, home(1));
            world.run(Duration::from_secs(2));
            assert!(world.sites.iter().all(|site| site.connected.len() == 1), "nothing kept them from meeting");
        }
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let site = usize::from(input.flip());
        match input.below(24) {
            0..=3 => self.run(input.pause()),
            4 => {
                let (place, what) = (input.below(256) % self.pending.len().max(1), input.below(3));
                let packet = if what == 0 { self.pending.get(place).cloned() } else { self.pending.remove(place) };
                if let Some(packet) = packet.filter(|_| what < 2) {
                    self.pass_on(packet);
                }
            }
            5 => {
                let (link, from) = (link(input), actors::addr(input).into());
                let bytes = input.bytes().to_vec();
                self.deliver(site, link, from, bytes);
            }
            6..=8 => {
                let (link, from) = (link(input), actors::addr(input).into());
                let frame = actors::frame(input, 0);
                for _ in 0..=input.u8() / 64 {
                    self.deliver(site, link, from, frame.clone());
                }
            }
            9 | 10 => {
                let actor = if self.forger { input.below(ACTORS) } else { 2 + input.below(2) };
                let from = if input.below(4) == 0 { actors::addr(input).into() } else { home(actor) };
                if actor != site {
                    self.say(site, actor, from, input);
                }
            }
            11 => {
                let addr = actors::addr(input);
                self.dial(site, addr.into());
            }
            12 | 13 => self.send(site, input),
            14 => self.exchange_values(site, input),
            15 => {
                let (topic, now, node) = (TopicId::from_name(actors::TOPIC), self.now, &mut self.sites[site].node);
                match input.below(4) {
                    0 => node.leave(&topic, now),
                    1 => drop(node.join(TopicId::from_name("another"), true, true, now)),
                    flags => drop(node.join(topic, flags == 2, true, now)),
                }
            }
            16 => {
                let peer = PeerId::from_bytes(*identity(input.below(ACTORS)).public().as_bytes());
                self.sites[site].node.disconnect(&peer, self.now);
            }
            17 => {
                let (choice, now, node) = (input.below(16), self.now, &mut self.sites[site].node);
                match choice {
                    0 => node.abort(now),
                    1 => node.shutdown(now),
                    _ => {}
                }
            }
            18 => self.now += input.pause(),
            19 => self.hold_events = input.flip(),
            20 => {
                let (back, from) = (input.below(256), if input.flip() { Some(actors::addr(input)) } else { None });
                let count = self.history.len();
                let packet = count.checked_sub(1).and_then(|last| self.history.get(last - back % count)).cloned();
                if let Some(mut packet) = packet {
                    packet.path.local = from.map_or(packet.path.local, SocketAddr::V4);
                    if input.below(4) == 0 && !packet.bytes.is_empty() {
                        let at = usize::from(input.u16()) % packet.bytes.len();
                        packet.bytes[at] ^= input.u8().max(1);
                    }
                    self.deliver(site, packet.path.link, packet.path.local, packet.bytes);
                }
            }
            21 => {
                let (choice, now, node) = (input.u8(), self.now, &mut self.sites[site].node);
                match choice & 3 {
                    0 => node.exchange_peers(None, now),
                    1 => drop(node.request_introduction(identity(usize::from(choice >> 2) % ACTORS).wire_id(), now)),
                    2 => {
                        let path = Path::udp(home(site), home(1 - site));
                        node.handle_send_error(path, io::ErrorKind::ConnectionRefused, now);
                    }
                    _ => node.set_local_addresses(&[actors::addr(input)], now),
                }
            }
            22 => {
                let (link, frame) = (link(input), actors::frame(input, 0));
                let count = input.u8();
                for number in 0..count {
                    let from = SocketAddr::from(([10, 9, number / 8, 9], 1000 + u16::from(number)));
                    self.deliver(site, link, from, frame.clone());
                }
            }
            _ => {
                // A stranger shakes hands and proves its key: what it says from now on is a peer's.
                let actor = 2 + input.below(2);
                let (them, mut hello) = (identity(actor), Vec::new());
                encode::hello(them.wire_id(), *them.public(), &mut hello);
                self.deliver(site, Link::Udp, home(actor), hello);
                self.drain(site);
                self.say(site, actor, home(actor), input);
            }
        }
        self.drain(0);
        self.drain(1);
    }

    fn dial(&mut self, site: usize, addr: SocketAddr) {
        let (now, state) = (self.now, &mut self.sites[site]);
        if let Ok(id) = state.node.dial(addr, now) {
            assert!(!state.closed && state.dials.insert(id));
            state.accounts.grant(addr, DIAL_BUDGET);
        }
        state.dirty = true;
    }

    fn send(&mut self, site: usize, input: &mut Input<'_>) {
        let (how, len, now) = (input.below(3), input.len(), self.now);
        for _ in 0..=input.u8() / 16 {
            self.next_content += 1;
            let mut content = self.next_content.to_be_bytes().to_vec();
            content.extend(pattern(0, len));
            let content = Bytes::from(content);
            self.sent.insert(content.clone(), Some(site));
            let state = &mut self.sites[site];
            let result = match how {
                0 => {
                    let peer = PeerId::from_bytes(*identity(1 - site).public().as_bytes());
                    state.node.send(&peer, content.clone(), now)
                }
                1 => state.node.broadcast(content.clone(), now).map(drop),
                _ => state.node.publish(&TopicId::from_name(actors::TOPIC), content.clone(), now).map(drop),
            };
            match result {
                Ok(()) | Err(SendError::Full | SendError::NotJoined) => {}
                Err(SendError::TooLarge { max, .. }) => assert!(content.len() > max),
                Err(SendError::NotConnected { peer }) => {
                    assert!(how == 0 && (self.hold_events || !state.connected.contains(&peer)));
                }
                Err(_) => {}
            }
        }
    }

    fn exchange_values(&mut self, site: usize, input: &mut Input<'_>) {
        let (now, choice, key) = (self.now, input.below(4), actors::key(input));
        let state = &mut self.sites[site];
        match choice {
            0 => {
                let value = actors::value(&key);
                // Refusals are part of the interface.
                let _ = state.node.store(key.into(), value.into(), now);
            }
            1 => {
                if let Some(&id) = state.fetches.first() {
                    state.node.cancel_fetch(id, now);
                    // No event follows, unless it had ended already and its event waits.
                    state.fetches.remove(&id);
                }
            }
            _ => {
                if let Ok(id) = state.node.fetch(key.into(), input.pause(), now) {
                    assert!(!state.closed && state.fetches.insert(id));
                }
            }
        }
    }

    fn say(&mut self, site: usize, actor: usize, from: SocketAddr, input: &mut Input<'_>) {
        let seen = if actor < 2 { self.sites[actor].newest_nonce } else { None };
        let mut next = self.next_nonce;
        let nonce = actors::nonce(input, actor, site, seen, &mut next);
        let plaintext = actors::plaintext(input, &mut self.next_seq);
        let repeat = u64::from(input.u8() / 16);
        self.next_nonce = next + repeat;
        let payload = plaintext.get(4..).unwrap_or(&plaintext);
        for said in [payload, &plaintext] {
            self.sent.insert(Bytes::copy_from_slice(said), None);
        }
        for more in 0..=repeat {
            let nonce = Nonce::new(nonce.prefix(), nonce.counter().wrapping_add(more));
            let frame = actors::seal(actor, site, nonce, &plaintext);
            let state = &mut self.sites[site];
            if let Some(addr) = actors::gossiped(&plaintext) {
                state.accounts.grant(addr.into(), DIAL_BUDGET);
            }
            state.sealed_for.insert(frame.clone());
            self.deliver(site, Link::Udp, from, frame);
        }
    }

    fn timer(&self, site: usize) -> Option<Deadline> {
        self.sites[site].node.poll_timeout()
    }

    /// The network does as it should, for this long.
    fn run(&mut self, time: Duration) {
        let until = self.now + time.min(LONGEST_RUN);
        let (mut idle, mut woken) = (0, self.now);
        while self.budget > 0 {
            self.budget -= 1;
            let mut active = false;
            for site in 0..2 {
                let due = self.timer(site).is_some_and(|deadline| deadline.at <= self.now);
                if due || std::mem::take(&mut self.sites[site].dirty) {
                    active |= self.drain(site);
                }
            }
            if self.pending.front().is_some_and(|packet| packet.at <= self.now) {
                let packet = self.pending.pop_front().expect("it was there");
                self.pass_on(packet);
                idle = 0;
                continue;
            }
            let arrival = self.pending.front().map(|packet| packet.at);
            let timers = Deadline::earliest(self.timer(0), self.timer(1));
            let next = arrival.into_iter().chain(timers.map(|deadline| deadline.at)).min();
            let Some(next) = next.filter(|&next| next <= until) else { break };
            self.now = self.now.max(next);
            let quick = self.now.saturating_duration_since(woken) <= Duration::from_millis(2);
            idle = if active || self.hold_events || !quick { 0 } else { idle + 1 };
            woken = self.now;
            assert!(idle < 50, "the timer `{}` fires for nothing", timers.map_or("", |deadline| deadline.reason));
        }
        self.now = self.now.max(until);
    }

    /// A datagram of one node arrives at the other, if it was sent there.
    fn pass_on(&mut self, packet: Packet) {
        let to = 1 - packet.from;
        if packet.path.link == LAN_LINK || packet.path.remote == home(to) {
            self.deliver(to, packet.path.link, home(packet.from), packet.bytes);
        }
    }

    fn deliver(&mut self, site: usize, link: Link, from: SocketAddr, mut bytes: Vec<u8>) {
        self.budget = self.budget.saturating_sub(1);
        let now = self.now;
        let state = &mut self.sites[site];
        for addr in actors::named(&bytes) {
            state.accounts.grant(addr.into(), DIAL_BUDGET);
        }
        if link == Link::Udp {
            state.accounts.on_received(from, &bytes, &state.sealed_for);
        }
        let path = Path { link, local: home(site), remote: from };
        state.dirty = true;
        let accepted = state.node.handle_datagram(Datagram::new(path, &mut bytes), now).is_ok();
        assert!(!accepted || !state.closed, "a node that has ended takes nothing in");
        state.refused += u64::from(!accepted);
    }

    /// Lets a node act, in the order of the run loop. Returns whether it did anything.
    fn drain(&mut self, site: usize) -> bool {
        let now = self.now;
        let mut active = false;
        let mut out = TransmitBuf::new(16);
        self.sites[site].node.handle_timeout(now);
        let mut transmits = 0;
        while let Some(transmit) = self.sites[site].node.poll_transmit(&mut out, now) {
            transmits += 1;
            assert!(transmits < 10_000, "a drain without end");
            let datagrams: Vec<Vec<u8>> = out.segments(&transmit).map(<[u8]>::to_vec).collect();
            out.clear();
            for bytes in datagrams {
                active = true;
                self.on_sent(site, transmit.path, bytes);
            }
        }
        if !self.hold_events {
            let mut events = 0;
            while let Some(event) = self.sites[site].node.poll_event() {
                active = true;
                events += 1;
                assert!(events <= MAX_EVENTS, "more events than may wait");
                self.on_event(site, event);
            }
        }
        let state = &self.sites[site];
        let (node, stats) = (&state.node, state.node.stats());
        assert!(stats.rejected.total() >= state.refused, "not every refusal is counted");
        assert!(stats.peers <= self.max_peers, "{} peers, {} at most", stats.peers, self.max_peers);
        assert!(stats.half_open <= MAX_HALF_OPEN, "{} half open", stats.half_open);
        if !self.hold_events {
            let peers: Vec<PeerId> = node.peers().iter().map(|peer| peer.id).collect();
            let known: Vec<PeerId> = state.connected.iter().copied().collect();
            assert!(state.closed || peers == known, "peers as the events have it: {peers:?}, {known:?}");
            let deadline = node.poll_timeout();
            assert!(deadline.is_none_or(|deadline| deadline.at > now), "{deadline:?} is no progress");
            assert_eq!(node.is_closed(), state.closed, "the end of a node is told");
            assert!(!state.closed || deadline.is_none(), "a node that has ended wants {deadline:?}");
        }
        active
    }

    fn on_sent(&mut self, site: usize, path: Path, bytes: Vec<u8>) {
        self.budget = self.budget.saturating_sub(1);
        let [state, other] = {
            let [first, second] = &mut self.sites;
            if site == 0 { [first, second] } else { [second, first] }
        };
        assert!(!state.closed, "a node that has ended sends {bytes:02x?}");
        if path.link == LAN_LINK {
            assert_eq!(path.remote, SocketAddr::V4(swarm::v12::LAN_GROUP));
        } else {
            state.accounts.on_sent(path.remote, &bytes);
        }
        let mut frames = vec![bytes.as_slice()];
        if let Ok(Frame::Batch(batch)) = Frame::decode(&bytes) {
            frames.extend(batch.iter());
        }
        for frame in frames.into_iter().filter(|frame| frame.first() == Some(&Kind::Data.byte())) {
            state.newest_nonce = frame.get(1..13).and_then(|nonce| <[u8; 12]>::try_from(nonce).ok()).map(Nonce::from);
            other.sealed_for.insert(frame.to_vec());
        }
        // The sender's address travels as the local end.
        let path = Path { local: home(site), ..path };
        let packet = Packet { from: site, path, at: self.now + LATENCY, bytes };
        if self.history.len() == 256 {
            self.history.pop_front();
        }
        self.history.push_back(packet.clone());
        self.pending.push_back(packet);
        if self.pending.len() > 4096 {
            self.pending.pop_front();
        }
    }

    fn on_event(&mut self, site: usize, event: Event) {
        let state = &mut self.sites[site];
        assert!(!state.closed, "{event:?} after the end");
        match event {
            Event::Connected { peer, .. } => assert!(state.connected.insert(peer), "{peer} is connected twice"),
            Event::Disconnected { peer, .. } => assert!(state.connected.remove(&peer), "{peer} was not connected"),
            Event::Proved { peer } => assert!(state.connected.contains(&peer)),
            Event::Dialled { id, .. } | Event::DialFailed { id, .. } => {
                assert!(state.dials.remove(&id), "{id:?} ends twice");
            }
            Event::Fetched { id, .. } => {
                // With events held back, a fetch that was cancelled may have ended before.
                state.fetches.remove(&id);
            }
            Event::Message { from, data, authenticated } => {
                assert!(state.connected.contains(&from), "{from} is not connected");
                assert!(authenticated || self.fragments, "fragments that the configuration forbids");
                let sender = self.sent.get(&data);
                assert!(!authenticated || sender.is_some(), "{data:?} was never sent");
                if let Some(Some(sender)) = sender {
                    assert_ne!(*sender, site, "a node hears itself");
                    assert!(state.delivered.insert(data.clone()), "{data:?} is delivered twice");
                }
            }
            Event::Missed { from, .. } => assert!(state.connected.contains(&from)),
            Event::Writable { peer } => assert!(state.connected.contains(&peer)),
            Event::Closed { .. } => {
                assert!(state.dials.is_empty() && state.fetches.is_empty(), "operations without an answer");
                state.closed = true;
            }
            _ => {}
        }
    }

    /// Both end, one in peace, and nothing stays.
    fn finish(&mut self) {
        self.hold_events = false;
        self.drain(0);
        self.drain(1);
        self.sites[0].node.shutdown(self.now);
        self.sites[1].node.abort(self.now);
        for _ in 0..300 {
            self.drain(0);
            self.drain(1);
            let Some(deadline) = Deadline::earliest(self.timer(0), self.timer(1)) else { break };
            self.now = deadline.at;
        }
        for site in &self.sites {
            assert!(site.closed, "it was told to end, and is still there");
            assert!(site.node.peers().is_empty() && site.node.stats().half_open == 0);
        }
    }
}

/// The socket, or the multicast one.
fn link(input: &mut Input<'_>) -> Link {
    if input.below(4) == 0 { LAN_LINK } else { Link::Udp }
}
