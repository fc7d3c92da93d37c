//! What can be asked of a conversation: who the peer is, what it proved, what waits and what is held.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::v12::{PublicKey, Session};
use framing::v12::limits;
use structs::{Path, RejectedCounts};

use super::config::MAX_FRAGMENTED;
use super::{Peer, Proof, State};

/// Which implementation the peer runs, as far as its frames have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Implementation {
    /// Nothing has shown it yet.
    Unknown,
    /// This one, or another that speaks its sealed notes.
    Ours,
    /// The Python or the JavaScript node.
    Reference,
    /// The C++ node: it echoes the body of a PING.
    Cpp,
    /// The other Rust node: it reads neither BATCH nor large datagrams.
    Rust,
}

/// Figures of a [`Peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Messages sealed and handed to the socket.
    pub messages_sent: u64,
    /// Messages received, delivered or not.
    pub messages_received: u64,
    /// Messages of ours that the peer reported as lost.
    pub lost: u64,
    /// Messages of the peer that were lost on the way.
    pub missed: u64,
    /// Frames and datagrams that were not accepted, by reason.
    pub rejected: RejectedCounts,
}

impl Peer {
    /// The peer's key, once it has named one.
    #[must_use]
    pub fn remote(&self) -> Option<&PublicKey> {
        self.remote.as_ref()
    }

    /// What the peer has proved.
    #[must_use]
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// Whether messages can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Open && self.proof >= Proof::Address
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether nobody has answered the dial yet.
    #[must_use]
    pub fn is_dialing(&self) -> bool {
        matches!(self.state, State::Dialing { .. })
    }

    /// Which implementation it is, as far as its frames have shown.
    #[must_use]
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// The address used now.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        self.routes.best_path(self.now)
    }

    /// How many addresses are known to lead to it, at most four.
    #[must_use]
    pub fn path_count(&self) -> usize {
        self.routes.len()
    }

    /// Every address known to lead to it.
    pub fn paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.routes.iter().map(|route| route.path)
    }

    /// Smoothed round-trip time of the best address; 100 ms before anything was measured.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.routes.best(self.now).map_or(limits::RTT_INITIAL, |route| route.rtt.smoothed())
    }

    /// When something last came from the peer.
    #[must_use]
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// The number that the existing implementations put in front of their nonces for this session; `None` before
    /// the session is derived.
    #[must_use]
    pub fn session_id(&self) -> Option<u32> {
        self.session.as_ref().map(Session::session_id)
    }

    /// Whether a sealed packet whose nonce begins like this may come from the peer, seen from an unknown address: the
    /// existing implementations begin with the session's number, ours with a random one per run.
    #[must_use]
    pub fn may_have_sealed(&self, prefix: u32) -> bool {
        self.session_id() == Some(prefix) || self.replay.prefix() == Some(prefix)
    }

    /// Messages that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.data.len()
    }

    /// Messages under way, unacknowledged.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.window.in_flight()
    }

    /// How many messages may be under way.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window.cwnd()
    }

    /// Whether everything accepted has been handed to the socket and, as far as the wire tells, was received.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.data.is_empty()
            && self.control.is_empty()
            && self.staged.is_none()
            && self.batcher.buffered_bytes() == 0
            && self.window.in_flight() == 0
    }

    /// Figures since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { lost: self.window.lost(), ..self.stats }
    }

    /// Bytes held in queues and buffers, never above [`max_buffered_bytes`](super::max_buffered_bytes).
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.data_bytes
            + self.control_bytes
            + self.urgent.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
            + self.batcher.buffered_bytes()
            + self.staged.as_ref().map_or(0, Vec::len)
            + self.event_bytes
            + self.early_wants.iter().map(Bytes::len).sum::<usize>()
            + self.reassembler.buffered_bytes()
            + self.reorder.buffered_bytes()
            + self.exchange.buffered_bytes()
    }

    /// Bytes of memory of the filter against replays, which grows with use and is freed when idle.
    #[must_use]
    pub fn replay_memory(&self) -> usize {
        self.replay.memory_bytes()
    }

    /// The largest message that [`send`](Self::send) takes for this peer.
    #[must_use]
    pub fn max_message(&self) -> usize {
        if self.implementation == Implementation::Rust {
            // It reads datagrams of 4,096 bytes at most.
            return 4096 - limits::DATA_OVERHEAD;
        }
        if self.config.send_plaintext_fragments { MAX_FRAGMENTED } else { limits::MAX_DATA_PAYLOAD }
    }
}
