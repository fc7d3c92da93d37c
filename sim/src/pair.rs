//! Two machines and the network between them.
//!
//! The invariant: between two calls of this module both machines are drained, so their deadlines are final. Whoever
//! issues a command directly on [`Pair::a`] or [`Pair::b`] calls [`Pair::touch`] afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::Seed;
use structs::{Datagram, Deadline, Ecn, Machine, Path, RejectedCounts, TransmitBuf};

use crate::drive::{self, MAX_SEGMENTS};
use crate::traffic::{Capture, Log};
use crate::{Addresses, Captured, Dropped, Link, Timed, Trace, Traffic, Wire, clock};

/// One of the two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The opposite one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What [`Pair::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A datagram arrived at this side.
    Arrived(Side),
    /// The deadline of this side passed.
    TimedOut(Side),
    /// Nothing is on its way and nobody waits for anything: time stands still.
    Idle,
}

/// The surroundings of a pair, known before its machines are.
#[derive(Debug)]
pub struct Setup {
    seed: Seed,
    links: [Link; 2],
    addrs: [SocketAddr; 2],
    max_segments: usize,
}

impl Setup {
    /// Perfect links both ways, and the first two [`Addresses::Private`].
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        let plan = Addresses::default();
        Self { seed, links: [Link::perfect(); 2], addrs: [plan.at(0), plan.at(1)], max_segments: MAX_SEGMENTS }
    }

    /// Sets the link both ways.
    #[must_use]
    pub const fn link(mut self, link: Link) -> Self {
        self.links = [link; 2];
        self
    }

    /// Sets the link for what `from` sends.
    #[must_use]
    pub const fn link_from(mut self, from: Side, link: Link) -> Self {
        self.links[from as usize] = link;
        self
    }

    /// Takes the first two addresses of a plan.
    #[must_use]
    pub fn addresses(self, plan: Addresses) -> Self {
        self.addrs(plan.at(0), plan.at(1))
    }

    /// Sets both addresses.
    #[must_use]
    pub const fn addrs(mut self, a: SocketAddr, b: SocketAddr) -> Self {
        self.addrs = [a, b];
        self
    }

    /// The most datagrams in a batch: 16 unless set. One shows what segmentation offload hides.
    #[must_use]
    pub const fn max_segments(mut self, max_segments: usize) -> Self {
        self.max_segments = max_segments;
        self
    }

    /// The UDP path from `side` to the other.
    #[must_use]
    pub const fn path(&self, side: Side) -> Path {
        Path::udp(self.addrs[side as usize], self.addrs[side.other() as usize])
    }

    /// The moment at which the pair begins: [`clock::base`].
    #[must_use]
    pub fn now(&self) -> Instant {
        clock::base()
    }

    /// Puts two machines into these surroundings, and drains them for the first time.
    pub fn pair<A: Machine, B: Machine>(self, a: A, b: B) -> Pair<A, B> {
        let [to_b, to_a] = self.links;
        let wires = [Wire::new(to_b, &self.seed.fork("a to b")), Wire::new(to_a, &self.seed.fork("b to a"))];
        let ports = self.addrs.map(|addr| Ports { main: Port { local: addr, public: addr }, more: Vec::new() });
        let net = Net {
            now: Duration::ZERO,
            wires,
            ports,
            flights: BTreeMap::new(),
            sequence: 0,
            traffic: [Traffic::default(); 2],
            rejected: [RejectedCounts::default(); 2],
            capture: Capture::default(),
            trace: Trace::new(),
        };
        let mut pair = Pair {
            a,
            b,
            net,
            out: TransmitBuf::new(self.max_segments),
            a_log: Log::new(),
            b_log: Log::new(),
            deadlines: [None; 2],
            suspended: [None, None],
        };
        pair.touch();
        pair
    }
}

/// Two machines in virtual time, with a [`Link`] each way.
///
/// # Panics
///
/// Every method that lets time pass or drains panics when a machine breaks a law so that the run could not go on: its
/// deadline does not move on (progress), or a drain does not end.
#[derive(Debug)]
pub struct Pair<A: Machine, B: Machine> {
    /// The first machine. Call [`touch`](Self::touch) after a command.
    pub a: A,
    /// The second machine. Call [`touch`](Self::touch) after a command.
    pub b: B,
    net: Net,
    out: TransmitBuf,
    a_log: Log<A::Event>,
    b_log: Log<B::Event>,
    deadlines: [Option<Deadline>; 2],
    /// What waits in the socket of a side that is suspended.
    suspended: [Option<Vec<Flight>>; 2],
}

impl<A: Machine, B: Machine> Pair<A, B> {
    /// Two machines over one kind of link, at the addresses that [`Setup`] gives by default.
    pub fn new(a: A, b: B, link: Link, seed: Seed) -> Self {
        Setup::new(seed).link(link).pair(a, b)
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        clock::instant(self.net.now)
    }

    /// The virtual time since the beginning.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.net.now
    }

    /// Drains both machines: call it after commands.
    pub fn touch(&mut self) {
        self.drain(Side::A);
        self.drain(Side::B);
    }

    /// Runs a command on the first machine and drains it.
    pub fn with_a<R>(&mut self, command: impl FnOnce(&mut A, Instant) -> R) -> R {
        let result = command(&mut self.a, clock::instant(self.net.now));
        self.drain(Side::A);
        result
    }

    /// Runs a command on the second machine and drains it.
    pub fn with_b<R>(&mut self, command: impl FnOnce(&mut B, Instant) -> R) -> R {
        let result = command(&mut self.b, clock::instant(self.net.now));
        self.drain(Side::B);
        result
    }

    /// Jumps to the next arrival or deadline and lets it happen. At the same moment arrivals come first, then the
    /// deadline of A.
    pub fn step(&mut self) -> Step {
        let Some((at, next)) = self.next() else {
            return Step::Idle;
        };
        self.net.now = self.net.now.max(at);
        match next {
            Next::Arrival(key) => {
                let Some(flight) = self.net.flights.remove(&key) else {
                    return Step::Idle;
                };
                let side = flight.to;
                if let Some(kept) = &mut self.suspended[side as usize] {
                    match flight.from {
                        Some(from) if kept.len() >= SOCKET_BUFFER => {
                            self.net.traffic[from as usize].drop_for(Dropped::Suspended, flight.payload.len());
                        }
                        _ => kept.push(flight),
                    }
                    return Step::Arrived(side);
                }
                self.arrive(flight);
                self.drain(side);
                Step::Arrived(side)
            }
            Next::Deadline(side) => {
                self.time_out(side);
                Step::TimedOut(side)
            }
        }
    }

    /// Runs for `span` of virtual time, whether or not anything happens in it.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(|_| false, span);
    }

    /// Runs until `done`, which is asked at once and after every step, but no longer than `limit`. Returns whether it
    /// came true; the clock then stands at the step that made it true, otherwise `limit` later.
    pub fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool, limit: Duration) -> bool {
        let end = self.net.now.saturating_add(limit);
        loop {
            if done(self) {
                return true;
            }
            if self.next_at().is_none_or(|at| at > end) {
                self.net.now = end;
                return false;
            }
            self.step();
        }
    }

    /// When the next [`step`](Self::step) takes place.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.next().map(|(at, _)| at)
    }

    /// What a side waits for.
    #[must_use]
    pub const fn deadline(&self, side: Side) -> Option<Deadline> {
        self.deadlines[side as usize]
    }

    /// The UDP path from `side` to the other, as its machine knows it.
    #[must_use]
    pub fn path(&self, side: Side) -> Path {
        Path::udp(self.net.port(side).local, self.net.port(side.other()).public)
    }

    /// What the first machine reported and nobody took.
    #[must_use]
    pub fn a_events(&self) -> &[Timed<A::Event>] {
        &self.a_log.events
    }

    /// What the second machine reported and nobody took.
    #[must_use]
    pub fn b_events(&self) -> &[Timed<B::Event>] {
        &self.b_log.events
    }

    /// Takes what the first machine reported.
    pub fn take_a_events(&mut self) -> Vec<Timed<A::Event>> {
        self.a_log.take()
    }

    /// Takes what the second machine reported.
    pub fn take_b_events(&mut self) -> Vec<Timed<B::Event>> {
        self.b_log.take()
    }

    /// Events that were dropped because nobody took the [`EVENT_LIMIT`](crate::traffic::EVENT_LIMIT) before them.
    #[must_use]
    pub const fn events_lost(&self) -> u64 {
        self.a_log.lost + self.b_log.lost
    }

    /// What `from` sent, and what became of it.
    #[must_use]
    pub const fn traffic(&self, from: Side) -> Traffic {
        self.net.traffic[from as usize]
    }

    /// Which side has been suspended.
    #[must_use]
    pub const fn is_suspended(&self, side: Side) -> bool {
        self.suspended[side as usize].is_some()
    }

    /// What `side` refused.
    #[must_use]
    pub const fn rejected(&self, side: Side) -> RejectedCounts {
        self.net.rejected[side as usize]
    }

    /// How many datagrams are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.net.flights.len()
    }

    /// Records every datagram from now on, until `limit` bytes of payload are held.
    pub fn capture(&mut self, limit: usize) {
        self.net.capture.start(limit);
    }

    /// What was recorded, in the order of sending.
    #[must_use]
    pub fn captured(&self) -> &[Captured] {
        self.net.capture.records()
    }

    /// How many datagrams the limit of the capture left out.
    #[must_use]
    pub const fn capture_missed(&self) -> u64 {
        self.net.capture.missed()
    }

    /// The fingerprint of all datagrams and deadlines so far. Equal for equal seeds and equal calls.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.net.trace.hash()
    }

    /// Changes the link for what `from` sends. What is on its way arrives as it would have.
    pub fn set_link(&mut self, from: Side, link: Link) {
        self.net.wires[from as usize].set_link(link);
    }

    /// Moves `side` to another address behind its back, as a NAT does: its machine still sends from and receives at
    /// its old address, while the other sees the new one. What was sent to the old one is lost.
    pub fn rebind(&mut self, side: Side, public: SocketAddr) {
        self.net.ports[side as usize].main.public = public;
    }

    /// Gives `side` one more address of its own, to send from and to be reached at.
    pub fn add_addr(&mut self, side: Side, addr: SocketAddr) {
        self.net.ports[side as usize].more.push(Port { local: addr, public: addr });
    }

    /// Hands a datagram to the machine at `to` at this moment, as if it came from `from` over UDP.
    pub fn inject(&mut self, to: Side, from: SocketAddr, payload: &[u8]) {
        let port = self.net.port(to);
        self.net.capture.record(from, port.public, None, payload, self.net.now);
        self.net.trace.addr(from);
        let path = Path::udp(port.local, from);
        self.arrive(Flight { from: None, to, path, ecn: Ecn::NotEct, payload: payload.to_vec() });
        self.drain(to);
    }

    /// Lets the clock of a side stand still, as when a laptop is closed: its machine sees no deadline and no datagram.
    /// Its socket keeps the first [`SOCKET_BUFFER`] datagrams.
    pub fn suspend(&mut self, side: Side) {
        self.suspended[side as usize].get_or_insert_default();
    }

    /// Ends it: the machine sees what its socket kept, then the time.
    pub fn resume(&mut self, side: Side) {
        for flight in self.suspended[side as usize].take().unwrap_or_default() {
            self.arrive(flight);
        }
        self.drain(side);
    }

    /// Puts another machine in the place of the first, as after a restart, and returns the old one. Addresses, links
    /// and what is on its way stay.
    pub fn replace_a(&mut self, machine: A) -> A {
        let old = std::mem::replace(&mut self.a, machine);
        self.drain(Side::A);
        old
    }

    /// Puts another machine in the place of the second: see [`replace_a`](Self::replace_a).
    pub fn replace_b(&mut self, machine: B) -> B {
        let old = std::mem::replace(&mut self.b, machine);
        self.drain(Side::B);
        old
    }

    fn next(&self) -> Option<(Duration, Next)> {
        let arrival = self.net.flights.keys().next().map(|&key| (key.0, Next::Arrival(key)));
        let deadline = |side: Side| {
            let deadline = self.deadlines[side as usize].filter(|_| self.suspended[side as usize].is_none())?;
            Some((clock::offset(deadline.at).max(self.net.now), Next::Deadline(side)))
        };
        // `min_by_key` keeps the first of equals.
        [arrival, deadline(Side::A), deadline(Side::B)].into_iter().flatten().min_by_key(|&(at, _)| at)
    }

    fn arrive(&mut self, mut flight: Flight) {
        let now = self.now();
        let net = &mut self.net;
        net.trace.time(net.now);
        net.trace.number(flight.to as u64);
        net.trace.bytes(&flight.payload);
        if let Some(from) = flight.from {
            net.traffic[from as usize].delivered.add(flight.payload.len());
        }
        let datagram = Datagram { path: flight.path, ecn: flight.ecn, payload: &mut flight.payload };
        let result = match flight.to {
            Side::A => self.a.handle_datagram(datagram, now),
            Side::B => self.b.handle_datagram(datagram, now),
        };
        if let Err(reason) = result {
            net.rejected[flight.to as usize].count(reason);
        }
    }

    fn time_out(&mut self, side: Side) {
        let now = self.now();
        self.net.trace.time(self.net.now);
        self.net.trace.number(TIMEOUT + side as u64);
        match side {
            Side::A => self.a.handle_timeout(now),
            Side::B => self.b.handle_timeout(now),
        }
        self.drain(side);
        let stuck = self.deadlines[side as usize].filter(|deadline| deadline.at <= now);
        assert!(
            stuck.is_none(),
            "no progress: after its timeout at {:?} side {side:?} still wants {stuck:?}",
            self.net.now
        );
    }

    fn drain(&mut self, side: Side) {
        let (at, now) = (self.elapsed(), self.now());
        let net = &mut self.net;
        let send = |path, ecn, datagram: &[u8]| net.send(side, path, ecn, datagram);
        let drained = match side {
            Side::A => drive::drain(&mut self.a, &mut self.out, now, send, |event| self.a_log.push(event, at)),
            Side::B => drive::drain(&mut self.b, &mut self.out, now, send, |event| self.b_log.push(event, at)),
        };
        match drained {
            Ok(deadline) => self.deadlines[side as usize] = deadline,
            #[expect(clippy::panic, reason = "the machine breaks a law and the run cannot go on")]
            Err(runaway) => panic!("side {side:?} at {at:?}: {runaway}"),
        }
    }
}

enum Next {
    Arrival((Duration, u64)),
    Deadline(Side),
}

/// Everything but the machines, so that a drain can borrow the two apart.
#[derive(Debug)]
struct Net {
    now: Duration,
    /// By sender.
    wires: [Wire; 2],
    ports: [Ports; 2],
    flights: BTreeMap<(Duration, u64), Flight>,
    sequence: u64,
    traffic: [Traffic; 2],
    rejected: [RejectedCounts; 2],
    capture: Capture,
    trace: Trace,
}

/// The addresses of one side.
#[derive(Debug)]
struct Ports {
    /// What it sends from unless it asks for another.
    main: Port,
    more: Vec<Port>,
}

impl Ports {
    fn all(&self) -> impl Iterator<Item = Port> {
        std::iter::once(self.main).chain(self.more.iter().copied())
    }
}

/// An address as its machine knows it and as the other side sees it.
#[derive(Debug, Clone, Copy)]
struct Port {
    local: SocketAddr,
    public: SocketAddr,
}

#[derive(Debug, Clone)]
struct Flight {
    /// `None` for injected ones.
    from: Option<Side>,
    to: Side,
    /// As the receiver sees it.
    path: Path,
    ecn: Ecn,
    payload: Vec<u8>,
}

impl Net {
    fn port(&self, side: Side) -> Port {
        self.ports[side as usize].main
    }

    fn send(&mut self, from: Side, path: Path, ecn: Ecn, payload: &[u8]) {
        let index = from as usize;
        let source = self.ports[index].all().find(|port| port.local == path.local).unwrap_or(self.port(from)).public;
        let target = self.ports[from.other() as usize].all().find(|port| port.public == path.remote);
        self.trace.time(self.now);
        self.trace.number(SENT + from as u64);
        self.trace.addr(source);
        self.trace.addr(path.remote);
        self.trace.number(ecn as u64);
        self.trace.bytes(payload);
        self.traffic[index].sent.add(payload.len());

        let passage = match target {
            Some(target) => self.wires[index].carry(payload.len(), ecn, self.now).map(|passage| (passage, target)),
            None => Err(Dropped::NoRoute),
        };
        self.capture.record(source, path.remote, passage.err(), payload, self.now);
        let (passage, target) = match passage {
            Ok(passage) => passage,
            Err(cause) => return self.traffic[index].drop_for(cause, payload.len()),
        };
        if passage.held {
            self.traffic[index].reordered.add(payload.len());
        }
        let mut payload = payload.to_vec();
        if passage.flipped.is_some() {
            passage.apply(&mut payload);
            self.traffic[index].corrupted.add(payload.len());
        }
        let path = Path { link: path.link, local: target.local, remote: source };
        let flight = Flight { from: Some(from), to: from.other(), path, ecn: passage.ecn, payload };
        if let Some(at) = passage.copy_at {
            self.traffic[index].duplicated.add(flight.payload.len());
            self.launch(passage.at, flight.clone());
            self.launch(at, flight);
        } else {
            self.launch(passage.at, flight);
        }
    }

    /// What is launched first arrives first at the same moment.
    fn launch(&mut self, at: Duration, flight: Flight) {
        self.sequence += 1;
        self.flights.insert((at, self.sequence), flight);
    }
}

/// What the socket of a suspended machine keeps: about 200 KiB of full packets, the default of Linux.
pub const SOCKET_BUFFER: usize = 140;

/// Marks in the trace that keep its kinds of entries apart.
const SENT: u64 = 2;
const TIMEOUT: u64 = 4;
