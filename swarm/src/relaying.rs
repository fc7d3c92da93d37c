//! What the owner of a node decides about relays, and hears of them.

use std::net::SocketAddr;

use crate::PeerId;

pub use relay::{Code as RelayCode, Config as RelayLimits, Networks as RelayNetworks};

/// Whether a node relays for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ServeRelay {
    /// No; whoever asks is told so.
    #[default]
    Never,
    /// While it can be reached from outside: others agree on its address, and somebody came whom it had not contacted.
    Auto,
    /// Yes.
    Always,
}

/// By which ways a peer may be reached. Default: directly, or else through relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DialWay {
    /// Directly if that works, otherwise through relays, in their order.
    #[default]
    Any,
    /// Never through a relay.
    Direct,
    /// Only through the relays that are named with the peer, which are asked not to say where this node is; no direct path is
    /// looked for.
    Relayed,
}

/// A relay that is known for a place, and how that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStatus {
    /// Who.
    pub relay: PeerId,
    /// Where it is reached: at the address of its session first, then where it says to be, if it gave a place.
    pub addrs: Vec<SocketAddr>,
    /// What there is.
    pub state: RelayState,
    /// Why there is nothing, if there was an attempt.
    pub error: Option<RelayCode>,
    /// Circuits through it, to this node and from it.
    pub circuits: usize,
    /// Whether the owner named it; otherwise it was found.
    pub named: bool,
}

/// What a node has at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayState {
    /// Nothing: others have a place for this node, or the last attempt failed.
    Unused,
    /// It is being dialled, or was asked.
    Asked,
    /// A place: others reach this node through it.
    Held,
}

impl From<relay::client::Progress> for RelayState {
    fn from(progress: relay::client::Progress) -> Self {
        use relay::client::Progress;
        match progress {
            Progress::Unused => Self::Unused,
            Progress::Asked => Self::Asked,
            Progress::Held => Self::Held,
        }
    }
}
