#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod ack;
mod cids;
mod config;
pub mod congestion;
mod dial;
mod ecn;
pub mod endpoint;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod mtu;
pub mod mux;
mod pacing;
mod path;
mod peer;
mod receive;
mod recovery;
mod rekey;
mod rest;
mod rtt;
mod sent;
mod session;
mod shared;
mod stats;
mod timers;
mod transmit;
#[cfg(feature = "v12")]
pub mod v12;

pub use config::{Config, Idle, SubnetLimits};
pub use endpoint::{DialError, Endpoint, Handle};
pub use error::Violation;
pub use event::{Closed, Connected, Event, Reason, Unfinished};
pub use peer::Peer;
pub use shared::Target;
pub use stats::Stats;
