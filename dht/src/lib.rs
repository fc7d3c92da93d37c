#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod bucket;
mod contact;
mod key;
pub mod limits;
pub mod message;
pub mod subnet;
mod table;
mod token;

pub use contact::{Contact, NodeId, load, save};
pub use key::{Distance, Key};
pub use subnet::{Family, Subnet, Subnets};
pub use table::{Inserted, Node, Origin, Refusal, Table};
pub use token::{Token, Tokens};
