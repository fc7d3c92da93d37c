//! One search for the contacts closest to a key, as a state machine that says whom to ask next.
//!
//! The invariants:
//!
//! - it ends only when the `K` closest that answered are closer than everybody who could still be asked: no answer, whatever
//!   it claims, ends it early;
//! - a node belongs to the [path](limits::PATHS) that heard of it first, and only that one asks it: who lies spoils his own path;
//! - what is remembered, and who is asked, is bounded per path.

use std::net::SocketAddr;

use crate::subnet::is_public;
use crate::{Contact, Distance, Family, Key, NodeId, Subnets, limits};

#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) target: Key,
    pub(crate) family: Family,
    subnets: Subnets,
    own: NodeId,
    /// The closest first.
    candidates: Vec<Candidate>,
    /// Those that named somebody, in the order of their answers.
    sources: Vec<Source>,
    /// Requests sent, by path.
    asked: [u32; limits::PATHS as usize],
}

#[derive(Debug, Clone)]
struct Candidate {
    distance: Distance,
    contact: Contact,
    path: u8,
    /// How many answers led to it.
    hops: u8,
    /// Who named it, by its place among the sources; `None` for those of our own table.
    source: Option<usize>,
    state: State,
}

/// What became of those whom one node named.
#[derive(Debug, Clone, Default)]
struct Source {
    silent: u8,
    live: u8,
}

impl Source {
    /// Whether all of them that were asked were silent, and that were not few.
    const fn is_doubtful(&self) -> bool {
        self.live == 0 && self.silent >= limits::MAX_BOGUS
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Asked,
    /// Asked, and later than most.
    Late,
    Live,
    Silent,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The closest that answered, the closest first: at most 20.
    pub closest: Vec<Contact>,
    /// How many answers led to the closest one.
    pub hops: u8,
    /// How many nodes were asked.
    pub asked: u32,
}

impl Lookup {
    /// A lookup that begins with `start`, one after the other on each of the paths.
    pub(crate) fn new(target: Key, family: Family, own: NodeId, subnets: Subnets, start: &[Contact]) -> Self {
        let candidates = Vec::new();
        let mut lookup =
            Self { target, family, subnets, own, candidates, sources: Vec::new(), asked: [0; limits::PATHS as usize] };
        for (contact, path) in start.iter().zip((0..limits::PATHS).cycle()) {
            lookup.add(*contact, path, 0, None);
        }
        lookup
    }

    /// Whom to ask now: the closest of those that may be asked, on a path that does not wait for
    /// [enough](limits::PATH_PARALLELISM) others. Who is late does not count: slow nodes make it ask more at a time.
    pub(crate) fn next(&mut self) -> Option<Contact> {
        let mut waiting = [0; limits::PATHS as usize];
        let mut in_flight = 0;
        for candidate in self.candidates.iter().filter(|candidate| candidate.is_open()) {
            in_flight += 1;
            if let Some(path) = waiting.get_mut(usize::from(candidate.path)) {
                *path += u8::from(candidate.state == State::Asked);
            }
        }
        if in_flight >= limits::MAX_LOOKUP_IN_FLIGHT {
            return None;
        }
        let free = |candidate: &Candidate| {
            waiting.get(usize::from(candidate.path)).is_some_and(|waiting| *waiting < limits::PATH_PARALLELISM)
        };
        let next = self.within_reach().find(|(_, candidate)| self.may_ask(candidate) && free(candidate));
        let (index, _) = next?;
        let candidate = self.candidates.get_mut(index)?;
        candidate.state = State::Asked;
        if let Some(asked) = self.asked.get_mut(usize::from(candidate.path)) {
            *asked += 1;
        }
        Some(candidate.contact)
    }

    /// Whether nobody who was not asked, or did not answer yet, can be among the closest.
    pub(crate) fn is_done(&self) -> bool {
        !self.within_reach().any(|(_, candidate)| candidate.is_open() || self.may_ask(candidate))
    }

    /// Takes in whom `from` named.
    pub(crate) fn on_answer(&mut self, from: &Contact, named: &[Contact]) {
        let Some(candidate) = self.find(from).filter(|candidate| candidate.is_open()) else { return };
        candidate.state = State::Live;
        let (path, hops, by) = (candidate.path, candidate.hops.saturating_add(1), candidate.source);
        if let Some(by) = by.and_then(|by| self.sources.get_mut(by)) {
            by.live = by.live.saturating_add(1);
        }
        let source = self.sources.len();
        self.sources.push(Source::default());
        let public = is_public(from.addr.ip());
        for contact in named.iter().take(limits::K) {
            // Who is reached from everywhere cannot know who is near us in a private network.
            if Family::of(&contact.addr) == self.family && (!public || is_public(contact.addr.ip())) {
                self.add(*contact, path, hops, Some(source));
            }
        }
    }

    /// Takes in that the answer of `from` is later than most: its path goes on without it.
    pub(crate) fn on_late(&mut self, from: &Contact) {
        if let Some(candidate) = self.find(from).filter(|candidate| candidate.state == State::Asked) {
            candidate.state = State::Late;
        }
    }

    /// Takes in that `from` does not answer.
    pub(crate) fn on_failure(&mut self, from: &Contact) {
        let Some(candidate) = self.find(from).filter(|candidate| candidate.is_open()) else { return };
        candidate.state = State::Silent;
        let by = candidate.source;
        if let Some(by) = by.and_then(|by| self.sources.get_mut(by)) {
            by.silent = by.silent.saturating_add(1);
        }
    }

    /// What was found so far.
    pub(crate) fn found(&self) -> Found {
        let live = self.candidates.iter().filter(|candidate| candidate.state == State::Live);
        let closest: Vec<Contact> = live.clone().take(limits::K).map(|candidate| candidate.contact).collect();
        Found {
            closest,
            hops: live.map(|candidate| candidate.hops).next().unwrap_or(0),
            asked: self.asked.iter().sum(),
        }
    }

    /// Those closer than the last of the `K` closest that answered.
    fn within_reach(&self) -> impl Iterator<Item = (usize, &Candidate)> {
        let mut live = 0;
        self.candidates.iter().enumerate().take_while(move |(_, candidate)| {
            let within = live < limits::K;
            live += usize::from(candidate.state == State::Live);
            within
        })
    }

    fn may_ask(&self, candidate: &Candidate) -> bool {
        let asked = self.asked.get(usize::from(candidate.path)).copied().unwrap_or(u32::MAX);
        candidate.state == State::New && asked < limits::MAX_ASKED_IN_PATH && !self.is_doubtful(candidate)
    }

    fn is_doubtful(&self, candidate: &Candidate) -> bool {
        candidate.source.and_then(|source| self.sources.get(source)).is_some_and(Source::is_doubtful)
    }

    fn find(&mut self, contact: &Contact) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.contact == *contact)
    }

    fn add(&mut self, contact: Contact, path: u8, hops: u8, source: Option<usize>) {
        if contact.id == self.own {
            return;
        }
        let distance = self.subnets.key_of(&contact).distance(&self.target);
        let place = self.candidates.partition_point(|candidate| candidate.distance < distance);
        if let Some(same) = self.candidates.get(place).filter(|candidate| candidate.contact == contact) {
            let doubtful = same.state == State::New && self.is_doubtful(same);
            if let Some(same) = self.candidates.get_mut(place).filter(|_| doubtful) {
                // Somebody better knows it, too.
                (same.path, same.hops, same.source) = (path, hops, source);
            }
            return;
        }
        if self.crowded(path, contact.addr) {
            return;
        }
        self.candidates.insert(place, Candidate { distance, contact, path, hops, source, state: State::New });
        let of_path = self.candidates.iter().filter(|candidate| candidate.path == path).count();
        if of_path > limits::MAX_CANDIDATES_IN_PATH {
            let new = |candidate: &Candidate| candidate.path == path && candidate.state == State::New;
            if let Some(farthest) = self.candidates.iter().rposition(new) {
                self.candidates.remove(farthest);
            }
        }
    }

    /// Whether a path knows as many nodes in the subnet of an address as a table may.
    fn crowded(&self, path: u8, addr: SocketAddr) -> bool {
        let subnet = self.subnets.of(addr.ip());
        let same =
            |candidate: &&Candidate| candidate.path == path && self.subnets.of(candidate.contact.addr.ip()) == subnet;
        subnet.is_some() && self.candidates.iter().filter(same).count() >= limits::MAX_SUBNET_IN_TABLE
    }
}

impl Candidate {
    const fn is_open(&self) -> bool {
        matches!(self.state, State::Asked | State::Late)
    }
}
