//! Messages: all of them, in order, and what happens when there is no room.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use swarm::SendError;
use tokio::task::JoinSet;

use crate::support::{connected, message, node, pair, quiet, soon};

fn numbered(index: u32, len: usize) -> Vec<u8> {
    let mut data = vec![0x5a; len.max(4)];
    data[..4].copy_from_slice(&index.to_be_bytes());
    data
}

fn number(data: &[u8]) -> u32 {
    u32::from_be_bytes(data[..4].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_arrive_in_order() {
    const COUNT: u32 = 10_000;
    let [(_a, to_b), (b, _)] = pair().await;
    let mut events = b.events();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for index in 0..COUNT {
            to_b.send(numbered(index, 1024)).await.unwrap();
        }
    });
    for index in 0..COUNT {
        assert_eq!(number(&message(&mut events).await.1), index);
    }
    tasks.join_all().await;
}

/// One at a time, in turn: whatever way a message takes, it does not overtake.
#[tokio::test]
async fn sends_large_sends_and_broadcasts_of_one_task_stay_in_order() {
    const COUNT: u32 = 600;
    let [(a, to_b), (b, _)] = pair().await;
    let mut events = b.events();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for index in 0..COUNT {
            match index % 3 {
                0 => to_b.send(numbered(index, 100)).await.unwrap(),
                1 => to_b.send(numbered(index, 5000)).await.unwrap(),
                _ => assert_eq!(a.broadcast(numbered(index, 100)).await, Ok(1)),
            }
        }
        // The node lives until everything has arrived.
        (a, to_b)
    });
    for index in 0..COUNT {
        assert_eq!(number(&message(&mut events).await.1), index);
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn sizes_up_to_one_sealed_datagram() {
    let [(_a, to_b), (b, _)] = pair().await;
    let mut events = b.events();
    for (index, len) in [0, 1, 3, 1200, 1201, 60_000, 65_474].into_iter().enumerate() {
        // Equal messages are copies to this wire.
        let data = vec![index as u8; len];
        to_b.send(data.clone()).await.unwrap();
        assert_eq!(message(&mut events).await.1, data);
    }
    let len = 65_475;
    let too_large = Err(SendError::TooLarge { len, max: 65_474 });
    assert_eq!(to_b.send(vec![0; len]).await, too_large);
    assert_eq!(to_b.try_send(vec![0; len]), too_large);
    to_b.try_send(vec![9; 2000]).unwrap();
    assert_eq!(message(&mut events).await.1, vec![9; 2000]);
}

#[tokio::test]
async fn a_full_outbox_is_told_or_waited_for() {
    let [(_a, to_b), (b, _)] = pair().await;
    let mut events = b.events();
    let mut sent = 0;
    // Nothing else runs on this thread meanwhile.
    let full = loop {
        match to_b.try_send(numbered(sent, 1000)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "no bound");
    };
    assert_eq!(full, SendError::Full);
    assert!(sent > 100, "room for {sent} only");

    // A send that is given up gives up its place and sends nothing.
    {
        let mut given_up = pin!(to_b.send(numbered(u32::MAX, 1000)));
        assert!(given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        to_b.send(numbered(sent, 1000)).await.unwrap();
        to_b
    });
    for index in 0..=sent {
        assert_eq!(number(&message(&mut events).await.1), index);
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_broadcast_reaches_every_peer() {
    let hub = node().await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let other = node().await;
        soon(other.dial(hub.local_addr())).await.unwrap();
        others.push(other);
    }
    let mut peers = hub.events();
    for _ in 0..3 {
        connected(&mut peers).await;
    }
    let mut events: Vec<_> = others.iter().map(|other| other.events()).collect();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for index in 0..2000 {
            assert_eq!(hub.broadcast(numbered(index, 1000)).await, Ok(3));
        }
        hub
    });
    for index in 0..2000 {
        for events in &mut events {
            assert_eq!(number(&message(events).await.1), index);
        }
    }
    assert_eq!(node().await.broadcast("nobody is there").await, Ok(0));
}

#[tokio::test]
async fn what_one_node_floods_the_next_passes_on() {
    let (a, b, c) = (node().await, node().await, node().await);
    soon(b.dial(a.local_addr())).await.unwrap();
    soon(b.dial(c.local_addr())).await.unwrap();
    let mut at_c = c.events();
    connected(&mut at_c).await;
    a.broadcast("from afar").await.unwrap();
    let (from, data) = message(&mut at_c).await;
    assert_eq!((from, &data[..]), (b.id(), &b"from afar"[..]), "the neighbour is named");

    let (a, b, c) = (node().await, quiet().flood(false).bind().await.unwrap(), node().await);
    let to_a = soon(b.dial(a.local_addr())).await.unwrap();
    let to_c = soon(b.dial(c.local_addr())).await.unwrap();
    let (mut at_b, mut at_c) = (b.events(), c.events());
    a.broadcast("no further").await.unwrap();
    assert_eq!(message(&mut at_b).await.1, b"no further");
    to_c.send("the end").await.unwrap();
    assert_eq!(message(&mut at_c).await.1, b"the end", "nothing came before it");
    drop(to_a);
}

#[tokio::test]
async fn nobody_is_reached_who_is_not_there() {
    let [(a, to_b), (b, to_a)] = pair().await;
    let peer = b.id();
    let stranger = a.peer(&node().await.id());
    assert_eq!(stranger.send("x").await, Err(SendError::NotConnected { peer: stranger.id() }));
    assert!(stranger.info().await.is_none());
    stranger.disconnect().await;

    to_b.disconnect().await;
    let mut events = a.events();
    assert_eq!(to_b.send("x").await, Err(SendError::NotConnected { peer }));
    assert_eq!(to_b.try_send("x"), Err(SendError::NotConnected { peer }));
    drop(to_a);

    // An old handle works again once the peer is back.
    soon(a.dial(b.local_addr())).await.unwrap();
    assert_eq!(connected(&mut events).await.id(), peer);
    let mut at_b = b.events();
    to_b.send("again").await.unwrap();
    assert_eq!(message(&mut at_b).await.1, b"again");
    soon(a.shutdown(crate::support::LIMIT)).await;
    assert_eq!(to_b.send("x").await, Err(SendError::Closed));
    assert_eq!(to_b.try_send("x"), Err(SendError::Closed));
    assert_eq!(a.broadcast("x").await, Err(SendError::Closed));
}
