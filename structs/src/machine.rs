//! The one interface of every protocol state machine.
//!
//! A protocol layer is a plain struct that is driven by five methods and a few verbs of its own. It opens no
//! socket, reads no clock and draws no entropy: datagrams, the time and a seed come in as arguments, datagrams,
//! events and a deadline come out. The tokio driver and the simulator run the same code.
//!
//! # The run loop
//!
//! ```
//! use std::time::Instant;
//! use structs::{Machine, TransmitBuf};
//!
//! fn turn<M: Machine>(machine: &mut M, out: &mut TransmitBuf, now: Instant) -> Option<Instant> {
//!     while let Some(transmit) = machine.poll_transmit(out, now) {
//!         for _datagram in out.segments(&transmit) { /* send it to transmit.path.remote */ }
//!         out.clear();
//!     }
//!     while let Some(_event) = machine.poll_event() { /* hand it to the application */ }
//!     machine.poll_timeout().map(|deadline| deadline.at) // sleep until then, or until a datagram arrives
//! }
//! ```
//!
//! # The laws
//!
//! The conformance suite of the `sim` crate asserts them for every machine.
//!
//! - **Pure.** The output depends on the constructor's arguments and on the sequence of calls alone: the same
//!   calls give the same bytes.
//! - **Monotonic.** Drivers never pass an older `now`. A machine that sees one takes the newest it has seen.
//! - **Lenient.** Any number of inputs and commands may come before a drain. An early or repeated
//!   `handle_timeout` does nothing.
//! - **Drain order.** `poll_transmit` until `None`, then `poll_event` until `None`, then `poll_timeout`: the
//!   deadline is final only after that.
//! - **Progress.** After `handle_timeout(now)` and a drain the deadline is `None` or later than `now`: a timer is
//!   disarmed before its action runs.
//! - **Bounded.** What a machine buffers never exceeds its configured limit.
//! - **Quiet.** Arbitrary input never panics, and allocates no more than the order of its own length.
//! - **Anti-amplifying.** What is sent in answer to an address that has not proved itself is at most what it
//!   sent. What a machine sends on its own account (dials, probes) has a budget of its own.
//! - **Terminal.** A machine that has ended sends nothing and wants no timeout, and its commands say that it is
//!   closed.

use std::net::SocketAddr;
use std::time::Instant;

use crate::{Rejected, Transmit, TransmitBuf};

/// A protocol state machine: see the [module documentation](self) for the run loop and the laws.
///
/// The trait exists for the simulator, the conformance suite and uniform documentation. Production code holds
/// concrete types and never writes `M: Machine`.
pub trait Machine {
    /// What the machine reports to its owner.
    type Event;

    /// Takes in one datagram.
    ///
    /// # Errors
    ///
    /// [`Rejected`] says why the datagram, or a frame in it, was not accepted. The machine has counted it and stays
    /// usable; a caller may drop the value.
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected>;

    /// Tells the machine that its deadline may have passed. Early and repeated calls do nothing.
    fn handle_timeout(&mut self, now: Instant);

    /// Writes the next datagrams to send into `out`, or returns `None` when there is nothing to send now.
    ///
    /// `out` must be empty; the caller clears it between calls.
    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit>;

    /// Returns the next event, oldest first.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// Returns when [`handle_timeout`](Self::handle_timeout) wants to be called next, or `None` for never.
    fn poll_timeout(&self) -> Option<Deadline>;
}

/// What carries the datagrams of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// The UDP socket of the address family in question.
    Udp,
    /// A UDP socket of its own beside that one, numbered by the node.
    Socket(u32),
    /// A byte stream (TCP, WebSocket), numbered by the node.
    Stream(u32),
    /// A circuit through a relay, numbered by the node.
    Circuit(u32),
    /// A carrier that the application brought, numbered by the node.
    Custom(u32),
}

/// Where a datagram travels: over which link, from which local address, to or from which remote address.
///
/// `local` may be unspecified (`0.0.0.0:0`) where the driver does not know the address a datagram arrived at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// What carries it.
    pub link: Link,
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

impl Path {
    /// A UDP path whose local address is left to the operating system.
    #[must_use]
    pub const fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { link: Link::Udp, local, remote }
    }
}

/// The two bits of explicit congestion notification (RFC 3168 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ecn {
    /// The transport does not use ECN.
    #[default]
    NotEct,
    /// ECN-capable, codepoint 0.
    Ect0,
    /// ECN-capable, codepoint 1.
    Ect1,
    /// A router saw congestion.
    Ce,
}

/// One received UDP payload. Machines open it in place, so it is mutable.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Where it came from.
    pub path: Path,
    /// What the network said of congestion.
    pub ecn: Ecn,
    /// The bytes.
    pub payload: &'a mut [u8],
}

impl<'a> Datagram<'a> {
    /// A datagram without an ECN mark.
    #[must_use]
    pub const fn new(path: Path, payload: &'a mut [u8]) -> Self {
        Self { path, ecn: Ecn::NotEct, payload }
    }
}

/// When a machine wants its next [`handle_timeout`](Machine::handle_timeout).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// What for: logs and tests read it, code must not.
    pub reason: &'static str,
}

impl Deadline {
    /// The earlier of two optional deadlines; the first wins a tie.
    #[must_use]
    pub fn earliest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}
