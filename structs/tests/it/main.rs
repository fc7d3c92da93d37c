//! The containers against naive models, through the public interface.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test: panics are failures, and the clock gives an arbitrary base of which only offsets are used"
)]

mod bucket;
mod byte_ring;
mod deadlines;
mod filter;
mod lru;
mod payloads;
mod ranges;
mod ring;
mod sequence;
mod window;

use proptest::test_runner::Config;

/// Enough to find what these models can tell apart, few enough for a debug build.
fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}
