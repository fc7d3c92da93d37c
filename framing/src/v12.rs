//! The wire of the existing Python, JavaScript and C++ nodes ("v12").
//!
//! One UDP payload over IPv4 is one frame, and its first byte says which: [`Frame::decode`]. Only DATA is encrypted. A
//! BATCH carries several frames, never another BATCH.
//!
//! | module | content |
//! |---|---|
//! | [`frame`] | the nineteen frames: [`Frame`], [`Kind`] and the views of their lists |
//! | [`encode`] | one function per frame, appending to a `Vec<u8>` |
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

pub mod encode;
pub mod frame;
mod ids;
pub mod limits;
mod text;

pub use frame::{Chunk, Frame, Frames, GoawayReason, Hashes, Keys, Kind, Pex, PexEntry, Pong};
pub use ids::{NodeId, PublicKey, WireId};
