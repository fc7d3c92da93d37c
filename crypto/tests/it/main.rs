//! The public interface of the crate, against vectors from outside and properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod envelope;
mod handshake;
mod identity;
mod record;
mod rendezvous;
mod rng;
mod seed;
#[cfg(feature = "v12")]
mod v12;
mod wycheproof;
