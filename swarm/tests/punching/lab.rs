//! Nodes behind boxes that translate addresses, in virtual time: what a driver does, and what the network does.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crypto::{Identity, Seed};
use peer::mux::Urgency;
use relay::Networks;
use relay::client::Named;
use sim::clock;
use sim::nat::{NatBox, NatKind};
use structs::{Datagram, Link, Machine, Path, TransmitBuf};
use swarm::PeerId;
use swarm::nat::Way;
use swarm::node::{Config, Event, Node};

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// One machine with a node.
pub(crate) struct Host {
    pub(crate) node: Node,
    ip: IpAddr,
    ipv6: Option<IpAddr>,
    /// The box in front of it.
    nat: Option<usize>,
    sockets: Vec<(Link, u16)>,
    next_port: u16,
    pub(crate) events: Vec<Event>,
}

/// Three public hosts that relay and see others, then A and B behind boxes.
pub(crate) struct Lab {
    pub(crate) hosts: Vec<Host>,
    pub(crate) boxes: Vec<NatBox>,
    pub(crate) now: Duration,
    queue: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sequence: u64,
    out: TransmitBuf,
    /// How long a datagram is on its way.
    pub(crate) delay: Duration,
    /// Bytes that were sent to each address.
    pub(crate) sent_to: BTreeMap<IpAddr, usize>,
}

pub(crate) const A: usize = 3;
pub(crate) const B: usize = 4;
const PORT: u16 = 4000;
const DELAY: Duration = ms(20);
/// Routers between a host and the box of another.
const HOPS: u8 = 8;

pub(crate) fn identity(number: usize) -> Identity {
    let mut seed = [9; 32];
    seed[0] = number as u8;
    Identity::from_seed(seed)
}

pub(crate) fn id(number: usize) -> PeerId {
    PeerId::from(identity(number).peer_id())
}

const PUBLIC: [[u8; 4]; 3] = [[20, 0, 0, 1], [21, 0, 0, 1], [22, 0, 0, 1]];

/// Where A and B are, and what is in front of them.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) kinds: [NatKind; 2],
    /// One box for both.
    pub(crate) together: bool,
    pub(crate) timeouts: Duration,
    pub(crate) seed: u64,
    /// Servers that are asked where they see a host.
    pub(crate) stun: bool,
    /// A and B have IPv6, too, without a NAT.
    pub(crate) ipv6: bool,
}

impl Setting {
    pub(crate) const fn of(a: NatKind, b: NatKind, seed: u64) -> Self {
        Self { kinds: [a, b], together: false, timeouts: secs(120), seed, stun: true, ipv6: false }
    }
}

impl Lab {
    pub(crate) fn new(setting: Setting) -> Self {
        let seed = Seed::fixed(setting.seed);
        let boxes = (0..2).map(|side: u8| {
            let public = IpAddr::from([60 + side, 0, 0, 100]);
            let kind = setting.kinds[usize::from(side)];
            let timeouts = setting.timeouts;
            NatBox::new(kind, public, &seed.fork(&side.to_string())).timeouts(timeouts.min(secs(30)), timeouts)
        });
        let mut lab = Self {
            hosts: Vec::new(),
            boxes: boxes.collect(),
            now: secs(1),
            queue: BTreeMap::new(),
            sequence: 0,
            out: TransmitBuf::new(8),
            delay: DELAY,
            sent_to: BTreeMap::new(),
        };
        let servers: Vec<SocketAddr> = PUBLIC.map(|ip| SocketAddr::from((ip, PORT))).to_vec();
        for number in 0..5 {
            let (ip, nat, serve) = match number {
                A => (IpAddr::from([10, 1, 0, 11]), Some(0), false),
                B if setting.together => (IpAddr::from([10, 1, 0, 12]), Some(0), false),
                B => (IpAddr::from([10, 2, 0, 12]), Some(1), false),
                other => (IpAddr::from(PUBLIC[other]), None, true),
            };
            // Without translation the host has the public address itself.
            let ip = nat.filter(|at| setting.kinds[*at] == NatKind::None).map_or(ip, |at| lab.boxes[at].public());
            let now = clock::base() + lab.now;
            let limits = if serve { relay::Config::default() } else { relay::Config::off() };
            let relays = relay::client::Config::default().networks(Networks::Off);
            let config = Config::default().lan(false).serve(limits).serve_stun(serve).relays(relays);
            let epoch = structs::Epoch { instant: now, unix: secs(1_700_000_000) };
            let mut node = Node::new(identity(number), config, epoch, &seed.fork(&format!("node {number}")), now);
            let ipv6 = IpAddr::from([0x2a01, 0, 0, 0, 0, 0, 0, number as u16]);
            let ipv6 = Some(ipv6).filter(|_| setting.ipv6 && !serve);
            let own: Vec<SocketAddr> = [Some(ip), ipv6].into_iter().flatten().map(|ip| (ip, PORT).into()).collect();
            node.set_addresses(&[], &own, now);
            if !serve && setting.stun {
                node.set_stun_servers(&servers, now);
            }
            let (sockets, events) = (vec![(Link::Udp, PORT)], Vec::new());
            lab.hosts.push(Host { node, ip, ipv6, nat, sockets, next_port: PORT + 1, events });
        }
        lab.run_for(secs(3));
        lab
    }

    pub(crate) fn at(&self) -> std::time::Instant {
        clock::base() + self.now
    }

    /// B asks the first host for a place, and A dials B through it.
    pub(crate) fn connect(&mut self) {
        self.reserve();
        let relay = Named { relay: identity(0).peer_id(), addrs: vec![SocketAddr::from((PUBLIC[0], PORT))] };
        let now = self.at();
        self.hosts[A].node.dial_via(id(B), &[], &[relay], now).unwrap();
        self.drain(A);
        let both = |lab: &Self| lab.way(A).is_some() && lab.way(B).is_some();
        assert!(self.run_until(both, secs(10)), "no session");
    }

    pub(crate) fn reserve(&mut self) {
        let now = self.at();
        assert!(self.hosts[B].node.add_relay(id(0), &[SocketAddr::from((PUBLIC[0], PORT))], now));
        self.drain(B);
        assert!(self.run_until(|lab| lab.hosts[B].node.vouchers().count() == 1, secs(5)), "no place");
    }

    /// How one of A and B reaches the other.
    pub(crate) fn way(&self, host: usize) -> Option<Way> {
        let node = &self.hosts[host].node;
        node.session(&id(A + B - host)).map(|session| node.way(session))
    }

    pub(crate) fn path(&self, host: usize) -> Path {
        let node = &self.hosts[host].node;
        let session = node.session(&id(A + B - host)).unwrap();
        node.sessions().find(|(handle, ..)| *handle == session).unwrap().2.path().unwrap()
    }

    pub(crate) fn sockets(&self, host: usize) -> usize {
        self.hosts[host].sockets.len()
    }

    pub(crate) fn send(&mut self, from: usize, message: &[u8]) {
        let (now, to) = (self.at(), id(A + B - from));
        let node = &mut self.hosts[from].node;
        let (session, protocol) = (node.session(&to).expect("a session"), node.protocols().message);
        node.with(session, now, |session, _| session.send(protocol, message, Urgency::Normal)).unwrap().unwrap();
        self.drain(from);
    }

    /// Says something where attempts are coordinated.
    pub(crate) fn say(&mut self, from: usize, message: &[u8]) {
        let (now, to) = (self.at(), id(A + B - from));
        let node = &mut self.hosts[from].node;
        let (session, protocol) = (node.session(&to).expect("a session"), node.protocols().punch);
        let _ = node.with(session, now, |session, _| session.send(protocol, message, Urgency::Urgent));
        self.drain(from);
    }

    pub(crate) fn receive(&mut self, at: usize) -> Vec<Vec<u8>> {
        let (now, from) = (self.at(), id(A + B - at));
        let node = &mut self.hosts[at].node;
        let Some(session) = node.session(&from) else { return Vec::new() };
        let protocol = node.protocols().message;
        let (mut came, mut message) = (Vec::new(), Vec::new());
        while node.with(session, now, |session, _| session.recv(protocol, &mut message)).flatten().is_some() {
            came.push(message.clone());
        }
        self.drain(at);
        came
    }

    /// What becomes of a datagram on its way to `to`: the host and the address that it arrives at.
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr) -> Option<(usize, SocketAddr)> {
        for host in 0..self.hosts.len() {
            let (ip, nat) = (self.hosts[host].ip, self.hosts[host].nat);
            let outside = nat.map(|at| self.boxes[at].public());
            let near = from.ip().to_string().starts_with("10.") && to.ip() == ip;
            if (outside.is_none() && to.ip() == ip) || near || self.hosts[host].ipv6 == Some(to.ip()) {
                return Some((host, to));
            }
            if outside == Some(to.ip())
                && let Some(at) = nat
                && let Some(inside) = self.boxes[at].inbound(from, to, self.now)
                && inside.ip() == ip
            {
                return Some((host, inside));
            }
        }
        None
    }

    /// Does what a driver does: sends, opens and closes sockets.
    pub(crate) fn drain(&mut self, host: usize) {
        loop {
            let now = self.at();
            let mut quiet = true;
            self.out.clear();
            while let Some(transmit) = self.hosts[host].node.poll_transmit(&mut self.out, now) {
                quiet = false;
                let datagrams: Vec<Vec<u8>> = self.out.segments(&transmit).map(<[u8]>::to_vec).collect();
                self.out.clear();
                let port = self.hosts[host].sockets.iter().find(|(link, _)| *link == transmit.path.link);
                let Some((_, port)) = port.copied() else { continue };
                for payload in datagrams {
                    self.leave(host, port, transmit.path.remote, transmit.ttl.map(u8::from), payload);
                }
            }
            let mut events: VecDeque<Event> = std::iter::from_fn(|| self.hosts[host].node.poll_event()).collect();
            while let Some(event) = events.pop_front() {
                quiet = false;
                match event {
                    Event::OpenSockets { first, count } => {
                        let mut locals = Vec::new();
                        for number in (first..).take(count.into()) {
                            let Host { ip, sockets, next_port, .. } = &mut self.hosts[host];
                            sockets.push((Link::Socket(number), *next_port));
                            locals.push(SocketAddr::new(*ip, *next_port));
                            *next_port += 1;
                        }
                        self.hosts[host].node.sockets_opened(first, &locals, now);
                    }
                    Event::CloseSockets { first, count } => {
                        let closed = |link: &Link| matches!(link, Link::Socket(n) if (first..first + u32::from(count)).contains(n));
                        self.hosts[host].sockets.retain(|(link, _)| !closed(link));
                    }
                    event => self.hosts[host].events.push(event),
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn leave(&mut self, host: usize, port: u16, to: SocketAddr, ttl: Option<u8>, payload: Vec<u8>) {
        *self.sent_to.entry(to.ip()).or_default() += payload.len();
        let Host { ip, ipv6, nat, .. } = self.hosts[host];
        if to.is_ipv6() {
            let Some(ip) = ipv6 else { return };
            self.sequence += 1;
            self.queue.insert((self.now + self.delay, self.sequence), (SocketAddr::new(ip, port), to, payload));
            return;
        }
        let local = SocketAddr::new(ip, port);
        let near = nat.is_some() && self.hosts.iter().any(|other| other.ip == to.ip() && other.nat == nat);
        let (from, delay) = match nat {
            Some(at) if !near => {
                let Some(from) = self.boxes[at].outbound(local, to, self.now) else { return };
                (from, self.delay)
            }
            Some(_) => (local, ms(1)),
            None => (local, self.delay),
        };
        if near || ttl.is_none_or(|ttl| ttl > HOPS) {
            self.sequence += 1;
            self.queue.insert((self.now + delay, self.sequence), (from, to, payload));
        }
    }

    /// What happens next, at most until `end`.
    fn step(&mut self, end: Duration) -> bool {
        let base = clock::base();
        let timer = |host: &Host| host.node.poll_timeout().map(|at| at.at.saturating_duration_since(base));
        let timeout = (0..self.hosts.len()).filter_map(|host| Some((timer(&self.hosts[host])?, host))).min();
        let next = self.queue.keys().next().copied();
        match (next, timeout) {
            (Some(key), timeout) if key.0 <= end && timeout.is_none_or(|(at, _)| key.0 <= at) => {
                self.now = self.now.max(key.0);
                let (from, to, mut payload) = self.queue.remove(&key).unwrap();
                let Some((host, inside)) = self.arrive(from, to) else { return true };
                let socket = self.hosts[host].sockets.iter().find(|(_, port)| *port == inside.port());
                let Some((link, _)) = socket.copied() else { return true };
                let path = Path { link, local: inside, remote: from };
                let now = self.at();
                let _ = self.hosts[host].node.handle_datagram(Datagram::new(path, &mut payload), now);
                self.drain(host);
            }
            (_, Some((at, host))) if at <= end => {
                self.now = self.now.max(at);
                let now = self.at();
                self.hosts[host].node.handle_timeout(now);
                self.drain(host);
                let again = timer(&self.hosts[host]);
                assert!(
                    again.is_none_or(|again| again > at),
                    "no progress: {:?}",
                    self.hosts[host].node.poll_timeout()
                );
            }
            _ => {
                self.now = self.now.max(end);
                return false;
            }
        }
        true
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        (0..self.hosts.len()).for_each(|host| self.drain(host));
        while self.step(end) {}
    }

    pub(crate) fn run_until(&mut self, wanted: impl Fn(&Self) -> bool, most: Duration) -> bool {
        let end = self.now + most;
        while !wanted(self) {
            if !self.step(end) {
                return wanted(self);
            }
        }
        true
    }
}

/// Numbered messages both ways.
#[derive(Default)]
pub(crate) struct Talk {
    sent: u32,
    came: [u32; 2],
    /// The longest time without anything new at one of the two.
    pub(crate) longest: Duration,
    last: [Duration; 2],
}

impl Talk {
    pub(crate) fn new(lab: &Lab) -> Self {
        Self { last: [lab.now; 2], ..Self::default() }
    }

    /// Sends one message each way every 20 ms.
    pub(crate) fn go_on(&mut self, lab: &mut Lab, span: Duration) {
        let end = lab.now + span;
        while lab.now < end {
            let message = [&self.sent.to_be_bytes()[..], &[7; 200]].concat();
            [A, B].into_iter().for_each(|host| lab.send(host, &message));
            self.sent += 1;
            lab.run_for(ms(20));
            self.read(lab);
        }
    }

    fn read(&mut self, lab: &mut Lab) {
        for (at, host) in [A, B].into_iter().enumerate() {
            for message in lab.receive(host) {
                assert_eq!(message[..4], self.came[at].to_be_bytes(), "once and in order");
                self.came[at] += 1;
                self.longest = self.longest.max(lab.now - self.last[at]);
                self.last[at] = lab.now;
            }
        }
    }

    /// Everything arrives.
    pub(crate) fn finish(mut self, lab: &mut Lab) {
        for _ in 0..1000 {
            if self.came == [self.sent; 2] {
                return;
            }
            lab.run_for(ms(20));
            self.read(lab);
        }
        panic!("{:?} of {}", self.came, self.sent);
    }
}
