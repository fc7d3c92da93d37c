//! What the handles ask of the net task.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use crypto::v12::WireId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Stats;
use crate::{DialError, FetchError, PeerId, PeerInfo, SendError, StoreError, TopicId};

/// One request. A reply whose receiver is gone is dropped; the work is done all the same, except for a fetch.
#[derive(Debug)]
pub(crate) enum Command {
    Dial {
        addr: SocketAddr,
        reply: oneshot::Sender<Result<PeerId, DialError>>,
    },
    /// To the neighbours of a topic, or to every peer. With a permit it waits for room, without it skips the full.
    Broadcast {
        topic: Option<TopicId>,
        data: Bytes,
        permit: Option<OwnedSemaphorePermit>,
        reply: oneshot::Sender<Result<usize, SendError>>,
    },
    Store {
        key: Bytes,
        value: Bytes,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Fetch {
        key: Bytes,
        timeout: Duration,
        reply: oneshot::Sender<Result<Bytes, FetchError>>,
    },
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Stats(oneshot::Sender<Stats>),
    Disconnect {
        peer: PeerId,
        reply: oneshot::Sender<()>,
    },
    /// Never talks to this peer at this address from now on.
    Forbid {
        peer: PeerId,
        ip: std::net::IpAddr,
    },
    ExchangePeers {
        peer: Option<PeerId>,
        reply: oneshot::Sender<()>,
    },
    Introduce {
        target: WireId,
        reply: oneshot::Sender<bool>,
    },
}
