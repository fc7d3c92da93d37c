//! Two nodes without a socket: their sessions go by a carrier of this program's own, queues in memory.
//!
//! `Memory` is all that it takes to carry sessions by something else than UDP: a radio, a serial line, a test of a bad network.
//!
//! `cargo run -p setowire-swarm --example memory_transport`

#![allow(clippy::print_stdout, reason = "a program")]

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use swarm::{Arrived, Protocol, Swarm, Transport, TransportAddr};
use tokio::sync::mpsc;

/// One place in a network of queues: place `n` is the n-th queue.
#[derive(Debug)]
struct Memory {
    place: u64,
    inbox: mpsc::Receiver<(u64, Vec<u8>)>,
    all: Vec<mpsc::Sender<(u64, Vec<u8>)>>,
}

/// A network with so many places.
fn network(places: usize) -> Vec<Memory> {
    let (all, inboxes): (Vec<_>, Vec<_>) = (0..places).map(|_| mpsc::channel(256)).unzip();
    (0..).zip(inboxes).map(|(place, inbox)| Memory { place, inbox, all: all.clone() }).collect()
}

impl Transport for Memory {
    fn poll_send(&mut self, _: &mut Context<'_>, to: u64, datagram: &[u8]) -> Poll<io::Result<()>> {
        let to = usize::try_from(to).ok().and_then(|to| self.all.get(to)).ok_or(io::ErrorKind::HostUnreachable)?;
        // What finds no room is lost, as at a router: the session sends it again, and more slowly.
        let _ = to.try_send((self.place, datagram.to_vec()));
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<Arrived>> {
        // `self.all` has a sender of this queue, which so never ends.
        let (from, datagram) = ready!(self.inbox.poll_recv(cx)).ok_or(io::ErrorKind::BrokenPipe)?;
        let len = datagram.len().min(into.len());
        into[..len].copy_from_slice(&datagram[..len]);
        Poll::Ready(Ok(Arrived { len, from }))
    }

    fn max_datagram(&self) -> usize {
        9000
    }
}

/// The number of this transport, at all nodes that have it.
const MEMORY: u16 = 7;
const ECHO: Protocol = Protocol::new("echo/1");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [at_0, at_1] = <[Memory; 2]>::try_from(network(2)).or(Err("two places"))?;
    let alice = Swarm::builder().transport(MEMORY, at_0).bind().await?;
    let bob = Swarm::builder().transport(MEMORY, at_1).bind().await?;
    let _echo = alice.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) })?;
    let peer = bob.dial((alice.id(), TransportAddr::new(MEMORY, 0))).await?;
    let answer = peer.request(ECHO, vec![7; 1_000_000]).max_answer(1_000_000).await?;
    bob.shutdown(Duration::from_secs(1)).await;
    println!("{} bytes went through memory and came back, with {} sockets", answer.len(), bob.local_addrs().len());
    Ok(())
}
