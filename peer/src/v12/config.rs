//! Settings of a [`Peer`](super::Peer), and the bounds of everything it keeps.

use framing::v12::limits;

/// Settings of a [`Peer`](super::Peer).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(super) accept_plaintext_fragments: bool,
    pub(super) send_plaintext_fragments: bool,
    pub(super) persistent_identity: bool,
    pub(super) value_limit: usize,
    pub(super) receive_window: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accept_plaintext_fragments: false,
            send_plaintext_fragments: false,
            persistent_identity: false,
            value_limit: limits::MAX_VALUE,
            receive_window: 48 * 1024,
        }
    }
}

impl Config {
    /// Whether plaintext fragments are reassembled and delivered, marked as not authenticated. Default no.
    #[must_use]
    pub fn accept_plaintext_fragments(mut self, on: bool) -> Self {
        self.accept_plaintext_fragments = on;
        self
    }

    /// Whether messages that no sealed datagram holds leave as plaintext fragments. Default no: refused.
    #[must_use]
    pub fn danger_send_plaintext_fragments(mut self, on: bool) -> Self {
        self.send_plaintext_fragments = on;
        self
    }

    /// Whether our key outlives the process, so that peers may hold the state of an earlier run. Default no.
    #[must_use]
    pub fn persistent_identity(mut self, on: bool) -> Self {
        self.persistent_identity = on;
        self
    }

    /// The largest value accepted, in bytes, up to 58,981,500. Default 10 MiB.
    #[must_use]
    pub fn value_limit(mut self, bytes: usize) -> Self {
        self.value_limit = bytes.clamp(1, limits::MAX_CHUNKED_VALUE);
        self
    }

    /// Bytes of messages that a peer of this implementation may have under way to us: less than our socket buffers.
    /// Default 48 KiB, at least 2 KiB.
    #[must_use]
    pub fn receive_window(mut self, bytes: u32) -> Self {
        self.receive_window = bytes.max(2048);
        self
    }
}

/// Messages that wait to be sent, in bytes; beside [`limits::QUEUE_DATA`] in number. Full: the sender is told.
pub(super) const SEND_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Control frames that wait to be sent, in bytes; beside [`limits::QUEUE_CTRL`]. Full: the newest is refused.
pub(super) const CONTROL_QUEUE_BYTES: usize = 256 * 1024;
/// Datagrams made up to be sent at once (answers to HELLO and PING). Full: the newest is not made.
pub(super) const MAX_URGENT: usize = 32;
/// What is coalesced or ready to leave; beyond it nothing more is sealed.
pub(super) const STAGED_BYTES: usize = 128 * 1024;
/// Events that wait to be taken. From half of it on nothing is acknowledged, so that the peer slows down; beyond it
/// messages are refused.
pub(super) const MAX_EVENTS: usize = 2048;
/// The same in bytes of messages and values.
pub(super) const EVENT_BYTES: usize = 16 * 1024 * 1024;
/// The largest message that leaves as plaintext fragments: all of them are staged at once.
pub(super) const MAX_FRAGMENTED: usize = 512 * 1024;
/// Plaintext fragments that wait for the rest of their message.
pub(super) const FRAGMENT_BYTES: usize = 1024 * 1024;
/// Messages held behind a gap.
pub(super) const REORDER_BYTES: usize = 4 * 1024 * 1024;
/// Values that we asked this peer for, at once.
pub(super) const MAX_WANTS: usize = 16;
/// Values that this peer is sent, at once; further requests wait, up to as many again, or are refused.
pub(super) const MAX_SERVES: usize = 4;
/// Requests kept while the peer has not proved that it is there.
pub(super) const MAX_EARLY_WANTS: usize = 16;

/// The worst case of one peer, all bounds at once: what [`Peer::buffered_bytes`](super::Peer::buffered_bytes) never
/// exceeds, given a value limit.
#[must_use]
pub const fn max_buffered_bytes(value_limit: usize) -> usize {
    SEND_QUEUE_BYTES
        + limits::MAX_DATAGRAM
        + CONTROL_QUEUE_BYTES
        + 2 * STAGED_BYTES
        + 2 * MAX_FRAGMENTED
        + MAX_URGENT * 128
        + MAX_EARLY_WANTS * limits::MAX_KEY
        + EVENT_BYTES
        + limits::MAX_DATAGRAM
        + value_limit
        + FRAGMENT_BYTES
        + REORDER_BYTES
        + (MAX_WANTS + 2 * MAX_SERVES) * value_limit
}

const _: () = assert!(max_buffered_bytes(limits::MAX_VALUE) <= 300 * 1024 * 1024, "one peer's worst case");
