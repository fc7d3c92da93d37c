#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

pub mod address;
pub mod beacon;
mod cursor;
mod error;
pub mod frame;
pub mod header;
mod kind;
pub mod limits;
mod packet;
pub mod record;
pub mod scope;
#[cfg(feature = "v12")]
mod time;
pub mod tlv;
pub mod uri;
#[cfg(feature = "v12")]
pub mod v12;
pub mod varint;
pub mod voucher;

pub use beacon::Beacon;
pub use cursor::{Reader, Writer};
pub use error::{DecodeError, EncodeError};
pub use frame::{
    Ack, AckRanges, CloseCode, EcnCounts, Frame, Frames, Hello, Limits, Open, ProtocolEntries, ProtocolEntry, Role,
    Stream, StreamCode, StreamId, StreamKind,
};
pub use header::{AnswerHeader, DataHeader, FirstHeader};
pub use kind::Kind;
pub use packet::{PacketWriter, stream_overhead, stream_room};
