//! What a handshake, a packet and a random choice cost.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto::Seed;
use crypto::v12::{Identity, Nonce, NonceSequence, Session, TopicHash, xor_hash};

/// A short text, a fragment payload of the native size, and the largest payload that the v12 wire sends unfragmented.
const SIZES: [usize; 3] = [64, 1024, 1200];

fn pair() -> (Identity, Identity) {
    (Identity::from_seed(b"alice"), Identity::from_seed(b"bob"))
}

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("v12");
    let (alice, bob) = pair();
    group.bench_function("identity", |b| b.iter(|| Identity::from_seed(black_box(b"alice"))));
    group.bench_function("derive", |b| b.iter(|| Session::derive(&alice, black_box(bob.public())).unwrap()));
    group.finish();
}

fn packets(c: &mut Criterion) {
    let (alice, bob) = pair();
    let sender = Session::derive(&alice, bob.public()).unwrap();
    let receiver = Session::derive(&bob, alice.public()).unwrap();
    let mut group = c.benchmark_group("v12");
    for size in SIZES {
        let payload = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("seal", size), |b| {
            let mut nonces = NonceSequence::new(Duration::from_secs(1_750_000_000), &mut Seed::fixed(1).rng());
            let mut out = Vec::with_capacity(2048);
            b.iter(|| {
                out.clear();
                sender.seal(nonces.next().unwrap(), &[&[0; 4], black_box(&payload)], &mut out);
                black_box(&out);
            });
        });
        let mut sealed = Vec::new();
        sender.seal(Nonce::new(1, 1), &[&[0; 4], &payload], &mut sealed);
        group.bench_function(BenchmarkId::new("open", size), |b| {
            b.iter_batched_ref(
                || sealed.clone(),
                |sealed| receiver.open_in_place(black_box(sealed)).unwrap().1.len(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn hashes(c: &mut Criterion) {
    let mut group = c.benchmark_group("v12");
    group.bench_function("topic_hash", |b| b.iter(|| TopicHash::of(black_box(&[7; 32]))));
    group.throughput(Throughput::Bytes(1024));
    group.bench_function("xor_hash/1024", |b| b.iter(|| xor_hash(black_box(&[7; 1024]))));
    group.finish();
}

fn randomness(c: &mut Criterion) {
    let seed = Seed::fixed(1);
    c.bench_function("seed/fork", |b| b.iter(|| seed.fork(black_box("peer"))));
    let mut rng = seed.rng();
    c.bench_function("rng/next_u64", |b| b.iter(|| rng.next_u64()));
    c.bench_function("rng/below", |b| b.iter(|| rng.below(black_box(1000))));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = keys, packets, hashes, randomness
}
criterion_main!(benches);
