//! What the native session promises, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod campaign;
mod connect;
mod crossing;
mod duo;
mod fairness;
mod goodput;
mod rest;
mod spoof;
mod support;
