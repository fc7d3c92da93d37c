//! What the native codec costs per frame. Everything here runs once or more per packet.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "benchmark")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use framing::header::destination;
use framing::{
    DataHeader, Frame, Frames, Hello, Limits, Open, PacketWriter, ProtocolEntry, Reader, Role, Stream, StreamId,
    StreamKind, stream_room,
};

fn id(index: u64) -> StreamId {
    StreamId::new(index, Role::Dialler)
}

fn written(write: impl FnOnce(&mut PacketWriter<'_>) -> bool) -> Vec<u8> {
    let mut space = [0; 1500];
    let mut writer = PacketWriter::new(&mut space);
    assert!(write(&mut writer));
    writer.written().to_vec()
}

/// What a receiver does with each frame, as far as it is the codec's work.
fn walk(payload: &[u8]) -> u64 {
    Frames::new(payload)
        .map(|frame| match frame.unwrap() {
            Frame::Stream(stream) => stream.end(),
            Frame::Ack(ack) => ack.ranges().map(|range| range.end() - range.start()).sum(),
            Frame::Hello(hello) => hello.protocols().map(|entry| u64::from(entry.version)).sum(),
            Frame::Datagram { data, .. } => data.len() as u64,
            Frame::Padding(run) => run as u64,
            _ => 1,
        })
        .sum()
}

fn stream(data: &[u8], index: u64, open: Option<Open>) -> Frame<'_> {
    let offset = if open.is_some() { 0 } else { 1_000_000 };
    Frame::Stream(Stream { id: id(index), offset, open, fin: false, data })
}

fn decode(c: &mut Criterion) {
    let ranges = |count: u64| (0..count).rev().map(|n| 70_000 + n * 100..=70_090 + n * 100);
    let names: Vec<_> = (0..8).map(|n| format!("protocol/{n}")).collect();
    let entries = names.iter().map(|name| ProtocolEntry { name, version: 1 });
    let hello = Hello::compose(entries, Some([1; 16]), Some("agent/1"), &Limits::INITIAL).unwrap();
    let open = Some(Open { protocol: 3, kind: StreamKind::Messages });
    let payloads = [
        ("stream of 1150 bytes", written(|w| stream(&[7; 1150], 70, None).encode(w))),
        ("12 opened streams of 64 bytes", {
            written(|w| (0..12).all(|index| stream(&[7; 64], index, open).encode(w)))
        }),
        ("ack of 1 range", written(|w| w.ack(ranges(1), Duration::from_millis(2), None))),
        ("ack of 64 ranges", written(|w| w.ack(ranges(64), Duration::from_millis(2), None))),
        ("hello of 8 protocols", written(|w| Frame::Hello(Hello::parse(&hello).unwrap()).encode(w))),
        ("datagram and max data", {
            written(|w| Frame::Datagram { protocol: 1, data: &[7; 100] }.encode(w) && Frame::MaxData(1 << 25).encode(w))
        }),
        ("padding of 1100 bytes", written(|w| Frame::Padding(1100).encode(w))),
    ];
    let mut group = c.benchmark_group("decode");
    for (name, payload) in &payloads {
        group.bench_function(*name, |b| b.iter(|| walk(black_box(payload))));
    }
    let mut packet = written(|w| w.put(&[0; 1200]));
    packet[0] = 0xe1;
    group.bench_function("destination", |b| b.iter(|| destination(black_box(&packet))));
    group.bench_function("data header", |b| b.iter(|| DataHeader::decode(&mut Reader::new(black_box(&packet)))));
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let mut space = [0; 1171];
    group.bench_function("stream header", |b| {
        b.iter(|| {
            let mut writer = PacketWriter::new(black_box(&mut space));
            let whole = writer.stream_header(black_box(id(70)), black_box(1_000_000), None, false, 1150);
            (whole, writer.reserve(1150).is_some())
        });
    });
    let data = vec![7; 1200];
    group.throughput(Throughput::Bytes(1160));
    group.bench_function("packet of one stream", |b| {
        b.iter(|| {
            let mut writer = PacketWriter::new(black_box(&mut space));
            let room = stream_room(id(70), 1_000_000, None, writer.remaining()).unwrap();
            assert!(writer.stream_header(id(70), 1_000_000, None, false, room));
            writer.reserve(room).unwrap().copy_from_slice(&data[..room]);
            writer.len()
        });
    });
    group.throughput(Throughput::Elements(1));
    for count in [1_u64, 4, 64] {
        group.bench_function(format!("ack of {count} ranges"), |b| {
            b.iter(|| {
                let mut writer = PacketWriter::new(black_box(&mut space));
                let ranges = (0..count).rev().map(|n| 70_000 + n * 100..=70_090 + n * 100);
                writer.ack(black_box(ranges), Duration::from_millis(2), None)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
