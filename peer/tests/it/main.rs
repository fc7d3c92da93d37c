//! What one conversation promises, in virtual time.
#![cfg(feature = "v12")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod attacks;
mod close;
mod conformance;
mod connect;
mod flow;
mod memory;
mod messages;
mod order;
mod paths;
mod reference;
mod restart;
mod support;
mod values;
