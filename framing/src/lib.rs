#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

mod cursor;
mod error;
#[cfg(feature = "v12")]
mod time;
#[cfg(feature = "v12")]
pub mod v12;

pub use cursor::{Reader, Writer};
pub use error::{DecodeError, EncodeError};
