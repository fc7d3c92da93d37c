//! The node: every session of one identity, its topics and its discovery, as one state machine.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Node`]: its state, its commands, the machine's five methods |
//! | `topics.rs` | topics: who proved to be in them, and what is published there |
//! | `lan.rs` | beacons on the local network |

mod lan;
mod topics;
