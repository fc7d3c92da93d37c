#![doc = include_str!("../README.md")]

mod addresses;
pub mod clock;
pub mod conformance;
mod drive;
pub mod link;
pub mod nat;
pub mod pair;
mod pcap;
mod places;
pub mod report;
mod trace;
pub mod traffic;
pub mod world;

pub use addresses::Addresses;
pub use link::{Dropped, Link, Passage, Wire};
pub use pair::Pair;
pub use pcap::pcap;
pub use places::Places;
pub use report::Samples;
pub use trace::Trace;
pub use traffic::{Captured, Count, Timed, Traffic};
pub use world::{MachineId, World};
