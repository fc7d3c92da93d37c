#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(feature = "tokio", feature = "v12"))]
mod driver;
mod error;
mod event;
mod id;
mod node;
#[cfg(feature = "v12")]
#[cfg_attr(docsrs, doc(cfg(feature = "v12")))]
pub mod v12;

#[cfg(all(feature = "tokio", feature = "v12"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "tokio", feature = "v12"))))]
pub use driver::{
    BindError, Builder, Closed, Driver, Events, Fetch, Message, Peer, Preset, Published, Stats, Swarm, SwarmEvent,
    Topic, TopicEvent, TopicEvents, Unsent,
};
pub use error::{DialError, FetchError, JoinError, SendError, StoreError};
pub use event::{DialId, DisconnectReason, FetchId, PeerInfo, Proof, Security};
pub use id::{ParseIdError, PeerId, ShortId, TopicId};

/// The programs in the repository's README compile.
#[cfg(all(doctest, feature = "tokio", feature = "v12"))]
#[doc = include_str!("../../README.md")]
struct ReadmeOfTheRepository;
