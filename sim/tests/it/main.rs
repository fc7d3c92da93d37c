//! The simulator against a toy machine, sound and with one flaw for every law.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs, reason = "test")]

mod conformance;
mod link;
mod pair;
mod parts;
mod toy;
mod world;
