use std::time::Duration;

use swarm::{OpenError, Protocol, StreamError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{ECHO, pair, pattern, within};

const LEN: usize = 4 << 20;

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_at_once() {
    let (_a, b, ab, _) = pair().await;
    let mut incoming = b.accept(ECHO).unwrap();
    let stream = within(ab.open_stream(ECHO)).await.unwrap();
    let other = within(incoming.next()).await.unwrap();
    assert_eq!(other.peer(), _a.id());
    let run = |stream: swarm::Stream, seed: u8, theirs: u8| async move {
        let (mut read, mut write) = tokio::io::split(stream);
        let send = async {
            let mut at = 0;
            while at < LEN {
                let len = (1 + at % 100_000).min(LEN - at);
                let chunk: Vec<u8> = (at..at + len).map(|at| pattern(seed, at)).collect();
                write.write_all(&chunk).await.unwrap();
                at += len;
            }
            write.shutdown().await.unwrap();
        };
        let receive = async {
            let (mut buffer, mut at) = (vec![0; 70_000], 0);
            loop {
                let len = read.read(&mut buffer).await.unwrap();
                if len == 0 {
                    break;
                }
                for &byte in &buffer[..len] {
                    assert_eq!(byte, pattern(theirs, at));
                    at += 1;
                }
            }
            assert_eq!(at, LEN);
        };
        tokio::join!(send, receive);
    };
    within(async { tokio::join!(run(stream, 1, 2), run(other, 2, 1)) }).await;
    within(async {
        while b.stats().await.unwrap().streams > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn shutdown_means_that_the_peer_has_everything() {
    let (_a, b, ab, _) = pair().await;
    let mut incoming = b.accept(ECHO).unwrap();
    let mut stream = within(ab.open_stream(ECHO)).await.unwrap();
    stream.write_all(b"all of it").await.unwrap();
    within(stream.shutdown()).await.unwrap();
    let mut other = within(incoming.next()).await.unwrap();
    let mut text = String::new();
    within(other.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "all of it");
    // The other direction is open still.
    other.write_all(b"answer").await.unwrap();
    within(other.shutdown()).await.unwrap();
    text.clear();
    within(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test]
async fn streams_that_nobody_takes_say_so() {
    const NOBODY: Protocol = Protocol::new("nobody/1");
    let (_a, b, ab, ba) = pair().await;
    let mut stream = within(ab.open_stream(NOBODY)).await.unwrap();
    let error = within(stream.read(&mut [0; 10])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&StreamError::Unsupported));
    // A dropped stream fails the other side's writing, once it notices; its code is the application's.
    let mut incoming = b.accept(ECHO).unwrap();
    let stream = within(ab.open_stream(ECHO)).await.unwrap();
    let mut other = within(incoming.next()).await.unwrap();
    stream.reset(42);
    let error = within(other.read(&mut [0; 10])).await.unwrap_err();
    assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&StreamError::Reset { code: 42 }));
    let mut stream = within(ab.open_stream(ECHO)).await.unwrap();
    drop(within(incoming.next()).await.unwrap());
    let error = within(async {
        loop {
            if let Err(error) = stream.write_all(&[0; 1000]).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&StreamError::Dropped));
    // And the session's end is the end of its streams.
    let mut stream = within(ab.open_stream(ECHO)).await.unwrap();
    ba.disconnect(Duration::ZERO).await;
    let error = within(stream.read(&mut [0; 10])).await.unwrap_err();
    assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&StreamError::Disconnected));
    assert_eq!(within(ab.open_stream(ECHO)).await.unwrap_err(), OpenError::NotConnected);
}

#[tokio::test]
async fn more_streams_than_allowed_wait_for_their_turn() {
    let (_a, b, ab, _) = pair().await;
    let mut incoming = b.accept(ECHO).unwrap();
    let echo = tokio::spawn(async move {
        while let Some(stream) = incoming.next().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..450u32 {
        let peer = ab.clone();
        tasks.spawn(async move {
            let mut stream = peer.open_stream(ECHO).await.unwrap();
            stream.write_all(&n.to_be_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, n.to_be_bytes());
        });
    }
    while let Some(done) = within(tasks.join_next()).await {
        done.unwrap();
    }
    echo.abort();
}
