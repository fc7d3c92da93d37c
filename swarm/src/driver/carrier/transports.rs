//! Carriers that the application brought, each with a task of its own: what it does there holds up nobody else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use structs::{Datagram, Machine, Path, Transmit, TransmitBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::driver::limits::{
    ARRIVALS_PER_TURN, FAREWELL, TRANSPORT_ARRIVALS, TRANSPORT_BATCH, TRANSPORT_BATCHES, TRANSPORT_QUEUE,
};
use crate::node::{Node, transport_link};
use crate::transport::{Arrived, Transport, TransportAddr};

/// What the application brought, by the numbers that it gave.
pub(in crate::driver) type Brought = BTreeMap<u16, Box<dyn Transport>>;

/// All transports of a node, by their numbers.
#[derive(Debug)]
pub(in crate::driver) struct Transports {
    running: BTreeMap<u16, Running>,
    arrivals: mpsc::Receiver<Batch>,
    /// One that was received by waiting for it.
    arrival: Option<Batch>,
    /// Without transports nobody else has one, and the queue ends.
    _to_us: mpsc::Sender<Batch>,
    /// Datagrams that were too long, or for which there was no room.
    pub(in crate::driver) dropped: u64,
}

#[derive(Debug)]
struct Running {
    batches: mpsc::Sender<Outgoing>,
    /// Bytes of datagrams that wait.
    queued: Arc<AtomicUsize>,
    max_datagram: usize,
    task: JoinHandle<()>,
}

/// Datagrams to one place, all but the last of the same size.
#[derive(Debug)]
struct Outgoing {
    to: u64,
    size: usize,
    bytes: Bytes,
}

/// Datagrams that came over one transport.
#[derive(Debug)]
struct Batch {
    transport: u16,
    bytes: Vec<u8>,
    each: Vec<Arrived>,
}

impl Transports {
    /// Starts their tasks: inside of a tokio runtime only.
    pub(in crate::driver) fn new(transports: Brought) -> Self {
        let (to_us, arrivals) = mpsc::channel(TRANSPORT_ARRIVALS);
        let running = transports.into_iter().map(|(id, carrier)| (id, start(id, carrier, to_us.clone()))).collect();
        Self { running, arrivals, arrival: None, _to_us: to_us, dropped: 0 }
    }

    /// Ready when something came. For one task: the last to ask is woken.
    pub(in crate::driver) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrival.is_none() {
            let Poll::Ready(arrival) = self.arrivals.poll_recv(cx) else { return Poll::Pending };
            self.arrival = arrival;
        }
        Poll::Ready(())
    }

    /// Takes in what came. Returns whether there is more, and whether there was any.
    pub(in crate::driver) fn receive(&mut self, node: &mut Node, now: Instant) -> (bool, bool) {
        for taken in 0..ARRIVALS_PER_TURN {
            let Some(mut batch) = self.arrival.take().or_else(|| self.arrivals.try_recv().ok()) else {
                return (false, taken > 0);
            };
            let mut rest = &mut *batch.bytes;
            for Arrived { len, from } in batch.each {
                let Some((payload, behind)) = rest.split_at_mut_checked(len) else { break };
                rest = behind;
                let remote = TransportAddr::new(batch.transport, from);
                let local: SocketAddr = remote.anywhere().into();
                let path = Path { link: transport_link(batch.transport), local, remote: remote.into() };
                // What is refused is counted in the node.
                let _ = node.handle_datagram(Datagram::new(path, payload), now);
            }
        }
        (true, true)
    }

    /// Hands a batch over. What there is no room for is lost, as at a full socket of a network that is too slow: were it
    /// held, one transport would hold up every session of the node.
    pub(in crate::driver) fn send(&mut self, out: &TransmitBuf, transmit: &Transmit) {
        let to = TransportAddr::of(transmit.path.remote);
        let Some((to, running)) = to.and_then(|to| Some((to, self.running.get(&to.transport())?))) else {
            self.dropped += out.segments(transmit).count() as u64;
            return;
        };
        self.dropped += running.push(to.place(), out, transmit);
    }

    /// Those that have ended, newly: to be called now and again.
    pub(in crate::driver) fn sweep(&mut self) -> Vec<u16> {
        let ended = self.running.iter().filter(|(_, running)| running.task.is_finished()).map(|(id, _)| *id);
        let ended: Vec<u16> = ended.collect();
        self.running.retain(|id, _| !ended.contains(id));
        ended
    }
}

impl Running {
    /// Returns how many datagrams it did not take.
    fn push(&self, to: u64, out: &TransmitBuf, transmit: &Transmit) -> u64 {
        let (count, size) = (out.segments(transmit).count() as u64, transmit.segment_size);
        let bytes = out.bytes().get(..transmit.len).unwrap_or_default();
        // Only the net task adds. A probe of the MTU leaves alone.
        let room = TRANSPORT_QUEUE.saturating_sub(self.queued.load(Ordering::Acquire));
        if size > self.max_datagram || bytes.len() > room {
            return count;
        }
        self.queued.fetch_add(bytes.len(), Ordering::AcqRel);
        let outgoing = Outgoing { to, size, bytes: Bytes::copy_from_slice(bytes) };
        if self.batches.try_send(outgoing).is_err() {
            self.queued.fetch_sub(bytes.len(), Ordering::AcqRel);
            return count;
        }
        0
    }
}

fn start(id: u16, carrier: Box<dyn Transport>, arrivals: mpsc::Sender<Batch>) -> Running {
    let (batches, outgoing) = mpsc::channel(TRANSPORT_BATCHES);
    let queued = Arc::new(AtomicUsize::new(0));
    let max_datagram = carrier.max_datagram();
    let buffer = vec![0; BUFFER].into();
    let task = Task { carrier, outgoing, queued: Arc::clone(&queued), sending: None, buffer };
    Running { batches, queued, max_datagram, task: tokio::spawn(task.run(id, arrivals)) }
}

/// The task of one transport.
struct Task {
    carrier: Box<dyn Transport>,
    outgoing: mpsc::Receiver<Outgoing>,
    queued: Arc<AtomicUsize>,
    /// What the transport had no room for.
    sending: Option<Outgoing>,
    buffer: Box<[u8]>,
}

/// Why the task of a transport stops moving datagrams for now.
#[derive(Debug, PartialEq, Eq)]
enum Pause {
    /// Some came.
    Arrived,
    /// The transport says that it has ended.
    Over,
    /// The node has ended.
    Deserted,
}

impl Task {
    async fn run(mut self, transport: u16, arrivals: mpsc::Sender<Batch>) {
        loop {
            let mut batch = Batch { transport, bytes: Vec::new(), each: Vec::new() };
            let pause = tokio::select! {
                pause = std::future::poll_fn(|cx| self.poll(cx, &mut batch)) => pause,
                () = arrivals.closed() => Pause::Deserted,
            };
            // Until the node has taken this nothing is received; nor sent, which is for the node to cause anyway.
            if !batch.each.is_empty() && arrivals.send(batch).await.is_err() {
                break;
            }
            match pause {
                Pause::Arrived => {}
                Pause::Over => return,
                Pause::Deserted => break,
            }
        }
        // Goodbyes, if the transport takes them within a moment.
        let _ = timeout(FAREWELL, std::future::poll_fn(|cx| self.poll_send(cx))).await;
    }

    /// Moves what can be moved, and fills the batch with what came.
    fn poll(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Pause> {
        if self.poll_send(cx).is_ready() {
            return Poll::Ready(Pause::Deserted);
        }
        while batch.bytes.len() < TRANSPORT_BATCH {
            match self.carrier.poll_receive(cx, &mut self.buffer) {
                Poll::Ready(Ok(arrived)) => {
                    // One that is longer than the buffer was cut.
                    if let Some(datagram) = self.buffer.get(..arrived.len).filter(|datagram| !datagram.is_empty()) {
                        batch.bytes.extend_from_slice(datagram);
                        batch.each.push(arrived);
                    }
                }
                Poll::Ready(Err(_ended)) => return Poll::Ready(Pause::Over),
                Poll::Pending if batch.each.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Pause::Arrived)
    }

    /// Sends what waits. Ready when the node has ended and everything has left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(Outgoing { to, size, bytes }) = &mut self.sending else {
                match self.outgoing.poll_recv(cx) {
                    Poll::Ready(Some(next)) => self.sending = Some(next),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            };
            while !bytes.is_empty() {
                let datagram = bytes.get(..(*size).clamp(1, bytes.len())).unwrap_or_default();
                let len = datagram.len();
                match self.carrier.poll_send(cx, *to, datagram) {
                    // An error is a loss.
                    Poll::Ready(_) => drop(bytes.split_to(len)),
                    Poll::Pending => return Poll::Pending,
                }
                self.queued.fetch_sub(len, Ordering::AcqRel);
            }
            self.sending = None;
        }
    }
}

/// What one datagram is received into: as much as any network has.
const BUFFER: usize = 65_536;
