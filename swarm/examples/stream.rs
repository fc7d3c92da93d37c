//! A stream of bytes, by tokio's `AsyncRead` and `AsyncWrite`: ten megabytes there and back.
//!
//! `cargo run -p setowire-swarm --example stream`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program")]

use std::error::Error;
use std::time::Duration;

use swarm::{Preset, Protocol, Swarm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink, split};

const ECHO: Protocol = Protocol::new("echo/1");
const LEN: u64 = 10_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = || Swarm::builder().preset(Preset::Loopback).lan(false).bind();
    let (server, client) = (node().await?, node().await?);

    // The server sends every stream back to where it came from.
    let mut incoming = server.accept(ECHO)?;
    let echo = tokio::spawn(async move {
        while let Some(stream) = incoming.next().await {
            let (mut read, mut write) = split(stream);
            copy(&mut read, &mut write).await?;
            write.shutdown().await?;
        }
        Ok::<_, std::io::Error>(())
    });

    let peer = client.dial((server.id(), server.local_addr())).await?;
    let (mut read, mut write) = split(peer.open_stream(ECHO).await?);
    // Both at once: whoever only writes waits in the end for a reader. Writing waits while 256 KiB have not left.
    let sending = async {
        let sent = copy(&mut tokio::io::repeat(7).take(LEN), &mut write).await?;
        // The end of the stream for the other side. It resolves when the other side has everything.
        write.shutdown().await.map(|()| sent)
    };
    let mut nowhere = sink();
    let (sent, received) = tokio::try_join!(sending, copy(&mut read, &mut nowhere))?;
    println!("{sent} bytes went out and arrived, {received} came back");
    assert_eq!((sent, received), (LEN, LEN));

    client.shutdown(Duration::from_secs(1)).await;
    // The end of the node is the end of `incoming`.
    server.shutdown(Duration::from_secs(1)).await;
    echo.await??;
    Ok(())
}
