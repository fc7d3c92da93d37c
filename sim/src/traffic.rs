//! What was sent, what became of it, and a record of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Dropped;

/// Something that a machine reported, with the time since the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed<E> {
    /// When.
    pub at: Duration,
    /// What.
    pub event: E,
}

/// A number of datagrams and their payload in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// How many.
    pub datagrams: u64,
    /// Their payload, without headers.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, len: usize) {
        self.datagrams += 1;
        self.bytes += len as u64;
    }
}

/// Counters of one direction, or of one sender.
///
/// `sent` and `duplicated` together are what was dropped, delivered, or is still on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// What the machine handed to the network. A multicast datagram counts once for each that it was meant for.
    pub sent: Count,
    /// What arrived at a running machine.
    pub delivered: Count,
    /// What the network added of its own.
    pub duplicated: Count,
    /// What the network held back, so that what was sent later may have overtaken it.
    pub reordered: Count,
    /// What arrived, or will arrive, with a flipped bit.
    pub corrupted: Count,
    dropped: [Count; Dropped::ALL.len()],
}

impl Traffic {
    /// What did not arrive, for whatever reason.
    #[must_use]
    pub fn dropped(&self) -> Count {
        let sum = |mut sum: Count, count: &Count| {
            sum.datagrams += count.datagrams;
            sum.bytes += count.bytes;
            sum
        };
        self.dropped.iter().fold(Count::default(), sum)
    }

    /// What did not arrive for this reason.
    #[must_use]
    pub fn dropped_for(&self, cause: Dropped) -> Count {
        self.dropped.get(cause as usize).copied().unwrap_or_default()
    }

    pub(crate) fn drop_for(&mut self, cause: Dropped, len: usize) {
        if let Some(count) = self.dropped.get_mut(cause as usize) {
            count.add(len);
        }
    }
}

/// A datagram as its sender sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// When it was sent (for an injected one: when it arrived).
    pub at: Duration,
    /// The source address, as the receiver sees it.
    pub from: SocketAddr,
    /// The destination address.
    pub to: SocketAddr,
    /// Why the network dropped it at once, if it did.
    pub dropped: Option<Dropped>,
    /// The bytes, before corruption.
    pub payload: Vec<u8>,
}

/// A tap: records every datagram until its limit, then counts what it misses.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    records: Vec<Captured>,
    bytes: usize,
    limit: usize,
    missed: u64,
}

impl Capture {
    pub(crate) fn start(&mut self, limit: usize) {
        *self = Self { limit, ..Self::default() };
    }

    pub(crate) fn records(&self) -> &[Captured] {
        &self.records
    }

    pub(crate) const fn missed(&self) -> u64 {
        self.missed
    }

    pub(crate) fn record(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        dropped: Option<Dropped>,
        payload: &[u8],
        at: Duration,
    ) {
        if self.limit == 0 {
            return;
        }
        if payload.len() > self.limit - self.bytes {
            self.missed += 1;
            return;
        }
        self.bytes += payload.len();
        self.records.push(Captured { at, from, to, dropped, payload: payload.to_vec() });
    }
}

/// The events of one machine, up to [`EVENT_LIMIT`].
#[derive(Debug)]
pub(crate) struct Log<E> {
    pub(crate) events: Vec<Timed<E>>,
    pub(crate) lost: u64,
}

impl<E> Log<E> {
    pub(crate) const fn new() -> Self {
        Self { events: Vec::new(), lost: 0 }
    }

    pub(crate) fn push(&mut self, event: E, at: Duration) {
        if self.events.len() < EVENT_LIMIT {
            self.events.push(Timed { at, event });
        } else {
            self.lost += 1;
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Timed<E>> {
        std::mem::take(&mut self.events)
    }
}

/// How many events of a machine are kept until they are taken. Later ones are dropped and counted.
pub const EVENT_LIMIT: usize = 1 << 20;
