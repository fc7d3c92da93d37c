//! What one conversation promises, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

#[cfg(feature = "v12")]
mod attacks;
#[cfg(feature = "v12")]
mod close;
#[cfg(feature = "v12")]
mod conformance;
#[cfg(feature = "v12")]
mod connect;
mod endpoint;
#[cfg(feature = "v12")]
mod flow;
#[cfg(feature = "v12")]
mod memory;
#[cfg(feature = "v12")]
mod messages;
#[cfg(feature = "v12")]
mod order;
#[cfg(feature = "v12")]
mod paths;
#[cfg(feature = "v12")]
mod reference;
#[cfg(feature = "v12")]
mod restart;
#[cfg(feature = "v12")]
mod support;
#[cfg(feature = "v12")]
mod values;
