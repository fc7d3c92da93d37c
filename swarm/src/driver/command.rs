//! What the handles ask of the net task.

use std::net::SocketAddr;
use std::time::Duration;

use ::dht::{Item, Key, Wanted};
use bytes::Bytes;
use relay::client::Named;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Stats;
use super::hash_table::Value;
use crate::carrier::{ListenAddr, StreamAddr};
use crate::node::TableStats;
use crate::{BindError, DialError, DialWay, GetError, PeerId, PeerInfo, PutError, SendError, TopicId};

/// One request. A reply whose receiver is gone is dropped; the work is done all the same.
#[derive(Debug)]
pub(crate) enum Command {
    Dial {
        peer: Option<PeerId>,
        addrs: Vec<SocketAddr>,
        streams: Vec<StreamAddr>,
        relays: Vec<Named>,
        way: DialWay,
        reply: oneshot::Sender<Result<PeerId, DialError>>,
    },
    /// A relay that the owner names, newly or `again` because it may be elsewhere now. The answer says whether it is wanted.
    AddRelay {
        relay: PeerId,
        addrs: Vec<SocketAddr>,
        again: bool,
        reply: oneshot::Sender<bool>,
    },
    RemoveRelay(PeerId),
    /// One thing more to listen on. The answer says where exactly.
    Listen {
        at: ListenAddr,
        reply: oneshot::Sender<Result<ListenAddr, BindError>>,
    },
    /// It is listened there no more, or nowhere. The answer says on how many things it was.
    StopListening {
        at: Option<ListenAddr>,
        reply: oneshot::Sender<usize>,
    },
    /// To the neighbours of a topic. With a permit it waits for room, without it leaves out the full.
    Publish {
        topic: TopicId,
        data: Bytes,
        permit: Option<OwnedSemaphorePermit>,
        reply: oneshot::Sender<Result<usize, SendError>>,
    },
    /// Has a peer asked whom it knows. The reply gets how many it named, or is dropped: at the latest when the peer leaves.
    AskForOthers {
        peer: PeerId,
        reply: oneshot::Sender<usize>,
    },
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Stats(oneshot::Sender<Stats>),
    Disconnect {
        peer: PeerId,
        grace: Duration,
        reply: oneshot::Sender<()>,
    },
    /// Addresses that the router forwards to us.
    #[cfg(feature = "portmap")]
    Forwarded(Vec<SocketAddr>),
    /// Where the STUN servers are.
    Stun(Vec<SocketAddr>),
    /// Addresses at which the distributed hash table may begin.
    Bootstrap(Vec<SocketAddr>),
    TableGet {
        wanted: Wanted,
        permit: OwnedSemaphorePermit,
        reply: oneshot::Sender<Result<Option<Item>, GetError>>,
    },
    TablePut {
        value: Value,
        permit: OwnedSemaphorePermit,
        reply: oneshot::Sender<Result<(Key, u32), PutError>>,
    },
    TableWithdraw(Key, oneshot::Sender<bool>),
    TableStats(oneshot::Sender<Option<TableStats>>),
    /// The network has changed.
    Resume,
}
