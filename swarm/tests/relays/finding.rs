//! Nodes that reach nobody of the hash table, and have others look and publish there for them.

use std::time::Duration;

use crypto::Seed;
use dht::Wanted;
use framing::record::Record;
use peer::mux::Urgency;
use relay::Networks;
use sim::world::Birth;
use sim::{Addresses, Link, MachineId, World};
use swarm::discovery::{Reach, Task};
use swarm::node::{Config, Event};

use super::site::{Site, id, identity, key};
use super::{ms, secs};

fn node(birth: &Birth, serve: relay::Config, deaf: bool) -> Site {
    let relays = relay::client::Config::default().networks(Networks::Off);
    let config = Config::default().lan(false).serve(serve).relays(relays).find_relays(true);
    Site::new(birth, config.reach(Reach::Network).dht(Some(Reach::Network)), deaf)
}

/// Three relays that keep the table, then A and B, who cannot reach each other, and of whom some cannot reach the table.
fn world(deaf: [bool; 2], seed: u64) -> (World<Site>, [MachineId; 2]) {
    world_of(Link::perfect().delay(ms(20)), deaf, seed)
}

fn world_of(link: Link, deaf: [bool; 2], seed: u64) -> (World<Site>, [MachineId; 2]) {
    let mut world = World::new(Seed::fixed(seed)).link(link).addresses(Addresses::Private);
    for _ in 0..3 {
        world.add(|birth| node(&birth, relay::Config::default(), false));
    }
    let pair = deaf.map(|deaf| world.add(|birth| node(&birth, relay::Config::off(), deaf)));
    let [a, b] = pair;
    world.cut(a, b);
    let all: Vec<MachineId> = world.ids().collect();
    for &one in &all {
        let own = world.addr(one).unwrap();
        world.with(one, |site, now| site.node.set_addresses(&[], &[own], now));
    }
    let first = world.addr(all[0]).unwrap();
    for &one in &all[1..] {
        world.with(one, |site, now| assert_eq!(site.node.bootstrap(&[first], now), 1));
    }
    // Each knows another relay, so what one publishes has to be found by the other.
    for (number, &one) in pair.iter().enumerate() {
        let relay = 1 + number as u32;
        let addr = world.addr(all[relay as usize]).unwrap();
        world.with(one, |site, now| assert!(site.node.add_relay(id(relay), &[addr], now)));
    }
    (world, pair)
}

fn published(world: &World<Site>, of: MachineId) -> bool {
    let progress = world.get(of).unwrap().node.progress();
    progress.iter().any(|progress| progress.task == Task::Record && progress.answered > 0 && progress.error.is_none())
}

fn meet(deaf: [bool; 2], seed: u64) {
    let (mut world, [a, b]) = world(deaf, seed);
    let ready = |world: &World<Site>| {
        published(world, b) && [a, b].iter().all(|of| world.get(*of).unwrap().node.vouchers().next().is_some())
    };
    assert!(world.run_until(ready, secs(10)), "{:?}", world.get(b).unwrap().node.progress());
    let start = world.elapsed();
    let peer = id(b.index());
    world.with(a, |site, now| site.node.find(&[peer].into(), now)).unwrap();
    let met = |world: &World<Site>| world.get(a).unwrap().node.session(&peer).is_some();
    assert!(world.run_until(met, secs(10)), "{deaf:?}: {:?}", world.get(a).unwrap().node.progress());
    assert!(world.elapsed() - start < secs(3), "{deaf:?}: {:?}", world.elapsed() - start);
    for (of, deaf) in [a, b].into_iter().zip(deaf) {
        assert_ne!(world.get(of).unwrap().node.has_contacts(), deaf);
    }
}

#[test]
fn who_reaches_nobody_of_the_table_finds_others_and_is_found() {
    meet([true, false], 61);
    meet([false, true], 62);
    meet([true, true], 63);
}

#[test]
fn a_record_is_published_as_long_as_the_session_lasts_and_then_by_another() {
    let (mut world, [a, b]) = world([false, true], 64);
    assert!(world.run_until(|world| published(world, b), secs(10)));
    // The relay that publishes dies. The node has no other yet, and finds one.
    let relay = world.ids().nth(2).unwrap();
    world.kill(relay);
    let addr = world.addr(world.ids().nth(1).unwrap()).unwrap();
    world.with(b, |site, now| assert!(site.node.add_relay(id(1), &[addr], now)));
    let peer = id(b.index());
    world.with(a, |site, now| site.node.find(&[peer].into(), now)).unwrap();
    let met = |world: &World<Site>| world.get(a).unwrap().node.session(&peer).is_some();
    assert!(world.run_until(met, secs(60)), "{:?}", world.get(b).unwrap().node.progress());
}

#[test]
fn a_record_is_there_as_long_as_its_node_is() {
    let (mut world, [a, b]) = world([false, false], 65);
    assert!(world.run_until(|world| published(world, b), secs(10)));
    // Twice as long as one that was signed at first holds.
    for minutes in (5..240).step_by(5) {
        world.run_for(secs(5 * 60));
        assert!(is_known(&mut world, a, b.index()), "after {minutes} minutes");
    }
}

/// Says this to a relay, as no node would.
fn say(world: &mut World<Site>, of: MachineId, relay: u32, message: &[u8]) {
    world.with(of, |site, now| {
        let (session, protocol) = (site.node.session(&id(relay)).expect("a session"), site.node.protocols().find);
        site.node.with(session, now, |session, _| session.send(protocol, message, Urgency::Normal)).unwrap().unwrap();
    });
}

/// Whether anybody in the table knows where this one is.
fn is_known(world: &mut World<Site>, by: MachineId, peer: u32) -> bool {
    let query = world.with(by, |site, now| site.node.get(Wanted::Peer(key(peer)), now)).unwrap().unwrap();
    let newest = |world: &World<Site>| {
        world.events(by).iter().find_map(|timed| match &timed.event {
            Event::Table(dht::Event::GetDone { id, newest, .. }) if *id == query => Some(newest.is_some()),
            _ => None,
        })
    };
    assert!(world.run_until(|world| newest(world).is_some(), secs(10)));
    newest(world).unwrap()
}

#[test]
fn nobody_speaks_for_others() {
    let (mut world, [a, b]) = world([false, true], 65);
    assert!(world.run_until(|world| published(world, b), secs(10)));
    assert!(is_known(&mut world, a, b.index()), "by the relay of B, who says so of itself");
    let expires = sim::world::START_UNIX + Duration::from_secs(600);
    let record = Record { sequence: 1, expires, ..Record::default() };
    let record = record.sign(&identity(77)).unwrap();
    say(&mut world, a, 1, &[&[1][..], record.as_bytes()].concat());
    world.run_for(secs(5));
    assert!(!is_known(&mut world, a, 77));
}

#[test]
fn who_asks_without_end_causes_few_searches() {
    let (mut world, [a, _]) = world([false, false], 66);
    assert!(world.run_until(|world| published(world, a), secs(10)));
    let relay = world.ids().nth(1).unwrap();
    let sent = |world: &World<Site>| world.get(relay).unwrap().table_sent;
    let before = sent(&world);
    for number in 0..2_000 {
        say(&mut world, a, 1, &[&[0][..], id(100 + number).as_bytes()].concat());
        world.run_for(ms(1));
    }
    // 16 at once and two more in the time, each of which asks four others at most.
    let sent = sent(&world) - before;
    assert!((16..=20 * 6).contains(&sent), "{sent} datagrams");
}

/// Asks a relay for many at once.
fn ask_for(world: &mut World<Site>, of: MachineId, relay: u32, numbers: std::ops::Range<u32>) {
    for number in numbers {
        say(world, of, relay, &[&[0][..], id(number).as_bytes()].concat());
    }
}

#[test]
fn who_asks_for_much_leaves_room_for_others() {
    let (mut world, [a, b]) = world([true, false], 67);
    assert!(world.run_until(|world| published(world, b), secs(10)));
    // Nodes that are gone make a search last.
    let gone = world.ids().next().unwrap();
    world.kill(gone);
    // B has a session with the relay of A, and asks it for everybody.
    let addr = world.addr(world.ids().nth(1).unwrap()).unwrap();
    world.with(b, |site, now| site.node.dial_via(id(1), &[addr], &[], now)).unwrap().unwrap();
    assert!(world.run_until(|world| world.get(b).unwrap().node.session(&id(1)).is_some(), secs(5)));
    world.run_for(ms(200));
    ask_for(&mut world, b, 1, 100..116);
    let peer = id(b.index());
    world.with(a, |site, now| site.node.find(&[peer].into(), now)).unwrap();
    let met = |world: &World<Site>| world.get(a).unwrap().node.session(&peer).is_some();
    assert!(world.run_until(met, secs(4)), "{:?}", world.get(a).unwrap().node.progress());
}

#[test]
fn a_record_that_takes_long_to_publish_is_published_once() {
    // Two seconds there and back: a round of the table takes longer than the asker's patience.
    let (mut world, [_, b]) = world_of(Link::perfect().delay(secs(1)), [false, true], 68);
    assert!(world.run_until(|world| published(world, b), secs(90)), "{:?}", world.get(b).unwrap().node.progress());
    let tried = |world: &World<Site>| {
        let progress = world.get(b).unwrap().node.progress();
        progress.iter().find(|progress| progress.task == Task::Record).map_or(0, |progress| progress.tried)
    };
    let before = tried(&world);
    world.run_for(secs(600));
    assert!(tried(&world) <= before + 2, "{before}, {}", tried(&world));
}
