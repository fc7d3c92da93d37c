//! Counters of a session.

use std::time::Duration;

use structs::RejectedCounts;

use crate::mux;

/// What a session has counted, and how its path looks. All sizes are bytes, all counts since the beginning.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams sent, and their UDP payload.
    pub sent: u64,
    /// See [`sent`](Self::sent).
    pub bytes_sent: u64,
    /// Authentic datagrams received, and their UDP payload.
    pub received: u64,
    /// See [`received`](Self::received).
    pub bytes_received: u64,
    /// Packets declared lost.
    pub lost: u64,
    /// Of those, how many arrived after all.
    pub spurious: u64,
    /// Smoothed round-trip time of the path in use; nothing before the handshake is over.
    pub rtt: Option<Duration>,
    /// The congestion window of the path in use.
    pub window: u64,
    /// Bytes in flight on the path in use.
    pub in_flight: u64,
    /// The largest datagram the path in use carries.
    pub mtu: usize,
    /// Paths that are proved, and those being tried.
    pub paths: usize,
    /// Record keys taken into use since the handshake: ours, theirs.
    pub generations: (u64, u64),
    /// Bytes waiting in the session's buffers, both directions.
    pub buffered_bytes: usize,
    /// What the multiplexer counted.
    pub mux: mux::Stats,
    /// Datagrams that were refused, by reason.
    pub rejected: RejectedCounts,
}

/// The running counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) received: u64,
    pub(crate) bytes_received: u64,
}
