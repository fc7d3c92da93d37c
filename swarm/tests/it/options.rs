//! The option matrix: every option of the builder works alone, with all others that find somebody turned off. Those for which
//! other files have more than one test (`mainline`, `mdns`, `stun`, `transport`, `network`) are theirs.

use std::num::NonZeroUsize;
use std::time::Duration;

#[cfg(feature = "http")]
use swarm::discovery::{Source, Task};
use swarm::{Builder, DialError, DialTarget, PeerId, ServeRelay, Swarm};
#[cfg(feature = "http")]
use swarm::{TopicEvent, TopicId};

use crate::relays::places;
#[cfg(feature = "http")]
use crate::servers::{Manner, Server};
use crate::support::{builder, connected, node, within};

/// A node that finds nobody and is found by nobody, on this machine.
fn alone() -> Builder {
    builder().dht(false).use_relays(false)
}

/// Waits until one node is connected to another.
async fn comes(to: &Swarm, from: PeerId) {
    let mut events = to.events();
    while connected(&mut events).await.id() != from {}
}

/// Waits until a node knows others of the hash table.
async fn has_contacts(swarm: &Swarm) {
    within(async {
        while swarm.dht().stats().await.unwrap().unwrap().contacts.iter().sum::<usize>() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn option_none() {
    let (a, b) = (alone().bind().await.unwrap(), alone().bind().await.unwrap());
    assert_ne!(a.id(), b.id(), "fresh ones");
    let topics = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
    assert_eq!(a.discovery().iter().chain(b.discovery().iter()).count(), 0, "nothing is asked: {}", a.discovery());
    assert!(a.relays().is_empty() && a.peers().await.is_empty());
    assert_eq!(within(a.dial(b.id())).await.unwrap_err(), DialError::NoAddress);
    // An address is enough.
    assert_eq!(within(a.dial(b.local_addr())).await.unwrap().id(), b.id());
    drop(topics);
}

#[tokio::test]
async fn option_seed() {
    let id = |seed: u8| async move { alone().seed([seed; 32]).bind().await.unwrap().id() };
    let (first, again, other) = (id(1).await, id(1).await, id(2).await);
    assert!(first == again && first != other);
    assert_eq!(first, PeerId::from(swarm::settings::Identity::from_seed([1; 32]).peer_id()));
}

#[tokio::test]
async fn option_max_peers() {
    let one = NonZeroUsize::new(1).unwrap();
    let (full, b, c) = (alone().max_peers(one).bind().await.unwrap(), node().await, node().await);
    within(full.dial((b.id(), b.local_addr()))).await.unwrap();
    let error = within(full.dial((c.id(), c.local_addr()))).await.unwrap_err();
    assert!(matches!(error, DialError::Full { .. }), "{error:?}");
    // Who comes by himself is no peer either, whatever he is told.
    let _ = within(c.dial((full.id(), full.local_addr()))).await;
    assert_eq!(full.peers().await.iter().map(|peer| peer.id).collect::<Vec<_>>(), [b.id()]);
    // As many as there is room for without it.
    let roomy = alone().bind().await.unwrap();
    for other in [&b, &c] {
        within(roomy.dial((other.id(), other.local_addr()))).await.unwrap();
    }
    assert_eq!(roomy.peers().await.len(), 2);
}

#[tokio::test]
async fn option_relay() {
    let relay = alone().serve_relay(ServeRelay::Always).bind().await.unwrap();
    let b = builder().dht(false).relays([relay.local_addr()]).bind().await.unwrap();
    places(&b, 1).await;
    let [held] = <[_; 1]>::try_from(b.relays()).unwrap();
    assert!(held.relay == relay.id() && held.named);
    // It leads to the node, and nothing else is known of that.
    let a = builder().dht(false).bind().await.unwrap();
    let target = DialTarget::peer(b.id(), []).only_via((relay.id(), relay.local_addr()));
    let peer = within(a.dial(target)).await.unwrap();
    assert_eq!(within(peer.info()).await.unwrap().relay, Some(relay.id()));
}

#[tokio::test]
async fn option_bootstrap() {
    let first = builder().bind().await.unwrap();
    let bind = || async { builder().use_relays(false).bootstrap([first.local_addr()]).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    let (_at_a, _at_b) = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
    tokio::join!(comes(&a, b.id()), comes(&b, a.id()));
    assert!(first.peers().await.is_empty(), "the table is no session");
}

#[tokio::test]
async fn option_seeds() {
    let b = alone().bind().await.unwrap();
    let a = alone().seeds([DialTarget::peer(b.id(), [b.local_addr()])]).bind().await.unwrap();
    tokio::join!(comes(&a, b.id()), comes(&b, a.id()));
}

/// Two nodes that are given the same servers, and what each of them says that it asked.
#[cfg(feature = "http")]
async fn meet_at(with: impl Fn(Builder) -> Builder) -> Vec<Source> {
    let bind = || async { with(alone()).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    let lobby = TopicId::from("lobby");
    let (at_a, at_b) = (a.join(lobby).unwrap(), b.join(lobby).unwrap());
    for (topic, other) in [(&at_a, &b), (&at_b, &a)] {
        let mut events = topic.events();
        let mut is_there = false;
        while !is_there {
            let event = within(events.next()).await.expect("the node is there");
            is_there = matches!(event, TopicEvent::Joined(peer) if peer.id() == other.id());
        }
    }
    let mut asked: Vec<Source> = a.discovery().iter().chain(b.discovery().iter()).map(|task| task.source).collect();
    asked.dedup();
    assert!(a.discovery().of(Task::Lookup(lobby)).iter().any(|task| task.tried > 0));
    asked
}

#[cfg(feature = "http")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn option_bootstrap_http() {
    let server = Server::start(Manner::Bootstrap).await;
    assert_eq!(meet_at(|builder| builder.http_bootstrap([&server.url])).await, [Source::Http]);
    assert!(!server.asked().is_empty());
}

#[cfg(feature = "http")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn option_piping() {
    let server = Server::start(Manner::Piping).await;
    assert_eq!(meet_at(|builder| builder.piping([&server.url])).await, [Source::Piping]);
    assert!(!server.asked().is_empty());
}

/// What other implementations call `exclusive` is how it always is: what is not named is not asked, not even at a server that is
/// named for something else.
#[cfg(feature = "http")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn option_exclusive() {
    let (piping, bootstrap) = (Server::start(Manner::Piping).await, Server::start(Manner::Bootstrap).await);
    assert_eq!(meet_at(|builder| builder.piping([&piping.url])).await, [Source::Piping]);
    let is_list = |(line, _): &(String, Vec<u8>)| line.contains(swarm::rendezvous::SEALED);
    assert!(!piping.asked().iter().any(is_list), "it is asked for what a piping server does");
    assert_eq!(meet_at(|builder| builder.http_bootstrap([&bootstrap.url])).await, [Source::Http]);
    assert!(bootstrap.asked().iter().all(is_list), "and this one for lists alone");
}

#[tokio::test]
async fn option_storage() {
    let path = std::env::temp_dir().join(format!("setowire-options-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let other = node().await;
    let kept = || builder().use_relays(false).dht_cache(&path);
    let first = kept().bind().await.unwrap();
    // Whom a session is open with is a beginning.
    within(first.dial((other.id(), other.local_addr()))).await.unwrap();
    has_contacts(&first).await;
    within(first.shutdown(Duration::from_secs(1))).await;
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
    let second = kept().bind().await.unwrap();
    has_contacts(&second).await;
    assert!(second.peers().await.is_empty(), "nobody is dialled for it");
    drop(second);
    std::fs::remove_file(&path).unwrap();
}

/// The oldest value goes where there is room for so many only.
#[cfg(feature = "v12")]
#[tokio::test]
async fn option_cache_max() {
    use swarm::{Preset, v12};
    let two = NonZeroUsize::new(2).unwrap();
    let settings = v12::Config::default().store_entries(two).lan(false);
    let node = v12::Swarm::builder().preset(Preset::Loopback).lan(false).config(settings).bind().await.unwrap();
    for key in ["first", "second", "third"] {
        node.store(key, key).await.unwrap();
    }
    let limit = Duration::from_millis(200);
    for (key, is_kept) in [("first", false), ("second", true), ("third", true)] {
        let fetched = within(node.fetch(key).timeout(limit).into_future()).await;
        assert_eq!(fetched.is_ok(), is_kept, "{key}: {fetched:?}");
    }
}

/// By the owner, and with the feature `cache` by a file.
#[tokio::test]
async fn option_save_and_load_peers() {
    let (a, b) = (alone().bind().await.unwrap(), alone().bind().await.unwrap());
    a.addresses().add(b.id(), [b.local_addr()]).unwrap();
    let saved = a.addresses().export();
    let again = alone().bind().await.unwrap();
    assert_eq!(within(again.dial(b.id())).await.unwrap_err(), DialError::NoAddress);
    assert_eq!(again.addresses().import(&saved), Ok(1));
    assert_eq!(within(again.dial(b.id())).await.unwrap().id(), b.id());
}

#[cfg(feature = "cache")]
#[tokio::test]
async fn option_peer_cache() {
    let path = std::env::temp_dir().join(format!("setowire-options-{}.redb", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (b, kept) = (alone().bind().await.unwrap(), || alone().seed([3; 32]).peer_cache(&path));
    let first = kept().bind().await.unwrap();
    within(first.dial((b.id(), b.local_addr()))).await.unwrap();
    within(first.shutdown(Duration::from_secs(1))).await;
    drop(first);
    let second = kept().bind().await.unwrap();
    comes(&second, b.id()).await;
    drop(second);
    std::fs::remove_file(&path).unwrap();
}
