//! One node answers requests, the other asks: what an answer looks like, and how each failure is told.
//!
//! `cargo run -p setowire-swarm --example request`

#![allow(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use swarm::{Preset, Protocol, RequestError, Swarm};

/// Both sides know it. The number is the version: another one is another protocol.
const SQUARE: Protocol = Protocol::new("square/1");
const UNKNOWN: Protocol = Protocol::new("cube/1");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = || Swarm::builder().preset(Preset::Loopback).lan(false).bind();
    let (server, client) = (node().await?, node().await?);

    // Requests are answered for as long as the returned value lives. An error rejects one of them.
    let _answers = server.respond(SQUARE, |from, body| async move {
        let text = std::str::from_utf8(&body)?;
        let number: u64 = text.trim().parse()?;
        println!("{} asks for the square of {number}", from.short());
        let square = number.checked_mul(number).ok_or("too large")?;
        Ok::<_, Box<dyn Error + Send + Sync>>(Bytes::from(square.to_string()))
    })?;

    let peer = client.dial((server.id(), server.local_addr())).await?;
    let answer = peer.request(SQUARE, "12").timeout(Duration::from_secs(3)).await?;
    println!("12 squared is {}", String::from_utf8_lossy(&answer));

    // Hundreds of them may be under way to one peer, each on a stream of its own.
    let (seven, eight) =
        tokio::join!(async { peer.request(SQUARE, "7").await }, async { peer.request(SQUARE, "8").await });
    println!("49 and 64: {:?} and {:?}", seven?, eight?);

    assert_eq!(peer.request(SQUARE, "no number").await, Err(RequestError::Rejected));
    println!("what is no number is rejected");
    assert_eq!(peer.request(UNKNOWN, "2").await, Err(RequestError::Unsupported));
    println!("nobody there knows {UNKNOWN}");

    client.shutdown(Duration::from_secs(1)).await;
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
