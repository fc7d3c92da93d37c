//! Streams of events: slow readers harm nobody but themselves.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use swarm::v12::{SwarmEvent, TopicEvent};
use tokio::task::JoinSet;

use crate::support::{connected, message, node, pair, soon, until};

const COUNT: u64 = 3000;

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost_and_others_lose_nothing() {
    let [(a, to_b), (b, _)] = pair().await;
    let (mut slow, mut fast) = (b.events(), b.events());
    let topic = b.join("lobby").unwrap();
    let mut slow_topic = topic.events();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for index in 0..COUNT {
            to_b.send(index.to_be_bytes().to_vec()).await.unwrap();
        }
        to_b
    });
    for index in 0..COUNT {
        assert_eq!(message(&mut fast).await.1, index.to_be_bytes());
    }
    let [_] = tasks.join_all().await.try_into().unwrap();
    // A peer leaves while the others are behind.
    drop(a);
    until(&mut fast, |event| matches!(event, SwarmEvent::Disconnected { .. }).then_some(())).await;

    let (mut came, mut lost, mut there) = (0, 0, false);
    until(&mut slow, |event| match event {
        SwarmEvent::Connected { .. } => {
            there = true;
            None
        }
        SwarmEvent::Data(_) => {
            assert_eq!(lost, 0, "what came before the gap comes first");
            came += 1;
            None
        }
        SwarmEvent::Lagged(count) => {
            lost += count;
            None
        }
        SwarmEvent::Disconnected { .. } => Some(()),
        _ => None,
    })
    .await;
    assert!(there && came > 0 && lost > 0 && came + lost == COUNT, "{came} and {lost}");

    let (mut came, mut lost) = (0, 0);
    soon(async {
        loop {
            match slow_topic.next().await.unwrap() {
                TopicEvent::Message(_) => came += 1,
                TopicEvent::Lagged(count) => lost += count,
                TopicEvent::Left(..) => break,
                _ => {}
            }
        }
    })
    .await;
    assert!(lost > 0 && came + lost == COUNT, "{came} and {lost}");

    // It hears everything again.
    let c = node().await;
    let to_b = soon(c.dial(b.local_addr())).await.unwrap();
    assert_eq!(connected(&mut slow).await.id(), c.id());
    to_b.send("hello").await.unwrap();
    assert_eq!(message(&mut slow).await.1, b"hello");
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_no_event() {
    let [(_a, to_b), (b, _)] = pair().await;
    let mut events = b.events();
    connected(&mut events).await;
    for index in 0..50u8 {
        {
            let mut wait = pin!(events.next());
            assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        to_b.send(vec![index]).await.unwrap();
        assert_eq!(message(&mut events).await.1, [index]);
    }
}

#[tokio::test]
async fn a_topic_ends_with_its_last_handle() {
    let a = node().await;
    let topic = a.join("lobby").unwrap();
    let (again, clone) = (a.join("lobby").unwrap(), topic.clone());
    assert_eq!(again.id(), topic.id());
    let mut events = topic.events();
    drop((topic, again));
    assert_eq!(clone.publish("alone").await.unwrap().neighbours, 0);
    {
        let mut wait = pin!(events.next());
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "one handle is left");
    }
    drop(clone);
    assert!(soon(events.next()).await.is_none());

    let topics: Vec<_> = (0..64).map(|index| a.join(format!("{index}").as_str()).unwrap()).collect();
    assert_eq!(a.join("one more").map(drop), Err(swarm::JoinError::TooMany { limit: 64 }));
    a.join("0").unwrap();
    drop(topics);
    a.join("one more").unwrap();
}
