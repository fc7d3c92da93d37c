#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod bucket;
mod contact;
mod dht;
mod event;
mod guard;
mod key;
mod keyring;
pub mod limits;
mod lookup;
pub mod message;
mod receive;
mod rpc;
pub mod subnet;
mod table;
mod token;
mod upkeep;

pub use contact::{Contact, NodeId, load, save};
pub use dht::Dht;
pub use event::{Event, QueryError, QueryId};
pub use key::{Distance, Key};
pub use lookup::Found;
pub use subnet::{Family, Subnet, Subnets};
pub use table::{Inserted, Node, Origin, Refusal, Table};
pub use token::{Token, Tokens};
