//! Broadcasts past peers that take nothing any more.

use std::ops::Range;
use std::pin::pin;
use std::time::{Duration, Instant};

use crypto::Seed;
use structs::{Datagram, Ecn, Epoch, Link, Machine, Path, TransmitBuf};
use swarm::v12::Config;
use swarm::v12::{Events, Swarm};
use swarm::v12::{Identity, Node};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::support::{LIMIT, connected, message, node, quiet, soon};

/// More than the 4,096 events of a node, what it buffers beside them, and the 2,048 messages of the queue for one peer.
const PAST_BOTH: u32 = 9500;

/// More than the queue alone.
const PAST_QUEUE: u32 = 3000;

/// A node that answers everything and whose events nobody reads: it soon says that it takes no more messages.
async fn deaf(socket: UdpSocket) {
    let local = socket.local_addr().unwrap();
    let seed = Seed::from_os().unwrap();
    let identity = Identity::generate(&mut seed.fork("identity").rng());
    let epoch = Epoch { instant: Instant::now(), unix: Duration::ZERO };
    let mut node = Node::new(Config::default().lan(false), identity, seed.fork("node"), epoch);
    let (mut buffer, mut out) = (vec![0; 65_536], TransmitBuf::new(1));
    loop {
        let now = Instant::now();
        if node.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            node.handle_timeout(now);
        }
        out.clear();
        while let Some(transmit) = node.poll_transmit(&mut out, now) {
            socket.send_to(&out.bytes()[..transmit.len], transmit.path.remote).await.unwrap();
            out.clear();
        }
        let at = node.poll_timeout().map_or(now + LIMIT, |deadline| deadline.at);
        if let Ok(received) = tokio::time::timeout_at(at.into(), socket.recv_from(&mut buffer)).await {
            let (len, remote) = received.unwrap();
            let path = Path { link: Link::Udp, local, remote };
            let datagram = Datagram { path, ecn: Ecn::NotEct, payload: &mut buffer[..len] };
            let _ = node.handle_datagram(datagram, Instant::now());
        }
    }
}

/// Reads what arrives until the last of `indices`: all of it, in order.
async fn read(events: &mut Events, indices: Range<u32>) {
    for index in indices {
        assert_eq!(message(events).await.1[..4], index.to_be_bytes());
    }
}

fn numbered(index: u32) -> Vec<u8> {
    let mut data = vec![0x5a; 1000];
    data[..4].copy_from_slice(&index.to_be_bytes());
    data
}

/// Broadcasts to a peer that reads and another that has stopped, and gives the copies that the caller was told are
/// missing. Without the skipping it would not end before the other one is given up for gone, after 60 s.
async fn broadcast_past(hub: &Swarm, reader: &Swarm, count: u32) -> u64 {
    let mut events = reader.events();
    let mut missing = 0;
    let sent = async {
        for index in 0..count {
            match soon(hub.broadcast(numbered(index))).await {
                Ok(2) => {}
                Ok(1) => missing += 1,
                other => panic!("{index}: {other:?}"),
            }
        }
    };
    tokio::join!(sent, read(&mut events, 0..count));
    assert_eq!(hub.peers().await.len(), 2, "nobody has left");
    assert_eq!(hub.stats().await.unwrap().skipped, missing);
    missing
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_offers_no_window_holds_nobody_up() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(deaf(socket));
    let (hub, reader) = (node().await, node().await);
    soon(hub.dial(reader.local_addr())).await.unwrap();
    let to_deaf = soon(hub.dial(addr)).await.unwrap();
    let missing = broadcast_past(&hub, &reader, PAST_BOTH).await;
    assert!(missing > 500, "{missing} copies skipped");

    // Who writes to it alone waits, and keeps nobody else waiting.
    let mut waiting = pin!(async {
        for _ in 0..1000 {
            to_deaf.send(numbered(0)).await.unwrap();
        }
    });
    // Other messages than before: equal ones are copies to this wire.
    let more = PAST_BOTH..PAST_BOTH + 1000;
    let mut events = reader.events();
    let others = async {
        for index in more.clone() {
            assert_eq!(soon(hub.broadcast(numbered(index))).await, Ok(1));
        }
    };
    tokio::select! {
        () = &mut waiting => panic!("it takes nothing"),
        ((), ()) = async { tokio::join!(others, read(&mut events, more.clone())) } => {}
    }
    let start = Instant::now();
    let unsent = soon(hub.shutdown(Duration::from_millis(300))).await;
    assert!(start.elapsed() < Duration::from_secs(2) && unsent.messages > 0, "{:?} {unsent:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stands_still_is_skipped_until_it_has_room() {
    let (sleeper, driver) = quiet().bind_manual().unwrap();
    let mut driver = Box::pin(driver.run());
    let (hub, reader) = (node().await, node().await);
    soon(hub.dial(reader.local_addr())).await.unwrap();
    let mut at_sleeper = sleeper.events();
    tokio::select! {
        () = &mut driver => panic!("it has ended"),
        both = async { tokio::join!(soon(hub.dial(sleeper.local_addr())), connected(&mut at_sleeper)) } => {
            both.0.unwrap();
        }
    }
    drop(at_sleeper);
    // From here on nobody polls it.
    let missing = broadcast_past(&hub, &reader, PAST_QUEUE).await;
    assert!(missing > 0);

    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    let mut events = sleeper.events();
    // Its queue holds earlier ones: the first of these to arrive says that it has been emptied.
    let mark = PAST_QUEUE;
    let caught_up = async {
        while let Some(event) = soon(events.next()).await {
            if let swarm::v12::SwarmEvent::Data(message) = event
                && message.data[..4] >= mark.to_be_bytes()[..]
            {
                return;
            }
        }
    };
    let mut index = mark;
    let more = async {
        loop {
            soon(hub.broadcast(numbered(index))).await.unwrap();
            index += 1;
        }
    };
    tokio::select! {
        () = caught_up => {}
        () = more => {}
    }
    let before = hub.stats().await.unwrap().skipped;
    for index in index..index + 3000 {
        assert_eq!(soon(hub.broadcast(numbered(index + 1))).await, Ok(2), "it is waited for again");
    }
    assert_eq!(hub.stats().await.unwrap().skipped, before);
    assert_eq!(soon(hub.shutdown(LIMIT)).await.messages, 0);
}
