//! Nodes that reach each other through relays, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test"
)]

mod finding;
mod reflection;
mod site;

use std::time::Duration;

use crypto::Seed;
use relay::Code;
use sim::{Addresses, Link, World};
use structs::Link as Carrier;
use swarm::node::Event;
use swarm::{DialError, PeerId};

use site::{Site, id, key, named, site};

/// Relays first, then A and B, who cannot reach each other; B has places at the relays.
fn world(relays: u32, link: Link, seed: u64) -> (World<Site>, sim::MachineId, sim::MachineId) {
    let mut world = World::new(Seed::fixed(seed)).link(link).addresses(Addresses::Private);
    for _ in 0..relays {
        world.add(|birth| site(&birth, relay::Config::default()));
    }
    let a = world.add(|birth| site(&birth, relay::Config::off()));
    let b = world.add(|birth| site(&birth, relay::Config::off()));
    world.cut(a, b);
    for number in 0..relays {
        let relay = world.ids().nth(number as usize).unwrap();
        let addr = world.addr(relay).unwrap();
        world.with(b, |site, now| assert!(site.node.add_relay(id(number), &[addr], now)));
    }
    let wanted = relays.min(2) as usize;
    assert!(world.run_until(|world| world.get(b).unwrap().node.vouchers().count() == wanted, secs(5)), "no places");
    (world, a, b)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Lets A dial B, at its address and through these relays, until both have a session.
fn connect(world: &mut World<Site>, a: sim::MachineId, b: sim::MachineId, relays: u32) -> Duration {
    let start = world.elapsed();
    let addr = world.addr(b).unwrap();
    let relays: Vec<_> = (0..relays)
        .map(|number| named(number, world.addr(world.ids().nth(number as usize).unwrap()).unwrap()))
        .collect();
    let peer = id(b.index());
    world.with(a, |site, now| site.node.dial_via(peer, &[addr], &relays, now)).unwrap().unwrap();
    let both = |world: &World<Site>| {
        world.get(a).unwrap().node.session(&peer).is_some()
            && world.get(b).unwrap().node.session(&id(a.index())).is_some()
    };
    assert!(world.run_until(both, secs(20)), "not connected: {:?}", world.events(a));
    world.elapsed() - start
}

/// Why a dial failed.
fn failure(world: &World<Site>, of: sim::MachineId) -> Option<DialError> {
    world.events(of).iter().find_map(|timed| match &timed.event {
        Event::DialFailed { error, .. } => Some(error.clone()),
        _ => None,
    })
}

fn relay_of(world: &World<Site>, of: sim::MachineId, peer: PeerId) -> Option<PeerId> {
    let node = &world.get(of)?.node;
    node.relay_of(node.session(&peer)?)
}

/// Sends numbered messages both ways, one each 10 ms, and reads what came.
struct Talk {
    ends: [sim::MachineId; 2],
    sent: u32,
    came: [Vec<Vec<u8>>; 2],
    /// The longest time without anything new at either end.
    longest: Duration,
    last: Duration,
}

const CANARY: &[u8] = b"nobody else is to read this";

impl Talk {
    fn new(world: &World<Site>, a: sim::MachineId, b: sim::MachineId) -> Self {
        let last = world.elapsed();
        Self { ends: [a, b], sent: 0, came: [Vec::new(), Vec::new()], longest: Duration::ZERO, last }
    }

    fn message(number: u32) -> Vec<u8> {
        [&number.to_be_bytes()[..], CANARY, &[7; 200]].concat()
    }

    fn go_on(&mut self, world: &mut World<Site>, span: Duration) {
        let end = world.elapsed() + span;
        while world.elapsed() < end {
            for (at, other) in [(0, 1), (1, 0)] {
                let peer = id(self.ends[other].index());
                world.with(self.ends[at], |site, now| site.send(&peer, &Self::message(self.sent), now));
            }
            self.sent += 1;
            world.run_for(ms(10));
            self.read(world);
        }
    }

    fn read(&mut self, world: &mut World<Site>) {
        let mut fresh = true;
        for at in 0..2 {
            let peer = id(self.ends[1 - at].index());
            let came = world.with(self.ends[at], |site, now| site.receive(&peer, now)).unwrap();
            fresh &= !came.is_empty();
            self.came[at].extend(came);
        }
        if fresh {
            self.longest = self.longest.max(world.elapsed() - self.last);
            self.last = world.elapsed();
        }
    }

    /// Waits for what is under way: everything has come, once and in order.
    fn finish(mut self, world: &mut World<Site>) {
        for _ in 0..3000 {
            if self.came.iter().all(|came| came.len() == self.sent as usize) {
                break;
            }
            world.run_for(ms(10));
            self.read(world);
        }
        for came in &self.came {
            let expected: Vec<Vec<u8>> = (0..self.sent).map(Self::message).collect();
            assert_eq!(came.len(), expected.len());
            assert_eq!(*came, expected);
        }
    }
}

#[test]
fn two_who_cannot_reach_each_other_talk_through_a_relay_that_reads_nothing() {
    let (mut world, a, b) = world(1, Link::perfect().delay(ms(30)).loss(0.03), 1);
    world.capture(64 << 20);
    let took = connect(&mut world, a, b, 1);
    assert!(took < secs(3), "{took:?}");
    for (of, peer) in [(a, b), (b, a)] {
        assert_eq!(relay_of(&world, of, id(peer.index())), Some(id(0)));
    }
    let mut talk = Talk::new(&world, a, b);
    talk.go_on(&mut world, secs(10));
    talk.finish(&mut world);
    assert_eq!(world.capture_missed(), 0);
    let clear = world.captured().iter().filter(|one| one.payload.windows(CANARY.len()).any(|part| part == CANARY));
    assert_eq!(clear.count(), 0);
    let addrs = [a, b].map(|end| world.addr(end).unwrap());
    let circuits: Vec<_> = world.captured().iter().filter(|one| matches!(one.payload[0], 0xc8 | 0xc9)).collect();
    assert!(circuits.len() > 1000 && circuits.iter().all(|one| one.payload.len() <= 1209));
    // Only what tries for a direct path goes there without the relay, and little of it.
    let direct = world.captured().iter().filter(|one| addrs.contains(&one.from) && addrs.contains(&one.to));
    let bytes: usize = direct.map(|one| one.payload.len()).sum();
    assert!(bytes < 8_000, "{bytes}");
    let stats = world.ids().next().and_then(|relay| world.get(relay)).unwrap().node.stats().relay;
    assert_eq!((stats.reservations, stats.circuits, stats.dropped), (1, 1, 0));
    assert!(stats.bytes > 500_000);
}

#[test]
fn a_relayed_session_moves_to_a_direct_path_and_back_and_loses_nothing() {
    let (mut world, a, b) = world(1, Link::perfect().delay(ms(20)), 2);
    connect(&mut world, a, b, 1);
    let mut talk = Talk::new(&world, a, b);
    talk.go_on(&mut world, secs(3));
    for round in 0..2 {
        world.mend(a, b);
        let start = world.elapsed();
        while relay_of(&world, a, id(b.index())).is_some() || relay_of(&world, b, id(a.index())).is_some() {
            talk.go_on(&mut world, ms(100));
            assert!(world.elapsed() - start < secs(60), "still relayed in round {round}");
        }
        talk.go_on(&mut world, secs(2));
        let path = |world: &World<Site>, of: sim::MachineId, peer: sim::MachineId| {
            let node = &world.get(of).unwrap().node;
            let session = node.session(&id(peer.index())).unwrap();
            node.sessions().find(|(handle, ..)| *handle == session).unwrap().2.path().unwrap()
        };
        assert_eq!(path(&world, a, b).link, Carrier::Udp);
        assert_eq!(path(&world, a, b).remote, world.addr(b).unwrap());
        world.cut(a, b);
        let (start, before) = (world.elapsed(), std::mem::take(&mut talk.longest));
        while relay_of(&world, a, id(b.index())).is_none() || relay_of(&world, b, id(a.index())).is_none() {
            talk.go_on(&mut world, ms(100));
            assert!(world.elapsed() - start < secs(5), "not back");
        }
        talk.go_on(&mut world, secs(3));
        assert!(before < ms(200), "the way to a direct path is not felt: {before:?}");
        let outage = std::mem::take(&mut talk.longest);
        assert!(outage < ms(500), "{outage:?} without anything");
    }
    talk.finish(&mut world);
}

#[test]
fn a_relay_that_dies_under_traffic_costs_less_than_two_seconds() {
    let (mut world, a, b) = world(3, Link::perfect().delay(ms(25)), 3);
    let held: Vec<crypto::PeerId> = world.get(b).unwrap().node.vouchers().map(relay::Voucher::relay).collect();
    assert_eq!(held.len(), 2);
    connect(&mut world, a, b, 3);
    let mut talk = Talk::new(&world, a, b);
    talk.go_on(&mut world, secs(2));
    // The circuit in reserve is asked whether it works, and that is all it is used for.
    for (of, peer) in [(a, b), (b, a)] {
        let session = world.get(of).unwrap().node.session(&id(peer.index())).unwrap();
        let moved = |event: &Event| matches!(event, Event::Moved { session: moved, .. } if *moved == session);
        assert_eq!(world.events(of).iter().filter(|timed| moved(&timed.event)).count(), 0);
    }
    let used = relay_of(&world, a, id(b.index())).unwrap();
    let dead = (0..3).find(|number| id(*number) == used).unwrap();
    let dead = world.ids().nth(dead as usize).unwrap();
    world.kill(dead);
    talk.longest = Duration::ZERO;
    talk.go_on(&mut world, secs(20));
    assert!(talk.longest < secs(2), "{:?} without anything", talk.longest);
    let now = relay_of(&world, a, id(b.index())).unwrap();
    assert_ne!(now, used);
    // And B has a place elsewhere.
    let node = &world.get(b).unwrap().node;
    let held: Vec<PeerId> = node.vouchers().map(|voucher| PeerId::from(voucher.relay())).collect();
    assert!(held.len() == 2 && !held.contains(&used), "{held:?}");
    talk.finish(&mut world);
}

/// A dial knows the first relay alone, at which B had its place then; the second place comes later. The relay dies.
fn dies_with_a_place_that_came_later(ticket: bool, seed: u64) {
    let mut world = World::new(Seed::fixed(seed)).link(Link::perfect().delay(ms(25))).addresses(Addresses::Private);
    let relays: Vec<_> = (0..2).map(|_| world.add(|birth| site(&birth, relay::Config::default()))).collect();
    let [a, b] = [(); 2].map(|()| world.add(|birth| site(&birth, relay::Config::off())));
    world.cut(a, b);
    let place = |world: &mut World<Site>, of: sim::MachineId, number: u32| {
        let addr = world.addr(relays[number as usize]).unwrap();
        world.with(of, |site, now| assert!(site.node.add_relay(id(number), &[addr], now)));
    };
    place(&mut world, b, 0);
    assert!(world.run_until(|world| world.get(b).unwrap().node.vouchers().count() == 1, secs(5)), "no place");
    connect(&mut world, a, b, 1);
    let mut talk = Talk::new(&world, a, b);
    talk.go_on(&mut world, ms(500));
    place(&mut world, b, 1);
    if !ticket {
        // Known to A as a relay of its own, and no longer as one of B's.
        world.cut(a, b);
        place(&mut world, a, 1);
    }
    talk.go_on(&mut world, secs(2));
    assert_eq!(relay_of(&world, a, id(b.index())), Some(id(0)));
    world.kill(relays[0]);
    talk.longest = Duration::ZERO;
    talk.go_on(&mut world, secs(6));
    assert!(talk.longest < secs(2), "{:?} without anything", talk.longest);
    assert_eq!(relay_of(&world, a, id(b.index())), Some(id(1)));
    talk.finish(&mut world);
}

#[test]
fn a_place_that_came_after_the_dial_is_there_when_the_first_relay_dies() {
    dies_with_a_place_that_came_later(true, 4);
    dies_with_a_place_that_came_later(false, 5);
}

#[test]
fn who_has_no_address_is_dialled_through_relays_at_once() {
    let (mut world, a, b) = world(1, Link::perfect().delay(ms(50)), 4);
    let named = named(0, world.addr(world.ids().next().unwrap()).unwrap());
    let start = world.elapsed();
    let peer = id(b.index());
    world.with(a, |site, now| site.node.dial_via(peer, &[], &[named], now)).unwrap().unwrap();
    assert!(world.run_until(|world| world.get(a).unwrap().node.session(&peer).is_some(), secs(5)));
    // A handshake with the relay, the circuit, a handshake through it: 100 ms, 100 ms, 200 ms.
    assert!(world.elapsed() - start <= ms(450), "{:?}", world.elapsed() - start);
}

#[test]
fn who_is_dialled_again_and_again_through_one_relay_is_reached_soon() {
    let (mut world, a, b) = world(1, Link::perfect().delay(ms(50)), 14);
    let named = named(0, world.addr(world.ids().next().unwrap()).unwrap());
    let start = world.elapsed();
    let peer = id(b.index());
    // As when a search finds the peer while the handshake that another began is under way.
    for _ in 0..8 {
        world.with(a, |site, now| site.node.dial_via(peer, &[], std::slice::from_ref(&named), now)).unwrap().unwrap();
        world.run_for(ms(45));
    }
    assert!(world.run_until(|world| world.get(a).unwrap().node.session(&peer).is_some(), secs(30)));
    // As for one dial, and a round trip more where two asked at the same time.
    assert!(world.elapsed() - start <= ms(700), "{:?}", world.elapsed() - start);
    let done = |event: &Event| matches!(event, Event::Dialled { peer: dialled, .. } if *dialled == peer);
    world.run_for(ms(1));
    assert_eq!(world.events(a).iter().filter(|timed| done(&timed.event)).count(), 8);
}

#[test]
fn a_dial_that_no_relay_helps_says_why() {
    let (mut world, a, _) = world(1, Link::perfect().delay(ms(20)), 5);
    let named = named(0, world.addr(world.ids().next().unwrap()).unwrap());
    let nobody = id(99);
    world.with(a, |site, now| site.node.dial_via(nobody, &[], &[named], now)).unwrap().unwrap();
    world.run_for(secs(12));
    let failed = failure(&world, a);
    let Some(DialError::Unrelayed { relays: 1, reason: Code::NOT_HERE, .. }) = failed else { panic!("{failed:?}") };
    // One that does not relay says so, too.
    let b = world.ids().nth(2).unwrap();
    let addr = world.addr(world.ids().nth(1).unwrap()).unwrap();
    world.with(b, |site, now| site.node.add_relay(id(1), &[addr], now));
    world.mend(a, b);
    world.with(b, |site, now| site.node.remove_relay(id(0), now));
    let refused = |world: &World<Site>| {
        let refused = |event: &Event| matches!(event, Event::RelayRefused { code: Code::NOT_RELAYING, .. });
        world.events(b).iter().any(|timed| refused(&timed.event))
    };
    assert!(world.run_until(refused, secs(30)), "{:?}", world.events(b));
}

#[test]
fn a_dial_ends_when_its_circuit_leads_to_nobody() {
    let (mut world, a, b) = world(2, Link::perfect().delay(ms(20)), 7);
    let relays: Vec<_> =
        (0..2).map(|number| named(number, world.addr(world.ids().nth(number as usize).unwrap()).unwrap())).collect();
    // The relays do not know it yet.
    world.kill(b);
    let peer = id(b.index());
    world.with(a, |site, now| site.node.dial_via(peer, &[], &relays, now)).unwrap().unwrap();
    assert!(world.run_until(|world| failure(world, a).is_some(), secs(15)), "it hangs");
    let failed = failure(&world, a);
    let Some(DialError::Unrelayed { relays: 2, reason: Code::NO_ANSWER, .. }) = failed else { panic!("{failed:?}") };
}

#[test]
fn a_dial_whose_relays_are_nowhere_ends_at_once() {
    let (mut world, a, _) = world(0, Link::perfect(), 8);
    let nowhere = relay::client::Named { relay: key(77), addrs: Vec::new() };
    world.with(a, |site, now| site.node.dial_via(id(99), &[], &[nowhere], now)).unwrap().unwrap();
    world.run_for(ms(1));
    let failed = failure(&world, a);
    let Some(DialError::Unrelayed { reason: Code::UNREACHABLE, .. }) = failed else { panic!("{failed:?}") };
}

#[test]
fn a_place_ends_with_the_session() {
    let (mut world, _, b) = world(1, Link::perfect().delay(ms(20)), 16);
    let relay = world.ids().next().unwrap();
    let places = |world: &World<Site>| world.get(relay).unwrap().node.stats().relay.reservations;
    assert_eq!(places(&world), 1);
    world.with(b, |site, now| site.node.shutdown(ms(500), now)).unwrap();
    assert!(world.run_until(|world| places(world) == 0, secs(5)));
}

fn circuits(world: &World<Site>) -> usize {
    world.ids().next().and_then(|relay| world.get(relay)).unwrap().node.stats().relay.circuits
}

#[test]
fn a_circuit_without_a_session_is_closed_by_whom_it_leads_to() {
    let (mut world, a, b) = world(1, Link::perfect().delay(ms(20)), 9);
    let relay = named(0, world.addr(world.ids().next().unwrap()).unwrap());
    let peer = id(b.index());
    world.with(a, |site, now| site.node.dial_via(peer, &[], &[relay], now)).unwrap().unwrap();
    assert!(world.run_until(|world| circuits(world) == 1, secs(5)));
    // Nothing of a handshake has left.
    world.kill(a);
    world.run_for(secs(14));
    assert_eq!(circuits(&world), 1);
    // Long before the relay can know that the other end is gone.
    world.run_for(secs(2));
    assert_eq!(circuits(&world), 0);
}

#[test]
fn a_circuit_that_is_not_needed_any_more_is_closed_and_the_session_stays() {
    let (mut world, a, b) = world(1, Link::perfect().delay(ms(20)), 10);
    connect(&mut world, a, b, 1);
    world.run_for(Duration::from_mins(5));
    assert_eq!(circuits(&world), 1, "one in use stays");
    world.mend(a, b);
    let direct = |world: &World<Site>| relay_of(world, a, id(b.index())).is_none();
    assert!(world.run_until(direct, Duration::from_mins(6)));
    world.run_for(secs(50));
    assert_eq!(circuits(&world), 1, "the direct way may not last");
    world.run_for(secs(40));
    assert_eq!(circuits(&world), 0);
    let mut talk = Talk::new(&world, a, b);
    talk.go_on(&mut world, secs(1));
    talk.finish(&mut world);
}

#[test]
fn a_relay_that_lies_about_addresses_gets_little_sent_there() {
    // The other end is said to be at the address of a victim: what goes there are a few small packets.
    let (mut world, a, b) = world(1, Link::perfect().delay(ms(20)), 6);
    let victim = world.add(|birth| site(&birth, relay::Config::off()));
    let addr = world.addr(victim).unwrap();
    world.capture(64 << 20);
    let relay = named(0, world.addr(world.ids().next().unwrap()).unwrap());
    let peer = id(b.index());
    world.with(a, |site, now| site.node.dial_via(peer, &[addr], &[relay], now)).unwrap().unwrap();
    assert!(world.run_until(|world| world.get(a).unwrap().node.session(&peer).is_some(), secs(5)));
    let dialled: usize = sent_to(&world, addr);
    world.run_for(Duration::from_mins(30));
    let tried = sent_to(&world, addr) - dialled;
    assert!(tried < 8_000, "{tried} bytes in half an hour");
    assert_eq!(key(b.index()).to_bytes(), *peer.as_bytes());
}

fn sent_to(world: &World<Site>, addr: std::net::SocketAddr) -> usize {
    world.captured().iter().filter(|one| one.to == addr).map(|one| one.payload.len()).sum()
}
