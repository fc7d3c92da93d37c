//! How nodes end.

use std::time::{Duration, Instant};

use swarm::v12::SwarmEvent;
use swarm::{DialError, DisconnectReason, JoinError, SendError, StoreError, Unsent};
use tokio::task::JoinSet;

use crate::support::{LIMIT, message, node, pair, quiet, soon, until};

#[tokio::test]
async fn a_shutdown_sends_what_waits_first() {
    const COUNT: u32 = 200;
    let [(a, to_b), (b, _)] = pair().await;
    let mut events = b.events();
    for index in 0..COUNT {
        to_b.try_send(index.to_be_bytes().to_vec()).unwrap();
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { (soon(a.shutdown(LIMIT)).await, a) });
    for index in 0..COUNT {
        assert_eq!(message(&mut events).await.1, index.to_be_bytes());
    }
    let reason = until(&mut events, |event| match event {
        SwarmEvent::Disconnected { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(matches!(reason, DisconnectReason::Goodbye(_)), "{reason:?}");
    for (unsent, _) in tasks.join_all().await {
        assert_eq!(unsent, Unsent::default());
    }
}

#[tokio::test]
async fn a_shutdown_may_be_repeated_and_frees_the_port() {
    let [(a, to_b), (_b, _)] = pair().await;
    let addr = a.local_addr();
    let mut events = a.events();
    let (first, second) = tokio::join!(soon(a.shutdown(LIMIT)), soon(a.shutdown(Duration::ZERO)));
    assert_eq!(first, second);
    let again = quiet().listen(addr).bind().await.unwrap();
    assert_eq!(again.local_addr(), addr);
    assert_eq!(soon(a.shutdown(LIMIT)).await, first);

    assert_eq!(a.join("lobby").map(drop), Err(JoinError::Closed));
    assert_eq!(a.dial(addr).await.map(drop), Err(DialError::Closed));
    assert_eq!(a.store("key", "value").await, Err(StoreError::Closed));
    assert_eq!(a.fetch("key").await.map(drop), Err(swarm::FetchError::Closed));
    assert_eq!(to_b.send("x").await, Err(SendError::Closed));
    assert!(a.peers().await.is_empty() && a.stats().await.is_err());
    while soon(events.next()).await.is_some() {}
    assert!(soon(a.events().next()).await.is_none(), "a stream of a node that ended has ended");
}

/// The other side is gone without a word, so the window stays shut and the queues stay full.
#[tokio::test]
async fn a_shutdown_keeps_its_time_and_tells_what_is_left() {
    let (b, driver) = quiet().bind_manual().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run());
    let a = node().await;
    let to_b = soon(a.dial(b.local_addr())).await.unwrap();
    soon(tasks.shutdown()).await;
    while to_b.try_send(vec![1; 1000]).is_ok() {}
    let start = Instant::now();
    let unsent = soon(a.shutdown(Duration::from_millis(300))).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(unsent.messages > 0, "{unsent:?}");
}

#[tokio::test]
async fn dropping_the_last_handle_says_goodbye() {
    let [(a, to_b), (b, _)] = pair().await;
    let topic = a.join("lobby").unwrap();
    let mut events = b.events();
    let clone = a.clone();
    drop(a);
    assert_eq!(clone.peers().await.len(), 1, "a handle is left");
    drop(clone);
    until(&mut events, |event| matches!(event, SwarmEvent::Disconnected { .. }).then_some(())).await;
    assert!(to_b.send("x").await.is_err() && soon(topic.events().next()).await.is_none());
}

#[tokio::test]
async fn a_node_of_ones_own_driving() {
    let (a, driver) = quiet().bind_manual().unwrap();
    let b = node().await;
    let met = async {
        let peer = soon(a.dial(b.local_addr())).await.unwrap();
        assert_eq!(peer.id(), b.id());
        soon(a.shutdown(LIMIT)).await
    };
    let (unsent, ()) = tokio::join!(met, driver.run());
    assert_eq!(unsent, Unsent::default());
    // One that never ran: nothing waits for ever.
    let (c, driver) = quiet().bind_manual().unwrap();
    let (mut events, addr) = (c.events(), c.local_addr());
    drop(driver);
    assert!(c.peers().await.is_empty() && soon(events.next()).await.is_none());
    assert_eq!(c.join("lobby").map(drop), Err(JoinError::Closed));
    assert_eq!(soon(c.shutdown(LIMIT)).await, Unsent::default());
    quiet().listen(addr).bind().await.unwrap();
}

/// Its task is cancelled in the middle of it all.
#[tokio::test]
async fn a_driver_that_is_dropped_leaves_nobody_waiting() {
    let (a, driver) = quiet().bind_manual().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run());
    let b = node().await;
    let to_b = soon(a.dial(b.local_addr())).await.unwrap();
    let mut events = a.events();
    let mut waiting = JoinSet::new();
    for _ in 0..4 {
        let (a, to_b) = (a.clone(), to_b.clone());
        waiting.spawn(async move {
            while a.broadcast(vec![7; 1000]).await.is_ok() && to_b.send(vec![8; 5000]).await.is_ok() {}
        });
    }
    soon(tasks.shutdown()).await;
    soon(waiting.join_all()).await;
    assert_eq!(to_b.send("x").await, Err(SendError::Closed));
    while soon(events.next()).await.is_some() {}
}
