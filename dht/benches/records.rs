//! What a node does with requests: read and write them, keep and hand out records, and take one step of a lookup.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs, reason = "benchmark")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use crypto::envelope::NodeKey;
use crypto::{Identity, Seed};
use dht::message::{self, Answer, MAX_BODY, Message, Outcome, Request, Transaction};
use dht::store::Shown;
use dht::{Announcement, Contact, Dht, Event, Family, Item, Key, Kind, NodeId, SignedValue, Store, Subnets, Token};
use structs::{Datagram, Epoch, Machine, Path, TransmitBuf};

const UNIX: Duration = Duration::from_hours(480_000);
const TRANSACTION: Transaction = Transaction([3; 8]);

fn quick(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
}

fn announced(number: u8, key: Key) -> Arc<[u8]> {
    let addr: SocketAddr = ([9, 8, 7, number], 5).into();
    let identity = Identity::from_seed([number; 32]);
    let announcement = Announcement::sign(&identity, key, UNIX, Duration::from_hours(2), &[addr], &[]).unwrap();
    announcement.as_bytes().clone()
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    quick(&mut group);
    let (key, family) = (Key::from_bytes([1; 32]), Family::V4);
    let nodes: Vec<Contact> = (0..20_u8)
        .map(|number| Contact { id: NodeId::from_bytes([number; 32]), addr: ([20, number, 1, 1], 4000).into() })
        .collect();
    let answer = |outcome| {
        let answer = Answer { token: Token::from_bytes([1; 8]), observed: ([9, 8, 7, 6], 5).into(), outcome };
        Message::Answer(TRANSACTION, answer)
    };
    let announcements = (0..5).map(|number| announced(number, key)).collect();
    for (name, message) in [
        ("FIND", Message::Request(TRANSACTION, Request::Find { target: key, family })),
        ("NODES", answer(Outcome::Nodes(nodes.clone()))),
        ("PEERS", answer(Outcome::Peers { total: 100, next: 7, announcements, nodes })),
    ] {
        let body = message.encode(0, MAX_BODY);
        group.bench_function(format!("encode {name}"), |b| b.iter(|| black_box(&message).encode(0, MAX_BODY)));
        group.bench_function(format!("decode {name}"), |b| b.iter(|| Message::decode(black_box(&body))));
    }
    group.finish();
}

fn store(c: &mut Criterion) {
    let mut group = c.benchmark_group("store");
    quick(&mut group);
    let now = Instant::now();
    let topic = Key::from_bytes([1; 32]);
    let from = |number: u32| {
        let [_, b, c, d] = number.to_be_bytes();
        Shown { from: IpAddr::from([20 + b, c, d, 1]), extra: 0, unix: UNIX }
    };
    let mut store = Store::new(Subnets::Public, &Seed::fixed(1));
    for number in 0..10_000_u32 {
        store.put(Kind::Value, &Arc::from([number.to_be_bytes(); 25].concat()), from(number), now).unwrap();
    }
    for number in 0..200 {
        store.announce(topic, &announced(number, topic), from(number.into()), now).unwrap();
    }
    let value: Arc<[u8]> = Arc::from([7; 100]);
    let key = Item::Value(value.clone()).key();
    let signed = SignedValue::sign(&Identity::from_seed([1; 32]), b"", 1, &[7; 100]).unwrap();
    let signed = Item::Signed(signed).to_bytes();
    group.bench_function("put a value", |b| b.iter(|| store.put(Kind::Value, black_box(&value), from(1), now)));
    group.bench_function("put a signed value", |b| {
        b.iter(|| store.put(Kind::Signed, black_box(&signed), from(1), now));
    });
    group.bench_function("get a value", |b| b.iter(|| store.get(Kind::Value, black_box(&key)).is_some()));
    let mut start = 0_u32;
    group.bench_function("a page of 200 announcements", |b| {
        b.iter(|| {
            start = start.wrapping_add(1 << 24);
            store.peers(black_box(&topic), start, 675)
        });
    });
    group.finish();
}

/// A node that knows 20 others, each with the keys that it shares with it.
fn known(now: Instant) -> (Dht, Vec<(NodeKey, SocketAddr)>) {
    let mut rng = Seed::fixed(1).rng();
    let epoch = Epoch { instant: now, unix: UNIX };
    let mut dht = Dht::new(NodeKey::generate(&mut rng), Subnets::Off, epoch, &Seed::fixed(2), now);
    let others: Vec<_> = (0..20).map(|number| (NodeKey::generate(&mut rng), ([10, 0, 0, number], 1).into())).collect();
    for (key, addr) in &others {
        dht.bootstrap(&[Contact { id: NodeId::from_bytes(*key.public()), addr: *addr }], now);
    }
    (dht, others)
}

/// Answers everything that a node asks, until it asks nothing more. Returns how much it asked, and what it took itself.
fn serve(dht: &mut Dht, others: &[(NodeKey, SocketAddr)], now: Instant) -> (u32, Duration) {
    let mut rng = Seed::fixed(3).rng();
    let mut out = TransmitBuf::new(1);
    let (mut asked, mut took) = (0, Duration::ZERO);
    let named = others.iter().map(|(key, addr)| Contact { id: NodeId::from_bytes(*key.public()), addr: *addr });
    let named: Vec<Contact> = named.collect();
    let mut clock = Instant::now();
    while let Some(transmit) = dht.poll_transmit(&mut out, now) {
        took += clock.elapsed();
        let to = transmit.path.remote;
        let (key, _) = others.iter().find(|(_, addr)| *addr == to).unwrap();
        let keys = key.shared_with(dht.id().as_bytes()).unwrap();
        let mut bytes = out.bytes().to_vec();
        out.clear();
        let transaction = Message::decode(message::open(&keys, &mut bytes).unwrap()).unwrap().transaction();
        let (token, outcome) = (Token::from_bytes([1; 8]), Outcome::Nodes(named.clone()));
        let answer = Answer { token, observed: ([10, 0, 1, 1], 1).into(), outcome };
        let body = Message::Answer(transaction, answer).encode(0, MAX_BODY);
        let id = NodeId::from_bytes(*key.public());
        let mut sealed = message::seal(&keys, id, Token::NONE, &body, &mut rng).unwrap();
        let path = Path::udp(([10, 0, 1, 1], 1).into(), to);
        asked += 1;
        clock = Instant::now();
        dht.handle_datagram(Datagram::new(path, &mut sealed), now).unwrap();
    }
    (asked, took)
}

/// One answer of a lookup: opened, taken in, and the next request sealed.
fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    quick(&mut group);
    let now = Instant::now();
    let (mut dht, others) = known(now);
    serve(&mut dht, &others, now);
    while dht.poll_event().is_some() {}
    group.bench_function("one step", |b| {
        b.iter_custom(|steps| {
            let mut all = Duration::ZERO;
            for _ in 0..steps {
                let id = dht.lookup(Key::from_bytes([5; 32]), Family::V4, now).unwrap();
                let (asked, took) = serve(&mut dht, &others, now);
                assert_eq!(asked, 20);
                all += took / asked;
                let mut events = std::iter::from_fn(|| dht.poll_event());
                assert!(events.any(|event| matches!(event, Event::LookupDone { id: done, .. } if done == id)));
            }
            all
        });
    });
    group.finish();
}

criterion_group!(benches, codec, store, step);
criterion_main!(benches);
