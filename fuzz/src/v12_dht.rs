//! The distributed hash table of v12: three nodes, a network that the input commands, and strangers who say anything.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use crypto::Seed;
use sim::clock;
use structs::{Datagram, Machine, Path, TransmitBuf};
use swarm::v12::dht::{Dht, Event, SearchId};

use crate::input::Input;

/// Whatever arrives: no panic, bounded memory, timers that make progress, no more bytes to an address that did not answer than
/// came from it, every search ends once, and silence after the end.
pub fn v12_dht(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.drain();
    }
    world.finish();
}

const STEPS: usize = 300;
const NODES: usize = 3;

struct Site {
    dht: Dht,
    searches: BTreeMap<SearchId, bool>,
    /// What each stranger, who never answers, sent and got.
    owed: BTreeMap<SocketAddr, (usize, usize)>,
}

struct World {
    now: Instant,
    sites: Vec<Site>,
    /// From, to and what.
    pending: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    history: Vec<Vec<u8>>,
    out: TransmitBuf,
}

fn addr(node: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1 + u8::from(node == 1) + 2 * u8::from(node == 2)), 4000)
}

fn stranger(number: u8) -> SocketAddr {
    ([10, 0, 1, number % 4], 4000).into()
}

impl World {
    fn new() -> Self {
        let now = clock::base();
        let site = |node: usize| Site {
            dht: Dht::new(&Seed::fixed(node as u64), now),
            searches: BTreeMap::new(),
            owed: BTreeMap::new(),
        };
        let (pending, history, out) = (Vec::new(), Vec::new(), TransmitBuf::new(1));
        Self { now, sites: (0..NODES).map(site).collect(), pending, history, out }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (now, at) = (self.now, input.below(NODES));
        let key = input.pick(&["a", "b", "c", "\u{1}\"\\"]);
        match input.below(12) {
            0 => self.sites[at].dht.meet(addr(input.below(NODES)), now),
            1 => {
                let value = "x\"".repeat(input.len() % 5000);
                let stored = self.sites[at].dht.put(key, &value, now);
                assert!(stored.is_err() || value.len() <= 4096);
            }
            2 => {
                if let Some(id) = self.sites[at].dht.find(key, now) {
                    assert_eq!(self.sites[at].searches.insert(id, false), None, "an old number");
                }
            }
            3..=5 => self.deliver_all(),
            6 => {
                if !self.pending.is_empty() {
                    let which = input.below(self.pending.len());
                    let (from, to, bytes) = self.pending[which].clone();
                    match input.below(3) {
                        0 => drop(self.pending.remove(which)),
                        1 => self.deliver(from, to, bytes),
                        _ => self.deliver(stranger(input.u8()), to, bytes),
                    }
                }
            }
            7 => {
                if let Some(last) = self.history.len().checked_sub(1) {
                    let mut bytes = self.history[last - input.below(last + 1).min(last)].clone();
                    for _ in 0..1 + input.below(3) {
                        let place = usize::from(input.u16()) % bytes.len();
                        bytes[place] = input.u8();
                    }
                    let from = if input.flip() { stranger(input.u8()) } else { addr(input.below(NODES)).into() };
                    self.deliver(from, addr(at).into(), bytes);
                }
            }
            8 | 9 => {
                // A message of the right shape with any members.
                let kind = input.below(9);
                let digits = data_encoding::HEXLOWER.encode(&input.array::<20>());
                let rpc: String = input.bytes().iter().take(33).map(|byte| char::from(*byte)).collect();
                let pad = "y".repeat(usize::from(input.u8()));
                let other = addr(input.below(NODES));
                let said = serde_json::json!({
                    "type": kind, "from": digits, "key": digits, "target": digits, "rpcId": rpc, "value": pad,
                    "nodes": [{"id": digits, "ip": other.ip().to_string(), "port": input.u16()}],
                });
                let from = if input.below(4) > 0 { stranger(input.u8()) } else { addr(input.below(NODES)).into() };
                self.deliver(from, addr(at).into(), said.to_string().into_bytes());
            }
            10 => {
                let from = stranger(input.u8());
                self.deliver(from, addr(at).into(), input.bytes().to_vec());
            }
            _ => self.pass(input.pause() * 20),
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, mut bytes: Vec<u8>) {
        let Some(site) = (0..NODES).position(|node| to == addr(node).into()) else { return };
        let site = &mut self.sites[site];
        site.owed.entry(from).or_default().0 += bytes.len();
        let _ = site.dht.handle_datagram(Datagram::new(Path::udp(to, from), &mut bytes), self.now);
    }

    fn deliver_all(&mut self) {
        for (from, to, bytes) in std::mem::take(&mut self.pending) {
            self.deliver(from, to, bytes);
        }
    }

    fn drain(&mut self) {
        for at in 0..NODES {
            let site = &mut self.sites[at];
            while let Some(transmit) = site.dht.poll_transmit(&mut self.out, self.now) {
                let (to, bytes) = (transmit.path.remote, self.out.bytes().to_vec());
                self.out.clear();
                assert!(!site.dht.is_closed(), "it speaks after its end");
                if (0..4).any(|number| to == stranger(number)) {
                    // Strangers answer nothing, so they proved nothing.
                    let (came, went) = site.owed.entry(to).or_default();
                    *went += bytes.len();
                    assert!(*went <= *came, "{went} bytes to one that sent {came}");
                }
                self.history.push(bytes.clone());
                self.history.truncate(64);
                self.pending.push((addr(at).into(), to, bytes));
            }
            while let Some(event) = site.dht.poll_event() {
                if let Event::Found { id, .. } = event {
                    assert_eq!(site.searches.insert(id, true), Some(false), "a search ends once");
                }
            }
            assert!(site.dht.buffered_bytes() <= 3 << 20);
        }
        self.pending.truncate(512);
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let next = self.sites.iter().filter_map(|site| site.dht.poll_timeout()).map(|deadline| deadline.at).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for site in &mut self.sites {
                site.dht.handle_timeout(self.now);
                assert!(site.dht.poll_timeout().is_none_or(|deadline| deadline.at > self.now), "no progress");
            }
            self.drain();
        }
        self.now = end;
    }

    fn finish(mut self) {
        self.pass(Duration::from_secs(60 * 60));
        for site in &self.sites {
            assert!(site.searches.values().all(|ended| *ended), "a search without an end");
        }
        self.sites.iter_mut().for_each(|site| site.dht.shutdown());
        self.drain();
        self.deliver_all();
        self.drain();
        assert!(self.sites.iter().all(|site| site.dht.is_closed() && site.dht.poll_timeout().is_none()));
    }
}
