//! What a relay does for every datagram of a circuit: from the socket's buffer into a batch for the other end.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "benchmark")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crypto::{Identity, Seed};
use framing::voucher::Voucher;
use relay::message::{Message, Notice, Request};
use relay::{Config, HEADER_LEN, Server};
use structs::{Datagram, Epoch, Machine, Path, TransmitBuf};

fn addr(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 4000).into()
}

/// A relay without limits of rate, and what the first of two peers puts in front of its datagrams.
fn open(now: Instant) -> (Server, Vec<u8>) {
    let config = Config::default().rate(u32::MAX, u32::MAX).total_rate(u32::MAX, u32::MAX);
    let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
    let mut server = Server::new(Identity::from_seed([9; 32]), config, epoch, &Seed::fixed(9), now);
    let ids = [1, 2].map(|number| Identity::from_seed([number; 32]).peer_id());
    let path = |number| Path::udp(addr(9), addr(number));
    server.handle_message(ids[1], path(2), &Request::Reserve { show: true }.encode(), now).unwrap();
    let connect = Request::Connect { request: 1, show: true, target: ids[1] };
    server.handle_message(ids[0], path(1), &connect.encode(), now).unwrap();
    let mut header = Vec::new();
    while let Some((to, message)) = server.peek_message() {
        if let Ok(Some(Message::Notice(Notice::Opened { circuit, .. }))) = Message::decode(message) {
            header = [&[0xc8][..], circuit.as_bytes()].concat();
        }
        server.sent(&to);
    }
    (server, header)
}

fn forward(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("forward");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for (len, batch) in [(100, 1), (1200, 1), (1200, 13)] {
        let (mut server, header) = open(now);
        let mut datagram = [header, vec![0xe0; len]].concat();
        let mut out = TransmitBuf::new(64);
        let mut at = now;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{len} bytes, {batch} at a time"), |b| {
            b.iter(|| {
                // The time that these bytes take at 4 GiB/s, so that tokens never run out.
                at += Duration::from_nanos(400 * batch);
                for _ in 0..batch {
                    server
                        .handle_datagram(Datagram::new(Path::udp(addr(9), addr(1)), black_box(&mut datagram)), at)
                        .unwrap();
                }
                let transmit = server.poll_transmit(&mut out, at).unwrap();
                assert_eq!(transmit.segment_size, HEADER_LEN + len);
                out.clear();
            });
        });
    }
    let (mut server, _) = open(now);
    let mut forged = vec![0xc8; 1209];
    group.throughput(Throughput::Elements(1));
    group.bench_function("a forged circuit", |b| {
        b.iter(|| server.handle_datagram(Datagram::new(Path::udp(addr(9), addr(1)), black_box(&mut forged)), now));
    });
    let relay = Identity::from_seed([9; 32]);
    let voucher =
        Voucher::sign(&relay, Identity::from_seed([1; 32]).peer_id(), Duration::from_secs(9), &[addr(9)]).unwrap();
    group.bench_function("check of a voucher", |b| b.iter(|| Voucher::decode(black_box(voucher.as_bytes()))));
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
