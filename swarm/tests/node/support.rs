//! A world of nodes.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use crypto::Seed;
use crypto::v12::Identity;
use sim::{Link, MachineId, World};
use structs::Epoch;
use swarm::node::{LAN_GROUP, Node};
use swarm::{Config, Event, PeerId};

/// A world of `count` nodes with identities of their own, all on one link.
pub fn world(count: u32, link: Link, config: &Config) -> (World<Node>, Vec<MachineId>) {
    world_seeded(count, link, config, 1)
}

pub fn world_seeded(count: u32, link: Link, config: &Config, seed: u64) -> (World<Node>, Vec<MachineId>) {
    let mut world = World::new(Seed::fixed(seed)).link(link);
    let ids = (0..count).map(|index| add(&mut world, index, config)).collect();
    (world, ids)
}

pub fn identity(index: u32) -> Identity {
    Identity::from_seed(format!("node {index}").as_bytes())
}

pub fn peer_id(index: u32) -> PeerId {
    PeerId::from_bytes(*identity(index).public().as_bytes())
}

pub fn add(world: &mut World<Node>, index: u32, config: &Config) -> MachineId {
    let config = config.clone();
    let id = world.add(|birth| node(index, config, birth.seed, birth.epoch, birth.now, birth.addr));
    world.join_group(id, LAN_GROUP.into());
    id
}

pub fn node(index: u32, config: Config, seed: Seed, epoch: Epoch, now: Instant, addr: SocketAddr) -> Node {
    let mut node = Node::new(config, identity(index), seed, epoch);
    node.set_local_addresses(&[v4(addr)], now);
    node
}

pub fn v4(addr: SocketAddr) -> SocketAddrV4 {
    match addr {
        SocketAddr::V4(addr) => addr,
        SocketAddr::V6(_) => panic!("IPv4 only"),
    }
}

pub fn dial(world: &mut World<Node>, from: MachineId, to: MachineId) {
    let addr = world.addr(to).expect("an address");
    world.with(from, |node, now| node.dial(addr, now)).expect("alive").expect("a dial");
}

/// Runs until every one of `ids` is connected to `degree` others at least.
pub fn connect(world: &mut World<Node>, ids: &[MachineId], degree: usize) {
    let ids = ids.to_vec();
    let done = world.run_until(
        |world| ids.iter().all(|id| world.get(*id).is_some_and(|node| node.peers().len() >= degree)),
        Duration::from_secs(30),
    );
    assert!(done, "connected within 30 s");
}

pub fn messages(world: &mut World<Node>, id: MachineId) -> Vec<Vec<u8>> {
    let events = world.take_events(id);
    events
        .into_iter()
        .filter_map(|timed| match timed.event {
            Event::Message { data, .. } => Some(data.to_vec()),
            _ => None,
        })
        .collect()
}
