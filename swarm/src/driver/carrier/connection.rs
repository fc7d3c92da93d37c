//! One connection, and the task that serves it.
//!
//! A task, and not a place in the wait of the net task: that asks everything it waits for on each of its turns, of which a busy
//! node has a hundred thousand a second, and a node may have hundreds of connections. WebSockets moreover have a state of their own
//! between the socket and the datagrams. The task knows of no session: it takes frames off the one queue and puts frames on
//! the other, both bounded, so that a connection that floods waits for its turn in its own socket, and one that does not read
//! loses datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use structs::{Transmit, TransmitBuf};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::frame;
use crate::carrier::StreamAddr;
use crate::driver::limits::{CONNECT, FAREWELL, STREAM_READ, STREAM_WRITE};

/// What the task of a connection tells the net task.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) link: u32,
    /// Which connection of that link.
    pub(super) serial: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// It can be used, from this address of ours.
    Opened(SocketAddr),
    /// Whole frames.
    Frames(Vec<u8>),
    Closed,
}

/// The way from the task of a connection to the net task.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    pub(super) link: u32,
    pub(super) serial: u64,
    pub(super) arrivals: mpsc::Sender<Arrival>,
}

impl Inbox {
    /// An error means that the node has ended.
    pub(super) async fn tell(&self, what: What) -> io::Result<()> {
        let arrival = Arrival { link: self.link, serial: self.serial, what };
        self.arrivals.send(arrival).await.or(Err(io::ErrorKind::NotConnected.into()))
    }
}

/// The way back. When it is dropped, what is queued is written, for a moment.
#[derive(Debug)]
pub(super) struct Outbox {
    chunks: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Outbox {
    /// Takes the datagrams of a batch as long as no more than `most` bytes wait; returns how many it did not take.
    pub(super) fn push(&self, out: &TransmitBuf, transmit: &Transmit, most: usize) -> u64 {
        // Only the net task adds.
        let room = most.saturating_sub(self.queued.load(Ordering::Acquire));
        let (mut chunk, mut dropped) = (Vec::with_capacity(transmit.len.min(room) + 64), 0);
        for datagram in out.segments(transmit) {
            match chunk.len() + datagram.len() < room {
                true => frame::push(&mut chunk, datagram),
                false => dropped += 1,
            }
        }
        let len = chunk.len();
        if len > 0 {
            self.queued.fetch_add(len, Ordering::AcqRel);
            if self.chunks.try_send(chunk.into()).is_err() {
                self.queued.fetch_sub(len, Ordering::AcqRel);
                return out.segments(transmit).count() as u64;
            }
        }
        dropped
    }

    /// Ends the connection at once.
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

/// What there is of a connection when its task begins.
#[derive(Debug)]
pub(super) enum Start {
    Connect(StreamAddr),
    Accepted(TcpStream),
    #[cfg(feature = "ws")]
    Upgrade(TcpStream),
}

/// Starts the task of a connection.
pub(super) fn spawn(start: Start, inbox: Inbox) -> Outbox {
    let (chunks, queue) = mpsc::channel(CHUNKS);
    let queued = Arc::new(AtomicUsize::new(0));
    let chunks_out = Chunks { queue, queued: Arc::clone(&queued) };
    let task = tokio::spawn(async move {
        // Whatever the reason, the sessions see a path that ends.
        let _ = serve(start, &inbox, chunks_out).await;
        let _ = inbox.tell(What::Closed).await;
    });
    Outbox { chunks, queued, task: task.abort_handle() }
}

async fn serve(start: Start, inbox: &Inbox, chunks: Chunks) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    match start {
        Start::Connect(to) => {
            let stream = timeout(CONNECT, TcpStream::connect(to.addr)).await.map_err(late)??;
            if stream.local_addr()? == stream.peer_addr()? {
                // Nobody listens there, and the system chose the very port that it was to connect to (RFC 9293 section 3.5).
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            prepare(&stream);
            #[cfg(feature = "ws")]
            if let Some(upgrade) = &to.upgrade {
                let socket = timeout(CONNECT, super::ws::ask(stream, upgrade)).await.map_err(late)??;
                return super::ws::serve(socket, inbox, chunks).await;
            }
            serve_tcp(stream, inbox, chunks).await
        }
        Start::Accepted(stream) => serve_tcp(stream, inbox, chunks).await,
        #[cfg(feature = "ws")]
        Start::Upgrade(stream) => {
            let socket = timeout(CONNECT, super::ws::answer(stream)).await.map_err(late)??;
            super::ws::serve(socket, inbox, chunks).await
        }
    }
}

/// Small datagrams leave at once, and the system's queue is no longer than the network needs: what waits is to wait where it
/// can be dropped.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT);
}

async fn serve_tcp(stream: TcpStream, inbox: &Inbox, chunks: Chunks) -> io::Result<()> {
    inbox.tell(What::Opened(stream.local_addr()?)).await?;
    let (reader, writer) = stream.into_split();
    // What ends first ends the other.
    tokio::select! {
        read = read(reader, inbox) => read,
        written = write(writer, chunks) => written,
    }
}

async fn read(reader: OwnedReadHalf, inbox: &Inbox) -> io::Result<()> {
    let mut partial = Vec::new();
    loop {
        reader.readable().await?;
        partial.reserve(STREAM_READ);
        match reader.try_read_buf(&mut partial) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let whole = frame::complete(&partial).or(Err(io::ErrorKind::InvalidData))?;
        if whole == 0 {
            // A frame may come byte by byte.
            continue;
        }
        // What waits for its end keeps no more memory than it takes.
        let rest = partial.split_off(whole);
        let frames = std::mem::replace(&mut partial, rest);
        inbox.tell(What::Frames(frames)).await?;
    }
}

async fn write(mut writer: OwnedWriteHalf, mut chunks: Chunks) -> io::Result<()> {
    while let Some(bytes) = chunks.next().await {
        let mut rest = &*bytes;
        while !rest.is_empty() {
            // Somebody who reads nothing for so long is not there, or is to be rid of.
            let written = timeout(chunks.patience(), writer.write(rest)).await;
            let written = written.map_err(|_late| io::Error::from(io::ErrorKind::TimedOut))??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        chunks.done(bytes.len());
    }
    writer.shutdown().await
}

/// Frames on their way out.
pub(super) struct Chunks {
    queue: mpsc::Receiver<Bytes>,
    queued: Arc<AtomicUsize>,
}

impl Chunks {
    /// All that waits, up to a bound; nothing once the net task wants the connection to end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let first = self.queue.recv().await?;
        let Ok(second) = self.queue.try_recv() else { return Some(first) };
        let mut joined = [first, second].concat();
        while joined.len() < STREAM_READ
            && let Ok(more) = self.queue.try_recv()
        {
            joined.extend_from_slice(&more);
        }
        Some(joined.into())
    }

    /// So many bytes have left.
    pub(super) fn done(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// How long the other side may take no byte.
    pub(super) fn patience(&self) -> Duration {
        if self.queue.is_closed() { FAREWELL } else { STREAM_WRITE }
    }
}

/// Batches that wait for one connection, beside the bound on their bytes.
const CHUNKS: usize = 256;
/// What the system holds of a stream that it has not sent yet, in bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT: u32 = 128 << 10;
