//! What goes into loss recovery and what comes out.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::MAX_PATHS;
use super::path::Round;
use crate::sent::{Sent, SentFrames};

/// The number of a path within its session, below [`MAX_PATHS`](super::MAX_PATHS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PathSlot(pub(crate) u8);

/// What is known about a path when it comes into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathStart {
    /// The size of datagrams that is known to pass, in bytes of UDP payload; 1200 if nothing is.
    pub(crate) mtu: usize,
    /// The largest that both ends can handle.
    pub(crate) max_mtu: usize,
    /// The path does not leave this machine.
    pub(crate) loopback: bool,
    /// The round trip of the handshake or of the path's validation.
    pub(crate) rtt: Option<Duration>,
    /// Whether datagrams can be marked.
    pub(crate) ecn: bool,
}

/// A packet that was handed to the network.
#[derive(Debug)]
pub(crate) struct SentPacket {
    /// As [`next_pn`](super::Recovery::next_pn) gave it.
    pub(crate) pn: u64,
    pub(crate) path: PathSlot,
    /// Bytes of the datagram.
    pub(crate) size: u32,
    /// It holds more than acknowledgements, padding and CLOSE.
    pub(crate) ack_eliciting: bool,
    /// As [`mtu_probe`](super::Recovery::mtu_probe) asked for, or another packet whose loss is no sign of congestion.
    pub(crate) mtu_probe: bool,
    /// It leaves with a mark, as [`ecn`](super::Recovery::ecn) said when its batch was begun.
    pub(crate) marked: bool,
    pub(crate) frames: SentFrames,
}

/// What acknowledgements and timers brought to light. Cleared by the caller, who keeps it for its memory.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Frames that arrived.
    pub(crate) acked: Vec<Sent>,
    /// Frames to be repeated, or to be given up if they are not worth it.
    pub(crate) lost: Vec<Sent>,
    /// The highest packet number newly acknowledged: keys up to its generation have reached the peer.
    pub(crate) newest: Option<u64>,
    /// What changed about paths.
    pub(crate) paths: SmallVec<[PathChange; 2]>,
    /// What the ACK frame that is being taken in acknowledges of each path; nothing between two frames.
    pub(super) rounds: [Round; MAX_PATHS],
}

impl Outcome {
    /// That of a path; slots lie within the bound.
    #[inline]
    pub(super) const fn round(&mut self, slot: usize) -> &mut Round {
        &mut self.rounds[slot % MAX_PATHS]
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.acked.clear();
        self.lost.clear();
        self.newest = None;
        self.paths.clear();
    }
}

/// Something about a path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathChange {
    /// It carries datagrams of this size now.
    Mtu(PathSlot, usize),
    /// It stopped to carry large datagrams: the size fell back to 1200.
    BlackHole(PathSlot),
    /// All of a long time was lost.
    PersistentCongestion(PathSlot),
}

/// What may leave on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    /// So many bytes now, at least a datagram.
    Bytes(usize),
    /// Nothing before this moment: the pacer spreads what the window allows.
    Wait(Instant),
    /// Nothing until an acknowledgement or a timer makes room.
    Full,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets sent.
    pub(crate) sent: u64,
    /// Packets acknowledged in time.
    pub(crate) acked: u64,
    /// Packets given up.
    pub(crate) lost: u64,
    /// Packets acknowledged after they had been given up.
    pub(crate) spurious: u64,
    /// Probe timeouts.
    pub(crate) timeouts: u64,
}
