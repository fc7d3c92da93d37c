//! Two endpoints, and what every test asks of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::{Identity, PeerId, Seed};
use peer::endpoint::{Event, Stats};
use peer::{Config, Connected, Endpoint, Handle, Reason, Target};
use sim::pair::{Setup, Side};
use sim::{Captured, Link, Pair, Timed, clock};
use structs::{Epoch, Path};

/// Two endpoints of this implementation.
pub(crate) type Ours = Pair<Endpoint, Endpoint>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The application's goodbye.
pub(crate) const BYE: u64 = 0x100;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The identity of a name: the same in every test.
pub(crate) fn identity(name: &str) -> Identity {
    Identity::from_seed(Seed::fixed(0).fork(name).rng().array())
}

pub(crate) fn id(name: &str) -> PeerId {
    identity(name).peer_id()
}

/// Two names, the one with the smaller id first.
pub(crate) fn sorted() -> [&'static str; 2] {
    if id("alice") < id("bob") { ["alice", "bob"] } else { ["bob", "alice"] }
}

/// The wall clock of every test: the simulation begins on 2025-01-01.
pub(crate) fn epoch() -> Epoch {
    Epoch { instant: clock::base(), unix: Duration::from_secs(1_735_689_600) }
}

/// An endpoint, as if its process had begun at `now`.
pub(crate) fn endpoint(name: &str, config: Config, seed: u64, now: Instant) -> Endpoint {
    Endpoint::new(identity(name), config, epoch(), &Seed::fixed(seed).fork(name), now)
}

/// Alice and Bob, who do not know of each other.
pub(crate) fn strangers(config: &Config, setup: Setup, seed: u64) -> Ours {
    named(["alice", "bob"], config, setup, seed)
}

pub(crate) fn named([a, b]: [&str; 2], config: &Config, setup: Setup, seed: u64) -> Ours {
    let now = setup.now();
    setup.pair(endpoint(a, config.clone(), seed, now), endpoint(b, config.clone(), seed, now))
}

pub(crate) fn setup(link: Link, seed: u64) -> Setup {
    Setup::new(Seed::fixed(seed)).link(link)
}

/// A link of `delay` each way and nothing else.
pub(crate) fn delayed(delay: Duration) -> Link {
    Link::perfect().delay(delay)
}

/// Alice dials Bob by his key.
pub(crate) fn dial(pair: &mut Ours, side: Side, target: Target) -> Handle {
    let path = pair.path(side);
    match side {
        Side::A => pair.with_a(|a, now| a.dial(target, path, now)),
        Side::B => pair.with_b(|b, now| b.dial(target, path, now)),
    }
    .expect("a dial")
}

/// Alice and Bob in a session that Alice dialled.
pub(crate) fn friends(config: &Config, link: Link, seed: u64) -> Ours {
    let mut pair = strangers(config, setup(link, seed), seed);
    dial(&mut pair, Side::A, Target::Known(id("bob")));
    assert!(pair.run_until(both_open, 10 * SECOND), "no session: {:?}, {:?}", pair.a_events(), pair.b_events());
    pair.take_a_events();
    pair.take_b_events();
    pair
}

/// How many sessions an endpoint has.
pub(crate) fn open(endpoint: &Endpoint) -> usize {
    endpoint.peers().filter(|(_, peer)| !peer.is_closed() && !peer.is_dialling()).count()
}

pub(crate) fn both_open(pair: &Ours) -> bool {
    open(&pair.a) > 0 && open(&pair.b) > 0
}

/// The handshakes among events.
pub(crate) fn connected(events: &[Timed<Event>]) -> Vec<(Handle, Connected)> {
    let connected = |timed: &Timed<Event>| match &timed.event.event {
        peer::Event::Connected(connected) => Some((timed.event.peer, connected.clone())),
        _ => None,
    };
    events.iter().filter_map(connected).collect()
}

/// The ends among events.
pub(crate) fn closed(events: &[Timed<Event>]) -> Vec<(Duration, Handle, Reason)> {
    let closed = |timed: &Timed<Event>| match &timed.event.event {
        peer::Event::Closed(closed) => Some((timed.at, timed.event.peer, closed.reason.clone())),
        _ => None,
    };
    events.iter().filter_map(closed).collect()
}

/// What was sent by `from`, as first bytes and lengths; sealed packets as 0xE0 and 0.
pub(crate) fn sent(pair: &Ours, from: SocketAddr) -> Vec<(u8, usize)> {
    let shape = |captured: &Captured| match captured.payload.first() {
        Some(first) if *first < 0xe0 => (*first, captured.payload.len()),
        _ => (0xe0, 0),
    };
    pair.captured().iter().filter(|captured| captured.from == from).map(shape).collect()
}

/// The datagrams with a first byte that `from` sent.
pub(crate) fn sent_kind(pair: &Ours, from: SocketAddr, kind: u8) -> Vec<Vec<u8>> {
    let kinds = |captured: &&Captured| captured.from == from && captured.payload.first() == Some(&kind);
    pair.captured().iter().filter(kinds).map(|captured| captured.payload.clone()).collect()
}

/// Where a side is.
pub(crate) fn at(pair: &Ours, side: Side) -> SocketAddr {
    pair.path(side).local
}

/// Bytes that went to an address.
pub(crate) fn bytes_to(pair: &Ours, to: SocketAddr) -> usize {
    pair.captured().iter().filter(|captured| captured.to == to).map(|captured| captured.payload.len()).sum()
}

/// What an endpoint of this name would send first, were it to dial over `path` at this moment.
pub(crate) fn first_message(name: &str, target: Target, path: Path, seed: u64, now: Instant) -> Vec<u8> {
    use structs::{Machine, TransmitBuf};
    let mut endpoint = endpoint(name, Config::default(), seed, now);
    endpoint.dial(target, path, now).expect("a dial");
    let mut out = TransmitBuf::new(1);
    endpoint.poll_transmit(&mut out, now).expect("a first message");
    out.bytes().to_vec()
}

/// What does not change by what nobody can prove.
pub(crate) fn state(endpoint: &Endpoint) -> (usize, usize, usize, usize, u64) {
    let Stats { peers, half_open, tickets_held, tickets_issued, accepted, .. } = endpoint.stats();
    (peers, half_open, tickets_held, tickets_issued, accepted)
}
