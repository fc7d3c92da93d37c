//! What a session costs without a network: bytes per second of one core, for each side.
//!
//! `cargo bench -p setowire-peer --features fast --bench session [-- PART OF A NAME]`. Not criterion: a round of sending is one batch of
//! up to 64 KiB, both sides take turns in one thread, and the time of each is counted apart. The figures are
//! those of the median of 15 runs, or with `--best` of the quickest, for machines that others use too.
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
use peer::mux::{Protocol, ProtocolId, Protocols, Read, SendError, Urgency, WriteError, push_message};
use peer::{Config, Endpoint, Event, Handle, Target, mux};
use structs::{Datagram, Epoch, Machine, Path, Transmit, TransmitBuf};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|arg| arg == "--test" || arg == "--quick");
    let best = args.iter().any(|arg| arg == "--best");
    let filter = args.into_iter().find(|arg| !arg.starts_with('-'));
    let total: u64 = if quick { 32 << 20 } else { 256 << 20 };
    let runs = if quick { 1 } else { 15 };
    let measure = |name: &str, bench: &dyn Fn() -> Timing| {
        if filter.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            return;
        }
        let mut results: Vec<Timing> = (0..runs).map(|_| bench()).collect();
        results.sort_by_key(|timing| timing.sender + timing.receiver);
        results[if best { 0 } else { runs / 2 }].print(name);
    };
    println!("{:44} {:>10} {:>10} {:>8} {:>10} {:>10}", "", "send MB/s", "recv MB/s", "ns/pkt", "send M/s", "recv M/s");
    for (cipher, aes) in [("AES-256-GCM", true), ("ChaCha20-Poly1305", false)] {
        for mtu in [1452, 8900, 65_507] {
            measure(&format!("stream, {cipher}, packets of {mtu}"), &|| bulk(aes, mtu, total));
        }
    }
    for len in [64, 1024] {
        let count = total / 4 / len as u64;
        measure(&format!("messages of {len}"), &|| messages(len, count));
        measure(&format!("messages of {len} in batches"), &|| batches(len, count));
        measure(&format!("datagrams of {len}"), &|| datagrams(len, count));
    }
    measure("exchanges of 64, a stream for each", &|| exchanges(total >> 9));
}

/// What one run took each side.
#[derive(Clone, Copy)]
struct Timing {
    sender: Duration,
    receiver: Duration,
    bytes: u64,
    items: u64,
    packets: u64,
}

impl Timing {
    fn print(&self, name: &str) {
        let [send, receive] = [self.sender, self.receiver].map(|time| time.as_secs_f64() * 1e6);
        let (bytes, items) = (self.bytes as f64, self.items as f64);
        print!("{name:44} {:10.0} {:10.0} {:8.0}", bytes / send, bytes / receive, send * 1e3 / self.packets as f64);
        match self.items {
            0 => println!(),
            _ => println!(" {:10.2} {:10.2}", items / send, items / receive),
        }
    }
}

/// The time of many short sections.
#[derive(Clone, Copy, Default)]
struct Clock {
    total: Duration,
    sections: u32,
}

impl Clock {
    /// A batch takes some 50 µs. If it took much longer, another process had the core, and the section counts as the mean.
    fn add(&mut self, spent: Duration) {
        let mean = self.total.checked_div(self.sections).unwrap_or(spent);
        self.total += if spent > Duration::from_micros(400) { mean } else { spent };
        self.sections += 1;
    }
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
    sender: Clock,
    receiver: Clock,
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
            sender: Clock::default(),
            receiver: Clock::default(),
            packets: 0,
        };
        // Long enough for the handshake and for the search of the packet size, which goes on while something is sent.
        for turn in 0..2000 {
            if turn % 4 == 0 {
                let _ = bench.a.with(handle, bench.now, |peer, _| peer.send_datagram(protocol, &[]));
            }
            bench.turn();
            bench.now += Duration::from_micros(500);
            bench.a.handle_timeout(bench.now);
            bench.b.handle_timeout(bench.now);
            while bench.a.poll_event().is_some() {}
            while let Some(event) = bench.b.poll_event() {
                bench.at_b = event.peer;
            }
            bench.b.with(bench.at_b, bench.now, |peer, _| while peer.recv_datagram(protocol).is_some() {});
        }
        assert_eq!(bench.a.peer(bench.at_a).unwrap().stats().mtu, mtu, "the size that was to be measured");
        (bench.sender, bench.receiver, bench.packets) = (Clock::default(), Clock::default(), 0);
        bench
    }

    fn timing(&self, bytes: u64, items: u64) -> Timing {
        Timing { sender: self.sender.total, receiver: self.receiver.total, bytes, items, packets: self.packets }
    }

    /// Time passes for both.
    fn pass(&mut self) {
        self.now += Duration::from_micros(50);
        self.a.handle_timeout(self.now);
        self.b.handle_timeout(self.now);
    }

    /// Something at A, on its account.
    fn at_a<R>(&mut self, run: impl FnOnce(&mut Endpoint, Handle) -> R) -> R {
        let start = Instant::now();
        let result = run(&mut self.a, self.at_a);
        self.sender.add(start.elapsed());
        result
    }

    /// Something at B, on its account.
    fn at_b<R>(&mut self, run: impl FnOnce(&mut Endpoint, Handle) -> R) -> R {
        let start = Instant::now();
        let result = run(&mut self.b, self.at_b);
        self.receiver.add(start.elapsed());
        result
    }

    /// One batch from A to B, and what B answers. Returns whether anything moved.
    fn turn(&mut self) -> bool {
        let start = Instant::now();
        let Some(batch) = self.a.poll_transmit(&mut self.out, self.now) else {
            self.sender.add(start.elapsed());
            return self.answer();
        };
        self.sender.add(start.elapsed());
        self.packets += batch.len.div_ceil(batch.segment_size) as u64;
        self.receiver.add(carry(&mut self.out, &mut self.copy, batch, &mut self.b, self.to_b, self.now));
        self.answer();
        true
    }

    /// What B says.
    fn answer(&mut self) -> bool {
        let mut moved = false;
        loop {
            let start = Instant::now();
            let batch = self.b.poll_transmit(&mut self.out, self.now);
            self.receiver.add(start.elapsed());
            let Some(batch) = batch else { return moved };
            self.sender.add(carry(&mut self.out, &mut self.copy, batch, &mut self.a, self.to_a, self.now));
            moved = true;
        }
    }
}

/// A batch to where it goes; returns how long it was worked on there. What the kernel does in between is not counted.
fn carry(
    out: &mut TransmitBuf,
    copy: &mut [u8],
    batch: Transmit,
    to: &mut Endpoint,
    path: Path,
    now: Instant,
) -> Duration {
    copy[..batch.len].copy_from_slice(&out.bytes()[..batch.len]);
    out.clear();
    let start = Instant::now();
    for datagram in copy[..batch.len].chunks_mut(batch.segment_size) {
        to.handle_datagram(Datagram::new(path, datagram), now).unwrap();
    }
    start.elapsed()
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
        bench.sender.add(start.elapsed());
        bench.turn();
        let start = Instant::now();
        while let Ok(Read::Bytes(n)) =
            bench.b.with(bench.at_b, now, |peer, _| peer.read(stream.mirrored(), &mut space)).unwrap()
        {
            read += n as u64;
        }
        while bench.b.poll_event().is_some() {}
        bench.receiver.add(start.elapsed());
        let start = Instant::now();
        while bench.a.poll_event().is_some() {}
        bench.sender.add(start.elapsed());
        bench.now += Duration::from_micros(50);
        bench.a.handle_timeout(bench.now);
        bench.b.handle_timeout(bench.now);
    }
    bench.timing(read, 0)
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
        bench.sender.add(start.elapsed());
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
        bench.receiver.add(start.elapsed());
        let start = Instant::now();
        while bench.a.poll_event().is_some() {}
        bench.sender.add(start.elapsed());
        bench.now += Duration::from_micros(50);
        bench.a.handle_timeout(bench.now);
        bench.b.handle_timeout(bench.now);
    }
    bench.timing(count * len as u64, count)
}

/// Many messages in each call, length by length as they travel.
fn batches(len: usize, count: u64) -> Timing {
    let mut bench = Bench::new(true, 1452);
    let (protocol, now) = (bench.protocol, bench.now);
    let mut batch = Vec::new();
    while batch.len() < 64 << 10 {
        push_message(&mut batch, &vec![7; len]);
    }
    let mut space = Vec::new();
    let (mut sent, mut received) = (0, 0);
    while received < count {
        sent += bench.at_a(|a, at| {
            while a.poll_event().is_some() {}
            a.with(at, now, |peer, _| {
                let mut taken = 0;
                // A receiver that stops in the middle of a batch would measure something else.
                while sent + taken < count {
                    match peer.send_batch(protocol, &batch, Urgency::Normal) {
                        Ok(batch) => taken += batch.messages,
                        Err(SendError::Blocked) => break,
                        Err(other) => panic!("{other}"),
                    }
                }
                taken
            })
            .unwrap()
        });
        bench.turn();
        received += bench.at_b(|b, at| {
            while b.poll_event().is_some() {}
            b.with(at, now, |peer, _| {
                let mut taken = 0;
                loop {
                    space.clear();
                    match peer.recv_batch(protocol, &mut space, 64 << 10) {
                        0 => return taken,
                        messages => taken += messages,
                    }
                }
            })
            .unwrap()
        });
        bench.pass();
    }
    bench.timing(received * len as u64, received)
}

fn datagrams(len: usize, count: u64) -> Timing {
    let mut bench = Bench::new(true, 1452);
    let protocol = bench.protocol;
    let datagram = vec![7; len];
    // What the queue holds without dropping any.
    let burst = 60_000 / (len as u64 + 8);
    let mut received = 0;
    while received < count {
        let now = bench.now;
        bench.at_a(|a, at| {
            while a.poll_event().is_some() {}
            a.with(at, now, |peer, _| (0..burst).for_each(|_| peer.send_datagram(protocol, &datagram).unwrap()))
        });
        bench.turn();
        let before = received;
        bench.at_b(|b, at| {
            while b.poll_event().is_some() {}
            b.with(at, now, |peer, _| {
                while peer.recv_datagram(protocol).is_some() {
                    received += 1
                }
            })
        });
        assert_eq!(received - before, burst, "none is lost here");
        bench.pass();
    }
    bench.timing(received * len as u64, received)
}

/// A stream for each request, which the other side answers on it; 100 are under way at a time.
fn exchanges(count: u64) -> Timing {
    let mut bench = Bench::new(true, 1452);
    let protocol = bench.protocol;
    let (request, mut space) = ([7; 64], [0; 256]);
    let (mut asked, mut done) = (0, 0);
    while done < count {
        let now = bench.now;
        bench.at_a(|a, at| {
            while let Some(event) = a.poll_event() {
                let Event::Mux(mux::Event::Readable { stream }) = event.event else { continue };
                a.with(at, now, |peer, _| {
                    while let Ok(Read::Bytes(n)) = peer.read(stream, &mut space) {
                        assert_eq!(n, 64);
                        done += 1;
                    }
                });
            }
            a.with(at, now, |peer, _| {
                while asked < count && asked - done < 100 {
                    let Ok(stream) = peer.open_stream(protocol) else { break };
                    assert_eq!(peer.write(stream, &request), Ok(64));
                    peer.finish_stream(stream).unwrap();
                    asked += 1;
                }
            });
        });
        bench.turn();
        bench.at_b(|b, at| {
            while let Some(event) = b.poll_event() {
                let Event::Mux(mux::Event::Readable { stream }) = event.event else { continue };
                b.with(at, now, |peer, _| {
                    while let Ok(Read::Bytes(n)) = peer.read(stream, &mut space) {
                        assert_eq!(peer.write(stream, &space[..n]), Ok(64));
                        peer.finish_stream(stream).unwrap();
                    }
                });
            }
        });
        bench.turn();
        bench.pass();
    }
    bench.timing(done * 64, done)
}
