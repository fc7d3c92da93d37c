use std::time::Duration;

use swarm::{DialError, DisconnectReason, PeerId, Security, SwarmEvent};

use crate::support::{builder, connect, gone, node, pair, within};

#[tokio::test]
async fn two_nodes_meet_by_address_and_know_each_other_by_key() {
    let (a, b) = (node().await, node().await);
    let peer = within(a.dial(b.local_addr())).await.unwrap();
    assert_eq!(peer.id(), b.id());
    let info = within(peer.info()).await.unwrap();
    assert_eq!((info.addr, info.security), (b.local_addr(), Security::Native));
    // Who is connected is not dialled again.
    let again = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    assert_eq!(again, peer);
    assert_eq!(a.peers().await.len(), 1);
}

#[tokio::test]
async fn ipv6_and_host_names_work() {
    let a = builder().listen("[::1]:0".parse().unwrap()).bind().await.unwrap();
    let b = builder().listen("[::1]:0".parse().unwrap()).bind().await.unwrap();
    assert_eq!(within(a.dial((b.id(), b.local_addr()))).await.unwrap().id(), b.id());

    let (c, d) = (node().await, node().await);
    let target: swarm::DialTarget = format!("{}@localhost:{}", d.id(), d.local_addr().port()).parse().unwrap();
    assert_eq!(within(c.dial(target)).await.unwrap().id(), d.id());
}

#[tokio::test]
async fn a_node_listens_on_several_addresses_and_answers_from_the_right_one() {
    let listen = |builder: swarm::Builder, addr: &str| builder.listen(addr.parse().unwrap());
    let addrs = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.1:0", "[::1]:0"];
    let many = addrs.iter().fold(builder(), |builder, addr| listen(builder, addr)).bind().await.unwrap();
    assert_eq!(many.local_addrs().len(), 4);
    for addr in many.local_addrs() {
        let other = listen(listen(builder(), "127.0.0.3:0"), "[::1]:0").bind().await.unwrap();
        let peer = within(other.dial((many.id(), addr))).await.unwrap();
        assert_eq!(within(peer.info()).await.unwrap().addr, addr);
        within(many.peer(&other.id()).send("from the same socket")).await.unwrap();
        let mut messages = peer.messages().unwrap();
        assert_eq!(within(messages.next()).await.unwrap(), "from the same socket");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_with_the_one_that_answered() {
    let (a, b, other) = (node().await, node().await, node().await);
    let mut events = b.events();
    let error = within(a.dial((other.id(), b.local_addr()))).await.unwrap_err();
    assert_eq!(error, DialError::WrongPeer { addr: b.local_addr(), obtained: b.id() });
    assert!(a.peers().await.is_empty());
    assert!(events.try_next().is_none());
}

#[tokio::test]
async fn dials_that_cannot_work_say_why() {
    let a = node().await;
    assert_eq!(within(a.dial((a.id(), a.local_addr()))).await.unwrap_err(), DialError::OwnKey);
    let own = within(a.dial(a.local_addr())).await.unwrap_err();
    assert_eq!(own, DialError::Ourselves { addr: a.local_addr() });
    let nowhere = "127.0.0.1:0".parse().unwrap();
    assert_eq!(
        within(a.dial(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).await.unwrap_err(),
        DialError::BadAddress { addr: nowhere }
    );
    let no_key = PeerId::from_bytes([0xff; 32]);
    assert_eq!(within(a.dial((no_key, a.local_addr()))).await.unwrap_err(), DialError::BadKey { peer: no_key });
    // A socket that never answers.
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let error = within(a.dial(addr)).await.unwrap_err();
    assert!(
        matches!(error, DialError::NoAnswer { addr: at, after } if at == addr && after >= Duration::from_secs(9)),
        "{error}"
    );
}

#[tokio::test]
async fn both_dial_at_once_and_have_one_session() {
    for _ in 0..5 {
        let (a, b) = (node().await, node().await);
        let (ab, ba) = tokio::join!(within(a.dial((b.id(), b.local_addr()))), within(b.dial((a.id(), a.local_addr()))));
        let (ab, ba) = (ab.unwrap(), ba.unwrap());
        let mut from_a = b.events();
        let mut from_b = a.events();
        ab.send("from a").await.unwrap();
        ba.send("from b").await.unwrap();
        for (events, text) in [(&mut from_a, "from a"), (&mut from_b, "from b")] {
            loop {
                if let Some(SwarmEvent::Data(message)) = within(events.next()).await {
                    assert_eq!(message.data, text);
                    break;
                }
            }
        }
        assert_eq!((a.peers().await.len(), b.peers().await.len()), (1, 1));
    }
}

#[tokio::test]
async fn goodbyes_are_heard_however_a_node_ends() {
    let (a, b, ab, _) = pair().await;
    let mut events = b.events();
    ab.disconnect(Duration::from_secs(1)).await;
    assert_eq!(gone(&mut events).await, DisconnectReason::Closed(0));
    connect(&a, &b).await;
    drop((a, ab));
    assert_eq!(gone(&mut events).await, DisconnectReason::Closed(0));
    let (c, d, cd, _) = pair().await;
    cd.send("last words").await.unwrap();
    let mut events = d.events();
    assert_eq!(within(c.shutdown(Duration::from_secs(5))).await.messages, 0);
    let mut heard = false;
    loop {
        match within(events.next()).await.unwrap() {
            SwarmEvent::Data(message) => heard |= message.data == "last words",
            SwarmEvent::Disconnected { .. } => break,
            _ => {}
        }
    }
    assert!(heard, "what was sent before the shutdown arrives");
}

#[tokio::test]
async fn a_thousand_sessions_come_and_go_and_leave_nothing_behind() {
    let (a, b) = (node().await, node().await);
    for _ in 0..1000 {
        let peer = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
        peer.disconnect(Duration::ZERO).await;
    }
    let mut events = b.events();
    while !b.peers().await.is_empty() {
        within(events.next()).await;
    }
    for swarm in [&a, &b] {
        let stats = swarm.stats().await.unwrap();
        assert_eq!((stats.node.connected, stats.node.dials, stats.streams), (0, 0, 0));
    }
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 2);
}
