//! Whose word is acted on when it names an address, and how much of it.

use std::net::SocketAddr;

use framing::v12::{Kind, PexEntry, encode};
use sim::{Addresses, Link, MachineId, World};
use structs::Rejected;
use swarm::v12::Config;
use swarm::v12::Node;

use crate::support::*;

/// Targets, and the innermost reach from which each may be named: 0 loopback, 1 private, 2 public.
const TARGETS: [(&str, Option<u32>); 14] = [
    ("127.0.0.1:4009", Some(0)),
    ("10.7.7.7:4000", Some(1)),
    ("192.168.3.3:4000", Some(1)),
    ("172.16.9.9:4000", Some(1)),
    ("169.254.3.3:4000", Some(1)),
    ("100.64.1.1:4000", Some(1)),
    ("33.1.2.3:4000", Some(2)),
    ("0.0.0.0:4000", None),
    ("0.1.2.3:4000", None),
    ("224.0.0.5:4000", None),
    ("255.255.255.255:4000", None),
    ("240.1.1.1:4000", None),
    ("192.0.2.1:4000", None),
    ("33.4.5.6:0", None),
];

const TELLERS: [(&str, u32); 3] = [("127.0.0.1:7777", 0), ("10.9.0.1:4000", 1), ("44.9.0.1:4000", 2)];

/// One node, and somebody at `from` who has proved his key to it.
fn told_by(from: &str) -> (World<Node>, MachineId, Raw) {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    let mut raw = Raw::new("teller", addr(from), ids[0], 0);
    raw.connect(&mut world);
    (world, ids[0], raw)
}

fn name(number: usize) -> [u8; 8] {
    (number as u64 + 1).to_be_bytes()
}

/// PEX and RELAY_FWD by hand: the encoders refuse port 0.
fn entry(number: usize, target: &str) -> Vec<u8> {
    let (ip, port) = target.rsplit_once(':').unwrap();
    let mut entry = vec![8];
    entry.extend(name(number));
    entry.push(ip.len() as u8);
    entry.extend(ip.as_bytes());
    entry.extend(port.parse::<u16>().unwrap().to_be_bytes());
    entry
}

fn pex(targets: &[&str]) -> Vec<u8> {
    let mut frame = vec![Kind::Pex.byte(), targets.len() as u8];
    for (number, target) in targets.iter().enumerate() {
        frame.extend(entry(number, target));
    }
    frame
}

fn relay_fwd(number: usize, target: &str) -> Vec<u8> {
    // Without the length of the id.
    let mut frame = vec![Kind::RelayFwd.byte()];
    frame.extend(&entry(number, target)[1..]);
    frame
}

fn gossip(raw: &mut Raw, number: usize, target: &str) -> Vec<u8> {
    let (ip, port) = target.rsplit_once(':').unwrap();
    let id: String = name(number).iter().map(|byte| format!("{byte:02x}")).collect();
    raw.seal(&[format!(r#"{{"_gossip":true,"id":"{id}","ip":"{ip}","port":{port}}}"#).as_bytes()])
}

#[test]
fn nobody_is_made_to_dial_inside_a_network_from_outside() {
    for (teller, reach) in TELLERS {
        for channel in 0..3 {
            let (mut world, _, mut raw) = told_by(teller);
            world.capture(1 << 20);
            for (number, (target, _)) in TARGETS.iter().enumerate() {
                let frame = match channel {
                    0 => pex(&[target]),
                    1 => relay_fwd(number, target),
                    _ => gossip(&mut raw, number, target),
                };
                // PEX names them all alike otherwise.
                let frame = if channel == 0 { with_name(frame, number) } else { frame };
                raw.say(&mut world, &frame);
                world.run_for(ms(100));
            }
            world.run_for(5 * SECOND);
            let dialled: Vec<SocketAddr> = hellos(&world).into_keys().collect();
            let mut allowed: Vec<SocketAddr> = TARGETS
                .iter()
                .filter(|(_, innermost)| innermost.is_some_and(|innermost| innermost >= reach))
                .map(|(target, _)| addr(target))
                .collect();
            allowed.sort_unstable();
            assert_eq!(dialled, allowed, "channel {channel} from {teller}");
            assert!(hellos(&world).values().all(|count| *count <= 3), "{:?}", hellos(&world));
        }
    }
}

fn with_name(mut pex: Vec<u8>, number: usize) -> Vec<u8> {
    pex[3..11].copy_from_slice(&name(number));
    pex
}

#[test]
fn names_are_not_looked_up() {
    let (mut world, id, mut raw) = told_by("10.9.0.1:4000");
    world.capture(1 << 20);
    for host in ["localhost", "a.example", "::1", "0x0a000001", "10.1", "010.0.0.9", "10.0.0.9 "] {
        let target = format!("{host}:4000");
        raw.say(&mut world, &pex(&[&target]));
        raw.say(&mut world, &relay_fwd(1, &target));
        let sealed = gossip(&mut raw, 1, &target);
        raw.say(&mut world, &sealed);
        let beacon = format!("\t{}:{host}:4000:", raw.identity.id());
        assert!(multicast(&mut world, id, raw.addr, beacon.as_bytes()).is_err(), "{host}");
    }
    world.run_for(5 * SECOND);
    assert!(hellos(&world).is_empty(), "{:?}", hellos(&world));
}

#[test]
fn a_long_list_of_peers_is_dialled_in_small_helpings() {
    for (proves_key, per_minute) in [(true, 20), (false, 4)] {
        let (mut world, ids) = world(1, Link::lan(), &Config::default());
        let mut raw = Raw::new("teller", addr("44.9.0.1:4000"), ids[0], 0);
        if proves_key {
            raw.connect(&mut world);
        } else {
            raw.connect_by_address(&mut world);
        }
        world.capture(1 << 24);
        let mut told = 0;
        for _ in 0..55 {
            let entries = (0..255_u32).map(|n| PexEntry {
                id: name(told as usize + n as usize).into(),
                addr: v4(Addresses::Public.at(told + n)),
            });
            raw.say(&mut world, &frame(|out| encode::pex(entries, out).unwrap()));
            told += 255;
            world.run_for(SECOND);
        }
        world.run_for(4 * SECOND);
        let hellos = hellos(&world);
        assert_eq!(hellos.len(), per_minute);
        assert!(hellos.values().all(|count| *count <= 3), "{hellos:?}");
    }
}

#[test]
fn many_tellers_together_leave_room_for_the_dials_of_the_user() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    for teller in 0..20_u32 {
        let mut raw = Raw::new(&format!("teller {teller}"), Addresses::Public.at(500 + teller), ids[0], 0);
        raw.connect(&mut world);
        let entries = (0..20).map(|n| PexEntry {
            id: name((teller * 20 + n) as usize).into(),
            addr: v4(Addresses::Public.at(1000 + teller * 20 + n)),
        });
        raw.say(&mut world, &frame(|out| encode::pex(entries, out).unwrap()));
        world.run_for(ms(50));
    }
    assert_eq!(world.get(ids[0]).unwrap().stats().half_open, 32);
    dial(&mut world, ids[0], ids[1]);
    connect(&mut world, &ids[1..], 1);
}

#[test]
fn a_beacon_speaks_for_its_own_address_only() {
    let (mut world, ids) = world(2, Link::lan(), &Config::default());
    world.with(ids[0], |node, now| node.join("room".into(), false, true, now)).unwrap().unwrap();
    world.capture(1 << 20);
    let stranger = crypto::v12::Identity::from_seed(b"stranger");
    let hash = crypto::v12::TopicHash::of(swarm::TopicId::from("room").as_bytes());
    let beacon = |named: &str, topic: &str| {
        frame(|out| encode::lan(stranger.id(), named.parse().unwrap(), Some(topic), out).unwrap())
    };
    let room = hash.as_str();
    let from = addr("10.0.0.9:45678");
    for named in ["10.0.0.8:4000", "20.0.0.1:4000", "127.0.0.1:4000", "224.0.0.1:4000", "0.0.0.0:4000"] {
        assert_eq!(multicast(&mut world, ids[0], from, &beacon(named, room)), Err(Rejected::BadAddress), "{named}");
    }
    assert_eq!(multicast(&mut world, ids[0], from, &beacon("10.0.0.9:4000", "0123456789ab")), Ok(()), "another topic");
    let own = world.addr(ids[0]).unwrap();
    assert_eq!(multicast(&mut world, ids[0], own, &beacon(&own.to_string(), room)), Ok(()), "our own address");
    assert_eq!(multicast(&mut world, ids[0], from, &hello(&stranger)), Err(Rejected::Forbidden), "not a beacon");
    world.run_for(SECOND);
    assert!(hellos(&world).is_empty(), "{:?}", hellos(&world));
    assert_eq!(multicast(&mut world, ids[0], from, &beacon("10.0.0.9:4000", room)), Ok(()));
    for _ in 0..100 {
        let _ = multicast(&mut world, ids[0], from, &beacon("10.0.0.9:4000", room));
    }
    world.run_for(5 * SECOND);
    assert_eq!(hellos(&world).into_iter().collect::<Vec<_>>(), [(addr("10.0.0.9:4000"), 3)]);
    // The same over the ordinary socket is nothing.
    world.inject(ids[0], addr("10.0.0.9:4000"), &beacon("10.0.0.9:4000", room));
    world.run_for(5 * SECOND);
    assert_eq!(hellos(&world).into_values().sum::<usize>(), 3);
}

#[test]
fn a_flood_of_beacons_is_dialled_at_a_bounded_rate() {
    let (mut world, ids) = world(1, Link::lan(), &Config::default());
    world.with(ids[0], |node, now| node.join("room".into(), false, true, now)).unwrap().unwrap();
    world.capture(1 << 20);
    for second in 0..10_u32 {
        for n in 0..200_u32 {
            let from = Addresses::Private.at(1000 + second * 200 + n);
            let id = crypto::v12::NodeId::of(&[n as u8; 32].into());
            let text = format!("\t{id}:{}:{}:", v4(from).ip(), from.port());
            let _ = multicast(&mut world, ids[0], from, text.as_bytes());
        }
        world.run_for(SECOND);
    }
    let dialled = hellos(&world).len();
    assert!((20..=32 + 16 * 10).contains(&dialled), "{dialled}");
}

#[test]
fn a_relay_introduces_only_those_who_ask_in_their_own_name_and_others_do_not_at_all() {
    for (relays, expected) in [(true, 1), (false, 0)] {
        let (mut world, ids) = world(1, Link::lan(), &Config::default().relay(relays));
        let mut asker = Raw::new("asker", addr("20.9.0.1:4000"), ids[0], 0);
        let mut target = Raw::new("target", addr("20.9.0.2:4000"), ids[0], 0);
        asker.connect(&mut world);
        target.connect(&mut world);
        // Neither answers PINGs: what they are told is paid for by what they say.
        for raw in [&mut asker, &mut target] {
            for _ in 0..5 {
                let message = raw.message(b"with so many bytes in it that it pays for an answer");
                raw.say(&mut world, &message);
            }
        }
        world.run_for(SECOND);
        world.capture(1 << 20);
        let request = |from| {
            let named = "20.9.0.9:9".parse().unwrap();
            frame(|out| encode::relay_req(from, target.identity.wire_id(), named, out).unwrap())
        };
        asker.say(&mut world, &request([9; 8].into()));
        asker.say(&mut world, &request(asker.identity.wire_id()));
        world.run_for(SECOND);
        let told = |to: SocketAddr| {
            let fwd = sent(&world, Kind::RelayFwd).iter().filter(|(addr, _)| *addr == to).count();
            // Alone or in a BATCH.
            fwd + sent(&world, Kind::Batch).iter().filter(|(addr, len)| *addr == to && *len > 40).count()
        };
        assert_eq!((told(target.addr), told(asker.addr)), (expected, expected));
        assert!(hellos(&world).is_empty());
    }
}
