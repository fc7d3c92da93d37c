#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod candidate;
pub mod limits;
pub mod message;
mod observe;
mod pace;
mod plan;
mod probe;
mod punch;
mod receive;
mod report;
mod rounds;
mod schedule;
pub mod scope;
pub mod stun;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use candidate::{Candidate, CandidateKind};
pub use observe::{Change, Observation, Observations, Scope};
pub use pace::Pace;
pub use plan::{Method, Plan, Role};
pub use probe::{AttemptId, Probe, ProbeKey, ProbeKind, Secret};
pub use punch::{Event, Failure, Punch, PunchError, Setup};
pub use report::{Confidence, Filtering, Mapping, NatKind, Report, Strays};

/// What leaves from whatever address the socket has.
const fn unspecified(remote: SocketAddr) -> SocketAddr {
    let ip = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}
