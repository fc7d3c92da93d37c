//! Many machines in one virtual time.
//!
//! One thread and one heap of `(time, sequence, event)`. The world jumps from event to event: there is no tick and no
//! sleep, so idle time costs nothing. After touching a machine it drains it and schedules its deadline; a wake-up that
//! was overtaken by an earlier one carries an old generation number and is dropped.

mod net;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::Seed;
use structs::{Datagram, Deadline, Ecn, Epoch, Machine, Path, RejectedCounts, TransmitBuf};

use self::net::{Flight, Net, Node, What};
use crate::drive::{self, MAX_SEGMENTS};
use crate::traffic::{Capture, Log};
use crate::{Addresses, Captured, Dropped, Link, Places, Timed, Trace, Traffic, clock};

/// The number of a machine in its world, from zero in the order of arrival. A restarted machine keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineId(u32);

impl MachineId {
    /// The number.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }

    const fn slot(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine {}", self.0)
    }
}

/// What the constructor of a machine gets to know.
#[derive(Debug)]
pub struct Birth {
    /// Its number.
    pub id: MachineId,
    /// Its address.
    pub addr: SocketAddr,
    /// Its own randomness, another one in every life.
    pub seed: Seed,
    /// The moment.
    pub now: Instant,
    /// The pairing of the clocks, one for the whole world: it begins at [`START_UNIX`].
    pub epoch: Epoch,
    plan: Addresses,
}

impl Birth {
    /// The address that the plan gives to machine number `index`, whether or not it is there yet.
    #[must_use]
    pub fn addr_of(&self, index: u32) -> SocketAddr {
        self.plan.at(index)
    }
}

/// Machines of one type, the network between them, and the virtual time of all.
///
/// # Panics
///
/// Every method that lets time pass or drains panics when a machine breaks a law so that the run could not go on: its
/// deadline does not move on (progress), or a drain does not end.
#[derive(Debug)]
pub struct World<M: Machine> {
    /// By id; `None` while dead.
    machines: Vec<Option<M>>,
    logs: Vec<Log<M::Event>>,
    net: Net,
    seed: Seed,
    out: TransmitBuf,
}

impl<M: Machine> World<M> {
    /// An empty world with perfect links and [`Addresses::Private`].
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        let net = Net {
            now: Duration::ZERO,
            heap: BinaryHeap::new(),
            sequence: 0,
            nodes: Vec::new(),
            by_addr: HashMap::new(),
            plan: Addresses::default(),
            places: Places::default(),
            link: Link::perfect(),
            overrides: HashMap::new(),
            lanes: HashMap::new(),
            rng: seed.fork("links").rng(),
            groups: BTreeMap::new(),
            cuts: BTreeSet::new(),
            traffic: Traffic::default(),
            capture: Capture::default(),
            trace: Trace::new(),
            steps: 0,
        };
        Self { machines: Vec::new(), logs: Vec::new(), net, seed, out: TransmitBuf::new(MAX_SEGMENTS) }
    }

    /// Sets the link between all that have no link of their own.
    #[must_use]
    pub const fn link(mut self, link: Link) -> Self {
        self.net.link = link;
        self
    }

    /// Sets the plan of addresses.
    #[must_use]
    pub const fn addresses(mut self, plan: Addresses) -> Self {
        self.net.plan = plan;
        self
    }

    /// Sets the plan of places, for machines that are added from now on. What it says comes on top of the delay of links, and
    /// what is sent later may overtake.
    #[must_use]
    pub const fn places(mut self, places: Places) -> Self {
        self.net.places = places;
        self
    }

    /// Adds a machine at the next address of the plan.
    pub fn add(&mut self, build: impl FnOnce(Birth) -> M) -> MachineId {
        let index = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        self.add_at(self.net.plan.at(index), build)
    }

    /// Adds a machine at an address of its own. If another machine has that address, it goes to the new one.
    pub fn add_at(&mut self, addr: SocketAddr, build: impl FnOnce(Birth) -> M) -> MachineId {
        let id = MachineId(u32::try_from(self.machines.len()).unwrap_or(u32::MAX));
        self.machines.push(None);
        self.logs.push(Log::new());
        let place = self.net.places.at(&self.seed, id.0);
        self.net.nodes.push(Node::new(addr, place));
        self.net.by_addr.insert(addr, id);
        self.start(id, build);
        id
    }

    /// Adds `count` machines, all at this moment.
    pub fn spawn(&mut self, count: u32, mut build: impl FnMut(Birth) -> M) -> Vec<MachineId> {
        (0..count).map(|_| self.add(&mut build)).collect()
    }

    /// Ends a machine without warning and returns it. What it sent before is still on its way.
    pub fn kill(&mut self, id: MachineId) -> Option<M> {
        self.net.forget_deadline(id);
        self.machines.get_mut(id.slot()).and_then(Option::take)
    }

    /// Starts a machine at the address of a dead one, or kills the running one first. Its groups stay joined.
    pub fn restart(&mut self, id: MachineId, build: impl FnOnce(Birth) -> M) -> Option<M> {
        let old = self.kill(id);
        self.start(id, build);
        old
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

    /// A machine, unless it is dead.
    #[must_use]
    pub fn get(&self, id: MachineId) -> Option<&M> {
        self.machines.get(id.slot())?.as_ref()
    }

    /// The running machines in the order of their ids.
    pub fn machines(&self) -> impl Iterator<Item = &M> {
        self.machines.iter().flatten()
    }

    /// The ids of the running machines, in order.
    pub fn ids(&self) -> impl Iterator<Item = MachineId> {
        (0..).zip(&self.machines).filter(|(_, machine)| machine.is_some()).map(|(index, _)| MachineId(index))
    }

    /// Runs a command on a machine and drains it. `None` if it is dead.
    pub fn with<R>(&mut self, id: MachineId, command: impl FnOnce(&mut M, Instant) -> R) -> Option<R> {
        let now = self.now();
        let machine = self.machines.get_mut(id.slot())?.as_mut()?;
        let result = command(machine, now);
        self.drain(id);
        Some(result)
    }

    /// The address of a machine.
    #[must_use]
    pub fn addr(&self, id: MachineId) -> Option<SocketAddr> {
        self.net.nodes.get(id.slot()).map(|node| node.addr)
    }

    /// The least time that a datagram takes from one machine to another and its answer back, by their [`Places`] and their
    /// links. `None` if there is no such machine.
    #[must_use]
    pub fn round_trip(&self, a: MachineId, b: MachineId) -> Option<Duration> {
        let (from, to) = (self.net.nodes.get(a.slot())?, self.net.nodes.get(b.slot())?);
        let links = self.net.link_of(a, b).least_delay() + self.net.link_of(b, a).least_delay();
        Some(links + from.place.delay(&to.place) * 2)
    }

    /// The machine at an address, dead or alive.
    #[must_use]
    pub fn id_at(&self, addr: SocketAddr) -> Option<MachineId> {
        self.net.by_addr.get(&addr).copied()
    }

    /// Moves a machine to another address behind its back: it sends from there, and its old address is nobody's.
    pub fn move_to(&mut self, id: MachineId, addr: SocketAddr) {
        let Some(node) = self.net.nodes.get_mut(id.slot()) else {
            return;
        };
        let old = std::mem::replace(&mut node.addr, addr);
        if self.net.by_addr.get(&old) == Some(&id) {
            self.net.by_addr.remove(&old);
        }
        self.net.by_addr.insert(addr, id);
    }

    /// Gives a machine one more address, to send from (if the path of a transmit names it) and to be reached at.
    pub fn add_addr(&mut self, id: MachineId, addr: SocketAddr) {
        self.net.by_addr.insert(addr, id);
    }

    /// Makes a machine a member of a group: what anybody sends to the address `group` reaches every member, the sender
    /// too if it is one (as sockets do unless told otherwise), on the kind of link that it was sent over. The members
    /// see it come from the sender and arrive at their own address.
    ///
    /// Any address can be a group, multicast and broadcast addresses alike.
    pub fn join_group(&mut self, id: MachineId, group: SocketAddr) {
        self.net.groups.entry(group).or_default().insert(id);
    }

    /// Takes a machine out of a group.
    pub fn leave_group(&mut self, id: MachineId, group: SocketAddr) {
        if let Some(members) = self.net.groups.get_mut(&group) {
            members.remove(&id);
        }
    }

    /// Gives a pair a link of its own, both ways.
    pub fn set_link(&mut self, a: MachineId, b: MachineId, link: Link) {
        self.set_link_from(a, b, link);
        self.set_link_from(b, a, link);
    }

    /// Gives one direction of a pair a link of its own.
    pub fn set_link_from(&mut self, from: MachineId, to: MachineId, link: Link) {
        self.net.overrides.insert((from, to), link);
    }

    /// Changes the link between all that have no link of their own, from now on.
    pub const fn set_default_link(&mut self, link: Link) {
        self.net.link = link;
    }

    /// Cuts the connection of two machines, both ways, until [`mend`](Self::mend) or [`heal`](Self::heal). What is on
    /// its way is lost.
    pub fn cut(&mut self, a: MachineId, b: MachineId) {
        self.net.cuts.insert((a.min(b), a.max(b)));
    }

    /// Undoes a [`cut`](Self::cut).
    pub fn mend(&mut self, a: MachineId, b: MachineId) {
        self.net.cuts.remove(&(a.min(b), a.max(b)));
    }

    /// Splits the world into islands that cannot reach each other. All that are on none of the lists are one more
    /// island. It replaces an earlier partition; what is on its way across is lost.
    pub fn partition(&mut self, islands: &[&[MachineId]]) {
        self.net.nodes.iter_mut().for_each(|node| node.island = 0);
        for (number, island) in (1..).zip(islands) {
            for id in *island {
                if let Some(node) = self.net.nodes.get_mut(id.slot()) {
                    node.island = number;
                }
            }
        }
    }

    /// Ends every cut and partition.
    pub fn heal(&mut self) {
        self.net.cuts.clear();
        self.partition(&[]);
    }

    /// Hands a datagram to a machine at this moment, as if it came from `from` over UDP. A dead machine gets nothing.
    pub fn inject(&mut self, to: MachineId, from: SocketAddr, payload: &[u8]) {
        let Some(local) = self.addr(to) else { return };
        self.net.capture.record(from, local, None, payload, self.net.now);
        self.net.trace.addr(from);
        self.net.trace.bytes(payload);
        let path = Path::udp(local, from);
        self.arrive(Flight { from: None, to, path, ecn: Ecn::NotEct, payload: payload.to_vec() });
    }

    /// Lets the next event happen. Returns `false` if there is none.
    pub fn step(&mut self) -> bool {
        let Some(Reverse(entry)) = self.net.heap.pop() else {
            return false;
        };
        self.net.now = entry.at;
        self.net.steps += 1;
        match entry.what {
            What::Arrival(flight) => self.arrive(*flight),
            What::Wake(id, generation) => self.wake(id, generation),
        }
        true
    }

    /// Runs for `span` of virtual time, whether or not anything happens in it.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(|_| false, span);
    }

    /// Runs until `done`, which is asked at once and after every event, but no longer than `limit`. Returns whether it
    /// came true; the clock then stands at the event that made it true, otherwise `limit` later.
    ///
    /// A condition that looks at every machine is dear here: call [`run_for`](Self::run_for) in a loop instead.
    pub fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool, limit: Duration) -> bool {
        let end = self.net.now.saturating_add(limit);
        loop {
            if done(self) {
                return true;
            }
            if self.net.heap.peek().is_none_or(|Reverse(entry)| entry.at > end) {
                self.net.now = end;
                return false;
            }
            self.step();
        }
    }

    /// How many events the world went through: the cost of a run.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.net.steps
    }

    /// What a machine reported and nobody took, also after its death.
    #[must_use]
    pub fn events(&self, id: MachineId) -> &[Timed<M::Event>] {
        self.logs.get(id.slot()).map_or(&[], |log| &log.events)
    }

    /// Takes what a machine reported.
    pub fn take_events(&mut self, id: MachineId) -> Vec<Timed<M::Event>> {
        self.logs.get_mut(id.slot()).map(Log::take).unwrap_or_default()
    }

    /// Events that were dropped because nobody took the [`EVENT_LIMIT`](crate::traffic::EVENT_LIMIT) before them.
    #[must_use]
    pub fn events_lost(&self) -> u64 {
        self.logs.iter().map(|log| log.lost).sum()
    }

    /// What everybody sent, and what became of it.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.net.traffic
    }

    /// What one machine sent, and what became of it.
    #[must_use]
    pub fn traffic_of(&self, from: MachineId) -> Traffic {
        self.net.nodes.get(from.slot()).map(|node| node.traffic).unwrap_or_default()
    }

    /// What a machine refused in all its lives.
    #[must_use]
    pub fn rejected(&self, id: MachineId) -> RejectedCounts {
        self.net.nodes.get(id.slot()).map(|node| node.rejected).unwrap_or_default()
    }

    /// What a machine waits for.
    #[must_use]
    pub fn deadline(&self, id: MachineId) -> Option<Deadline> {
        self.net.nodes.get(id.slot())?.deadline
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

    fn start(&mut self, id: MachineId, build: impl FnOnce(Birth) -> M) {
        let (now, plan) = (self.now(), self.net.plan);
        let Some(node) = self.net.nodes.get_mut(id.slot()) else {
            return;
        };
        node.lives += 1;
        let seed = self.seed.fork(&format!("{id} life {}", node.lives));
        let epoch = Epoch { instant: clock::base(), unix: START_UNIX };
        let machine = build(Birth { id, addr: node.addr, seed, now, epoch, plan });
        if let Some(slot) = self.machines.get_mut(id.slot()) {
            *slot = Some(machine);
        }
        self.drain(id);
    }

    fn arrive(&mut self, mut flight: Flight) {
        let (id, len) = (flight.to, flight.payload.len());
        let now = self.now();
        let cut = flight.from.is_some_and(|from| !self.net.reachable(from, id));
        let machine = self.machines.get_mut(id.slot()).and_then(Option::as_mut).filter(|_| !cut);
        let Some(machine) = machine else {
            self.net.drop_for(flight.from, if cut { Dropped::Cut } else { Dropped::Dead }, len);
            return;
        };
        self.net.trace.time(self.net.now);
        self.net.trace.number(u64::from(id.0) << 2);
        self.net.count(flight.from, |traffic| traffic.delivered.add(len));
        let datagram = Datagram { path: flight.path, ecn: flight.ecn, payload: &mut flight.payload };
        if let Err(reason) = machine.handle_datagram(datagram, now) {
            self.net.count_rejected(id, reason);
        }
        self.drain(id);
    }

    fn wake(&mut self, id: MachineId, generation: u64) {
        let now = self.now();
        let Some(node) = self.net.nodes.get_mut(id.slot()).filter(|node| node.generation == generation) else {
            return;
        };
        node.wakes_at = None;
        if node.deadline.is_none_or(|deadline| deadline.at > now) {
            // The deadline moved back since this wake-up was scheduled.
            self.net.schedule(id);
            return;
        }
        self.net.trace.time(self.net.now);
        self.net.trace.number(u64::from(id.0) << 2 | 1);
        if let Some(Some(machine)) = self.machines.get_mut(id.slot()) {
            machine.handle_timeout(now);
        }
        self.drain(id);
        let stuck = self.deadline(id).filter(|deadline| deadline.at <= now);
        assert!(stuck.is_none(), "no progress: after its timeout at {:?} {id} still wants {stuck:?}", self.net.now);
    }

    fn drain(&mut self, id: MachineId) {
        let (at, now) = (self.net.now, self.now());
        let net = &mut self.net;
        let (Some(Some(machine)), Some(log)) = (self.machines.get_mut(id.slot()), self.logs.get_mut(id.slot())) else {
            return;
        };
        let send = |path, ecn, datagram: &[u8]| net.send(id, path, ecn, datagram);
        match drive::drain(machine, &mut self.out, now, send, |event| log.push(event, at)) {
            Ok(deadline) => {
                if let Some(node) = net.nodes.get_mut(id.slot()) {
                    node.deadline = deadline;
                }
                net.schedule(id);
            }
            #[expect(clippy::panic, reason = "the machine breaks a law and the run cannot go on")]
            Err(runaway) => panic!("{id} at {at:?}: {runaway}"),
        }
    }
}

/// The unix time at which every world begins: 2024-01-01 00:00 UTC.
pub const START_UNIX: Duration = Duration::from_secs(1_704_067_200);
