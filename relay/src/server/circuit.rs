//! One circuit: two ends, what waits for each, and what it may carry.

use std::time::Instant;

use crypto::PeerId;
use framing::Kind;
use structs::{ByteRing, Path, TokenBucket, TransmitBuf};

use crate::datagram::header;
use crate::limits::{LANE_BYTES, TURN_BYTES};
use crate::{CircuitId, HEADER_LEN, Place};

/// An end of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Dialler,
    Target,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Target,
            Self::Target => Self::Dialler,
        }
    }
}

#[derive(Debug)]
pub(super) struct Circuit {
    dialler: End,
    target: End,
    bucket: TokenBucket,
    pub(super) since: Instant,
    /// When it last carried something.
    pub(super) used: Instant,
    /// Bytes that left, and bytes that found no room.
    pub(super) carried: u64,
    pub(super) dropped: u64,
    /// Where it was begun from.
    pub(super) place: Option<Place>,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) id: CircuitId,
    pub(super) peer: PeerId,
    /// The path of its session: where datagrams come from and go to.
    pub(super) path: Path,
    /// What waits for it, each behind its length in two bytes.
    queue: ByteRing,
    /// It is in line for a turn, or waits for tokens.
    pub(super) in_line: bool,
}

impl End {
    pub(super) const fn new(id: CircuitId, peer: PeerId, path: Path) -> Self {
        Self { id, peer, path, queue: ByteRing::new(LANE_BYTES), in_line: false }
    }

    /// Adds a datagram that is to go to this end. `false` if there is no room.
    fn push(&mut self, inner: &[u8]) -> bool {
        let Ok(len) = u16::try_from(inner.len()) else { return false };
        if self.queue.room() < LENGTH + inner.len() {
            return false;
        }
        self.queue.write(&len.to_be_bytes());
        self.queue.write(inner);
        true
    }

    /// The length of the next datagram.
    fn front(&self) -> Option<usize> {
        let mut len = [0; LENGTH];
        (self.queue.copy_to(self.queue.start(), &mut len) == LENGTH).then(|| usize::from(u16::from_be_bytes(len)))
    }

    /// Writes the next datagram, with its header, and lets go of it.
    fn pop(&mut self, len: usize, out: &mut TransmitBuf) {
        let from = self.queue.start() + LENGTH as u64;
        if let Some(space) = out.space(HEADER_LEN + len)
            && let Some((front, inner)) = space.split_first_chunk_mut()
        {
            *front = header(Kind::FromRelay, self.id);
            self.queue.copy_to(from, inner);
            out.commit(HEADER_LEN + len);
        }
        self.queue.advance(from + len as u64);
    }
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing waits any more.
    Empty,
    /// The turn, or the batch, is full.
    Over,
    /// The circuit has no tokens until then; never, if there is no rate.
    Wait(Option<Instant>),
    /// All circuits together have none for a datagram of this length.
    WaitForAll(u32),
}

impl Circuit {
    pub(super) const fn new(
        dialler: End,
        target: End,
        bucket: TokenBucket,
        place: Option<Place>,
        now: Instant,
    ) -> Self {
        Self { dialler, target, bucket, since: now, used: now, carried: 0, dropped: 0, place }
    }

    pub(super) const fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialler => &self.dialler,
            Side::Target => &self.target,
        }
    }

    pub(super) const fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Target => &mut self.target,
        }
    }

    /// The ends.
    pub(super) fn ends(&self) -> impl Iterator<Item = (Side, &End)> {
        [(Side::Dialler, &self.dialler), (Side::Target, &self.target)].into_iter()
    }

    /// Takes in a datagram for an end. `false` if there is no room.
    pub(super) fn push(&mut self, to: Side, inner: &[u8], now: Instant) -> bool {
        let taken = self.end_mut(to).push(inner);
        if taken {
            self.used = now;
        } else {
            self.dropped = self.dropped.saturating_add(inner.len() as u64);
        }
        taken
    }

    /// Writes what may leave to one end now.
    pub(super) fn turn(&mut self, to: Side, all: &mut TokenBucket, out: &mut TransmitBuf, now: Instant) -> Turn {
        let mut left = TURN_BYTES;
        loop {
            let Some(len) = self.end(to).front() else { return Turn::Empty };
            let whole = HEADER_LEN + len;
            if left < whole || !out.fits(whole) {
                return Turn::Over;
            }
            let tokens = u32::try_from(whole).unwrap_or(u32::MAX);
            if all.available(now) < tokens {
                return Turn::WaitForAll(tokens);
            }
            if !self.bucket.try_take(tokens, now) {
                return Turn::Wait(self.bucket.ready_at(tokens, now));
            }
            all.try_take(tokens, now);
            left -= whole;
            self.carried = self.carried.saturating_add(whole as u64);
            self.end_mut(to).pop(len, out);
        }
    }

    /// Bytes that wait.
    pub(super) fn buffered(&self) -> usize {
        self.dialler.queue.len() + self.target.queue.len()
    }
}

/// Bytes of the length in front of what waits.
const LENGTH: usize = 2;
