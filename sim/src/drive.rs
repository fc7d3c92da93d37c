//! The lawful order of draining a machine.

use std::fmt;
use std::time::Instant;

use structs::{Deadline, Ecn, Machine, Path, TransmitBuf};

/// Drains a machine: datagrams until `None`, events until `None`, then the deadline.
///
/// # Errors
///
/// [`Runaway`] if it does not come to an end.
pub(crate) fn drain<M: Machine>(
    machine: &mut M,
    out: &mut TransmitBuf,
    now: Instant,
    mut send: impl FnMut(Path, Ecn, &[u8]),
    mut report: impl FnMut(M::Event),
) -> Result<Option<Deadline>, Runaway> {
    let mut transmits = 0;
    out.clear();
    while let Some(transmit) = machine.poll_transmit(out, now) {
        for datagram in out.segments(&transmit) {
            send(transmit.path, transmit.ecn, datagram);
        }
        out.clear();
        transmits += 1;
        if transmits == TRANSMIT_LIMIT {
            return Err(Runaway::Transmits);
        }
    }
    let mut events = 0;
    while let Some(event) = machine.poll_event() {
        report(event);
        events += 1;
        if events == REPORT_LIMIT {
            return Err(Runaway::Events);
        }
    }
    Ok(machine.poll_timeout())
}

/// A drain that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runaway {
    Transmits,
    Events,
}

impl fmt::Display for Runaway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transmits => write!(f, "{TRANSMIT_LIMIT} transmits in one drain and no end"),
            Self::Events => write!(f, "{REPORT_LIMIT} events in one drain and no end"),
        }
    }
}

/// The most datagrams that a batch holds in simulations: the shorter batches of a paced sender.
pub(crate) const MAX_SEGMENTS: usize = 16;

/// Far above what any window lets a machine send in one moment.
const TRANSMIT_LIMIT: u32 = 1 << 20;
const REPORT_LIMIT: u32 = 1 << 22;
