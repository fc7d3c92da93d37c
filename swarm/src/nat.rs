//! What is between a node and the rest of the network, and by which way it reaches a peer.

use std::fmt;
use std::net::SocketAddr;

pub use ::nat::message::EndCode;
pub use ::nat::{Confidence, Failure, Filtering, Mapping, NatKind};

use crate::PeerId;

/// Where others see a node, and what that says of the NAT in front of it: the word of its peers, of nodes of the distributed hash
/// table and of STUN servers, of which the majority counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Nat {
    /// Over IPv4.
    pub v4: Outside,
    /// Over IPv6.
    pub v6: Outside,
    /// Addresses that a router forwards to the node, because it was asked to.
    pub forwarded: Vec<SocketAddr>,
}

/// Where others see a node over one of the two families, and what lies between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Outside {
    /// The address that others see; where each sees another port, that of one of them.
    pub addr: Option<SocketAddr>,
    /// How the NAT maps.
    pub mapping: Mapping,
    /// What it lets in.
    pub filtering: Filtering,
    /// How sure that is.
    pub confidence: Confidence,
    /// Whether there is a NAT: no, if an interface has the address that others see.
    pub translated: Option<bool>,
}

impl Nat {
    /// The addresses at which others reach the node as far as its NAT lets them: those that it is seen at, and those that are
    /// forwarded.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [self.v4.addr, self.v6.addr].into_iter().flatten().chain(self.forwarded.iter().copied())
    }

    /// Whether it is known that somebody whom the node did not contact first reaches it.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        let open = |side: &Outside| {
            let one = matches!(side.mapping, Mapping::Unknown | Mapping::EndpointIndependent);
            side.addr.is_some() && side.filtering == Filtering::EndpointIndependent && one
        };
        open(&self.v4) || open(&self.v6)
    }

    /// Whether a NAT is between the node and the internet, over IPv4 if it has that; `None` if nobody has said where it is.
    #[must_use]
    pub const fn is_behind_nat(&self) -> Option<bool> {
        match self.v4.translated {
            Some(translated) => Some(translated),
            None => self.v6.translated,
        }
    }
}

/// Whether the router forwards a port to this node.
#[cfg(feature = "portmap")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PortMapping {
    /// It is not asked.
    #[default]
    Off,
    /// It is being asked.
    Asking,
    /// It does, for UDP if the node has that.
    Forwarded {
        /// Where others reach the node, if the router itself has a public address.
        addr: SocketAddr,
        /// What the router speaks.
        by: MappedBy,
    },
    /// It does not. It is asked again later.
    Failed {
        /// What came of each way to ask.
        why: String,
    },
}

/// How a router was asked to forward a port.
#[cfg(feature = "portmap")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MappedBy {
    /// The Port Control Protocol (RFC 6887).
    Pcp,
    /// The protocol before it (RFC 6886).
    NatPmp,
    /// The Internet Gateway Device of UPnP.
    Upnp,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// At an address that takes whoever comes, or that a dial went to.
    Direct,
    /// Directly, at an address that both sides had to open their NATs for.
    Punched,
    /// Through a relay, which reads nothing of it.
    Relayed {
        /// Which.
        relay: PeerId,
        /// Why not directly.
        why: Why,
    },
}

/// Why a peer is reached through a relay, and not directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// A direct path is about to be tried, or being tried.
    Trying,
    /// It was tried.
    Failed(Failure),
    /// A path was found, and did not carry what a session needs.
    Unproved,
    /// The relay does not say where the peer is: one of the two does not show its address.
    Hidden,
    /// One of the two takes no part in such attempts.
    Off,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trying => f.write_str("a direct path is being tried"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Unproved => f.write_str("a direct path was found and did not carry the session"),
            Self::Hidden => f.write_str("the relay does not say where the peer is"),
            Self::Off => f.write_str("one side does not look for direct paths"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Punched => f.write_str("punched"),
            Self::Relayed { relay, why } => write!(f, "relayed by {}: {why}", relay.short()),
        }
    }
}
