//! How a program tests itself: two nodes in one process, on the loopback interface, without any other network.
//!
//! The function that is tested takes a `Swarm`; the test gives it one. In a crate of yours `answers_arrive` is a
//! `#[tokio::test]`; run as a program, it is what `main` calls.
//!
//! `cargo run -p setowire-swarm --example two_nodes_test`

#![allow(clippy::print_stdout, reason = "a program")]

use std::time::Duration;

use bytes::Bytes;
use swarm::{BindError, Peer, Preset, Protocol, RequestError, Responding, Swarm, Taken};

const TIME: Protocol = Protocol::new("uptime/1");

/// What is tested: tells others how long this program has been running.
fn serve_uptime(swarm: &Swarm) -> Result<Responding, Taken> {
    let start = tokio::time::Instant::now();
    swarm.respond(TIME, move |_, _| async move { Ok::<_, ()>(Bytes::from(start.elapsed().as_secs().to_string())) })
}

/// And asks them.
async fn uptime(peer: &Peer) -> Result<String, RequestError> {
    Ok(String::from_utf8_lossy(&peer.request(TIME, "").await?).into_owned())
}

/// A port of the system's choice on 127.0.0.1, a fresh identity, and nobody finds it: tests run side by side.
async fn test_node() -> Result<Swarm, BindError> {
    Swarm::builder().preset(Preset::Loopback).lan(false).bind().await
}

async fn answers_arrive() -> Result<(), Box<dyn std::error::Error>> {
    let (server, client) = (test_node().await?, test_node().await?);
    let serving = serve_uptime(&server)?;
    let peer = client.dial((server.id(), server.local_addr())).await?;
    assert_eq!(uptime(&peer).await?, "0");

    // Failure is tested by bringing it about: first nobody answers, then nobody is there.
    drop(serving);
    assert_eq!(uptime(&peer).await, Err(RequestError::Unsupported));
    server.shutdown(Duration::ZERO).await;
    let gone = peer.request(TIME, "").timeout(Duration::from_millis(200)).await;
    assert!(matches!(gone, Err(RequestError::Timeout { .. } | RequestError::Dial(_) | RequestError::Disconnected)));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Whatever goes wrong, a test ends.
    tokio::time::timeout(Duration::from_secs(30), answers_arrive()).await??;
    println!("test answers_arrive ... ok");
    Ok(())
}
