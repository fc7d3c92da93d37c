//! What a node does in the distributed hash table: it is one of those who keep it, says where it is and which topics it
//! is in, and looks for others.
//!
//! | file | content |
//! |---|---|
//! | `finder.rs` | [`Finder`]: the table, and what is asked of it and published in it |
//! | `finder/publishing.rs` | what is signed, and given to the table |
//! | `finder/asked.rs` | what others do in the table for us while we reach nobody there |
//! | `finder/addresses.rs` | whom it contacts, and which addresses of its own it names |
//! | `finder/job.rs` | when something is done again |
//! | `finder/relays.rs` | relays: those that we have places at, those that we look for, and this node as one |

mod addresses;
mod asked;
mod job;
mod publishing;
mod relays;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::dht::{Contact, Dht, Event, Family, Item, PublishError, QueryError, QueryId, Relay, Subnets, Wanted, limits};
use crypto::envelope::NodeKey;
use crypto::{Identity, Seed};
use framing::record::SignedRecord;
use framing::voucher::Voucher;
use relay::client::Named;
use structs::{Datagram, Deadline, Epoch, Machine, Rejected, RejectedCounts, Transmit, TransmitBuf};

use self::addresses::{Addresses, Scope};
pub(super) use self::asked::Question;
use self::job::Job;
use super::Interface;
use crate::discovery::{Progress, Reach, SourceError, Task};
use crate::{PeerId, TopicId};

/// What a node is and does in the distributed hash table.
#[derive(Debug)]
pub(super) struct Finder {
    dht: Dht,
    identity: Arc<Identity>,
    epoch: Epoch,
    scope: Scope,
    addresses: Addresses,
    /// What we said last of where we are, and from when on something else may be said.
    told: Vec<SocketAddr>,
    tell_after: Instant,
    /// Who relays for us, and what they sign of it.
    relays: Vec<Relay>,
    vouchers: Vec<Voucher>,
    jobs: BTreeMap<Task, Job>,
    /// Whose queries these are, and which part of the jobs are publications.
    queries: BTreeMap<QueryId, Task>,
    /// Topics with enough neighbours.
    crowded: BTreeSet<TopicId>,
    /// Of the last record.
    sequence: u64,
    has_contacts: bool,
    /// Whether contacts are as far away as this node reaches: neighbours alone are not the network, since UDP that is dropped on
    /// the way out still reaches them.
    is_connected: bool,
    /// Our record, as long as others are asked to publish it.
    asked: Option<SignedRecord>,
    /// There are peers that can be asked.
    helped: bool,
    /// A job began or ended.
    progressed: bool,
    news: VecDeque<News>,
    /// Datagrams from or to addresses that are not for this node to talk to.
    out_of_scope: u64,
    /// Cached, because looking for it takes time in proportion to the table.
    deadline: Option<Deadline>,
}

/// What the finder tells the node.
#[derive(Debug)]
pub(super) enum News {
    /// Somebody says to be there, or behind these relays, who was looked for by his id or not.
    Found { peer: PeerId, addrs: Vec<SocketAddr>, relays: Vec<Named>, wanted: bool },
    /// Somebody says to relay.
    Relay { peer: PeerId, addrs: Vec<SocketAddr> },
    /// We say something else of where we are.
    Told,
    /// A node at `by` sees us at an address.
    Seen { seen: SocketAddr, by: SocketAddr },
    /// Peers are to do something in the table for us.
    Ask(Question),
    /// What became of a query of the owner.
    Owner(Event),
}

/// What the node knows of the distributed hash table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TableStats {
    /// Contacts, of IPv4 and of IPv6.
    pub contacts: [usize; 2],
    /// How many of them answered when they were asked last.
    pub live: [usize; 2],
    /// Buckets that they are in.
    pub buckets: [u32; 2],
    /// Requests of ours on their way.
    pub in_flight: usize,
    /// Records that are kept for others.
    pub records: usize,
    /// Bytes of them.
    pub record_bytes: usize,
    /// Where others see us, as far as enough of them say so.
    pub seen: Vec<SocketAddr>,
    /// The addresses that we say we have.
    pub told: Vec<SocketAddr>,
    /// Datagrams from and to addresses beyond the reach of the node.
    pub out_of_scope: u64,
    /// What was refused, by reason.
    pub rejected: RejectedCounts,
}

impl Finder {
    pub(super) fn new(identity: Arc<Identity>, reach: Reach, epoch: Epoch, seed: &Seed, now: Instant) -> Self {
        // Who is alone on a machine or a network may be in any part of the table; on the internet addresses count.
        let subnets = if reach == Reach::World { Subnets::Public } else { Subnets::Off };
        let key = NodeKey::generate(&mut seed.fork("key").rng());
        Self {
            dht: Dht::new(key, subnets, epoch, &seed.fork("table"), now),
            identity,
            epoch,
            scope: Scope::new(reach),
            addresses: Addresses::default(),
            told: Vec::new(),
            tell_after: now,
            relays: Vec::new(),
            vouchers: Vec::new(),
            jobs: BTreeMap::from([(Task::Record, Job::new(Task::Record, now))]),
            queries: BTreeMap::new(),
            crowded: BTreeSet::new(),
            sequence: 0,
            has_contacts: false,
            is_connected: false,
            asked: None,
            helped: false,
            progressed: true,
            news: VecDeque::new(),
            out_of_scope: 0,
            deadline: None,
        }
    }

    // ---- whom to begin with ----

    /// Addresses of nodes that the owner named.
    pub(super) fn begin_at(&mut self, addrs: &[SocketAddr], now: Instant) -> usize {
        let mut taken = 0;
        for addr in addrs {
            if self.scope.name(*addr) {
                taken += usize::from(self.dht.hello(*addr, now));
            }
        }
        self.settle(now);
        taken
    }

    /// Contacts of an earlier run.
    pub(super) fn begin_with(&mut self, contacts: &[Contact], now: Instant) -> usize {
        let scope = &self.scope;
        let contacts: Vec<Contact> = contacts.iter().copied().filter(|c| scope.may_contact(c.addr)).collect();
        let taken = self.dht.bootstrap(&contacts, now);
        self.settle(now);
        taken
    }

    /// Contacts for the next run: the longest known of both families.
    pub(super) fn anchors(&self) -> Vec<Contact> {
        let of = |family| self.dht.table(family).anchors(ANCHORS);
        [Family::V4, Family::V6].into_iter().flat_map(of).collect()
    }

    /// A session with somebody at this address is open, so it is there, and may be in the table too.
    pub(super) fn on_session(&mut self, addr: SocketAddr, now: Instant) {
        if self.scope.may_contact(addr) && self.wants_contacts(Family::of(&addr)) {
            self.dht.greet(addr, now);
            self.settle(now);
        }
    }

    // ---- where we are ----

    /// The networks of this machine, and the addresses that it has there with the ports of our sockets.
    pub(super) fn set_addresses(&mut self, interfaces: &[Interface], own: &[SocketAddr], now: Instant) {
        self.scope.set_interfaces(interfaces);
        self.addresses.set_own(own);
        self.settle(now);
    }

    /// The addresses that a router forwards to us.
    pub(super) fn set_forwarded(&mut self, addrs: &[SocketAddr], now: Instant) {
        self.addresses.set_forwarded(addrs);
        self.settle(now);
    }

    /// Somebody at `by` sees us at an address.
    pub(super) fn on_seen(&mut self, seen: SocketAddr, by: IpAddr, now: Instant) {
        self.addresses.on_seen(seen, by);
        if let Some(addr) = self.addresses.seen(Family::of(&seen)) {
            // Which moves our place in the table.
            self.dht.set_address(addr, now);
        }
    }

    pub(super) const fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.dht.set_epoch(epoch);
    }

    /// The network has changed: everything that failed is tried anew.
    pub(super) fn restart(&mut self, now: Instant) {
        self.told.clear();
        self.tell_after = now;
        self.jobs.values_mut().filter(|job| job.progress.task.is_search()).for_each(|job| job.hurry(now));
        self.settle(now);
    }

    // ---- topics and peers ----

    /// Announces a topic and looks it up, or not any more.
    pub(super) fn join(&mut self, topic: TopicId, announce: bool, lookup: bool, now: Instant) {
        for (task, wanted) in [(Task::Announce(topic), announce), (Task::Lookup(topic), lookup)] {
            self.want(task, wanted, now);
        }
        if !announce && !lookup {
            self.crowded.remove(&topic);
        }
        self.settle(now);
    }

    /// Looks for these peers by their ids, and for no others any more.
    pub(super) fn find(&mut self, peers: &BTreeSet<PeerId>, now: Instant) {
        let is_left = |task: &Task| matches!(task, Task::Peer(peer) if !peers.contains(peer));
        let left: Vec<Task> = self.jobs.keys().copied().filter(is_left).collect();
        left.into_iter().for_each(|task| self.want(task, false, now));
        peers.iter().for_each(|peer| self.want(Task::Peer(*peer), true, now));
        self.settle(now);
    }

    fn want(&mut self, task: Task, wanted: bool, now: Instant) {
        self.progressed = true;
        if wanted {
            self.jobs.entry(task).or_insert_with(|| Job::new(task, now));
        } else if let Some(query) = self.jobs.remove(&task).and_then(|job| job.query) {
            self.queries.remove(&query);
            let _ = self.dht.cancel(query) || self.dht.withdraw(query);
        }
    }

    /// So many are connected in a topic. If they have become few, it is looked up soon.
    pub(super) fn on_neighbours(&mut self, topic: TopicId, count: usize, now: Instant) {
        if count >= ENOUGH_NEIGHBOURS {
            self.crowded.insert(topic);
        } else if self.crowded.remove(&topic)
            && let Some(job) = self.jobs.get_mut(&Task::Lookup(topic))
        {
            job.at_latest(BECAME_FEW, now);
            self.settle(now);
        }
    }

    pub(super) const fn has_contacts(&self) -> bool {
        self.has_contacts
    }

    /// Whether any of those is as far away as this node reaches.
    pub(super) const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether more nodes of a family are welcome from whoever names some.
    pub(super) fn wants_contacts(&self, family: Family) -> bool {
        self.dht.table(family).len() < ENOUGH_CONTACTS
    }

    /// The addresses that we say we have.
    pub(super) fn told(&self) -> &[SocketAddr] {
        &self.told
    }

    /// Whether others reach us at an address of this family without having been spoken to.
    pub(super) fn is_open(&self, family: Family) -> bool {
        self.addresses.is_open(&self.scope, family)
    }

    pub(super) const fn has_progressed(&mut self) -> bool {
        std::mem::replace(&mut self.progressed, false)
    }

    /// How everything goes.
    pub(super) fn progress(&self) -> Vec<Progress> {
        self.jobs.values().map(|job| job.progress.clone()).collect()
    }

    // ---- queries of the owner ----

    pub(super) fn get(&mut self, wanted: Wanted, now: Instant) -> Result<QueryId, QueryError> {
        let query = self.dht.get(wanted, now);
        self.settle(now);
        query
    }

    pub(super) fn put(&mut self, item: Item, now: Instant) -> Result<QueryId, PublishError> {
        let query = self.dht.put(item, now);
        self.settle(now);
        query
    }

    /// Ends a query or a publication of the owner.
    pub(super) fn cancel(&mut self, query: QueryId, now: Instant) -> bool {
        let was_there = self.dht.cancel(query) || self.dht.withdraw(query);
        self.settle(now);
        was_there
    }

    pub(super) fn stats(&self) -> TableStats {
        let tables = [Family::V4, Family::V6].map(|family| self.dht.table(family));
        TableStats {
            contacts: tables.map(::dht::Table::len),
            live: tables.map(|table| table.iter().filter(|node| node.failures == 0).count()),
            buckets: tables.map(::dht::Table::depth),
            in_flight: self.dht.in_flight(),
            records: self.dht.store().len(),
            record_bytes: self.dht.store().bytes(),
            seen: [Family::V4, Family::V6].into_iter().filter_map(|family| self.addresses.seen(family)).collect(),
            told: self.told.clone(),
            out_of_scope: self.out_of_scope,
            rejected: *self.dht.rejected(),
        }
    }

    // ---- the machine ----

    pub(super) fn handle(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        if !self.scope.may_contact(datagram.path.remote) {
            self.out_of_scope = self.out_of_scope.saturating_add(1);
            return Err(Rejected::Forbidden);
        }
        let result = self.dht.handle_datagram(datagram, now);
        self.settle(now);
        result
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline.at <= now) {
            self.dht.handle_timeout(now);
            self.settle(now);
        }
    }

    /// The next datagram. None leaves for an address that is not for this node to talk to, whoever named it.
    pub(super) fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        loop {
            let transmit = self.dht.poll_transmit(out, now)?;
            if self.scope.may_contact(transmit.path.remote) {
                return Some(transmit);
            }
            self.out_of_scope = self.out_of_scope.saturating_add(1);
            out.clear();
        }
    }

    pub(super) const fn poll_timeout(&self) -> Option<Deadline> {
        self.deadline
    }

    pub(super) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Takes in what the table says, begins what is due, and looks when to be woken: after everything that may have
    /// changed any of it.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.dht.poll_event() {
            self.on_event(event, now);
        }
        let has_contacts = [Family::V4, Family::V6].into_iter().any(|family| !self.dht.table(family).is_empty());
        let is_out = |node: dht::Node| self.scope.is_out(node.contact.addr.ip());
        let is_connected = [Family::V4, Family::V6].into_iter().any(|family| self.dht.table(family).iter().any(is_out));
        if is_connected && !std::mem::replace(&mut self.is_connected, is_connected) {
            self.jobs.values_mut().for_each(|job| job.hurry(now));
        }
        self.is_connected = is_connected;
        if has_contacts && !std::mem::replace(&mut self.has_contacts, has_contacts) {
            let is_due = |job: &&mut Job| job.progress.task.is_search() || job.query.is_none();
            self.jobs.values_mut().filter(is_due).for_each(|job| job.hurry(now));
        }
        self.has_contacts = has_contacts;
        self.tell(now);
        while let Some(task) =
            self.jobs.values().find(|job| job.due.is_some_and(|due| due <= now)).map(|job| job.progress.task)
        {
            self.begin(task, now);
        }
        let job = self.jobs.values().filter_map(|job| job.due).min().map(|at| Deadline { at, reason: "dht job" });
        let tell = (self.told_now() != self.told).then_some(Deadline { at: self.tell_after, reason: "dht address" });
        self.deadline = Deadline::earliest(Deadline::earliest(self.dht.poll_timeout(), job), tell);
    }

    pub(super) fn told_now(&self) -> Vec<SocketAddr> {
        self.addresses.told(&self.scope, limits::MAX_ADDRESSES)
    }

    /// Says where we are if that has changed, and not too often.
    fn tell(&mut self, now: Instant) {
        let told = self.told_now();
        if told == self.told || now < self.tell_after {
            return;
        }
        (self.told, self.tell_after) = (told, now + TELL_EVERY);
        self.news.push_back(News::Told);
        self.publish_anew(|_| true, now);
    }

    fn begin(&mut self, task: Task, now: Instant) {
        let nowhere = self.told.is_empty() && self.relays.is_empty();
        if !(nowhere && task == Task::Record) && self.ask(task, now) {
            return;
        }
        let begun = match task {
            Task::Announce(_) | Task::Record if nowhere => Err(Refusal::Stuck(SourceError::NoAddress)),
            Task::AnnounceRelay if self.told.is_empty() => Err(Refusal::Stuck(SourceError::NoAddress)),
            Task::Announce(topic) => self.announce(topic.as_bytes(), self.relays.clone(), now),
            Task::AnnounceRelay => self.announce(&RELAYS, Vec::new(), now),
            Task::Record => self.put_record(now).map_err(Refusal::from),
            Task::Lookup(topic) => self.dht.peers(topic.as_bytes(), now).map_err(Refusal::from),
            Task::LookupRelays => self.dht.peers(&RELAYS, now).map_err(Refusal::from),
            Task::Peer(peer) => match peer.try_into() {
                Ok(peer) => self.dht.get(Wanted::Peer(peer), now).map_err(Refusal::from),
                Err(_not_a_key) => Err(Refusal::Stuck(SourceError::Broken)),
            },
            // Others announce nodes.
            Task::Reconnect | Task::AnnounceNode | Task::LookupNodes | Task::Strategy(_) => {
                Err(Refusal::Stuck(SourceError::Broken))
            }
        };
        self.progressed = true;
        let Some(job) = self.jobs.get_mut(&task) else { return };
        match begun {
            Ok(query) => {
                if let Some(old) = job.query.take() {
                    self.queries.remove(&old);
                }
                job.begun(query);
                self.queries.insert(query, task);
            }
            Err(Refusal::Busy) => job.put_off(now),
            Err(Refusal::Stuck(error)) => job.stuck(error),
        }
        // It may have ended at once.
        while let Some(event) = self.dht.poll_event() {
            self.on_event(event, now);
        }
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Observed { addr, by } => {
                self.on_seen(addr, by.addr.ip(), now);
                self.news.push_back(News::Seen { seen: addr, by: by.addr });
            }
            Event::Peer { id, announcement } => {
                let task = self.queries.get(&id).copied();
                let named = |relay: &Relay| Named { relay: relay.peer, addrs: vec![relay.addr] };
                let relays = announcement.relays().iter().map(named).collect();
                self.on_found(task, announcement.peer().into(), announcement.addresses(), relays);
            }
            Event::Record { id, ref item } if self.queries.contains_key(&id) => {
                if let Item::Peer(record) = item {
                    self.on_record(self.queries.get(&id).copied(), record, now);
                }
            }
            Event::PeersDone { id, .. } | Event::GetDone { id, .. } if self.queries.contains_key(&id) => {
                let Some(task) = self.queries.remove(&id) else { return };
                let range = match task {
                    Task::Lookup(topic) if self.crowded.contains(&topic) => LOOKUP,
                    Task::Lookup(_) | Task::LookupRelays => FEW,
                    _ => PEER,
                };
                self.progressed = true;
                let has_contacts = self.has_contacts;
                let Some(job) = self.jobs.get_mut(&task) else { return };
                if has_contacts {
                    job.searched(range, now);
                } else {
                    job.failed(SourceError::NobodyKnown, now);
                }
            }
            Event::Stored { id, round, stored, ref refused, .. } if self.queries.contains_key(&id) => {
                let error = match refused.first() {
                    _ if stored > 0 => None,
                    _ if !self.has_contacts => Some(SourceError::NobodyKnown),
                    Some(reason) => Some(SourceError::Refused { code: reason.code().into() }),
                    None => Some(SourceError::NobodyAnswered),
                };
                self.progressed = true;
                let next = self.dht.next_round(id);
                let Some((task, job)) = self.queries.get(&id).and_then(|task| Some((*task, self.jobs.get_mut(task)?)))
                else {
                    return;
                };
                // A topic is signed anew in every round, a record as often as we say, however often it is published meanwhile.
                if task == Task::Record && round == 0 {
                    job.due = now.checked_add(RECORD_EVERY);
                }
                let next = if task == Task::Record { next.min(job.due) } else { next };
                job.published(error, next);
            }
            event => self.news.push_back(News::Owner(event)),
        }
    }

    fn on_record(&mut self, task: Option<Task>, record: &SignedRecord, now: Instant) {
        let (addrs, unix) = (record.addresses().collect::<Vec<_>>(), self.epoch.unix_at(now));
        let named = |voucher: Voucher| Named { relay: voucher.relay(), addrs: voucher.addresses().collect() };
        let relays = record.vouchers().filter(|voucher| voucher.holds_at(unix)).map(named).collect();
        self.on_found(task, record.peer().into(), &addrs, relays);
    }

    /// Somebody said to be there; what he says is good for nothing but a dial.
    fn on_found(&mut self, task: Option<Task>, peer: PeerId, addrs: &[SocketAddr], mut relays: Vec<Named>) {
        if peer == PeerId::from(self.identity.peer_id()) {
            return;
        }
        let addrs: Vec<SocketAddr> = addrs.iter().copied().filter(|addr| self.scope.may_contact(*addr)).collect();
        if let Some(job) = task.and_then(|task| self.jobs.get_mut(&task)) {
            self.progressed = true;
            job.progress.found = job.progress.found.saturating_add(addrs.len() as u64);
            for relay in &mut relays {
                relay.addrs.retain(|addr| self.scope.may_contact(*addr));
            }
            relays.retain(|relay| !relay.addrs.is_empty());
            self.news.push_back(match task {
                Some(Task::LookupRelays) => News::Relay { peer, addrs },
                _ => News::Found { peer, addrs, relays, wanted: matches!(task, Some(Task::Peer(_))) },
            });
        }
    }
}

/// Why something was not begun.
enum Refusal {
    /// There is no room now.
    Busy,
    /// It will not work as long as nothing changes.
    Stuck(SourceError),
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Busy => Self::Busy,
            _ => Self::Stuck(SourceError::Broken),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Busy | PublishError::Full => Self::Busy,
            _ => Self::Stuck(SourceError::Broken),
        }
    }
}

/// What relays are announced as.
const RELAYS: [u8; 32] = *b"setowire relays of anybody, v1  ";
/// The first and the longest pause between two lookups of a topic, while few are connected in it, and otherwise: two who
/// join at the same moment do not see each other in the first.
const FEW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const LOOKUP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How soon a topic is looked up in which few are left.
const BECAME_FEW: Duration = Duration::from_secs(18);
/// Between two searches for a peer whom somebody waits for.
const PEER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(18));
/// Neighbours in a topic that are enough.
const ENOUGH_NEIGHBOURS: usize = 4;
/// How long our record holds, and how often it is signed anew.
const RECORD_LIFE: Duration = Duration::from_secs(2 * 3600);
const RECORD_EVERY: Duration = Duration::from_secs(3600);
/// How often we say something else of where we are, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Contacts of one family beyond which the addresses of sessions are of no interest.
const ENOUGH_CONTACTS: usize = 64;
/// Contacts of one family that are kept for the next run.
const ANCHORS: usize = 32;
