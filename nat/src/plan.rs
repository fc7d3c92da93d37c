//! What can work between two NATs, who begins, and how long it may take (SPEC 15.5).
//!
//! | one side | other side | method |
//! |---|---|---|
//! | open, or one mapping for all | the same | both send to what they know of each other |
//! | one mapping for all | sequential | one probes the ports that come next, the other sends from one of them |
//! | one mapping for all | random | one probes random ports, the other sends from 256 sockets |
//! | sequential | sequential | each probes the port that the other is about to use |
//! | random | random or sequential | a relay |
//! | no UDP | anything | a relay |

use std::time::Duration;

use crate::limits;
use crate::report::{Filtering, NatKind, Report, Strays};

/// One of the two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sends the first message, decides on the plan and on the path.
    Initiator,
    /// The other.
    Responder,
}

impl Role {
    /// The opposite one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// What the two sides do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Both send to the addresses that the other named.
    Simple,
    /// `seeker` probes the ports ahead of the last one that its peer is known to have had.
    Search {
        /// Whose mapping is known.
        seeker: Role,
    },
    /// `seeker` probes random ports, the other side sends from many sockets.
    Birthday {
        /// Whose mapping is known.
        seeker: Role,
        /// The seeker has sent all its probes before the sockets are opened.
        ahead: bool,
    },
    /// Each side probes the port that the other's next mapping will have.
    Meet,
    /// Nothing: a relay is the way.
    Relay,
}

/// How a round goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plan {
    /// What is done.
    pub method: Method,
    /// Who sends first. The other waits until a datagram of the first must have left its NAT: if one of the other came before,
    /// a NAT that [records strays](Strays::Recorded) would take the port away.
    pub first: Role,
    /// The second side opens its NAT at the very beginning, with a datagram that dies before it reaches the other.
    pub opener: bool,
}

impl Plan {
    /// The plan for a round, by what both sides know of their NATs; `None` when there is no more to try.
    ///
    /// `direct` says that there are addresses, of IPv6 or of a network that both are in, for which the reports say nothing.
    #[must_use]
    pub fn choose(initiator: &Report, responder: &Report, direct: bool, round: u8) -> Option<Self> {
        let method = Self::method(initiator, responder);
        let [strays_i, strays_r] = [initiator, responder].map(strays);
        let first = if strays_i > strays_r { Role::Initiator } else { Role::Responder };
        let simple = |first, opener| Some(Self { method: Method::Simple, first, opener });
        match (method, round) {
            (Method::Relay, 0) if direct => simple(first, false),
            // There may be a way that costs nothing.
            (Method::Birthday { .. }, 0) if direct => simple(first, false),
            (Method::Birthday { .. }, 1) if !direct => None,
            (Method::Birthday { seeker, ahead }, 0 | 1) => {
                let first = if ahead { seeker } else { seeker.other() };
                Some(Self { method, first, opener: false })
            }
            (Method::Search { seeker }, 0 | 1) => Some(Self { method, first: seeker, opener: false }),
            (Method::Meet, 0..=2) => Some(Self { method, first, opener: false }),
            (Method::Relay, 0) => Some(Self { method, first, opener: false }),
            (Method::Simple, 0) => {
                // Both would lose their port to a stray: the opener is the only chance.
                let both = strays_i == MayTake::Does && strays_r == MayTake::Does;
                simple(Self::early(initiator, responder).unwrap_or(first), both)
            }
            // One of them at least is not known to be harmless, and not both are known to do harm.
            (Method::Simple, 1)
                if strays_i.max(strays_r) != MayTake::DoesNot && strays_i.min(strays_r) != MayTake::Does =>
            {
                simple(Self::early(initiator, responder).unwrap_or(first).other(), false)
            }
            (Method::Simple, 2) if strays_i == MayTake::Unknown && strays_r == MayTake::Unknown => simple(first, true),
            _ => None,
        }
    }

    /// What the two reports make possible, if there is no other way.
    pub(crate) fn method(initiator: &Report, responder: &Report) -> Method {
        use NatKind::{Blocked, Clash, EndpointIndependent, Open, Random, Sequential, Unknown};
        match (initiator.kind(), responder.kind()) {
            (Blocked, _) | (_, Blocked) => Method::Relay,
            (Open, _) | (_, Open) => Method::Simple,
            (EndpointIndependent | Clash | Unknown, EndpointIndependent | Clash | Unknown) => Method::Simple,
            (EndpointIndependent | Clash | Unknown, Sequential | Random) => {
                Self::seek(Role::Initiator, initiator, responder)
            }
            (Sequential | Random, EndpointIndependent | Clash | Unknown) => {
                Self::seek(Role::Responder, responder, initiator)
            }
            (Sequential, Sequential) => Method::Meet,
            (Sequential | Random, Sequential | Random) => Method::Relay,
        }
    }

    const fn seek(seeker: Role, known: &Report, changing: &Report) -> Method {
        match (known.filtering, changing.kind()) {
            // Whatever port it is: once we sent to its address, it comes in.
            (Filtering::AddressDependent, _) => Method::Simple,
            (_, NatKind::Sequential) => Method::Search { seeker },
            _ => Method::Birthday { seeker, ahead: !matches!(known.strays, Strays::Ignored) },
        }
    }

    /// Who has to send first where a port changes and the other filters by address.
    fn early(initiator: &Report, responder: &Report) -> Option<Role> {
        let changes = |report: &Report| matches!(report.kind(), NatKind::Sequential | NatKind::Random);
        match (changes(initiator), changes(responder)) {
            (true, false) => Some(Role::Responder),
            (false, true) => Some(Role::Initiator),
            _ => None,
        }
    }

    /// When a side begins after START left it or came to it.
    #[must_use]
    pub fn delay(&self, role: Role, rtt: Duration) -> Duration {
        let rtt = rtt.min(limits::MAX_RTT);
        let lead = match self.method {
            // All of the probes, or all of the sockets, are to be there before the other side begins.
            Method::Search { .. } => duration_of(limits::MAX_AHEAD, limits::SEARCH_RATE),
            Method::Birthday { ahead: true, .. } => duration_of(limits::SCATTER_AHEAD, limits::SEARCH_RATE),
            Method::Birthday { ahead: false, .. } => duration_of(limits::SPRAY_SOCKETS, limits::SEARCH_RATE),
            Method::Simple | Method::Meet | Method::Relay => Duration::ZERO,
        };
        match (self.first == role, role) {
            // The opener of the responder leaves when START is there.
            (true, Role::Initiator) if self.opener => rtt,
            (true, _) => Duration::ZERO,
            // Half of the round trip has passed already, but the first datagram waited for the opener.
            (false, Role::Responder) if self.opener => rtt + limits::ORDER_MARGIN + lead,
            (false, Role::Responder) => limits::ORDER_MARGIN + lead,
            (false, Role::Initiator) => rtt + limits::ORDER_MARGIN + lead,
        }
    }

    /// How long the initiator waits after START. `last` says that there is no round after this one.
    #[must_use]
    pub fn duration(&self, rtt: Duration, last: bool) -> Duration {
        let span = match self.method {
            Method::Simple if last && !self.opener => limits::LAST_ROUND,
            Method::Simple => limits::SIMPLE_ROUND,
            Method::Search { .. } | Method::Meet => limits::SIMPLE_ROUND,
            Method::Birthday { .. } => duration_of(limits::SCATTER_PROBES, limits::SEARCH_RATE),
            Method::Relay => Duration::ZERO,
        };
        let waits = self.delay(Role::Initiator, rtt).max(self.delay(Role::Responder, rtt));
        waits + rtt.min(limits::MAX_RTT) * 2 + span
    }

    /// Reads the two bytes of a plan; `None` for a method that does not exist.
    #[must_use]
    pub fn decode(bytes: [u8; 2]) -> Option<Self> {
        let [method, flags] = bytes;
        let role = |bit: u8| if flags & bit == 0 { Role::Initiator } else { Role::Responder };
        let seeker = role(SEEKER);
        let method = match method {
            0 => Method::Simple,
            1 => Method::Search { seeker },
            2 => Method::Birthday { seeker, ahead: flags & AHEAD != 0 },
            3 => Method::Meet,
            _ => return None,
        };
        Some(Self { method, first: role(FIRST), opener: flags & OPENER != 0 })
    }

    /// The two bytes of a plan. [`Relay`](Method::Relay) is never sent: there is END for it.
    #[must_use]
    pub fn encode(&self) -> [u8; 2] {
        let bit = |role: Role, bit: u8| match role {
            Role::Initiator => 0,
            Role::Responder => bit,
        };
        let (method, more) = match self.method {
            Method::Simple => (0, 0),
            Method::Search { seeker } => (1, bit(seeker, SEEKER)),
            Method::Birthday { seeker, ahead } => (2, bit(seeker, SEEKER) | if ahead { AHEAD } else { 0 }),
            Method::Meet => (3, 0),
            Method::Relay => (u8::MAX, 0),
        };
        [method, more | bit(self.first, FIRST) | if self.opener { OPENER } else { 0 }]
    }
}

/// Whether a stray datagram takes the port away: the more likely, the later the other side should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MayTake {
    DoesNot,
    Unknown,
    Does,
}

fn strays(report: &Report) -> MayTake {
    match (report.kind(), report.strays) {
        (NatKind::Open, _) | (_, Strays::Ignored) => MayTake::DoesNot,
        (_, Strays::Recorded) => MayTake::Does,
        (_, Strays::Unknown) => MayTake::Unknown,
    }
}

/// How long `count` datagrams take.
fn duration_of(count: u16, rate: u32) -> Duration {
    Duration::from_secs(1) * u32::from(count) / rate.max(1)
}

const FIRST: u8 = 1;
const OPENER: u8 = 2;
const SEEKER: u8 = 4;
const AHEAD: u8 = 8;
