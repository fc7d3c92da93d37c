//! The distributed hash table of the old wire.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crypto::Seed;
use serde_json::{Value, json};
use sim::clock;
use sim::conformance::{Reply, Subject, check_all};
use structs::{Datagram, Machine, Path, Rejected, TransmitBuf};
use swarm::StoreError;
use swarm::v12::dht::{Dht, Event};

/// Nodes whose datagrams arrive at once.
struct World {
    nodes: Vec<(SocketAddrV4, Dht)>,
    now: Instant,
    events: Vec<(usize, Event)>,
}

impl World {
    fn new(count: u8) -> Self {
        let now = clock::base();
        let node = |at| (SocketAddrV4::new([10, 0, 0, at].into(), 4000), Dht::new(&Seed::from_bytes([at; 32]), now));
        Self { nodes: (1..=count).map(node).collect(), now, events: Vec::new() }
    }

    fn run(&mut self) {
        let mut out = TransmitBuf::new(1);
        loop {
            let mut moved = Vec::new();
            for (from, node) in &mut self.nodes {
                while let Some(transmit) = node.poll_transmit(&mut out, self.now) {
                    moved.push((*from, transmit.path.remote, out.bytes().to_vec()));
                    out.clear();
                }
            }
            if moved.is_empty() {
                break;
            }
            for (from, to, mut datagram) in moved {
                if let Some((addr, node)) = self.nodes.iter_mut().find(|(addr, _)| to == (*addr).into()) {
                    let path = Path::udp((*addr).into(), from.into());
                    let _ = node.handle_datagram(Datagram::new(path, &mut datagram), self.now);
                }
            }
        }
        for (at, (_, node)) in self.nodes.iter_mut().enumerate() {
            self.events.extend(std::iter::from_fn(|| node.poll_event()).map(|event| (at, event)));
        }
    }

    /// Everybody meets the first.
    fn meet(&mut self) {
        let first = self.nodes[0].0;
        for at in 1..self.nodes.len() {
            self.nodes[at].1.meet(first, self.now);
            self.run();
        }
        self.events.clear();
    }

    fn find(&mut self, at: usize, key: &str) -> Option<String> {
        let Some(id) = self.nodes[at].1.find(key, self.now) else { panic!("it does not look for {key}") };
        for _ in 0..20 {
            self.run();
            let found = self.events.iter().find_map(|(by, event)| match event {
                Event::Found { id: of, value } if (*by, *of) == (at, id) => Some(value.clone()),
                _ => None,
            });
            if let Some(value) = found {
                return value;
            }
            self.now += Duration::from_secs(5);
            self.nodes.iter_mut().for_each(|(_, node)| node.handle_timeout(self.now));
        }
        panic!("a search ends");
    }
}

#[test]
fn values_are_found_through_others_and_by_nobody_who_never_met_them() {
    let mut world = World::new(30);
    world.meet();
    assert!(world.nodes[29].1.stats().nodes > 3, "others were named, asked, and answered");
    let stored = world.nodes[3].1.put("where", "here", world.now).unwrap();
    assert!(stored > 0);
    world.run();
    for at in [0, 3, 17, 29] {
        assert_eq!(world.find(at, "where").as_deref(), Some("here"), "{at}");
    }
    assert_eq!(world.find(5, "elsewhere"), None);
    // Whoever is gone is waited for, and no longer.
    world.nodes.truncate(2);
    assert_eq!(world.find(1, "nowhere"), None);
}

#[test]
fn a_stranger_gets_no_more_than_he_sent_and_replaces_nothing_of_ours() {
    let mut world = World::new(25);
    world.meet();
    world.nodes[0].1.put("where", "here", world.now).unwrap();
    world.run();
    let (victim, node) = (SocketAddrV4::new([10, 0, 9, 9].into(), 9), &mut world.nodes[0].1);
    let key = "f6d4aabf3ed4e4e3b93e7bb1b4b5c6d7e8f90a1b";
    let mut say = |text: &str, answers: usize| {
        let path = Path::udp(([10, 0, 0, 1], 4000).into(), victim.into());
        let mut bytes = text.as_bytes().to_vec();
        let result = node.handle_datagram(Datagram::new(path, &mut bytes), world.now);
        let (mut out, mut sent, mut count) = (TransmitBuf::new(1), 0, 0);
        while node.poll_transmit(&mut out, world.now).is_some() {
            (sent, count) = (sent + out.bytes().len(), count + 1);
            out.clear();
        }
        assert!(sent <= text.len(), "{text}: {sent}");
        assert_eq!(count, answers, "{text}");
        result
    };
    let from = "00112233445566778899aabbccddeeff00112233";
    let find = format!(r#"{{"type":4,"from":"{from}","target":"{key}","rpcId":"0a0b0c0d"}}"#);
    // A PING asks whether he is there; more requests ask nothing more.
    assert_eq!(say(&find, 1), Ok(()));
    assert_eq!(say(&find, 0), Ok(()));
    assert_eq!(say(&format!(r#"{{"type":1,"from":"{from}","rpcId":"0a0b0c0d"}}"#), 1), Ok(()));
    assert_eq!(say(r#"{"type":1}"#, 0), Err(Rejected::Unproven));
    // An id of eight quotes takes sixteen bytes in the answer.
    let quotes = r#"\"\"\"\"\"\"\"\""#;
    assert_eq!(say(&format!(r#"{{"type":1,"from":"{from}","rpcId":"{quotes}"}}"#), 1), Ok(()));
    let short = format!(r#"{{"type":1,"rpcId":"{quotes}"}}{}"#, " ".repeat(45));
    assert!((79..87).contains(&short.len()), "{}", short.len());
    assert_eq!(say(&short, 0), Err(Rejected::Unproven));
    assert_eq!(say(r#"{"type":2,"rpcId":"0a0b0c0d"}"#, 0), Err(Rejected::Unsolicited));
    assert_eq!(say(r#"{"type":4}"#, 0), Err(Rejected::Malformed));
    let where_ = "a4d9b31d31c6c5ee3c9b6b8bd3e3c0b1b2f5a6d7";
    assert_eq!(
        say(&format!(r#"{{"type":3,"key":"{where_}","value":"{}"}}"#, "x".repeat(5000)), 0),
        Err(Rejected::TooLarge)
    );
    assert_eq!(world.find(0, "where").as_deref(), Some("here"));
    let full = (0..100).map(|at| world.nodes[0].1.put(&at.to_string(), "x", world.now)).find_map(Result::err);
    assert_eq!(full, Some(StoreError::Full { limit: 64 }));
}

/// What an existing node says to one of ours, and what it is told.
struct Stranger<'a> {
    node: &'a mut Dht,
    addr: SocketAddrV4,
    now: Instant,
}

impl Stranger<'_> {
    const ID: &'static str = "00112233445566778899aabbccddeeff00112233";

    fn say(&mut self, message: &Value) -> Vec<Value> {
        let path = Path::udp(([10, 0, 0, 1], 4000).into(), self.addr.into());
        let mut bytes = message.to_string().into_bytes();
        assert_eq!(self.node.handle_datagram(Datagram::new(path, &mut bytes), self.now), Ok(()), "{message}");
        let (mut out, mut answers) = (TransmitBuf::new(1), Vec::new());
        while let Some(transmit) = self.node.poll_transmit(&mut out, self.now) {
            assert_eq!(transmit.path.remote, self.addr.into());
            answers.push(serde_json::from_slice(out.bytes()).unwrap());
            out.clear();
        }
        answers
    }
}

#[test]
fn existing_nodes_are_asked_and_answered_as_they_ask_and_answer() {
    let mut world = World::new(5);
    world.meet();
    world.nodes[0].1.put("where", "here", world.now).unwrap();
    world.run();
    let id = world.nodes[0].1.id();
    let mut them =
        Stranger { addr: SocketAddrV4::new([10, 0, 9, 9].into(), 9), now: world.now, node: &mut world.nodes[0].1 };
    let from = Stranger::ID;
    let find_node = json!({"type": 4, "from": from, "target": from, "rpcId": "0a0b0c0d"});
    // Asked by an address that proved nothing, it pings that before it answers.
    let asked = them.say(&find_node);
    let rpc = asked[0]["rpcId"].clone();
    assert_eq!(asked, [json!({"type": 1, "from": id, "rpcId": rpc})]);
    assert!(rpc.as_str().is_some_and(|rpc| rpc.len() == 8 && rpc.bytes().all(|digit| digit.is_ascii_hexdigit())));
    let named = them.say(&json!({"type": 2, "from": from, "rpcId": rpc}));
    let nodes = named[0]["nodes"].as_array().unwrap().clone();
    assert_eq!(named, [json!({"type": 5, "from": id, "nodes": nodes, "rpcId": "0a0b0c0d"})]);
    assert!(nodes.len() == 5 && nodes.iter().all(|node| node["id"].as_str().is_some_and(|id| id.len() == 40)));
    assert!(nodes.contains(&json!({"id": from, "ip": "10.0.9.9", "port": 9})), "who answered is known");
    let ping = json!({"type": 1, "from": from, "rpcId": "01020304"});
    assert_eq!(them.say(&ping), [json!({"type": 2, "from": id, "rpcId": "01020304"})]);

    let find = |key: &str| json!({"type": 6, "from": from, "key": key, "rpcId": "05060708"});
    let found = |value: Value| [json!({"type": 7, "from": id, "value": value, "rpcId": "05060708"})];
    assert_eq!(them.say(&find("d16d74303205ee1884bba2395511c1f66af12d14"))[0]["type"], 5, "nobody has it");
    assert_eq!(them.say(&find("46148cc3b4d2b3ac8073f14b0cba7f25ffff54bd")), found(json!("here")));
    // Nobody confirms a STORE. As among themselves, one takes the place of the one before; what we put stays.
    let store = |key: &str, value: Value| json!({"type": 3, "from": from, "key": key, "value": value});
    for value in [json!("first"), json!({"id": from, "ip": null, "port": [1, 2]})] {
        assert_eq!(them.say(&store("d16d74303205ee1884bba2395511c1f66af12d14", value.clone())), [Value::Null; 0]);
        assert_eq!(them.say(&find("d16d74303205ee1884bba2395511c1f66af12d14")), found(value));
    }
    assert_eq!(them.say(&store("46148cc3b4d2b3ac8073f14b0cba7f25ffff54bd", json!("elsewhere"))), [Value::Null; 0]);
    assert_eq!(them.say(&find("46148cc3b4d2b3ac8073f14b0cba7f25ffff54bd")), found(json!("here")));
}

/// Two nodes, of which the first meets the second.
struct Pair;

impl Subject for Pair {
    type Machine = Dht;

    fn fresh(&self, seed: Seed, [to_b, _]: [Path; 2], now: Instant) -> [Dht; 2] {
        let [mut a, b] = ["a", "b"].map(|name| Dht::new(&seed.fork(name), now));
        let std::net::SocketAddr::V4(b_addr) = to_b.remote else { panic!("IPv4") };
        a.meet(b_addr, now);
        [a, b]
    }

    fn command(&self, node: &mut Dht, op: u64, now: Instant) -> Reply {
        let key = format!("key {}", op >> 8 & 7);
        let done = match op % 3 {
            0 => node.put(&key, &"x".repeat((op >> 16) as usize % 6000), now).map(drop),
            _ if node.is_closed() => Err(StoreError::Closed),
            _ => node.find(&key, now).map(drop).ok_or(StoreError::Empty),
        };
        match done {
            Ok(()) => Reply::Done,
            Err(StoreError::Closed) => Reply::Closed,
            Err(_) => Reply::Refused,
        }
    }

    fn close(&self, node: &mut Dht, _: Instant) {
        node.shutdown();
    }

    fn is_closed(&self, node: &Dht) -> bool {
        node.is_closed()
    }

    fn buffered_bytes(&self, node: &Dht) -> usize {
        node.buffered_bytes()
    }

    fn buffered_limit(&self, _: &Dht) -> usize {
        3 << 20
    }
}

#[test]
fn a_node_of_the_table_keeps_the_laws_of_machines() {
    check_all(&Pair, [1, 2]).unwrap_or_else(|violation| panic!("{violation}"));
}
