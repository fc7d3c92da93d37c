//! The distributed hash table of the old wire: a node of it, as a state machine of its own (SPEC 4.11).
//!
//! It is of no use for finding peers: existing nodes put into it where they are, and nobody announces where the table
//! itself is. Values are stored and found among nodes that were told of each other.
//!
//! What is said is what existing nodes say; what is different is what they cannot see. A node is remembered once it has
//! answered, an answer longer than its request waits for a proof of the address, values have a size, a number and an end,
//! and a stranger cannot replace what we put there ourselves. Nothing is signed: whoever is asked may say anything.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Dht`]: commands, answers, the machine's five methods |
//! | `search.rs` | whom a search asks next |
//! | `message.rs` | the messages |
//! | `table.rs` | the nodes that are known |

mod message;
mod search;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use serde_json::Value;
use sha1::{Digest as _, Sha1};
use structs::{
    Datagram, Deadline, Ecn, Lru, Machine, Path, Rejected, RejectedCounts, TokenBucket, Transmit, TransmitBuf,
};

use self::message::{Body, Contact, Id, MAX_NODES, MAX_VALUE, Message, hex};
use self::search::{Goal, Search};
use self::table::Table;
use super::policy;
use crate::StoreError;

/// A search that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchId(u64);

/// What happened in a [`Dht`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A search has ended.
    Found {
        /// Which.
        id: SearchId,
        /// The value of the first node that had one: a text, or any other JSON as text. `None` if nobody has.
        value: Option<String>,
    },
    /// A node that [`Dht::meet`] named has answered, or not in time.
    Met {
        /// Where.
        addr: SocketAddrV4,
        /// Whether it did.
        answered: bool,
    },
    /// It has ended. It is the last event.
    Closed,
}

/// What a [`Dht`] holds and counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Nodes that are known.
    pub nodes: usize,
    /// Values that others put here.
    pub values: usize,
    /// Values of ours.
    pub own: usize,
    /// Datagrams that were refused, by reason.
    pub rejected: RejectedCounts,
}

/// One node of the table: see the [module documentation](self).
pub struct Dht {
    id: Id,
    rng: Rng,
    now: Instant,
    table: Table,
    own: BTreeMap<Id, Value>,
    stored: Lru<Id, Value>,
    /// Addresses that have answered us.
    proved: Lru<SocketAddrV4, ()>,
    calls: BTreeMap<String, Call>,
    /// Requests that are answered once their address is proved.
    waiting: VecDeque<(SocketAddrV4, Message)>,
    searches: BTreeMap<SearchId, Search>,
    last_search: u64,
    republish_at: Instant,
    requests: TokenBucket,
    out: VecDeque<(SocketAddrV4, Vec<u8>)>,
    events: VecDeque<Event>,
    rejected: RejectedCounts,
    closed: bool,
}

/// A request of ours.
#[derive(Debug, Clone, Copy)]
struct Call {
    addr: SocketAddrV4,
    until: Instant,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The application named the node.
    Meet,
    /// It asked something, and has to show that it is there.
    Check,
    Search(SearchId),
}

impl Dht {
    /// A node that knows nobody. `seed` is the source of all its randomness.
    #[must_use]
    pub fn new(seed: &Seed, now: Instant) -> Self {
        let mut rng = seed.rng();
        let id = rng.array();
        let (rate, burst) = REQUEST_RATE;
        Self {
            id,
            rng,
            now,
            table: Table::new(id),
            own: BTreeMap::new(),
            stored: Lru::new(MAX_STORED).max_weight(STORED_BYTES).time_to_live(STORED_FOR),
            proved: Lru::new(MAX_PROVED).time_to_live(PROVED_FOR),
            calls: BTreeMap::new(),
            waiting: VecDeque::new(),
            searches: BTreeMap::new(),
            last_search: 0,
            republish_at: now + REPUBLISH,
            requests: TokenBucket::new(rate, burst, now),
            out: VecDeque::new(),
            events: VecDeque::new(),
            rejected: RejectedCounts::default(),
            closed: false,
        }
    }

    /// Its id, as others show it: 40 hexadecimal digits. It is not the id of a node.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.id)
    }

    /// Says hello to a node, and asks it for others. Ends with [`Event::Met`]. Nothing happens if too much is under way.
    pub fn meet(&mut self, addr: SocketAddrV4, now: Instant) {
        self.tick(now);
        if !self.closed && !self.call(addr, Body::Ping, Purpose::Meet) {
            self.tell(Event::Met { addr, answered: false });
        }
    }

    /// Stores a text at the nodes that are known, the 20 closest to its key, and here; again every hour. Returns at how many
    /// others. Nobody confirms it.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] above 4 KiB as JSON, [`StoreError::Full`] above 64 values, [`StoreError::Closed`].
    pub fn put(&mut self, key: &str, value: &str, now: Instant) -> Result<usize, StoreError> {
        self.tick(now);
        if self.closed {
            return Err(StoreError::Closed);
        }
        let (key, value) = (key_of(key), Value::from(value));
        let len = value.to_string().len();
        if len > MAX_VALUE {
            return Err(StoreError::TooLarge { len, max: MAX_VALUE });
        }
        if self.own.len() >= MAX_OWN && !self.own.contains_key(&key) {
            return Err(StoreError::Full { limit: MAX_OWN });
        }
        let stored = self.store_at_closest(key, &value);
        self.own.insert(key, value);
        Ok(stored)
    }

    /// Looks for a value. Ends with [`Event::Found`]; `None` if too many searches are under way, or it has ended.
    pub fn find(&mut self, key: &str, now: Instant) -> Option<SearchId> {
        self.tick(now);
        let key = key_of(key);
        let known = self.own.get(&key).or_else(|| self.stored.get(&key, self.now)).map(text);
        let id = self.search(Goal::Value, key)?;
        if known.is_some() {
            self.end_search(id, known);
        }
        self.go_on(id);
        Some(id)
    }

    /// What it holds and counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (nodes, values, own) = (self.table.len(), self.stored.len(), self.own.len());
        Stats { nodes, values, own, rejected: self.rejected }
    }

    /// Ends it: it says nothing any more.
    pub fn shutdown(&mut self) {
        if !self.closed {
            self.closed = true;
            self.out.clear();
            self.calls.clear();
            self.waiting.clear();
            for (id, _) in std::mem::take(&mut self.searches) {
                self.events.push_back(Event::Found { id, value: None });
            }
            self.events.push_back(Event::Closed);
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that wait: values aside, at most 1.5 MiB.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let out: usize = self.out.iter().map(|(_, datagram)| datagram.len()).sum();
        let stored = usize::try_from(self.stored.weight()).unwrap_or(usize::MAX);
        out.saturating_add(stored)
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn tell(&mut self, event: Event) {
        // Searches and meetings are bounded, and each tells one; an owner who takes none loses the oldest.
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn send(&mut self, to: SocketAddrV4, rpc: Option<String>, body: Body) -> bool {
        if self.out.len() >= MAX_OUT {
            return false;
        }
        let datagram = Message { from: Some(self.id), rpc, body }.encode();
        self.out.push_back((to, datagram));
        true
    }

    /// Asks somebody. Says whether there was room for it.
    fn call(&mut self, addr: SocketAddrV4, body: Body, purpose: Purpose) -> bool {
        let rpc = hex(&self.rng.array::<4>());
        if self.calls.len() >= MAX_CALLS || self.calls.contains_key(&rpc) || !self.send(addr, Some(rpc.clone()), body) {
            return false;
        }
        self.calls.insert(rpc, Call { addr, until: self.now + TIMEOUT, purpose });
        true
    }

    fn store_at_closest(&mut self, key: Id, value: &Value) -> usize {
        let closest = self.table.closest(&key, MAX_NODES);
        let body = Body::Store { key, value: value.clone() };
        closest.into_iter().filter(|contact| self.send(contact.addr, None, body.clone())).count()
    }

    fn search(&mut self, goal: Goal, key: Id) -> Option<SearchId> {
        if self.closed || self.searches.len() >= MAX_SEARCHES {
            return None;
        }
        self.last_search += 1;
        let id = SearchId(self.last_search);
        self.searches.insert(id, Search::new(goal, key, self.id, self.table.closest(&key, MAX_NODES)));
        Some(id)
    }

    /// Asks whom a search wants to ask, and ends it when nobody is left.
    fn go_on(&mut self, id: SearchId) {
        while let Some(search) = self.searches.get_mut(&id) {
            let Some(contact) = search.next() else { break };
            let body = match search.goal {
                Goal::Value => Body::FindValue { key: search.key },
                Goal::Nodes => Body::FindNode { target: search.key },
            };
            if !self.call(contact.addr, body, Purpose::Search(id))
                && let Some(search) = self.searches.get_mut(&id)
            {
                search.ended(contact.addr);
            }
        }
        if self.searches.get(&id).is_some_and(Search::is_over) {
            self.end_search(id, None);
        }
    }

    fn end_search(&mut self, id: SearchId, value: Option<String>) {
        if self.searches.remove(&id).is_some_and(|search| search.goal == Goal::Value) {
            self.tell(Event::Found { id, value });
        }
    }

    fn on_message(&mut self, message: Message, from: SocketAddrV4, len: usize) -> Result<(), Rejected> {
        match message.body {
            Body::Pong | Body::FoundNode { .. } | Body::FoundValue { .. } => self.on_answer(message, from),
            _ if !self.requests.try_take(1, self.now) => Err(Rejected::LimitReached),
            Body::Store { key, value } => {
                let weight = value.to_string().len();
                if weight > MAX_VALUE {
                    return Err(Rejected::TooLarge);
                }
                let weight = u64::try_from(weight).unwrap_or(u64::MAX);
                let _ = self.stored.insert(key, value, weight + VALUE_COST, self.now);
                Ok(())
            }
            _ => self.on_request(message, from, len),
        }
    }

    fn on_request(&mut self, message: Message, from: SocketAddrV4, len: usize) -> Result<(), Rejected> {
        let is_proved = self.proved.contains(&from, self.now);
        if !is_proved {
            // Whoever answers this is there, and known from then on.
            let checked = self.calls.values().any(|call| call.addr == from);
            let checks = self.calls.values().filter(|call| call.purpose == Purpose::Check).count();
            let is_ping = message.body == Body::Ping;
            // As it is written: what stands in an id of his may take more room in our hands.
            let pong = || Message { from: Some(self.id), rpc: message.rpc.clone(), body: Body::Pong }.encode().len();
            let answer = if is_ping { pong() } else { 0 };
            if !checked && checks < MAX_CHECKS && len >= PING + answer {
                self.call(from, Body::Ping, Purpose::Check);
            }
            if !is_ping {
                if self.waiting.len() >= MAX_CHECKS || !self.calls.values().any(|call| call.addr == from) {
                    return Err(Rejected::Unproven);
                }
                self.waiting.push_back((from, message));
                return Ok(());
            }
            if len < answer {
                return Err(Rejected::Unproven);
            }
        }
        self.answer(message, from);
        Ok(())
    }

    fn answer(&mut self, request: Message, to: SocketAddrV4) {
        let nodes = |table: &Table, key: &Id| {
            let mut nodes = table.closest(key, MAX_NODES);
            nodes.retain(|contact| policy::may_tell(*to.ip(), contact.addr));
            Body::FoundNode { nodes }
        };
        let body = match request.body {
            Body::Ping => Body::Pong,
            Body::FindNode { target } => nodes(&self.table, &target),
            Body::FindValue { key } => match self.own.get(&key).or_else(|| self.stored.get(&key, self.now)) {
                Some(value) => Body::FoundValue { value: value.clone() },
                None => nodes(&self.table, &key),
            },
            _ => return,
        };
        // Without room it is lost, as on the network.
        self.send(to, request.rpc, body);
    }

    fn on_answer(&mut self, message: Message, from: SocketAddrV4) -> Result<(), Rejected> {
        let rpc = message.rpc.as_ref().filter(|rpc| self.calls.get(*rpc).is_some_and(|call| call.addr == from));
        let Some(call) = rpc.and_then(|rpc| self.calls.remove(rpc)) else { return Err(Rejected::Unsolicited) };
        let _ = self.proved.insert(from, (), 0, self.now);
        if let Some(id) = message.from {
            self.table.answered(Contact { id, addr: from });
        }
        match call.purpose {
            Purpose::Check => {}
            Purpose::Meet => {
                self.tell(Event::Met { addr: from, answered: true });
                if let Some(id) = self.search(Goal::Nodes, self.id) {
                    self.go_on(id);
                }
            }
            Purpose::Search(id) => {
                if let Some(search) = self.searches.get_mut(&id) {
                    search.ended(from);
                    match message.body {
                        Body::FoundNode { nodes } => {
                            let may_tell = |contact: &Contact| policy::may_tell(*from.ip(), contact.addr);
                            search.named(nodes.into_iter().filter(may_tell));
                        }
                        Body::FoundValue { value } if search.goal == Goal::Value => {
                            self.end_search(id, Some(text(&value)));
                        }
                        _ => {}
                    }
                }
                self.go_on(id);
            }
        }
        let (now, later): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(addr, _)| *addr == from);
        self.waiting = later;
        now.into_iter().for_each(|(addr, request)| self.answer(request, addr));
        Ok(())
    }

    fn on_silence(&mut self, call: Call) {
        self.table.failed(call.addr);
        match call.purpose {
            Purpose::Meet => self.tell(Event::Met { addr: call.addr, answered: false }),
            Purpose::Check => {}
            Purpose::Search(id) => {
                if let Some(search) = self.searches.get_mut(&id) {
                    search.ended(call.addr);
                }
                self.go_on(id);
            }
        }
        self.waiting.retain(|(addr, _)| *addr != call.addr);
    }
}

impl Machine for Dht {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.tick(now);
        let result = if self.closed {
            Err(Rejected::Closed)
        } else {
            match (policy::dialable(datagram.path.remote), Message::decode(datagram.payload)) {
                (Err(_), _) => Err(Rejected::BadAddress),
                (_, None) => Err(Rejected::Malformed),
                (_, Some(message)) if message.from == Some(self.id) => Err(Rejected::FromSelf),
                (Ok(from), Some(message)) => self.on_message(message, from, datagram.payload.len()),
            }
        };
        result.map_err(|reason| self.rejected.count(reason))
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        if self.closed {
            return;
        }
        let late: Vec<String> =
            self.calls.iter().filter(|(_, call)| call.until <= self.now).map(|(rpc, _)| rpc.clone()).collect();
        for call in late.into_iter().filter_map(|rpc| self.calls.remove(&rpc)).collect::<Vec<_>>() {
            self.on_silence(call);
        }
        if self.republish_at <= self.now {
            self.republish_at = self.now + REPUBLISH;
            let own: Vec<(Id, Value)> = self.own.iter().map(|(key, value)| (*key, value.clone())).collect();
            for (key, value) in own {
                self.store_at_closest(key, &value);
            }
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.tick(now);
        let (to, datagram) = self.out.pop_front()?;
        out.push(&datagram);
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        out.finish(Path::udp(any, to.into()), Ecn::NotEct)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.closed {
            return None;
        }
        let call = self.calls.values().map(|call| call.until).min().map(|at| Deadline { at, reason: "answer" });
        let own = (!self.own.is_empty()).then_some(Deadline { at: self.republish_at, reason: "republish" });
        Deadline::earliest(call, own)
    }
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht").field("id", &self.id()).field("nodes", &self.table.len()).finish_non_exhaustive()
    }
}

fn key_of(text: &str) -> Id {
    Sha1::digest(text.as_bytes()).into()
}

/// A text without its quotes, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How long an answer may take, as the existing nodes say; nothing is asked twice.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often our values are stored again.
const REPUBLISH: Duration = Duration::from_secs(3600);
/// How long the values of others are kept: they are stored again every hour.
const STORED_FOR: Duration = Duration::from_secs(2 * 3600);
/// How long an address that has answered may be given longer answers.
const PROVED_FOR: Duration = Duration::from_secs(600);
/// Values of others, and their bytes, each with what it costs besides; the least recently used goes first.
const MAX_STORED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
const STORED_BYTES: u64 = 1 << 20;
const VALUE_COST: u64 = 64;
const MAX_OWN: usize = 64;
const MAX_PROVED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// Requests of ours, of all kinds and for proofs; requests that wait for one.
const MAX_CALLS: usize = 256;
const MAX_CHECKS: usize = 64;
const MAX_SEARCHES: usize = 16;
/// Datagrams and events that wait; without room they are lost.
const MAX_OUT: usize = 256;
const MAX_EVENTS: usize = 512;
/// Requests answered, per second and at once.
const REQUEST_RATE: (u32, u32) = (200, 400);
/// Bytes of a PING of ours.
const PING: usize = 79;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_has_the_length_that_requests_are_weighed_by() {
        let message = |body| Message { from: Some([7; 20]), rpc: Some("0a0b0c0d".to_owned()), body };
        assert_eq!(message(Body::Ping).encode().len(), PING);
        assert_eq!(hex(&key_of("a")), "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8");
    }
}
