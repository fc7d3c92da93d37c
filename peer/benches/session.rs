//! What a session costs without a network: bytes per second of one core, for each side.
//!
//! `cargo bench -p setowire-peer --features fast --bench session`. Not criterion: a round of sending is one batch of
//! up to 64 KiB, both sides take turns in one thread, and the time of each is counted apart. The figures are the
//! median of several runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and stops at the first surprise"
)]

use std::time::{Duration, Instant};

use crypto::{Identity, Seed};
use peer::congestion::Algorithm;
use peer::mux::{Protocol, ProtocolId, Protocols, Read, SendError, Urgency, WriteError};
use peer::{Config, Endpoint, Event, Handle, Target, mux};
use structs::{Datagram, Epoch, Machine, Path, TransmitBuf};

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test" || arg == "--quick");
    let total: u64 = if quick { 16 << 20 } else { 1 << 30 };
    let runs = if quick { 1 } else { 5 };
    println!("{:34} {:>12} {:>12} {:>12}", "one stream", "send MB/s", "receive MB/s", "ns/packet");
    for (cipher, aes) in [("AES-256-GCM", true), ("ChaCha20-Poly1305", false)] {
        for mtu in [1452, 8900, 65_507] {
            let mut results: Vec<Timing> = (0..runs).map(|_| bulk(aes, mtu, total)).collect();
            let timing = median(&mut results);
            println!(
                "{:34} {:12.0} {:12.0} {:12.0}",
                format!("{cipher}, packets of {mtu}"),
                timing.rate(timing.sender),
                timing.rate(timing.receiver),
                timing.sender.as_nanos() as f64 / timing.packets as f64,
            );
        }
    }
    println!("\n{:34} {:>12} {:>12}", "messages", "send M/s", "receive M/s");
    for len in [64, 1024] {
        let count = total / 4 / len as u64;
        let mut results: Vec<Timing> = (0..runs).map(|_| messages(len, count)).collect();
        let timing = median(&mut results);
        let rate = |time: Duration| count as f64 / time.as_secs_f64() / 1e6;
        println!("{:34} {:12.2} {:12.2}", format!("{len} bytes"), rate(timing.sender), rate(timing.receiver));
    }
}

#[derive(Clone, Copy)]
struct Timing {
    sender: Duration,
    receiver: Duration,
    bytes: u64,
    packets: u64,
}

impl Timing {
    fn rate(&self, time: Duration) -> f64 {
        self.bytes as f64 / time.as_secs_f64() / 1e6
    }
}

fn median(results: &mut [Timing]) -> Timing {
    results.sort_by_key(|timing| timing.sender + timing.receiver);
    results[results.len() / 2]
}

/// Two endpoints in one thread, and the time that each has taken.
struct Bench {
    a: Endpoint,
    b: Endpoint,
    to_a: Path,
    to_b: Path,
    at_a: Handle,
    at_b: Handle,
    protocol: ProtocolId,
    out: TransmitBuf,
    copy: Vec<u8>,
    now: Instant,
    sender: Duration,
    receiver: Duration,
    packets: u64,
}

impl Bench {
    fn new(aes: bool, mtu: usize) -> Self {
        let mut protocols = Protocols::new();
        let protocol = protocols.register(Protocol::new("bulk", 1)).unwrap();
        let config =
            Config::default().protocols(protocols).aes(aes).max_datagram(mtu).congestion(Algorithm::Fixed(1 << 20));
        let mut rng = Seed::fixed(1).rng();
        let (alice, bob) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
        let id = bob.peer_id();
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_790_000_000) };
        let (at_a, at_b) = ("127.0.0.1:4000".parse().unwrap(), "127.0.0.1:4001".parse().unwrap());
        let mut a = Endpoint::new(alice, config.clone(), epoch, &Seed::fixed(2), now);
        let b = Endpoint::new(bob, config, epoch, &Seed::fixed(3), now);
        let handle = a.dial(Target::Known(id), Path::udp(at_a, at_b), now).unwrap();
        let mut bench = Self {
            a,
            b,
            to_a: Path::udp(at_a, at_b),
            to_b: Path::udp(at_b, at_a),
            at_a: handle,
            at_b: handle,
            protocol,
            out: TransmitBuf::new(64),
            copy: vec![0; 1 << 16],
            now,
            sender: Duration::ZERO,
            receiver: Duration::ZERO,
            packets: 0,
        };
        // Long enough for the handshake and for the search of the packet size.
        for _ in 0..2000 {
            bench.turn();
            bench.now += Duration::from_micros(500);
            bench.a.handle_timeout(bench.now);
            bench.b.handle_timeout(bench.now);
            while bench.a.poll_event().is_some() {}
            while let Some(event) = bench.b.poll_event() {
                bench.at_b = event.peer;
            }
        }
        assert_eq!(bench.a.peer(bench.at_a).unwrap().stats().mtu, mtu, "the size that was to be measured");
        (bench.sender, bench.receiver, bench.packets) = (Duration::ZERO, Duration::ZERO, 0);
        bench
    }

    /// One batch from A to B, and what B answers. Returns whether anything moved.
    fn turn(&mut self) -> bool {
        let moved = carry(
            &mut self.a,
            &mut self.b,
            self.to_b,
            &mut self.out,
            &mut self.copy,
            self.now,
            [&mut self.sender, &mut self.receiver],
            &mut self.packets,
        );
        let mut acks = 0;
        carry(
            &mut self.b,
            &mut self.a,
            self.to_a,
            &mut self.out,
            &mut self.copy,
            self.now,
            [&mut self.receiver, &mut self.sender],
            &mut acks,
        ) | moved
    }
}

#[allow(clippy::too_many_arguments, reason = "the two halves of one struct, borrowed apart")]
fn carry(
    from: &mut Endpoint,
    to: &mut Endpoint,
    path: Path,
    out: &mut TransmitBuf,
    copy: &mut [u8],
    now: Instant,
    [gives, takes]: [&mut Duration; 2],
    packets: &mut u64,
) -> bool {
    let mut moved = false;
    loop {
        let start = Instant::now();
        let transmit = from.poll_transmit(out, now);
        *gives += start.elapsed();
        let Some(transmit) = transmit else { return moved };
        moved = true;
        // What the kernel does in between is not counted.
        copy[..transmit.len].copy_from_slice(&out.bytes()[..transmit.len]);
        out.clear();
        let start = Instant::now();
        for datagram in copy[..transmit.len].chunks_mut(transmit.segment_size) {
            *packets += 1;
            to.handle_datagram(Datagram::new(path, datagram), now).unwrap();
        }
        *takes += start.elapsed();
    }
}

fn bulk(aes: bool, mtu: usize, total: u64) -> Timing {
    let mut bench = Bench::new(aes, mtu);
    let protocol = bench.protocol;
    let stream = bench.a.with(bench.at_a, bench.now, |peer, _| peer.open_stream(protocol)).unwrap().unwrap();
    let data = vec![7; 64 << 10];
    let mut space = vec![0; 64 << 10];
    let (mut written, mut read) = (0_u64, 0_u64);
    while read < total {
        let now = bench.now;
        let start = Instant::now();
        while written < total {
            match bench.a.with(bench.at_a, now, |peer, _| peer.write(stream, &data)).unwrap() {
                Ok(n) => written += n as u64,
                Err(WriteError::Blocked) => break,
                Err(other) => panic!("{other}"),
            }
        }
        bench.sender += start.elapsed();
        bench.turn();
        let start = Instant::now();
        while let Ok(Read::Bytes(n)) =
            bench.b.with(bench.at_b, now, |peer, _| peer.read(stream.mirrored(), &mut space)).unwrap()
        {
            read += n as u64;
        }
        while bench.b.poll_event().is_some() {}
        bench.receiver += start.elapsed();
        let start = Instant::now();
        while bench.a.poll_event().is_some() {}
        bench.sender += start.elapsed();
        bench.now += Duration::from_micros(50);
        bench.a.handle_timeout(bench.now);
        bench.b.handle_timeout(bench.now);
    }
    Timing { sender: bench.sender, receiver: bench.receiver, bytes: read, packets: bench.packets }
}

fn messages(len: usize, count: u64) -> Timing {
    let mut bench = Bench::new(true, 1452);
    let protocol = bench.protocol;
    let message = vec![7; len];
    let mut space = Vec::new();
    let (mut sent, mut received) = (0, 0);
    while received < count {
        let now = bench.now;
        let start = Instant::now();
        let (at_a, at_b) = (bench.at_a, bench.at_b);
        bench.a.with(at_a, now, |peer, _| {
            while sent < count {
                match peer.send(protocol, &message, Urgency::Normal) {
                    Ok(_) => sent += 1,
                    Err(SendError::Blocked) => break,
                    Err(other) => panic!("{other}"),
                }
            }
        });
        bench.sender += start.elapsed();
        bench.turn();
        let start = Instant::now();
        bench.b.with(at_b, now, |peer, _| {
            while peer.recv(protocol, &mut space).is_some() {
                received += 1;
            }
        });
        while let Some(event) = bench.b.poll_event() {
            if let Event::Mux(mux::Event::Message { .. }) = event.event {}
        }
        bench.receiver += start.elapsed();
        let start = Instant::now();
        while bench.a.poll_event().is_some() {}
        bench.sender += start.elapsed();
        bench.now += Duration::from_micros(50);
        bench.a.handle_timeout(bench.now);
        bench.b.handle_timeout(bench.now);
    }
    Timing { sender: bench.sender, receiver: bench.receiver, bytes: count * len as u64, packets: bench.packets }
}
