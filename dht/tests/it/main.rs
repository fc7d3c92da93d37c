//! Tests of the public interface. Numbers that nodes agree on are written out again here, not imported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_in_result,
    reason = "test: panics are failures, figures are printed, and the clock gives an arbitrary base of which only offsets are used"
)]

mod conformance;
mod contact;
mod item;
mod key;
mod machine;
mod message;
mod model;
mod network;
mod records;
mod reflection;
mod shares;
mod store;
mod table;
mod token;
mod writes;

use std::time::{Duration, Instant};

use proptest::test_runner::Config;
use structs::Epoch;

/// Enough to find what these models can tell apart, few enough for a debug build.
fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Noon of a day, at the beginning of a test.
const NOON: Duration = Duration::from_secs(20_000 * 86_400 + 43_200);

fn epoch(now: Instant) -> Epoch {
    Epoch { instant: now, unix: NOON }
}
