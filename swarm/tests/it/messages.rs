use std::time::Duration;

use swarm::{SendError, SwarmEvent};

use crate::support::{node, pair, pattern, within};

#[tokio::test]
async fn messages_of_every_size_arrive_whole_and_in_order() {
    let (_a, _b, ab, ba) = pair().await;
    let mut inbox = ba.messages().unwrap();
    assert!(ba.messages().is_none(), "there is one reader");
    let sizes: Vec<usize> =
        (0..200).map(|n| [0, 1, 63, 64, 1000, 1200, 16_383, 70_000][n % 8] + n).chain([1 << 20]).collect();
    let send = async {
        for (n, &size) in sizes.iter().enumerate() {
            let message: Vec<u8> = (0..size).map(|at| pattern(n as u8, at)).collect();
            ab.send(&message).await.unwrap();
        }
    };
    let receive = async {
        for (n, &size) in sizes.iter().enumerate() {
            let message = inbox.next().await.unwrap();
            assert_eq!(message.len(), size);
            assert!(message.iter().enumerate().all(|(at, &byte)| byte == pattern(n as u8, at)));
        }
    };
    within(async { tokio::join!(send, receive) }).await;
    let error = ab.send(vec![0; (1 << 20) + 1]).await.unwrap_err();
    assert_eq!(error, SendError::TooLarge { len: (1 << 20) + 1, max: 1 << 20 });
}

#[tokio::test]
async fn a_reader_that_does_not_read_makes_its_sender_wait_and_nobody_else() {
    let (a, b, ab, ba) = pair().await;
    let c = node().await;
    let cb = within(c.dial((b.id(), b.local_addr()))).await.unwrap();
    let mut slow = ba.messages().unwrap();
    // Fill everything there is between the two.
    let mut sent = 0u32;
    let mut full = tokio::time::Instant::now();
    while full.elapsed() < Duration::from_millis(500) {
        match ab.try_send(vec![7; 10_000]) {
            Ok(()) => (sent, full) = (sent + 1, tokio::time::Instant::now()),
            Err(SendError::Full) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent > 100 && sent < 2000, "{sent} messages of 10 kB are under way");
    // Others do not notice.
    let mut events = b.events();
    for n in 0..100u32 {
        cb.send(n.to_be_bytes()).await.unwrap();
    }
    let mut next = 0u32;
    while next < 100 {
        if let Some(SwarmEvent::Data(message)) = within(events.next()).await {
            assert_eq!((message.from, &message.data[..]), (c.id(), &next.to_be_bytes()[..]));
            next += 1;
        }
    }
    // And everything arrives once it is read.
    for _ in 0..sent {
        assert_eq!(within(slow.next()).await.unwrap().len(), 10_000);
    }
    drop(a);
}

#[tokio::test]
async fn broadcasts_reach_those_who_are_meant() {
    let hub = node().await;
    let mut others = Vec::new();
    for _ in 0..5 {
        let other = node().await;
        within(hub.dial((other.id(), other.local_addr()))).await.unwrap();
        others.push(other);
    }
    assert_eq!(hub.broadcast("all").await, Ok(5));
    assert_eq!(hub.broadcast_to(2, &[others[0].id()], "some").await, Ok(2));
    let mut some = 0;
    for (n, other) in others.iter().enumerate() {
        let mut events = other.events();
        hub.peer(&other.id()).send("end").await.unwrap();
        loop {
            let Some(SwarmEvent::Data(message)) = within(events.next()).await else { continue };
            match &message.data[..] {
                b"all" => {}
                b"some" => some += usize::from(n > 0),
                b"end" => break,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(some, 2);
    let lonely = node().await;
    assert_eq!(lonely.broadcast("nobody").await, Ok(0));
    assert!(matches!(lonely.peer(&hub.id()).send("x").await, Err(SendError::NotConnected { .. })));
}

#[tokio::test]
async fn a_reader_of_events_that_lags_is_told() {
    let (_a, b, ab, _) = pair().await;
    let mut events = b.events();
    for n in 0..2000u32 {
        ab.send(n.to_be_bytes()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    let (mut got, mut lost) = (0, 0);
    while got + lost < 2000 {
        match within(events.next()).await.unwrap() {
            SwarmEvent::Data(_) => got += 1,
            SwarmEvent::Lagged(count) => lost += count,
            _ => {}
        }
    }
    assert_eq!(got + lost, 2000);
    assert!(lost > 0 && got >= 200, "{got} came, {lost} were lost");
}

#[tokio::test]
async fn a_reader_of_events_decides_what_becomes_of_messages_that_he_does_not_read() {
    use swarm::Overflow;
    let (_a, b, ab, _) = pair().await;
    let mut all = b.events_with(Overflow::Wait);
    let send = tokio::spawn(async move {
        for n in 0..2000u32 {
            ab.send(n.to_be_bytes()).await.unwrap();
        }
        ab
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut oldest = b.events_with(Overflow::DropOldest);
    let mut next = 0u32;
    while next < 2000 {
        match within(all.next()).await.unwrap() {
            SwarmEvent::Data(message) => {
                assert_eq!(message.data, next.to_be_bytes()[..]);
                next += 1;
            }
            SwarmEvent::Lagged(_) => panic!("it waits"),
            _ => {}
        }
    }
    within(send).await.unwrap();
    let (mut lost, mut last) = (0, None);
    while last != Some(1999) {
        match within(oldest.next()).await.unwrap() {
            SwarmEvent::Data(message) => {
                let n = u32::from_be_bytes(message.data[..].try_into().unwrap());
                assert!(last.is_none_or(|last| n == last + 1), "the newest, without a gap");
                last = Some(n);
            }
            SwarmEvent::Lagged(count) => lost += count,
            _ => {}
        }
    }
    assert!(lost > 1000, "{lost} gave way to newer ones");
}

#[tokio::test]
async fn datagrams_arrive_or_not_and_are_never_torn() {
    let (_a, _b, ab, ba) = pair().await;
    let mut inbox = ba.datagrams().unwrap();
    let send = async {
        for n in 0..1000u32 {
            let mut datagram = vec![n as u8; 1000];
            datagram[..4].copy_from_slice(&n.to_be_bytes());
            ab.send_datagram(&datagram).await.unwrap();
        }
        // A message follows them and shows when they are through.
        ab.send("done").await.unwrap();
    };
    let mut messages = ba.messages().unwrap();
    let mut got = 0;
    let receive = async {
        loop {
            tokio::select! {
                biased;
                datagram = inbox.next() => {
                    let datagram = datagram.unwrap();
                    assert_eq!(datagram.len(), 1000);
                    let n = u32::from_be_bytes(datagram[..4].try_into().unwrap());
                    assert!(datagram[4..].iter().all(|&byte| byte == n as u8));
                    got += 1;
                    if got == 1000 { break; }
                }
                _ = messages.next(), if got < 1000 => tokio::time::sleep(Duration::from_millis(50)).await,
                () = tokio::time::sleep(Duration::from_secs(2)) => break,
            }
        }
    };
    within(async { tokio::join!(send, receive) }).await;
    assert!(got > 900, "{got} of 1000 on loopback");
    // More than any path of this session ever carries, or than UDP does.
    for len in [9_001, 70_000] {
        let refused = ab.send_datagram(vec![0; len]).await;
        assert!(
            matches!(refused, Err(SendError::TooLarge { len: of, max }) if of == len && max < 9_000),
            "{refused:?}"
        );
    }
}
