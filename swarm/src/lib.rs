#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
#[cfg(all(feature = "tokio", feature = "v12"))]
mod driver;
mod error;
mod event;
mod id;
#[cfg(feature = "v12")]
pub mod node;

pub use config::Config;
#[cfg(all(feature = "tokio", feature = "v12"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "tokio", feature = "v12"))))]
pub use driver::{
    BindError, Builder, Closed, Driver, Events, Fetch, Message, Peer, Preset, Published, Stats, Swarm, SwarmEvent,
    Topic, TopicEvent, TopicEvents, Unsent,
};
pub use error::{DialError, FetchError, JoinError, SendError, StoreError};
pub use event::{DialId, DisconnectReason, Event, FetchId, PeerInfo, Proof, Security};
pub use id::{ParseIdError, PeerId, ShortId, TopicId};

/// The names that the v12 wire gives things, for those who talk to its other nodes.
#[cfg(feature = "v12")]
#[cfg_attr(docsrs, doc(cfg(feature = "v12")))]
pub mod v12 {
    pub use crypto::v12::{Identity, NodeId, SeedError, TopicHash, WireId};
}

/// The programs in the repository's README compile.
#[cfg(all(doctest, feature = "tokio", feature = "v12"))]
#[doc = include_str!("../../README.md")]
struct ReadmeOfTheRepository;
