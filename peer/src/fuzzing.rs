//! Machines inside a session that no public type shows, each beside a model that knows what it must do. For fuzzers.
//!
//! An operation is one method, and each checks all that the model can tell: a promise that is broken panics. What may be
//! asked in which order is up to whoever drives them, that is to the bytes of an input.

mod mux;
mod recovery;

pub use mux::Muxes;
pub use recovery::{Marks, Packets, PathSettings};
