//! Two endpoints in virtual time.

use std::time::{Duration, Instant};

use crypto::{Identity, Seed};
use peer::mux::{Protocol, ProtocolId, Protocols, Urgency};
use peer::{Config, Endpoint, Event, Handle, Target};
use sim::pair::{Setup, Side};
use sim::{Link, Pair};
use structs::Epoch;

pub(crate) type Endpoints = Pair<Endpoint, Endpoint>;

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The protocols that both sides speak, in the order of registration.
pub(crate) const ECHO: usize = 0;
pub(crate) const BULK: usize = 1;

pub(crate) fn protocols() -> (Protocols, Vec<ProtocolId>) {
    let mut protocols = Protocols::new();
    let ids = ["echo", "bulk", "other"].map(|name| protocols.register(Protocol::new(name, 1)).unwrap());
    (protocols, ids.to_vec())
}

pub(crate) fn config() -> Config {
    Config::default().protocols(protocols().0)
}

pub(crate) fn identity(n: u64) -> Identity {
    Identity::generate(&mut Seed::fixed(n).rng())
}

pub(crate) fn endpoint(n: u64, config: Config, now: Instant) -> Endpoint {
    let epoch = Epoch { instant: now, unix: Duration::from_secs(1_790_000_000) };
    Endpoint::new(identity(n), config, epoch, &Seed::fixed(1000 + n), now)
}

/// Two endpoints with these links, not yet in touch. A has the identity 1, B 2.
pub(crate) fn pair(link: Link, seed: u64) -> Endpoints {
    pair_of(Setup::new(Seed::fixed(seed)).link(link), config(), config(), seed)
}

pub(crate) fn pair_of(setup: Setup, a: Config, b: Config, _seed: u64) -> Endpoints {
    let now = setup.now();
    setup.pair(endpoint(1, a, now), endpoint(2, b, now))
}

/// Lets A dial B by key.
pub(crate) fn dial(pair: &mut Endpoints) -> Handle {
    let path = pair.path(Side::A);
    let id = identity(2).peer_id();
    pair.with_a(|a, now| a.dial(Target::Known(id), path, now)).unwrap()
}

/// Lets A dial B and waits until both are connected and greeted.
pub(crate) fn connected(pair: &mut Endpoints) -> (Handle, Handle) {
    let a = dial(pair);
    let id = identity(1).peer_id();
    let agreed = |events: &[sim::Timed<peer::endpoint::Event>]| {
        events.iter().any(|timed| matches!(timed.event.event, Event::Mux(peer::mux::Event::Agreed)))
    };
    assert!(pair.run_until(|pair| agreed(pair.a_events()) && agreed(pair.b_events()), ms(20_000)), "not connected");
    let b = pair.b.by_id(&id).unwrap();
    (a, b)
}

/// Sends a message from A.
pub(crate) fn send_a(pair: &mut Endpoints, peer: Handle, protocol: ProtocolId, message: &[u8]) {
    pair.with_a(|a, now| a.with(peer, now, |peer, _| peer.send(protocol, message, Urgency::Normal))).unwrap().unwrap();
}
