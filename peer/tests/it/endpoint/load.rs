//! Floods of first messages.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crypto::handshake::{InitPayload, Initiator, NetworkId, VERSIONS};
use crypto::{Identity, Seed};
use peer::mux::{Protocol, Protocols, Urgency};
use peer::{Config, Endpoint, Peer, SubnetLimits, Target};
use sim::pair::Side;
use sim::{Addresses, World};
use structs::{Path, Rejected};

use super::support::*;

/// INITs that are right to the last bit, each of another key.
fn inits(count: u32) -> Vec<Vec<u8>> {
    let mut rng = Seed::fixed(77).rng();
    let bob = id("bob");
    let payload = InitPayload { timestamp: 1, versions: VERSIONS, capabilities: 0, max_datagram: 1452 };
    let init = |_| {
        let identity = Identity::generate(&mut rng);
        let cid = rng.array();
        let dial = Initiator::ik(&identity, bob, cid, &payload, NetworkId::default(), &mut rng).expect("good keys");
        dial.message().to_vec()
    };
    (0..count).map(init).collect()
}

/// Different public addresses, each in a /24 of its own.
fn spoofed(index: usize) -> SocketAddr {
    (Ipv4Addr::from(0x1400_0001 + (u32::try_from(index).unwrap() << 8)), 4000).into()
}

#[test]
fn ten_thousand_spoofed_inits_a_second_leave_room_for_an_honest_one() {
    let flood = inits(10_000);
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    pair.capture(64 << 20);
    let (mut received, mut most, mut honest) = (0, 0, None);
    for (index, message) in flood.iter().enumerate() {
        pair.run_for(Duration::from_micros(100));
        pair.inject(Side::B, spoofed(index), message);
        received += message.len();
        most = most.max(pair.b.stats().half_open);
        if index == 5000 {
            honest = Some(dial(&mut pair, Side::A, Target::Known(id("bob"))));
        }
    }
    assert!(honest.is_some());
    assert!(pair.run_until(both_open, SECOND), "no session a second after half a second of it");
    let stats = pair.b.stats();
    assert!(most < 1200, "{most} half open");
    assert!(stats.cookies_sent > 8000, "{} cookies", stats.cookies_sent);
    assert!(stats.dh_operations < 5 * 1300, "{} key agreements", stats.dh_operations);
    assert!(stats.buffered_bytes < 2 << 20, "{} bytes", stats.buffered_bytes);
    let to_others: usize = (0..flood.len()).map(|index| bytes_to(&pair, spoofed(index))).sum();
    assert!(to_others <= received, "{to_others} bytes for {received}");
    assert_eq!(stats.accepted, 1);
    pair.run_for(6 * SECOND);
    assert_eq!(pair.b.stats().half_open, 0);
    assert_eq!(pair.b.stats().peers, 1);
}

#[test]
fn an_honest_one_without_a_key_connects_under_the_flood_too() {
    let flood = inits(3000);
    let mut pair = strangers(&Config::default(), setup(delayed(ms(20)), 1), 1);
    for (index, message) in flood.iter().enumerate() {
        pair.run_for(Duration::from_micros(200));
        pair.inject(Side::B, spoofed(index), message);
        if index == 2000 {
            dial(&mut pair, Side::A, Target::Anyone);
        }
    }
    assert!(pair.run_until(both_open, SECOND));
    assert!(pair.b.stats().cookies_sent > 0);
}

#[test]
fn a_cookie_is_asked_for_and_brought() {
    let config = Config::default().handshakes_per_second(NonZeroU32::MIN);
    let mut pair = strangers(&config, setup(delayed(ms(20)), 1), 1);
    pair.capture(1 << 20);
    // One handshake a second, and that one is taken.
    pair.inject(Side::B, spoofed(1), &inits(1)[0]);
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, SECOND));
    let [a, b] = [at(&pair, Side::A), at(&pair, Side::B)];
    let (asked, answered) = (sent(&pair, a), sent(&pair, b));
    assert_eq!(asked[..2], [(0xd0, 180), (0xd0, 180)]);
    assert_eq!(answered[1..3], [(0xd2, 68), (0xd1, 132)]);
    let inits = sent_kind(&pair, a, 0xd0);
    assert_eq!(inits[0][..164], inits[1][..164], "the same message with another MAC");
    assert_ne!(inits[0][164..], inits[1][164..]);
}

#[test]
fn one_address_has_its_share_of_sessions() {
    let config = Config::default().subnet_limits(SubnetLimits::All).fall_back_to_xx(false);
    // All of them are at 127.0.0.1.
    let mut world = World::new(Seed::fixed(1)).link(delayed(ms(10))).addresses(Addresses::Loopback);
    let ids = world.spawn(80, |birth| {
        let identity = identity(&format!("node {}", birth.id.index()));
        Endpoint::new(identity, config.clone(), birth.epoch, &birth.seed, birth.now)
    });
    let target = Target::Known(id("node 0"));
    for &client in &ids[1..] {
        let path = Path::udp(world.addr(client).expect("it runs"), world.addr(ids[0]).expect("it runs"));
        world.with(client, |client, now| client.dial(target, path, now)).expect("it runs").expect("a dial");
        world.run_for(ms(50));
    }
    world.run_for(15 * SECOND);
    let hub = world.get(ids[0]).expect("it runs");
    assert_eq!(open(hub), 64);
    assert_eq!(ids[1..].iter().filter(|id| world.get(**id).is_some_and(|client| open(client) == 1)).count(), 64);
    // One leaves, and another one may come.
    let leaving = ids[1];
    world.with(leaving, |client, now| client.close(BYE, "", SECOND, now));
    world.run_for(SECOND);
    let coming = ids[79];
    let path = Path::udp(world.addr(coming).expect("it runs"), world.addr(ids[0]).expect("it runs"));
    world.with(coming, |client, now| client.dial(target, path, now)).expect("it runs").expect("a dial");
    world.run_for(SECOND);
    assert_eq!(world.get(coming).map(open), Some(1));
}

#[test]
fn one_address_and_one_network_have_their_share_of_half_open_handshakes() {
    let flood = inits(800);
    let config = Config::default().subnet_limits(SubnetLimits::Public);
    let mut pair = strangers(&config, setup(delayed(ms(20)), 1), 1);
    for (index, message) in flood.iter().enumerate() {
        pair.run_for(ms(2));
        let [.., host] = u32::try_from(index % 3).unwrap().to_be_bytes();
        pair.inject(Side::B, (Ipv4Addr::new(20, 0, 0, host), 4000).into(), message);
    }
    assert_eq!(pair.b.stats().half_open, 3 * 64);
    assert_eq!(pair.b.stats().rejected.of(Rejected::LimitReached), 800 - 192);
    pair.run_for(6 * SECOND);
    for (index, message) in inits(2000).iter().enumerate().skip(1000) {
        pair.run_for(ms(2));
        let [.., host] = u32::try_from(index % 200).unwrap().to_be_bytes();
        pair.inject(Side::B, (Ipv4Addr::new(20, 0, 0, host), 4000).into(), message);
    }
    assert_eq!(pair.b.stats().half_open, 256);
}

#[test]
fn of_many_new_sessions_few_keep_what_they_needed_to_begin() {
    let mut protocols = Protocols::new();
    let protocol = protocols.register(Protocol::new("chat", 1)).unwrap();
    let config = || Config::default().protocols(protocols.clone()).subnet_limits(SubnetLimits::Off);
    let mut world = World::<Endpoint>::new(Seed::fixed(5)).link(delayed(ms(1))).addresses(Addresses::Public);
    let bob = world.add(|birth| endpoint("bob", config(), 1, birth.now));
    let mut guests = Vec::new();
    for number in 0..200 {
        let name = format!("guest {number}");
        let guest = world.add(|birth| endpoint(&name, config(), number, birth.now));
        let path = Path::udp(world.addr(guest).unwrap(), world.addr(bob).unwrap());
        let dialled = world.with(guest, |guest, now| guest.dial(Target::Known(id("bob")), path, now)).unwrap().unwrap();
        guests.push((guest, dialled));
        // Each says something when it has rested already, and once more.
        for before in [60, 120] {
            if let Some(&(guest, handle)) = guests.len().checked_sub(before).and_then(|at| guests.get(at)) {
                let send = |peer: &mut Peer, _| peer.send(protocol, b"hello", Urgency::Normal);
                world.with(guest, |guest, now| guest.with(handle, now, send)).unwrap().unwrap().unwrap();
            }
        }
        world.run_for(ms(5));
        let awake = world.get(bob).unwrap().stats().awake;
        assert!(awake < 64, "{awake} of {number}");
    }
    world.run_for(4 * SECOND);
    let stats = world.get(bob).unwrap().stats();
    assert_eq!((stats.peers, stats.awake), (200, 0));
}
