//! The real program, in processes of its own, on loopback addresses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "test"
)]

mod abuse;
mod bootstrap;
mod doctor;
mod hidden;
mod http;
mod join;
mod ping;
mod piping;
mod program;
mod quiet;
mod serve;
mod settings;
mod table;
mod usage;
