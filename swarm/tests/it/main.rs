//! The node on real sockets of the loopback interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs,
    reason = "test"
)]

mod abuse;
mod addresses;
#[cfg(feature = "v12")]
mod both;
#[cfg(feature = "cache")]
mod cache;
mod cancel;
mod carriers;
mod dht;
mod dial;
mod ending;
mod hostile;
mod listening;
#[cfg(feature = "mainline")]
mod mainline;
#[cfg(feature = "mdns")]
mod mdns;
mod messages;
mod network;
mod options;
mod pex;
mod process;
mod relays;
#[cfg(feature = "http")]
mod rendezvous;
mod requests;
#[cfg(feature = "http")]
mod servers;
mod strategies;
mod streams;
mod stun;
mod support;
mod topics;
mod transports;
