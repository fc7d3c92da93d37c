//! A node ends in time, whatever is under way.

use std::time::{Duration, Instant};

use bytes::Bytes;
use swarm::{DialError, OpenError, RequestError, SendError, Swarm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{ECHO, LONG, connect, node, pair, within};

/// Shuts a node down and asserts that it takes little longer than it may. Tells how many messages had not left.
async fn ends_within(swarm: &Swarm, grace: Duration) -> u64 {
    let start = Instant::now();
    let unsent = within(swarm.shutdown(grace)).await;
    let took = start.elapsed();
    assert!(took <= grace + Duration::from_secs(1), "{took:?} with a grace of {grace:?}");
    assert!(swarm.peers().await.is_empty() && swarm.stats().await.is_err());
    unsent.messages
}

const GRACES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(300)];

#[tokio::test]
async fn while_a_dial_is_under_way() {
    for grace in GRACES {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (node, addr) = (node().await, silent.local_addr().unwrap());
        let dialler = node.clone();
        let dial = tokio::spawn(async move { dialler.dial(addr).await });
        // The first message has left: the dial is under way.
        within(silent.readable()).await.unwrap();
        assert_eq!(ends_within(&node, grace).await, 0);
        assert_eq!(within(dial).await.unwrap().unwrap_err(), DialError::Closed);
    }
}

#[tokio::test]
async fn while_a_handshake_is_half_open() {
    for grace in GRACES {
        let node = node().await;
        let mut stranger = crate::hostile::Raw::bind().await;
        stranger.dial(&node);
        stranger.flush().await;
        // It is answered, and the answer is never taken in.
        within(stranger.socket.readable()).await.unwrap();
        assert_eq!(node.stats().await.unwrap().node.endpoint.half_open, 1);
        assert_eq!(ends_within(&node, grace).await, 0);
    }
}

#[tokio::test]
async fn while_a_writer_is_blocked() {
    for grace in GRACES {
        let (a, _b, ab, ba) = pair().await;
        // Claimed, and never read.
        let _unread = ba.messages().unwrap();
        let mut sent = 0;
        while within(async { tokio::time::timeout(Duration::from_millis(200), ab.send([0; 10_000])).await })
            .await
            .is_ok()
        {
            sent += 1;
        }
        let blocked = tokio::spawn(async move { ab.send([0; 10_000]).await });
        tokio::task::yield_now().await;
        let unsent = ends_within(&a, grace).await;
        assert!(unsent > 0 && unsent < sent, "{unsent} of {sent} messages had not left");
        let error = within(blocked).await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::Closed | SendError::NotConnected { .. }), "{error}");
    }
}

#[tokio::test]
async fn while_streams_and_requests_wait() {
    for grace in GRACES {
        let (a, b, ab, _) = pair().await;
        let _never = b.respond(ECHO, |_, _| std::future::pending::<Result<Bytes, ()>>()).unwrap();
        let mut incoming = b.accept(ECHO).unwrap();
        let request = tokio::spawn(ab.request(ECHO, "x").into_future());
        let mut reader = within(ab.open_stream(ECHO)).await.unwrap();
        let mut writer = within(ab.open_stream(ECHO)).await.unwrap();
        let _accepted = [within(incoming.next()).await.unwrap(), within(incoming.next()).await.unwrap()];
        let read = tokio::spawn(async move { reader.read_u8().await });
        let write = tokio::spawn(async move {
            loop {
                if let Err(error) = writer.write_all(&[0; 10_000]).await {
                    return error;
                }
            }
        });
        // As many more as may be open, and one that waits to be.
        let mut open = Vec::new();
        let opening = loop {
            let mut opening = Box::pin(ab.open_stream(ECHO));
            match tokio::time::timeout(Duration::from_millis(200), &mut opening).await {
                Ok(stream) => open.push(stream.unwrap()),
                Err(_) => break opening,
            }
        };
        assert!(open.len() > 200, "{}", open.len());
        assert_eq!(ends_within(&a, grace).await, 0);
        assert!(matches!(within(request).await.unwrap(), Err(RequestError::Closed | RequestError::Disconnected)));
        assert!(matches!(within(opening).await, Err(OpenError::Closed | OpenError::NotConnected)));
        assert!(within(read).await.unwrap().is_err());
        let _broken = within(write).await.unwrap();
        drop(open);
        // The other side has nothing left of it.
        crate::support::no_streams(&b).await;
    }
}

#[tokio::test]
async fn the_last_handle_ends_the_task() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let (a, b, ab, ba) = pair().await;
    let (topic, mut events) = (a.join("x").unwrap(), b.events());
    assert_eq!(alive(), before + 2);
    // What is held of peers and topics does not keep a node.
    drop((a, b));
    while within(events.next()).await.is_some() {}
    within(async {
        while alive() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for peer in [ab, ba] {
        assert_eq!(peer.send("x").await, Err(SendError::Closed));
        assert!(matches!(peer.open_stream(ECHO).await, Err(OpenError::Closed)));
        assert_eq!(peer.request(ECHO, "x").await, Err(RequestError::Closed));
    }
    assert_eq!(topic.publish("x").await, Err(SendError::Closed));
}

/// Whoever ran the driver may drop it in the midst of everything: a runtime that ends does.
#[tokio::test]
async fn a_driver_that_is_dropped_leaves_nobody_waiting() {
    let (a, driver) = crate::support::builder().bind_manual().unwrap();
    let b = node().await;
    let run = tokio::spawn(driver.run());
    let (ab, _ba) = connect(&a, &b).await;
    let _never = b.respond(ECHO, |_, _| std::future::pending::<Result<Bytes, ()>>()).unwrap();
    let mut incoming = b.accept(ECHO).unwrap();
    let request = tokio::spawn(ab.request(ECHO, "x").timeout(LONG * 2).into_future());
    let mut reader = within(ab.open_stream(ECHO)).await.unwrap();
    let mut writer = within(ab.open_stream(ECHO)).await.unwrap();
    let _accepted = [within(incoming.next()).await.unwrap(), within(incoming.next()).await.unwrap()];
    let read = tokio::spawn(async move { reader.read_u8().await });
    let write = tokio::spawn(async move {
        loop {
            if let Err(error) = writer.write_all(&[0; 10_000]).await {
                return error;
            }
        }
    });
    let mut messages = ab.messages().unwrap();
    let message = tokio::spawn(async move { messages.next().await });
    let mut events = a.events();
    let last_event = tokio::spawn(async move { while events.next().await.is_some() {} });
    run.abort();
    assert!(within(run).await.unwrap_err().is_cancelled());
    assert_eq!(within(request).await.unwrap().unwrap_err(), RequestError::Closed);
    assert!(within(read).await.unwrap().is_err());
    let _broken = within(write).await.unwrap();
    assert!(within(message).await.unwrap().is_none());
    within(last_event).await.unwrap();
    assert!(within(ab.request(ECHO, "y").timeout(LONG * 2).into_future()).await.is_err());
    assert!(within(ab.open_stream(ECHO)).await.is_err());
    within(a.shutdown(LONG)).await;
}
