//! Tests of the public interface. Numbers that both sides agree on are written out again here, not imported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_in_result,
    reason = "test: panics are failures, figures are printed, and the clock gives an arbitrary base of which only offsets are used"
)]

mod candidate;
mod codec;
mod conformance;
mod hostile;
mod lab;
mod matrix;
mod observe;
mod stun;

use proptest::test_runner::Config;

/// Enough to find what these models can tell apart, few enough for a debug build.
fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}
