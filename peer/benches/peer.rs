//! How fast messages go from one peer to the other when there is no network: queue, seal, coalesce, open, deliver.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(missing_docs, reason = "the macros of criterion document nothing")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto::Seed;
use crypto::v12::Identity;
use peer::v12::{Config, Event, Peer, Proof};
use structs::{Datagram, Epoch, Machine, Path, TransmitBuf};

/// Two peers and nothing between them.
struct Couple {
    peers: [Peer; 2],
    paths: [Path; 2],
    out: TransmitBuf,
    datagram: Vec<u8>,
    now: Instant,
    delivered: u64,
}

impl Couple {
    fn new() -> Option<Self> {
        let (a, b) = (([10, 0, 0, 1], 4000).into(), ([10, 0, 0, 2], 4000).into());
        let (now, paths) = (Instant::now(), [Path::udp(a, b), Path::udp(b, a)]);
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_735_689_600) };
        let [alice, bob] = [&b"alice"[..], b"bob"].map(|seed| Arc::new(Identity::from_seed(seed)));
        let config = Config::default().receive_window(1 << 20);
        let peers = [
            Peer::dial(config.clone(), alice, paths[0], 8, &Seed::fixed(1), epoch, now),
            Peer::accept(config, bob, paths[1], &Seed::fixed(2), epoch, now),
        ];
        let (out, datagram) = (TransmitBuf::new(64), Vec::new());
        let mut couple = Self { peers, paths, out, datagram, now, delivered: 0 };
        for _ in 0..1000 {
            couple.turn();
        }
        couple.peers.iter().all(|peer| peer.proof() == Proof::Key).then_some(couple)
    }

    /// A millisecond passes.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        for from in [0, 1] {
            let to = 1 - from;
            if self.peers[from].poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                self.peers[from].handle_timeout(self.now);
            }
            while let Some(transmit) = self.peers[from].poll_transmit(&mut self.out, self.now) {
                for datagram in self.out.segments(&transmit) {
                    self.datagram.clear();
                    self.datagram.extend_from_slice(datagram);
                    let datagram = Datagram::new(self.paths[to], &mut self.datagram);
                    let _counted = self.peers[to].handle_datagram(datagram, self.now);
                }
                self.out.clear();
            }
            while let Some(event) = self.peers[to].poll_event() {
                self.delivered += u64::from(matches!(event, Event::Message { .. }));
            }
        }
    }
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("peer");
    for size in [64, 1024] {
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::new("message", size), &size, |bencher, &size| {
            let message = Bytes::from(vec![7; size]);
            bencher.iter_custom(|count| {
                let Some(mut couple) = Couple::new() else { return Duration::MAX };
                let began = Instant::now();
                while couple.delivered < count {
                    while couple.peers[0].send(message.clone(), couple.now).is_ok() {}
                    couple.turn();
                }
                // A turn may deliver more than was asked for.
                let took = began.elapsed().as_secs_f64() * count as f64 / couple.delivered as f64;
                Duration::from_secs_f64(took)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, messages);
criterion_main!(benches);
