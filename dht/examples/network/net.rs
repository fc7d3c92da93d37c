//! A network of simulated nodes: how it comes into being, who is in it, who is replaced.

use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Rng, Seed};
use dht::{Contact, Family, Key, Origin, Subnets, Table, limits};
use sim::world::MachineId;
use sim::{Addresses, Link, Places, World};

use crate::node::{Lie, Node, Ring};

/// How a network comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// One node after the other, each knowing the first two, then a minute and a half of rest.
    Join,
    /// All at once, with full tables: in each bucket 20 nodes drawn from those that belong there.
    Tables,
}

/// What a network is like.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub nodes: u32,
    pub seed: u64,
    pub start: Start,
    pub places: Places,
    pub link: Link,
    /// Of 100 nodes, and what they do; each of them one thing.
    pub liars: u32,
    pub lies: &'static [Lie],
    /// To whom liars are as close as they can be.
    pub prey: Option<Key>,
}

/// A node that is or was there.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub id: MachineId,
    pub contact: Contact,
    pub key: Key,
    pub lies: bool,
    pub born: Duration,
    pub died: Option<Duration>,
}

/// A network in virtual time.
pub struct Network {
    pub world: World<Node>,
    pub members: Vec<Member>,
    pub rng: Rng,
    ring: Ring,
    plan: Plan,
}

impl Network {
    /// A network that has come to rest.
    pub fn new(plan: Plan) -> Self {
        let seed = Seed::fixed(plan.seed);
        let world = World::new(seed.fork("world")).link(plan.link).places(plan.places).addresses(Addresses::Public);
        let mut network =
            Self { world, members: Vec::new(), rng: seed.fork("chance").rng(), ring: Ring::default(), plan };
        match plan.start {
            Start::Join => {
                for _ in 0..plan.nodes {
                    network.join();
                    network.world.run_for(JOIN_GAP);
                }
            }
            Start::Tables => {
                for _ in 0..plan.nodes {
                    network.add();
                }
                network.fill_tables();
            }
        }
        network.world.run_for(match plan.start {
            Start::Join => REST,
            Start::Tables => SHORT_REST,
        });
        network
    }

    /// One more node, which begins with the first two.
    pub fn join(&mut self) {
        let first = self.first();
        let id = self.add();
        self.world.with(id, |node, now| node.dht.bootstrap(&first, now));
    }

    /// As [`join`](Self::join), at an address of its own.
    pub fn join_at(&mut self, addr: SocketAddr) {
        let first = self.first();
        let id = self.world.add_at(addr, |birth| Node::new(&birth, None, None));
        self.note(id);
        self.world.with(id, |node, now| node.dht.bootstrap(&first, now));
    }

    /// Kills a random node without warning, and lets another one join. Those with whom others begin live on.
    pub fn replace(&mut self) {
        let now = self.world.elapsed();
        let number = loop {
            let number = usize::try_from(self.rng.below(self.members.len() as u64)).unwrap_or(0);
            if number >= FIRST && self.members.get(number).is_some_and(|member| member.died.is_none()) {
                break number;
            }
        };
        let Some(member) = self.members.get_mut(number) else { return };
        member.died = Some(now);
        let (id, contact) = (member.id, member.contact);
        self.world.kill(id);
        self.ring.borrow_mut().retain(|(_, friend)| *friend != contact);
        self.join();
    }

    /// A random node that lives, is honest and did not just come.
    pub fn anybody(&mut self) -> Option<Member> {
        let now = self.world.elapsed();
        for _ in 0..10_000 {
            let number = usize::try_from(self.rng.below(self.members.len() as u64)).unwrap_or(0);
            let found = self.members.get(number).filter(|member| !member.lies && member.settled(now, now));
            if let Some(found) = found {
                return Some(*found);
            }
        }
        None
    }

    /// The round trips of some random pairs.
    pub fn round_trips(&self) -> Vec<Duration> {
        let mut rng = Seed::fixed(self.plan.seed).fork("pairs").rng();
        let mut pick =
            || usize::try_from(rng.below(self.members.len() as u64)).ok().and_then(|number| self.members.get(number));
        let pairs = (0..2000).filter_map(|_| Some((pick()?.id, pick()?.id)));
        pairs.filter(|(a, b)| a != b).filter_map(|(a, b)| self.world.round_trip(a, b)).collect()
    }

    fn first(&self) -> Vec<Contact> {
        self.members.iter().take(FIRST).map(|member| member.contact).collect()
    }

    fn add(&mut self) -> MachineId {
        let number = self.members.len();
        let lies = number >= FIRST && self.rng.below(100) < u64::from(self.plan.liars);
        let lie = self.plan.lies.get(number % self.plan.lies.len().max(1)).copied().filter(|_| lies);
        let ring = self.ring.clone();
        let prey = self.plan.prey;
        let id = self.world.add(|birth| Node::new(&birth, lie.map(|lie| (lie, ring)), prey));
        self.note(id);
        id
    }

    fn note(&mut self, id: MachineId) {
        let (Some(node), Some(addr)) = (self.world.get(id), self.world.addr(id)) else { return };
        let contact = Contact { id: node.dht.id(), addr };
        let (key, lies, born) = (Subnets::Public.key_of(&contact), node.lies(), self.world.elapsed());
        self.members.push(Member { id, contact, key, lies, born, died: None });
    }

    /// Gives everybody the table that a node has that has been there for long.
    fn fill_tables(&mut self) {
        let mut sorted: Vec<(Key, Contact)> = self.members.iter().map(|member| (member.key, member.contact)).collect();
        sorted.sort_unstable();
        for number in 0..self.members.len() {
            let Some(Member { id, key, .. }) = self.members.get(number).copied() else { continue };
            let now = self.world.now();
            let mut table = Table::new(key, Subnets::Public, now);
            let mut near = sorted.as_slice();
            for bit in 0..Key::BITS {
                // All in `near` have `bit` bits in common with the node.
                let one = near.partition_point(|(other, _)| !bit_of(other, bit));
                let (zeros, ones) = near.split_at(one);
                let (same, other) = if bit_of(&key, bit) { (ones, zeros) } else { (zeros, ones) };
                for (_, contact) in self.some_of(other) {
                    // Not all were heard at the same moment, so they are not all checked at the same.
                    let heard = now - self.rng.duration_below(limits::CHECK_INTERVAL);
                    table.on_answer(contact, Origin::Lookup, heard);
                }
                near = same;
                if near.len() <= 1 {
                    break;
                }
            }
            self.world.with(id, |node, now| node.dht.adopt(Family::V4, table, now));
        }
    }

    /// Up to a bucket full of them.
    fn some_of(&mut self, all: &[(Key, Contact)]) -> Vec<(Key, Contact)> {
        if all.len() <= limits::K {
            return all.to_vec();
        }
        let mut chosen: Vec<usize> = Vec::with_capacity(limits::K);
        while chosen.len() < limits::K {
            let number = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
            if !chosen.contains(&number) {
                chosen.push(number);
            }
        }
        chosen.into_iter().filter_map(|number| all.get(number).copied()).collect()
    }
}

impl Member {
    /// Whether it was there from one moment to another, and for a minute before: who joins is not known to others at once.
    pub fn settled(&self, from: Duration, to: Duration) -> bool {
        self.died.is_none_or(|died| died > to) && (self.born.is_zero() || self.born + SETTLED <= from)
    }
}

fn bit_of(key: &Key, bit: u32) -> bool {
    let byte = key.as_bytes().get(bit as usize / 8).copied().unwrap_or(0);
    byte & (0x80 >> (bit % 8)) != 0
}

/// With whom everybody begins: they are honest, and not replaced.
const FIRST: usize = 2;
const JOIN_GAP: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_secs(90);
const SHORT_REST: Duration = Duration::from_secs(5);
const SETTLED: Duration = Duration::from_secs(60);
