//! What lies between machines: who is where, what is on its way, and when somebody wakes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use crypto::Rng;
use structs::{Deadline, Ecn, Path, Rejected, RejectedCounts};

use super::MachineId;
use crate::link::Lane;
use crate::places::Place;
use crate::traffic::Capture;
use crate::{Addresses, Dropped, Link, Passage, Places, Trace, Traffic, clock};

/// Everything but the machines, so that a drain can borrow the two apart.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) heap: BinaryHeap<Reverse<Entry>>,
    pub(super) sequence: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) by_addr: HashMap<SocketAddr, MachineId>,
    pub(super) plan: Addresses,
    pub(super) places: Places,
    pub(super) link: Link,
    pub(super) overrides: HashMap<(MachineId, MachineId), Link>,
    pub(super) lanes: HashMap<(MachineId, MachineId), Lane>,
    pub(super) rng: Rng,
    pub(super) groups: BTreeMap<SocketAddr, BTreeSet<MachineId>>,
    /// The lower id first.
    pub(super) cuts: BTreeSet<(MachineId, MachineId)>,
    pub(super) traffic: Traffic,
    pub(super) capture: Capture,
    pub(super) trace: Trace,
    pub(super) steps: u64,
}

/// What the world knows of a machine, dead or alive.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) addr: SocketAddr,
    pub(super) place: Place,
    pub(super) deadline: Option<Deadline>,
    /// When the one valid wake-up in the heap is due. Never later than the deadline.
    pub(super) wakes_at: Option<Duration>,
    /// The number that the valid wake-up carries.
    pub(super) generation: u64,
    pub(super) lives: u32,
    pub(super) island: u32,
    pub(super) traffic: Traffic,
    pub(super) rejected: RejectedCounts,
}

impl Node {
    pub(super) fn new(addr: SocketAddr, place: Place) -> Self {
        Self {
            addr,
            place,
            deadline: None,
            wakes_at: None,
            generation: 0,
            lives: 0,
            island: 0,
            traffic: Traffic::default(),
            rejected: RejectedCounts::default(),
        }
    }
}

impl Net {
    pub(super) fn send(&mut self, from: MachineId, path: Path, ecn: Ecn, payload: &[u8]) {
        let owner = self.by_addr.get(&path.local);
        let own = self.nodes.get(from.slot()).map_or(path.local, |node| node.addr);
        let source = if owner == Some(&from) { path.local } else { own };
        self.trace.time(self.now);
        self.trace.number(u64::from(from.0) << 2 | 2);
        self.trace.addr(source);
        self.trace.addr(path.remote);
        self.trace.number(ecn as u64);
        self.trace.bytes(payload);
        if let Some(members) = self.groups.get(&path.remote) {
            let members: Vec<_> = members.iter().copied().collect();
            self.capture.record(source, path.remote, None, payload, self.now);
            for to in members {
                let local = self.nodes.get(to.slot()).map_or(path.remote, |node| node.addr);
                let flight = Flight {
                    from: Some(from),
                    to,
                    path: Path { local, remote: source, ..path },
                    ecn,
                    payload: payload.to_vec(),
                };
                // A drop on the way to one member is in the counters; the record is of the one datagram.
                let _ = self.launch(from, flight);
            }
            return;
        }
        let dropped = match self.by_addr.get(&path.remote) {
            Some(&to) => {
                let path = Path { local: path.remote, remote: source, ..path };
                self.launch(from, Flight { from: Some(from), to, path, ecn, payload: payload.to_vec() }).err()
            }
            None => {
                self.count(Some(from), |traffic| traffic.sent.add(payload.len()));
                self.drop_for(Some(from), Dropped::NoRoute, payload.len());
                Some(Dropped::NoRoute)
            }
        };
        self.capture.record(source, path.remote, dropped, payload, self.now);
    }

    /// Puts a datagram on its way through the link of the two.
    pub(super) fn launch(&mut self, from: MachineId, mut flight: Flight) -> Result<(), Dropped> {
        let (to, len) = (flight.to, flight.payload.len());
        self.count(Some(from), |traffic| traffic.sent.add(len));
        let passage = if self.reachable(from, to) {
            let link = *self.link_of(from, to);
            let mut fresh = Lane::default();
            let lane = if link.is_stateless() { &mut fresh } else { self.lanes.entry((from, to)).or_default() };
            lane.carry(&link, &mut self.rng, len, flight.ecn, self.now)
        } else {
            Err(Dropped::Cut)
        };
        let passage = match passage {
            Ok(passage) => passage,
            Err(cause) => {
                self.drop_for(Some(from), cause, len);
                return Err(cause);
            }
        };
        let passage = self.travel(from, to, passage);
        flight.ecn = passage.ecn;
        if passage.held {
            self.count(Some(from), |traffic| traffic.reordered.add(len));
        }
        if passage.flipped.is_some() {
            passage.apply(&mut flight.payload);
            self.count(Some(from), |traffic| traffic.corrupted.add(len));
        }
        if let Some(at) = passage.copy_at {
            self.count(Some(from), |traffic| traffic.duplicated.add(len));
            self.push(passage.at, What::Arrival(Box::new(flight.clone())));
            self.push(at, What::Arrival(Box::new(flight)));
        } else {
            self.push(passage.at, What::Arrival(Box::new(flight)));
        }
        Ok(())
    }

    pub(super) fn link_of(&self, from: MachineId, to: MachineId) -> &Link {
        self.overrides.get(&(from, to)).unwrap_or(&self.link)
    }

    /// Adds the way between their places to how a datagram comes through.
    pub(super) fn travel(&mut self, from: MachineId, to: MachineId, passage: Passage) -> Passage {
        let (Some(a), Some(b)) = (self.nodes.get(from.slot()), self.nodes.get(to.slot())) else { return passage };
        if self.places == Places::One {
            return passage;
        }
        let way = a.place.delay(&b.place) + a.place.jitter(&b.place, &mut self.rng);
        Passage { at: passage.at + way, copy_at: passage.copy_at.map(|at| at + way), ..passage }
    }

    pub(super) fn reachable(&self, a: MachineId, b: MachineId) -> bool {
        let island = |id: MachineId| self.nodes.get(id.slot()).map(|node| node.island);
        island(a) == island(b) && !self.cuts.contains(&(a.min(b), a.max(b)))
    }

    /// Makes sure that a wake-up comes no later than the deadline. One that is already due earlier is left alone and
    /// looks again when it comes: deadlines mostly move back, and the heap would fill with old wake-ups.
    pub(super) fn schedule(&mut self, id: MachineId) {
        let Some(node) = self.nodes.get_mut(id.slot()) else {
            return;
        };
        let Some(deadline) = node.deadline else { return };
        let at = clock::offset(deadline.at).max(self.now);
        if node.wakes_at.is_none_or(|due| at < due) {
            node.generation += 1;
            node.wakes_at = Some(at);
            let generation = node.generation;
            self.push(at, What::Wake(id, generation));
        }
    }

    pub(super) fn forget_deadline(&mut self, id: MachineId) {
        if let Some(node) = self.nodes.get_mut(id.slot()) {
            node.deadline = None;
            node.wakes_at = None;
            node.generation += 1;
        }
    }

    pub(super) fn push(&mut self, at: Duration, what: What) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, what }));
    }

    pub(super) fn count(&mut self, from: Option<MachineId>, add: impl Fn(&mut Traffic)) {
        let Some(from) = from else { return };
        add(&mut self.traffic);
        if let Some(node) = self.nodes.get_mut(from.slot()) {
            add(&mut node.traffic);
        }
    }

    pub(super) fn drop_for(&mut self, from: Option<MachineId>, cause: Dropped, len: usize) {
        self.count(from, |traffic| traffic.drop_for(cause, len));
    }

    pub(super) fn count_rejected(&mut self, id: MachineId, reason: Rejected) {
        if let Some(node) = self.nodes.get_mut(id.slot()) {
            node.rejected.count(reason);
        }
    }
}

/// What happens at a moment, in the order in which it was decided.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Duration,
    pub(super) sequence: u64,
    pub(super) what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[derive(Debug)]
pub(super) enum What {
    Arrival(Box<Flight>),
    Wake(MachineId, u64),
}

#[derive(Debug, Clone)]
pub(super) struct Flight {
    /// `None` for injected ones.
    pub(super) from: Option<MachineId>,
    pub(super) to: MachineId,
    /// As the receiver sees it.
    pub(super) path: Path,
    pub(super) ecn: Ecn,
    pub(super) payload: Vec<u8>,
}
