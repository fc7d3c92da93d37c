#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

mod cursor;
mod error;
mod frame;
mod header;
mod kind;
pub mod limits;
mod packet;
mod record;
#[cfg(feature = "v12")]
mod time;
mod uri;
#[cfg(feature = "v12")]
pub mod v12;
mod varint;

pub use cursor::{Reader, Writer};
pub use error::{DecodeError, EncodeError};
pub use frame::{Role, StreamId};
