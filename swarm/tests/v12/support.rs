//! A world of nodes, and an attacker who is driven by hand.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::Seed;
use crypto::v12::{Identity, NodeId, Nonce, PublicKey, Session};
use framing::v12::{Frame, Kind, encode};
use sim::{Link, MachineId, Timed, World};
use structs::{Datagram, Ecn, Epoch, Machine, Path, Rejected};
use swarm::PeerId;
use swarm::v12::{Config, Event};
use swarm::v12::{LAN_GROUP, LAN_LINK, Node};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A world of `count` nodes with identities of their own, all on one link.
pub(crate) fn world(count: u32, link: Link, config: &Config) -> (World<Node>, Vec<MachineId>) {
    world_seeded(count, link, config, 1)
}

pub(crate) fn world_seeded(count: u32, link: Link, config: &Config, seed: u64) -> (World<Node>, Vec<MachineId>) {
    let mut world = World::new(Seed::fixed(seed)).link(link);
    let ids = (0..count).map(|index| add(&mut world, index, config)).collect();
    (world, ids)
}

/// Nodes on a local network, everybody connected to everybody.
pub(crate) fn friends(count: u32, config: &Config) -> (World<Node>, Vec<MachineId>) {
    let (mut world, ids) = world(count, Link::lan(), config);
    introduce_all(&mut world, &ids);
    (world, ids)
}

pub(crate) fn introduce_all(world: &mut World<Node>, ids: &[MachineId]) {
    for (index, from) in ids.iter().enumerate() {
        for to in &ids[index + 1..] {
            dial(world, *from, *to);
        }
    }
    connect(world, ids, ids.len() - 1);
    for id in ids {
        world.take_events(*id);
    }
}

pub(crate) fn identity(index: u32) -> Identity {
    Identity::from_seed(format!("node {index}").as_bytes())
}

pub(crate) fn peer_id(index: u32) -> PeerId {
    id_of(&identity(index))
}

pub(crate) fn id_of(identity: &Identity) -> PeerId {
    PeerId::from_bytes(*identity.public().as_bytes())
}

pub(crate) fn add(world: &mut World<Node>, index: u32, config: &Config) -> MachineId {
    let config = config.clone();
    let id = world.add(|birth| node(index, config, birth.seed, birth.epoch, birth.now, birth.addr));
    world.join_group(id, LAN_GROUP.into());
    id
}

pub(crate) fn node(index: u32, config: Config, seed: Seed, epoch: Epoch, now: Instant, addr: SocketAddr) -> Node {
    let mut node = Node::new(config, identity(index), seed, epoch);
    node.set_local_addresses(&[v4(addr)], now);
    node
}

pub(crate) fn v4(addr: SocketAddr) -> SocketAddrV4 {
    match addr {
        SocketAddr::V4(addr) => addr,
        SocketAddr::V6(_) => panic!("IPv4 only"),
    }
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn dial(world: &mut World<Node>, from: MachineId, to: MachineId) {
    let addr = world.addr(to).expect("an address");
    world.with(from, |node, now| node.dial(addr, now)).expect("alive").expect("a dial");
}

/// Runs until every one of `ids` is connected to `degree` others at least.
pub(crate) fn connect(world: &mut World<Node>, ids: &[MachineId], degree: usize) {
    let met = |world: &World<Node>| ids.iter().all(|id| degree_of(world, *id) >= degree);
    for _ in 0..3000 {
        if met(world) {
            return;
        }
        world.run_for(ms(10));
    }
    panic!("not connected within 30 s");
}

pub(crate) fn degree_of(world: &World<Node>, id: MachineId) -> usize {
    world.get(id).map_or(0, |node| node.peers().len())
}

pub(crate) fn say(world: &mut World<Node>, from: MachineId, to: u32, text: impl Into<Bytes>) {
    let text = text.into();
    world.with(from, |node, now| node.send(&peer_id(to), text, now)).expect("alive").expect("sent");
}

pub(crate) fn broadcast(world: &mut World<Node>, from: MachineId, text: impl Into<Bytes>) {
    let text = text.into();
    world.with(from, |node, now| node.broadcast(text, now)).expect("alive").expect("sent");
}

pub(crate) fn messages(world: &mut World<Node>, id: MachineId) -> Vec<Vec<u8>> {
    texts(&world.take_events(id))
}

pub(crate) fn texts(events: &[Timed<Event>]) -> Vec<Vec<u8>> {
    let text = |timed: &Timed<Event>| match &timed.event {
        Event::Message { data, .. } => Some(data.to_vec()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

/// The first event that `pick` wants, and when it happened; it waits for it no longer than `limit`.
pub(crate) fn wait<T>(
    world: &mut World<Node>,
    id: MachineId,
    limit: Duration,
    pick: impl Fn(&Event) -> Option<T>,
) -> Option<(Duration, T)> {
    let found = |world: &World<Node>| world.events(id).iter().find_map(|timed| Some((timed.at, pick(&timed.event)?)));
    let end = world.elapsed() + limit;
    loop {
        if let Some(found) = found(world) {
            return Some(found);
        }
        if world.elapsed() >= end {
            return None;
        }
        world.run_for(ms(5));
    }
}

pub(crate) fn has(world: &World<Node>, id: MachineId, event: impl Fn(&Event) -> bool) -> bool {
    world.events(id).iter().any(|timed| event(&timed.event))
}

/// A frame that an `encode` function writes.
pub(crate) fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame);
    frame
}

pub(crate) fn hello(identity: &Identity) -> Vec<u8> {
    frame(|out| encode::hello(identity.wire_id(), *identity.public(), out))
}

/// A HELLO with a key that nobody needs to own.
pub(crate) fn hello_of(key: PublicKey) -> Vec<u8> {
    frame(|out| encode::hello(NodeId::of(&key).wire(), key, out))
}

pub(crate) fn pong(identity: &Identity) -> Vec<u8> {
    frame(|out| encode::pong(identity.id(), out))
}

pub(crate) fn ping(identity: &Identity) -> Vec<u8> {
    frame(|out| encode::ping(1, identity.id(), out))
}

/// Hands a datagram to a node as if it had come in on its multicast socket.
pub(crate) fn multicast(
    world: &mut World<Node>,
    to: MachineId,
    from: SocketAddr,
    payload: &[u8],
) -> Result<(), Rejected> {
    let path = Path { link: LAN_LINK, local: world.addr(to).expect("an address"), remote: from };
    let mut payload = payload.to_vec();
    let datagram = Datagram { path, ecn: Ecn::NotEct, payload: &mut payload };
    world.with(to, |node, now| node.handle_datagram(datagram, now)).expect("alive")
}

/// Somebody with a key of his own who speaks to one node, at an address that no machine has.
pub(crate) struct Raw {
    pub(crate) identity: Identity,
    pub(crate) addr: SocketAddr,
    pub(crate) victim: MachineId,
    session: Session,
    counter: u64,
    pub(crate) seq: u32,
}

impl Raw {
    /// `victim` is the node number `index`.
    pub(crate) fn new(name: &str, from: SocketAddr, victim: MachineId, index: u32) -> Self {
        Self::of(Identity::from_seed(name.as_bytes()), from, victim, index)
    }

    pub(crate) fn of(own: Identity, from: SocketAddr, victim: MachineId, index: u32) -> Self {
        let session = Session::derive(&own, identity(index).public()).expect("a session");
        Self { identity: own, addr: from, victim, session, counter: 0, seq: 0 }
    }

    pub(crate) fn say(&self, world: &mut World<Node>, frame: &[u8]) {
        world.inject(self.victim, self.addr, frame);
    }

    /// A DATA frame, counted as the existing nodes do.
    pub(crate) fn seal(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        let nonce = Nonce::new(self.session.session_id(), self.counter);
        self.counter += 1;
        let mut frame = vec![Kind::Data.byte()];
        self.session.seal(nonce, parts, &mut frame);
        frame
    }

    pub(crate) fn message(&mut self, text: &[u8]) -> Vec<u8> {
        let seq = self.seq.to_be_bytes();
        self.seq += 1;
        self.seal(&[&seq, text])
    }

    /// Goes on counting from there: packets of an earlier run must not be taken for replays.
    pub(crate) fn counter_from(&mut self, counter: u64) {
        self.counter = counter;
    }

    /// Says HELLO and proves the key.
    pub(crate) fn connect(&mut self, world: &mut World<Node>) {
        self.say(world, &hello(&self.identity));
        let note = self.seal(&[br#"{"_gossip":1}"#]);
        self.say(world, &note);
        assert!(self.is_connected(world), "the key is proved");
    }

    /// Behaves as an existing node that dials and has nothing to say, until its address is proved.
    pub(crate) fn connect_by_address(&self, world: &mut World<Node>) {
        for step in 0..100 {
            self.dial_step(world, step);
            answer_pings(world, &[self], ms(100));
            if self.is_connected(world) {
                return;
            }
        }
        panic!("the address is not proved");
    }

    /// What such a node sends at each tenth of a second: eight HELLOs, 300 ms apart, and a PING each second.
    pub(crate) fn dial_step(&self, world: &mut World<Node>, step: u32) {
        if step < 24 && step.is_multiple_of(3) {
            self.say(world, &hello(&self.identity));
        }
        if step % 10 == 1 {
            self.say(world, &ping(&self.identity));
        }
    }

    pub(crate) fn is_connected(&self, world: &World<Node>) -> bool {
        let id = id_of(&self.identity);
        world.get(self.victim).is_some_and(|node| node.peers().iter().any(|peer| peer.id == id))
    }
}

/// Lets time pass while `raws` answer every PING within a millisecond. Returns where the nodes sent what kinds of
/// datagrams meanwhile. It uses the capture of the world.
pub(crate) fn answer_pings(world: &mut World<Node>, raws: &[&Raw], span: Duration) -> Vec<(SocketAddr, u8)> {
    let (end, mut all) = (world.elapsed() + span, Vec::new());
    while world.elapsed() < end {
        let sent: Vec<(SocketAddr, u8)> = sent_by_nodes(world).map(|(to, payload)| (to, payload[0])).collect();
        world.capture(1 << 20);
        for raw in raws.iter().filter(|raw| sent.contains(&(raw.addr, Kind::Ping.byte()))) {
            raw.say(world, &pong(&raw.identity));
        }
        all.extend(sent);
        world.run_for(ms(1));
    }
    all
}

/// Where datagrams of a kind were sent, by the nodes and not by injection, and how large they were.
pub(crate) fn sent(world: &World<Node>, kind: Kind) -> Vec<(SocketAddr, usize)> {
    sent_by_nodes(world)
        .filter(|(_, payload)| payload.first() == Some(&kind.byte()))
        .map(|(to, payload)| (to, payload.len()))
        .collect()
}

fn sent_by_nodes(world: &World<Node>) -> impl Iterator<Item = (SocketAddr, &[u8])> {
    let sent = world.captured().iter().filter(|captured| world.id_at(captured.from).is_some());
    sent.map(|captured| (captured.to, captured.payload.as_slice()))
}

/// How many HELLOs were sent to each address.
pub(crate) fn hellos(world: &World<Node>) -> BTreeMap<SocketAddr, usize> {
    let mut count = BTreeMap::new();
    for (to, _) in sent(world, Kind::Hello) {
        *count.entry(to).or_default() += 1;
    }
    count
}

/// Asserts that nobody without a machine got more bytes than were injected in his name.
pub(crate) fn assert_no_amplification(world: &World<Node>) {
    assert_eq!(world.capture_missed(), 0);
    let mut balance: BTreeMap<SocketAddr, i64> = BTreeMap::new();
    for captured in world.captured() {
        let (from, to) = (world.id_at(captured.from), world.id_at(captured.to));
        if from.is_none() && to.is_some() {
            *balance.entry(captured.from).or_default() += captured.payload.len() as i64;
        } else if from.is_some() && to.is_none() && captured.to != SocketAddr::from(LAN_GROUP) {
            let balance = balance.entry(captured.to).or_default();
            *balance -= captured.payload.len() as i64;
            assert!(*balance >= 0, "{} got {} bytes more than it sent", captured.to, -*balance);
        }
    }
}

/// One frame of every kind, as `identity` would send it.
pub(crate) fn one_of_each(raw: &mut Raw) -> Vec<Vec<u8>> {
    let (id, name) = (raw.identity.id(), raw.identity.wire_id());
    let target = "10.200.0.1:4000".parse().expect("an address");
    let entry = framing::v12::PexEntry { id: [7; 8].into(), addr: target };
    let want = frame(|out| encode::want(b"key", out).unwrap());
    let all = vec![
        hello(&raw.identity),
        frame(|out| encode::hello_ack(name, *raw.identity.public(), out)),
        raw.message(b"sealed"),
        ping(&raw.identity),
        pong(&raw.identity),
        frame(|out| encode::pong_echo(1, id, b"", out)),
        frame(|out| encode::ihave([[1; 8]], out).unwrap()),
        frame(|out| encode::lan(id, target, None, out).unwrap()),
        vec![0x0a, 0x00],
        frame(|out| encode::frag([1; 8], 0, 1, b"in the clear", out).unwrap()),
        frame(|out| encode::have([b"key".as_slice()], out).unwrap()),
        want.clone(),
        frame(|out| encode::chunk(b"key", b"value", out).unwrap()),
        frame(|out| encode::chunk_part(b"key", 0, 1, b"value", out).unwrap()),
        frame(|out| encode::batch([want.as_slice()], out).unwrap()),
        frame(|out| encode::chunk_ack(b"key", 0, out).unwrap()),
        frame(|out| encode::relay_ann(name, target, out).unwrap()),
        frame(|out| encode::relay_req(name, [7; 8].into(), target, out).unwrap()),
        frame(|out| encode::relay_fwd([7; 8].into(), target, out).unwrap()),
        frame(|out| encode::pex([entry], out).unwrap()),
    ];
    for frame in &all {
        assert!(frame[0] == Kind::Data.byte() || Frame::decode(frame).is_ok(), "{frame:02x?}");
    }
    all
}
