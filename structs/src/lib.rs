#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod epoch;
pub mod machine;
mod rejected;
mod transmit;

pub use epoch::Epoch;
pub use machine::{Datagram, Deadline, Ecn, Link, Machine, Path};
pub use rejected::{Rejected, RejectedCounts};
pub use transmit::{Transmit, TransmitBuf};
