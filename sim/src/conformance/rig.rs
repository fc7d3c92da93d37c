//! Two machines under a script, with hooks to disturb the way they are driven and a log to compare runs by.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use structs::{Datagram, Deadline, Ecn, Machine, Path, TransmitBuf};

use super::hostile::{Hostile, index};
use super::{Reply, Subject};
use crate::drive::{self, MAX_SEGMENTS};
use crate::pair::Side;
use crate::{Link, Trace, Wire, clock};

/// How a run is driven. The script hangs on `seed` alone, so that two runs that differ only in `manners` compare.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) link: Link,
    /// Hostile datagrams among the steps, of 100.
    pub(super) hostile: u64,
    pub(super) manners: Manners,
    /// What is checked on the way.
    pub(super) watch: Watch,
}

/// What a driver may do that a simple one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Every call at its time, a drain after each.
    Simple,
    /// Timeouts before the deadline, twice at the deadline, and in between when nothing else happens.
    Eager,
    /// Every call but the first of a moment may be given an older time.
    Backward,
    /// Drains only now and then.
    Lazy,
    /// Timeouts up to two seconds late.
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    Nothing,
    Progress,
    Bounds,
}

/// Something observable, as a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    at: Duration,
    side: Side,
    kind: Kind,
    digest: u64,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?} at {:?} ({:016x})", self.kind, self.side, self.at, self.digest)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Datagram,
    Event,
    Deadline,
    Reply,
}

/// The two machines and all that surrounds them.
pub(super) struct Rig<'s, S: Subject> {
    subject: &'s S,
    plan: Plan,
    now: Duration,
    seats: [Seat<S::Machine>; 2],
    script: VecDeque<Step>,
    flights: BTreeMap<(Duration, u64), Flight>,
    sequence: u64,
    out: TransmitBuf,
    /// The dice of the manners, apart from those of the script.
    whims: Rng,
    pub(super) hostile: Hostile,
    pub(super) log: Vec<Record>,
    calls: u64,
}

/// A machine in its place.
struct Seat<M> {
    machine: M,
    side: Side,
    path: Path,
    wire: Wire,
    deadline: Option<Deadline>,
    /// When the driver calls `handle_timeout`.
    wakes_at: Option<Duration>,
    /// The newest time that the machine was given.
    seen: Option<Duration>,
    undrained: u32,
    /// How many datagrams it sent so far.
    sent: u64,
}

#[derive(Debug)]
struct Flight {
    to: usize,
    path: Path,
    ecn: Ecn,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    at: Duration,
    seat: usize,
    what: Act,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Command(u64),
    Hostile,
    /// A moment at which an eager driver calls `handle_timeout` and a simple one does nothing.
    Poke,
}

enum Next {
    Script,
    Arrival((Duration, u64)),
    Deadline(usize),
}

impl<'s, S: Subject> Rig<'s, S> {
    pub(super) fn new(subject: &'s S, plan: Plan) -> Result<Self, String> {
        let seed = Seed::fixed(plan.seed);
        let addresses = [subject.addresses().at(0), subject.addresses().at(1)];
        let paths = paths(addresses);
        let machines = subject.fresh(seed.fork("machines"), paths, clock::base());
        let wires = [Wire::new(plan.link, &seed.fork("a to b")), Wire::new(plan.link, &seed.fork("b to a"))];
        let [path_a, path_b] = paths;
        let [a, b] = machines;
        let [wire_a, wire_b] = wires;
        let seats = [Seat::new(a, Side::A, path_a, wire_a), Seat::new(b, Side::B, path_b, wire_b)];
        let mut rig = Self {
            subject,
            plan,
            now: Duration::ZERO,
            seats,
            script: script(&mut seed.fork("script").rng(), subject.steps(), plan.hostile),
            flights: BTreeMap::new(),
            sequence: 0,
            out: TransmitBuf::new(MAX_SEGMENTS),
            whims: seed.fork("whims").rng(),
            hostile: Hostile::new(seed.fork("hostile").rng()),
            log: Vec::new(),
            calls: 0,
        };
        rig.drain(0)?;
        rig.drain(1)?;
        Ok(rig)
    }

    /// Runs the whole script and [`TAIL`] beyond it.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let end = self.script.back().map_or(Duration::ZERO, |step| step.at) + TAIL;
        self.run_until(end)
    }

    /// Runs to a moment.
    pub(super) fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while let Some((at, next)) = self.next()
            && at <= end
        {
            self.now = at;
            match next {
                Next::Script => self.act()?,
                Next::Arrival(key) => {
                    if let Some(flight) = self.flights.remove(&key) {
                        self.receive(flight)?;
                    }
                }
                Next::Deadline(seat) => self.time_out(seat)?,
            }
        }
        self.now = end;
        Ok(())
    }

    pub(super) const fn elapsed(&self) -> Duration {
        self.now
    }

    pub(super) fn machine(&mut self, seat: usize) -> (&mut S::Machine, Instant) {
        (&mut self.seats[seat].machine, clock::instant(self.now))
    }

    /// Hands a datagram to a machine from anywhere.
    pub(super) fn inject(&mut self, seat: usize, from: SocketAddr, payload: Vec<u8>) -> Result<(), String> {
        let path = Path { remote: from, ..self.seats[seat].path };
        self.receive(Flight { to: seat, path, ecn: Ecn::NotEct, payload })
    }

    /// Drains a machine whatever the manners.
    pub(super) fn drain(&mut self, index: usize) -> Result<(), String> {
        let now = self.time_for(index);
        let at = self.now;
        let seat = &mut self.seats[index];
        let (log, hostile, flights, sequence) =
            (&mut self.log, &mut self.hostile, &mut self.flights, &mut self.sequence);
        let (side, home) = (seat.side, seat.path);
        let mut events = Vec::new();
        let (wire, sent) = (&mut seat.wire, &mut seat.sent);
        let send = |path: Path, ecn: Ecn, payload: &[u8]| {
            let mut trace = Trace::new();
            trace.bytes(format!("{:?}", path.link).as_bytes());
            trace.addr(path.local);
            trace.addr(path.remote);
            trace.number(ecn as u64);
            trace.bytes(payload);
            log.push(Record { at, side, kind: Kind::Datagram, digest: trace.hash() });
            hostile.learn(payload);
            *sent += 1;
            if path.remote != home.remote {
                return;
            }
            let Ok(passage) = wire.carry(payload.len(), ecn, at) else {
                return;
            };
            let path = Path { link: path.link, local: home.remote, remote: home.local };
            let mut payload = payload.to_vec();
            passage.apply(&mut payload);
            for arrival in [Some(passage.at), passage.copy_at].into_iter().flatten() {
                *sequence += 1;
                let flight = Flight { to: 1 - index, path, ecn: passage.ecn, payload: payload.clone() };
                flights.insert((arrival, *sequence), flight);
            }
        };
        let report = |event| events.push(format!("{event:?}"));
        let deadline = drive::drain(&mut seat.machine, &mut self.out, now, send, report)
            .map_err(|runaway| format!("{side:?} at {at:?}: {runaway}"))?;
        for event in events {
            let mut trace = Trace::new();
            trace.bytes(event.as_bytes());
            log.push(Record { at, side, kind: Kind::Event, digest: trace.hash() });
        }
        if seat.deadline.map(|deadline| deadline.at) != deadline.map(|deadline| deadline.at) {
            let offset = deadline.map_or(u64::MAX, |deadline| nanos(clock::offset(deadline.at)));
            log.push(Record { at, side, kind: Kind::Deadline, digest: offset });
            let late = self.plan.manners == Manners::Late && self.whims.below(3) == 0;
            let late = if late { Duration::from_millis(self.whims.below(2000)) } else { Duration::ZERO };
            seat.wakes_at = deadline.map(|deadline| clock::offset(deadline.at).max(at) + late);
        }
        seat.deadline = deadline;
        seat.undrained = 0;
        self.check_bounds(index)
    }

    /// What the machine waits for since its last drain.
    pub(super) fn deadline(&self, seat: usize) -> Option<Deadline> {
        self.seats[seat].deadline
    }

    /// How many datagrams a machine sent so far, to anybody.
    pub(super) fn sent(&self, seat: usize) -> u64 {
        self.seats[seat].sent
    }

    /// A command now, with its reply in the log.
    pub(super) fn command(&mut self, index: usize, op: u64) -> Result<Reply, String> {
        let now = self.time_for(index);
        let reply = self.subject.command(&mut self.seats[index].machine, op, now);
        let side = self.seats[index].side;
        self.log.push(Record { at: self.now, side, kind: Kind::Reply, digest: reply as u64 });
        self.check_bounds(index)?;
        self.maybe_drain(index)?;
        Ok(reply)
    }

    fn act(&mut self) -> Result<(), String> {
        let Some(step) = self.script.pop_front() else {
            return Ok(());
        };
        match step.what {
            Act::Command(op) => self.command(step.seat, op).map(|_| ()),
            Act::Hostile => {
                let payload = self.hostile.datagram();
                let home = self.seats[step.seat].path;
                let from = self.hostile.sender(home.remote, self.subject.addresses());
                self.inject(step.seat, from, payload)
            }
            Act::Poke => self.early_timeout(step.seat),
        }
    }

    fn receive(&mut self, mut flight: Flight) -> Result<(), String> {
        self.early_timeout(flight.to)?;
        let now = self.time_for(flight.to);
        let datagram = Datagram { path: flight.path, ecn: flight.ecn, payload: &mut flight.payload };
        // The machine counts what it refuses.
        let _ = self.seats[flight.to].machine.handle_datagram(datagram, now);
        self.check_bounds(flight.to)?;
        self.maybe_drain(flight.to)
    }

    /// What an eager driver does, if the deadline is known and lies ahead.
    fn early_timeout(&mut self, index: usize) -> Result<(), String> {
        let seat = &self.seats[index];
        let due = seat.deadline.is_some_and(|deadline| clock::offset(deadline.at) <= self.now);
        if self.plan.manners != Manners::Eager || due || seat.undrained > 0 {
            return Ok(());
        }
        let now = self.time_for(index);
        for _ in 0..=self.whims.below(3) {
            self.seats[index].machine.handle_timeout(now);
        }
        self.check_bounds(index)
    }

    fn time_out(&mut self, index: usize) -> Result<(), String> {
        self.seats[index].wakes_at = None;
        let now = self.time_for(index);
        self.seats[index].machine.handle_timeout(now);
        if self.plan.manners == Manners::Eager {
            self.seats[index].machine.handle_timeout(now);
        }
        self.check_bounds(index)?;
        self.drain(index)?;
        let at = self.now;
        let seat = &mut self.seats[index];
        if let Some(deadline) = seat.deadline {
            let due = clock::offset(deadline.at);
            if due > at {
                seat.wakes_at = seat.wakes_at.or(Some(due));
            } else if self.plan.watch == Watch::Progress {
                return Err(format!(
                    "after its timeout at {at:?} and a drain {:?} still wants {:?} at {due:?}",
                    seat.side, deadline.reason
                ));
            } else {
                // Other laws are checked in spite of it, at a pace that lets the run end.
                seat.wakes_at = Some(at + Duration::from_millis(100));
            }
        }
        Ok(())
    }

    fn maybe_drain(&mut self, index: usize) -> Result<(), String> {
        self.seats[index].undrained += 1;
        if self.plan.manners == Manners::Lazy && self.seats[index].undrained < 20 && self.whims.below(4) > 0 {
            return Ok(());
        }
        self.drain(index)
    }

    /// The time to give to a machine: now, or an older one if it has seen now and the manners are so.
    fn time_for(&mut self, index: usize) -> Instant {
        self.calls += 1;
        let now = clock::instant(self.now);
        let seat = &mut self.seats[index];
        let knows = seat.seen.replace(self.now) == Some(self.now);
        if self.plan.manners == Manners::Backward && knows && self.whims.below(2) == 0 {
            let back = Duration::from_millis(self.whims.below(10_000));
            return now.checked_sub(back).unwrap_or(now);
        }
        now
    }

    fn check_bounds(&self, index: usize) -> Result<(), String> {
        let seat = &self.seats[index];
        if self.calls > MOST_CALLS {
            return Err(format!("{MOST_CALLS} calls in {:?} of virtual time and no rest", self.now));
        }
        let (held, limit) = (self.subject.buffered_bytes(&seat.machine), self.subject.buffered_limit(&seat.machine));
        if self.plan.watch == Watch::Bounds && held > limit {
            return Err(format!("{:?} buffers {held} bytes of at most {limit} at {:?}", seat.side, self.now));
        }
        Ok(())
    }

    fn next(&self) -> Option<(Duration, Next)> {
        let script = self.script.front().map(|step| (step.at, Next::Script));
        let arrival = self.flights.keys().next().map(|&key| (key.0, Next::Arrival(key)));
        let deadline = |index: usize| Some((self.seats[index].wakes_at?.max(self.now), Next::Deadline(index)));
        // `min_by_key` keeps the first of equals.
        [arrival, script, deadline(0), deadline(1)].into_iter().flatten().min_by_key(|&(at, _)| at)
    }
}

impl<M> Seat<M> {
    const fn new(machine: M, side: Side, path: Path, wire: Wire) -> Self {
        Self { machine, side, path, wire, deadline: None, wakes_at: None, seen: None, undrained: 0, sent: 0 }
    }
}

/// The paths of two machines to each other.
pub(super) const fn paths([a, b]: [SocketAddr; 2]) -> [Path; 2] {
    [Path::udp(a, b), Path::udp(b, a)]
}

/// Says where two logs part.
pub(super) fn compare(plain: &[Record], other: &[Record]) -> Result<(), String> {
    let parted = plain.iter().zip(other).position(|(plain, other)| plain != other);
    let at = match parted {
        Some(at) => at,
        None if plain.len() == other.len() => return Ok(()),
        None => plain.len().min(other.len()),
    };
    let show = |log: &[Record]| log.get(at).map_or_else(|| "nothing".to_owned(), ToString::to_string);
    Err(format!("after {at} equal outputs one run has {}, the other {}", show(plain), show(other)))
}

/// Steps at random moments: some in bursts at one moment, some after seconds of silence.
fn script(rng: &mut Rng, steps: u32, hostile: u64) -> VecDeque<Step> {
    let mut at = Duration::ZERO;
    let mut script = VecDeque::new();
    for _ in 0..steps {
        let longest = [0, 0, 1_000, 20_000, 20_000, 200_000, 1_000_000, 5_000_000][index(rng, 8)];
        at += Duration::from_micros(rng.below(longest));
        let seat = index(rng, 2);
        let op = rng.next_u64();
        let what = if rng.below(100) < hostile { Act::Hostile } else { Act::Command(op) };
        script.push_back(Step { at, seat, what });
        let poke = at + Duration::from_micros(rng.below(50_000));
        if rng.below(4) == 0 {
            at = poke;
            script.push_back(Step { at, seat: index(rng, 2), what: Act::Poke });
        }
    }
    script
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How long a run goes on after its script: retransmissions and idle timers have their say.
const TAIL: Duration = Duration::from_secs(60);

/// A machine that keeps its driver busier than this, in some minutes of virtual time, does not rest at all.
const MOST_CALLS: u64 = 5_000_000;
