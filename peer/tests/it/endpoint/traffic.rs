//! What applications send, as far as endpoints have a hand in it.

use std::time::Instant;

use crypto::{PeerId, Seed};
use peer::mux::{Protocol, ProtocolId, Protocols, Urgency};
use peer::{Config, Endpoint, Event, Target};
use sim::pair::Side;
use sim::world::MachineId;
use sim::{Link, Timed, World};
use structs::Path;

use super::support::*;

fn config() -> (Config, ProtocolId) {
    let mut protocols = Protocols::default();
    let protocol = protocols.register(Protocol::new("test", 1)).expect("a protocol");
    (Config::default().protocols(protocols), protocol)
}

/// Takes everything that has come from a peer.
fn receive(endpoint: &mut Endpoint, from: &PeerId, protocol: ProtocolId, now: Instant) -> Vec<Vec<u8>> {
    let Some(handle) = endpoint.by_id(from) else { return Vec::new() };
    let take = |peer: &mut peer::Peer, _: Instant| {
        let mut messages = Vec::new();
        let mut message = Vec::new();
        while peer.recv(protocol, &mut message).is_some() {
            messages.push(message.clone());
        }
        messages
    };
    endpoint.with(handle, now, take).unwrap_or_default()
}

#[test]
fn what_waits_in_dials_that_cross_arrives_once_and_in_order() {
    let (config, protocol) = config();
    for names in [["alice", "bob"], ["bob", "alice"]] {
        for (there, back, head_start, loss) in [(10, 10, 0, 0.0), (5, 80, 0, 0.0), (80, 5, 30, 0.0), (40, 40, 20, 0.1)]
        {
            let link = |delay| delayed(ms(delay)).loss(loss);
            let setup = setup(Link::perfect(), 1).link_from(Side::A, link(there)).link_from(Side::B, link(back));
            let mut pair = named(names, &config, setup, 1);
            let numbers = 0..100_u32;
            let [a, b] = names.map(id);
            let say = |endpoint: &mut Endpoint, to: &PeerId, now| {
                let handle = endpoint.by_id(to).expect("a dial");
                for number in numbers.clone() {
                    let send = |peer: &mut peer::Peer, _| peer.send(protocol, &number.to_be_bytes(), Urgency::Normal);
                    endpoint.with(handle, now, send).expect("it is there").expect("room");
                }
            };
            dial(&mut pair, Side::A, Target::Known(b));
            pair.with_a(|endpoint, now| say(endpoint, &b, now));
            pair.run_for(ms(head_start));
            dial(&mut pair, Side::B, Target::Known(a));
            pair.with_b(|endpoint, now| say(endpoint, &a, now));
            let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
            for _ in 0..400 {
                pair.run_for(ms(25));
                at_a.extend(pair.with_a(|endpoint, now| receive(endpoint, &b, protocol, now)));
                at_b.extend(pair.with_b(|endpoint, now| receive(endpoint, &a, protocol, now)));
            }
            let expected: Vec<Vec<u8>> = numbers.map(|number| number.to_be_bytes().to_vec()).collect();
            let what = format!("{names:?}, {there} ms, {back} ms, {head_start} ms");
            assert!(at_a == expected, "{what}: {} messages of 100 at the first", at_a.len());
            assert!(at_b == expected, "{what}: {} messages of 100 at the second", at_b.len());
        }
    }
}

/// A hub that many dial, which then sends to all of them.
fn hub(clients: u32, config: &Config, link: Link) -> (World<Endpoint>, MachineId, Vec<PeerId>) {
    let mut world = World::new(Seed::fixed(1)).link(link);
    let name = |index: u32| format!("node {index}");
    let ids: Vec<MachineId> = world.spawn(clients + 1, |birth| {
        let identity = identity(&name(birth.id.index()));
        Endpoint::new(identity, config.clone(), birth.epoch, &birth.seed, birth.now)
    });
    let hub = ids[0];
    let target = Target::Known(id(&name(0)));
    for &client in &ids[1..] {
        let path = Path::udp(world.addr(client).expect("it runs"), world.addr(hub).expect("it runs"));
        world.with(client, |endpoint, now| endpoint.dial(target, path, now)).expect("it runs").expect("a dial");
    }
    let all = usize::try_from(clients).expect("few");
    assert!(world.run_until(|world| world.get(hub).is_some_and(|hub| open(hub) == all), 20 * SECOND));
    (world, hub, (1..=clients).map(|index| id(&name(index))).collect())
}

#[test]
fn all_peers_of_a_hub_are_served() {
    let (config, protocol) = config();
    let (mut world, hub, clients) = hub(12, &config, delayed(ms(10)).rate(2_000_000).queue(100_000));
    let message = vec![7; 100_000];
    for client in &clients {
        let send = |endpoint: &mut Endpoint, now| {
            let handle = endpoint.by_id(client).expect("a session");
            endpoint.with(handle, now, |peer, _| peer.send(protocol, &message, Urgency::Normal))
        };
        world.with(hub, send).expect("it runs").expect("a session").expect("room");
    }
    let received = |events: &[Timed<peer::endpoint::Event>]| {
        events.iter().any(|timed| matches!(timed.event.event, Event::Mux(peer::mux::Event::Message { .. })))
    };
    let ids: Vec<MachineId> = world.ids().filter(|id| *id != hub).collect();
    assert!(world.run_until(|world| ids.iter().all(|id| received(world.events(*id))), 5 * SECOND));
    let at = |id: &MachineId| {
        let events = world.events(*id).iter();
        let messages = events.filter(|timed| matches!(timed.event.event, Event::Mux(peer::mux::Event::Message { .. })));
        messages.map(|timed| timed.at).next().expect("it came")
    };
    let (first, last) = (ids.iter().map(at).min(), ids.iter().map(at).max());
    assert!(last.zip(first).is_some_and(|(last, first)| last - first < ms(20)), "{first:?} and {last:?}");
}

#[test]
fn sessions_are_told_apart_by_their_ids() {
    let (config, _) = config();
    let (world, hub, clients) = hub(40, &config.max_peers(64), delayed(ms(10)).loss(0.05));
    let hub = world.get(hub).expect("it runs");
    let mut keys = Vec::new();
    for client in &clients {
        let handle = hub.by_id(client).expect("a session");
        let peer = hub.peer(handle).expect("it is there");
        assert_eq!(peer.id(), Some(*client));
        keys.push(peer.exporter(b"test").expect("it is open"));
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), clients.len());
}
