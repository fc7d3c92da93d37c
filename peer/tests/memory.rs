//! What an idle session costs an endpoint, counted by the allocator to the byte: maps, queues and all. And how often it
//! wakes the endpoint.
//!
//! `cargo test -p setowire-peer --features fast --test memory -- --nocapture` prints where the bytes were allocated.
//! It is a test program of its own, for whatever else ran beside it would be counted too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as it must be"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crypto::{Identity, Seed};
use peer::endpoint::Event;
use peer::mux::{Protocol, ProtocolId, Protocols, Urgency};
use peer::{Config, Endpoint, Peer, Target};
use sim::{Addresses, Link, MachineId, World};
use structs::{Datagram, Deadline, Epoch, Machine, Path, Rejected, Transmit, TransmitBuf};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// How many, half of them dialled by the endpoint that is measured. Hash tables are three quarters as full then as they
/// can be: about the mean.
const SESSIONS: u32 = 192;

/// What a session may cost, in bytes: the `Peer` with all that it holds, and the endpoint's maps, queues and tickets for
/// it included. The endpoint's part has room for hash tables at their emptiest.
const PEER: usize = 3800;
const IN_ALL: usize = 6 << 10;

/// How often a minute a session may want to be woken.
const WAKES: u64 = 2;

/// How long they are quiet.
const QUIET: Duration = Duration::from_secs(15 * 60);

type Nodes = World<Node>;

/// An endpoint that counts how often its timer fires.
struct Node {
    endpoint: Endpoint,
    wakes: u64,
}

impl Machine for Node {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.endpoint.handle_datagram(datagram, now)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.wakes += 1;
        self.endpoint.handle_timeout(now);
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.endpoint.poll_transmit(out, now)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.endpoint.poll_event()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.endpoint.poll_timeout()
    }
}

fn config() -> (Config, ProtocolId) {
    let mut protocols = Protocols::new();
    let id = protocols.register(Protocol::new("chat", 1)).unwrap();
    (Config::default().protocols(protocols), id)
}

fn identity(n: u32) -> Identity {
    Identity::generate(&mut Seed::fixed(n.into()).rng())
}

fn node(n: u32, seed: &Seed, epoch: Epoch, now: Instant) -> Node {
    Node { endpoint: Endpoint::new(identity(n), config().0, epoch, seed, now), wakes: 0 }
}

fn allocated() -> usize {
    dhat::HeapStats::get().curr_bytes
}

/// How many bytes go with it.
fn freed_with<T>(value: T) -> usize {
    let before = allocated();
    drop(value);
    before - allocated()
}

/// Reads what every peer of every endpoint has to say, as an application does.
fn read_all(world: &mut Nodes, protocol: ProtocolId) -> usize {
    let (mut messages, mut message) = (0, Vec::new());
    for id in world.ids().collect::<Vec<_>>() {
        drop(world.take_events(id));
        let handles = world.get(id).unwrap().endpoint.peers().map(|(handle, _)| handle).collect::<Vec<_>>();
        for handle in handles {
            let mut read = |peer: &mut Peer| std::iter::from_fn(|| peer.recv(protocol, &mut message)).count();
            messages +=
                world.with(id, |node, now| node.endpoint.with(handle, now, |peer, _| read(peer))).unwrap().unwrap();
        }
    }
    messages
}

/// Lets both ends of every session say so much.
fn talk(world: &mut Nodes, protocol: ProtocolId, len: usize) {
    for id in world.ids().collect::<Vec<_>>() {
        let handles = world.get(id).unwrap().endpoint.peers().map(|(handle, _)| handle).collect::<Vec<_>>();
        for handle in handles {
            let send = |node: &mut Node, now| {
                node.endpoint.with(handle, now, |peer, _| peer.send(protocol, &vec![7; len], Urgency::Normal))
            };
            world.with(id, send).unwrap().unwrap().unwrap();
        }
    }
}

/// Connects all others with the first, and lets them talk.
fn busy() -> (Nodes, MachineId) {
    let protocol = config().1;
    let mut world = Nodes::new(Seed::fixed(1)).link(Link::perfect().delay(Duration::from_millis(20)));
    world = world.addresses(Addresses::Public);
    let ids =
        (0..=SESSIONS).map(|n| world.add(|birth| node(n, &birth.seed, birth.epoch, birth.now))).collect::<Vec<_>>();
    for (n, &other) in (1..).zip(ids.get(1..).unwrap()) {
        let (from, to) = if n % 2 == 0 { (ids[0], other) } else { (other, ids[0]) };
        let target = identity(if n % 2 == 0 { n } else { 0 }).peer_id();
        let path = Path::udp(world.addr(from).unwrap(), world.addr(to).unwrap());
        world.with(from, |node, now| node.endpoint.dial(Target::Known(target), path, now)).unwrap().unwrap();
        world.run_for(Duration::from_millis(50));
    }
    world.run_for(Duration::from_secs(2));
    for len in [100, 30_000, 1_000] {
        talk(&mut world, protocol, len);
        let mut read = 0;
        for _ in 0..20 {
            world.run_for(Duration::from_millis(100));
            read += read_all(&mut world, protocol);
        }
        assert_eq!(read, 2 * SESSIONS as usize, "a message of {len} bytes each way");
    }
    (world, ids[0])
}

#[test]
fn an_idle_session_costs_little_memory_and_few_wakes() {
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/idle-sessions.json");
    let profiler = dhat::Profiler::builder().file_name(file).trim_backtraces(Some(24)).build();
    let (mut world, hub) = busy();
    // The others have one session each.
    let wakes = |world: &Nodes| world.machines().map(|node| node.wakes).collect::<Vec<_>>();
    let before = wakes(&world);
    world.run_for(QUIET);
    let wakes = wakes(&world).iter().zip(before).skip(1).map(|(after, before)| after - before).max().unwrap();
    drop(world.take_events(hub));

    let empty = freed_with(node(0, &Seed::fixed(0), Epoch { instant: world.now(), unix: QUIET }, world.now()));
    let node = world.kill(hub).unwrap();
    let sessions = SESSIONS as usize;
    assert_eq!(node.endpoint.peers().filter(|(_, peer)| !peer.is_closed()).count(), sessions);
    // What the profiler finds at its end is the endpoint.
    drop(world);
    let in_all = (allocated() - empty) / sessions;
    drop(profiler);
    drop(node);

    let mut peer = size_of::<Peer>();
    for (place, bytes) in by_place(file) {
        let bytes = bytes / sessions;
        println!("{bytes:6} {place}");
        let name = place.trim_start_matches('<');
        // What is kept of those who were there is the endpoint's, and bounded there.
        let at_endpoint =
            ["peer::endpoint::", "structs::lru::", "structs::deadlines::", "crypto::handshake::acquaintance::"];
        peer += if at_endpoint.iter().any(|part| name.starts_with(part)) { 0 } else { bytes };
    }
    println!("{peer} bytes for an idle Peer, of which {} inline; {in_all} in all", size_of::<Peer>());
    println!("{wakes} wakes in {} min", QUIET.as_secs() / 60);
    assert!(peer <= PEER, "{peer} bytes for an idle Peer");
    assert!(in_all <= IN_ALL, "{in_all} bytes for an idle session");
    assert!(wakes <= WAKES * QUIET.as_secs() / 60, "{wakes} wakes for an idle session in {QUIET:?}");
}

/// Bytes that were there at the end, by the innermost function of ours that asked for them, most first.
fn by_place(file: &str) -> Vec<(String, usize)> {
    let profile: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let frames = profile["ftbl"].as_array().unwrap();
    let mut places = BTreeMap::<&str, usize>::new();
    for point in profile["pps"].as_array().unwrap() {
        let bytes = usize::try_from(point["eb"].as_u64().unwrap()).unwrap();
        let stack =
            point["fs"].as_array().unwrap().iter().filter_map(|frame| frames[frame.as_u64()? as usize].as_str());
        // An address, the function, the line.
        let mut names = stack.filter_map(|frame| frame.split_once(": ").map(|(_, name)| name));
        let ours = |name: &&str| {
            ["peer::", "crypto::", "structs::"].iter().any(|krate| name.trim_start_matches('<').starts_with(krate))
        };
        *places.entry(names.find(ours).unwrap_or("elsewhere")).or_default() += bytes;
    }
    let mut places: Vec<_> = places.into_iter().map(|(place, bytes)| (place.to_owned(), bytes)).collect();
    places.retain(|(_, bytes)| *bytes >= SESSIONS as usize);
    places.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    places
}
