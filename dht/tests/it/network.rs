//! Networks in virtual time: do lookups find whom they must, whatever the network and some nodes do?

use std::time::{Duration, Instant};

use crypto::envelope::NodeKey;
use crypto::{Rng, Seed};
use dht::message::{self, Answer, Front, Message, Outcome, Request};
use dht::{Contact, Dht, Event, Family, Found, Key, NodeId, Subnets, Token};
use sim::world::{Birth, MachineId};
use sim::{Addresses, Link, World};
use structs::{Datagram, Deadline, Ecn, Machine, Path, Rejected, Transmit, TransmitBuf};

/// A node, honest or not.
struct Node {
    dht: Dht,
    lies: Option<Lies>,
}

/// Takes part as everybody does, but names nodes that do not exist, closer to the target than any that do.
struct Lies {
    key: NodeKey,
    rng: Rng,
    answers: Vec<(Path, Vec<u8>)>,
}

impl Lies {
    fn bogus(&mut self, target: &Key) -> Vec<Contact> {
        let mut bogus: Vec<Contact> = (0..100)
            .map(|_| {
                let [b, c] = self.rng.array();
                Contact { id: NodeId::from_bytes(self.rng.array()), addr: ([200, b, c, 1], 4000).into() }
            })
            .collect();
        bogus.sort_by_cached_key(|contact| Subnets::Public.key_of(contact).distance(target));
        bogus.truncate(20);
        bogus
    }

    fn lie(&mut self, datagram: &Datagram<'_>) -> Option<()> {
        let Ok(Front::Sealed { sender, .. }) = Front::decode(datagram.payload) else { return None };
        let keys = self.key.shared_with(sender.as_bytes()).ok()?;
        let mut copy = datagram.payload.to_vec();
        let body = message::open(&keys, &mut copy).ok()?;
        let Ok(Message::Request(transaction, Request::Find { target, .. })) = Message::decode(body) else {
            return None;
        };
        let (token, observed) = (Token::NONE, datagram.path.remote);
        let answer = Answer { token, observed, outcome: Outcome::Nodes(self.bogus(&target)) };
        let body = Message::Answer(transaction, answer).encode(0, 1200);
        let own = NodeId::from_bytes(*self.key.public());
        let sealed = message::seal(&keys, own, token, &body, &mut self.rng).ok()?;
        self.answers.push((datagram.path, sealed));
        Some(())
    }
}

impl Machine for Node {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        match self.lies.as_mut().and_then(|lies| lies.lie(&datagram)) {
            Some(()) => Ok(()),
            None => self.dht.handle_datagram(datagram, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.dht.handle_timeout(now);
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        if let Some((path, answer)) = self.lies.as_mut().and_then(|lies| lies.answers.pop()) {
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

struct Network {
    world: World<Node>,
    rng: Rng,
}

impl Network {
    /// `nodes` nodes that all begin with the first two, of which every `liar`-th but those lies.
    fn new(nodes: u32, liar: Option<u32>, link: Link, seed: u64) -> Self {
        let mut world = World::new(Seed::fixed(seed)).link(link).addresses(Addresses::Public);
        let mut first: Vec<Contact> = Vec::new();
        for number in 0..nodes {
            let lies = number > 1 && liar.is_some_and(|liar| number % liar == 0);
            let begin = first.clone();
            let id = world.add(|birth| node(birth, lies, &begin));
            if number < 2 {
                first.push(Contact { id: world.get(id).unwrap().dht.id(), addr: world.addr(id).unwrap() });
            }
            world.run_for(Duration::from_millis(200));
        }
        let mut network = Self { world, rng: Seed::fixed(seed ^ 0xff).rng() };
        network.world.run_for(Duration::from_secs(30));
        network
    }

    fn contact(&self, id: MachineId) -> Contact {
        Contact { id: self.world.get(id).unwrap().dht.id(), addr: self.world.addr(id).unwrap() }
    }

    fn honest(&self) -> Vec<MachineId> {
        self.world.ids().filter(|id| self.world.get(*id).unwrap().lies.is_none()).collect()
    }

    /// One lookup by a random honest node: what it found, how long it took, and who is closest in truth.
    fn lookup(&mut self) -> (Found, Duration, Vec<Contact>) {
        let target = Key::from_bytes(self.rng.array());
        let honest = self.honest();
        let by = honest[usize::try_from(self.rng.below(honest.len() as u64)).unwrap()];
        self.world.take_events(by);
        let start = self.world.elapsed();
        let id = self.world.with(by, |node, now| node.dht.lookup(target, Family::V4, now)).unwrap().unwrap();
        let ended = |event: &Event| matches!(event, Event::LookupDone { id: done, .. } if *done == id);
        let done = self
            .world
            .run_until(|world| world.events(by).iter().any(|timed| ended(&timed.event)), Duration::from_secs(60));
        assert!(done, "every lookup ends");
        let found = self.world.take_events(by).into_iter().find_map(|timed| match timed.event {
            Event::LookupDone { id: done, found } if done == id => Some(found),
            _ => None,
        });
        let mut all: Vec<Contact> = self.world.ids().filter(|id| *id != by).map(|id| self.contact(id)).collect();
        all.sort_by_cached_key(|contact| Subnets::Public.key_of(contact).distance(&target));
        all.truncate(20);
        (found.unwrap(), self.world.elapsed() - start, all)
    }

    /// The share of lookups that found the closest, of nodes found that should be, and the medians of hops, nodes asked and time.
    fn measure(&mut self, lookups: usize) -> Figures {
        let (mut first, mut hit, mut wanted) = (0, 0, 0);
        let (mut hops, mut asked, mut time) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..lookups {
            let (found, took, closest) = self.lookup();
            first += usize::from(found.closest.first() == closest.first());
            hit += closest.iter().filter(|contact| found.closest.contains(contact)).count();
            wanted += closest.len();
            hops.push(found.hops);
            asked.push(found.asked);
            time.push(took);
        }
        let figures = Figures {
            first: first as f64 / lookups as f64,
            recall: hit as f64 / wanted as f64,
            hops: median(hops),
            asked: median(asked),
            time: median(time),
        };
        println!("{figures:?}");
        figures
    }
}

#[derive(Debug)]
struct Figures {
    first: f64,
    recall: f64,
    hops: u8,
    asked: u32,
    time: Duration,
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort();
    values[values.len() / 2]
}

fn node(birth: Birth, lies: bool, begin: &[Contact]) -> Node {
    let secret: [u8; 32] = birth.seed.fork("key").rng().array();
    let mut dht =
        Dht::new(NodeKey::from_bytes(&secret), Subnets::Public, crate::epoch(birth.now), &birth.seed, birth.now);
    dht.set_address(birth.addr, birth.now);
    assert_eq!(dht.bootstrap(begin, birth.now), begin.len());
    let lies = lies.then(|| Lies {
        key: NodeKey::from_bytes(&secret),
        rng: birth.seed.fork("lies").rng(),
        answers: Vec::new(),
    });
    Node { dht, lies }
}

const RTT: Duration = Duration::from_millis(80);

fn wan() -> Link {
    Link::perfect().delay(RTT / 2).jitter(Duration::from_millis(5))
}

#[test]
fn two_hundred_nodes_find_the_closest_to_any_key() {
    let mut network = Network::new(200, None, wan(), 1);
    let figures = network.measure(60);
    assert_eq!((figures.first, figures.recall), (1.0, 1.0), "{figures:?}");
    assert!(figures.hops <= 4 && figures.asked <= 40 && figures.time < RTT * 8, "{figures:?}");
}

#[test]
fn lookups_survive_loss() {
    let mut network = Network::new(80, None, wan().loss(0.1), 2);
    let figures = network.measure(40);
    assert!(figures.first >= 0.97 && figures.recall >= 0.97, "{figures:?}");
}

#[test]
fn lookups_survive_liars() {
    let mut network = Network::new(100, Some(5), wan(), 3);
    let figures = network.measure(40);
    assert!(figures.first >= 0.97 && figures.recall >= 0.97, "{figures:?}");
    for id in network.honest() {
        let bogus = |contact: Contact| contact.addr.ip().to_string().starts_with("200.");
        let table = network.world.get(id).unwrap().dht.table(Family::V4);
        assert!(!table.iter().any(|node| bogus(node.contact)), "who does not answer is no contact");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let mut network = Network::new(30, Some(5), wan().loss(0.05), seed);
        network.measure(5);
        network.world.trace_hash()
    };
    assert_eq!(trace(4), trace(4));
    assert_ne!(trace(4), trace(5));
}
