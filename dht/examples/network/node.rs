//! One node of a simulated network, honest or not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crypto::Rng;
use crypto::envelope::{NodeKey, SharedKeys};
use dht::message::{self, Answer, Front, Message, Outcome, Request};
use dht::{Contact, Dht, Event, Key, NodeId, Subnets, Token, limits};
use sim::world::Birth;
use structs::{Datagram, Deadline, Ecn, Epoch, Machine, Path, Rejected, Transmit, TransmitBuf};

/// A node. One that lies takes part as everybody does, and answers PING, so that it is in tables, and says that it
/// stores what it is given; only what it is asked for it answers otherwise.
pub struct Node {
    pub dht: Dht,
    liar: Option<Liar>,
}

/// What a liar does when it is asked for nodes or records. None gives out what it stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Names nodes that do not exist, closer to the target than any that do.
    Invent,
    /// Does not answer.
    Drop,
    /// Names nobody, as if there were nobody closer than itself.
    End,
    /// Names the liars closest to the target, and nobody else.
    Collude,
}

/// The liars of a network, who know each other.
pub type Ring = Rc<RefCell<Vec<(Key, Contact)>>>;

struct Liar {
    lie: Lie,
    key: NodeKey,
    shared: BTreeMap<NodeId, SharedKeys>,
    rng: Rng,
    ring: Ring,
    answers: Vec<(Path, Vec<u8>)>,
}

impl Node {
    /// A node that is alone.
    pub fn new(birth: &Birth, lie: Option<(Lie, Ring)>, prey: Option<Key>) -> Self {
        let secret = match prey.filter(|_| lie.is_some()) {
            Some(prey) => grind(birth, prey),
            None => birth.seed.fork("key").rng().array(),
        };
        // It is noon: around midnight topics have two keys.
        let epoch = Epoch { unix: birth.epoch.unix + NOON, ..birth.epoch };
        let mut dht = Dht::new(NodeKey::from_bytes(&secret), Subnets::Public, epoch, &birth.seed, birth.now);
        dht.set_address(birth.addr, birth.now);
        let liar = lie.map(|(lie, ring)| {
            let contact = Contact { id: dht.id(), addr: birth.addr };
            ring.borrow_mut().push((Subnets::Public.key_of(&contact), contact));
            let (key, rng) = (NodeKey::from_bytes(&secret), birth.seed.fork("lies").rng());
            Liar { lie, key, shared: BTreeMap::new(), rng, ring, answers: Vec::new() }
        });
        Self { dht, liar }
    }

    /// Whether it lies.
    pub fn lies(&self) -> bool {
        self.liar.is_some()
    }
}

/// The key that is closest to the prey of many at one address: an address has eight places.
fn grind(birth: &Birth, prey: Key) -> [u8; 32] {
    let secrets = (0..KEYS_TRIED).map(|number| birth.seed.fork(&format!("key {number}")).rng().array());
    let place = |secret: &[u8; 32]| {
        let id = NodeId::from_bytes(*NodeKey::from_bytes(secret).public());
        Subnets::Public.key_of(&Contact { id, addr: birth.addr }).distance(&prey)
    };
    secrets.min_by_key(place).unwrap_or_default()
}

impl Liar {
    /// Deals with a datagram if it is a request that is lied about.
    fn take(&mut self, datagram: &Datagram<'_>) -> Option<()> {
        let Ok(Front::Sealed { sender, .. }) = Front::decode(datagram.payload) else { return None };
        if !self.shared.contains_key(&sender) {
            self.shared.insert(sender, self.key.shared_with(sender.as_bytes()).ok()?);
        }
        let mut copy = datagram.payload.to_vec();
        let body = message::open(self.shared.get(&sender)?, &mut copy).ok()?;
        let Ok(Message::Request(transaction, request)) = Message::decode(body) else { return None };
        let (Request::Find { target, .. } | Request::Peers { key: target, .. } | Request::Get { key: target, .. }) =
            request
        else {
            return None;
        };
        let nodes = match self.lie {
            Lie::Drop => return Some(()),
            Lie::End => Vec::new(),
            Lie::Invent => self.invented(&target),
            Lie::Collude => self.friends(&target),
        };
        let answer = Answer { token: Token::NONE, observed: datagram.path.remote, outcome: Outcome::Nodes(nodes) };
        let body = Message::Answer(transaction, answer).encode(0, usize::MAX);
        let own = NodeId::from_bytes(*self.key.public());
        let keys = self.shared.get(&sender)?;
        let sealed = message::seal(keys, own, Token::NONE, &body, &mut self.rng).ok()?;
        self.answers.push((datagram.path, sealed));
        Some(())
    }

    fn invented(&mut self, target: &Key) -> Vec<Contact> {
        let mut invented: Vec<Contact> = (0..100)
            .map(|_| {
                let [b, c] = self.rng.array();
                Contact { id: NodeId::from_bytes(self.rng.array()), addr: ([200, b, c, 1], 4000).into() }
            })
            .collect();
        invented.sort_by_cached_key(|contact| Subnets::Public.key_of(contact).distance(target));
        invented.truncate(limits::K);
        invented
    }

    fn friends(&self, target: &Key) -> Vec<Contact> {
        let mut friends: Vec<_> =
            self.ring.borrow().iter().map(|(key, friend)| (key.distance(target), *friend)).collect();
        friends.sort_unstable();
        friends.into_iter().take(limits::K).map(|(_, friend)| friend).collect()
    }
}

impl Machine for Node {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        match self.liar.as_mut().and_then(|liar| liar.take(&datagram)) {
            Some(()) => Ok(()),
            None => self.dht.handle_datagram(datagram, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.dht.handle_timeout(now);
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        if let Some((path, answer)) = self.liar.as_mut().and_then(|liar| liar.answers.pop()) {
            out.push(&answer);
            return out.finish(path, Ecn::NotEct);
        }
        self.dht.poll_transmit(out, now)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.dht.poll_event()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.dht.poll_timeout()
    }
}

/// With so many, one of the eight places is missed in 1 of 600 cases.
const KEYS_TRIED: u32 = 64;
const NOON: Duration = Duration::from_secs(12 * 3600);
