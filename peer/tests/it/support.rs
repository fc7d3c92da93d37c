//! Two peers, and what every test asks of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::Seed;
use crypto::v12::Identity;
use peer::v12::{CloseReason, Config, Event, Implementation, Peer, Proof};
use sim::pair::{Setup, Side};
use sim::{Link, Pair, Timed, clock};
use structs::{Epoch, Path};

/// Two peers of this implementation.
pub(crate) type Ours = Pair<Peer, Peer>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn identity(name: &str) -> Arc<Identity> {
    Arc::new(Identity::from_seed(name.as_bytes()))
}

/// The wall clock of every test: the simulation begins on 2025-01-01.
pub(crate) fn epoch() -> Epoch {
    Epoch { instant: clock::base(), unix: Duration::from_secs(1_735_689_600) }
}

/// A peer called "alice" that dials, as if its process had begun at `now`.
pub(crate) fn dialler(config: Config, path: Path, seed: u64, now: Instant) -> Peer {
    Peer::dial(config, identity("alice"), path, 8, &Seed::fixed(seed).fork("alice"), epoch(), now)
}

/// A peer called "bob" that is dialled.
pub(crate) fn acceptor(config: Config, path: Path, seed: u64, now: Instant) -> Peer {
    Peer::accept(config, identity("bob"), path, &Seed::fixed(seed).fork("bob"), epoch(), now)
}

/// Alice dials Bob.
pub(crate) fn meet(config: &Config, link: Link, seed: u64) -> Ours {
    let setup = Setup::new(Seed::fixed(seed)).link(link);
    let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
    setup.pair(dialler(config.clone(), to_b, seed, now), acceptor(config.clone(), to_a, seed, now))
}

/// Alice and Bob, who have proved their keys to each other.
pub(crate) fn friends(config: &Config, link: Link, seed: u64) -> Ours {
    let mut pair = meet(config, link, seed);
    let done = |pair: &Ours| pair.a.proof() == Proof::Key && pair.b.proof() == Proof::Key;
    assert!(pair.run_until(done, 20 * SECOND), "no proof: {:?} and {:?}", pair.a.proof(), pair.b.proof());
    let know = |pair: &Ours| [&pair.a, &pair.b].iter().all(|peer| peer.implementation() == Implementation::Ours);
    assert!(pair.run_until(know, 20 * SECOND), "they do not know each other");
    pair.take_a_events();
    pair.take_b_events();
    pair
}

/// A link of `delay` each way and nothing else.
pub(crate) fn delayed(delay: Duration) -> Link {
    Link::perfect().delay(delay)
}

/// The messages among events, with whether they came sealed.
pub(crate) fn messages(events: &[Timed<Event>]) -> Vec<(Bytes, bool)> {
    let message = |timed: &Timed<Event>| match &timed.event {
        Event::Message { data, authenticated } => Some((data.clone(), *authenticated)),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

/// The messages among events, as numbers that [`number`] made.
pub(crate) fn numbers(events: &[Timed<Event>]) -> Vec<u32> {
    let read = |(data, _): (Bytes, bool)| u32::from_be_bytes(data.first_chunk().copied().expect("a number"));
    messages(events).into_iter().map(read).collect()
}

/// A message that begins with a number.
pub(crate) fn number(number: u32, len: usize) -> Bytes {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(len.max(4), number.to_be_bytes()[3]);
    message.into()
}

pub(crate) fn closed(events: &[Timed<Event>]) -> Option<(Duration, CloseReason)> {
    events.iter().find_map(|timed| match timed.event {
        Event::Closed(reason) => Some((timed.at, reason)),
        _ => None,
    })
}

pub(crate) fn contains(events: &[Timed<Event>], event: &Event) -> bool {
    events.iter().any(|timed| timed.event == *event)
}

/// Bytes that look random and are the same for equal `len`.
pub(crate) fn noise(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    Seed::fixed(len as u64).rng().fill(&mut bytes);
    bytes.into()
}
