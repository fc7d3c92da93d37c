//! Three native nodes, two of which reach each other through the third: what they tell each other of addresses, NATs, relays and
//! topics is changed and invented, and strangers say anything.

mod places;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crypto::Seed;
use crypto::topic::member_tag;
use nat::stun::{self, Change, Transaction};
use peer::mux::{ProtocolId, Urgency};
use relay::Networks;
use relay::client::Named;
use sim::clock;
use structs::{Datagram, Epoch, Link, Machine, Path, TransmitBuf};
use swarm::discovery::Reach;
use swarm::node::{Config, Event, Interface, LAN_LINK, Node, ProtocolIds, Ways};
use swarm::{TopicId, TransportAddr};

use self::places::{PORT, any, asker, bystander, home, id, identity, mover, stranger, stranger_with, stun_server};
use crate::input::Input;

/// Whatever is said: no panic, timers that make progress, no more bytes to strangers than came from them but for answers by STUN
/// (SPEC 15.1), at most three times as many to where a session seems to have moved (SPEC 9.3), few to those who are only named, none
/// to places of transports, and silence after the end.
pub fn node(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    for _ in 0..STEPS {
        if input.is_empty() || world.budget == 0 || world.woken > BUDGET {
            break;
        }
        world.step(&mut input);
        world.drain_all();
    }
    world.finish();
}

const STEPS: usize = 120;
/// Datagrams of one input, and of its end, and wake-ups after which it ends.
const BUDGET: usize = 6000;
const LATENCY: Duration = Duration::from_millis(20);
const NODES: usize = 3;
/// Wake-ups of all nodes in a second, of which an attempt that takes its time over its probes needs most.
const WAKES: usize = 2000;
/// Bytes that one bystander, who is only named, gets in a minute: an attempt to punch (SPEC 15.6), or dials on the word of strangers
/// (SPEC 9.1).
const NAMED_BYTES: usize = 64_000;

struct Host {
    node: Node,
    ip: [u8; 4],
    /// Sockets beside the one of the sessions, and their ports.
    sockets: BTreeMap<u32, u16>,
    /// What each stranger sent to this node and got from it.
    owed: BTreeMap<SocketAddr, (usize, usize)>,
    /// What each bystander got.
    named: BTreeMap<IpAddr, usize>,
}

struct Packet {
    at: Instant,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct World {
    now: Instant,
    hosts: Vec<Host>,
    pending: Vec<Packet>,
    /// What was taken, and who says so.
    taken: Vec<(SocketAddr, Vec<u8>)>,
    /// The last question to the STUN server.
    asked: Option<Vec<u8>>,
    beacons: Vec<(SocketAddr, Vec<u8>)>,
    /// Whether the two reach each other directly.
    direct: bool,
    /// How many sockets the next wish is granted.
    sockets: u16,
    out: TransmitBuf,
    budget: usize,
    woken: usize,
}

fn topic() -> TopicId {
    TopicId::from("fuzz")
}

const UNIX: Duration = Duration::from_secs(1_800_000_000);

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let now = clock::base();
        let flags = input.u8();
        let flag = |bit: u8| flags & (1 << bit) != 0;
        let hosts = (0..NODES).map(|number| {
            let limits = if number == 0 { relay::Config::default() } else { relay::Config::off() };
            let config = Config::default()
                .serve(limits)
                .serve_stun(number == 0)
                .pex(Some(Reach::World))
                .dht(flag(0).then_some(Reach::World))
                .find_relays(flag(1))
                .ways(Ways { transports: [places::TRANSPORT].into(), ..Ways::default() })
                .relays(relay::client::Config::default().networks(Networks::Off));
            let epoch = Epoch { instant: now, unix: UNIX };
            let mut node = Node::new(identity(number), config, epoch, &Seed::fixed(number as u64), now);
            node.set_addresses(&[], &[home(number)], now);
            if flag(2) {
                node.set_stun_servers(&[home(0), stun_server()], now);
            }
            if flag(3) {
                let addr = ([10, 0, 0, 1 + number as u8], PORT).into();
                node.set_interfaces(&[Interface { addr, prefix: 24, index: 1 }], now);
            }
            node.join(topic(), true, true, now).expect("the first topic");
            let ip = [20 + number as u8, 0, 0, 1];
            Host { node, ip, sockets: BTreeMap::new(), owed: BTreeMap::new(), named: BTreeMap::new() }
        });
        let mut world = Self {
            now,
            hosts: hosts.collect(),
            pending: Vec::new(),
            taken: Vec::new(),
            asked: None,
            beacons: Vec::new(),
            direct: flag(4),
            sockets: 300,
            out: TransmitBuf::new(8),
            budget: BUDGET,
            woken: 0,
        };
        world.hosts[2].node.add_relay(id(0), &[home(0)], now);
        world.drain_all();
        world.run(Duration::from_millis(300));
        let relay = Named { relay: identity(0).peer_id(), addrs: vec![home(0)] };
        let now = world.now;
        let _ = world.hosts[1].node.dial_via(id(2), &[], &[relay], now);
        world.drain_all();
        world.run(Duration::from_millis(500));
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (operation, at) = (input.below(25), input.below(NODES));
        let now = self.now;
        match operation {
            0..=3 => self.run(input.pause()),
            4 => {
                self.run(Duration::from_secs(u64::from(input.u8())));
            }
            5 => drop(self.pick(input)),
            6 | 7 => {
                if let Some(mut packet) = self.pick(input) {
                    let place = usize::from(input.u16()) % packet.bytes.len();
                    packet.bytes[place] ^= input.u8() | 1;
                    self.deliver(packet.from, packet.to, packet.bytes);
                }
            }
            8 => {
                if let Some(packet) = self.pick(input) {
                    self.deliver(mover(input.u8()), packet.to, packet.bytes);
                }
            }
            9 => {
                if let Some(last) = self.taken.len().checked_sub(1) {
                    let (to, bytes) = self.taken[last - input.below(64).min(last)].clone();
                    self.deliver(stranger_with(&bytes, input.u8()), to, bytes);
                }
            }
            10 => {
                let kinds = [0x00, 0x01, 0xc8, 0xc9, 0xd0, 0xd1, 0xd2, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xde, 0xe0];
                let bytes = [&[input.pick(&kinds)], input.bytes()].concat();
                self.deliver(stranger_with(&bytes, input.u8()), home(at), bytes);
            }
            11 => self.ask_by_stun(at, input),
            12 => self.answer_by_stun(at, input),
            13 => {
                if let Some((from, beacon)) = self.beacons.last().cloned() {
                    let from = if input.flip() { ([10, 0, 0, input.u8()], PORT).into() } else { from };
                    let mut bytes = if input.flip() { beacon } else { [&[0xde], input.bytes()].concat() };
                    let path = Path { link: LAN_LINK, ..Path::udp(([10, 0, 0, 1 + at as u8], PORT).into(), from) };
                    let _ = self.hosts[at].node.handle_datagram(Datagram::new(path, &mut bytes), now);
                }
            }
            14 => {
                let payload = input.bytes().to_vec();
                match input.below(3) {
                    0 => drop(self.hosts[at].node.publish(&topic(), &payload, now)),
                    1 => self.hosts[at].node.leave(&topic(), now),
                    _ => drop(self.hosts[at].node.join(topic(), input.flip(), input.flip(), now)),
                }
            }
            15 => {
                let other = (at + 1 + input.below(NODES - 1)) % NODES;
                match input.below(4) {
                    0 => drop(self.hosts[at].node.disconnect(&id(other), Duration::from_secs(1), now)),
                    1 => drop(self.hosts[at].node.dial(Some(id(other)), &[home(other)], now)),
                    2 => self.hosts[at].node.handle_resume(now),
                    _ => self.direct = !self.direct,
                }
            }
            16 => self.sockets = input.u16() % 300,
            17 => {
                let peer = input.flip().then(|| id(input.below(NODES)));
                // What sources name has been looked at before.
                let addrs = [bystander(input.u8()), any(input)].map(|addr| (addr, TransportAddr::of(addr)));
                let addrs: Vec<_> =
                    addrs.into_iter().filter(|(_, place)| place.is_none()).map(|(addr, _)| addr).collect();
                self.hosts[at].node.suggest_candidate(peer, &addrs, now);
            }
            18 => self.say(at, input, |input, _, ids| words::noise(ids, input)),
            19 | 20 => self.say(at, input, |input, _, ids| (ids.punch, words::punching(input))),
            21 => self.say(at, input, |input, _, ids| (ids.relay, words::relaying(input))),
            22 => self.say(at, input, |input, tag, ids| (ids.pex.expect("it is on"), words::exchange(at, input, tag))),
            23 => self.say(at, input, |input, _, ids| (ids.find, words::finding(at, input))),
            _ => {
                let bytes = [&[0xc9], &input.array::<8>()[..], input.bytes()].concat();
                self.deliver(home(0), home(at), bytes);
            }
        }
    }

    /// A node says something in one of its sessions that it would not say.
    fn say(
        &mut self,
        at: usize,
        input: &mut Input<'_>,
        what: impl FnOnce(&mut Input<'_>, [u8; 16], ProtocolIds) -> (ProtocolId, Vec<u8>),
    ) {
        let sessions: Vec<_> = self.hosts[at].node.sessions().map(|(handle, ..)| handle).collect();
        let Some(session) = sessions.get(input.below(sessions.len().max(1))).copied() else { return };
        let (node, now) = (&mut self.hosts[at].node, self.now);
        let exporter = node.with(session, now, |session, _| session.exporter(b"setowire pex v1")).flatten();
        let tag = exporter.map(|exporter| member_tag(topic().as_bytes(), &exporter, 0)).unwrap_or_default();
        let (protocol, message) = what(input, tag, node.protocols());
        let _ = node.with(session, now, |session, _| session.send(protocol, &message, Urgency::Normal));
    }

    fn ask_by_stun(&mut self, at: usize, input: &mut Input<'_>) {
        let change = Change { ip: input.flip(), port: input.flip() };
        let request =
            stun::Message::Request { transaction: Transaction(input.array()), change, fingerprint: input.flip() };
        let bytes = request.encode(input.flip());
        let (from, now, mut bytes) = (asker(input.u8()), self.now, bytes);
        let host = &mut self.hosts[at];
        host.owed.entry(from).or_default().0 += bytes.len();
        let _ = host.node.handle_datagram(Datagram::new(Path::udp(home(at), from), &mut bytes), now);
    }

    /// The server answers what it was asked, or what it was not, with any address.
    fn answer_by_stun(&mut self, at: usize, input: &mut Input<'_>) {
        let asked = self.asked.as_ref().and_then(|bytes| stun::Message::decode(bytes).ok());
        let transaction = match asked {
            Some(asked) if input.below(4) > 0 => asked.transaction(),
            _ => Transaction(input.array()),
        };
        let mapped = if input.flip() { home(at) } else { any(input) };
        let other = input.flip().then(|| bystander(input.u8()));
        let bytes = stun::Message::Success { transaction, mapped, other }.encode(input.flip());
        self.deliver(stun_server(), home(at), bytes);
    }

    fn pick(&mut self, input: &mut Input<'_>) -> Option<Packet> {
        let count = self.pending.len();
        (count > 0).then(|| self.pending.remove(input.below(count.min(255))))
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.budget == 0 {
            return;
        }
        self.budget -= 1;
        let Some(at) = self.hosts.iter().position(|host| IpAddr::from(host.ip) == to.ip()) else { return };
        let host = &mut self.hosts[at];
        let link = match host.sockets.iter().find(|(_, port)| **port == to.port()) {
            Some((number, _)) => Link::Socket(*number),
            None => Link::Udp,
        };
        host.owed.entry(from).or_default().0 += bytes.len();
        let path = Path { link, ..Path::udp(to, from) };
        let mut opened = bytes.clone();
        if host.node.handle_datagram(Datagram::new(path, &mut opened), self.now).is_ok() {
            self.taken.push((to, bytes));
            let old = self.taken.len().saturating_sub(256);
            self.taken.drain(..old);
        }
        self.drain(at);
    }

    /// Lets the network and the clocks work.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut wakes = span.as_secs() as usize * WAKES + WAKES;
        loop {
            let packet = self.pending.iter().enumerate().min_by_key(|(_, packet)| packet.at).map(|(at, p)| (p.at, at));
            let timer = (0..NODES).filter_map(|at| Some((self.hosts[at].node.poll_timeout()?.at, at))).min();
            match (packet, timer) {
                (Some((at, which)), timer) if at <= end && timer.is_none_or(|(timer, _)| at <= timer) => {
                    self.now = self.now.max(at);
                    let Packet { from, to, bytes, .. } = self.pending.remove(which);
                    self.deliver(from, to, bytes);
                }
                (_, Some((at, which))) if at <= end => {
                    self.now = self.now.max(at);
                    wakes = wakes.checked_sub(1).expect("it spins");
                    self.woken += 1;
                    self.hosts[which].node.handle_timeout(self.now);
                    self.drain(which);
                    let next = self.hosts[which].node.poll_timeout();
                    assert!(next.is_none_or(|next| next.at > self.now), "no progress: {next:?}");
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    fn drain_all(&mut self) {
        (0..NODES).for_each(|at| self.drain(at));
    }

    fn drain(&mut self, at: usize) {
        for turn in 0.. {
            assert!(turn < 10_000, "talk without an end");
            let mut busy = false;
            let host = &mut self.hosts[at];
            while let Some(transmit) = host.node.poll_transmit(&mut self.out, self.now) {
                busy = true;
                let to = transmit.path.remote;
                let datagrams: Vec<Vec<u8>> = self.out.segments(&transmit).map(<[u8]>::to_vec).collect();
                self.out.clear();
                let from = match transmit.path.link {
                    Link::Udp => SocketAddr::from((host.ip, PORT)),
                    Link::Socket(number) => {
                        SocketAddr::from((host.ip, *host.sockets.get(&number).expect("a socket that is open")))
                    }
                    link if link == LAN_LINK => {
                        self.beacons.push((transmit.path.local, datagrams.concat()));
                        let old = self.beacons.len().saturating_sub(8);
                        self.beacons.drain(..old);
                        continue;
                    }
                    Link::Custom(_) => {
                        assert!(TransportAddr::of(to).is_none(), "the owner named no place of a transport");
                        continue;
                    }
                    // Nobody listens there.
                    _ => continue,
                };
                for bytes in datagrams {
                    let (came, went) = host.owed.entry(to).or_default();
                    *went += bytes.len();
                    if (0..4).any(|number| to.ip() == stranger(number).ip()) {
                        assert!(*went <= *came, "{went} bytes to {to}, which sent {came}");
                    }
                    if (0..4).any(|number| to.ip() == asker(number).ip()) {
                        assert!(*went * 5 <= *came * 8, "{went} bytes to {to}, which asked with {came}");
                    }
                    if (0..4).any(|number| to.ip() == mover(number).ip()) {
                        assert!(*went <= 3 * *came, "{went} bytes to {to}, which sent {came}");
                    }
                    if (0..4).any(|number| to.ip() == bystander(number).ip()) {
                        let got = host.named.entry(to.ip()).or_default();
                        *got += bytes.len();
                        let minutes = self.now.saturating_duration_since(clock::base()).as_secs() as usize / 60;
                        assert!(*got <= NAMED_BYTES * (2 + minutes), "{to} was only named");
                    }
                    if to == stun_server() {
                        self.asked = Some(bytes.clone());
                    }
                    let reaches = self.direct || [from, to].iter().any(|addr| addr.ip() == home(0).ip());
                    if reaches && self.pending.len() < 1024 {
                        self.pending.push(Packet { at: self.now + LATENCY, from, to, bytes });
                    }
                }
            }
            while let Some(event) = host.node.poll_event() {
                busy = true;
                match event {
                    Event::OpenSockets { first, count } => {
                        let count = count.min(self.sockets);
                        let mut locals = Vec::new();
                        for number in (first..).take(count.into()) {
                            let port = 10_000 + (number % 50_000) as u16;
                            host.sockets.insert(number, port);
                            locals.push(SocketAddr::from((host.ip, port)));
                        }
                        host.node.sockets_opened(first, &locals, self.now);
                    }
                    Event::CloseSockets { first, count } => {
                        host.sockets.retain(|number, _| !(first..first + u32::from(count)).contains(number));
                    }
                    _ => {}
                }
            }
            if !busy {
                return;
            }
        }
    }

    /// The network is good from here on, unless it has carried enough, and all end.
    fn finish(mut self) {
        self.budget = BUDGET;
        self.run(Duration::from_secs(5));
        self.budget = BUDGET;
        let now = self.now;
        self.hosts.iter_mut().for_each(|host| host.node.shutdown(Duration::from_secs(1), now));
        self.drain_all();
        self.run(Duration::from_secs(60));
        for host in &self.hosts {
            assert!(host.node.is_closed(), "it does not end: {:?}", host.node.poll_timeout());
            assert!(host.node.poll_timeout().is_none(), "{:?}", host.node.poll_timeout());
        }
    }
}
