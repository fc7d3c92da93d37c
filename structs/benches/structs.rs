//! What the containers cost per operation.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "bench: the clock gives an arbitrary base"
)]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use structs::{Deadlines, Lru, Ring, RotatingFilter, SlidingWindow, TokenBucket};

const ENTRIES: u64 = 4096;
const STEP: Duration = Duration::from_micros(1);

/// Keys of the length of an id, in an order without a pattern.
fn key(n: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

fn lru(c: &mut Criterion) {
    let now = Instant::now();
    let mut full =
        Lru::new(NonZeroUsize::MIN.saturating_add(ENTRIES as usize - 1)).time_to_live(Duration::from_secs(60));
    let mut n = 0;
    while n < ENTRIES {
        let _ = full.insert(key(n), n, 1, now);
        n += 1;
    }
    c.bench_function("lru/get", |b| {
        let mut turn = 0;
        b.iter(|| {
            turn = (turn + 1) % ENTRIES;
            black_box(full.get(&key(turn), now).is_some())
        });
    });
    c.bench_function("lru/insert_and_evict", |b| {
        b.iter(|| {
            n += 1;
            black_box(full.insert(key(n), n, 1, now).is_ok())
        });
    });
}

fn filter(c: &mut Criterion) {
    let now = Instant::now();
    let expected = NonZeroUsize::MIN.saturating_add(99_999);
    let mut filter = RotatingFilter::new(expected, [7; 32]);
    for n in 0..150_000 {
        filter.seen(&key(n), now);
    }
    c.bench_function("filter/seen_known", |b| {
        let mut n = 0;
        b.iter(|| {
            n = (n + 1) % 150_000;
            black_box(filter.seen(&key(n), now))
        });
    });
    let mut n = 150_000;
    c.bench_function("filter/seen_new", |b| {
        b.iter(|| {
            n += 1;
            black_box(filter.seen(&key(n), now))
        });
    });
}

fn bucket(c: &mut Criterion) {
    c.bench_function("bucket/try_take", |b| {
        let mut now = Instant::now();
        let mut bucket = TokenBucket::new(500_000, 64, now);
        b.iter(|| {
            now += STEP;
            black_box(bucket.try_take(1, now))
        });
    });
}

fn deadlines(c: &mut Criterion) {
    let start = Instant::now();
    let mut queue = Deadlines::new();
    for n in 0..ENTRIES {
        queue.set(n, Some(start + STEP * n as u32));
    }
    c.bench_function("deadlines/set_unchanged", |b| {
        let mut n = 0;
        b.iter(|| {
            n = (n + 1) % ENTRIES;
            queue.set(n, Some(start + STEP * n as u32));
        });
    });
    let mut turn = ENTRIES as u32;
    c.bench_function("deadlines/pop_and_set", |b| {
        b.iter(|| {
            turn += 1;
            let due = queue.pop_due(start + STEP * turn).expect("the earliest is due long since");
            queue.set(due, Some(start + STEP * turn));
        });
    });
}

fn window(c: &mut Criterion) {
    c.bench_function("window/accept_in_order", |b| {
        let mut window: SlidingWindow = SlidingWindow::new();
        let mut n = 0;
        b.iter(|| {
            n += 1;
            black_box(window.accept(n))
        });
    });
    c.bench_function("window/accept_out_of_order", |b| {
        let mut window: SlidingWindow = SlidingWindow::new();
        let mut n = 0_u64;
        b.iter(|| {
            n += 1;
            black_box(window.accept(n ^ 0x1f))
        });
    });
}

fn ring(c: &mut Criterion) {
    c.bench_function("ring/push_overwrite_full", |b| {
        let mut ring = Ring::new(256);
        b.iter(|| black_box(ring.push_overwrite(1_u64)));
    });
}

criterion_group!(benches, lru, filter, bucket, deadlines, window, ring);
criterion_main!(benches);
