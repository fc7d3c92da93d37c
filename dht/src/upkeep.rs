//! Beginning, checking, refreshing: what a node does without being told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use structs::Deadline;

use crate::dht::{Dht, Goal, Purpose};
use crate::message::{Echo, Request};
use crate::subnet::is_usable;
use crate::{Contact, Family, Key, Origin, QueryId, Table, limits};

/// What keeps one table filled: one lookup at a time.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    running: Option<QueryId>,
    /// Whether our own place is looked for the first time.
    joining: bool,
    /// Buckets for which there is one to come, the next at the end.
    left: Vec<u32>,
    /// From whom our own place is looked for, from each alone.
    ways: Vec<Way>,
    /// When it is looked for again, and the pause after that.
    again: Option<(Instant, Duration)>,
}

/// A lookup of our own place that begins with one contact: somebody who names nobody but friends of his cannot hide the others
/// when there is a second.
#[derive(Debug)]
struct Way {
    begin: Contact,
    query: Option<QueryId>,
    /// Whom it found closest, when it has ended.
    closest: Option<Vec<Contact>>,
}

impl Way {
    const fn new(begin: Contact) -> Self {
        Self { begin, query: None, closest: None }
    }

    /// Whether two led to different networks: less than half of the closest in common.
    fn disagree(ways: &[Self]) -> bool {
        let [Self { closest: Some(a), .. }, Self { closest: Some(b), .. }] = ways else { return false };
        let common = a.iter().filter(|contact| b.contains(contact)).count();
        common * 2 < a.len().min(b.len())
    }
}

/// Whom to begin with.
#[derive(Debug, Default)]
pub(crate) struct Bootstrap {
    contacts: Vec<Contact>,
    /// Addresses of nodes whose id is not known, and what their answer must repeat.
    addresses: Vec<(SocketAddr, Option<Echo>)>,
    /// Addresses that were asked once, the oldest first.
    greeted: VecDeque<(SocketAddr, Echo)>,
    /// When they are asked again; `None` while there are contacts.
    again: Option<Instant>,
    pause: Duration,
}

impl Bootstrap {
    /// The hello that was sent to `addr` with this echo; its answer counts once.
    pub(crate) fn on_welcome(&mut self, echo: Echo, addr: SocketAddr) -> Option<()> {
        if let Some(index) = self.greeted.iter().position(|greeted| *greeted == (addr, echo)) {
            self.greeted.remove(index);
            return Some(());
        }
        let asked = self.addresses.iter_mut().find(|(asked, sent)| *asked == addr && *sent == Some(echo));
        asked.map(|(_, sent)| *sent = None)
    }
}

impl Dht {
    /// Begins with these contacts, which are asked now and again as long as there is nobody else: configured nodes,
    /// [anchors](crate::Table::anchors) of an earlier run. Returns how many were taken:
    /// [`MAX_BOOTSTRAP`](limits::MAX_BOOTSTRAP) are remembered in all, without those that cannot be sent to.
    pub fn bootstrap(&mut self, contacts: &[Contact], now: Instant) -> usize {
        let now = self.at(now);
        let (own, mut taken) = (self.id(), 0);
        for contact in contacts.iter().filter(|contact| is_usable(&contact.addr) && contact.id != own) {
            let room = self.bootstrap.contacts.len() < limits::MAX_BOOTSTRAP;
            if !self.is_closed() && room && !self.bootstrap.contacts.contains(contact) {
                self.bootstrap.contacts.push(*contact);
                self.ask(*contact, Request::Ping, Purpose::Check(Origin::Lookup), now);
                taken += 1;
            }
        }
        self.retry_later(now);
        taken
    }

    /// Begins with the contacts of a table that its owner has filled: what a process that takes the place of another one was
    /// given by it. They keep what is known of them, and are checked when that is due; nothing is looked up.
    pub fn adopt(&mut self, family: Family, mut table: Table, now: Instant) {
        let now = self.at(now);
        if !self.is_closed() {
            table.recentre(self.table(family).own(), now);
            *self.table_mut(family) = table;
            self.retry_later(now);
        }
    }

    /// As [`bootstrap`](Self::bootstrap), with the address of a node whose id is not known. Returns whether it was taken.
    pub fn hello(&mut self, addr: SocketAddr, now: Instant) -> bool {
        let now = self.at(now);
        let known = self.bootstrap.addresses.iter().any(|(other, _)| *other == addr);
        let room = self.bootstrap.addresses.len() < limits::MAX_BOOTSTRAP;
        if self.is_closed() || known || !room || !is_usable(&addr) {
            return false;
        }
        let echo = self.send_hello(addr);
        self.bootstrap.addresses.push((addr, Some(echo)));
        self.retry_later(now);
        true
    }

    /// Asks once whether a node is at an address, where somebody is for certain, as at the other end of a session. Returns whether
    /// it was asked: not if a contact is known there, nor more often than
    /// [`VERIFIED_PER_SECOND`](limits::VERIFIED_PER_SECOND).
    pub fn greet(&mut self, addr: SocketAddr, now: Instant) -> bool {
        let now = self.at(now);
        let known =
            self.tables.iter().any(|table| table.iter().any(|node| node.contact.addr == addr && node.failures == 0));
        if self.is_closed() || known || !is_usable(&addr) || !self.guard.may_verify(now) {
            return false;
        }
        let echo = self.send_hello(addr);
        if self.bootstrap.greeted.len() >= limits::MAX_BOOTSTRAP {
            self.bootstrap.greeted.pop_front();
        }
        self.bootstrap.greeted.push_back((addr, echo));
        true
    }

    /// Fills a table around the first contact, or around those it has: by a lookup of our own place, then one in each bucket.
    pub(crate) fn join(&mut self, family: Family, begin: Option<Contact>, now: Instant) {
        let upkeep = self.upkeep_mut(family);
        upkeep.joining = true;
        upkeep.again = None;
        upkeep.ways = begin.map(Way::new).into_iter().collect();
        upkeep.left = if begin.is_none() { vec![Key::BITS] } else { Vec::new() };
        if upkeep.running.is_none() {
            self.advance(now);
        }
    }

    /// Takes in that somebody to begin with answered: with the second, of another subnet, our own place is looked for once more.
    pub(crate) fn on_beginning(&mut self, contact: Contact) {
        let subnet = self.subnets.of(contact.addr.ip());
        let subnets = self.subnets;
        let upkeep = self.upkeep_mut(Family::of(&contact.addr));
        let same = |way: &Way| way.begin == contact || subnet.is_some() && subnets.of(way.begin.addr.ip()) == subnet;
        if !upkeep.ways.is_empty() && upkeep.ways.len() < limits::WAYS_IN && !upkeep.ways.iter().any(same) {
            upkeep.ways.push(Way::new(contact));
        }
    }

    /// Takes in that a lookup has ended, and whom it found if it was to keep a table.
    pub(crate) fn on_lookup_done(&mut self, id: QueryId, family: Family, closest: Vec<Contact>, now: Instant) {
        let deepest = self.table(family).depth();
        let upkeep = self.upkeep_mut(family);
        if upkeep.running != Some(id) {
            return;
        }
        upkeep.running = None;
        let way = upkeep.ways.iter_mut().find(|way| way.query == Some(id));
        let second = way.is_some_and(|way| {
            way.closest = Some(closest);
            true
        }) && Way::disagree(&upkeep.ways);
        if second {
            upkeep.joining = true;
            self.traffic.disagreements += 1;
        }
        let upkeep = self.upkeep_mut(family);
        if upkeep.joining && upkeep.left.is_empty() {
            upkeep.joining = false;
            upkeep.left = (0..deepest).collect();
            upkeep.again.get_or_insert((now + limits::NEIGHBOURS_INTERVAL, limits::NEIGHBOURS_INTERVAL * 2));
            self.publish_unstored(second, now);
        }
    }

    /// Begins the next lookup of each table that has none running, if one is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        for family in [Family::V4, Family::V6] {
            while self.upkeep_mut(family).running.is_none() {
                let (own, known) = (self.table(family).own(), self.table(family).len());
                let upkeep = self.upkeep_mut(family);
                if let Some(way) = upkeep.ways.iter().position(|way| way.query.is_none() && way.closest.is_none()) {
                    self.take_way(family, way, now);
                    continue;
                }
                let again = upkeep.again.filter(|(at, _)| *at <= now && upkeep.left.is_empty());
                if let Some((_, pause)) = again {
                    upkeep.again = Some((now + pause, (pause * 2).min(limits::REFRESH_INTERVAL)));
                    // Whoever is alone with a liar asks as few of those that he names as can be.
                    if known >= limits::NEIGHBOURS_KNOWN {
                        upkeep.left.push(Key::BITS);
                    }
                }
                let next = upkeep.left.pop();
                let target = match next {
                    Some(bits) => Some(own.random_beside(bits, &mut self.rng)),
                    None => {
                        let ([v4, v6], rng) = (&mut self.tables, &mut self.rng);
                        let table = if family == Family::V4 { v4 } else { v6 };
                        table.pop_refresh(now, rng)
                    }
                };
                let Some(target) = target else { break };
                // It can end at once, so it is noted before it asks anybody.
                let id = self.start_lookup(target, family, Goal::Upkeep, now);
                self.upkeep_mut(family).running = self.lookups.contains_key(&id).then_some(id);
            }
        }
    }

    /// Looks for our own place, from one contact.
    fn take_way(&mut self, family: Family, way: usize, now: Instant) {
        let own = self.table(family).own();
        let Some(begin) = self.upkeep_mut(family).ways.get(way).map(|way| way.begin) else { return };
        let id = self.new_query();
        let upkeep = self.upkeep_mut(family);
        upkeep.running = Some(id);
        if let Some(way) = upkeep.ways.get_mut(way) {
            way.query = Some(id);
        }
        self.start_lookup_from((id, own), family, Goal::Upkeep, &[begin], now);
    }

    /// What is due.
    pub(crate) fn keep_up(&mut self, now: Instant) {
        // It has no deadline of its own: contacts are checked often enough, and without any there is little to give back.
        if now >= self.swept + limits::SWEEP_INTERVAL {
            self.swept = now;
            self.keyring.sweep(now);
            self.guard.sweep(now);
        }
        for family in [Family::V4, Family::V6] {
            while let Some(contact) = self.table_mut(family).pop_check(now) {
                self.ask(contact, Request::Ping, Purpose::Check(Origin::Inbound), now);
            }
            if let Some((contact, origin)) = self.table_mut(family).pop_feeler(now) {
                self.ask(contact, Request::Ping, Purpose::Feel(origin), now);
            }
        }
        self.advance(now);
        if self.bootstrap.again.is_some_and(|at| at <= now) {
            self.bootstrap.again = None;
            if self.tables.iter().all(Table::is_empty) {
                for contact in self.bootstrap.contacts.clone() {
                    if !self.requests.is_asked(&contact) {
                        self.ask(contact, Request::Ping, Purpose::Check(Origin::Lookup), now);
                    }
                }
                for index in 0..self.bootstrap.addresses.len() {
                    let Some((addr, _)) = self.bootstrap.addresses.get(index).copied() else { continue };
                    let echo = self.send_hello(addr);
                    if let Some((_, sent)) = self.bootstrap.addresses.get_mut(index) {
                        *sent = Some(echo);
                    }
                }
            }
        }
        self.retry_later(now);
    }

    /// Sets when those to begin with are asked again, with growing pauses as long as there is nobody else.
    pub(crate) fn retry_later(&mut self, now: Instant) {
        if !self.tables.iter().all(Table::is_empty) {
            self.bootstrap.again = None;
            self.bootstrap.pause = Duration::ZERO;
            return;
        }
        let anybody = !self.bootstrap.contacts.is_empty() || !self.bootstrap.addresses.is_empty();
        if anybody && self.bootstrap.again.is_none() && !self.is_closed() {
            let pause = (self.bootstrap.pause * 2).clamp(limits::FIRST_RETRY, limits::LAST_RETRY);
            self.bootstrap.pause = pause;
            self.bootstrap.again = Some(now + pause);
        }
    }

    pub(crate) fn next_upkeep(&self) -> Option<Deadline> {
        let mut next = self.bootstrap.again.map(|at| Deadline { at, reason: "bootstrap" });
        for (table, upkeep) in self.tables.iter().zip(&self.upkeep) {
            let check = table.next_check().map(|at| Deadline { at, reason: "check" });
            let refresh = table.next_refresh().filter(|_| upkeep.running.is_none());
            let refresh = refresh.map(|at| Deadline { at, reason: "refresh" });
            let feeler = table.next_feeler().map(|at| Deadline { at, reason: "feeler" });
            let again = upkeep.again.filter(|_| upkeep.running.is_none());
            let again = again.map(|(at, _)| Deadline { at, reason: "neighbours" });
            next = Deadline::earliest(next, Deadline::earliest(check, refresh));
            next = Deadline::earliest(next, Deadline::earliest(feeler, again));
        }
        next
    }

    const fn upkeep_mut(&mut self, family: Family) -> &mut Upkeep {
        let [v4, v6] = &mut self.upkeep;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}
