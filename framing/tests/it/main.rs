//! Tests of the public interface. Numbers of the wire are written out again here, not imported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::type_complexity,
    clippy::unwrap_in_result,
    reason = "test code"
)]

mod cursor;
mod native;
#[cfg(feature = "v12")]
mod v12;
