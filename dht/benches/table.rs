//! What a node does for every request that it answers: find the contacts closest to a key.
#![allow(clippy::disallowed_methods, missing_docs, reason = "benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use crypto::Seed;
use dht::{Contact, Key, NodeId, Origin, Subnets, Table, limits};

/// The table of a node in a network of `nodes`.
fn table(nodes: u32, now: Instant) -> Table {
    let mut rng = Seed::fixed(1).rng();
    let mut table = Table::new(Key::from_bytes(rng.array()), Subnets::Public, now);
    for number in 0..nodes {
        let [_, b, c, d] = number.to_be_bytes();
        // A /24 for each.
        let contact = Contact { id: NodeId::from_bytes(rng.array()), addr: ([20 + b, c, d, 1], 4000).into() };
        table.on_answer(contact, Origin::Lookup, now);
    }
    table
}

fn closest(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("table");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for nodes in [200, 10_000, 1_000_000] {
        let table = table(nodes, now);
        let mut rng = Seed::fixed(2).rng();
        let targets: Vec<Key> = (0..256).map(|_| Key::from_bytes(rng.array())).collect();
        let mut next = targets.iter().cycle();
        group.bench_function(format!("closest of {} in a network of {nodes}", table.len()), |b| {
            b.iter(|| next.next().map(|target| black_box(&table).closest(target, limits::K)));
        });
    }
    let mut table = table(10_000, now);
    let known = table.closest(&Key::from_bytes([0; 32]), 1);
    group.bench_function("answer of a known contact", |b| {
        b.iter(|| known.first().map(|contact| table.on_answer(black_box(*contact), Origin::Lookup, now)));
    });
    group.finish();
}

criterion_group!(benches, closest);
criterion_main!(benches);
