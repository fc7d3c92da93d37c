//! Sealing and opening packets: per implementation and cipher, beside the bare AEAD operation; generations; envelopes.

#![allow(clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto::envelope::{NodeKey, OVERHEAD};
use crypto::handshake::SessionSecrets;
use crypto::raw::{AeadKey, Backend, HeaderKey};
use crypto::record::{MAX_GENERATION, RecordKeys};
use crypto::{Cipher, Seed};

fn combinations() -> Vec<(String, Cipher, Backend)> {
    let ciphers = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];
    let all = Backend::ALL.iter().flat_map(|&backend| ciphers.map(|cipher| (backend, cipher)));
    all.filter(|&(backend, cipher)| AeadKey::new(backend, cipher, &[0; 32]).is_ok())
        .map(|(backend, cipher)| (format!("{backend:?}/{cipher}"), cipher, backend))
        .collect()
}

fn pair(cipher: Cipher, backend: Backend) -> [RecordKeys; 2] {
    [true, false].map(|initiator| {
        let secrets = SessionSecrets::new([1; 32], [2; 32], [3; 32], [4; 20], initiator);
        RecordKeys::with_backend(&secrets, cipher, backend).unwrap()
    })
}

/// Seals the next packet, and moves on to the next generation when this one is used up.
fn seal(keys: &mut RecordKeys, packet: &mut [u8], pn: &mut u64) {
    if keys.sealed_in_generation() >= MAX_GENERATION {
        keys.on_ack(*pn - 1);
        keys.update().unwrap();
    }
    keys.seal(packet, *pn).unwrap();
    *pn += 1;
}

/// Sizes are those of the text: of a packet that carries it 29 bytes less.
fn packets(c: &mut Criterion) {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now();
    for (name, cipher, backend) in combinations() {
        let mut group = c.benchmark_group(name);
        for size in [64, 1200, 1423, 16_384] {
            group.throughput(Throughput::Bytes(size as u64));
            let key = AeadKey::new(backend, cipher, &[7; 32]).unwrap();
            let mut packet = vec![0; size + 29];
            group.bench_function(BenchmarkId::new("bare_seal", size), |b| {
                let mut pn = 0_u64;
                b.iter(|| {
                    pn += 1;
                    let mut nonce = [0; 12];
                    nonce[4..].copy_from_slice(&pn.to_be_bytes());
                    let (header, body) = black_box(&mut packet).split_at_mut(13);
                    let (text, room) = body.split_at_mut(size);
                    room.copy_from_slice(&key.seal(nonce, header, text).unwrap());
                });
            });
            let [mut a, _] = pair(cipher, backend);
            let mut pn = 0;
            group.bench_function(BenchmarkId::new("seal", size), |b| {
                b.iter(|| seal(&mut a, black_box(&mut packet), &mut pn));
            });
            // Packets are opened once only, so each iteration has one of its own.
            let [mut a, mut b] = pair(cipher, backend);
            let mut pn = 0;
            group.bench_function(BenchmarkId::new("open", size), |bencher| {
                bencher.iter_batched_ref(
                    || {
                        let mut packet = vec![0; size + 29];
                        seal(&mut a, &mut packet, &mut pn);
                        packet
                    },
                    |packet| b.open(black_box(packet), now).unwrap().pn,
                    BatchSize::NumIterations(256),
                );
            });
            let sealed = {
                let mut packet = vec![0; size + 29];
                let (text, room) = packet[13..].split_at_mut(size);
                room.copy_from_slice(&key.seal([0; 12], &[], text).unwrap());
                packet
            };
            group.bench_function(BenchmarkId::new("bare_open", size), |bencher| {
                bencher.iter_batched_ref(
                    || sealed.clone(),
                    |packet| key.open([0; 12], &[], &mut black_box(packet)[13..]).unwrap().len(),
                    BatchSize::NumIterations(256),
                );
            });
        }
        group.finish();
    }
}

fn keys(c: &mut Criterion) {
    for (name, cipher, backend) in combinations() {
        let mut group = c.benchmark_group(name);
        group.bench_function("new", |b| b.iter(|| pair(cipher, backend)));
        let header = HeaderKey::new(backend, cipher, &[9; 32]).unwrap();
        group.bench_function("mask", |b| b.iter(|| header.mask(black_box(&[1; 16]))));
        let [mut a, _] = pair(cipher, backend);
        let mut pn = 0;
        group.bench_function("update", |b| {
            b.iter(|| {
                a.seal(&mut [0; 29], pn).unwrap();
                a.on_ack(pn);
                pn += 1;
                a.update().unwrap()
            });
        });
        let [mut a, _] = pair(cipher, backend);
        let mut pn = 0;
        group.bench_function("seal_after_rest", |b| {
            b.iter(|| {
                a.rest();
                a.seal(&mut [0; 29], pn).unwrap();
                pn += 1;
            });
        });
        let [mut a, _] = pair(cipher, backend);
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        group.bench_function("forgery/1200", |b| {
            b.iter(|| a.open(black_box(&mut [0xE1; 1229]), now).unwrap_err());
        });
        group.finish();
    }
}

fn envelopes(c: &mut Criterion) {
    let mut rng = Seed::fixed(1).rng();
    let (a, b) = (NodeKey::generate(&mut rng), NodeKey::generate(&mut rng));
    c.bench_function("envelope/shared_with", |bencher| bencher.iter(|| a.shared_with(black_box(b.public())).unwrap()));
    let (from, to) = (a.shared_with(b.public()).unwrap(), b.shared_with(a.public()).unwrap());
    for size in [64, 1000] {
        let text = vec![7; size];
        let mut out = Vec::with_capacity(size + OVERHEAD);
        c.bench_function(&format!("envelope/seal/{size}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                from.seal(&[0; 42], &mut rng, black_box(&text), &mut out).unwrap();
            });
        });
        c.bench_function(&format!("envelope/open/{size}"), |bencher| {
            let open = |envelope: &mut Vec<u8>| to.open(&[0; 42], black_box(envelope)).unwrap().len();
            bencher.iter_batched_ref(|| out.clone(), open, BatchSize::NumIterations(256));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = packets, keys, envelopes
}
criterion_main!(benches);
