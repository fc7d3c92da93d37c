//! Nodes of the distributed hash table with a network that the input commands, and a stranger who seals what it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crypto::envelope::NodeKey;
use crypto::{Identity, Rng, Seed};
use dht::message::{self, Front, Message};
use dht::{
    Announcer, Contact, Dht, Event, Family, Item, Key, NodeId, QueryId, SignedValue, Subnets, Token, Wanted, limits,
};
use sim::clock;
use structs::{Datagram, Epoch, Machine, Path, TransmitBuf};

use crate::input::Input;

/// Every query ends once, memory stays in its bounds, and who proved nothing gets no more bytes than he sent.
pub fn dht_node(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    while !input.is_empty() && world.delivered < 2000 {
        world.step(&mut input);
    }
    world.settle();
}

const NODES: usize = 3;
const UNIX: Duration = Duration::from_hours(480_001);

fn home(node: usize) -> SocketAddr {
    [([8, 0, 0, 1], 1), ([9, 0, 0, 1], 1), ([11, 0, 0, 1], 1)][node].into()
}

/// Where the stranger is, and where it only claims to be.
const STRANGER: [u8; 4] = [12, 0, 0, 1];
const VICTIM: [u8; 4] = [13, 0, 0, 1];

fn identity() -> Arc<Identity> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    IDENTITY.get_or_init(|| Arc::new(Identity::from_seed([5; 32]))).clone()
}

struct World {
    nodes: Vec<Dht>,
    /// On their way: from, to whom, what.
    network: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    stranger: NodeKey,
    /// What each node gave to the stranger.
    tokens: [Token; NODES],
    rng: Rng,
    now: Instant,
    begun: [BTreeSet<QueryId>; NODES],
    /// What was published last in each place: another one there displaces it without a word.
    places: BTreeMap<(usize, usize, u8), QueryId>,
    owed: BTreeMap<usize, usize>,
    delivered: u32,
}

impl World {
    fn new() -> Self {
        let now = clock::base();
        let mut rng = Seed::fixed(9).rng();
        let nodes = (0..NODES).map(|number| {
            let seed = Seed::fixed(number as u64);
            let epoch = Epoch { instant: now, unix: UNIX };
            let mut dht = Dht::new(NodeKey::generate(&mut rng), Subnets::Public, epoch, &seed, now);
            dht.set_address(home(number), now);
            dht
        });
        let mut nodes: Vec<Dht> = nodes.collect();
        let first = Contact { id: nodes[0].id(), addr: home(0) };
        nodes[1].bootstrap(&[first], now);
        nodes[2].hello(home(0), now);
        let (begun, places, owed) = ([const { BTreeSet::new() }; NODES], BTreeMap::new(), BTreeMap::new());
        let stranger = NodeKey::generate(&mut rng);
        let tokens = [Token::NONE; NODES];
        Self { nodes, network: Vec::new(), stranger, tokens, rng, now, begun, places, owed, delivered: 0 }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let node = input.below(NODES);
        match input.below(16) {
            0..=5 => self.deliver(input.u8().into()),
            6 => {
                let at = input.u8();
                self.on_datagram(at, |_| {}, false);
            }
            7 => {
                let (at, bit) = (input.u8(), usize::from(input.u16()));
                self.on_datagram(at, |bytes| flip(bytes, bit), false);
            }
            8 => {
                let (at, len) = (input.u8(), usize::from(input.u16()));
                self.on_datagram(at, |bytes| bytes.truncate(len % (bytes.len() + 1)), true);
            }
            9 | 10 => {
                let spoofed = input.flip();
                let body = self.body(input);
                self.forge(node, &body, spoofed);
            }
            11 => self.pass(input.pause()),
            12 => self.pass(Duration::from_secs(u64::from(input.u16()))),
            _ => self.command(node, input),
        }
        self.collect();
    }

    /// A body: bytes as they are, or a message that decodes from them, whole.
    fn body(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let mut body = vec![7; 8];
        body.push(input.pick(&[0, 1, 2, 3, 4, 5, 0x80, 0x81, 0x82, 0x83, 0x84, 0xff, 0x33]));
        if input.flip() {
            body.extend_from_slice(&[input.u8(); 32]);
        }
        body.extend_from_slice(input.bytes());
        if input.flip() {
            body.resize(body.len().max(1118), 0);
        }
        body
    }

    fn deliver(&mut self, at: usize) {
        if self.network.is_empty() {
            return;
        }
        let (from, to, mut bytes) = self.network.remove(at % self.network.len());
        self.hand(from, to, &mut bytes);
    }

    /// Hands out a copy of what is on its way, changed, perhaps from somewhere else.
    fn on_datagram(&mut self, at: u8, change: impl FnOnce(&mut Vec<u8>), moved: bool) {
        if self.network.is_empty() {
            return;
        }
        let (mut from, to, mut bytes) = self.network[usize::from(at) % self.network.len()].clone();
        change(&mut bytes);
        if moved {
            from.set_port(from.port().wrapping_add(1));
        }
        self.hand(from, to, &mut bytes);
    }

    fn hand(&mut self, from: SocketAddr, to: SocketAddr, bytes: &mut [u8]) {
        let Some(node) = (0..NODES).find(|node| home(*node) == to) else { return };
        self.delivered += 1;
        let _ = self.nodes[node].handle_datagram(Datagram::new(Path::udp(to, from), bytes), self.now);
    }

    /// The stranger seals something, from where it is with its token, or from where it is not.
    fn forge(&mut self, node: usize, body: &[u8], spoofed: bool) {
        let keys = self.stranger.shared_with(self.nodes[node].id().as_bytes()).expect("no weak key");
        let id = NodeId::from_bytes(*self.stranger.public());
        let (from, token) = if spoofed { (VICTIM, Token::NONE) } else { (STRANGER, self.tokens[node]) };
        let mut sealed = message::seal(&keys, id, token, body, &mut self.rng).expect("short enough");
        if spoofed {
            *self.owed.entry(node).or_default() += sealed.len();
        }
        self.hand((from, 1).into(), home(node), &mut sealed);
    }

    fn pass(&mut self, pause: Duration) {
        let end = self.now + pause;
        for node in 0..NODES {
            let mut turns = 0;
            while let Some(deadline) = self.nodes[node].poll_timeout().filter(|deadline| deadline.at <= end) {
                self.now = self.now.max(deadline.at);
                self.nodes[node].handle_timeout(self.now);
                turns += 1;
                assert!(turns < 200_000, "{} makes no progress", deadline.reason);
                self.collect();
            }
        }
        self.now = end;
    }

    fn command(&mut self, node: usize, input: &mut Input<'_>) {
        let now = self.now;
        let dht = &mut self.nodes[node];
        let byte = input.u8() % 4;
        let key = Key::from_bytes([byte; 32]);
        let value = |byte: u8| Item::Value(Arc::from([byte; 40]));
        let signer = identity();
        let what = input.below(10);
        let begun = match what {
            0 => dht.lookup(key, Family::V4, now).ok(),
            1 => dht.ping(Contact { id: NodeId::from_bytes([byte; 32]), addr: home(0) }, now).ok(),
            2 => dht.peers(&[byte; 32], now).ok(),
            3 => dht.get(Wanted::Value(value(byte).key()), now).ok(),
            4 => dht.get(Wanted::Signed { signer: signer.peer_id(), salt: Box::default() }, now).ok(),
            5 => dht.put(value(byte), now).ok(),
            6 => {
                let signed = SignedValue::sign(&signer, b"", byte.into(), &[byte]).expect("within limits");
                dht.put(Item::Signed(signed), now).ok()
            }
            7 => {
                let announcer = Announcer { identity: signer, addresses: vec![home(node)], relays: Vec::new() };
                dht.announce([byte; 32], announcer, now).ok()
            }
            8 => {
                // In the order of their beginning.
                let some = self.begun[node].iter().nth(byte.into()).copied();
                if let Some(id) = some
                    && (dht.cancel(id) || dht.withdraw(id))
                {
                    self.begun[node].remove(&id);
                }
                None
            }
            _ => {
                dht.set_server(input.flip());
                None
            }
        };
        if let Some(id) = begun {
            assert!(self.begun[node].insert(id), "ids are used once");
            if (5..=7).contains(&what) {
                // There is one signed value, whatever it says.
                let place = (node, what, if what == 6 { 0 } else { byte });
                if let Some(displaced) = self.places.insert(place, id) {
                    self.begun[node].remove(&displaced);
                }
            }
        }
    }

    /// Takes in what the nodes say and send.
    fn collect(&mut self) {
        let mut out = TransmitBuf::new(1);
        for node in 0..NODES {
            let dht = &mut self.nodes[node];
            assert!(dht.buffered_bytes() <= (limits::MAX_QUEUED + limits::MAX_IN_FLIGHT) * 1200 + 64 * 64);
            assert!(dht.in_flight() <= limits::MAX_IN_FLIGHT);
            let stats = dht.stats();
            assert!(stats.publications <= limits::MAX_PUBLICATIONS && stats.stored_bytes <= limits::MAX_STORED_BYTES);
            while let Some(transmit) = dht.poll_transmit(&mut out, self.now) {
                let (to, bytes) = (transmit.path.remote, out.bytes().to_vec());
                out.clear();
                assert!(bytes.len() <= message::MAX_DATAGRAM);
                if to == (STRANGER, 1).into() || to == (VICTIM, 1).into() {
                    let keys = self.stranger.shared_with(dht.id().as_bytes()).expect("no weak key");
                    let answer = match Front::decode(&bytes) {
                        Ok(Front::Retry { token, .. }) => {
                            if to.ip() == std::net::IpAddr::from(STRANGER) {
                                self.tokens[node] = token;
                            }
                            true
                        }
                        // Requests are on its own account.
                        Ok(Front::Sealed { .. }) => message::open(&keys, &mut bytes.clone())
                            .is_ok_and(|body| matches!(Message::decode(body), Ok(Message::Answer(..)))),
                        _ => false,
                    };
                    if answer && to == (VICTIM, 1).into() {
                        let owed = self.owed.entry(node).or_default();
                        *owed = owed.checked_sub(bytes.len()).expect("no more than came from there");
                    }
                } else {
                    self.network.push((home(node), to, bytes));
                }
            }
            while let Some(event) = dht.poll_event() {
                let ended = match event {
                    Event::LookupDone { id, .. }
                    | Event::PingDone { id, .. }
                    | Event::PeersDone { id, .. }
                    | Event::GetDone { id, .. }
                    | Event::Stored { id, round: 0, .. } => id,
                    Event::Peer { id, announcement } => {
                        assert!(self.begun[node].contains(&id) && announcement.peer() == identity().peer_id());
                        continue;
                    }
                    _ => continue,
                };
                assert!(self.begun[node].remove(&ended), "each ends once");
            }
        }
        self.network.truncate(512);
    }

    /// Nothing is lost any more: all that was begun ends.
    fn settle(&mut self) {
        for _ in 0..60 {
            for _ in 0..2000 {
                if self.network.is_empty() {
                    break;
                }
                self.deliver(0);
                self.collect();
            }
            self.pass(Duration::from_secs(1));
        }
        for node in 0..NODES {
            assert!(self.begun[node].is_empty(), "everything ends");
            self.nodes[node].close();
            assert!(self.nodes[node].poll_timeout().is_none() && self.nodes[node].poll_event().is_none());
        }
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    let len = bytes.len();
    if len > 0 {
        bytes[bit / 8 % len] ^= 1 << (bit % 8);
    }
}
