//! Transfer of stored values: CHUNK one way, CHUNK_ACK the other.
//!
//! A value of up to 900 bytes is one CHUNK and nothing confirms it: whoever misses it asks again. A longer one goes in parts, and
//! nodes of two generations take them. Those of today confirm each part, which makes a plain selective-repeat transfer. Those of version
//! 0.1.0 know no CHUNK_ACK, so the sender has to find out in another way how fast they can go: see [`Mode::Marked`].

mod assemble;
mod send;

pub use assemble::{ChunkAssembler, ChunkError};
pub use send::{ChunkSender, Mode, SendError, SenderConfig, State, Step};
