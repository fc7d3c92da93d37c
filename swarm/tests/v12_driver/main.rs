//! Nodes on real sockets of the loopback interface: public API only, nothing sleeps, every wait has a limit.
#![cfg(all(feature = "tokio", feature = "v12"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "test"
)]

mod driver_events;
mod driver_life;
mod driver_meet;
mod driver_send;
mod driver_skip;
mod driver_values;
mod support;
