//! What a node listens on changes while it runs.

use std::net::SocketAddr;
use std::time::Duration;

use swarm::{BindError, Carrier, DialError, DialTarget, Events, ListenAddr, Listener, Swarm, SwarmEvent};
use tokio::net::{TcpListener, TcpStream};

use crate::relays::{V4, behind, places, relay};
use crate::support::{builder, node, within};

/// What is told next of listeners, as text: `+` an address that is gained, `-` one that is lost, `x` the end.
async fn told(events: &mut Events) -> (Listener, String) {
    loop {
        match within(events.next()).await.expect("the node is there") {
            SwarmEvent::Listening { listener, addr } => return (listener, format!("+{addr}")),
            SwarmEvent::ListenExpired { listener, addr } => return (listener, format!("-{addr}")),
            SwarmEvent::ListenerClosed { listener } => return (listener, String::from("x")),
            _ => {}
        }
    }
}

async fn gained(events: &mut Events, at: ListenAddr) {
    assert_eq!(told(events).await, (at.into(), format!("+{}", at.addr())));
}

async fn lost(events: &mut Events, at: ListenAddr) {
    assert_eq!(told(events).await, (at.into(), format!("-{}", at.addr())));
    assert_eq!(told(events).await, (at.into(), String::from("x")));
}

/// A node that listens on one socket.
async fn one() -> Swarm {
    builder().listen(SocketAddr::from(([127, 0, 0, 1], 0))).bind().await.unwrap()
}

fn tcp() -> ListenAddr {
    "tcp://127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn a_socket_that_is_added_is_dialled_and_one_that_is_stopped_is_silent() {
    let (a, first) = (one().await, node().await);
    let old = a.listeners()[0];
    let mut events = a.events();
    let new = a.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    gained(&mut events, new).await;
    assert_ne!(new.addr().port(), 0);
    assert_eq!((a.listeners(), a.local_addrs()), (vec![old, new], vec![old.addr(), new.addr()]));
    let peer = within(first.dial((a.id(), new.addr()))).await.unwrap();
    assert_eq!(within(peer.info()).await.unwrap().addr, new.addr());

    assert!(a.stop_listening(old).await && !a.stop_listening(old).await, "it is stopped once");
    lost(&mut events, old).await;
    assert_eq!((a.listeners(), a.local_addr()), (vec![new], new.addr()));
    // The port is free, and nobody is there.
    let silent = tokio::net::UdpSocket::bind(old.addr()).await.unwrap();
    let second = node().await;
    let dialled = within(second.dial(DialTarget::peer(a.id(), [old.addr()]).directly())).await;
    assert!(matches!(dialled, Err(DialError::NoAnswer { .. })), "{dialled:?}");
    drop(silent);
    assert!(within(second.dial((a.id(), new.addr()))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_events_before_something_is_added_hears_of_it() {
    let a = one().await;
    // The net task may be anywhere in its turn.
    for _ in 0..200 {
        let mut events = a.events();
        let at = a.listen(tcp()).await.unwrap();
        gained(&mut events, at).await;
        assert!(a.stop_listening(at).await);
        lost(&mut events, at).await;
    }
}

#[tokio::test]
async fn connections_outlive_their_listener_whose_port_is_free_at_once() {
    let (a, b) = (one().await, one().await);
    let mut events = a.events();
    let at = a.listen(tcp()).await.unwrap();
    gained(&mut events, at).await;
    let target: DialTarget = at.to_string().replace("://", &format!("://{}@", a.id())).parse().unwrap();
    let peer = within(b.dial(target)).await.unwrap();
    assert_eq!(within(peer.info()).await.unwrap().carrier, Carrier::Tcp);

    assert!(a.stop_listening(at).await);
    lost(&mut events, at).await;
    assert!(TcpStream::connect(at.addr()).await.is_err(), "nobody accepts");
    drop(TcpListener::bind(at.addr()).await.expect("free"));
    let mut messages = a.peer(&b.id()).messages().unwrap();
    within(peer.send("still here")).await.unwrap();
    assert_eq!(within(messages.next()).await.unwrap(), "still here");
}

#[tokio::test]
async fn what_cannot_be_listened_on_changes_nothing() {
    let (a, b) = (one().await, one().await);
    let taken = b.listeners()[0];
    assert_eq!(a.listen(taken).await, Err(BindError::AddrInUse { addr: taken.addr() }));
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 0));
    assert_eq!(a.listen(nowhere).await, Err(BindError::AddrNotAvailable { addr: nowhere }));
    assert!(!a.stop_listening(taken).await && !a.stop_listening(b.id()).await, "that is not ours");
    assert_eq!(a.listeners().len(), 1);
    for _ in 1..16 {
        a.listen(tcp()).await.unwrap();
    }
    assert_eq!(a.listen(tcp()).await, Err(BindError::TooMany { limit: 16 }));
    a.shutdown(Duration::ZERO).await;
    assert_eq!(a.listen(tcp()).await, Err(BindError::Closed));
    assert!(!a.stop_listening(taken).await && a.stop_listening_all().await == 0);
    let many = (0..17).fold(builder(), |builder, _| builder.listen_on(tcp()));
    assert_eq!(many.bind().await.unwrap_err(), BindError::TooMany { limit: 16 });
}

#[tokio::test]
async fn all_listeners_stop_at_once_and_new_ones_may_follow() {
    let (a, b) = (one().await, one().await);
    let at = a.listen(tcp()).await.unwrap();
    let peer = within(b.dial((a.id(), a.local_addr()))).await.unwrap();
    let mut events = a.events();
    assert_eq!(a.stop_listening_all().await, 2);
    assert!(a.listeners().is_empty() && a.local_addrs().is_empty());
    assert!(TcpStream::connect(at.addr()).await.is_err());
    // There is no way to anybody: sessions end at once, and dials say why.
    let gone = |event: SwarmEvent| matches!(event, SwarmEvent::Disconnected { peer, .. } if peer == b.id());
    within(async { while !gone(events.next().await.expect("the node is there")) {} }).await;
    let to = b.local_addr();
    let dialled = within(a.dial(DialTarget::peer(b.id(), [to]).directly())).await;
    // It goes by TCP at once, where nobody listens.
    assert!(dialled.is_err(), "{dialled:?}");
    drop(peer);
    let again = a.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    assert_eq!(a.listeners(), [again]);
    assert!(within(a.dial((b.id(), to))).await.is_ok());
}

#[tokio::test]
async fn a_place_at_a_relay_is_a_listener_too() {
    let relay = relay().await;
    let b = behind(V4, &[]).await;
    let mut events = b.events();
    let addr = relay.local_addr();
    assert_eq!(b.add_relay((relay.id(), addr)).await.unwrap(), relay.id());
    places(&b, 1).await;
    let (listener, first) = told(&mut events).await;
    assert_eq!((listener, &first[..1]), (Listener::Relay(relay.id()), "+"));
    assert!(b.stop_listening(relay.id()).await);
    let closed = loop {
        match told(&mut events).await {
            (listener, text) if text == "x" => break listener,
            (listener, _) => assert_eq!(listener, Listener::Relay(relay.id())),
        }
    };
    assert_eq!(closed, Listener::Relay(relay.id()));
    assert!(b.relays().is_empty() && b.listeners().len() == 1);
}
