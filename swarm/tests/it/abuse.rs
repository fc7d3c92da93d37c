//! Peers that speak the protocol of sessions as they should, and abuse everything above it.

mod raw;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::{Identity, Seed};
use framing::StreamCode;
use peer::Target;
use peer::mux::{self, Urgency};
use structs::Path;
use swarm::{DialError, OpenError, RequestError, SendError, SwarmEvent};
use tokio::io::AsyncReadExt;

use self::raw::{MESSAGE, NAMES, REQUEST, Raw, STREAM, TOPIC, named, serves, streams, victim};
use crate::support::{ECHO, builder, connect, node, within};

#[tokio::test]
async fn names_that_are_none_are_refused_with_a_reason() {
    let (node, _echo) = victim().await;
    let (mut raw, _) = Raw::connected(1, &node).await;
    for protocol in [*STREAM, *REQUEST] {
        for bytes in [&[0_u8][..], &[65], &[255; 100], &[2, 0xff, 0xfe], &named("nobody/1", b"x")] {
            let stream = raw.stream(protocol, bytes);
            let _ = raw.with(|peer| peer.finish_stream(stream));
            let code = raw.refusal(stream).await;
            let expected =
                if bytes.len() > 5 && bytes[0] == 8 { StreamCode::UNKNOWN_PROTOCOL } else { StreamCode::FAILED };
            assert_eq!(code, expected, "{bytes:?}");
        }
        // Ended before the name was.
        let stream = raw.stream(protocol, &[6, b'e']);
        raw.with(|peer| peer.finish_stream(stream)).unwrap();
        assert_eq!(raw.refusal(stream).await, StreamCode::FAILED);
    }
    raw.during(async {
        while streams(&node).await > 0 {
            tokio::task::yield_now().await;
        }
        serves(&node).await;
    })
    .await;
}

#[tokio::test]
async fn streams_that_never_say_what_for_are_bounded_and_end_with_the_session() {
    let (node, _echo) = victim().await;
    let (mut raw, peer) = Raw::connected(2, &node).await;
    let mut opened = 0;
    while let Ok(stream) = raw.with(|peer| peer.open_stream([*STREAM, *REQUEST][opened % 2])) {
        // All but the whole name of a stream.
        let head = &named("echo/1", b"a body without an end")[..opened % [7, 12][opened % 2]];
        raw.with(|peer| peer.write(stream, head)).unwrap();
        opened += 1;
        assert!(opened < 10_000);
    }
    raw.during(async {
        while streams(&node).await < opened {
            tokio::task::yield_now().await;
        }
        serves(&node).await;
        assert_eq!(streams(&node).await, opened);
        peer.disconnect(Duration::ZERO).await;
        while streams(&node).await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn streams_that_never_say_what_for_are_closed_in_the_end() {
    let (node, _echo) = victim().await;
    let (mut raw, _peer) = Raw::connected(22, &node).await;
    for (protocol, head) in [(*STREAM, &[6, b'e'][..]), (*REQUEST, &[6, b'e'][..])] {
        let stream = raw.stream(protocol, head);
        assert_eq!(raw.refusal(stream).await, StreamCode::FAILED);
    }
    assert_eq!(streams(&node).await, 0);
}

/// Every moment of a request at which its asker may give up, and every way to.
#[tokio::test]
async fn askers_that_give_up_leave_nothing_behind() {
    let (node, _echo) = victim().await;
    let slow = swarm::Protocol::new("slow/1");
    let mut held = node.requests(slow).unwrap();
    let (mut raw, _) = Raw::connected(3, &node).await;
    for name in ["echo/1", "slow/1", "nobody/1"] {
        let whole = named(name, &[7; 5000]);
        for sent in [0, 1, 4, 7, 8, 2000, whole.len()] {
            for way in 0..8 {
                let stream = raw.stream(*REQUEST, &whole[..sent]);
                if way % 2 == 1 {
                    raw.step().await;
                }
                raw.with(|peer| {
                    let code = StreamCode::application(9);
                    let _ = match way / 2 {
                        0 => peer.reset_stream(stream, code).is_ok(),
                        1 => peer.stop_stream(stream, code).is_ok(),
                        2 => peer.finish_stream(stream).is_ok() && peer.stop_stream(stream, code).is_ok(),
                        _ => peer.reset_stream(stream, code).is_ok() && peer.stop_stream(stream, code).is_ok(),
                    };
                });
                raw.step().await;
            }
        }
    }
    raw.during(async {
        while streams(&node).await > 0 {
            // Those that were whole are with their handler, who drops them.
            tokio::select! {
                request = held.next() => drop(request),
                () = tokio::task::yield_now() => {}
            }
        }
        serves(&node).await;
    })
    .await;
}

#[tokio::test]
async fn answers_of_every_kind_have_their_names() {
    let node = node().await;
    let (mut raw, peer) = Raw::connected(4, &node).await;
    // What is answered, whether that is all, and what comes of it.
    type Expected = Result<&'static [u8], RequestError>;
    let cases: [(&[u8], bool, Expected); 6] = [
        (&[0, 1, 2], true, Ok(&[1, 2])),
        (&[0], true, Ok(&[])),
        (&[], true, Err(RequestError::Rejected)),
        (&[1], true, Err(RequestError::Rejected)),
        (&[255, 1, 2, 3], true, Err(RequestError::Rejected)),
        (&[0; 200], false, Err(RequestError::AnswerTooLarge { max: 100 })),
    ];
    for (answer, whole, expected) in cases {
        // Longer than what may be sent before somebody reads: the answer comes before the request has ended.
        for len in [3, 200_000] {
            let asked = tokio::spawn(peer.request(ECHO, vec![1; len]).max_answer(100).into_future());
            let stream = raw.opened().await;
            raw.with(|peer| {
                peer.write(stream, answer).unwrap();
                if whole {
                    peer.finish_stream(stream).unwrap();
                }
            });
            let result = raw.during(asked).await.unwrap();
            assert_eq!(result.as_deref(), expected.as_ref().map(|bytes| *bytes), "{answer:?}");
            raw.during(async { assert_eq!(streams(&node).await, 0) }).await;
            // The request ends as well: nothing of it stays.
            raw.until(|raw| {
                let mut bytes = Vec::new();
                matches!(
                    raw.with(|peer| peer.read_into(stream, &mut bytes, 1 << 20)),
                    Ok(mux::Read::End) | Err(mux::ReadError::Reset { .. } | mux::ReadError::Closed)
                )
            })
            .await;
        }
    }
    // An answer without an end, of whatever size.
    let asked = tokio::spawn(peer.request(ECHO, "x").max_answer(1 << 16).into_future());
    let stream = raw.opened().await;
    let mut sent = 0;
    raw.until(|raw| {
        while let Ok(len) = raw.with(|peer| peer.write(stream, &[0; 4096])) {
            sent += len;
        }
        raw.has(|event| matches!(event, mux::Event::Stopped { stream: of, .. } if *of == stream))
    })
    .await;
    assert_eq!(within(asked).await.unwrap(), Err(RequestError::AnswerTooLarge { max: 1 << 16 }));
    assert!(sent < 8 << 20, "{sent} bytes went out");
}

#[tokio::test]
async fn the_largest_bounds_are_no_sums() {
    let (node, _echo) = victim().await;
    let anything = swarm::Protocol::new("anything/1");
    let mut requests = node.requests_up_to(anything, usize::MAX).unwrap();
    let other = self::node().await;
    let (peer, _) = connect(&other, &node).await;
    let asked = tokio::spawn(peer.request(anything, "x").max_answer(usize::MAX).into_future());
    within(requests.next()).await.unwrap().answer("y");
    assert_eq!(within(asked).await.unwrap(), Ok(Bytes::from("y")));
}

#[tokio::test]
async fn requests_that_no_stream_is_allowed_for_time_out() {
    let node = node().await;
    let (mut raw, peer) = Raw::connected(5, &node).await;
    // All streams that the other side allows, none of which it answers.
    let hour = Duration::from_secs(3600);
    let mut pending = tokio::task::JoinSet::new();
    for _ in 0..400 {
        pending.spawn(peer.request(ECHO, "x").timeout(hour).into_future());
    }
    raw.during(async {
        while streams(&node).await < 400 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let after = Duration::from_millis(50);
    let late = raw.during(peer.request(ECHO, "y").timeout(after).into_future()).await;
    assert_eq!(late, Err(RequestError::Timeout { after }));
    // Those that wait and those that have a stream are given up with their callers.
    let opening = tokio::spawn({
        let peer = peer.clone();
        async move { peer.open_stream(ECHO).await.map(drop) }
    });
    raw.during(async {
        while streams(&node).await < 401 {
            tokio::task::yield_now().await;
        }
        opening.abort();
        pending.abort_all();
        while streams(&node).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(opening.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn streams_whose_opening_is_given_up_are_closed() {
    let (node, _echo) = victim().await;
    let (mut raw, peer) = Raw::connected(6, &node).await;
    for polls in 0..3 {
        for _ in 0..50 {
            let mut opening = Box::pin(peer.open_stream(ECHO));
            for _ in 0..polls {
                let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(opening.as_mut().poll(cx).is_ready())).await;
                // The net task gives the answer, which nobody takes.
                raw.during(async { drop(node.stats().await) }).await;
            }
        }
    }
    raw.until(|raw| {
        let opened = raw.events.iter().filter_map(|event| match event {
            mux::Event::Opened { stream, .. } => Some(*stream),
            _ => None,
        });
        for stream in opened.collect::<Vec<_>>() {
            // The node reads no further, so this ends at once.
            let _ = raw.with(|peer| peer.reset_stream(stream, StreamCode::CANCELLED));
        }
        raw.events.len() > 50
    })
    .await;
    raw.during(async {
        while streams(&node).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_panics_takes_nobody_with_it() {
    let (node, _echo) = victim().await;
    let fragile = swarm::Protocol::new("fragile/1");
    let _fragile = node
        .respond(fragile, |_, body: Bytes| async move {
            if &body[..] == b"later" {
                tokio::task::yield_now().await;
            }
            assert_eq!(body, "fine");
            Ok::<_, ()>(body)
        })
        .unwrap();
    let other = self::node().await;
    let (peer, _) = connect(&other, &node).await;
    for body in ["now", "later", "now"] {
        assert_eq!(within(peer.request(fragile, body).into_future()).await, Err(RequestError::Rejected));
    }
    assert_eq!(within(peer.request(fragile, "fine").into_future()).await, Ok(Bytes::from("fine")));
}

#[tokio::test]
async fn messages_that_nobody_reads_wait_in_bounded_memory() {
    let (node, _echo) = victim().await;
    let (mut raw, peer) = Raw::connected(7, &node).await;
    // The raw side reads none of what it is sent.
    let mut sent = 0;
    while sent < 64 << 20 && within(async { peer.try_send([5; 10_000]).is_ok() }).await {
        sent += 10_000;
    }
    let full = tokio::spawn({
        let peer = peer.clone();
        async move {
            loop {
                if let Err(error) = peer.send([6; 10_000]).await {
                    break error;
                }
            }
        }
    });
    raw.during(async {
        serves(&node).await;
        let queued = peer.info().await.unwrap().queued;
        assert!(queued <= 8 << 20, "{queued} bytes wait in the session");
    })
    .await;
    raw.with(|peer| peer.fail_protocol(*MESSAGE));
    // Whoever waits is told that it is in vain.
    let error = raw.during(full).await.unwrap();
    assert_eq!(error, SendError::Refused { peer: peer.id() });
    raw.during(async { serves(&node).await }).await;
}

#[tokio::test]
async fn a_thousand_tiny_messages_and_datagrams_without_a_byte_are_counted_right() {
    let (node, _echo) = victim().await;
    let (mut raw, peer) = Raw::connected(8, &node).await;
    let (mut messages, mut datagrams) = (peer.messages().unwrap(), peer.datagrams().unwrap());
    let mut sent = 0;
    raw.until(|raw| {
        while sent < 20_000 && raw.with(|peer| peer.send(*MESSAGE, &[], Urgency::Normal)).is_ok() {
            sent += 1;
        }
        let _ = raw.with(|peer| peer.send_datagram(*MESSAGE, &[]));
        sent == 20_000
    })
    .await;
    raw.during(async {
        for _ in 0..20_000 {
            assert_eq!(messages.next().await, Some(Bytes::new()));
        }
        assert_eq!(datagrams.next().await, Some(Bytes::new()));
    })
    .await;
}

#[tokio::test]
async fn a_datagram_that_is_too_long_holds_up_none_behind_it() {
    let node = node().await;
    let (mut raw, peer) = Raw::connected(9, &node).await;
    peer.try_send_datagram([1]).unwrap();
    raw.until(|raw| raw.with(|peer| peer.recv_datagram(*MESSAGE)).is_some()).await;
    // Before anybody knows how long one may be on this path, which may turn out to take it.
    peer.try_send_datagram(vec![2; 8_000]).unwrap();
    raw.during(peer.send_datagram([3])).await.unwrap();
    let mut came = None;
    raw.until(|raw| {
        came = raw.with(|peer| peer.recv_datagram(*MESSAGE));
        came.as_ref().is_some_and(|datagram| datagram.len() < 8_000)
    })
    .await;
    assert_eq!(came.unwrap(), [3][..]);
    // No path does.
    assert!(matches!(peer.try_send_datagram(vec![2; 200_000]), Err(SendError::TooLarge { .. })));
}

#[tokio::test]
async fn malformed_topic_messages_end_topics_with_that_peer_and_nothing_else() {
    let (node, _echo) = victim().await;
    let topic = node.join("a room of its own").unwrap();
    let mut told = node.events();
    for (n, message) in [&[][..], &[0], &[1], &[1, 2], &[2], &[2, 0], &[3, 1], &[4; 3]].into_iter().enumerate() {
        let (mut raw, peer) = Raw::connected(20 + n as u64, &node).await;
        let _ = raw.with(|peer| peer.send(*TOPIC, message, Urgency::Normal));
        raw.with(|peer| peer.send(*MESSAGE, b"and yet it moves", Urgency::Normal)).unwrap();
        raw.during(async {
            loop {
                if let Some(SwarmEvent::Data(message)) = told.next().await
                    && message.from == peer.id()
                {
                    break;
                }
            }
            topic.publish("to nobody").await.unwrap();
        })
        .await;
    }
    serves(&node).await;
}

#[tokio::test]
async fn a_flood_of_tags_and_of_publications_without_proof_delivers_nothing() {
    let (node, _echo) = victim().await;
    let topic = node.join("a closed room").unwrap();
    let mut events = topic.events();
    let (mut raw, _) = Raw::connected(30, &node).await;
    let mut sent = 0;
    raw.until(|raw| {
        loop {
            // Random bytes behind every type that there is, well formed or not; a start first.
            let n = sent as u8;
            let mut message = vec![n % 6; 1 + usize::from(n)];
            if let Some(slot) = message.get_mut(1) {
                *slot = n;
            }
            if raw.with(|peer| peer.send(*TOPIC, &message, Urgency::Normal)).is_err() || sent > 5000 {
                break;
            }
            sent += 1;
        }
        sent > 5000
            || raw.has(|event| matches!(event, mux::Event::ProtocolFailed { .. } | mux::Event::ChannelClosed { .. }))
    })
    .await;
    raw.during(async { serves(&node).await }).await;
    drop(topic);
    node.shutdown(Duration::ZERO).await;
    assert!(raw.during(events.next()).await.is_none(), "nothing of it was an event");
}

#[tokio::test]
async fn a_peer_without_our_protocols_is_connected_and_of_no_use() {
    let (node, _echo) = victim().await;
    let mut raw = Raw::new(40, &["something/else"], |config| config).await;
    let peer = raw.connect(&node).await;
    let asked = raw.during(peer.request(ECHO, "x").into_future()).await;
    assert_eq!(asked, Err(RequestError::Unsupported));
    assert!(matches!(raw.during(peer.open_stream(ECHO)).await, Err(OpenError::Refused)));
    let refused = raw
        .during(async {
            loop {
                if let Err(error) = peer.send("x").await {
                    break error;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    assert_eq!(refused, SendError::Refused { peer: peer.id() });
    // What was accepted before it was known is not lost in silence.
    assert!(node.stats().await.unwrap().dropped > 0);
    raw.during(async { serves(&node).await }).await;
}

#[tokio::test]
async fn a_peer_that_takes_short_messages_only_is_sent_no_longer_ones() {
    const MAX: usize = 100_000;
    let node = node().await;
    let mut raw = Raw::new(41, &NAMES, |config| config.max_message(MAX)).await;
    let peer = raw.connect(&node).await;
    // Known once its first packet is there, which may be behind what says that it is connected.
    let refused = raw
        .during(async {
            loop {
                if let Err(error) = peer.send(vec![0; MAX + 1]).await {
                    break error;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    assert_eq!(refused, SendError::TooLarge { len: MAX + 1, max: MAX });
    raw.during(async { peer.send(vec![0; MAX]).await }).await.unwrap();
}

#[tokio::test]
async fn two_with_the_same_key_take_turns_and_leave_nothing_behind() {
    let (node, _echo) = victim().await;
    let mut first = Raw::new(50, &NAMES, |config| config).await;
    let mut second = Raw::new(50, &NAMES, |config| config).await;
    for _ in 0..10 {
        for raw in [&mut first, &mut second] {
            raw.session = None;
            raw.closed = None;
            raw.events.clear();
            raw.dial(&node);
            raw.until(|raw| raw.session.is_some() || raw.closed.is_some()).await;
            if raw.session.is_some() && raw.closed.is_none() {
                let _ = raw
                    .with(|peer| peer.open_stream(*REQUEST).map(|stream| peer.write(stream, &named("echo/1", b"x"))));
                raw.flush().await;
                raw.with(|peer| peer.close(0, "", Duration::ZERO, Instant::now()));
                raw.until(|raw| raw.closed.is_some()).await;
            }
        }
    }
    within(async {
        loop {
            let stats = node.stats().await.unwrap();
            if stats.streams == 0 && stats.node.connected == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    serves(&node).await;
}

#[tokio::test]
async fn our_own_key_at_another_address_is_nobody() {
    let seed = Seed::fixed(60);
    let identity = Identity::generate(&mut seed.fork("identity").rng());
    let node = builder().identity(identity).bind().await.unwrap();
    let _echo = node.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    let mut raw = Raw::new(60, &NAMES, |config| config.handshake_timeout(Duration::from_secs(1))).await;
    let target = Target::Anyone;
    raw.endpoint.dial(target, Path::udp(raw.local, node.local_addr()), Instant::now()).unwrap();
    raw.until(|raw| raw.closed.is_some()).await;
    let dialled = raw.during(node.dial(raw.local)).await;
    assert!(matches!(dialled, Err(DialError::Ourselves { .. } | DialError::OwnKey)), "{dialled:?}");
    assert_eq!(node.stats().await.unwrap().node.connected, 0);
    serves(&node).await;
}

#[tokio::test]
async fn streams_end_in_every_way_for_their_handles() {
    let (node, _echo) = victim().await;
    let mut incoming = node.accept(ECHO).unwrap();
    let (mut raw, _) = Raw::connected(70, &node).await;
    let mut ends = BTreeSet::new();
    for way in 0..4 {
        let stream = raw.stream(*STREAM, &named("echo/1", b"abc"));
        let mut handle = raw.during(incoming.next()).await.unwrap();
        raw.with(|peer| {
            let _ = match way {
                0 => peer.finish_stream(stream).is_ok(),
                1 => peer.reset_stream(stream, StreamCode::application(1)).is_ok(),
                2 => peer.stop_stream(stream, StreamCode::application(1)).is_ok() && peer.finish_stream(stream).is_ok(),
                _ => peer.reset_stream(stream, StreamCode::REFUSED).is_ok(),
            };
        });
        let mut bytes = Vec::new();
        let read = raw.during(handle.read_to_end(&mut bytes)).await;
        ends.insert(read.map_or_else(|error| error.to_string(), |len| len.to_string()));
        drop(handle);
        let _ = raw.with(|peer| peer.stop_stream(stream, StreamCode::CANCELLED));
    }
    assert!(ends.len() >= 3 && ends.contains("3"), "{ends:?}");
    raw.during(async {
        while streams(&node).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
