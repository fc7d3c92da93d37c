//! What the handles ask of the net task.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Stats;
use crate::{DialError, PeerId, PeerInfo, SendError, TopicId};

/// One request. A reply whose receiver is gone is dropped; the work is done all the same.
#[derive(Debug)]
pub(crate) enum Command {
    Dial {
        peer: Option<PeerId>,
        addrs: Vec<SocketAddr>,
        reply: oneshot::Sender<Result<PeerId, DialError>>,
    },
    /// To the neighbours of a topic. With a permit it waits for room, without it leaves out the full.
    Publish {
        topic: TopicId,
        data: Bytes,
        permit: Option<OwnedSemaphorePermit>,
        reply: oneshot::Sender<Result<usize, SendError>>,
    },
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Stats(oneshot::Sender<Stats>),
    Disconnect {
        peer: PeerId,
        grace: Duration,
        reply: oneshot::Sender<()>,
    },
    /// The network has changed.
    Resume,
}
