//! Flooding: through whom, and that every message arrives once.

use std::collections::BTreeSet;

use crypto::Seed;
use sim::{Link, MachineId, World};
use swarm::v12::Config;
use swarm::v12::Node;

use crate::support::*;

fn mesh_of(world: &World<Node>, id: MachineId) -> usize {
    world.get(id).unwrap().peers().iter().filter(|peer| peer.in_mesh).count()
}

#[test]
fn six_of_twenty_are_in_the_mesh_and_others_follow_when_they_die() {
    let (mut world, ids) = world(20, Link::lan(), &Config::default());
    introduce_all(&mut world, &ids);
    assert_eq!(ids.iter().map(|id| mesh_of(&world, *id)).collect::<BTreeSet<_>>(), [6].into());
    // All but two of the mesh of node 0 die.
    let mesh: Vec<_> = world.get(ids[0]).unwrap().peers().into_iter().filter(|peer| peer.in_mesh).collect();
    for peer in &mesh[2..] {
        world.kill(world.id_at(peer.addr).unwrap());
    }
    world.run_for(70 * SECOND);
    let peers = world.get(ids[0]).unwrap().peers();
    assert_eq!(peers.len(), 15);
    let size = peers.iter().filter(|peer| peer.in_mesh).count();
    assert!((4..=16).contains(&size), "{size}");
    let alive: Vec<MachineId> = world.ids().collect();
    broadcast(&mut world, alive[0], "still");
    world.run_for(SECOND);
    for id in &alive[1..] {
        assert_eq!(messages(&mut world, *id).len(), 1, "{id}");
    }
}

#[test]
fn the_mesh_keeps_within_its_bounds_and_takes_in_who_is_left() {
    let (mut world, ids) = world(24, Link::lan(), &Config::default());
    for id in &ids[1..] {
        dial(&mut world, *id, ids[0]);
    }
    connect(&mut world, &ids[..1], 23);
    let mut peers: Vec<_> = world.get(ids[0]).unwrap().peers().into_iter().map(|peer| peer.addr).collect();
    for _ in 0..10 {
        world.run_for(5 * SECOND);
        let size = mesh_of(&world, ids[0]);
        assert!((4..=16).contains(&size), "{size}");
    }
    // When most of them are gone, those that are left are taken in.
    peers.truncate(18);
    for peer in peers {
        world.kill(world.id_at(peer).unwrap());
    }
    world.run_for(65 * SECOND);
    assert_eq!((degree_of(&world, ids[0]), mesh_of(&world, ids[0])), (5, 5));
}

/// A connected graph in which nobody has more neighbours than a mesh has room for.
fn random_graph(count: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut rng = Seed::fixed(seed).fork("graph").rng();
    let mut below = |limit: usize| rng.below(limit as u64) as usize;
    let mut edges = BTreeSet::new();
    let mut degrees = vec![0; count];
    for node in 1..count {
        // A tree first.
        let mut other = below(node);
        while degrees[other] >= 5 {
            other = below(node);
        }
        edges.insert((other, node));
        degrees[other] += 1;
        degrees[node] += 1;
    }
    for _ in 0..count * 4 {
        let (a, b) = (below(count), below(count));
        let edge = (a.min(b), a.max(b));
        if a != b && degrees[a] < 6 && degrees[b] < 6 && edges.insert(edge) {
            degrees[a] += 1;
            degrees[b] += 1;
        }
    }
    edges.into_iter().collect()
}

#[test]
fn every_message_reaches_everybody_once() {
    for seed in 0..2 {
        let (mut world, ids) = world_seeded(20, Link::lan(), &Config::default(), seed);
        for (a, b) in random_graph(20, seed) {
            dial(&mut world, ids[a], ids[b]);
        }
        world.run_for(3 * SECOND);
        for id in &ids {
            world.take_events(*id);
        }
        for round in 0..3 {
            for (index, id) in ids.iter().enumerate() {
                // Every other one says what it said before.
                let round = if index % 2 == 0 { 0 } else { round };
                broadcast(&mut world, *id, format!("{index} in round {round}"));
            }
            world.run_for(SECOND);
        }
        for (index, id) in ids.iter().enumerate() {
            // A copy of one's own may come back round a circle: to the node it could be somebody else's saying.
            let own = format!("{index} in").into_bytes();
            let mut got: Vec<_> =
                messages(&mut world, *id).into_iter().filter(|text| !text.starts_with(&own)).collect();
            assert_eq!(got.len(), 19 * 3, "seed {seed}, node {index}");
            got.sort();
            got.dedup();
            let (repeated, fresh) = if index % 2 == 0 { (9, 10) } else { (10, 9) };
            assert_eq!(got.len(), repeated + 3 * fresh, "seed {seed}, node {index}");
        }
    }
}

#[test]
fn without_flooding_only_neighbours_hear() {
    let (mut world, ids) = world(3, Link::lan(), &Config::default().flood(false));
    dial(&mut world, ids[0], ids[1]);
    dial(&mut world, ids[1], ids[2]);
    connect(&mut world, &ids[1..2], 2);
    broadcast(&mut world, ids[0], "near");
    world.run_for(SECOND);
    assert_eq!((messages(&mut world, ids[1]).len(), messages(&mut world, ids[2]).len()), (1, 0));
}
