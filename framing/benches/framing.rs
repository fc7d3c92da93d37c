//! What the layer costs per frame, per message and per value.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use framing::v12::chunk::Step;
use framing::v12::{
    Batcher, Chunk, ChunkAssembler, ChunkSender, Frame, PexEntry, Reassembler, Reorder, SenderConfig, encode, fragments,
};

fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    build(&mut out);
    out
}

/// Decodes and walks all of a frame.
fn walk(bytes: &[u8]) -> usize {
    match Frame::decode(bytes).unwrap() {
        Frame::Have(keys) => keys.iter().map(<[u8]>::len).sum(),
        Frame::Pex(pex) => pex.iter().map(|entry| usize::from(entry.addr.port())).sum(),
        Frame::Batch(frames) => frames.iter().map(walk).sum(),
        frame => frame.kind() as usize,
    }
}

fn decode(c: &mut Criterion) {
    let (id8, id20, key) = ([1; 8], [2; 20], [3; 32]);
    let ping = built(|o| encode::ping(1_234_567_890_123, id20.into(), o));
    let entry = |port| PexEntry { id: id8.into(), addr: format!("192.168.100.200:{port}").parse().unwrap() };
    let keys: Vec<Vec<u8>> = (0..64).map(|n| format!("some/key/number/{n}").into_bytes()).collect();
    let frames = [
        ("hello", built(|o| encode::hello(id8.into(), key.into(), o))),
        ("data 1200", built(|o| encode::data(&[9; 1232], o).unwrap())),
        ("ping", ping.clone()),
        ("pong", built(|o| encode::pong(id20.into(), o))),
        ("frag", built(|o| encode::frag(id8, 0, 2, &[5; 1188], o).unwrap())),
        ("have 64", built(|o| encode::have(keys.iter().map(Vec::as_slice), o).unwrap())),
        ("chunk part", built(|o| encode::chunk_part(b"some/key", 1, 3, &[7; 900], o).unwrap())),
        ("chunk ack", built(|o| encode::chunk_ack(b"some/key", 1, o).unwrap())),
        ("batch of 20 pings", built(|o| encode::batch([&ping[..]; 20], o).unwrap())),
        ("pex 20", built(|o| encode::pex((1..21).map(entry), o).unwrap())),
        ("relay fwd", built(|o| encode::relay_fwd(id8.into(), entry(9).addr, o).unwrap())),
        ("lan", built(|o| encode::lan(id20.into(), entry(9).addr, Some("0123456789ab"), o).unwrap())),
    ];
    let mut group = c.benchmark_group("decode");
    for (name, bytes) in &frames {
        group.bench_function(*name, |b| b.iter(|| walk(black_box(bytes))));
    }
    group.finish();
}

fn batch(c: &mut Criterion) {
    let now = Instant::now();
    let frame = built(|o| encode::ping(1, [2; 20].into(), o));
    let mut batcher = Batcher::new();
    c.bench_function("batch 20 pings", |b| {
        b.iter_batched(
            || vec![frame.clone(); 20],
            |frames| {
                for frame in frames {
                    batcher.push(frame, now);
                }
                batcher.flush();
                batcher.poll(now).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}

fn reassemble(c: &mut Criterion) {
    let now = Instant::now();
    let payload = vec![7; 60_000];
    let mut frames: Vec<_> = fragments([1; 8], &payload).unwrap().collect();
    let mut group = c.benchmark_group("60 kB");
    group.throughput(Throughput::Bytes(60_000));
    group.bench_function("fragment", |b| b.iter(|| fragments([1; 8], black_box(&payload)).unwrap().last()));
    let run = |frames: &[Vec<u8>]| {
        let mut reassembler = Reassembler::default();
        let mut done = None;
        for frame in frames {
            let Ok(Frame::Frag { id, index, total, data }) = Frame::decode(frame) else {
                return None;
            };
            done = reassembler.add(id, index, total, data, now).unwrap();
        }
        done
    };
    group.bench_function("reassemble in order", |b| b.iter(|| run(black_box(&frames)).unwrap().len()));
    frames.reverse();
    group.bench_function("reassemble backwards", |b| b.iter(|| run(black_box(&frames)).unwrap().len()));
    group.finish();
}

fn reorder(c: &mut Criterion) {
    let now = Instant::now();
    let payload = Bytes::from(vec![7; 1200]);
    let mut group = c.benchmark_group("reorder");
    group.throughput(Throughput::Elements(1));
    group.bench_function("push and poll in order", |b| {
        let mut reorder = Reorder::default();
        let mut seq = 0;
        b.iter(|| {
            if reorder.push(seq, payload.clone(), now).is_err() {
                reorder.reset(0);
            }
            seq = seq.wrapping_add(1);
            reorder.poll(now)
        });
    });
    group.throughput(Throughput::Elements(2));
    group.bench_function("push and poll swapped pairs", |b| {
        let mut reorder = Reorder::default();
        let mut seq = 0;
        b.iter(|| {
            if seq > u32::MAX - 2 {
                reorder.reset(0);
                seq = 0;
            }
            reorder.push(seq + 1, payload.clone(), now).unwrap();
            reorder.push(seq, payload.clone(), now).unwrap();
            seq += 2;
            (reorder.poll(now), reorder.poll(now))
        });
    });
    group.finish();
}

fn chunk(c: &mut Criterion) {
    let t = Instant::now();
    let (key, value) = (Bytes::from_static(b"some/key"), Bytes::from(vec![7; 1_000_000]));
    let run = |config: SenderConfig, acknowledges: bool| {
        let mut sender = ChunkSender::new(key.clone(), value.clone(), config, t).unwrap();
        let mut assembler = ChunkAssembler::default();
        let mut done = None;
        while let Some(step) = sender.poll(t) {
            let Step::Chunk(frame) = step else {
                sender.on_mark(t);
                continue;
            };
            let Ok(Frame::Chunk(Chunk::Part { index, total, data, .. })) = Frame::decode(&frame) else {
                return None;
            };
            done = assembler.add(index, total, data, t + Duration::from_millis(1)).unwrap().or(done);
            if acknowledges {
                sender.on_ack(index, t);
            }
        }
        done
    };
    let mut group = c.benchmark_group("1 MB in chunks");
    group.throughput(Throughput::Bytes(1_000_000));
    group.bench_function("acknowledged", |b| b.iter(|| run(SenderConfig::default(), true).unwrap().len()));
    group.bench_function("marked", |b| {
        b.iter(|| run(SenderConfig::default().assume_unacknowledged(), false).unwrap().len());
    });
    group.finish();
}

criterion_group!(benches, decode, batch, reassemble, reorder, chunk);
criterion_main!(benches);
