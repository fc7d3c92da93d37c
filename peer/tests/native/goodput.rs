//! How much of a link the applications get: 50 ms there and back; 100 Mbit/s and a queue of one bandwidth-delay product, or no bound.

use std::time::Duration;

use crypto::Seed;
use framing::StreamId;
use peer::congestion::Algorithm;
use peer::mux::Read;
use peer::{Config, Endpoint, Handle, Target};
use sim::pair::{Setup, Side};
use sim::{Link, Pair};

use crate::duo::Duo;
use crate::support::*;

/// Bytes per second of UDP payload, and the bytes of one round trip.
const RATE: u64 = 12_500_000;
const PRODUCT: usize = 416 * 1500;

/// A flow of one sender: what it has written and what was read at the other end.
struct Flow {
    sender: Handle,
    stream: StreamId,
    read: u64,
}

type Duos = Pair<Duo, Duo>;

fn link(loss: f64, products: usize) -> Link {
    Link::perfect().delay(ms(25)).rate(RATE).queue(PRODUCT * products).loss(loss)
}

fn duos(links: [Link; 2], algorithms: [Algorithm; 2], seed: u64) -> Duos {
    let addr = |host: u8, port: u16| std::net::SocketAddr::from(([10, 0, 0, host], port));
    let (a, b) = ([addr(1, 1000), addr(1, 1001)], [addr(2, 1000), addr(2, 1001)]);
    let setup =
        Setup::new(Seed::fixed(seed)).addrs(a[0], b[0]).link_from(Side::A, links[0]).link_from(Side::B, links[1]);
    let now = setup.now();
    let config = |algorithm| -> Config { config().congestion(algorithm).max_datagram(1452) };
    let end = |n: u64| -> [Endpoint; 2] {
        [endpoint(n, config(algorithms[0]), now), endpoint(n + 1, config(algorithms[1]), now)]
    };
    let mut pair = setup.pair(Duo::new(end(11), a), Duo::new(end(21), b));
    pair.add_addr(Side::A, a[1]);
    pair.add_addr(Side::B, b[1]);
    pair
}

fn start(pair: &mut Duos, at: usize) -> Flow {
    let (local, remote) = (pair.a.addrs[at], pair.b.addrs[at]);
    let id = identity(21 + at as u64).peer_id();
    let (_, ids) = protocols();
    pair.with_a(|duo, now| {
        let path = structs::Path::udp(local, remote);
        let sender = duo.members[at].dial(Target::Known(id), path, now).unwrap();
        let stream = duo.members[at].with(sender, now, |peer, _| peer.open_stream(ids[BULK])).unwrap().unwrap();
        Flow { sender, stream, read: 0 }
    })
}

/// Keeps the buffers full and empty for a while.
fn pump(pair: &mut Duos, flows: &mut [(usize, Flow)], span: Duration) {
    let end = pair.elapsed() + span;
    let data = vec![7; 1 << 16];
    let mut space = vec![0; 1 << 16];
    while pair.elapsed() < end {
        for (at, flow) in flows.iter_mut() {
            pair.with_a(|duo, now| {
                duo.members[*at].with(flow.sender, now, |peer, _| while peer.write(flow.stream, &data).is_ok() {});
            });
            let from = identity(11 + *at as u64).peer_id();
            flow.read += pair.with_b(|duo, now| {
                let endpoint = &mut duo.members[*at];
                let Some(peer) = endpoint.by_id(&from) else { return 0 };
                let mut got = 0;
                endpoint.with(peer, now, |peer, _| {
                    while let Ok(Read::Bytes(n)) = peer.read(flow.stream.mirrored(), &mut space) {
                        got += n as u64;
                    }
                });
                got
            });
        }
        pair.run_for(ms(5));
        drop((pair.take_a_events(), pair.take_b_events()));
    }
}

/// The share of the link that one flow gets alone, after a start of 5 s.
fn alone(algorithm: Algorithm, loss: f64, seconds: u64, seed: u64) -> f64 {
    let mut pair = duos([link(loss, 1), link(0.0, 1)], [algorithm; 2], seed);
    let mut flows = [(0, start(&mut pair, 0))];
    pump(&mut pair, &mut flows, ms(5000));
    let before = flows[0].1.read;
    pump(&mut pair, &mut flows, Duration::from_secs(seconds));
    (flows[0].1.read - before) as f64 / (RATE * seconds) as f64
}

/// The share of the link that the first algorithm gets beside a flow of CUBIC.
fn beside_cubic(algorithm: Algorithm, products: usize, seconds: u64, seed: u64) -> f64 {
    let mut pair = duos([link(0.0, products), link(0.0, products)], [algorithm, Algorithm::Cubic], seed);
    let mut flows = [(0, start(&mut pair, 0)), (1, start(&mut pair, 1))];
    pump(&mut pair, &mut flows, ms(5000));
    let before = flows[0].1.read;
    pump(&mut pair, &mut flows, Duration::from_secs(seconds));
    (flows[0].1.read - before) as f64 / (RATE * seconds) as f64
}

/// Bytes in a second over a path that loses in both directions and has no other bound, after a start of 5 s.
fn unbounded(loss: f64, seconds: u64, seed: u64) -> u64 {
    let link = Link::perfect().delay(ms(25)).loss(loss);
    let mut pair = duos([link; 2], [Algorithm::default(); 2], seed);
    let mut flows = [(0, start(&mut pair, 0))];
    pump(&mut pair, &mut flows, ms(5000));
    let before = flows[0].1.read;
    pump(&mut pair, &mut flows, Duration::from_secs(seconds));
    (flows[0].1.read - before) / seconds
}

/// What is behind a lost packet stays in the buffers of both ends until the repetition arrives: they, not the controller, are the bound.
#[test]
fn one_stream_does_not_wait_for_its_buffers_where_much_is_lost() {
    for (loss, goal) in [(0.01, 32_000_000), (0.05, 22_000_000)] {
        let rate = unbounded(loss, 3, 1);
        assert!(rate >= goal, "{rate} bytes a second with {loss} loss");
    }
}

/// A third of the full measurement, with the same goals.
#[test]
fn the_default_controller_fills_a_link_that_loses() {
    let default = Algorithm::default();
    for (loss, goal) in [(0.0, 0.92), (0.01, 0.90), (0.05, 0.82)] {
        let share = alone(default, loss, 4, 1);
        assert!(share >= goal, "{:.1} % of the link with {loss} loss", share * 100.0);
    }
}

/// The whole table, for the documents: `cargo test --release --test native goodput -- --ignored --nocapture`.
#[test]
#[ignore = "minutes in a debug build; its figures are for the documents"]
fn the_whole_table() {
    let default = Algorithm::default();
    for (name, algorithm) in [("default", default), ("cubic", Algorithm::Cubic)] {
        for loss in [0.0, 0.01, 0.05] {
            let shares: Vec<f64> = (1..4).map(|seed| alone(algorithm, loss, 20, seed) * 100.0).collect();
            eprintln!("{name} alone, {:.0} % loss: {shares:.1?} % of the link", loss * 100.0);
        }
    }
    for loss in [0.0, 0.01, 0.05] {
        let rates: Vec<f64> = (1..4).map(|seed| unbounded(loss, 20, seed) as f64 / 1e6).collect();
        eprintln!("default, no bound on the rate, {:.0} % loss: {rates:.1?} MB/s", loss * 100.0);
    }
    for products in [1, 4] {
        for seed in 1..4 {
            let share = beside_cubic(default, products, 20, seed) * 100.0;
            eprintln!("default beside cubic, queue of {products}: {share:.1} % of the link");
        }
    }
}

#[test]
fn the_default_controller_shares_with_cubic() {
    let share = beside_cubic(Algorithm::default(), 1, 8, 2);
    assert!((0.30..0.70).contains(&share), "{:.1} % of the link", share * 100.0);
}
