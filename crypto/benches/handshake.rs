//! What a handshake costs, and what its parts do.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use crypto::handshake::{
    Incoming, Init, InitPayload, InitR, Initiator, NetworkId, RespPayload, Ticket, VERSIONS, Xx1, XxPending,
};
use crypto::{Backend, CookieJar, Identity, KeyPair, PeerId, Rng, Seed};

const HELLO: InitPayload = InitPayload { timestamp: 1, versions: VERSIONS, capabilities: 1, max_datagram: 1452 };
const NETWORK: NetworkId = NetworkId::new([0; 32]);

fn welcome() -> RespPayload {
    RespPayload {
        versions: VERSIONS,
        capabilities: 1,
        max_datagram: 1452,
        observed: "203.0.113.7:4000".parse().unwrap(),
        reset_token: [7; 16],
    }
}

fn init(datagram: &[u8]) -> Init<'_> {
    let Ok(Incoming::Init(init)) = Incoming::parse(datagram) else { panic!("not an INIT") };
    init
}

fn init_r(datagram: &[u8]) -> InitR<'_> {
    let Ok(Incoming::InitR(init)) = Incoming::parse(datagram) else { panic!("not an INIT_R") };
    init
}

fn xx1(datagram: &[u8]) -> Xx1<'_> {
    let Ok(Incoming::Xx1(xx1)) = Incoming::parse(datagram) else { panic!("not an XX1") };
    xx1
}

fn ticket(peer: PeerId) -> Ticket {
    #[expect(clippy::disallowed_methods, reason = "some instant; it is not looked at")]
    Ticket::new([1; 16], [2; 32], peer, Instant::now())
}

fn answered(alice: &Identity, bob: &Identity, rng: &mut Rng) -> (Initiator, Vec<u8>, XxPending) {
    let dial = Initiator::xx(alice, [1; 8], &HELLO, NETWORK, rng).unwrap();
    let (xx2, pending) = xx1(dial.message()).accept(bob, NETWORK).reply([2; 8], &welcome(), rng).unwrap();
    (dial, xx2, pending)
}

/// Both ends of a handshake, one after the other.
fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    let mut rng = Seed::fixed(1).rng();
    for &backend in Backend::ALL {
        let alice = Identity::with_backend([1; 32], backend);
        let bob = Identity::with_backend([2; 32], backend);
        let name = |what| BenchmarkId::new(what, format!("{backend:?}"));
        group.bench_function(name("ik"), |b| {
            b.iter(|| {
                let mut dial = Initiator::ik(&alice, bob.peer_id(), [1; 8], &HELLO, NETWORK, &mut rng).unwrap();
                let accepted = init(dial.message()).accept(&bob, NETWORK).unwrap();
                let (resp, at_bob) = accepted.reply([2; 8], &welcome(), &mut rng).unwrap();
                (dial.finish(&resp, None).unwrap(), at_bob)
            });
        });
        group.bench_function(name("xx"), |b| {
            b.iter(|| {
                let (mut dial, xx2, mut pending) = answered(&alice, &bob, &mut rng);
                let at_alice = dial.finish(&xx2, Some(bob.peer_id())).unwrap();
                let at_bob = pending.finish(at_alice.xx3.as_ref().unwrap()).unwrap();
                (at_alice, at_bob)
            });
        });
    }
    // A ticket has no identity that could say which implementation to use: it is that of the build.
    let bob = Identity::from_seed([2; 32]).peer_id();
    group.bench_function(BenchmarkId::new("resume", format!("{:?}", Backend::default())), |b| {
        b.iter_batched(
            || ticket(bob),
            |ticket| {
                let mut dial = Initiator::resume(ticket, [1; 8], &HELLO, NETWORK, &mut rng).unwrap();
                let accepted = init_r(dial.message()).accept(&[2; 32], NETWORK).unwrap();
                let (resp, at_bob) = accepted.reply([2; 8], &welcome(), &mut rng).unwrap();
                (dial.finish(&resp, None).unwrap(), at_bob)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// What the answering end pays, step by step: what a flood of each kind costs.
fn answering(c: &mut Criterion) {
    let mut group = c.benchmark_group("answer");
    let mut rng = Seed::fixed(1).rng();
    let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
    let dial = Initiator::ik(&alice, bob.peer_id(), [1; 8], &HELLO, NETWORK, &mut rng).unwrap();
    group.bench_function("parse", |b| b.iter(|| Incoming::parse(black_box(dial.message())).unwrap()));
    group.bench_function("mac1", |b| b.iter(|| init(black_box(dial.message())).check_mac1(&bob)));
    #[expect(clippy::disallowed_methods, reason = "where the time begins")]
    let (mut jar, addr, now) = (CookieJar::new(&Seed::fixed(2)), welcome().observed, Instant::now());
    let incoming = Incoming::parse(dial.message()).unwrap();
    group.bench_function("mac2", |b| b.iter(|| jar.check_mac2(black_box(&incoming), addr, now)));
    group.bench_function("cookie", |b| b.iter(|| jar.answer(black_box(&incoming), &bob, None, addr, now).unwrap()));
    for &backend in Backend::ALL {
        let bob = Identity::with_backend([2; 32], backend);
        let name = |what| BenchmarkId::new(what, format!("{backend:?}"));
        group.bench_function(name("ik accept"), |b| b.iter(|| init(dial.message()).accept(&bob, NETWORK).unwrap()));
        group.bench_function(name("ik reply"), |b| {
            b.iter_batched(
                || init(dial.message()).accept(&bob, NETWORK).unwrap(),
                |accepted| accepted.reply([2; 8], &welcome(), &mut rng).unwrap(),
                BatchSize::SmallInput,
            );
        });
        let xx = Initiator::xx(&alice, [1; 8], &HELLO, NETWORK, &mut rng).unwrap();
        group.bench_function(name("xx reply"), |b| {
            b.iter(|| xx1(xx.message()).accept(&bob, NETWORK).reply([2; 8], &welcome(), &mut rng).unwrap());
        });
    }
    group.finish();
}

/// The parts: key agreement on each implementation, names, keys.
fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("keys");
    let mut rng = Seed::fixed(1).rng();
    for &backend in Backend::ALL {
        let name = |what| BenchmarkId::new(what, format!("{backend:?}"));
        let (ours, theirs) = (KeyPair::generate(backend, &mut rng), KeyPair::generate(backend, &mut rng));
        group.bench_function(name("x25519 agree"), |b| b.iter(|| ours.agree(black_box(theirs.public())).unwrap()));
        group.bench_function(name("x25519 generate"), |b| b.iter(|| KeyPair::generate(backend, &mut rng)));
    }
    let peer = Identity::from_seed([1; 32]).peer_id();
    let key = peer.x25519();
    group.bench_function("identity", |b| b.iter(|| Identity::from_seed(black_box([1; 32]))));
    group.bench_function("peer id to x25519", |b| b.iter(|| black_box(&peer).x25519()));
    group.bench_function("peer id from x25519", |b| b.iter(|| PeerId::from_x25519(black_box(&key)).unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = whole, answering, keys
}
criterion_main!(benches);
