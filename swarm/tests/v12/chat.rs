//! Meeting and talking.

use std::time::Duration;

use bytes::Bytes;
use sim::Link;
use swarm::v12::{Config, Event};
use swarm::{Proof, TopicId};

use crate::support::{connect, dial, messages, peer_id, world};

#[test]
fn a_dial_connects_both_sides_with_proved_keys() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids, 1);
    assert!(world.elapsed() < Duration::from_millis(300), "{:?}", world.elapsed());
    for (id, other) in [(ids[0], 1), (ids[1], 0)] {
        let peers = world.get(id).unwrap().peers();
        assert_eq!((peers.len(), peers[0].id, peers[0].proof), (1, peer_id(other), Proof::Key));
    }
    assert!(world.events(ids[0]).iter().any(|e| matches!(e.event, Event::Dialled { peer, .. } if peer == peer_id(1))));
}

#[test]
fn nodes_of_a_topic_meet_on_the_local_network_and_others_do_not() {
    let (mut world, ids) = world(3, Link::lan(), &Config::default());
    for (index, topic) in ["room", "room", "other"].into_iter().enumerate() {
        world.with(ids[index], |node, now| node.join(topic.into(), true, true, now)).unwrap().unwrap();
    }
    connect(&mut world, &ids[..2], 1);
    assert!(world.elapsed() < Duration::from_secs(1), "{:?}", world.elapsed());
    world.run_for(Duration::from_secs(20));
    assert!(world.get(ids[2]).unwrap().peers().is_empty());
}

#[test]
fn every_joined_topic_is_announced() {
    let (mut world, ids) = world(3, Link::lan(), &Config::default());
    for (index, topic) in [(0, "one"), (0, "two"), (1, "one"), (2, "two")] {
        world.with(ids[index], |node, now| node.join(TopicId::from_name(topic), true, true, now)).unwrap().unwrap();
    }
    connect(&mut world, &ids[..1], 2);
}

#[test]
fn messages_arrive_once_and_in_order_whatever_their_size() {
    let (mut world, ids) = world(2, Link::wan(), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids, 1);
    let sizes = [0, 3, 100, 1200, 1201, 5000, 60_000, 65_474];
    for (from, to) in [(0, 1), (1, 0)] {
        world.take_events(ids[to]);
        for (index, size) in sizes.into_iter().enumerate() {
            let data = Bytes::from(vec![index as u8; size]);
            world.with(ids[from], |node, now| node.send(&peer_id(to as u32), data, now)).unwrap().unwrap();
        }
        world.run_for(Duration::from_secs(3));
        let got: Vec<usize> = messages(&mut world, ids[to]).iter().map(Vec::len).collect();
        assert_eq!(got, sizes);
    }
}

#[test]
fn thousands_of_messages_one_way_lose_nothing_and_wait_for_room() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids, 1);
    let (mut sent, total) = (0_u32, 2_000_u32);
    let start = world.elapsed();
    while sent < total {
        let before = sent;
        world.with(ids[0], |node, now| {
            while sent < total && node.send(&peer_id(1), Bytes::from(sent.to_be_bytes().repeat(256)), now).is_ok() {
                sent += 1;
            }
        });
        let full = sent < total;
        assert!(sent > before || full);
        world.run_for(Duration::from_millis(5));
        assert!(world.elapsed() - start < Duration::from_secs(60), "stuck at {sent}");
    }
    world.run_for(Duration::from_secs(2));
    let got = messages(&mut world, ids[1]);
    assert_eq!(got.len(), total as usize);
    assert!(got.iter().enumerate().all(|(index, data)| data[..4] == (index as u32).to_be_bytes()));
    assert_eq!(world.get(ids[1]).unwrap().stats().rejected.total(), 0);
}

#[test]
fn a_message_floods_through_a_line_of_nodes_and_arrives_once() {
    let (mut world, ids) = world(5, Link::lan(), &Config::default());
    for pair in ids.windows(2) {
        dial(&mut world, pair[0], pair[1]);
    }
    connect(&mut world, &ids, 1);
    connect(&mut world, &ids[1..4], 2);
    for text in ["same", "same", "other"] {
        world.with(ids[0], |node, now| node.broadcast(Bytes::from(text), now)).unwrap().unwrap();
        world.run_for(Duration::from_millis(200));
    }
    world.run_for(Duration::from_secs(1));
    for id in &ids[1..] {
        assert_eq!(messages(&mut world, *id), [b"same".to_vec(), b"same".to_vec(), b"other".to_vec()]);
    }
    assert!(messages(&mut world, ids[0]).is_empty(), "our own does not come back");
}

#[test]
fn a_shutdown_sends_what_waits_says_goodbye_and_ends() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids, 1);
    world.with(ids[0], |node, now| {
        for n in 0..50_u8 {
            node.send(&peer_id(1), Bytes::from(vec![n; 1000]), now).unwrap();
        }
        node.shutdown(now);
    });
    world.run_for(Duration::from_secs(1));
    assert!(world.get(ids[0]).unwrap().is_closed());
    assert!(world.events(ids[0]).iter().any(|e| e.event == Event::Closed { unsent: 0 }));
    assert!(world.events(ids[1]).iter().any(|e| matches!(e.event, Event::Disconnected { .. })));
    assert_eq!(messages(&mut world, ids[1]).len(), 50);
    assert_eq!(world.deadline(ids[0]), None);
}

#[test]
fn a_value_is_fetched_over_a_lossy_link() {
    let (mut world, ids) = world(2, Link::lan().loss(0.2), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids, 1);
    let value = Bytes::from((0..200_000_u32).map(|n| (n * 7 + n / 256) as u8).collect::<Vec<_>>());
    world.with(ids[0], |node, now| node.store("key".into(), value.clone(), now)).unwrap().unwrap();
    world.with(ids[1], |node, now| node.fetch("key".into(), Duration::from_secs(300), now)).unwrap().unwrap();
    let id = ids[1];
    let done = world.run_until(
        |world| world.events(id).iter().any(|e| matches!(e.event, Event::Fetched { .. })),
        Duration::from_secs(300),
    );
    assert!(done);
    let fetched = world.take_events(id).into_iter().find_map(|e| match e.event {
        Event::Fetched { result, .. } => Some(result),
        _ => None,
    });
    assert_eq!(fetched, Some(Ok(value)));
}
