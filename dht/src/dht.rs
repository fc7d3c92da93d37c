//! The machine: requests of others answered, requests of our own in time, tables kept, lookups driven.
//!
//! | file | content |
//! |---|---|
//! | `dht.rs` | [`Dht`]: its state, its commands, the machine's five methods |
//! | `receive.rs` | what becomes of a datagram |
//! | `upkeep.rs` | beginning, checking, refreshing |
//! | `lookup.rs` | whom one search asks next |
//! | `task.rs`, `gather.rs` | queries for records: several lookups, and what follows from them |
//! | `publish.rs` | what the owner publishes, until it is withdrawn |
//! | `store.rs` | what is kept for others |
//! | `stats.rs` | what there is to count |
//! | `rpc.rs`, `keyring.rs`, `guard.rs` | requests on their way; keys and tokens; who may cost us how much |

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crypto::envelope::NodeKey;
use crypto::{Rng, Seed};
use structs::{
    Datagram, Deadline, Deadlines, Ecn, Epoch, Lru, Machine, Path, Rejected, RejectedCounts, Transmit, TransmitBuf,
};

use crate::gather::Sake;
use crate::guard::Guard;
use crate::keyring::Keyring;
use crate::lookup::Lookup;
use crate::message::{self, Echo, Front, Message, Request, Transaction};
use crate::publish::Publication;
use crate::rpc::{Due, Pending, Requests};
use crate::stats::Traffic;
use crate::task::Task;
use crate::upkeep::{Bootstrap, Upkeep};
use crate::{
    Contact, Distance, Event, Family, Key, Kind, NodeId, Origin, QueryError, QueryId, Store, Subnets, Table, Token,
    Tokens, limits,
};

/// One node of the distributed hash table, as a state machine.
///
/// It begins with the contacts and addresses given to [`bootstrap`](Self::bootstrap) and [`hello`](Self::hello), and keeps trying
/// them until somebody answers.
pub struct Dht {
    pub(crate) subnets: Subnets,
    pub(crate) epoch: Epoch,
    /// Whether others may ask us.
    pub(crate) server: bool,
    pub(crate) keyring: Keyring,
    pub(crate) tokens: Tokens,
    pub(crate) rng: Rng,
    pub(crate) guard: Guard,
    pub(crate) tables: [Table; 2],
    pub(crate) requests: Requests<Purpose>,
    pub(crate) lookups: BTreeMap<QueryId, Search>,
    pub(crate) tasks: BTreeMap<QueryId, Task>,
    pub(crate) publications: BTreeMap<QueryId, Publication>,
    /// When they are published again.
    pub(crate) due: Deadlines<QueryId>,
    pub(crate) store: Store,
    pub(crate) upkeep: [Upkeep; 2],
    pub(crate) bootstrap: Bootstrap,
    /// When caches were looked through.
    pub(crate) swept: Instant,
    /// Where nodes of different addresses saw us.
    observed: Lru<IpAddr, SocketAddr>,
    next_query: u64,
    /// Queries of the owner that did not end, or whose events were not taken.
    pub(crate) queries: usize,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(crate) events: VecDeque<Event>,
    rejected: RejectedCounts,
    pub(crate) traffic: Traffic,
    /// The newest time seen.
    now: Instant,
    closed: bool,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Lookup(QueryId),
    Ping(QueryId),
    /// Whether somebody is there: a contact, one to begin with, or one who asked us.
    Check(Origin),
    /// Whether somebody is there who waits for a place, and came to us so.
    Feel(Origin),
    /// What follows from the lookups of a task.
    More(QueryId),
    /// Nothing that anybody waits for: a record that was found, for a node that lacks it.
    Gift,
}

#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) lookup: Lookup,
    pub(crate) goal: Goal,
}

/// What a lookup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To keep the table.
    Upkeep,
    /// The owner waits for the nodes.
    Nodes,
    /// It is one of those of a task.
    Part(QueryId, Ask),
}

/// What the nodes on the way are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// To keep what is published, if they are among those who should; else for others.
    Store,
    Peers,
    Get(Kind),
}

impl Dht {
    /// A node with this key, not begun yet. Only nodes that serve as a beginning for others need to keep their key. `seed` is the
    /// source of all its randomness, `epoch` what it knows of the wall clock.
    #[must_use]
    pub fn new(key: NodeKey, subnets: Subnets, epoch: Epoch, seed: &Seed, now: Instant) -> Self {
        let keyring = Keyring::new(key);
        let own = |addr| subnets.key_of(&Contact { id: keyring.id(), addr });
        let tables = [UNSPECIFIED_V4, UNSPECIFIED_V6].map(|addr| Table::new(own(addr), subnets, now));
        Self {
            subnets,
            epoch,
            server: true,
            keyring,
            tokens: Tokens::new(&seed.fork("tokens"), now),
            rng: seed.fork("dht").rng(),
            guard: Guard::new(subnets, now),
            tables,
            requests: Requests::new(),
            lookups: BTreeMap::new(),
            tasks: BTreeMap::new(),
            publications: BTreeMap::new(),
            due: Deadlines::new(),
            store: Store::new(subnets, &seed.fork("store")),
            upkeep: [Upkeep::default(), Upkeep::default()],
            bootstrap: Bootstrap::default(),
            swept: now,
            observed: Lru::new(NonZeroUsize::MIN.saturating_add(limits::MAX_OBSERVED - 1)),
            next_query: 0,
            queries: 0,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            rejected: RejectedCounts::default(),
            traffic: Traffic::default(),
            now,
            closed: false,
        }
    }

    /// The public key by which others know this node.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.keyring.id()
    }

    /// The contacts of an address family.
    #[must_use]
    pub const fn table(&self, family: Family) -> &Table {
        let [v4, v6] = &self.tables;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// What is kept for others.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Sets the wall clock, after it was changed.
    pub const fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Whether others may ask us, as is the case at first. A node that cannot be reached answers nobody, and asks others not to ask
    /// it back.
    pub const fn set_server(&mut self, server: bool) {
        self.server = server;
    }

    /// Time since 1970-01-01 00:00 UTC.
    pub(crate) fn unix(&self, now: Instant) -> Duration {
        self.epoch.unix_at(now)
    }

    /// What was refused, by reason.
    #[must_use]
    pub const fn rejected(&self) -> &RejectedCounts {
        &self.rejected
    }

    /// Requests on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Bytes that wait to be taken: at most [`MAX_QUEUED`](limits::MAX_QUEUED) and [`MAX_IN_FLIGHT`](limits::MAX_IN_FLIGHT)
    /// datagrams of 1200 bytes, and a hello for each address to begin with.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.outbox.iter().map(|(_, datagram)| datagram.len()).sum()
    }

    /// Says under which public address others see us, which moves our place in the key space.
    pub fn set_address(&mut self, addr: SocketAddr, now: Instant) {
        let now = self.at(now);
        let key = self.subnets.key_of(&Contact { id: self.id(), addr });
        let table = self.table_mut(Family::of(&addr));
        if table.own() != key && !table.is_empty() {
            table.recentre(key, now);
            self.join(Family::of(&addr), None, now);
        } else {
            table.recentre(key, now);
        }
    }

    /// Looks for the nodes closest to `target`. [`Event::LookupDone`] ends it.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn lookup(&mut self, target: Key, family: Family, now: Instant) -> Result<QueryId, QueryError> {
        let now = self.at(now);
        self.admit_query()?;
        Ok(self.start_lookup(target, family, Goal::Nodes, now))
    }

    /// Asks a contact whether it is there. [`Event::PingDone`] ends it.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn ping(&mut self, contact: Contact, now: Instant) -> Result<QueryId, QueryError> {
        let now = self.at(now);
        if self.requests.is_full() {
            return Err(QueryError::Busy);
        }
        self.admit_query()?;
        let id = self.new_query();
        if !self.ask(contact, Request::Ping, Purpose::Ping(id), now) {
            self.events.push_back(Event::PingDone { id, contact, answered: false });
        }
        Ok(id)
    }

    /// Ends it: nothing is sent any more, and nothing taken in.
    pub fn close(&mut self) {
        self.closed = true;
        self.requests.clear();
        self.lookups.clear();
        self.tasks.clear();
        self.publications.clear();
        self.due = Deadlines::new();
        self.store.clear();
        self.outbox = VecDeque::new();
        self.events = VecDeque::new();
        self.queries = 0;
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn admit_query(&mut self) -> Result<(), QueryError> {
        if self.closed {
            return Err(QueryError::Closed);
        }
        if self.queries >= limits::MAX_LOOKUPS {
            return Err(QueryError::Busy);
        }
        self.queries += 1;
        Ok(())
    }

    pub(crate) fn new_query(&mut self) -> QueryId {
        self.next_query += 1;
        QueryId(self.next_query)
    }

    pub(crate) const fn table_mut(&mut self, family: Family) -> &mut Table {
        let [v4, v6] = &mut self.tables;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// The newest time seen.
    pub(crate) fn at(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    pub(crate) fn start_lookup(&mut self, target: Key, family: Family, goal: Goal, now: Instant) -> QueryId {
        let id = self.new_query();
        let start = self.table(family).candidates(&target, limits::K);
        self.start_lookup_from((id, target), family, goal, &start, now);
        id
    }

    pub(crate) fn start_lookup_from(
        &mut self,
        (id, target): (QueryId, Key),
        family: Family,
        goal: Goal,
        start: &[Contact],
        now: Instant,
    ) {
        let (own, subnets) = (self.id(), self.subnets);
        let table = self.table_mut(family);
        table.on_lookup(&target, now);
        // Three who have a record are enough: not all who are close need be asked.
        let all = !matches!(goal, Goal::Part(_, Ask::Get(_)));
        let region = if all { (table.radius(), table.len() >= limits::FAMILIAR) } else { (Distance::ZERO, false) };
        let lookup = Lookup::new(target, family, (own, subnets), start, region);
        self.lookups.insert(id, Search { lookup, goal });
        self.pump(id, now);
    }

    /// Lets a lookup ask whom it wants to, and ends it when it is done.
    pub(crate) fn pump(&mut self, id: QueryId, now: Instant) {
        while !self.requests.is_full() {
            let Some(search) = self.lookups.get_mut(&id) else { return };
            let Some(contact) = search.lookup.next() else { break };
            let (goal, near, family) = (search.goal, search.lookup.is_near(&contact), search.lookup.family);
            let (target, mut request) = (search.lookup.target, search.request(&mut self.rng));
            // Who wants no more proof of our address can store at once what he would be asked to store in the end.
            if let Goal::Part(task, Ask::Store) = goal
                && near
                && self.keyring.token(&contact, now) != Token::NONE
                && let Some(write) = self.choose(task, target, contact, family)
            {
                request = write;
            }
            if !(self.may_approach(&contact, goal, now) && self.ask(contact, request, Purpose::Lookup(id), now))
                && let Some(Search { lookup, .. }) = self.lookups.get_mut(&id)
            {
                lookup.on_failure(&contact);
            }
        }
        if self.lookups.get(&id).is_some_and(|search| search.lookup.is_done())
            && let Some(Search { lookup, goal }) = self.lookups.remove(&id)
        {
            let mut closest = Vec::new();
            match goal {
                Goal::Upkeep => closest = lookup.found().closest,
                Goal::Nodes => self.events.push_back(Event::LookupDone { id, found: lookup.found() }),
                Goal::Part(task, _) => self.on_part_done(task, lookup.target, lookup.family, lookup.found(), now),
            }
            self.on_lookup_done(id, lookup.family, closest, now);
        }
    }

    /// Whether a lookup may send to somebody: whoever has us search has us send little to whom liars name.
    fn may_approach(&mut self, contact: &Contact, goal: Goal, now: Instant) -> bool {
        let Goal::Part(task, _) = goal else { return true };
        if self.tasks.get(&task).is_none_or(|task| task.sake() == Sake::Owner) {
            return true;
        }
        let is_known = self.keyring.token(contact, now) != Token::NONE
            || self.table(Family::of(&contact.addr)).get(contact).is_some();
        is_known || self.guard.may_ask_stranger(contact.addr.ip(), now)
    }

    /// Lets all lookups and tasks ask: those that found no room for their requests before.
    pub(crate) fn pump_all(&mut self, now: Instant) {
        let ids: Vec<QueryId> = self.lookups.keys().copied().collect();
        ids.into_iter().for_each(|id| self.pump(id, now));
        self.drive_all(now);
    }

    /// Asks a node something. `false` if nobody can: it has no key, or there is no room.
    pub(crate) fn ask(&mut self, contact: Contact, request: Request, purpose: Purpose, now: Instant) -> bool {
        if self.closed || self.requests.is_full() || self.keyring.with(&contact.id, now).is_err() {
            return false;
        }
        let transaction = Transaction(self.rng.array());
        self.requests.open(transaction, contact, request, purpose, now);
        self.traffic.asked += 1;
        self.send_request(transaction, now);
        true
    }

    /// Sends a request that is on its way, for the first time or again.
    pub(crate) fn send_request(&mut self, transaction: Transaction, now: Instant) {
        let Some(pending) = self.requests.get(transaction) else { return };
        let (contact, request) = (pending.contact, pending.request.clone());
        let token = self.keyring.token(&contact, now);
        let least = if token == Token::NONE { request.padded_len() } else { 0 };
        let body = Message::Request(transaction, request).encode(least, message::MAX_BODY);
        // If nobody takes what waits, it is late, and sent again.
        let full = self.outbox.len() >= limits::MAX_QUEUED + limits::MAX_IN_FLIGHT;
        if let Some(datagram) = self.seal(&contact, &body, now).filter(|_| !full) {
            if let Ok(Front::Sealed { echo, .. }) = Front::decode(&datagram) {
                self.requests.on_sent(transaction, echo, now);
            }
            self.outbox.push_back((contact.addr, datagram));
        }
    }

    pub(crate) fn seal(&mut self, to: &Contact, body: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (sender, token) = (self.id(), self.keyring.token(to, now));
        let front = Front::Sealed { sender, token, echo: Echo([0; 8]), client: !self.server };
        let keys = self.keyring.with(&to.id, now).ok()?;
        message::seal_behind(&front, keys, body, &mut self.rng).ok()
    }

    /// Sends what answers somebody, or nothing if too much waits: who asked asks again.
    pub(crate) fn reply(&mut self, to: SocketAddr, datagram: Vec<u8>) -> Result<(), Rejected> {
        if self.outbox.len() >= limits::MAX_QUEUED {
            return Err(Rejected::LimitReached);
        }
        self.outbox.push_back((to, datagram));
        Ok(())
    }

    /// Asks a node at an address who it is.
    pub(crate) fn send_hello(&mut self, addr: SocketAddr) -> Echo {
        let echo = Echo(self.rng.array());
        let hello = Front::Hello { echo, sender: self.id() };
        self.outbox.push_back((addr, hello.encode()));
        echo
    }

    /// A node says where it sees us: of interest if it said something else before, or nothing.
    pub(crate) fn on_observed(&mut self, addr: SocketAddr, by: Contact, now: Instant) {
        let observer = by.addr.ip();
        if self.observed.peek(&observer, now) == Some(&addr) {
            return;
        }
        // Without weights nothing is too heavy.
        let _ = self.observed.insert(observer, addr, 0, now);
        // Of each node it is the latest that counts.
        self.events.retain(|other| !matches!(other, Event::Observed { by, .. } if by.addr.ip() == observer));
        if self.events.iter().filter(|other| matches!(other, Event::Observed { .. })).count() < limits::MAX_OBSERVED {
            self.events.push_back(Event::Observed { addr, by });
        }
    }

    /// What follows when nobody waits for an answer any more.
    fn on_failure(&mut self, pending: &Pending<Purpose>, now: Instant) {
        let contact = pending.contact;
        self.table_mut(Family::of(&contact.addr)).on_failure(&contact, now);
        match pending.purpose {
            Purpose::Lookup(id) => {
                if let Some(Search { lookup, .. }) = self.lookups.get_mut(&id) {
                    lookup.on_failure(&contact);
                }
            }
            Purpose::Ping(id) => self.events.push_back(Event::PingDone { id, contact, answered: false }),
            Purpose::Check(_) | Purpose::Feel(_) | Purpose::Gift => {}
            Purpose::More(id) => self.on_more(id, contact, &pending.request, None, now),
        }
    }
}

impl Search {
    fn request(&self, rng: &mut Rng) -> Request {
        let (key, family) = (self.lookup.target, self.lookup.family);
        match self.goal {
            Goal::Part(_, Ask::Peers) => Request::Peers { key, family: Some(family), start: rng.next_u32() },
            Goal::Part(_, Ask::Get(kind)) => Request::Get { kind, key, family },
            Goal::Part(_, Ask::Store) | Goal::Nodes | Goal::Upkeep => Request::Find { target: key, family },
        }
    }
}

impl Machine for Dht {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let now = self.at(now);
        let result = if self.closed { Err(Rejected::Closed) } else { self.receive(datagram, now) };
        result.map_err(|reason| self.rejected.count(reason))
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = self.at(now);
        if self.closed {
            return;
        }
        let mut any = false;
        while let Some(due) = self.requests.pop_due(now) {
            any = true;
            match due {
                Due::Late(transaction) => {
                    let pending = self.requests.get(transaction).map(|pending| (pending.contact, pending.purpose));
                    if let Some((contact, Purpose::Lookup(id))) = pending
                        && let Some(Search { lookup, .. }) = self.lookups.get_mut(&id)
                    {
                        lookup.on_late(&contact);
                    }
                    self.send_request(transaction, now);
                }
                Due::Failed(pending) => {
                    self.traffic.failed += 1;
                    self.on_failure(&pending, now);
                }
            }
        }
        if any {
            self.pump_all(now);
        }
        self.keep_up(now);
        self.store.expire(now);
        self.publish_due(now);
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, _now: Instant) -> Option<Transmit> {
        let (remote, datagram) = self.outbox.pop_front()?;
        out.push(&datagram);
        let local = match Family::of(&remote) {
            Family::V4 => UNSPECIFIED_V4,
            Family::V6 => UNSPECIFIED_V6,
        };
        out.finish(Path::udp(local, remote), Ecn::NotEct)
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if event.ends_query() {
            self.queries = self.queries.saturating_sub(1);
        }
        Some(event)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.closed {
            return None;
        }
        let request = self.requests.next().map(|at| Deadline { at, reason: "request" });
        let end = self.store.next_end().map(|at| Deadline { at, reason: "record" });
        let due = self.due.next().map(|(at, _)| Deadline { at, reason: "publication" });
        Deadline::earliest(Deadline::earliest(request, self.next_upkeep()), Deadline::earliest(end, due))
    }
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht").field("id", &self.id()).field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// Where we are as long as nobody said more; and what leaves from whatever address the socket has.
const UNSPECIFIED_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const UNSPECIFIED_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
