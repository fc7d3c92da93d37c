//! Tests of the public interface. Numbers that nodes agree on are written out again here, not imported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::unwrap_in_result,
    reason = "test: panics are failures, and the clock gives an arbitrary base of which only offsets are used"
)]

mod circuits;
mod client;
mod codec;
mod conformance;
mod lab;
mod quotas;
