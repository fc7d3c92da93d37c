//! The wire of the existing Python, JavaScript and C++ nodes ("v12").
//!
//! One UDP payload over IPv4 is one frame, and its first byte says which: [`Frame::decode`]. Only DATA is encrypted. A
//! BATCH carries several frames, never another BATCH.
//!
//! | module | content |
//! |---|---|
//! | [`frame`] | the eighteen frames: [`Frame`], [`Kind`] and the views of their lists |
//! | [`encode`] | one function per frame, appending to a `Vec<u8>` |
//! | [`batch`] | [`Batcher`]: frames that share a datagram |
//! | [`fragment`] | [`fragments`] and [`Reassembler`]: messages above 1200 bytes |
//! | [`reorder`] | [`Reorder`]: messages in the order of their numbers |
//! | [`chunk`] | [`ChunkSender`] and [`ChunkAssembler`]: stored values |
//! | [`limits`] | every number of the wire and of the reference nodes' behaviour |
//!
//! ```
//! use framing::v12::{Frame, encode};
//!
//! let mut bytes = Vec::new();
//! encode::want(b"alpha", &mut bytes)?;
//! assert_eq!(bytes, b"\x11\x05alpha");
//! assert_eq!(Frame::decode(&bytes), Ok(Frame::Want { key: b"alpha" }));
//! # Ok::<(), framing::EncodeError>(())
//! ```

pub mod batch;
pub mod chunk;
pub mod encode;
pub mod fragment;
pub mod frame;
pub mod limits;
mod pieces;
pub mod reorder;
mod text;

pub use batch::Batcher;
pub use chunk::{ChunkAssembler, ChunkError, ChunkSender, SenderConfig};
pub use crypto::v12::{NodeId, PublicKey, WireId};
pub use fragment::{FragmentError, Fragments, Reassembler, fragments};
pub use frame::{Chunk, Frame, Frames, GoawayReason, Hashes, Keys, Kind, Pex, PexEntry, Pong};
pub use reorder::{Reorder, ReorderError};
