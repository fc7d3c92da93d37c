//! Carriers that the application brings: whatever moves datagrams between two programs.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

/// What carries the datagrams of sessions where UDP, TCP and WebSockets do not: a serial line, a radio, a queue in memory.
///
/// [`Builder::transport`](crate::Builder::transport) gives it to a node, which runs it on a task of its own. It owes the
/// sessions no more than UDP does: datagrams may be lost, repeated, overtaken and forged, but not cut or joined. Whatever
/// comes is checked, and what is missing is sent again.
///
/// Both methods behave as those of [`Future`] do: who returns [`Poll::Pending`] wakes the task of `cx` when it is worth
/// asking again. They must not block, for as long as they take nothing moves over this transport; a panic ends it. Datagrams
/// that are empty, or longer than where they were to be written, are skipped. What a node bounds per address or network of
/// its peers it does not bound per place, since anybody may name any there; what it bounds for all peers it does.
/// `swarm/examples/memory_transport.rs` is a whole one.
pub trait Transport: fmt::Debug + Send + 'static {
    /// Sends one datagram of at most [`max_datagram`](Self::max_datagram) bytes to the place `to`, or drops it.
    ///
    /// [`Poll::Pending`] is back pressure: it is offered again. Meanwhile up to 256 KiB wait, beyond which what is newest is
    /// dropped and counted in [`Stats::transport_drops`](crate::Stats::transport_drops); the sessions take that for a full
    /// network, and slow down.
    ///
    /// # Errors
    ///
    /// This datagram is lost, as one would be on the way.
    fn poll_send(&mut self, cx: &mut Context<'_>, to: u64, datagram: &[u8]) -> Poll<io::Result<()>>;

    /// Writes the next datagram to the beginning of `into`, which has 65,536 bytes.
    ///
    /// Nothing is received while the node is busy: what a transport cannot keep then it drops, or makes its sender wait.
    ///
    /// # Errors
    ///
    /// The transport has ended, and neither method is called again: [`SwarmEvent::TransportLost`](crate::SwarmEvent::TransportLost).
    /// What passes by itself is no error.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<Arrived>>;

    /// The longest datagram that passes, in bytes, 1,200 at least: every session needs that (SPEC 9.5). Longer ones are
    /// not handed over; sessions find out by trying what is the longest that arrives. Asked once, before the node starts, which
    /// fails if it is less. Default: 1,200.
    fn max_datagram(&self) -> usize {
        MIN_DATAGRAM
    }
}

/// A datagram that came over a [`Transport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Its length, in bytes.
    pub len: usize,
    /// The place that it came from, to which answers are sent.
    pub from: u64,
}

/// A place that a transport of the application leads to: the number by which the nodes know the transport, and one of 64 bits
/// that only the transport understands.
///
/// Everything that takes addresses of peers takes these, as IPv6 addresses: the place is the second half of one in
/// `100::/64`, a prefix that no network delivers to (RFC 6666), and the transport is its port. As text they are such addresses
/// too. They mean something to nodes that have the same transport only, and are told to no other.
///
/// ```
/// use std::net::SocketAddr;
/// use swarm::TransportAddr;
///
/// let place = TransportAddr::new(7, 0xbee);
/// assert_eq!(place.to_string(), "[100::bee]:7");
/// assert_eq!("[100::bee]:7".parse::<SocketAddr>().ok().and_then(TransportAddr::of), Some(place));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportAddr {
    transport: u16,
    place: u64,
}

impl TransportAddr {
    /// A place that the transport with this number leads to. There is no transport 0.
    #[must_use]
    pub const fn new(transport: u16, place: u64) -> Self {
        Self { transport, place }
    }

    /// The number of the transport.
    #[must_use]
    pub const fn transport(self) -> u16 {
        self.transport
    }

    /// The place.
    #[must_use]
    pub const fn place(self) -> u64 {
        self.place
    }

    /// What an address stands for, if it is one of `100::/64`.
    #[must_use]
    pub const fn of(addr: SocketAddr) -> Option<Self> {
        let SocketAddr::V6(addr) = addr else { return None };
        let bits = addr.ip().to_bits();
        if bits >> 64 != DISCARD >> 64 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the second half")]
        let place = bits as u64;
        Some(Self { transport: addr.port(), place })
    }

    /// Anywhere on the same transport: the end that is ours.
    pub(crate) const fn anywhere(self) -> Self {
        Self { place: 0, ..self }
    }
}

impl From<TransportAddr> for SocketAddr {
    fn from(addr: TransportAddr) -> Self {
        Self::new(Ipv6Addr::from_bits(DISCARD | u128::from(addr.place)).into(), addr.transport)
    }
}

impl fmt::Display for TransportAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

/// Of `100::/64`, the discard-only prefix (RFC 6666).
const DISCARD: u128 = 0x0100 << 112;
/// The datagrams that every path takes (SPEC 9.5).
pub(crate) const MIN_DATAGRAM: usize = 1200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Reach;

    #[test]
    fn places_are_addresses_that_nobody_else_has() {
        for (transport, place) in [(1, 0), (7, 0xbee), (u16::MAX, u64::MAX)] {
            let addr = TransportAddr::new(transport, place);
            assert_eq!(TransportAddr::of(addr.into()), Some(addr));
            assert_eq!(Reach::of(SocketAddr::from(addr).ip()), None, "no peer is believed to be there");
        }
        for other in ["[100:0:0:1::1]:7", "[::1]:7", "1.0.0.0:7", "[::ffff:1.0.0.0]:7", "[2001:db8::1]:7"] {
            assert_eq!(TransportAddr::of(other.parse().unwrap()), None, "{other}");
        }
    }
}
