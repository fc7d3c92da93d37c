#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod client;
mod code;
mod config;
mod datagram;
pub mod limits;
pub mod message;
mod network;
mod outbox;
pub mod server;

pub use client::Client;
pub use code::Code;
pub use config::Config;
pub use datagram::{CircuitId, HEADER_LEN};
pub use framing::voucher::Voucher;
pub use message::PROTOCOL;
pub use network::{Networks, Place};
pub use server::Server;
