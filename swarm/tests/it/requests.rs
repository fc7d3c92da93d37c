use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use swarm::{Events, InboundError, PeerId, Protocol, RequestError, RequestId, SwarmEvent};

use crate::support::{ECHO, node, pair, within};

#[tokio::test]
async fn requests_are_answered() {
    let (_a, b, ab, _) = pair().await;
    let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    for size in [0, 1, 64, 5000, 1 << 20] {
        let body = vec![3; size];
        let answer = within(ab.request(ECHO, &body).max_answer(1 << 20).into_future()).await.unwrap();
        assert_eq!(answer, body);
    }
    assert!(b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).is_err(), "there is one responder");
}

#[tokio::test]
async fn a_thousand_requests_run_side_by_side() {
    let (_a, b, ab, _) = pair().await;
    let _double = b
        .respond(ECHO, |_, body| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let n = u32::from_be_bytes(body[..].try_into().map_err(drop)?);
            Ok::<_, ()>(Bytes::copy_from_slice(&(2 * n).to_be_bytes()))
        })
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1000u32 {
        let peer = ab.clone();
        tasks.spawn(async move { (n, peer.request(ECHO, n.to_be_bytes()).await) });
    }
    while let Some(done) = within(tasks.join_next()).await {
        let (n, answer) = done.unwrap();
        assert_eq!(answer.unwrap(), (2 * n).to_be_bytes()[..]);
    }
}

/// What a peer sends may have a handler panic, before it waits or behind: nobody else notices.
#[tokio::test]
async fn a_handler_that_panics_rejects_one_request() {
    let (_a, b, ab, _) = pair().await;
    let _echo = b
        .respond(ECHO, |_, body| {
            assert_ne!(body, "at once");
            async move {
                assert_ne!(body, "first");
                tokio::task::yield_now().await;
                assert_ne!(body, "later");
                Ok::<_, ()>(body)
            }
        })
        .unwrap();
    for bad in ["at once", "first", "later"] {
        assert_eq!(within(ab.request(ECHO, bad).into_future()).await.unwrap_err(), RequestError::Rejected, "{bad}");
        assert_eq!(within(ab.request(ECHO, "good").into_future()).await.unwrap(), "good", "behind {bad}");
    }
}

/// More answers than one visit to a session does.
#[tokio::test]
async fn what_was_answered_before_a_goodbye_arrives() {
    let (_a, b, ab, ba) = pair().await;
    let mut requests = b.requests(ECHO).unwrap();
    let asked: Vec<_> = (0..200u8).map(|n| tokio::spawn(ab.request(ECHO, [n]).into_future())).collect();
    let mut inbound = Vec::new();
    while inbound.len() < asked.len() {
        inbound.push(within(requests.next()).await.unwrap());
    }
    for request in inbound {
        let (id, asker) = (request.id(), request.peer());
        let (body, reply) = request.split();
        assert_eq!((reply.id(), reply.peer()), (id, asker));
        reply.answer(body);
    }
    within(ba.disconnect(Duration::from_secs(5))).await;
    for (n, answer) in asked.into_iter().enumerate() {
        assert_eq!(within(answer).await.unwrap().unwrap()[..], [n as u8]);
    }
}

#[tokio::test]
async fn every_way_to_fail_has_its_name() {
    const NOBODY: Protocol = Protocol::new("nobody/1");
    const NEVER: Protocol = Protocol::new("never/1");
    const REJECT: Protocol = Protocol::new("reject/1");
    const SMALL: Protocol = Protocol::new("small/1");
    let (a, b, ab, _) = pair().await;
    let _never = b.respond(NEVER, |_, _| std::future::pending::<Result<Bytes, ()>>()).unwrap();
    let _reject = b.respond(REJECT, |_, _| async { Err::<Bytes, _>(()) }).unwrap();
    let mut small = b.requests_up_to(SMALL, 10).unwrap();
    assert_eq!(within(ab.request(NOBODY, "x").into_future()).await, Err(RequestError::Unsupported));
    assert_eq!(within(ab.request(REJECT, "x").into_future()).await, Err(RequestError::Rejected));
    let short = Duration::from_millis(100);
    let late = within(ab.request(NEVER, "x").timeout(short).into_future()).await;
    assert!(matches!(late, Err(RequestError::Timeout { after }) if after == short), "{late:?}");
    assert_eq!(within(ab.request(SMALL, [0; 11]).into_future()).await, Err(RequestError::TooLarge));
    let asked = tokio::spawn(ab.request(SMALL, [0; 10]).max_answer(4).into_future());
    within(small.next()).await.unwrap().answer("12345");
    assert_eq!(within(asked).await.unwrap(), Err(RequestError::AnswerTooLarge { max: 4 }));
    // One that is dropped without an answer is rejected at once.
    let asked = tokio::spawn(ab.request(SMALL, [0; 10]).into_future());
    drop(within(small.next()).await.unwrap());
    assert_eq!(within(asked).await.unwrap(), Err(RequestError::Rejected));
    let asked = tokio::spawn(ab.request(SMALL, [0; 10]).into_future());
    let (body, reply) = within(small.next()).await.unwrap().split();
    drop(reply);
    assert_eq!((body.len(), within(asked).await.unwrap()), (10, Err(RequestError::Rejected)));
    // The protocol is gone with whoever answered it.
    drop(small);
    assert_eq!(within(ab.request(SMALL, "x").into_future()).await, Err(RequestError::Unsupported));
    // The session ends while a request is under way.
    let asked = tokio::spawn(ab.request(NEVER, "x").into_future());
    tokio::time::sleep(short).await;
    drop((_never, b));
    let ended = within(asked).await.unwrap();
    assert!(matches!(ended, Err(RequestError::Rejected | RequestError::Disconnected)), "{ended:?}");
    drop(a);
}

/// The next request of a peer that was not answered.
async fn failed(events: &mut Events) -> (RequestId, PeerId, InboundError) {
    loop {
        let event = within(events.next()).await.expect("the node is there");
        if let SwarmEvent::RequestFailed { request, peer, cause } = event {
            return (request, peer, cause);
        }
    }
}

#[tokio::test]
async fn the_side_that_is_asked_hears_of_every_way_to_fail() {
    const NOBODY: Protocol = Protocol::new("nobody/1");
    const NEVER: Protocol = Protocol::new("never/1");
    const SMALL: Protocol = Protocol::new("small/1");
    let (a, b, ab, _) = pair().await;
    let mut never = b.requests(NEVER).unwrap();
    let mut small = b.requests_up_to(SMALL, 10).unwrap();
    let mut events = b.events();
    let mut ids = Vec::new();
    let mut check = |(id, peer, cause): (RequestId, PeerId, InboundError), expected: InboundError| {
        assert_eq!((peer, cause), (a.id(), expected));
        assert!(!ids.contains(&id), "each has its own");
        ids.push(id);
        id
    };
    within(ab.request(NOBODY, "x").into_future()).await.unwrap_err();
    check(failed(&mut events).await, InboundError::Unsupported);
    within(ab.request(SMALL, [0; 11]).into_future()).await.unwrap_err();
    check(failed(&mut events).await, InboundError::TooLarge { max: 10 });
    // More than comes at once.
    within(ab.request(SMALL, [0; 500_000]).into_future()).await.unwrap_err();
    check(failed(&mut events).await, InboundError::TooLarge { max: 10 });
    // The handler does not permit it.
    let asked = tokio::spawn(ab.request(SMALL, "may I?").into_future());
    let inbound = within(small.next()).await.unwrap();
    let id = inbound.id();
    inbound.reject();
    assert_eq!(check(failed(&mut events).await, InboundError::Rejected), id);
    assert_eq!(within(asked).await.unwrap(), Err(RequestError::Rejected));
    // The time of the asking side is over while the handler thinks.
    let asked = ab.request(NEVER, "x").timeout(Duration::from_millis(100)).into_future();
    let asked = tokio::spawn(asked);
    let inbound = within(never.next()).await.unwrap();
    assert!(matches!(within(asked).await.unwrap(), Err(RequestError::Timeout { .. })));
    assert_eq!(check(failed(&mut events).await, InboundError::GivenUp), inbound.id());
    // Too late, and no failure of its own.
    inbound.answer("x");
    // One that is answered is none.
    let asked = tokio::spawn(ab.request(SMALL, "x").into_future());
    within(small.next()).await.unwrap().answer("y");
    assert_eq!(within(asked).await.unwrap(), Ok(Bytes::from("y")));
    // The session ends.
    let asked = tokio::spawn(ab.request(NEVER, "x").into_future());
    let inbound = within(never.next()).await.unwrap();
    ab.disconnect(Duration::ZERO).await;
    assert_eq!(check(failed(&mut events).await, InboundError::Closed), inbound.id());
    assert_eq!(within(asked).await.unwrap(), Err(RequestError::Disconnected));
    assert_eq!(b.stats().await.unwrap().requests_failed, 6);
    assert_eq!(a.stats().await.unwrap().requests_failed, 0);
}

#[tokio::test]
async fn a_peer_that_asks_for_what_is_not_there_makes_no_reader_of_events_lose_any() {
    const NOBODY: Protocol = Protocol::new("nobody/1");
    let (_a, b, ab, _) = pair().await;
    let mut events = b.events();
    for _ in 0..600 {
        assert_eq!(within(ab.request(NOBODY, "x").into_future()).await, Err(RequestError::Unsupported));
    }
    assert_eq!(b.stats().await.unwrap().requests_failed, 600);
    let mut told = 0;
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, SwarmEvent::Lagged(_)), "{event:?}");
        told += usize::from(matches!(event, SwarmEvent::RequestFailed { .. }));
    }
    assert!((1..=128).contains(&told), "{told} of 600 were told of to a reader who did not read");
}

#[tokio::test]
async fn a_request_that_waits_for_a_stream_keeps_its_time_and_takes_its_place() {
    const NEVER: Protocol = Protocol::new("never/1");
    let (_a, b, ab, _) = pair().await;
    let _never = b.respond(NEVER, |_, _| std::future::pending::<Result<Bytes, ()>>()).unwrap();
    let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    let long = Duration::from_secs(3);
    let waiting: Vec<_> = (0..400).map(|_| tokio::spawn(ab.request(NEVER, "x").timeout(long).into_future())).collect();
    // More than there are streams.
    within(async {
        while _a.stats().await.unwrap().streams < 400 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let short = Duration::from_millis(200);
    let began = tokio::time::Instant::now();
    let late = within(ab.request(ECHO, "x").timeout(short).into_future()).await;
    assert_eq!(late, Err(RequestError::Timeout { after: short }));
    assert!(began.elapsed() < long);
    for waiting in waiting {
        assert_eq!(within(waiting).await.unwrap(), Err(RequestError::Timeout { after: long }));
    }
    assert_eq!(within(ab.request(ECHO, "y").into_future()).await, Ok(Bytes::from("y")));
}

#[tokio::test]
async fn large_requests_of_one_peer_are_held_up_to_a_bound() {
    const NEVER: Protocol = Protocol::new("never/1");
    const MIB: usize = 1 << 20;
    let (_a, b, ab, _) = pair().await;
    let held = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&held);
    let _never = b
        .respond(NEVER, move |_, body| {
            count.fetch_add(body.len(), Ordering::Relaxed);
            std::future::pending::<Result<Bytes, ()>>()
        })
        .unwrap();
    let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    let time = Duration::from_secs(4);
    let body = vec![7; MIB];
    let asked: Vec<_> = (0..48).map(|_| tokio::spawn(ab.request(NEVER, &body).timeout(time).into_future())).collect();
    let mut refused = 0;
    for asked in asked {
        match within(asked).await.unwrap() {
            Err(RequestError::Refused) => refused += 1,
            other => assert_eq!(other, Err(RequestError::Timeout { after: time })),
        }
    }
    let held = held.load(Ordering::Relaxed);
    assert!(held <= 16 * MIB && refused >= 32, "{held} bytes held, {refused} of 48 refused");
    // Those that were given up make room.
    assert_eq!(within(ab.request(ECHO, &body).max_answer(MIB).into_future()).await.unwrap().len(), MIB);
}

#[tokio::test]
async fn a_peer_that_was_connected_before_is_dialled_for_a_request() {
    let (_a, b, ab, _) = pair().await;
    let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    ab.disconnect(Duration::ZERO).await;
    assert_eq!(within(ab.request(ECHO, "again").into_future()).await, Ok(Bytes::from("again")));
    let stranger = node().await;
    assert!(matches!(
        within(stranger.peer(&b.id()).request(ECHO, "x").into_future()).await,
        Err(RequestError::Dial(swarm::DialError::NoAddress))
    ));
}

#[tokio::test]
async fn requests_that_are_given_up_cost_nothing_in_the_end() {
    let (a, b, ab, _) = pair().await;
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let _slow = b
        .respond(ECHO, move |_, body| {
            let count = Arc::clone(&count);
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, ()>(body)
            }
        })
        .unwrap();
    for _ in 0..300 {
        let request = ab.request(ECHO, "x").into_future();
        let _ = tokio::time::timeout(Duration::from_millis(1), request).await;
    }
    assert!(running.load(Ordering::Relaxed) > 0);
    assert_eq!(within(ab.request(ECHO, "y").into_future()).await, Ok(Bytes::from("y")));
    within(async {
        while a.stats().await.unwrap().streams + b.stats().await.unwrap().streams > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
