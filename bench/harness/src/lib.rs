//! The same work over every transport library, measured the same way.
//!
//! A library under measurement implements [`Library`] and [`Connection`] in a program of its own and calls [`run`]. All
//! that is timed, counted and checked is here, once, generic over those two, so the programs differ in nothing but the
//! library. The program is started twice, as server and as client, each pinned to a core of its own:
//!
//! ```text
//! bench-NAME works                                           the names of what it can do
//! bench-NAME server WORK [--bind IP] [--cpu N]               prints one line of JSON with a `ticket`, serves until stdin closes
//! bench-NAME client WORK --ticket T [--cpu N] [--quick]      prints one line of JSON with the figures
//! ```
//!
//! What is sent is numbered ([`stamps`]), and whoever receives it checks length and numbers; the server's [`tally`] and
//! the client's must agree or the run is an error.

pub mod client;
pub mod control;
pub mod framed;
pub mod io;
pub mod library;
pub mod machine;
mod program;
pub mod server;
pub mod stamps;
#[cfg(feature = "table")]
pub mod table;
pub mod tally;
pub mod work;

pub use framed::{FramedReceiver, FramedSender};
pub use io::Io;
pub use library::{Connection, Library, MessageReceiver, MessageSender, ReceiveStream, SendStream, Settings};
pub use program::run;
pub use work::{Mtu, Work};
