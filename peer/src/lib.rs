#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod ack;
pub mod congestion;
mod ecn;
mod error;
mod mtu;
pub mod mux;
mod pacing;
mod recovery;
mod rtt;
mod sent;
#[cfg(feature = "v12")]
pub mod v12;

pub use error::Violation;
