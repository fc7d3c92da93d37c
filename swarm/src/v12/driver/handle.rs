//! The handles of a node and of a peer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crypto::v12::{NodeId, WireId};
use tokio::sync::oneshot;

use super::Stats;
use super::builder::Builder;
use super::command::Command;
use super::events::Events;
use super::fetch::Fetch;
use super::limits::SURE_MESSAGE;
use super::shared::{Ending, Item, Outbox, Shared, Then};
use super::subscriber::Subscriber;
use super::topic::Topic;
use crate::{BindError, Closed, DialError, JoinError, PeerId, PeerInfo, SendError, StoreError, TopicId, Unsent};

/// A running node. Cheap to clone; all clones are the same node.
///
/// When the last clone is dropped, peers get one burst of goodbyes and the node ends, whatever topics or peers are
/// still held. [`shutdown`](Self::shutdown) does the same and sends first what waits.
#[derive(Debug, Clone)]
pub struct Swarm {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

/// Ends the node when dropped.
#[derive(Debug)]
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.end(Ending::Abort);
    }
}

impl Swarm {
    pub(crate) fn with(shared: Arc<Shared>) -> Self {
        Self { _alive: Arc::new(Alive(Arc::clone(&shared))), shared }
    }

    /// A node with a fresh identity on a port of the system's choice, which finds others by multicast on the local
    /// network. No third party is contacted.
    ///
    /// # Errors
    ///
    /// As those of [`Builder::bind`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    pub async fn new() -> Result<Self, BindError> {
        Self::builder().bind().await
    }

    /// A node with settings of your choice.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Who this node is: its public key.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// Who this node is on the v12 wire: the hash of its public key.
    #[must_use]
    pub fn v12_id(&self) -> NodeId {
        self.shared.id.v12_id()
    }

    /// The address of the socket. Its IP is `0.0.0.0` when the node listens on every interface.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// Joins a topic: announces this node there and looks for others. Returns at once; joining again gives another
    /// handle of the same membership.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if 64 topics are joined already or the node has ended.
    pub fn join(&self, topic: impl Into<TopicId>) -> Result<Topic, JoinError> {
        self.join_with(topic, true, true)
    }

    /// Joins a topic and chooses how: `announce` says on the network that this node is there, `lookup` dials the
    /// others who say so. A topic joined more than once does what any of the memberships wants.
    ///
    /// # Errors
    ///
    /// As those of [`join`](Self::join).
    pub fn join_with(&self, topic: impl Into<TopicId>, announce: bool, lookup: bool) -> Result<Topic, JoinError> {
        Topic::join(&self.shared, topic.into(), announce, lookup)
    }

    /// Connects to the node at an address.
    ///
    /// # Errors
    ///
    /// [`DialError`], among others when nobody answers in time.
    ///
    /// # Cancel safety
    ///
    /// The dial goes on when the future is dropped; [`events`](Self::events) tells of the peer.
    pub async fn dial(&self, addr: SocketAddr) -> Result<Peer, DialError> {
        let answer = self.shared.ask(|reply| Command::Dial { addr, reply }).await;
        answer.unwrap_or(Err(DialError::Closed)).map(|id| self.peer(&id))
    }

    /// The connected peers, by id. None once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.shared.ask(Command::Peers).await.unwrap_or_default()
    }

    /// The handle of a peer, connected or not.
    #[must_use]
    pub fn peer(&self, id: &PeerId) -> Peer {
        Peer { id: *id, outbox: self.shared.outbox(id), shared: Arc::clone(&self.shared) }
    }

    /// Sends a message to every connected peer and tells how many it is on its way to.
    ///
    /// Waits for peers whose queue is full, as long as they get on: a full peer that takes less than 16 messages
    /// (fewer large ones, two of 60 KiB) in a second of waiting is skipped, by this broadcast and those that follow
    /// and find no room, until half of its queue is free. A peer that is skipped is not in the number returned;
    /// [`Stats::skipped`] counts such copies. So the slowest peer that gets on sets the pace, and one that does not
    /// costs a second.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if no peer takes a message of this size, [`SendError::Closed`] once the node has ended.
    /// Nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to all peers with room, or to nobody. Those without room may
    /// still get it.
    pub async fn broadcast(&self, data: impl Into<Bytes>) -> Result<usize, SendError> {
        broadcast(&self.shared, None, data.into(), true).await
    }

    /// As [`broadcast`](Self::broadcast), but peers without room are left out.
    ///
    /// # Errors
    ///
    /// As those of [`broadcast`](Self::broadcast).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to all peers with room, or to nobody.
    pub async fn try_broadcast(&self, data: impl Into<Bytes>) -> Result<usize, SendError> {
        broadcast(&self.shared, None, data.into(), false).await
    }

    /// Everything that happens from now on; peers that are connected already are told of first.
    #[must_use]
    pub fn events(&self) -> Events {
        let (subscriber, receiver) = Subscriber::new(None);
        self.shared.subscribe(subscriber);
        Events { receiver }
    }

    /// Keeps a value and offers it to the peers, who may fetch it by its key.
    ///
    /// On the v12 wire values travel in the clear and nobody can tell who wrote one: seal what is secret, and use the
    /// hash of the value as its key where its content matters.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the key or the value is empty or too large, or the node has ended. Nothing changed then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has stored the value or has not.
    pub async fn store(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<(), StoreError> {
        let (key, value) = (Bytes::copy_from_slice(key.as_ref()), value.into());
        let answer = self.shared.ask(|reply| Command::Store { key, value, reply }).await;
        answer.unwrap_or(Err(StoreError::Closed))
    }

    /// Gets the value of a key from this node or its peers. Await what it returns:
    ///
    /// ```no_run
    /// # async fn example(swarm: swarm::v12::Swarm) -> Result<(), swarm::FetchError> {
    /// let value = swarm.fetch("notes").timeout(std::time::Duration::from_secs(5)).await?;
    /// # Ok(()) }
    /// ```
    pub fn fetch(&self, key: impl AsRef<[u8]>) -> Fetch {
        Fetch::new(Arc::clone(&self.shared), Bytes::copy_from_slice(key.as_ref()))
    }

    /// Tells a peer, or all, now who else is connected, instead of at the next minute.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has told them or has not.
    pub async fn exchange_peers(&self, peer: Option<PeerId>) -> Result<(), Closed> {
        self.shared.ask(|reply| Command::ExchangePeers { peer, reply }).await
    }

    /// Asks a relay to introduce this node to `target`: the relay tells it to dial us. False when no relay is known.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has asked or has not.
    pub async fn introduce(&self, target: WireId) -> Result<bool, Closed> {
        self.shared.ask(|reply| Command::Introduce { target, reply }).await
    }

    /// Does not talk to a peer at an address any more, because it is reached by another wire. Nothing waits for it to be done.
    pub(crate) fn forbid(&self, peer: PeerId, ip: std::net::IpAddr) {
        // If there is no room for the command now, the peer is named again with its next session.
        let _ = self.shared.commands.try_send(Command::Forbid { peer, ip });
    }

    /// What every web server that was named does for this node, and what came of it.
    #[must_use]
    pub fn discovery(&self) -> crate::discovery::Report {
        self.shared.discovery()
    }

    /// What the node and its socket count.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn stats(&self) -> Result<Stats, Closed> {
        self.shared.ask(Command::Stats).await
    }

    /// Sends what waits, for at most `grace`, then says goodbye to every peer and closes the socket. Tells what had
    /// not left by then. Every other call returns that the node is closed from the moment this is called.
    ///
    /// It cannot fail, takes little longer than `grace`, and may be called again: then it waits for the same end.
    ///
    /// # Cancel safety
    ///
    /// The node goes on ending when the future is dropped.
    pub async fn shutdown(&self, grace: Duration) -> Unsent {
        self.shared.end(Ending::Shutdown(grace));
        self.shared.ended().await
    }
}

/// To the neighbours of a topic, or to every peer.
pub(crate) async fn broadcast(
    shared: &Shared,
    topic: Option<TopicId>,
    data: Bytes,
    wait: bool,
) -> Result<usize, SendError> {
    let permit = match wait {
        // Closed with the node.
        true => match Arc::clone(&shared.broadcasts).acquire_owned().await {
            Ok(permit) => Some(permit),
            Err(_) => return Err(SendError::Closed),
        },
        false => None,
    };
    let answer = shared.ask(|reply| Command::Broadcast { topic, data, permit, reply }).await;
    answer.unwrap_or(Err(SendError::Closed))
}

/// A peer, connected or not. Cheap to clone.
///
/// Messages of one task to one peer leave in the order of the calls.
#[derive(Clone)]
pub struct Peer {
    id: PeerId,
    /// Of the connection that was there when the handle was made.
    outbox: Option<Arc<Outbox>>,
    shared: Arc<Shared>,
}

impl Peer {
    pub(crate) fn connected(shared: Arc<Shared>, outbox: Arc<Outbox>) -> Self {
        Self { id: outbox.peer, outbox: Some(outbox), shared }
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Sends a message, and waits while there is no room for it: while others wait longer, or while the peer takes no
    /// more. `Ok` means that it will leave in its turn if the peer stays connected, not that it has arrived.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`], [`SendError::TooLarge`] or [`SendError::Closed`]. Nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the whole message or nothing. It gives up its place in the line.
    pub async fn send(&self, data: impl Into<Bytes>) -> Result<(), SendError> {
        let data = data.into();
        let outbox = self.outbox(data.len())?;
        let cost = Outbox::cost(data.len());
        let Ok(permit) = outbox.room.acquire_many(cost).await else {
            return Err(self.shared.unreachable(self.id));
        };
        permit.forget();
        if data.len() <= SURE_MESSAGE {
            return self.push(&outbox, Item { data, cost, then: Then::Nothing });
        }
        // Only the node knows what this peer takes in one piece.
        let (reply, answer) = oneshot::channel();
        self.push(&outbox, Item { data, cost, then: Then::Reply(reply) })?;
        answer.await.unwrap_or(Err(SendError::Closed))
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there is no room, else as those of [`send`](Self::send). Nothing was sent then.
    pub fn try_send(&self, data: impl Into<Bytes>) -> Result<(), SendError> {
        let data = data.into();
        let outbox = self.outbox(data.len())?;
        let cost = Outbox::cost(data.len());
        match outbox.room.try_acquire_many(cost) {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(SendError::Full),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(self.shared.unreachable(self.id)),
        }
        self.push(&outbox, Item { data, cost, then: Then::Nothing })
    }

    /// Whether the peer was connected when the handle was made and is so still.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| !outbox.room.is_closed())
    }

    /// What is known of the peer, or `None` if it is not connected.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn info(&self) -> Option<PeerInfo> {
        let peers = self.shared.ask(Command::Peers).await.unwrap_or_default();
        peers.into_iter().find(|info| info.id == self.id)
    }

    /// Says goodbye to the peer and forgets it. Nothing happens if it is not connected.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has disconnected the peer or has not.
    pub async fn disconnect(&self) {
        let peer = self.id;
        // If the node has ended, so has the connection.
        let _ = self.shared.ask(|reply| Command::Disconnect { peer, reply }).await;
    }

    /// The outbox of the connection there is now, if a message of this size can go into it.
    fn outbox(&self, len: usize) -> Result<Arc<Outbox>, SendError> {
        let known = self.outbox.as_ref().filter(|outbox| !outbox.room.is_closed()).cloned();
        let Some(outbox) = known.or_else(|| self.shared.outbox(&self.id)) else {
            return Err(self.shared.unreachable(self.id));
        };
        outbox.check(len)?;
        Ok(outbox)
    }

    fn push(&self, outbox: &Arc<Outbox>, item: Item) -> Result<(), SendError> {
        if self.shared.push(outbox, item) { Ok(()) } else { Err(self.shared.unreachable(self.id)) }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.id.short())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

impl PartialEq for Peer {
    /// The same peer, of the same or another connection.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Peer {}
