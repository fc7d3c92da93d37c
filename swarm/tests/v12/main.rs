//! Nodes in a simulated network: public API only, virtual time.
#![cfg(feature = "v12")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    reason = "test"
)]

mod attacks;
mod chat;
mod conformance;
mod dht;
mod ending;
mod hearsay;
mod meeting;
mod mesh;
mod support;
mod values;
