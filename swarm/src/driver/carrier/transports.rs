//! Carriers that the application brought, each with a task of its own: what it does there holds up nobody else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use structs::{Datagram, Machine, Path, Transmit, TransmitBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant as Until, timeout, timeout_at};

use crate::driver::limits::{
    ARRIVALS_PER_TURN, FAREWELL, TRANSPORT_ARRIVALS, TRANSPORT_ARRIVED, TRANSPORT_BATCH, TRANSPORT_BATCHES,
    TRANSPORT_QUEUE,
};
use crate::node::{Node, transport_link};
use crate::transport::{Arrived, Transport, TransportAddr};

/// What the application brought, by the numbers that it gave.
pub(in crate::driver) type Brought = BTreeMap<u16, Given>;

/// A transport, and the longest datagram that it said it takes.
#[derive(Debug)]
pub(in crate::driver) struct Given {
    pub(in crate::driver) carrier: Box<dyn Transport>,
    pub(in crate::driver) max_datagram: usize,
}

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
    /// All that it handed over was there to be taken in.
    has_ended: bool,
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
        let running = transports.into_iter().map(|(id, given)| (id, start(id, given, to_us.clone()))).collect();
        Self { running, arrivals, arrival: None, _to_us: to_us, dropped: 0 }
    }

    /// Ready when something came, or a transport has ended. For one task: the last to ask is woken.
    pub(in crate::driver) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrival.is_none() {
            match self.arrivals.poll_recv(cx) {
                Poll::Ready(arrival) => self.arrival = arrival,
                Poll::Pending => {
                    let mut tasks = self.running.values_mut().map(|running| &mut running.task);
                    // One that has ended may not be asked again.
                    let has_ended = tasks.any(|task| task.is_finished() || Pin::new(task).poll(cx).is_ready());
                    return if has_ended { Poll::Ready(()) } else { Poll::Pending };
                }
            }
        }
        Poll::Ready(())
    }

    /// Takes out a transport that has ended, after all that it handed over was [taken in](Self::receive).
    pub(in crate::driver) fn take_ended(&mut self) -> Option<u16> {
        let ended = *self.running.iter().find(|(_, running)| running.has_ended)?.0;
        self.running.remove(&ended);
        Some(ended)
    }

    /// Takes in what came. Returns whether there is more, and whether there was any.
    pub(in crate::driver) fn receive(&mut self, node: &mut Node, now: Instant) -> (bool, bool) {
        // So that they can be taken out even if others keep sending: all that waits is taken at once then.
        self.running.values_mut().for_each(|running| running.has_ended = running.task.is_finished());
        let has_ended = self.running.values().any(|running| running.has_ended);
        let most = if has_ended { TRANSPORT_ARRIVALS + 1 } else { ARRIVALS_PER_TURN };
        for taken in 0..most {
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

    /// Waits until what was handed over has left, goodbyes among it, and the transports are dropped: for no longer than each
    /// of them has for that.
    pub(in crate::driver) async fn finish(self) {
        let Self { running, arrivals, .. } = self;
        drop(arrivals);
        // One that is still busy then holds up the thread that it is on.
        let until = Until::now() + 2 * FAREWELL;
        let tasks: Vec<JoinHandle<()>> = running.into_values().map(|running| running.task).collect();
        for task in tasks {
            let _ = timeout_at(until, task).await;
        }
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

fn start(id: u16, given: Given, arrivals: mpsc::Sender<Batch>) -> Running {
    let Given { carrier, max_datagram } = given;
    let (batches, outgoing) = mpsc::channel(TRANSPORT_BATCHES);
    let queued = Arc::new(AtomicUsize::new(0));
    let buffer = vec![0; BUFFER].into();
    let task = Task { carrier, outgoing, queued: Arc::clone(&queued), sending: None, buffer };
    Running { batches, queued, max_datagram, task: tokio::spawn(task.run(id, arrivals)), has_ended: false }
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
    /// As many came as may at once, whether they were kept or not.
    Enough,
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
                // A transport that always has something to say goes on when all others had their turn.
                Pause::Enough => tokio::task::yield_now().await,
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
        for _ in 0..TRANSPORT_ARRIVED {
            match self.carrier.poll_receive(cx, &mut self.buffer) {
                Poll::Ready(Ok(arrived)) => {
                    // One that is longer than the buffer was cut.
                    if let Some(datagram) = self.buffer.get(..arrived.len).filter(|datagram| !datagram.is_empty()) {
                        batch.bytes.extend_from_slice(datagram);
                        batch.each.push(arrived);
                    }
                    if batch.bytes.len() >= TRANSPORT_BATCH {
                        break;
                    }
                }
                Poll::Ready(Err(_ended)) => return Poll::Ready(Pause::Over),
                Poll::Pending if batch.each.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Pause::Arrived),
            }
        }
        Poll::Ready(Pause::Enough)
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
