//! Two hosts behind boxes, a coordinator that carries their messages, and virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use nat::scope::Family;
use nat::{Candidate, CandidateKind, Event, Failure, Filtering, Observation, Observations, Punch, Scope, Setup};
use sim::clock;
use sim::nat::{NatBox, NatKind};
use structs::{Datagram, Link, Machine, Path, TransmitBuf};

/// What the world is like.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) kinds: [NatKind; 2],
    /// One way, directly and through the coordinator.
    pub(crate) direct: Duration,
    pub(crate) coordinator: Duration,
    pub(crate) loss: f64,
    /// A server with two addresses told both about filters and strays.
    pub(crate) known: bool,
    /// Routers between the boxes, at which openers die.
    pub(crate) hops: u8,
    /// Flows that others behind the box begin between the observation and the attempt.
    pub(crate) busy: u16,
    /// Mappings that were counted and that the box did not make, on either side.
    pub(crate) miscounted: [u16; 2],
    /// Flows of the hosts themselves, to others, that begin after they told of their boxes, and while they send probes.
    pub(crate) flows: [u16; 2],
    /// Both are behind the first box.
    pub(crate) together: bool,
    /// Each box is behind another of its kind.
    pub(crate) double: bool,
    pub(crate) ipv6: bool,
}

impl World {
    pub(crate) fn new(a: NatKind, b: NatKind) -> Self {
        Self {
            kinds: [a, b],
            direct: Duration::from_millis(30),
            coordinator: Duration::from_millis(40),
            loss: 0.0,
            known: true,
            hops: 4,
            busy: 0,
            miscounted: [0; 2],
            flows: [0; 2],
            together: false,
            double: false,
            ipv6: false,
        }
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// When both had said that they are punched, since the attempt began.
    pub(crate) punched: Option<Duration>,
    /// Where to, on the side that began.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) failures: [Option<Failure>; 2],
    pub(crate) failed_at: Option<Duration>,
    pub(crate) bytes: [u32; 2],
    pub(crate) probes: [usize; 2],
    /// Bytes to each address that something was sent to, by both.
    pub(crate) sent_to: BTreeMap<IpAddr, usize>,
    pub(crate) sockets: [usize; 2],
}

/// One end.
struct Host {
    ip: IpAddr,
    ipv6: IpAddr,
    /// From the innermost box to the outermost, by their numbers in the lab.
    boxes: Vec<usize>,
    sockets: Vec<(Link, u16)>,
    punch: Punch,
    observed: Observations,
    next_port: u16,
    result: Option<(Link, SocketAddr)>,
    failure: Option<Failure>,
}

#[derive(Debug)]
enum What {
    /// On the outermost link, from an address to another.
    Arrival {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    Message {
        to: usize,
        bytes: Vec<u8>,
    },
    Opened {
        host: usize,
        first: Link,
        count: u16,
        observed: bool,
    },
}

pub(crate) struct Lab {
    world: World,
    now: Duration,
    boxes: Vec<NatBox>,
    hosts: Vec<Host>,
    queue: BTreeMap<(Duration, u64), What>,
    sequence: u64,
    rng: Rng,
    out: TransmitBuf,
    sent_to: BTreeMap<IpAddr, usize>,
    /// Every datagram that left a host, for those who repeat and bend them.
    pub(crate) seen: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

/// Each in a network of its own; the last is the other address of the one before.
const OBSERVERS: [([u8; 4], u16); 4] =
    [([192, 0, 2, 1], 3478), ([198, 51, 100, 1], 4000), ([20, 0, 0, 1], 4000), ([21, 0, 0, 1], 3479)];
const RELAY: ([u8; 4], u16) = ([22, 0, 0, 1], 443);
const MAIN_PORT: u16 = 5000;

impl Lab {
    pub(crate) fn new(world: World, number: u64) -> Self {
        let seed = Seed::fixed(number);
        let mut boxes = Vec::new();
        let mut chains = Vec::new();
        for side in 0..2_u8 {
            if side == 1 && world.together {
                chains.push(vec![0]);
                continue;
            }
            let kind = world.kinds[usize::from(side)];
            let mut chain = vec![boxes.len()];
            let public = IpAddr::from([203, 0, 113 + side, 100]);
            if world.double {
                let shared = IpAddr::from([100, 64, side, 2]);
                boxes.push(NatBox::new(kind, shared, &seed.fork(&format!("inner {side}"))));
                chain.push(boxes.len());
            }
            boxes.push(NatBox::new(kind, public, &seed.fork(&format!("box {side}"))));
            chains.push(chain);
        }
        let now = Duration::from_secs(100);
        let mut lab = Self {
            now,
            boxes,
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            rng: seed.fork("lab").rng(),
            out: TransmitBuf::new(1),
            sent_to: BTreeMap::new(),
            seen: Vec::new(),
            world,
        };
        let mut setups = Vec::new();
        for (side, chain) in (0_u8..).zip(&chains) {
            let none = lab.world.kinds[usize::from(side)] == NatKind::None && !lab.world.together;
            let site = if lab.world.together { 1 } else { side + 1 };
            let ip =
                if none { IpAddr::from([203, 0, 113 + side, 100]) } else { IpAddr::from([10, site, 0, 11 + side]) };
            let ipv6 = IpAddr::from([0x2001, 0xdb8, u16::from(side), 0, 0, 0, 0, 1]);
            let mut observed = Observations::new(Scope::Public, MAIN_PORT);
            observed.set_local(&[ip]);
            let seen = lab.observe(chain, SocketAddr::new(ip, MAIN_PORT), &mut observed);
            setups.push((ip, ipv6, observed, seen));
        }
        let stated: Vec<Vec<IpAddr>> = (0..2)
            .map(|side| {
                let local = SocketAddr::new(setups[side].0, MAIN_PORT);
                let seen = lab.outward(&chains[side], local, RELAY.into()).map(|seen| seen.ip());
                let ipv6 = lab.world.ipv6.then_some(setups[side].1);
                // Who has no UDP came to the relay by TCP.
                let tcp = Some(lab.boxes[*chains[side].last().unwrap()].public());
                seen.or(tcp).into_iter().chain(ipv6).collect()
            })
            .collect();
        lab.boxes.iter_mut().for_each(|nat| nat.skip(lab.world.busy));
        for (side, (ip, ipv6, observed, _)) in setups.into_iter().enumerate() {
            let candidates = candidates(ip, lab.world.ipv6.then_some(ipv6), MAIN_PORT, &observed);
            let mut report = observed.report(Family::V4);
            report.next = report.next.saturating_add(lab.world.miscounted[side]);
            let setup = Setup {
                report,
                opened: Vec::new(),
                candidates,
                seen: stated[side].clone(),
                stated: stated[1 - side].clone(),
                local: false,
                birthday: true,
                first_socket: 10,
                max_sockets: 300,
            };
            let seed = seed.fork(&format!("punch {side}"));
            let now = clock::base() + lab.now;
            let punch = if side == 0 { Punch::initiate(setup, &seed, now) } else { Punch::respond(setup, &seed, now) };
            lab.hosts.push(Host {
                ip,
                ipv6,
                boxes: chains[side].clone(),
                sockets: vec![(Link::Udp, MAIN_PORT)],
                punch,
                observed,
                next_port: MAIN_PORT + 1,
                result: None,
                failure: None,
            });
        }
        lab
    }

    /// Lets observers see a socket, and tells what they say. Returns where the first sees it.
    fn observe(&mut self, chain: &[usize], local: SocketAddr, observed: &mut Observations) -> Option<SocketAddr> {
        let at = clock::base() + self.now;
        let mut first = None;
        for (index, observer) in OBSERVERS.into_iter().enumerate() {
            let by: SocketAddr = observer.into();
            let opened = at + Duration::from_millis(index as u64);
            let Some(seen) = self.outward(chain, local, by) else {
                observed.set_blocked();
                return None;
            };
            first = first.or(Some(seen));
            observed.record(Observation { by, seen, opened, stray: false }, at);
        }
        if let Some(seen) = first.filter(|_| self.world.known) {
            // A server with two addresses, asked at its first: does what comes from its others get in?
            let port: SocketAddr = (OBSERVERS[0].0, 3479).into();
            let other: SocketAddr = ([23, 0, 0, 1], 3479).into();
            let open = self.inward(chain, other, seen).is_some();
            let by_address = self.inward(chain, port, seen).is_some();
            observed.set_filtering(
                Family::V4,
                match (open, by_address) {
                    (true, _) => Filtering::EndpointIndependent,
                    (_, true) => Filtering::AddressDependent,
                    _ => Filtering::AddressAndPort,
                },
            );
            let again = self.outward(chain, local, other).unwrap();
            let opened = at + Duration::from_millis(10);
            observed.record(Observation { by: other, seen: again, opened, stray: true }, at);
        }
        first
    }

    fn outward(&mut self, chain: &[usize], from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let now = self.now;
        chain.iter().try_fold(from, |from, index| self.boxes[*index].outbound(from, to, now))
    }

    fn inward(&mut self, chain: &[usize], from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let now = self.now;
        chain.iter().rev().try_fold(to, |to, index| self.boxes[*index].inbound(from, to, now))
    }

    /// Whose a public address is, and what becomes of a datagram to it: the host and its inside address.
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr) -> Option<(usize, SocketAddr)> {
        for host in 0..2 {
            let Host { ip, ipv6, boxes, .. } = &self.hosts[host];
            let (ip, ipv6, chain) = (*ip, *ipv6, boxes.clone());
            let outer = self.boxes[*chain.last().unwrap()].public();
            if to.ip() == ipv6 || (to.ip() == ip && self.world.together) {
                return Some((host, to));
            }
            if to.ip() == outer
                && let Some(inside) = self.inward(&chain, from, to)
                && inside.ip() == ip
            {
                return Some((host, inside));
            }
        }
        None
    }

    /// The address that a datagram of a host seems to come from, and whether it gets as far as the other box.
    fn leave(&mut self, host: usize, port: u16, to: SocketAddr, ttl: Option<u8>) -> Option<(SocketAddr, bool)> {
        let Host { ip, ipv6, boxes, .. } = &self.hosts[host];
        let (ip, ipv6, chain) = (*ip, *ipv6, boxes.clone());
        if to.is_ipv6() {
            return Some((SocketAddr::new(ipv6, port), true));
        }
        let near = self.world.together && to.ip() == self.hosts[1 - host].ip;
        if near {
            return Some((SocketAddr::new(ip, port), true));
        }
        let from = self.outward(&chain, SocketAddr::new(ip, port), to)?;
        let hops = u8::try_from(chain.len()).unwrap() + self.world.hops;
        Some((from, ttl.is_none_or(|ttl| ttl > hops)))
    }

    fn push(&mut self, at: Duration, what: What) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), what);
    }

    fn drain(&mut self, host: usize) {
        let now = clock::base() + self.now;
        loop {
            let mut quiet = true;
            while let Some(transmit) = self.hosts[host].punch.poll_transmit(&mut self.out, now) {
                quiet = false;
                let payload = self.out.bytes().to_vec();
                self.out.clear();
                assert!(payload.len() <= 61);
                let to = transmit.path.remote;
                *self.sent_to.entry(to.ip()).or_default() += payload.len();
                let socket = self.hosts[host].sockets.iter().find(|(link, _)| *link == transmit.path.link);
                let (_, port) = *socket.expect("a socket that was opened");
                let Some((from, far)) = self.leave(host, port, to, transmit.ttl.map(Into::into)) else { continue };
                self.seen.push((from, to, payload.clone()));
                let lost = self.rng.below(1_000_000) < (self.world.loss * 1e6) as u64;
                if far && !lost {
                    let near = !to.is_ipv6() && to.ip() == self.hosts[1 - host].ip && self.world.together;
                    let delay = if near { Duration::from_micros(300) } else { self.world.direct };
                    self.push(self.now + delay, What::Arrival { from, to, payload });
                }
            }
            while let Some(event) = self.hosts[host].punch.poll_event() {
                quiet = false;
                match event {
                    Event::OpenSockets { first, count, observed } => {
                        let delay = Duration::from_millis(if observed { 100 } else { 5 });
                        self.push(self.now + delay, What::Opened { host, first: Link::Socket(first), count, observed });
                    }
                    Event::Punched { link, remote } => {
                        assert!(self.hosts[host].result.replace((link, remote)).is_none(), "twice");
                    }
                    Event::Failed(failure) => {
                        assert!(self.hosts[host].failure.replace(failure).is_none(), "twice");
                    }
                    _ => {}
                }
            }
            while let Some(bytes) = self.hosts[host].punch.poll_message() {
                quiet = false;
                self.push(self.now + self.world.coordinator, What::Message { to: 1 - host, bytes });
            }
            if quiet {
                return;
            }
        }
    }

    fn opened(&mut self, host: usize, first: Link, count: u16, observed: bool) {
        let Link::Socket(first) = first else { panic!("{first:?}") };
        for number in 0..count {
            let port = self.hosts[host].next_port;
            self.hosts[host].next_port += 1;
            self.hosts[host].sockets.push((Link::Socket(first + u32::from(number)), port));
        }
        let (mut candidates_, mut report) = (Vec::new(), None);
        if observed {
            let Host { ip, ipv6, boxes, sockets, .. } = &self.hosts[host];
            let (ip, ipv6, chain, port) = (*ip, *ipv6, boxes.clone(), sockets.last().unwrap().1);
            let mut fresh = Observations::new(Scope::Public, port);
            fresh.set_local(&[ip]);
            // What filters do is known; only the address is asked for.
            let known = std::mem::replace(&mut self.world.known, false);
            self.observe(&chain, SocketAddr::new(ip, port), &mut fresh);
            self.world.known = known;
            candidates_ = candidates(ip, self.world.ipv6.then_some(ipv6), port, &fresh);
            let mut now = fresh.report(Family::V4);
            let before = self.hosts[host].observed.report(Family::V4);
            (now.filtering, now.strays) = (before.filtering, before.strays);
            report = Some(now);
        }
        let now = clock::base() + self.now;
        let _ = self.hosts[host].punch.sockets_opened(count, &candidates_, report, now);
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let Some((host, inside)) = self.arrive(from, to) else { return };
        let link = self.hosts[host].sockets.iter().find(|(_, port)| *port == inside.port()).map(|(link, _)| *link);
        let Some(link) = link else { return };
        let path = Path { link, local: inside, remote: from };
        let mut payload = payload.to_vec();
        let now = clock::base() + self.now;
        let _ = self.hosts[host].punch.handle_datagram(Datagram::new(path, &mut payload), now);
        self.drain(host);
    }

    /// Hands a datagram to the network, as if somebody sent it.
    pub(crate) fn forge(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        self.push(self.now + self.world.direct, What::Arrival { from, to, payload });
    }

    /// What happens next, at most until `end`. `false` if nothing does.
    pub(crate) fn step(&mut self, end: Duration) -> bool {
        let timer = |host: &Host| host.punch.poll_timeout().map(|deadline| deadline.at);
        let offset = |at: Instant| at.saturating_duration_since(clock::base());
        let timeout = (0..2).filter_map(|host| Some((offset(timer(&self.hosts[host])?), host))).min();
        let event = self.queue.keys().next().copied();
        match (event, timeout) {
            (Some(key), timeout) if timeout.is_none_or(|(at, _)| key.0 <= at) => {
                if key.0 > end {
                    return false;
                }
                self.now = key.0;
                match self.queue.remove(&key).unwrap() {
                    What::Arrival { from, to, payload } => self.deliver(from, to, &payload),
                    What::Message { to, bytes } => {
                        let now = clock::base() + self.now;
                        let result = self.hosts[to].punch.handle_message(&bytes, now);
                        assert!(result.is_ok() || self.hosts[to].punch.is_closed(), "{result:?}");
                        self.drain(to);
                    }
                    What::Opened { host, first, count, observed } => {
                        self.opened(host, first, count, observed);
                        self.drain(host);
                    }
                }
            }
            (_, Some((at, host))) => {
                if at > end {
                    return false;
                }
                self.now = self.now.max(at);
                self.hosts[host].punch.handle_timeout(clock::base() + self.now);
                self.drain(host);
                let next = timer(&self.hosts[host]);
                assert!(next.is_none_or(|next| next > clock::base() + self.now), "no progress");
            }
            _ => return false,
        }
        true
    }

    /// A host sends something to somebody else, as it may at any time.
    fn flow(&mut self, host: usize, number: u16) {
        let Host { ip, boxes, .. } = &self.hosts[host];
        let (from, chain) = (SocketAddr::new(*ip, MAIN_PORT), boxes.clone());
        let [high, low] = number.to_be_bytes();
        if self.outward(&chain, from, ([30, 0, high, low], 443).into()).is_some() {
            self.hosts[host].punch.count_mapping();
        }
    }

    /// Takes what the two say before anything happens.
    pub(crate) fn begin(&mut self) {
        (0..2).for_each(|host| self.drain(host));
    }

    /// The paths that they said they took.
    pub(crate) fn results(&self) -> Vec<Option<(Link, SocketAddr)>> {
        self.hosts.iter().map(|host| host.result).collect()
    }

    pub(crate) fn run(mut self) -> Outcome {
        let begin = self.now;
        let end = begin + Duration::from_secs(40);
        self.begin();
        let (mut punched, mut failed_at) = (None, None);
        for host in 0..2 {
            (0..self.world.flows[host]).for_each(|number| self.flow(host, number));
        }
        let mut later = self.world.flows.map(|flows| 1000 + flows);
        while self.step(end) {
            for (host, left) in later.iter_mut().enumerate() {
                // One more with each probe, after the first ones.
                if self.hosts[host].punch.probes_sent() > 6 && *left > 1000 {
                    *left -= 1;
                    self.flow(host, *left);
                }
            }
            if punched.is_none() && self.hosts.iter().all(|host| host.result.is_some()) {
                punched = Some(self.now - begin);
                self.check_path();
            }
            if failed_at.is_none() && self.hosts[0].failure.is_some() {
                failed_at = Some(self.now - begin);
            }
        }
        assert!(self.hosts.iter().all(|host| host.punch.is_closed()), "it goes on");
        assert!(self.hosts.iter().all(|host| host.result.is_some() != host.failure.is_some()), "both or neither");
        let stats = |host: usize| (self.hosts[host].punch.bytes_sent(), self.hosts[host].punch.probes_sent());
        let [(bytes_a, probes_a), (bytes_b, probes_b)] = [stats(0), stats(1)];
        Outcome {
            punched,
            remote: self.hosts[0].result.map(|(_, remote)| remote),
            failures: [self.hosts[0].failure, self.hosts[1].failure],
            failed_at,
            bytes: [bytes_a, bytes_b],
            probes: [probes_a, probes_b],
            sent_to: self.sent_to,
            sockets: [self.hosts[0].sockets.len(), self.hosts[1].sockets.len()],
        }
    }

    /// What is sent where both say arrives where both say, both ways.
    fn check_path(&mut self) {
        for host in 0..2 {
            let (link, remote) = self.hosts[host].result.unwrap();
            let port = self.hosts[host].sockets.iter().find(|(known, _)| *known == link).unwrap().1;
            let (from, _) = self.leave(host, port, remote, None).unwrap();
            let (other, inside) = self.arrive(from, remote).expect("it arrives");
            assert_eq!(other, 1 - host);
            let (link, remote) = self.hosts[other].result.unwrap();
            assert_eq!(remote, from, "where the other one sends to");
            let port = self.hosts[other].sockets.iter().find(|(known, _)| *known == link).unwrap().1;
            assert_eq!(inside.port(), port);
        }
    }
}

fn candidates(ip: IpAddr, ipv6: Option<IpAddr>, port: u16, observed: &Observations) -> Vec<Candidate> {
    let host = [Some(ip), ipv6].into_iter().flatten();
    let mut list: Vec<Candidate> =
        host.map(|ip| Candidate { kind: CandidateKind::Host, addr: SocketAddr::new(ip, port) }).collect();
    if let Some((addr, _)) = observed.reflexive(Family::V4) {
        list.push(Candidate { kind: CandidateKind::Reflexive, addr });
    }
    list
}

/// Addresses that belong to the two, or to networks that they are in.
pub(crate) fn own_addresses() -> BTreeSet<IpAddr> {
    let public = [0, 1].map(|side| IpAddr::from([203, 0, 113 + side, 100]));
    let local = [IpAddr::from([10, 1, 0, 11]), IpAddr::from([10, 1, 0, 12])];
    let ipv6 = [0, 1].map(|side| IpAddr::from([0x2001, 0xdb8, side, 0, 0, 0, 0, 1]));
    public.into_iter().chain(local).chain(ipv6).collect()
}
