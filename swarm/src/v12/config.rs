//! What a node may do and how much of it.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Settings of a [`Node`](crate::v12::Node).
///
/// Consuming setters, named as the field they set; every value is valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(crate) max_peers: usize,
    pub(crate) lan: bool,
    pub(crate) flood: bool,
    pub(crate) relay: bool,
    pub(crate) persistent_identity: bool,
    pub(crate) accept_plaintext_fragments: bool,
    pub(crate) send_plaintext_fragments: bool,
    pub(crate) store_entries: NonZeroUsize,
    pub(crate) store_bytes: u64,
    pub(crate) value_limit: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) receive_buffer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_peers: 100,
            lan: true,
            flood: true,
            relay: false,
            persistent_identity: false,
            accept_plaintext_fragments: false,
            send_plaintext_fragments: false,
            store_entries: NonZeroUsize::new(10_000).unwrap_or(NonZeroUsize::MIN),
            store_bytes: 256 * 1024 * 1024,
            value_limit: 10 * 1024 * 1024,
            drain_timeout: Duration::from_secs(2),
            receive_buffer: 212_992,
        }
    }
}

impl Config {
    /// Peers connected at once, 1 to 1,024. Default 100, as the existing nodes. Each idle one costs a few KiB.
    #[must_use]
    pub fn max_peers(mut self, peers: NonZeroUsize) -> Self {
        self.max_peers = peers.get().min(1024);
        self
    }

    /// Whether topics are announced and looked up by multicast on the local network. Default yes.
    #[must_use]
    pub fn lan(mut self, on: bool) -> Self {
        self.lan = on;
        self
    }

    /// Whether messages that arrive for the first time are passed on to the mesh. Default yes. Off, a node hears
    /// its direct neighbours only, and so do they through it.
    #[must_use]
    pub fn flood(mut self, on: bool) -> Self {
        self.flood = on;
        self
    }

    /// Whether this node introduces peers to each other and says so every 30 s. Default no.
    #[must_use]
    pub fn relay(mut self, on: bool) -> Self {
        self.relay = on;
        self
    }

    /// Whether the identity outlives the process. Default no. Peers may then still hold the state of an earlier
    /// run, and the node makes those that show no sign of a fresh session forget it.
    #[must_use]
    pub fn persistent_identity(mut self, on: bool) -> Self {
        self.persistent_identity = on;
        self
    }

    /// Whether messages that arrive as plaintext fragments are delivered, marked `authenticated: false`. Default
    /// no. The existing nodes send every message over 1,200 bytes like that, and anybody on the way can read,
    /// change or forge them.
    #[must_use]
    pub fn accept_plaintext_fragments(mut self, on: bool) -> Self {
        self.accept_plaintext_fragments = on;
        self
    }

    /// Whether messages over 65,474 bytes, which no sealed datagram holds, may leave as plaintext fragments.
    /// Default no: they are refused as too large.
    #[must_use]
    pub fn danger_send_plaintext_fragments(mut self, on: bool) -> Self {
        self.send_plaintext_fragments = on;
        self
    }

    /// Values kept, own and fetched. Default 10,000; the least recently used goes first.
    #[must_use]
    pub fn store_entries(mut self, entries: NonZeroUsize) -> Self {
        self.store_entries = entries;
        self
    }

    /// Bytes of values kept. Default 256 MiB; the least recently used goes first.
    #[must_use]
    pub fn store_bytes(mut self, bytes: u64) -> Self {
        self.store_bytes = bytes;
        self
    }

    /// The largest value stored or fetched, at most 58,981,500 bytes (65,535 chunks of 900). Default 10 MiB.
    #[must_use]
    pub fn value_limit(mut self, bytes: usize) -> Self {
        self.value_limit = bytes.clamp(1, 58_981_500);
        self
    }

    /// How long a shutdown waits for queues to empty. Default 2 s.
    #[must_use]
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// Bytes that the kernel buffers for our socket, as the driver found it: peers of this implementation are
    /// told to keep less than that under way. Default 212,992, Linux's.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = bytes;
        self
    }
}
