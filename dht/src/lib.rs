#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod announcement;
mod bucket;
mod contact;
mod dht;
mod event;
mod gather;
mod guard;
pub mod item;
mod key;
mod keyring;
pub mod limits;
mod lookup;
pub mod message;
mod publish;
mod receive;
mod refused;
mod rpc;
mod stats;
pub mod store;
pub mod subnet;
mod table;
mod task;
mod token;
mod upkeep;

pub use announcement::{Announcement, Relay};
pub use contact::{Contact, NodeId, load, save};
pub use dht::Dht;
pub use event::{Event, PublishError, QueryError, QueryId, Tally};
pub use item::{Item, Kind, SignedValue, Wanted};
pub use key::{Distance, Key};
pub use lookup::Found;
pub use publish::Announcer;
pub use refused::Refused;
pub use stats::{Stats, TableStats};
pub use store::Store;
pub use subnet::{Family, Subnet, Subnets};
pub use table::{Inserted, Node, Origin, Refusal, Table};
pub use token::{Token, Tokens};
