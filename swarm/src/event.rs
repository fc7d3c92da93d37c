//! What a node reports.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::nat::Way;
use crate::{Carrier, PeerId};

/// A dial under way; the event that ends it carries the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(pub(crate) u64);

/// A fetch under way; the event that ends it carries the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub(crate) u64);

/// How well a link protects what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Security {
    /// A native session: both keys are proved, everything is sealed, and what was said stays secret when keys leak later.
    Native,
    /// The v12 wire: messages are encrypted between static keys, without forward secrecy; store and fetch, peer
    /// exchange and all control frames travel in the clear.
    LegacyV12,
}

/// What a peer has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proof {
    /// It answers at its address. Nothing shows yet that it holds the key it names.
    Address,
    /// It holds its key: a sealed packet of this session opened.
    Key,
}

/// Why a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// It said goodbye, with this reason code of the devp2p list.
    Goodbye(u8),
    /// Nothing came from it for too long.
    Timeout,
    /// We closed the session.
    Local,
    /// It made room for a peer that had proved more.
    Evicted,
    /// It closed the session with this code: below 0x100 those of SPEC 8.9, from there on the application's.
    Closed(u64),
    /// It lost its state: it was started anew.
    Restarted,
    /// A newer session with the same peer took the place.
    Replaced,
    /// It broke the protocol.
    Violation,
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goodbye(0x00) => f.write_str("left"),
            Self::Goodbye(0x04) => f.write_str("left: too many peers"),
            Self::Goodbye(0x08) => f.write_str("left: it is shutting down"),
            Self::Goodbye(code) => write!(f, "left with reason {code:#04x}"),
            Self::Timeout => f.write_str("timed out"),
            Self::Local => f.write_str("closed by us"),
            Self::Evicted => f.write_str("made room for another peer"),
            Self::Closed(0x00 | 0x07) => f.write_str("left"),
            Self::Closed(code) => write!(f, "closed the session with code {code:#x}"),
            Self::Restarted => f.write_str("was restarted"),
            Self::Replaced => f.write_str("connected anew"),
            Self::Violation => f.write_str("broke the protocol"),
        }
    }
}

impl From<&peer::Reason> for DisconnectReason {
    fn from(reason: &peer::Reason) -> Self {
        use peer::Reason;
        match reason {
            Reason::Remote { code, .. } => Self::Closed(*code),
            Reason::Reset => Self::Restarted,
            Reason::Replaced => Self::Replaced,
            Reason::Violation(_) | Reason::NoCommonVersion | Reason::WrongPeer { .. } => Self::Violation,
            Reason::NoAnswer | Reason::TimedOut | Reason::Idle => Self::Timeout,
            _ => Self::Local,
        }
    }
}

/// A connected peer, as seen from here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Who.
    pub id: PeerId,
    /// Its best address; that of the relay, if it is reached through one.
    pub addr: SocketAddr,
    /// How it is reached now, and why not directly if it is not.
    pub path: Way,
    /// The relay that it is reached through now, if it is.
    pub relay: Option<PeerId>,
    /// What carries its datagrams now.
    pub carrier: Carrier,
    /// How many addresses are known to lead to it, at most four.
    pub addrs: usize,
    /// Smoothed round-trip time of the best address.
    pub rtt: Duration,
    /// What it has proved.
    pub proof: Proof,
    /// How the link is protected.
    pub security: Security,
    /// Whether messages are flooded through it.
    pub in_mesh: bool,
    /// What its session holds in buffers, both ways, in bytes; on the v12 wire messages that wait to be sent.
    pub queued: usize,
    /// What is under way to it, unacknowledged, in bytes; on the v12 wire messages.
    pub in_flight: usize,
    /// How much may be under way to it before more is sent, in bytes (probes of the MTU and of losses go beyond it); on
    /// the v12 wire messages.
    pub window: usize,
    /// Datagrams sent to it, in all; on the v12 wire messages.
    pub sent: u64,
    /// Datagrams received from it, in all; on the v12 wire messages.
    pub received: u64,
}

/// What had not left when a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Unsent {
    /// Messages that were accepted and did not leave.
    pub messages: u64,
}
