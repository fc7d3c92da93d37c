//! How a node ends, what it holds when nobody listens, and that a run can be repeated.

use bytes::Bytes;
use sim::{Link, World};
use structs::{Machine, TransmitBuf};
use swarm::v12::Node;
use swarm::v12::{Config, Event};
use swarm::{DialError, FetchError, JoinError, SendError, StoreError};

use crate::support::*;

#[test]
fn a_shutdown_gives_up_on_a_dead_peer_at_its_limit_and_counts_what_did_not_leave() {
    let limit = ms(1234);
    let (mut world, ids) = friends(3, &Config::default().drain_timeout(limit).flood(false));
    world.kill(ids[1]);
    world.with(ids[0], |node, now| {
        for _ in 0..1000 {
            node.send(&peer_id(1), Bytes::from(vec![1; 1000]), now).unwrap();
        }
        for _ in 0..50 {
            node.send(&peer_id(2), Bytes::from(vec![2; 1000]), now).unwrap();
        }
        node.shutdown(now);
    });
    let start = world.elapsed();
    let (at, unsent) = wait(&mut world, ids[0], 10 * SECOND, |event| match event {
        Event::Closed { unsent } => Some(*unsent),
        _ => None,
    })
    .expect("an end");
    assert_eq!(at - start, limit);
    assert!((500..1000).contains(&unsent), "{unsent}");
    assert_eq!(messages(&mut world, ids[2]).len(), 50);
}

#[test]
fn an_endless_limit_is_no_trouble() {
    let (mut world, ids) = friends(2, &Config::default().drain_timeout(std::time::Duration::MAX));
    say(&mut world, ids[0], 1, "last words");
    world.with(ids[0], Node::shutdown).unwrap();
    world.run_for(SECOND);
    assert!(world.get(ids[0]).unwrap().is_closed());
    assert_eq!(messages(&mut world, ids[1]), [b"last words".to_vec()]);
}

#[test]
fn what_has_ended_is_silent_and_says_so() {
    for abort in [true, false] {
        let (mut world, ids) = friends(2, &Config::default());
        world.with(ids[0], |node, now| node.join("room".into(), true, true, now)).unwrap().unwrap();
        let fetch = world.with(ids[0], |node, now| node.fetch("key".into(), SECOND, now)).unwrap().unwrap();
        let dial = world.with(ids[0], |node, now| node.dial(addr("10.3.3.3:4000"), now)).unwrap().unwrap();
        world.with(ids[0], |node, now| if abort { node.abort(now) } else { node.shutdown(now) }).unwrap();
        world.run_for(3 * SECOND);
        assert!(world.get(ids[0]).unwrap().is_closed());
        // Everything that was begun has an end, and the last event is the end of all.
        assert!(has(&world, ids[0], |event| {
            matches!(event, Event::Fetched { id, result: Err(FetchError::Closed) } if *id == fetch)
        }));
        assert!(has(&world, ids[0], |event| {
            matches!(event, Event::DialFailed { id, error: DialError::Closed } if *id == dial)
        }));
        assert!(matches!(world.events(ids[0]).last().unwrap().event, Event::Closed { unsent: 0 }));
        assert_eq!(world.deadline(ids[0]), None);
        let sent = world.traffic_of(ids[0]).sent.datagrams;
        let from = world.addr(ids[1]).unwrap();
        world.inject(ids[0], from, &hello(&identity(1)));
        world.inject(ids[0], addr("10.0.9.9:4000"), &hello(&identity(9)));
        world.run_for(120 * SECOND);
        assert_eq!(world.traffic_of(ids[0]).sent.datagrams, sent);
        world.with(ids[0], |node, now| {
            assert_eq!(node.dial(from, now), Err(DialError::Closed));
            assert_eq!(node.send(&peer_id(1), "x".into(), now), Err(SendError::Closed));
            assert_eq!(node.broadcast("x".into(), now), Err(SendError::Closed));
            assert_eq!(node.publish(&"room".into(), "x".into(), now), Err(SendError::Closed));
            assert_eq!(node.join("room".into(), true, true, now), Err(JoinError::Closed));
            assert_eq!(node.store("k".into(), "v".into(), now), Err(StoreError::Closed));
            assert_eq!(node.fetch("k".into(), SECOND, now), Err(FetchError::Closed));
            assert_eq!(node.disconnect(&peer_id(1), now), 0);
            node.shutdown(now);
            node.abort(now);
        });
        world.run_for(SECOND);
        assert_eq!(world.traffic_of(ids[0]).sent.datagrams, sent);
    }
}

/// A node whose application takes events only when it is let to, and a peer that sends all it can.
struct Deaf {
    world: World<Node>,
    ids: Vec<sim::MachineId>,
    /// The deaf node: not in the world, which would take its events.
    node: Node,
    out: TransmitBuf,
    sent: u32,
    refused: u32,
}

impl Deaf {
    fn new() -> Self {
        let mut world = World::new(crypto::Seed::fixed(1)).link(Link::perfect());
        let mut node = None;
        let seat = world.add(|birth| {
            let deaf = crate::support::node(0, Config::default(), birth.seed, birth.epoch, birth.now, birth.addr);
            node = Some(deaf);
            // Somebody has to stand for it in the world; it is never used.
            crate::support::node(99, Config::default(), crypto::Seed::fixed(9), birth.epoch, birth.now, birth.addr)
        });
        let sender = add(&mut world, 1, &Config::default());
        world.kill(seat);
        let deaf = Self {
            world,
            ids: vec![seat, sender],
            node: node.expect("built"),
            out: TransmitBuf::new(16),
            sent: 0,
            refused: 0,
        };
        deaf.met()
    }

    fn met(mut self) -> Self {
        let addr = self.world.addr(self.ids[1]).unwrap();
        let now = self.world.now();
        self.node.dial(addr, now).unwrap();
        for _ in 0..100 {
            self.step();
        }
        assert_eq!(self.node.peers().len(), 1);
        self
    }

    /// A millisecond: the sender's datagrams reach the deaf node and the reverse.
    fn step(&mut self) {
        let (seat, sender) = (self.world.addr(self.ids[0]).unwrap(), self.world.addr(self.ids[1]).unwrap());
        self.world.run_for(ms(1));
        let now = self.world.now();
        let arrived: Vec<Vec<u8>> =
            self.world.captured().iter().filter(|one| one.to == seat).map(|one| one.payload.clone()).collect();
        self.world.capture(1 << 26);
        for mut payload in arrived {
            let path = structs::Path::udp(seat, sender);
            let datagram = structs::Datagram { path, ecn: structs::Ecn::NotEct, payload: &mut payload };
            let _ = self.node.handle_datagram(datagram, now);
        }
        if self.node.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            self.node.handle_timeout(now);
        }
        let mut leaving = Vec::new();
        while let Some(transmit) = self.node.poll_transmit(&mut self.out, now) {
            leaving.extend(self.out.segments(&transmit).map(<[u8]>::to_vec));
            self.out.clear();
        }
        for datagram in leaving {
            self.world.inject(self.ids[1], seat, &datagram);
        }
    }

    fn talk(&mut self, steps: u32, len: usize) {
        for _ in 0..steps {
            let (mut sent, mut refused) = (self.sent, 0);
            self.world.with(self.ids[1], |node, now| {
                for _ in 0..50 {
                    let mut text = sent.to_be_bytes().to_vec();
                    text.resize(len, 7);
                    match node.send(&peer_id(0), text.into(), now) {
                        Ok(()) => sent += 1,
                        Err(SendError::Full) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            self.sent = sent;
            self.refused += refused;
            self.step();
        }
    }
}

#[test]
fn an_application_that_does_not_listen_stops_its_senders_and_loses_nothing() {
    let mut deaf = Deaf::new();
    deaf.talk(700, 100);
    assert!(deaf.refused > 1_000, "the sender is told: {}", deaf.refused);
    let held = deaf.node.buffered_bytes();
    deaf.talk(150, 100);
    assert!(deaf.node.buffered_bytes() <= held + 100_000, "{held}, then {}", deaf.node.buffered_bytes());
    assert!(held < 40 << 20, "{held}");
    let sent = deaf.sent;
    // It listens again: everything that was accepted arrives, in order, or is reported as missing.
    let (mut got, mut missed) = (Vec::new(), 0);
    for _ in 0..20_000 {
        while let Some(event) = deaf.node.poll_event() {
            match event {
                Event::Message { data, .. } => got.push(u32::from_be_bytes(*data.first_chunk().unwrap())),
                Event::Missed { count, .. } => missed += count,
                _ => {}
            }
        }
        if got.len() as u64 + missed == u64::from(sent) {
            break;
        }
        deaf.step();
    }
    assert_eq!((got.len() as u64 + missed, got.is_sorted()), (u64::from(sent), true));
    assert_eq!(missed, 0, "nothing was lost on this network");
}

#[test]
fn a_node_ends_although_its_application_did_not_listen() {
    let mut deaf = Deaf::new();
    deaf.talk(700, 100);
    assert!(deaf.refused > 0);
    let now = deaf.world.now();
    deaf.node.abort(now);
    let mut closed = false;
    for _ in 0..1000 {
        deaf.step();
        // Events are taken after the transmits, and only timers bring the node back.
        while let Some(event) = deaf.node.poll_event() {
            closed |= matches!(event, Event::Closed { .. });
        }
        if deaf.node.poll_timeout().is_none() {
            break;
        }
    }
    assert!(closed && deaf.node.is_closed());
}

#[test]
fn hellos_cost_nothing_that_stays_while_nobody_listens() {
    let mut deaf = Deaf::new();
    deaf.talk(700, 100);
    let held = deaf.node.buffered_bytes();
    for n in 0..700_u32 {
        let identity = crypto::v12::Identity::from_seed(&n.to_be_bytes());
        let mut payload = hello(&identity);
        let path = structs::Path::udp(deaf.world.addr(deaf.ids[0]).unwrap(), sim::Addresses::Public.at(n));
        let datagram = structs::Datagram { path, ecn: structs::Ecn::NotEct, payload: &mut payload };
        let _ = deaf.node.handle_datagram(datagram, deaf.world.now());
        deaf.step();
    }
    let stats = deaf.node.stats();
    assert!(stats.half_open <= 64, "{}", stats.half_open);
    assert!(deaf.node.buffered_bytes() < held + 100_000);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let (mut world, ids) = world_seeded(6, Link::mobile(), &Config::default(), seed);
        for (index, id) in ids.iter().enumerate() {
            world.with(*id, |node, now| node.join("room".into(), true, true, now)).unwrap().unwrap();
            world.run_for(ms(300));
            if index > 0 {
                broadcast(&mut world, ids[index / 2], format!("message {index}"));
            }
        }
        world.run_for(10 * SECOND);
        world.with(ids[0], |node, now| node.store("key".into(), vec![1; 5000].into(), now)).unwrap().unwrap();
        world.with(ids[5], |node, now| node.fetch("key".into(), SECOND, now)).unwrap().unwrap();
        world.run_for(5 * SECOND);
        let met: usize = ids.iter().map(|id| degree_of(&world, *id)).sum();
        (world.trace_hash(), met)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).0, run(4).0);
    assert!(run(3).1 >= 20, "they did meet");
}
