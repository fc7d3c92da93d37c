//! One search for the contacts closest to a key, as a state machine that says whom to ask next.
//!
//! The invariants:
//!
//! - it ends only when the `K` closest that answered are closer than everybody who could still be asked: no answer, whatever
//!   it claims, ends it early;
//! - a node is asked once, on behalf of one of the [paths](limits::PATHS) that heard of it, and whom it names belongs to that
//!   path: who lies spoils his own path;
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
    /// How far from the target the `K` closest are, by the look of our own neighbourhood.
    region: Distance,
    /// Whether that is to be relied on.
    familiar: bool,
    /// The closest first.
    candidates: Vec<Candidate>,
    /// Those that named somebody, in the order of their answers. The first is our own table.
    sources: Vec<Source>,
    /// Requests sent, by path.
    asked: [u32; PATHS],
}

#[derive(Debug, Clone)]
struct Candidate {
    distance: Distance,
    contact: Contact,
    /// Who named it first in each path, by its place among the sources.
    named: [Option<usize>; PATHS],
    /// How many answers led to it.
    hops: u8,
    state: State,
}

/// What became of those whom one node named.
#[derive(Debug, Clone, Copy, Default)]
struct Source {
    /// Asked, and later than most.
    late: u8,
    silent: u8,
    live: u8,
}

impl Source {
    /// Our own table: its contacts answered before.
    const TABLE: Self = Self { late: 0, silent: 0, live: 1 };

    /// Whether all of them that were asked were silent, and that were not few.
    const fn is_doubtful(self) -> bool {
        self.live == 0 && self.silent >= limits::MAX_BOGUS
    }

    /// Whether it looks as if it will be doubtful: the others that it named wait until that is known.
    const fn is_suspect(self) -> bool {
        self.live == 0 && self.silent.saturating_add(self.late) >= limits::MAX_BOGUS
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// Asked on behalf of a path.
    Asked(usize),
    /// Asked, and later than most.
    Late(usize),
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

impl Found {
    /// How many nodes there are besides us, by the look of those closest to what was looked for.
    pub(crate) fn population(&self, target: &Key, subnets: Subnets) -> u64 {
        let farthest = self.closest.get(limits::K - 1).map(|contact| subnets.key_of(contact).distance(target));
        farthest.unwrap_or(Distance::MAX).population(self.closest.len().min(limits::K))
    }
}

impl Lookup {
    /// A lookup that begins with `start`, one after the other on each of the paths. `region` is how far the `K` closest to our own
    /// key are from it, and whether we know enough nodes to rely on that.
    pub(crate) fn new(
        target: Key,
        family: Family,
        (own, subnets): (NodeId, Subnets),
        start: &[Contact],
        (region, familiar): (Distance, bool),
    ) -> Self {
        let (candidates, sources) = (Vec::new(), vec![Source::TABLE]);
        let mut lookup =
            Self { target, family, subnets, own, region, familiar, candidates, sources, asked: [0; PATHS] };
        for (contact, path) in start.iter().zip((0..PATHS).cycle()) {
            lookup.add(*contact, path, 0, 0);
        }
        lookup
    }

    /// Whom to ask now: the closest of those that may be asked, on behalf of a path that does not wait for
    /// [enough](limits::PATH_PARALLELISM) others. Who is in the region of the target must be asked in any case, so
    /// [some more](limits::REGION_PARALLELISM) of those are. Who is late does not count: slow nodes make it ask more at a time.
    pub(crate) fn next(&mut self) -> Option<Contact> {
        let mut waiting = [0_usize; PATHS];
        let mut in_flight = 0;
        for candidate in &self.candidates {
            in_flight += usize::from(candidate.state.path().is_some());
            if let State::Asked(path) = candidate.state
                && let Some(path) = waiting.get_mut(path)
            {
                *path += 1;
            }
        }
        if in_flight >= limits::MAX_LOOKUP_IN_FLIGHT {
            return None;
        }
        let more: usize = waiting.iter().map(|path| path.saturating_sub(limits::PATH_PARALLELISM)).sum();
        let chosen = self.within_reach().filter(|(_, candidate)| candidate.state == State::New).find_map(
            |(index, candidate)| {
                let able = |(path, _): &(usize, &usize)| self.may_ask(candidate, *path, Source::is_suspect);
                let (path, waiting) = waiting.iter().enumerate().filter(able).min_by_key(|(_, waiting)| **waiting)?;
                let room = *waiting < limits::PATH_PARALLELISM;
                let needed = candidate.distance <= self.region && more < limits::REGION_PARALLELISM;
                (room || needed).then_some((index, path))
            },
        );
        let (index, path) = chosen?;
        let candidate = self.candidates.get_mut(index)?;
        candidate.state = State::Asked(path);
        if let Some(asked) = self.asked.get_mut(path) {
            *asked += 1;
        }
        Some(candidate.contact)
    }

    /// Whether nobody who was not asked, or did not answer yet, can be among the closest.
    pub(crate) fn is_done(&self) -> bool {
        let may_be_asked = |candidate: &Candidate| {
            candidate.state == State::New && (0..PATHS).any(|path| self.may_ask(candidate, path, Source::is_doubtful))
        };
        !self.within_reach().any(|(_, candidate)| candidate.state.path().is_some() || may_be_asked(candidate))
    }

    /// Takes in whom `from` named.
    pub(crate) fn on_answer(&mut self, from: &Contact, named: &[Contact]) {
        let Some((path, hops)) = self.settle(from, State::Live) else { return };
        let source = self.sources.len();
        self.sources.push(Source::default());
        let public = is_public(from.addr.ip());
        for contact in named.iter().take(limits::K) {
            // Who is reached from everywhere cannot know who is near us in a private network.
            if Family::of(&contact.addr) == self.family && (!public || is_public(contact.addr.ip())) {
                self.add(*contact, path, hops.saturating_add(1), source);
            }
        }
    }

    /// Takes in that the answer of `from` is later than most: its path goes on without it.
    pub(crate) fn on_late(&mut self, from: &Contact) {
        let found = self.candidates.iter_mut().find(|candidate| candidate.contact == *from);
        if let Some(candidate) = found
            && let State::Asked(path) = candidate.state
        {
            candidate.state = State::Late(path);
            for source in candidate.named.into_iter().flatten() {
                if let Some(source) = self.sources.get_mut(source) {
                    source.late = source.late.saturating_add(1);
                }
            }
        }
    }

    /// Takes in that `from` does not answer.
    pub(crate) fn on_failure(&mut self, from: &Contact) {
        self.settle(from, State::Silent);
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

    /// Whether a node is for all that is known among the `K` closest, and as close to the target as they should be.
    pub(crate) fn is_near(&self, contact: &Contact) -> bool {
        let hopeful = || self.candidates.iter().filter(|candidate| candidate.state != State::Silent);
        self.familiar
            && hopeful().nth(limits::K - 1).is_some()
            && hopeful()
                .take(limits::K)
                .take_while(|candidate| candidate.distance <= self.region)
                .any(|candidate| candidate.contact == *contact)
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

    /// Whether a path may ask somebody new: it heard of him from somebody of whom `bad` does not hold.
    fn may_ask(&self, candidate: &Candidate, path: usize, bad: impl Fn(Source) -> bool) -> bool {
        let asked = self.asked.get(path).copied().unwrap_or(u32::MAX);
        let source = candidate.named.get(path).copied().flatten();
        let source = source.and_then(|source| self.sources.get(source));
        asked < limits::MAX_ASKED_IN_PATH && source.is_some_and(|source| !bad(*source))
    }

    /// Ends the wait for somebody who was asked, and notes it with those that named him. Returns the path that asked, and how
    /// many answers led to him; `None` for anybody else.
    fn settle(&mut self, from: &Contact, state: State) -> Option<(usize, u8)> {
        let candidate = self.candidates.iter_mut().find(|candidate| candidate.contact == *from)?;
        let path = candidate.state.path()?;
        let late = matches!(candidate.state, State::Late(_));
        candidate.state = state;
        for source in candidate.named.into_iter().flatten() {
            let Some(source) = self.sources.get_mut(source) else { continue };
            source.late -= u8::from(late && source.late > 0);
            let count = if state == State::Live { &mut source.live } else { &mut source.silent };
            *count = count.saturating_add(1);
        }
        Some((path, candidate.hops))
    }

    fn add(&mut self, contact: Contact, path: usize, hops: u8, source: usize) {
        if contact.id == self.own {
            return;
        }
        // Most of those that are named are known, and to compare them costs less than their keys.
        let known = self.candidates.iter().position(|candidate| candidate.contact == contact);
        let named = known.and_then(|known| self.candidates.get(known)?.named.get(path).copied().flatten());
        // Who was named by somebody doubtful has a chance if somebody else knows him, too.
        let better = |named: usize| self.sources.get(named).is_some_and(|source| source.is_suspect());
        if named.is_some_and(|named| !better(named)) || (known.is_none() && self.crowded(path, contact.addr)) {
            return;
        }
        let place = known.unwrap_or_else(|| self.insert(contact, hops));
        // What became of those that were asked is noted with those that had named them then.
        let candidate = self.candidates.get_mut(place).filter(|candidate| candidate.state == State::New);
        if let Some(named) = candidate.and_then(|candidate| candidate.named.get_mut(path)) {
            *named = Some(source);
            self.trim(path);
        }
    }

    /// Puts somebody new in his place.
    fn insert(&mut self, contact: Contact, hops: u8) -> usize {
        let distance = self.subnets.key_of(&contact).distance(&self.target);
        // One node may be named at several addresses, which are as far away as each other.
        let order = (distance, contact.addr);
        let place = self.candidates.partition_point(|candidate| (candidate.distance, candidate.contact.addr) < order);
        self.candidates.insert(place, Candidate { distance, contact, named: [None; PATHS], hops, state: State::New });
        place
    }

    /// Lets a path forget the farthest that it may still ask if it knows too many.
    fn trim(&mut self, path: usize) {
        let known = |candidate: &Candidate| candidate.named.get(path).is_some_and(Option::is_some);
        if self.candidates.iter().filter(|candidate| known(candidate)).count() <= limits::MAX_CANDIDATES_IN_PATH {
            return;
        }
        let farthest = self.candidates.iter().rposition(|candidate| known(candidate) && candidate.state == State::New);
        let Some(index) = farthest else { return };
        if let Some(candidate) = self.candidates.get_mut(index) {
            if let Some(named) = candidate.named.get_mut(path) {
                *named = None;
            }
            if candidate.named.iter().all(Option::is_none) {
                self.candidates.remove(index);
            }
        }
    }

    /// Whether a path knows as many nodes in the subnet of an address as a table may.
    fn crowded(&self, path: usize, addr: SocketAddr) -> bool {
        let subnet = self.subnets.of(addr.ip());
        let same = |candidate: &&Candidate| {
            candidate.named.get(path).is_some_and(Option::is_some)
                && self.subnets.of(candidate.contact.addr.ip()) == subnet
        };
        subnet.is_some() && self.candidates.iter().filter(same).count() >= limits::MAX_SUBNET_IN_TABLE
    }
}

impl State {
    /// The path that waits for an answer.
    const fn path(self) -> Option<usize> {
        match self {
            Self::Asked(path) | Self::Late(path) => Some(path),
            Self::New | Self::Live | Self::Silent => None,
        }
    }
}

const PATHS: usize = limits::PATHS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_named_at_two_addresses_is_asked_at_each_once_and_waited_for_once() {
        let node = |id: u8, port: u16| Contact { id: NodeId::from_bytes([id; 32]), addr: ([10, 0, 0, 1], port).into() };
        let start = [node(1, 1), node(2, 1), node(3, 1)];
        let own = (NodeId::from_bytes([0; 32]), Subnets::Public);
        let mut lookup = Lookup::new(Key::from_bytes([9; 32]), Family::V4, own, &start, (Distance::MAX, false));
        while lookup.next().is_some() {}
        let twins = [node(7, 1), node(7, 2), node(7, 3)];
        let mut asked = Vec::new();
        for from in &start {
            lookup.on_answer(from, &twins);
            asked.extend(std::iter::from_fn(|| lookup.next()));
        }
        asked.sort_by_key(|contact| contact.addr);
        assert_eq!(asked, twins);
        assert!(!lookup.is_done());
        lookup.on_late(&twins[1]);
        lookup.on_failure(&twins[1]);
        lookup.on_answer(&twins[0], &twins);
        lookup.on_failure(&twins[2]);
        assert!(lookup.is_done() && lookup.next().is_none());
        assert_eq!(lookup.found().closest.len(), 4);
    }
}
