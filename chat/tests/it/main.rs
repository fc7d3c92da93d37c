//! The real program, in processes of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    reason = "test"
)]

mod lan;
mod named;
mod program;
#[cfg(target_os = "linux")]
mod quiet;
#[cfg(unix)]
mod stuck;
mod talk;
mod usage;
mod v12;
