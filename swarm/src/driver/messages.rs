//! The messages and datagrams of one peer, for one reader.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use peer::mux;

use super::conn::Conn;
use crate::PeerId;

/// A batch that was taken out of an inbox, and how far it was read.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    at: usize,
}

impl Batch {
    /// The next message of it.
    fn next(&mut self) -> Option<&[u8]> {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        let message = mux::Messages::new(left).next()?;
        self.at += framing::varint::len(message.len() as u64) + message.len();
        Some(message)
    }
}

/// The messages of one peer, from [`Peer::messages`](crate::Peer::messages), for programs that want them fast or in
/// their own time.
///
/// While this exists they are not among the events. At most 256 KiB wait here and twice the receive window in the
/// session; then the sender waits, and nobody else.
#[derive(Debug)]
pub struct Messages {
    conn: Arc<Conn>,
    batch: Batch,
}

impl Messages {
    pub(crate) fn claim(conn: Arc<Conn>) -> Option<Self> {
        conn.claim_inbox().then(|| Self { conn, batch: Batch::default() })
    }

    /// Whose they are.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.conn.peer
    }

    /// The next message, or `None` once the session is over and all were read.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message is taken only when it is returned.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.fill().await?;
        self.batch.next().map(Bytes::copy_from_slice)
    }

    /// As [`next`](Self::next), but lends the message: no memory is allocated for it.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message is taken only when it is returned.
    pub async fn next_ref(&mut self) -> Option<&[u8]> {
        self.fill().await?;
        self.batch.next()
    }

    /// As [`next_ref`](Self::next_ref), without waiting: `None` if no message waits.
    pub fn try_next_ref(&mut self) -> Option<&[u8]> {
        if self.batch.at >= self.batch.bytes.len() {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            match self.poll_fill(&mut cx) {
                Poll::Ready(Some(())) => {}
                _ => return None,
            }
        }
        self.batch.next()
    }

    async fn fill(&mut self) -> Option<()> {
        if self.batch.at < self.batch.bytes.len() {
            return Some(());
        }
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        let filled = ready!(self.conn.poll_inbox(&mut self.batch.bytes, cx));
        self.batch.at = 0;
        Poll::Ready(filled)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.conn.release_inbox();
    }
}

/// The datagrams of one peer, from [`Peer::datagrams`](crate::Peer::datagrams).
///
/// What nobody reads waits in the session, where the oldest give way, and here up to 1 MiB, beyond which the newest are
/// dropped.
#[derive(Debug)]
pub struct Datagrams {
    conn: Arc<Conn>,
    batch: Batch,
}

impl Datagrams {
    pub(crate) fn claim(conn: Arc<Conn>) -> Option<Self> {
        conn.claim_datagrams().then(|| Self { conn, batch: Batch::default() })
    }

    /// Whose they are.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.conn.peer
    }

    /// The next datagram, or `None` once the session is over and all were read.
    ///
    /// # Cancel safety
    ///
    /// Safe: a datagram is taken only when it is returned.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.fill().await?;
        self.batch.next().map(Bytes::copy_from_slice)
    }

    /// As [`next`](Self::next), but lends the datagram: no memory is allocated for it.
    ///
    /// # Cancel safety
    ///
    /// Safe: a datagram is taken only when it is returned.
    pub async fn next_ref(&mut self) -> Option<&[u8]> {
        self.fill().await?;
        self.batch.next()
    }

    /// Datagrams that came while too many waited here, and were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.conn.datagrams_dropped()
    }

    async fn fill(&mut self) -> Option<()> {
        if self.batch.at < self.batch.bytes.len() {
            return Some(());
        }
        let filled = std::future::poll_fn(|cx| self.conn.poll_datagrams(&mut self.batch.bytes, cx)).await;
        self.batch.at = 0;
        filled
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.conn.release_datagrams();
    }
}
