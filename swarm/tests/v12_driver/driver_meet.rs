//! How nodes find each other, and how that fails.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use swarm::v12::{Swarm, SwarmEvent, TopicEvent};
use swarm::{BindError, DialError, Preset, Proof, TopicId};

use crate::support::{connected, message, node, pair, quiet, soon, until};

#[tokio::test]
async fn two_nodes_meet_talk_and_part() {
    let [(a, to_b), (b, _)] = pair().await;
    let topics = [a.join("lobby").unwrap(), b.join("lobby").unwrap()];
    let [mut at_a, mut at_b] = topics.each_ref().map(|topic| topic.events());
    for (events, other) in [(&mut at_a, b.id()), (&mut at_b, a.id())] {
        match soon(events.next()).await {
            Some(TopicEvent::Joined(peer)) => assert_eq!(peer.id(), other, "who is there is told first"),
            event => panic!("{event:?}"),
        }
    }
    to_b.send("hi").await.unwrap();
    match soon(at_b.next()).await {
        Some(TopicEvent::Message(m)) => assert_eq!((m.from, &m.data[..], m.authenticated), (a.id(), &b"hi"[..], true)),
        event => panic!("{event:?}"),
    }
    assert_eq!(topics[1].publish("to everybody").await.unwrap().neighbours, 1);
    match soon(at_a.next()).await {
        Some(TopicEvent::Message(m)) => assert_eq!((m.from, &m.data[..]), (b.id(), &b"to everybody"[..])),
        event => panic!("{event:?}"),
    }
    let info = to_b.info().await.unwrap();
    assert_eq!((info.id, info.addr, info.proof), (b.id(), b.local_addr(), Proof::Key));
    assert_eq!(soon(a.shutdown(crate::support::LIMIT)).await.messages, 0);
    match soon(at_b.next()).await {
        Some(TopicEvent::Left(peer, _)) => assert_eq!(peer, a.id()),
        event => panic!("{event:?}"),
    }
    // The stream of a node that ended tells of the end of its peers, and ends.
    while let Some(event) = soon(at_a.next()).await {
        assert!(matches!(event, TopicEvent::Left(..)), "{event:?}");
    }
}

/// Beacons leave and arrive by the loopback interface alone here.
#[tokio::test]
async fn nodes_of_one_topic_find_each_other_on_the_local_network() {
    let topic = TopicId::from_name(&format!("a topic of this run alone: {}", std::process::id()));
    let builder = || Swarm::builder().preset(Preset::Loopback);
    let (a, b) = (builder().bind().await.unwrap(), builder().bind().await.unwrap());
    let (mut at_a, mut at_b) = (a.events(), b.events());
    let _joined = (a.join(topic).unwrap(), b.join(topic).unwrap());
    assert_eq!(connected(&mut at_a).await.id(), b.id());
    assert_eq!(connected(&mut at_b).await.id(), a.id());
    let mut ours = [a.v12_id().wire(), b.v12_id().wire()];
    ours.sort();
    assert_eq!(a.stats().await.unwrap().lan_errors, 0);
    assert!(a.local_addr().ip().is_loopback() && ours[0] != ours[1]);
}

#[tokio::test]
async fn a_seed_is_dialled_until_somebody_is_there() {
    let free = node().await;
    let addr = free.local_addr();
    soon(free.shutdown(crate::support::LIMIT)).await;
    let early = quiet().seeds([addr]).bind().await.unwrap();
    let mut events = early.events();
    let late = quiet().listen(addr).bind().await.unwrap();
    assert_eq!(connected(&mut events).await.id(), late.id());
}

#[tokio::test]
async fn a_seed_that_comes_back_is_dialled_again() {
    let seed = quiet().seed(&[7; 32]).bind().await.unwrap();
    let (addr, id) = (seed.local_addr(), seed.id());
    let node = quiet().seeds([addr]).bind().await.unwrap();
    let mut events = node.events();
    assert_eq!(connected(&mut events).await.id(), id);
    soon(seed.shutdown(crate::support::LIMIT)).await;
    let gone = |event| matches!(event, SwarmEvent::Disconnected { .. }).then_some(());
    until(&mut events, gone).await;
    let back = quiet().seed(&[7; 32]).listen(addr).bind().await.unwrap();
    assert_eq!(connected(&mut events).await.id(), back.id());
    assert_eq!(back.id(), id);
    back.broadcast("here again").await.unwrap();
    assert_eq!(message(&mut events).await.1, b"here again");
}

#[tokio::test]
async fn dials_that_lead_nowhere_say_why() {
    let a = node().await;
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // A socket that nobody reads.
    let silent = tokio::net::UdpSocket::bind(loopback(0)).await.unwrap();
    let addr = silent.local_addr().unwrap();
    let (silence, ourselves, zero) =
        tokio::join!(soon(a.dial(addr)), soon(a.dial(a.local_addr())), soon(a.dial(loopback(0))));
    assert!(matches!(silence, Err(DialError::NoAnswer { addr: at, .. }) if at == addr), "{silence:?}");
    assert!(matches!(ourselves, Err(DialError::Ourselves { .. })), "{ourselves:?}");
    assert!(matches!(zero, Err(DialError::BadAddress { .. })), "{zero:?}");
    let v6 = soon(a.dial("[::1]:9".parse().unwrap())).await;
    assert!(matches!(v6, Err(DialError::Unsupported { .. })), "{v6:?}");
    assert!(a.peers().await.is_empty());
}

#[tokio::test]
async fn a_node_that_cannot_start_says_why() {
    let taken = node().await.clone();
    let addr = taken.local_addr();
    let error = quiet().listen(addr).bind().await.unwrap_err();
    assert_eq!(error, BindError::AddrInUse { addr });
    assert!(error.to_string().contains(&addr.to_string()) && error.to_string().contains("another port"));
    // An address for documentation, which no machine has.
    let addr = "192.0.2.1:0".parse().unwrap();
    assert_eq!(quiet().listen(addr).bind().await.unwrap_err(), BindError::AddrNotAvailable { addr });
    let addr = "[::1]:0".parse().unwrap();
    assert_eq!(quiet().listen(addr).bind().await.unwrap_err(), BindError::Unsupported { addr });
    for seed in ["", "abc", "zz"] {
        let error = quiet().hex_seed(seed).bind().await.unwrap_err();
        assert!(matches!(error, BindError::Seed(_)), "{seed}: {error:?}");
    }
    assert!(matches!(quiet().seed(&[]).bind().await.unwrap_err(), BindError::Seed(_)));
    let other = BindError::Other { addr, kind: ErrorKind::OutOfMemory };
    assert!(other.to_string().starts_with("cannot bind"));
}

#[test]
fn a_node_needs_a_runtime() {
    assert_eq!(quiet().bind_manual().map(drop), Err(BindError::NoRuntime));
}

#[tokio::test]
async fn a_seed_gives_the_identity_that_the_existing_nodes_derive_from_it() {
    let a = quiet().hex_seed("00112233445566778899aabbccddeeff").bind().await.unwrap();
    let b = quiet().seed(&0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes()).bind().await.unwrap();
    assert_eq!(a.id(), b.id());
    assert_ne!(node().await.id(), node().await.id(), "without one it is fresh");
}
