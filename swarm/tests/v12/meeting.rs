//! How nodes meet, meet again, and part.

use bytes::Bytes;
use framing::v12::Kind;
use sim::{Addresses, Link, World};
use swarm::v12::{Config, Event};
use swarm::v12::{LAN_GROUP, Node};
use swarm::{DialError, DisconnectReason, SendError};

use crate::support::*;

fn line(count: usize, config: &Config) -> (World<Node>, Vec<sim::MachineId>) {
    let (mut world, ids) = world(count as u32, Link::lan(), config);
    for pair in ids.windows(2) {
        dial(&mut world, pair[0], pair[1]);
    }
    connect(&mut world, &ids[..1], 1);
    connect(&mut world, &ids[1..count - 1], 2);
    (world, ids)
}

#[test]
fn three_in_a_line_become_a_triangle_within_a_minute_or_when_told() {
    let (mut world, ids) = line(3, &Config::default());
    world.run_for(50 * SECOND);
    assert_eq!(degree_of(&world, ids[0]), 1);
    world.run_for(15 * SECOND);
    assert_eq!(ids.iter().map(|id| degree_of(&world, *id)).collect::<Vec<_>>(), [2, 2, 2]);

    let (mut world, ids) = line(3, &Config::default());
    world.run_for(SECOND);
    world.with(ids[1], |node, now| node.exchange_peers(Some(&peer_id(0)), now)).unwrap();
    world.run_for(SECOND);
    assert_eq!(ids.iter().map(|id| degree_of(&world, *id)).collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn peers_are_told_of_those_they_can_reach_and_that_are_alive() {
    // The middle one knows a host of its own network, one outside, and one that has died.
    let mut world = World::new(crypto::Seed::fixed(1)).link(Link::lan());
    let mut at = |index, addr: &str| {
        let id = world.add_at(crate::support::addr(addr), |birth| {
            node(index, Config::default(), birth.seed, birth.epoch, birth.now, birth.addr)
        });
        (id, index)
    };
    let nodes = [at(0, "10.0.0.1:4000"), at(1, "10.0.0.2:4000"), at(2, "20.0.0.1:4000"), at(3, "10.0.0.4:4000")];
    for (id, _) in &nodes[1..] {
        dial(&mut world, *id, nodes[0].0);
    }
    connect(&mut world, &[nodes[0].0], 3);
    world.kill(nodes[3].0);
    world.run_for(20 * SECOND);
    world.capture(1 << 20);
    world.with(nodes[0].0, |node, now| node.exchange_peers(None, now)).unwrap();
    world.run_for(5 * SECOND);
    // The one inside is told of the one outside. The reverse is nobody's business, and the dead are not spoken of.
    let dialled: Vec<_> = hellos(&world).into_keys().collect();
    assert!(dialled.contains(&addr("20.0.0.1:4000")), "{dialled:?}");
    assert!(!dialled.contains(&addr("10.0.0.4:4000")), "{dialled:?}");
    let lists: Vec<_> = world
        .captured()
        .iter()
        .filter(|captured| captured.to == addr("20.0.0.1:4000"))
        .filter(|captured| captured.payload.windows(8).any(|bytes| bytes == b"10.0.0.2"))
        .collect();
    assert!(lists.is_empty(), "{lists:?}");
}

#[test]
fn a_relay_introduces_two_that_know_only_it() {
    let config = Config::default();
    let mut world = World::new(crypto::Seed::fixed(1)).link(Link::lan()).addresses(Addresses::Public);
    let relay = add(&mut world, 0, &config.clone().relay(true));
    let ids = [add(&mut world, 1, &config), add(&mut world, 2, &config)];
    let ask = |world: &mut World<Node>| {
        world.with(ids[0], |node, now| node.request_introduction(identity(2).wire_id(), now)).unwrap()
    };
    assert!(!ask(&mut world), "no relay is known");
    for id in ids {
        dial(&mut world, id, relay);
    }
    connect(&mut world, &ids, 1);
    world.capture(1 << 22);
    world.run_for(31 * SECOND);
    assert!(ask(&mut world));
    world.run_for(2 * SECOND);
    assert_eq!(ids.map(|id| degree_of(&world, id)), [2, 2]);
    let before = announcements(&world, relay);
    world.run_for(60 * SECOND);
    assert_eq!(announcements(&world, relay) - before, 4, "each of two is told each 30 s");
    // The relay goes, and with it the way to ask.
    world.with(relay, |node, now| node.abort(now));
    world.run_for(SECOND);
    assert!(!ask(&mut world));
}

/// Announcements of a relay, alone or in a BATCH.
fn announcements(world: &World<Node>, relay: sim::MachineId) -> usize {
    let from = world.addr(relay).unwrap();
    let ip = from.ip().to_string();
    let mark =
        [&[Kind::RelayAnn.byte()][..], identity(0).wire_id().as_bytes(), &[ip.len() as u8], ip.as_bytes()].concat();
    let found = |payload: &[u8]| payload.windows(mark.len()).any(|window| window == mark);
    world.captured().iter().filter(|one| one.from == from && found(&one.payload)).count()
}

#[test]
fn announcing_and_looking_up_are_two_things() {
    for (announce, lookup, meet) in [(false, true, false), (true, false, false), (true, true, true)] {
        let (mut world, ids) = world(2, Link::lan(), &Config::default());
        for id in &ids {
            world.with(*id, |node, now| node.join("room".into(), announce, lookup, now)).unwrap().unwrap();
        }
        world.run_for(12 * SECOND);
        assert_eq!(degree_of(&world, ids[0]) == 1, meet, "announce {announce}, lookup {lookup}");
    }
    // One of each kind suffices.
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    world.with(ids[0], |node, now| node.join("room".into(), true, false, now)).unwrap().unwrap();
    world.with(ids[1], |node, now| node.join("room".into(), false, true, now)).unwrap().unwrap();
    connect(&mut world, &ids, 1);
}

#[test]
fn beacons_leave_every_five_seconds_until_the_topic_is_left() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    world.capture(1 << 20);
    let beacons = |world: &World<Node>| {
        world.captured().iter().filter(|captured| captured.to == LAN_GROUP.into()).map(|one| one.at).collect::<Vec<_>>()
    };
    world.with(ids[0], |node, now| node.join("room".into(), true, true, now)).unwrap().unwrap();
    world.run_for(ms(16_500));
    assert_eq!(beacons(&world), [ms(0), ms(1000), ms(6000), ms(11_000), ms(16_000)]);
    world.with(ids[0], |node, now| node.leave(&"room".into(), now)).unwrap();
    world.run_for(60 * SECOND);
    assert_eq!(beacons(&world).len(), 5);
    assert_eq!(world.deadline(ids[0]), None);
    let (mut world, ids) = crate::support::world(1, Link::lan(), &Config::default().lan(false));
    world.capture(1 << 20);
    world.with(ids[0], |node, now| node.join("room".into(), true, true, now)).unwrap().unwrap();
    world.run_for(60 * SECOND);
    assert!(world.captured().is_empty());
}

#[test]
fn dialling_each_other_at_once_makes_one_session() {
    let (mut world, ids) = world(2, Link::wan(), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    dial(&mut world, ids[1], ids[0]);
    // Twice does no harm: both end with the same peer.
    dial(&mut world, ids[0], ids[1]);
    world.run_for(3 * SECOND);
    for (id, other, dials) in [(ids[0], 1, 2), (ids[1], 0, 1)] {
        let events: Vec<_> = world.take_events(id).into_iter().map(|timed| timed.event).collect();
        let connected = events.iter().filter(|event| matches!(event, Event::Connected { .. })).count();
        let dialled = |event: &&Event| matches!(event, Event::Dialled { peer, .. } if *peer == peer_id(other));
        assert_eq!((connected, events.iter().filter(dialled).count()), (1, dials), "{events:?}");
        assert_eq!(world.get(id).unwrap().stats().half_open, 0);
    }
    dial(&mut world, ids[0], ids[1]);
    assert!(has(&world, ids[0], |event| matches!(event, Event::Dialled { .. })), "known already");
    for (from, to) in [(0, 1), (1, 0)] {
        say(&mut world, ids[from], to, "hello");
        world.run_for(SECOND);
        assert_eq!(messages(&mut world, ids[to as usize]).len(), 1);
    }
}

#[test]
fn a_peer_with_two_addresses_is_one_peer() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    let second = addr("10.0.5.5:4000");
    world.add_addr(ids[1], second);
    dial(&mut world, ids[0], ids[1]);
    world.with(ids[0], |node, now| node.dial(second, now)).unwrap().unwrap();
    world.run_for(10 * SECOND);
    let dialled = |event: &Event| matches!(event, Event::Dialled { peer, .. } if *peer == peer_id(1));
    assert_eq!(world.events(ids[0]).iter().filter(|timed| dialled(&timed.event)).count(), 2);
    assert_eq!((degree_of(&world, ids[0]), degree_of(&world, ids[1])), (1, 1));
    world.take_events(ids[0]);
    world.take_events(ids[1]);
    for (from, to) in [(0, 1), (1, 0)] {
        say(&mut world, ids[from], to, "hello");
        world.run_for(SECOND);
        assert_eq!(messages(&mut world, ids[to as usize]).len(), 1);
    }
}

#[test]
fn a_dial_of_nobody_ends_after_eight_hellos() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    world.capture(1 << 20);
    let target = addr("10.1.1.1:4000");
    let id = world.with(ids[0], |node, now| node.dial(target, now)).unwrap().unwrap();
    let failed = wait(&mut world, ids[0], 20 * SECOND, |event| match event {
        Event::DialFailed { id: failed, error } if *failed == id => Some(error.clone()),
        _ => None,
    });
    let (at, error) = failed.expect("an end");
    assert_eq!(error, DialError::NoAnswer { addr: target, after: at });
    assert_eq!((at, hellos(&world).get(&target)), (ms(8700), Some(&8)));
    assert_eq!(world.deadline(ids[0]), None);
}

#[test]
fn addresses_of_nobody_are_refused() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    for target in ["0.0.0.0:1", "224.0.0.1:5", "255.255.255.255:5", "10.0.0.9:0"] {
        let result = world.with(ids[0], |node, now| node.dial(addr(target), now)).unwrap();
        assert_eq!(result, Err(DialError::BadAddress { addr: addr(target) }));
    }
    let result = world.with(ids[0], |node, now| node.dial(addr("[2001:db8::1]:4000"), now)).unwrap();
    assert_eq!(result, Err(DialError::Unsupported { addr: addr("[2001:db8::1]:4000") }));
    for n in 0..64 {
        world.with(ids[0], |node, now| node.dial(Addresses::Private.at(100 + n), now)).unwrap().unwrap();
    }
    let result = world.with(ids[0], |node, now| node.dial(addr("10.0.0.99:4000"), now)).unwrap();
    assert_eq!(result, Err(DialError::TooMany { limit: 64 }));
}

#[test]
fn who_was_disconnected_is_told_and_can_come_back() {
    let (mut world, ids) = friends(2, &Config::default());
    let unsent = world.with(ids[0], |node, now| node.disconnect(&peer_id(1), now)).unwrap();
    assert_eq!(unsent, 0);
    world.run_for(SECOND);
    let gone = |reason| move |event: &Event| matches!(event, Event::Disconnected { reason: r, .. } if *r == reason);
    assert!(has(&world, ids[0], gone(DisconnectReason::Local)));
    assert!(has(&world, ids[1], gone(DisconnectReason::Goodbye(0))));
    let refused = world.with(ids[0], |node, now| node.send(&peer_id(1), "x".into(), now)).unwrap();
    assert_eq!(refused, Err(SendError::NotConnected { peer: peer_id(1) }));
    world.run_for(SECOND);
    dial(&mut world, ids[1], ids[0]);
    connect(&mut world, &ids, 1);
    world.take_events(ids[1]);
    say(&mut world, ids[0], 1, "again");
    world.run_for(SECOND);
    assert_eq!(messages(&mut world, ids[1]), [b"again".to_vec()]);
}

#[test]
fn who_comes_at_the_same_moment_and_finds_no_room_is_told() {
    let (mut world, ids) = world(4, Link::lan(), &Config::default().max_peers(2.try_into().unwrap()));
    for from in &ids[1..] {
        dial(&mut world, *from, ids[0]);
    }
    world.run_for(5 * SECOND);
    assert_eq!(degree_of(&world, ids[0]), 2);
    assert_eq!(ids[1..].iter().filter(|id| degree_of(&world, **id) == 1).count(), 2);
    let told = |event: &Event| matches!(event, Event::Disconnected { reason: DisconnectReason::Goodbye(4), .. });
    assert_eq!(ids[1..].iter().filter(|id| has(&world, **id, told)).count(), 1);
}

#[test]
fn a_node_that_is_full_takes_nobody_and_dials_nobody() {
    let (mut world, ids) = world(4, Link::lan(), &Config::default().max_peers(2.try_into().unwrap()));
    for from in &ids[1..3] {
        dial(&mut world, *from, ids[0]);
    }
    connect(&mut world, &ids[..1], 2);
    dial(&mut world, ids[3], ids[0]);
    world.run_for(15 * SECOND);
    assert_eq!(degree_of(&world, ids[0]), 2);
    let failed = |event: &Event| matches!(event, Event::DialFailed { error: DialError::NoAnswer { .. }, .. });
    assert!(has(&world, ids[3], failed));
    let target = world.addr(ids[3]).unwrap();
    let refused = world.with(ids[0], |node, now| node.dial(target, now)).unwrap();
    assert_eq!(refused, Err(DialError::Full { limit: 2 }));
}

/// Kills node 1 and starts it again, at the same or at another address, with the same or another key.
fn restart(same_address: bool, same_key: bool, survivor_dials: bool) {
    let config = Config::default().persistent_identity(true);
    let (mut world, ids) = friends(2, &config);
    for n in 0..5 {
        say(&mut world, ids[0], 1, format!("before {n}"));
        say(&mut world, ids[1], 0, format!("earlier {n}"));
    }
    world.run_for(5 * SECOND);
    world.take_events(ids[0]);
    world.kill(ids[1]);
    world.run_for(ms(700));
    let index = if same_key { 1 } else { 9 };
    let build = |birth: sim::world::Birth| node(index, config.clone(), birth.seed, birth.epoch, birth.now, birth.addr);
    let again = if same_address {
        world.restart(ids[1], build);
        ids[1]
    } else {
        world.add_at(addr("10.0.0.77:4000"), build)
    };
    world.take_events(again);
    let start = world.elapsed();
    if survivor_dials {
        dial(&mut world, ids[0], again);
    } else {
        dial(&mut world, again, ids[0]);
    }
    let context = format!("same address {same_address}, same key {same_key}, survivor dials {survivor_dials}");
    connect(&mut world, &[again], 1);
    let took = world.elapsed() - start;
    let most = if same_key && !survivor_dials { ms(500) } else { 5 * SECOND };
    assert!(took <= most, "{context}: {took:?}");
    let (to_again, to_survivor) = (Bytes::from("to the new one"), Bytes::from("to the old one"));
    for n in 0..3 {
        let (text, id) = ([&to_again[..], &[n]].concat(), peer_id(index));
        let end = world.elapsed() + 2 * SECOND;
        while world.with(ids[0], |node, now| node.send(&id, text.clone().into(), now)).unwrap().is_err() {
            assert!(world.elapsed() < end, "{context}: the survivor does not know the new one");
            world.run_for(ms(10));
        }
        let text = [&to_survivor[..], &[n]].concat();
        world.with(again, |node, now| node.send(&peer_id(0), text.into(), now)).unwrap().unwrap();
    }
    world.run_for(3 * SECOND);
    assert_eq!(messages(&mut world, again).len(), 3, "{context}: to the new one");
    assert_eq!(messages(&mut world, ids[0]).len(), 3, "{context}: to the survivor");
    assert_eq!(degree_of(&world, ids[0]), if same_key || same_address { 1 } else { 2 }, "{context}");
}

#[test]
fn a_node_that_restarts_with_its_key_is_heard_and_hears_at_once() {
    for same_address in [true, false] {
        restart(same_address, true, false);
    }
}

#[test]
fn a_node_that_restarts_elsewhere_with_its_key_can_be_dialled() {
    restart(false, true, true);
}

#[test]
fn a_node_that_restarts_with_another_key_takes_over_its_address() {
    restart(true, false, false);
    restart(false, false, false);
    restart(false, false, true);
}

#[test]
fn a_peer_that_moves_is_followed() {
    let (mut world, ids) = friends(2, &Config::default());
    let moved = addr("10.0.9.9:5555");
    world.move_to(ids[1], moved);
    say(&mut world, ids[1], 0, "from elsewhere");
    world.run_for(SECOND);
    assert_eq!(messages(&mut world, ids[0]), [b"from elsewhere".to_vec()]);
    assert_eq!(world.get(ids[0]).unwrap().peers()[0].addr, moved);
    say(&mut world, ids[0], 1, "back");
    world.run_for(SECOND);
    assert_eq!(messages(&mut world, ids[1]), [b"back".to_vec()]);
}
