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
    /// Whether the running one is the first, for our own place.
    joining: bool,
    /// Buckets for which there is one to come, the next at the end.
    left: Vec<u32>,
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

    /// Fills a table around the first contact: by a lookup of our own place, then one in each bucket.
    pub(crate) fn join(&mut self, family: Family, now: Instant) {
        let upkeep = self.upkeep_mut(family);
        upkeep.joining = true;
        upkeep.left = vec![Key::BITS];
        if upkeep.running.is_none() {
            self.advance(now);
        }
    }

    pub(crate) fn on_lookup_done(&mut self, id: QueryId, family: Family, now: Instant) {
        let deepest = self.table(family).depth();
        let upkeep = self.upkeep_mut(family);
        if upkeep.running == Some(id) {
            upkeep.running = None;
            if upkeep.joining && upkeep.left.is_empty() {
                upkeep.joining = false;
                upkeep.left = (0..deepest).collect();
                self.publish_unstored(now);
            }
        }
    }

    /// Begins the next lookup of each table that has none running, if one is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        for family in [Family::V4, Family::V6] {
            while self.upkeep_mut(family).running.is_none() {
                let next = self.upkeep_mut(family).left.pop();
                let own = self.table(family).own();
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
            next = Deadline::earliest(next, Deadline::earliest(check, refresh));
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
