//! Every future may be dropped at every point where it waits.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use crypto::{Rng, Seed};
use swarm::{OpenError, Stream, Swarm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{ECHO, no_streams, pair, pattern, within};

/// Polls a future at most so many times, other tasks in between, and drops it then.
async fn polled<F: Future>(future: F, times: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// How often a future is polled this time: mostly seldom, sometimes until it is ready.
fn patience(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => 1,
        1 => 1 + rng.below(4),
        2 => 1 + rng.below(20),
        _ => 100_000,
    }
}

#[tokio::test]
async fn messages_are_sent_whole_or_not_at_all_and_received_once() {
    const COUNT: u32 = 3000;
    let (_a, _b, ab, ba) = pair().await;
    let mut inbox = ba.messages().unwrap();
    let mut rng = Seed::fixed(1).rng();
    let send = async {
        let mut accepted = vec![false; COUNT as usize];
        for n in 0..COUNT {
            let message = [&n.to_be_bytes()[..], &vec![n as u8; 20_000]].concat();
            accepted[n as usize] = match polled(ab.send(&message), patience(&mut rng)).await {
                Some(sent) => sent.is_ok(),
                None => false,
            };
        }
        ab.send("end").await.unwrap();
        accepted
    };
    let mut rng = Seed::fixed(2).rng();
    let receive = async {
        let mut received = Vec::new();
        loop {
            let Some(message) = polled(inbox.next(), patience(&mut rng)).await else { continue };
            let message = message.unwrap();
            let Some((number, rest)) = message.split_first_chunk::<4>() else { break };
            let n = u32::from_be_bytes(*number);
            assert!(rest.len() == 20_000 && rest.iter().all(|&byte| byte == n as u8));
            received.push(n);
        }
        received
    };
    let (accepted, received) = within(async { tokio::join!(send, receive) }).await;
    // A send that is dropped before it is ready has sent nothing: so what came is what was accepted, in order.
    let expected: Vec<u32> = (0..COUNT).filter(|&n| accepted[n as usize]).collect();
    assert_eq!(received, expected);
    assert!(expected.len() > COUNT as usize / 4 && expected.len() < COUNT as usize, "{}", expected.len());
}

#[tokio::test]
async fn requests_that_are_dropped_are_handled_once_at_most() {
    const COUNT: u32 = 1500;
    let (a, b, ab, _) = pair().await;
    let handled = Arc::new(Mutex::new(BTreeMap::<u32, u32>::new()));
    let log = Arc::clone(&handled);
    let _answers = b
        .respond(ECHO, move |_, body| {
            let n = u32::from_be_bytes(body[..4].try_into().unwrap());
            *log.lock().unwrap().entry(n).or_default() += 1;
            async move {
                tokio::task::yield_now().await;
                Ok::<_, ()>(body)
            }
        })
        .unwrap();
    let mut rng = Seed::fixed(3).rng();
    let mut answered = Vec::new();
    for n in 0..COUNT {
        let body = Bytes::from([&n.to_be_bytes()[..], &vec![n as u8; rng.below(3000) as usize]].concat());
        if let Some(answer) = within(polled(ab.request(ECHO, &body).into_future(), patience(&mut rng))).await {
            assert_eq!(answer, Ok(body));
            answered.push(n);
        }
    }
    no_streams(&a).await;
    no_streams(&b).await;
    let handled = handled.lock().unwrap();
    assert!(handled.values().all(|&times| times == 1));
    assert!(answered.iter().all(|n| handled.contains_key(n)));
    assert!(answered.len() > COUNT as usize / 4 && answered.len() < COUNT as usize, "{}", answered.len());
}

#[tokio::test]
async fn streams_that_nobody_waits_for_do_not_stay_open() {
    let (a, b, ab, _) = pair().await;
    let mut incoming = b.accept(ECHO).unwrap();
    let mut rng = Seed::fixed(4).rng();
    let taking = tokio::spawn(async move {
        let mut rng = Seed::fixed(5).rng();
        let mut taken = 0;
        loop {
            match polled(incoming.next(), patience(&mut rng)).await {
                Some(Some(stream)) => {
                    taken += 1;
                    drop(stream);
                }
                Some(None) => return taken,
                None => {}
            }
        }
    });
    let (mut opened, mut dropped) = (0, 0);
    for _ in 0..2000 {
        match within(polled(ab.open_stream(ECHO), patience(&mut rng))).await {
            Some(Ok(stream)) => {
                opened += 1;
                drop(stream);
            }
            Some(Err(OpenError::TooMany { .. })) => tokio::task::yield_now().await,
            Some(Err(error)) => panic!("{error}"),
            None => dropped += 1,
        }
    }
    assert!(opened > 500 && dropped > 500, "{opened} were opened, {dropped} given up");
    no_streams(&a).await;
    no_streams(&b).await;
    drop((a, b));
    // One that was given up may have been opened, never one for which nobody asked.
    let taken: u32 = within(taking).await.unwrap();
    assert!(taken >= opened && taken <= opened + dropped, "{taken} were taken");
}

#[tokio::test]
async fn reads_and_writes_that_are_dropped_moved_nothing() {
    const LEN: usize = 4 << 20;
    let (a, b, ab, _) = pair().await;
    let mut incoming = b.accept(ECHO).unwrap();
    let mut writer = within(ab.open_stream(ECHO)).await.unwrap();
    writer.write_all(&[pattern(9, 0)]).await.unwrap();
    let mut reader = within(incoming.next()).await.unwrap();
    let write = async {
        let mut rng = Seed::fixed(6).rng();
        let mut at = 1;
        while at < LEN {
            let end = LEN.min(at + 1 + rng.below(60_000) as usize);
            let bytes: Vec<u8> = (at..end).map(|at| pattern(9, at)).collect();
            match polled(writer.write(&bytes), patience(&mut rng)).await {
                Some(written) => at += written.unwrap(),
                None => drop(polled(writer.flush(), patience(&mut rng)).await),
            }
        }
        while polled(writer.shutdown(), patience(&mut rng)).await.is_none() {}
        assert_eq!(at, LEN);
    };
    let read = async {
        let mut rng = Seed::fixed(7).rng();
        let (mut at, mut buffer) = (0, vec![0; 40_000]);
        loop {
            let len = 1 + rng.below(40_000) as usize;
            match polled(reader.read(&mut buffer[..len]), patience(&mut rng)).await.transpose().unwrap() {
                Some(0) => break,
                Some(len) => {
                    assert!(buffer[..len].iter().enumerate().all(|(n, &byte)| byte == pattern(9, at + n)));
                    at += len;
                }
                None => {}
            }
        }
        assert_eq!(at, LEN);
    };
    within(async { tokio::join!(write, read) }).await;
    let ended: [Stream; 2] = [reader, writer];
    drop(ended);
    no_streams(&a).await;
    no_streams(&b).await;
}

#[tokio::test]
async fn dials_events_and_publications_are_taken_once_or_left() {
    let (a, b, _, _) = pair().await;
    let (ours, theirs) = (a.join("cats").unwrap(), b.join("cats").unwrap());
    let mut events = theirs.events();
    loop {
        if let Some(swarm::TopicEvent::Joined(_)) = within(events.next()).await {
            break;
        }
    }
    let mut rng = Seed::fixed(8).rng();
    let publish = async {
        let mut certain = 0;
        for n in 0..1000u32 {
            // Those of one task are in order, dropped or not.
            if polled(ours.publish(n.to_be_bytes().to_vec()), patience(&mut rng)).await.is_some_and(|sent| sent.is_ok())
            {
                certain += 1;
            }
        }
        ours.publish("end").await.unwrap();
        certain
    };
    let mut rng = Seed::fixed(9).rng();
    let receive = async {
        let (mut count, mut last) = (0, None);
        loop {
            match polled(events.next(), patience(&mut rng)).await {
                Some(Some(swarm::TopicEvent::Message(message))) => {
                    let Ok(number) = message.data[..].try_into() else { return count };
                    let n = u32::from_be_bytes(number);
                    assert!(last < Some(n), "{n} after {last:?}");
                    (count, last) = (count + 1, Some(n));
                }
                Some(Some(swarm::TopicEvent::Lagged(lost))) => panic!("{lost} were lost"),
                Some(None) => panic!("the topic is left"),
                _ => {}
            }
        }
    };
    let (certain, received) = within(async { tokio::join!(publish, receive) }).await;
    assert!(certain > 250 && received >= certain, "{certain} were published, {received} came");

    // Dials that are given up go on, and those of the same peer are one.
    let other: Swarm = crate::support::node().await;
    let mut events = a.events();
    for times in 0..5 {
        let _ = polled(a.dial((other.id(), other.local_addr())), times).await;
    }
    while crate::support::connected(&mut events).await.id() != other.id() {}
    within(async {
        while a.stats().await.unwrap().node.dials > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(a.peers().await.len(), 2);
}
