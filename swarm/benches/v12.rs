//! What a message costs from one node to another, sockets left out.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark, which reads the clock")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto::Seed;
use crypto::v12::Identity;
use structs::{Datagram, Ecn, Epoch, Machine, Path, TransmitBuf};
use swarm::PeerId;
use swarm::v12::Node;
use swarm::v12::{Config, Event};

/// One sender, and a receiver that has `others` more peers.
struct Nodes {
    nodes: Vec<Node>,
    addrs: Vec<SocketAddr>,
    out: TransmitBuf,
    now: Instant,
    messages: u64,
}

fn identity(index: usize) -> Identity {
    Identity::from_seed(&index.to_be_bytes())
}

impl Nodes {
    fn new(others: usize) -> Self {
        let now = sim::clock::base();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_750_000_000) };
        let addrs: Vec<SocketAddr> = (0..others + 2).map(|n| SocketAddr::from(([10, 0, n as u8, 1], 4000))).collect();
        let config = Config::default().flood(false).receive_buffer(8 << 20);
        let nodes =
            (0..others + 2).map(|n| Node::new(config.clone(), identity(n), Seed::fixed(n as u64), epoch)).collect();
        let mut nodes = Self { nodes, addrs, out: TransmitBuf::new(16), now, messages: 0 };
        for from in (0..others + 2).filter(|from| *from != 1) {
            let receiver = nodes.addrs[1];
            let now = nodes.now;
            nodes.nodes[from].dial(receiver, now).unwrap();
            nodes.turn(Duration::from_millis(1));
        }
        for _ in 0..1000 {
            nodes.turn(Duration::from_millis(1));
        }
        assert_eq!(nodes.nodes[1].peers().len(), others + 1);
        nodes
    }

    /// Lets `step` pass and moves every datagram, until none is left.
    fn turn(&mut self, step: Duration) {
        self.now += step;
        let mut moved = true;
        while moved {
            moved = false;
            for from in 0..self.nodes.len() {
                if self.nodes[from].poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                    self.nodes[from].handle_timeout(self.now);
                }
                while let Some(transmit) = self.nodes[from].poll_transmit(&mut self.out, self.now) {
                    moved = true;
                    let to = self.addrs.iter().position(|addr| *addr == transmit.path.remote).unwrap();
                    let path = Path::udp(self.addrs[to], self.addrs[from]);
                    // The socket would copy as much.
                    let mut batch = self.out.segments(&transmit).map(<[u8]>::to_vec).collect::<Vec<_>>();
                    self.out.clear();
                    for payload in &mut batch {
                        let datagram = Datagram { path, ecn: Ecn::NotEct, payload };
                        let _ = self.nodes[to].handle_datagram(datagram, self.now);
                    }
                }
                while let Some(event) = self.nodes[from].poll_event() {
                    self.messages += u64::from(matches!(event, Event::Message { .. }));
                }
            }
        }
    }

    /// Sends `count` messages and takes them in.
    fn carry(&mut self, count: u64, len: usize) {
        let to = PeerId::from_bytes(*identity(1).public().as_bytes());
        let (mut sent, before) = (0, self.messages);
        while self.messages - before < count {
            while sent < count && sent < self.messages - before + 256 {
                let mut text = vec![7; len];
                text[..8].copy_from_slice(&(before + sent).to_be_bytes());
                self.nodes[0].send(&to, Bytes::from(text), self.now).unwrap();
                sent += 1;
            }
            self.turn(Duration::from_millis(1));
        }
    }
}

fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("node");
    for (len, others) in [(64, 0), (1024, 0), (64, 98), (1024, 98)] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new(format!("message_{len}"), format!("{}_peers", others + 1)), |b| {
            let mut nodes = Nodes::new(others);
            b.iter_custom(|count| {
                let start = Instant::now();
                nodes.carry(count, len);
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, messages);
criterion_main!(benches);
