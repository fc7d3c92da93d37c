//! The bodies of the fuzz targets.
//!
//! Each target is a function of bytes that panics when a machine breaks a promise. libFuzzer calls it through
//! `fuzz_targets/`, an ordinary test calls it for every committed input, so that both mean the same by a finding.
//!
//! | module | content |
//! |---|---|
//! | `native_frame` | the native codec |
//! | `handshake` | the native handshakes, with somebody between the two ends |
//! | `record` | the record keys of two ends, against a model |
//! | `recovery` | loss recovery, against the fate of every packet |
//! | `mux` | two multiplexers, and somebody who speaks for either |
//! | `session` | two endpoints and a network that the input commands |
//! | `nat` | messages, probes, STUN, votes, and two who punch |
//! | `relay` | a relay and its clients, and strangers |
//! | `native_node` | three nodes, one of them a relay, that say what they should not, and strangers |
//! | `stream` | byte streams that carry datagrams |
//! | `text` | whom to dial and where to listen, as people write it |
//! | `rendezvous` | what is left at servers, and said by multicast DNS |
//! | `dht_message` | the datagrams and records of the distributed hash table |
//! | `dht_table`, `dht_store` | the contacts of a node, and what it keeps for others, against models |
//! | `dht_node` | three nodes of it, a network that the input commands, and a stranger |
//! | `frame`, `reassembly`, `reorder`, `chunks` | the parts of the framing of v12, most of them against a naive model |
//! | `peer` | two peers, or one and a forger, and a network that the input commands |
//! | `node` | two nodes and strangers, with commands and multicast |
//! | `v12_dht` | three nodes of its hash table, and strangers |
//! | `actors` | identities, sealed packets and frames that pass the first checks |
//! | `account` | what every address sent and got, for the law against amplification |
//! | `input` | how the bytes are read |

#![forbid(unsafe_code)]

mod account;
mod actors;
mod chunks;
mod dht_message;
mod dht_node;
mod dht_store;
mod dht_table;
mod frame;
mod handshake;
mod input;
mod mux;
mod nat;
mod native_frame;
mod native_node;
mod node;
mod peer;
mod reassembly;
mod record;
mod recovery;
mod relay;
mod rendezvous;
mod reorder;
mod session;
mod stream;
mod text;
mod v12_dht;

use std::{env, fs, io};

pub use chunks::v12_chunks;
pub use dht_message::dht_message;
pub use dht_node::dht_node;
pub use dht_store::dht_store;
pub use dht_table::dht_table;
pub use frame::v12_frame;
pub use handshake::handshake;
pub use mux::mux;
pub use nat::nat;
pub use native_frame::frame;
pub use native_node::node;
pub use node::v12_node;
pub use peer::v12_peer;
pub use reassembly::v12_reassembly;
pub use record::record;
pub use recovery::recovery;
pub use relay::relay;
pub use rendezvous::rendezvous;
pub use reorder::v12_reorder;
pub use session::session;
pub use stream::stream;
pub use text::text;
pub use v12_dht::v12_dht;

/// A target: it panics on a finding.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder below `corpus` and `regressions`.
pub const TARGETS: &[(&str, Target)] = &[
    ("frame", frame),
    ("handshake", handshake),
    ("record", record),
    ("recovery", recovery),
    ("mux", mux),
    ("session", session),
    ("nat", nat),
    ("relay", relay),
    ("node", node),
    ("stream", stream),
    ("text", text),
    ("rendezvous", rendezvous),
    ("dht_message", dht_message),
    ("dht_table", dht_table),
    ("dht_store", dht_store),
    ("dht_node", dht_node),
    ("v12_frame", v12_frame),
    ("v12_reassembly", v12_reassembly),
    ("v12_reorder", v12_reorder),
    ("v12_chunks", v12_chunks),
    ("v12_peer", v12_peer),
    ("v12_node", v12_node),
    ("v12_dht", v12_dht),
];

/// Runs a target on the files named on the command line: what its program does when built without cargo-fuzz.
///
/// # Errors
///
/// When a file cannot be read.
pub fn replay(target: Target) -> io::Result<()> {
    for path in env::args_os().skip(1) {
        target(&fs::read(path)?);
    }
    Ok(())
}
