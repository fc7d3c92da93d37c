//! What a session costs that has nothing to do.

use std::time::Duration;

use crypto::{Identity, Seed};
use peer::{Endpoint, Peer, SubnetLimits, Target};
use sim::{Link, World};
use structs::Path;

use crate::support::*;

/// The resident memory of this process; nothing where the system does not tell.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

#[test]
fn an_idle_session_is_small() {
    const SESSIONS: u32 = 600;
    println!("a Peer is {} bytes inline", size_of::<Peer>());
    let mut world: World<Endpoint> = World::new(Seed::fixed(1));
    world.set_default_link(Link::perfect().delay(ms(5)));
    let build = |n: u64| {
        move |birth: sim::world::Birth| {
            let epoch = birth.epoch;
            let config = config().max_peers(2000).subnet_limits(SubnetLimits::Off);
            let identity = Identity::generate(&mut Seed::fixed(n).rng());
            Endpoint::new(identity, config, epoch, &birth.seed, birth.now)
        }
    };
    let hub = world.add(build(0));
    let id = Identity::generate(&mut Seed::fixed(0).rng()).peer_id();
    let others: Vec<_> = (1..=u64::from(SESSIONS)).map(|n| world.add(build(n))).collect();
    world.run_for(ms(100));
    let Some(before) = resident() else { return };
    let at_hub = world.addr(hub).unwrap();
    for &other in &others {
        let path = Path::udp(world.addr(other).unwrap(), at_hub);
        world.with(other, |endpoint, now| endpoint.dial(Target::Known(id), path, now)).unwrap().unwrap();
        world.run_for(ms(2));
    }
    // Long enough for greetings, packet sizes, keepalives, and for what was needed once to be given back.
    world.run_for(Duration::from_secs(60));
    for id in world.ids().collect::<Vec<_>>() {
        drop(world.take_events(id));
    }
    assert_eq!(world.get(hub).unwrap().peers().filter(|(_, peer)| !peer.is_dialling()).count(), SESSIONS as usize);
    let each = resident().unwrap().saturating_sub(before) / (2 * SESSIONS as usize);
    println!("{each} bytes of resident memory for each of {} idle sessions", 2 * SESSIONS);
    // The share of the allocator, the simulator and the endpoints is in it too, and pages are coarse: a session alone holds
    // about 11 KiB. What this finds is a buffer that an idle session keeps.
    assert!(each < 24 << 10, "{each} bytes for an idle session");
}
