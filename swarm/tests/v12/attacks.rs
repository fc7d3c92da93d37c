//! What strangers, and whoever forges addresses, cannot do.

use std::time::Duration;

use bytes::Bytes;
use crypto::v12::{Identity, PublicKey};
use framing::v12::{Kind, encode};
use sim::{Addresses, Link};
use structs::Rejected;
use swarm::v12::{Config, Event};
use swarm::{DialError, Proof};

use crate::support::*;

fn nobody(index: u32) -> std::net::SocketAddr {
    Addresses::Public.at(1000 + index)
}

fn anybody(index: u32) -> Identity {
    Identity::from_seed(format!("anybody {index}").as_bytes())
}

fn is_news(event: &Event) -> bool {
    matches!(event, Event::Connected { .. } | Event::Message { .. } | Event::Disconnected { .. })
}

#[test]
fn a_flood_of_forged_hellos_connects_nobody_costs_little_and_keeps_nobody_out() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    world.capture(1 << 20);
    let reference = Raw::new("reference", addr("10.3.0.1:4000"), ids[0], 0);
    let mut peak = 0;
    for step in 0..1000 {
        let from = if step % 2 == 0 { addr("10.9.0.1:4000") } else { nobody(step) };
        world.inject(ids[0], from, &hello(&anybody(step)));
        world.run_for(ms(5));
        let stats = world.get(ids[0]).unwrap().stats();
        assert!(stats.half_open <= 65, "{}", stats.half_open);
        peak = peak.max(stats.buffered_bytes);
        if step == 400 {
            dial(&mut world, ids[1], ids[0]);
        }
    }
    assert!(peak < 32 * 1024, "{peak} bytes");
    assert_no_amplification(&world);
    let peers = world.get(ids[0]).unwrap().peers();
    assert_eq!(peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [peer_id(1)]);
    // One that has nothing to say takes a second to prove its address; it is not pushed out meanwhile.
    for step in 0..30 {
        reference.dial_step(&mut world, step);
        for forged in 0..20 {
            world.inject(ids[0], nobody(step * 20 + forged), &hello(&anybody(step * 20 + forged)));
            answer_pings(&mut world, &[&reference], ms(5));
        }
    }
    assert!(reference.is_connected(&world));
    world.run_for(20 * SECOND);
    let stats = world.get(ids[0]).unwrap().stats();
    assert_eq!((stats.half_open, stats.peers), (0, 2));
    let news = world.events(ids[0]).iter().filter(|timed| is_news(&timed.event)).count();
    assert_eq!(news, 2, "the two that are connected");
}

#[test]
fn keys_without_their_id_or_without_a_secret_lead_nowhere() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    world.capture(1 << 20);
    let forged = frame(|out| encode::hello(anybody(1).wire_id(), *anybody(2).public(), out));
    world.inject(ids[0], nobody(0), &forged);
    assert_eq!(world.rejected(ids[0]).of(Rejected::IdMismatch), 1);
    assert_eq!(world.get(ids[0]).unwrap().stats().half_open, 0);

    let mut low_order: Vec<[u8; 32]> = vec![[0; 32]];
    let mut one = [0; 32];
    one[0] = 1;
    low_order.push(one);
    // p - 1, p and p + 1 of the field, little endian.
    for last in [0xec, 0xed, 0xee] {
        let mut key = [0xff; 32];
        (key[0], key[31]) = (last, 0x7f);
        low_order.push(key);
    }
    for (index, key) in (1..).zip(low_order) {
        let key = PublicKey::from(key);
        world.inject(ids[0], nobody(index), &hello_of(key));
        // The shared secret of such a key is zero, so anybody could seal: nothing of it may open.
        let mut sealed = vec![Kind::Data.byte()];
        sealed.resize(64, 0);
        world.inject(ids[0], nobody(index), &sealed);
    }
    world.run_for(15 * SECOND);
    let node = world.get(ids[0]).unwrap();
    assert_eq!((node.stats().half_open, node.peers().len()), (0, 0));
    assert!(!has(&world, ids[0], |_| true), "{:?}", world.events(ids[0]));
    assert_no_amplification(&world);
}

/// Says HELLO in the name of somebody else and answers PINGs that it does not see at a fixed rate. Returns whether it
/// passed for having that address within half a minute.
fn blind(seed: u64, step: Duration) -> bool {
    let (mut world, ids) = world_seeded(1, Link::lan(), &Config::default(), seed);
    let (attacker, victim) = (addr("10.9.0.1:4000"), identity(7));
    let end = world.elapsed() + 30 * SECOND;
    let mut hello_at = world.elapsed();
    while world.elapsed() < end {
        if world.elapsed() >= hello_at {
            hello_at += 2 * SECOND;
            world.inject(ids[0], attacker, &hello(&victim));
        }
        world.inject(ids[0], attacker, &pong(&victim));
        world.run_for(step);
    }
    let connected = has(&world, ids[0], |event| matches!(event, Event::Connected { .. }));
    assert!(!has(&world, ids[0], |event| matches!(event, Event::Connected { proof: Proof::Key, .. })));
    connected
}

/// Blind answers hit with a small chance, and what passes is marked as `Proof::Address`. The bound of the tests is one
/// run of half a minute in ten.
#[test]
fn naming_a_key_and_answering_blindly_hardly_ever_passes() {
    let rates = [20, 60, 110, 200, 400];
    let runs: Vec<(u64, u64)> = (0..6).flat_map(|seed| rates.map(|rate| (seed, rate))).collect();
    let passed: Vec<_> = runs.iter().filter(|(seed, rate)| blind(*seed, ms(*rate))).collect();
    assert!(passed.len() <= 3, "seeds and rates that passed: {passed:?}");
}

#[test]
fn whoever_claims_a_key_first_does_not_keep_its_owner_out() {
    for direction in 0..3 {
        let (mut world, ids) = world(2, Link::lan(), &Config::default());
        let squatter = addr("10.9.0.1:4000");
        world.inject(ids[0], squatter, &hello(&identity(1)));
        match direction {
            0 => dial(&mut world, ids[1], ids[0]),
            1 => dial(&mut world, ids[0], ids[1]),
            _ => {
                for (id, announce) in [(ids[0], false), (ids[1], true)] {
                    world.with(id, |node, now| node.join("room".into(), announce, !announce, now)).unwrap().unwrap();
                }
            }
        }
        for _ in 0..10 {
            world.run_for(ms(100));
            world.inject(ids[0], squatter, &hello(&identity(1)));
        }
        let peers = world.get(ids[0]).unwrap().peers();
        assert_eq!(peers.len(), 1, "direction {direction}");
        assert_eq!((peers[0].addr, peers[0].proof), (world.addr(ids[1]).unwrap(), Proof::Key));
        let connected = world.events(ids[0]).iter().filter(|e| matches!(e.event, Event::Connected { .. })).count();
        assert_eq!(connected, 1);
        if direction == 1 {
            assert!(has(&world, ids[0], |e| matches!(e, Event::Dialled { peer, .. } if *peer == peer_id(1))));
        }
    }
}

#[test]
fn a_dial_survives_hellos_forged_in_the_name_of_its_target() {
    let (mut world, ids) = world(2, Link::perfect().delay(ms(50)), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    let target = world.addr(ids[1]).unwrap();
    for step in 0..40 {
        world.run_for(ms(10));
        // Not before the target answered: whoever answers a dial first is believed to be there until proof is due.
        if step > 10 {
            world.inject(ids[0], target, &hello(&anybody(step)));
        }
    }
    let dialled = wait(&mut world, ids[0], 12 * SECOND, |event| match event {
        Event::Dialled { peer, .. } => Some(*peer),
        Event::DialFailed { error, .. } => panic!("{error}"),
        _ => None,
    });
    assert_eq!(dialled.map(|(_, peer)| peer), Some(peer_id(1)));
}

#[test]
fn forged_hellos_between_friends_change_nothing() {
    let (mut world, ids) = friends(3, &Config::default().flood(false));
    let bob = world.addr(ids[1]).unwrap();
    for round in 0..30 {
        for key in [*identity(0).public(), *identity(2).public(), *anybody(round).public()] {
            // Our own HELLO, that of another friend, that of a stranger: all from Bob's address.
            world.inject(ids[0], bob, &hello_of(key));
            world.inject(ids[0], bob, &frame(|out| encode::hello_ack(crypto::v12::NodeId::of(&key).wire(), key, out)));
        }
        world.inject(ids[0], nobody(round), &hello(&identity(0)));
        world.inject(ids[0], nobody(round), &hello(&identity(1)));
        world.run_for(ms(100));
    }
    assert!(!has(&world, ids[0], is_news), "{:?}", world.events(ids[0]));
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        say(&mut world, ids[from], to as u32, format!("{from} to {to}"));
    }
    world.run_for(SECOND);
    for (to, expected) in [(0, 2), (1, 1), (2, 1)] {
        assert_eq!(messages(&mut world, ids[to]).len(), expected, "node {to}");
    }
}

#[test]
fn a_stranger_next_door_does_not_become_the_path_to_a_distant_friend() {
    let (mut world, ids) = world(2, Link::perfect().delay(ms(60)), &Config::default());
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids, 1);
    world.run_for(2 * SECOND);
    // He knows Bob's id and key, and answers faster than Bob.
    let near = Raw::of(identity(1), addr("10.9.0.1:4000"), ids[0], 0);
    world.take_events(ids[1]);
    let mut stolen = 0;
    for n in 0..100_u32 {
        for forged in [hello(&near.identity), ping(&near.identity), pong(&near.identity)] {
            near.say(&mut world, &forged);
        }
        let sent = answer_pings(&mut world, &[&near], ms(100));
        stolen += sent.iter().filter(|sent| **sent == (near.addr, Kind::Data.byte())).count();
        say(&mut world, ids[0], 1, format!("message {n}"));
    }
    world.run_for(SECOND);
    assert_eq!(stolen, 0);
    assert_eq!(messages(&mut world, ids[1]).len(), 100);
    let peers = world.get(ids[0]).unwrap().peers();
    assert_eq!((peers.len(), peers[0].addr), (1, world.addr(ids[1]).unwrap()));
}

#[test]
fn captured_packets_are_worth_nothing() {
    let (mut world, ids) = friends(2, &Config::default());
    let (alice, bob) = (world.addr(ids[0]).unwrap(), world.addr(ids[1]).unwrap());
    world.capture(1 << 22);
    for n in 0..20 {
        say(&mut world, ids[1], 0, format!("order {n}"));
        world.run_for(ms(20));
    }
    let captured: Vec<Vec<u8>> = world
        .captured()
        .iter()
        .filter(|one| one.from == bob && one.to == alice)
        .map(|one| one.payload.clone())
        .collect();
    assert_eq!(messages(&mut world, ids[0]).len(), 20);
    for from in [bob, addr("10.9.0.1:4000"), bob] {
        for datagram in &captured {
            world.inject(ids[0], from, datagram);
        }
        world.run_for(SECOND);
        // A HELLO could announce a restart, after which numbers begin anew.
        world.inject(ids[0], from, &hello(&identity(1)));
    }
    world.run_for(SECOND);
    assert!(world.rejected(ids[0]).of(Rejected::Replayed) >= 40, "{:?}", world.rejected(ids[0]));
    assert!(!has(&world, ids[0], is_news), "{:?}", world.events(ids[0]));
    assert_eq!(world.get(ids[0]).unwrap().peers()[0].addr, bob);
    say(&mut world, ids[1], 0, "after");
    say(&mut world, ids[0], 1, "back");
    world.run_for(SECOND);
    assert_eq!(messages(&mut world, ids[0]), [b"after".to_vec()]);
    assert_eq!(messages(&mut world, ids[1]), [b"back".to_vec()]);
}

#[test]
fn goodbyes_that_anybody_can_write_part_nobody() {
    let (mut world, ids) = friends(2, &Config::default());
    let bob = world.addr(ids[1]).unwrap();
    for n in 0..300_u32 {
        world.inject(ids[0], bob, &[0x0a, 0x00]);
        world.inject(ids[0], nobody(n), &[0x0a, 0x00]);
        world.run_for(ms(100));
    }
    say(&mut world, ids[0], 1, "still here");
    world.run_for(SECOND);
    assert!(!has(&world, ids[0], |event| matches!(event, Event::Disconnected { .. })));
    assert_eq!(messages(&mut world, ids[1]), [b"still here".to_vec()]);
}

#[test]
fn strangers_are_not_answered_and_nobody_is_dialled_on_their_word() {
    let (mut world, ids) = friends(2, &Config::default());
    world.with(ids[0], |node, now| node.store("key".into(), "mine".into(), now)).unwrap().unwrap();
    world.run_for(SECOND);
    world.capture(1 << 22);
    let mut stranger = Raw::new("stranger", addr("10.9.0.1:4000"), ids[0], 0);
    let frames = one_of_each(&mut stranger);
    for _ in 0..20 {
        for frame in frames.iter().filter(|frame| frame[0] != Kind::Hello.byte()) {
            stranger.say(&mut world, frame);
        }
        world.run_for(ms(100));
    }
    let answered = world.captured().iter().filter(|captured| captured.to == stranger.addr).count();
    assert_eq!(answered, 0);
    assert!(hellos(&world).is_empty(), "{:?}", hellos(&world));
    assert!(!has(&world, ids[0], |_| true), "{:?}", world.events(ids[0]));
    // Half an introduction changes nothing: the key is not proved.
    for frame in &frames {
        if frame[0] != Kind::Data.byte() {
            stranger.say(&mut world, frame);
        }
        world.run_for(ms(20));
    }
    world.run_for(SECOND);
    assert_no_amplification(&world);
    assert!(hellos(&world).is_empty(), "{:?}", hellos(&world));
    assert!(!has(&world, ids[0], |_| true), "{:?}", world.events(ids[0]));
}

#[test]
fn truncated_and_bent_frames_change_nothing_and_cost_nothing() {
    let (mut world, ids) = friends(2, &Config::default());
    let bob = world.addr(ids[1]).unwrap();
    let mut raw = Raw::of(identity(1), bob, ids[0], 0);
    let frames = one_of_each(&mut raw);
    world.capture(1 << 26);
    for frame in &frames {
        for len in 0..frame.len() {
            // A list of peers is a shorter one then.
            if frame[0] != Kind::Pex.byte() {
                world.inject(ids[0], bob, &frame[..len]);
            }
            world.inject(ids[0], nobody(len as u32), &frame[..len]);
        }
        for bit in 0..frame.len() * 8 {
            let mut bent = frame.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            world.inject(ids[0], nobody(bit as u32), &bent);
            // Bob may say where others are: what is bent into that is his word.
            if !matches!(Kind::of(bent[0]), Some(Kind::Pex | Kind::RelayFwd)) {
                world.inject(ids[0], bob, &bent);
            }
        }
        world.run_for(ms(10));
    }
    world.run_for(3 * SECOND);
    assert_no_amplification(&world);
    assert!(!has(&world, ids[0], is_news), "{:?}", world.events(ids[0]));
    say(&mut world, ids[1], 0, "unbent");
    world.run_for(SECOND);
    assert_eq!(messages(&mut world, ids[0]), [b"unbent".to_vec()]);
}

#[test]
fn batches_in_batches_are_not_unpacked() {
    let (mut world, ids) = friends(1, &Config::default());
    let mut raw = Raw::new("nester", addr("10.9.0.1:4000"), ids[0], 0);
    raw.connect(&mut world);
    world.take_events(ids[0]);
    // Three bytes of BATCH header a level: as many as a datagram holds.
    let mut nested = raw.message(b"innermost");
    while nested.len() + 4 <= 65_000 {
        let mut outer = vec![Kind::Batch.byte(), 1];
        outer.extend((nested.len() as u16).to_be_bytes());
        outer.extend(&nested);
        nested = outer;
    }
    assert!(nested.len() > 64_000);
    raw.say(&mut world, &nested);
    world.run_for(SECOND);
    assert!(!has(&world, ids[0], is_news));
    let plain = raw.message(b"next");
    let batch = frame(|out| encode::batch([plain.as_slice()], out).unwrap());
    raw.say(&mut world, &batch);
    world.run_for(SECOND);
    assert_eq!(messages(&mut world, ids[0]), [b"next".to_vec()]);
}

#[test]
fn peers_that_only_have_an_address_make_room_for_one_with_a_key() {
    let config = Config::default().max_peers(3.try_into().unwrap());
    let (mut world, ids) = world(1, Link::lan(), &config);
    let raw = |n: u32| Raw::new(&format!("raw {n}"), nobody(n), ids[0], 0);
    let idle: Vec<Raw> = (0..4).map(raw).collect();
    for raw in &idle[..3] {
        raw.connect_by_address(&mut world);
    }
    // A fourth of that kind finds no room, and pushes nobody out.
    for step in 0..30 {
        idle[3].dial_step(&mut world, step);
        answer_pings(&mut world, &idle.iter().collect::<Vec<_>>(), ms(100));
    }
    let connected = |world: &_| idle.iter().filter(|raw| raw.is_connected(world)).count();
    assert_eq!((connected(&world), idle[3].is_connected(&world)), (3, false));
    assert!(!has(&world, ids[0], |event| matches!(event, Event::Disconnected { .. })));
    for n in 10..13 {
        raw(n).connect(&mut world);
    }
    assert_eq!(connected(&world), 0);
    let evicted = |event: &Event| matches!(event, Event::Disconnected { reason: swarm::DisconnectReason::Evicted, .. });
    assert_eq!(world.events(ids[0]).iter().filter(|timed| evicted(&timed.event)).count(), 3);
    // Full of proved peers: not even an answer.
    world.capture(1 << 20);
    let late = raw(20);
    late.say(&mut world, &hello(&late.identity));
    world.run_for(SECOND);
    assert_eq!(world.captured().iter().filter(|captured| captured.to == late.addr).count(), 0);
    assert_eq!(degree_of(&world, ids[0]), 3);
    let refused = world.with(ids[0], |node, now| node.dial(nobody(99), now)).unwrap();
    assert_eq!(refused, Err(DialError::Full { limit: 3 }));
}

#[test]
fn numbers_that_look_like_json_neither_dial_nor_stop_what_follows() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    let mut raw = Raw::new("json", addr("10.9.0.1:4000"), ids[0], 0);
    raw.connect(&mut world);
    world.capture(1 << 20);
    for target in ["127.0.0.1", "224.0.0.1", "0.0.0.0", "example.org"] {
        let gossip = format!(r#"{{"_gossip":true,"id":"0707070707070707","ip":"{target}","port":9}}"#);
        let sealed = raw.seal(&[gossip.as_bytes()]);
        raw.say(&mut world, &sealed);
    }
    raw.seq = 0x7b00_0000;
    let first = raw.message(b"after a jump of two thousand million numbers");
    raw.say(&mut world, &first);
    world.run_for(SECOND);
    let second = raw.message(b"and one more");
    raw.say(&mut world, &second);
    world.run_for(SECOND);
    assert_eq!(texts(world.events(ids[0])).len(), 2);
    assert!(hellos(&world).is_empty());
}

#[test]
fn keys_of_values_are_bytes() {
    let (mut world, ids) = friends(2, &Config::default());
    let key = Bytes::from_static(&[0xff, 0xfe, 0x00, 0x80]);
    world.with(ids[0], |node, now| node.store(key.clone(), "value".into(), now)).unwrap().unwrap();
    world.with(ids[1], |node, now| node.fetch(key.clone(), SECOND, now)).unwrap().unwrap();
    let fetched = wait(&mut world, ids[1], SECOND, |event| match event {
        Event::Fetched { result, .. } => Some(result.clone()),
        _ => None,
    });
    assert_eq!(fetched.map(|(_, result)| result), Some(Ok("value".into())));
}

#[test]
fn values_are_taken_from_those_asked_only_and_never_replace_our_own() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    let mut raw = Raw::new("forger", addr("10.9.0.1:4000"), ids[0], 0);
    let chunk = |key: &[u8], value: &[u8]| frame(|out| encode::chunk(key, value, out).unwrap());
    world.with(ids[0], |node, now| node.store("own".into(), "true".into(), now)).unwrap().unwrap();
    raw.connect(&mut world);
    for key in ["own", "other"] {
        raw.say(&mut world, &chunk(key.as_bytes(), b"false"));
    }
    let fetch = |world: &mut sim::World<_>, key: &'static str| {
        world.with(ids[0], |node: &mut swarm::v12::Node, now| node.fetch(key.into(), SECOND, now)).unwrap().unwrap()
    };
    fetch(&mut world, "other");
    // A stranger knows the key, and is not who was asked.
    world.inject(ids[0], nobody(1), &chunk(b"other", b"forged"));
    world.run_for(2 * SECOND);
    fetch(&mut world, "own");
    // Asked for, but stored by ourselves before it comes.
    fetch(&mut world, "late");
    world.with(ids[0], |node, now| node.store("late".into(), "true".into(), now)).unwrap().unwrap();
    raw.say(&mut world, &chunk(b"late", b"false"));
    fetch(&mut world, "late");
    let results: Vec<_> = world
        .take_events(ids[0])
        .into_iter()
        .filter_map(|timed| match timed.event {
            Event::Fetched { result, .. } => Some(result.ok()),
            _ => None,
        })
        .collect();
    assert_eq!(results, [None, Some("true".into()), Some("false".into()), Some("true".into())]);
}

#[test]
fn copies_are_told_from_repeats() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    let mut raws: Vec<Raw> = (0..2).map(|n| Raw::new(&format!("raw {n}"), nobody(n), ids[0], 0)).collect();
    for raw in &mut raws {
        raw.connect(&mut world);
    }
    for from in [0, 1, 0, 1, 0] {
        let sealed = raws[from].message(b"ok");
        raws[from].say(&mut world, &sealed);
    }
    assert_eq!(messages(&mut world, ids[0]).len(), 3, "said three times by one, passed on twice by the other");
    // He leaves and comes back within ten minutes, and says it again.
    raws[0].say(&mut world, &[0x0a, 0x00]);
    world.run_for(70 * SECOND);
    assert!(!raws[0].is_connected(&world));
    let mut again = Raw::new("raw 0", nobody(0), ids[0], 0);
    again.counter_from(1000);
    again.connect(&mut world);
    let sealed = again.message(b"ok");
    again.say(&mut world, &sealed);
    assert_eq!(messages(&mut world, ids[0]).len(), 1);
}

#[test]
fn nobody_meets_himself() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    let own = world.addr(ids[0]).unwrap();
    let refused = world.with(ids[0], |node, now| node.dial(own, now)).unwrap();
    assert_eq!(refused, Err(DialError::Ourselves { addr: own }));
    // By an address that the node does not know to be its own: its HELLO comes back from there.
    let outside = addr("20.1.2.3:4000");
    world.with(ids[0], |node, now| node.dial(outside, now)).unwrap().unwrap();
    world.inject(ids[0], outside, &hello(&identity(0)));
    assert!(has(&world, ids[0], |event| {
        matches!(event, Event::DialFailed { error: DialError::Ourselves { addr }, .. } if *addr == outside)
    }));
    world.inject(ids[0], nobody(1), &hello(&identity(0)));
    world.run_for(20 * SECOND);
    assert_eq!(world.get(ids[0]).unwrap().stats().half_open, 0);
    assert_eq!(degree_of(&world, ids[0]), 0);
}

/// Recorded sessions of a peer that had left were played again, message by message, by whoever had heard them.
#[test]
fn a_session_that_has_ended_is_not_played_again() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    world.capture(1 << 20);
    dial(&mut world, ids[1], ids[0]);
    connect(&mut world, &ids, 1);
    for n in 0..20_u8 {
        world.with(ids[1], |node, now| node.send(&peer_id(0), Bytes::from(vec![n; 50]), now)).unwrap().unwrap();
    }
    world.run_for(Duration::from_secs(2));
    assert_eq!(messages(&mut world, ids[0]).len(), 20);
    let bob = world.addr(ids[1]).unwrap();
    let recorded: Vec<Vec<u8>> = world
        .captured()
        .iter()
        .filter(|captured| captured.from == bob)
        .map(|captured| captured.payload.clone())
        .collect();
    world.with(ids[1], |node, now| node.shutdown(now));
    world.run_for(Duration::from_secs(3));
    world.kill(ids[1]);
    assert!(world.get(ids[0]).unwrap().peers().is_empty());
    for from in [bob, "10.7.7.7:7".parse().unwrap()] {
        for datagram in &recorded {
            world.inject(ids[0], from, datagram);
            world.run_for(Duration::from_millis(5));
        }
        world.run_for(Duration::from_secs(12));
    }
    assert!(messages(&mut world, ids[0]).is_empty(), "nothing is heard twice");
    assert!(world.get(ids[0]).unwrap().peers().is_empty(), "and nobody is there");
    // The peer himself comes back at once.
    let config = Config::default();
    world.restart(ids[1], |birth| node(1, config, birth.seed, birth.epoch, birth.now, birth.addr));
    dial(&mut world, ids[1], ids[0]);
    connect(&mut world, &ids, 1);
    world.with(ids[1], |node, now| node.send(&peer_id(0), Bytes::from("back"), now)).unwrap().unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(messages(&mut world, ids[0]), [b"back".to_vec()]);
}
