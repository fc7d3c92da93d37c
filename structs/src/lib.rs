#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bucket;
mod byte_ring;
mod deadlines;
mod epoch;
mod filter;
mod lru;
pub mod machine;
mod payloads;
mod ranges;
mod rare;
mod rejected;
mod ring;
mod sequence;
mod transmit;
mod window;

pub use bucket::TokenBucket;
pub use byte_ring::ByteRing;
pub use deadlines::Deadlines;
pub use epoch::Epoch;
pub use filter::RotatingFilter;
pub use lru::{Inserted, Lru, TooHeavy};
pub use machine::{Datagram, Deadline, Ecn, Link, Machine, Path};
pub use payloads::PayloadCache;
pub use ranges::RangeSet;
pub use rare::{Blank, Rare};
pub use rejected::{Rejected, RejectedCounts};
pub use ring::Ring;
pub use sequence::SequenceMap;
pub use transmit::{Transmit, TransmitBuf};
pub use window::{SlidingWindow, Verdict};
