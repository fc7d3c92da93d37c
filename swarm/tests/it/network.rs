//! Networks that change under a session, and many nodes in one process.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use swarm::{Swarm, SwarmEvent};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::support::{builder, connected, node, within};

/// Stands between two nodes like a home router: what comes from inside leaves by a port that may change.
struct Router {
    /// What the inner node dials.
    inside: SocketAddr,
    rebind: watch::Sender<Arc<UdpSocket>>,
    task: tokio::task::JoinHandle<()>,
}

impl Router {
    async fn start(remote: SocketAddr) -> Self {
        let inner = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let inside = inner.local_addr().unwrap();
        let (rebind, mut outer) = watch::channel(Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()));
        let task = tokio::spawn(async move {
            let (mut out, mut inn) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            let mut node = None;
            loop {
                let socket = Arc::clone(&outer.borrow_and_update());
                tokio::select! {
                    Ok((len, from)) = inner.recv_from(&mut out) => {
                        node = Some(from);
                        // What a full buffer does not take is lost, as in any router.
                        let _ = socket.try_send_to(&out[..len], remote);
                    }
                    Ok((len, _)) = socket.recv_from(&mut inn) => {
                        let _ = node.map(|node| inner.try_send_to(&inn[..len], node));
                    }
                    Ok(()) = outer.changed() => {}
                }
            }
        });
        Self { inside, rebind, task }
    }

    /// From now on what leaves comes from another port, and the old one is deaf.
    async fn forget(&self) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = socket.local_addr().unwrap();
        self.rebind.send_replace(Arc::new(socket));
        addr
    }

    fn outside(&self) -> SocketAddr {
        self.rebind.borrow().local_addr().unwrap()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_session_moves_to_a_new_port_in_the_middle_of_a_stream() {
    const COUNT: u32 = 20_000;
    let (a, b) = (node().await, node().await);
    let router = Router::start(b.local_addr()).await;
    let mut events = b.events();
    let ab = within(a.dial((b.id(), router.inside))).await.unwrap();
    let ba = connected(&mut events).await;
    assert_eq!(within(ba.info()).await.unwrap().addr, router.outside());
    let message = |n: u32| [&n.to_be_bytes()[..], &[n as u8; 400]].concat();
    let (mut at_a, mut at_b) = (ab.messages().unwrap(), ba.messages().unwrap());
    let send = async {
        for n in 0..COUNT {
            ab.send(message(n)).await.unwrap();
        }
    };
    let answer = async {
        let mut moved = Vec::new();
        for n in 0..COUNT {
            let message = at_b.next().await.unwrap();
            ba.send(&message[..4]).await.unwrap();
            if n % (COUNT / 4) == COUNT / 8 {
                moved.push(router.forget().await);
            }
        }
        moved
    };
    let receive = async {
        for n in 0..COUNT {
            assert_eq!(at_a.next().await.unwrap(), n.to_be_bytes()[..]);
        }
    };
    let (_, moved, ()) = within(async { tokio::join!(send, answer, receive) }).await;
    let mut seen = Vec::new();
    while let Some(event) = events.try_next() {
        match event {
            SwarmEvent::Moved { peer, addr } => {
                assert_eq!(peer, a.id());
                seen.push(addr);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, moved);
    assert_eq!(within(ba.info()).await.unwrap().addr, router.outside());
}

#[tokio::test]
async fn a_hundred_nodes_meet_in_one_process() {
    const NODES: usize = 100;
    let mut nodes: Vec<Swarm> = Vec::new();
    for _ in 0..NODES {
        // Who dials whom is said below.
        nodes.push(builder().dht(false).bind().await.unwrap());
    }
    let topics: Vec<_> = nodes.iter().map(|node| node.join("all").unwrap()).collect();
    let mut at_hub = topics[0].events();
    let mut dials = tokio::task::JoinSet::new();
    for n in 1..NODES {
        // The hub, and three more around the ring: those may dial at the same time as they are dialled.
        for other in [0, (n + 1) % NODES, (n + 7) % NODES, (n + 50) % NODES] {
            let (node, id, addr) = (nodes[n].clone(), nodes[other].id(), nodes[other].local_addr());
            dials.spawn(async move {
                let dialled = node.dial((id, addr)).await;
                assert_eq!(dialled.unwrap().id(), id);
            });
        }
    }
    while let Some(dialled) = within(dials.join_next()).await {
        dialled.unwrap();
    }
    let mut joined = std::collections::BTreeSet::new();
    while joined.len() < NODES - 1 {
        if let Some(swarm::TopicEvent::Joined(peer)) = within(at_hub.next()).await {
            joined.insert(peer.id());
        }
    }
    let readers: Vec<_> = topics.iter().skip(1).map(|topic| topic.events()).collect();
    assert_eq!(topics[0].publish("everybody").await.unwrap().neighbours, NODES - 1);
    for mut events in readers {
        loop {
            if let swarm::TopicEvent::Message(message) = within(events.next()).await.unwrap() {
                assert_eq!(message.data, "everybody");
                break;
            }
        }
    }
    for (n, node) in nodes.iter().enumerate() {
        let stats = node.stats().await.unwrap().node;
        assert_eq!(stats.dials, 0);
        assert!(stats.connected >= if n == 0 { NODES - 1 } else { 4 }, "{n} has {} sessions", stats.connected);
    }
}

#[tokio::test]
async fn both_families_are_listened_on_unless_told_otherwise() {
    let bind = || async { Swarm::builder().lan(false).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    let bound = b.local_addrs();
    let [v4, v6] = &bound[..] else { panic!("{bound:?}") };
    assert_eq!((v4.ip(), v6.ip()), (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()));
    for local in [(Ipv4Addr::LOCALHOST, v4.port()).into(), SocketAddr::from((Ipv6Addr::LOCALHOST, v6.port()))] {
        let mut events = a.events();
        let peer = within(a.dial((b.id(), local))).await.unwrap();
        assert_eq!(within(peer.info()).await.unwrap().addr, local);
        peer.disconnect(std::time::Duration::ZERO).await;
        crate::support::gone(&mut events).await;
    }
}

#[tokio::test]
async fn a_default_start_asks_nobody_who_was_not_named() {
    // Multicast is told of in the presets, and nobody else is there to hear it.
    let node = Swarm::builder().lan(false).bind().await.unwrap();
    let _topic = node.join("lobby").unwrap();
    let report = within(async {
        loop {
            let report = node.discovery();
            if report.iter().any(|progress| progress.error.is_some()) {
                return report;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // Whatever features are compiled in, nothing but the own hash table is asked, which knows nobody.
    assert!(report.iter().all(|progress| progress.source == swarm::discovery::Source::Dht), "{report}");
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.node.connected, stats.node.dials), (0, 0));
}
