#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod carrier;
#[cfg(feature = "tokio")]
mod clock;
pub mod discovery;
#[cfg(feature = "tokio")]
mod driver;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod hosts;
mod id;
pub mod nat;
pub mod node;
mod preset;
mod reach;
mod relaying;
pub mod rendezvous;
#[cfg(feature = "tokio")]
mod seeds;
mod ticket;
mod transport;
#[cfg(feature = "tokio")]
mod udp;
#[cfg(feature = "v12")]
#[cfg_attr(docsrs, doc(cfg(feature = "v12")))]
pub mod v12;

pub use self::nat::Nat;
pub use ::dht::{Key, Refused};
pub use carrier::{Carrier, ListenAddr, Listener, ParseListenError, StreamAddr};
#[cfg(feature = "mainline")]
#[cfg_attr(docsrs, doc(cfg(feature = "mainline")))]
pub use driver::Mainline;
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use driver::{
    AddressError, Addresses, Answer, Builder, Datagrams, Dht, DialTarget, Driver, Events, IdentityFile,
    IdentityFileError, Inbound, Incoming, Message, Messages, Mutable, Overflow, ParseTargetError, Peer, Published,
    RandomWalk, Reply, Request, RequestId, Requests, Responding, Stats, Stored, Strategy, StrategyContext, Stream,
    Swarm, SwarmEvent, Topic, TopicEvent, TopicEvents, WrongIdentity,
};
pub use error::{
    BindError, Closed, DialError, FetchError, GetError, InboundError, JoinError, OpenError, PutError, RequestError,
    SendError, StoreError, StreamError, Taken,
};
pub use event::{DialId, DisconnectReason, FetchId, PeerInfo, Proof, Security, Unsent};
pub use id::{ParseIdError, PeerId, ShortId, TopicId};
pub use node::naming::Protocol;
pub use preset::Preset;
pub use relaying::{DialWay, RelayCode, RelayLimits, RelayNetworks, RelayState, RelayStatus, ServeRelay};

/// What settings are made of that belong to the layers below.
pub mod settings {
    pub use crypto::Identity;
    pub use peer::congestion::Algorithm;
    pub use peer::{Config as Sessions, Idle, SubnetLimits};
}
pub use ticket::{ParseTicketError, Ticket, TicketRelay};
pub use transport::{Arrived, Transport, TransportAddr};

/// The programs in the repository's README compile.
#[cfg(all(doctest, feature = "tokio", feature = "v12"))]
#[doc = include_str!("../../README.md")]
struct ReadmeOfTheRepository;
