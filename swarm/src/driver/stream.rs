//! Streams of bytes between two peers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use framing::{StreamCode, StreamId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::conn::{Conn, Task};
use super::pipe::Pipe;
use crate::PeerId;

/// A stream of bytes to a peer and back, in order and reliable.
///
/// It reads and writes by [`AsyncRead`] and [`AsyncWrite`]; [`tokio::io::split`] gives two halves. Writing waits while
/// 256 KiB have not left; reading gives the other side room to send. `shutdown` says that nothing more will be written,
/// and resolves when the peer has all of it. The end of reading is the other side's `shutdown`.
///
/// Dropping a stream sends what was written, finishes, and tells the other side that nothing is read any more;
/// [`reset`](Self::reset) gives up what was not delivered.
///
/// # Cancel safety
///
/// As those of [`AsyncRead`] and [`AsyncWrite`]: a call that is dropped before it is ready has moved nothing.
/// `read_exact` and `write_all` of tokio are not: what they moved so far is moved.
pub struct Stream {
    conn: Arc<Conn>,
    id: StreamId,
    pipe: Arc<Pipe>,
}

impl Stream {
    pub(crate) const fn new(conn: Arc<Conn>, id: StreamId, pipe: Arc<Pipe>) -> Self {
        Self { conn, id, pipe }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.conn.peer
    }

    /// Gives up what was written and not delivered. The other side's reading fails with `code`, an application's number.
    pub fn reset(self, code: u64) {
        let code = StreamCode::application(code);
        let tell = self.pipe.reset(code) | self.pipe.stop(code);
        self.tell(tell);
    }

    /// Reads no further. The other side's writing fails with `code`, an application's number.
    pub fn stop(&mut self, code: u64) {
        let tell = self.pipe.stop(StreamCode::application(code));
        self.tell(tell);
    }

    fn tell(&self, tell: bool) {
        if tell {
            // If the session is over, so is the stream.
            let _ = self.conn.push(Task::Pump(self.id));
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.conn.peer).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let tell = self.pipe.abandon();
        self.tell(tell);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let take = |waiting: &[u8]| {
            let len = waiting.len().min(buf.remaining());
            buf.put_slice(waiting.get(..len).unwrap_or(waiting));
            len
        };
        let tell = ready!(self.pipe.poll_read(cx, take)).map_err(io::Error::from)?;
        self.tell(tell);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let (taken, tell) = ready!(self.pipe.poll_write(data, cx))?;
        self.tell(tell);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (polled, tell) = self.pipe.poll_finish(cx);
        self.tell(tell);
        polled
    }
}

/// Streams that others open for one protocol, from [`Swarm::accept`](crate::Swarm::accept).
///
/// 1024 wait to be taken; beyond it they are refused. When this is dropped the protocol is not supported any more.
#[derive(Debug)]
#[must_use = "dropping it gives the protocol up"]
pub struct Incoming {
    pub(crate) queue: mpsc::Receiver<Stream>,
}

impl Incoming {
    /// The next stream, or `None` once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: a stream is taken only when it is returned.
    pub async fn next(&mut self) -> Option<Stream> {
        self.queue.recv().await
    }
}
