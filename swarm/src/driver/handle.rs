//! The handles of a node and of a peer.

mod listening;
mod peer;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Stats;
use super::addresses::Addresses;
use super::builder::Builder;
use super::command::Command;
use super::events::Events;
use super::limits::{BODY_BYTES, INCOMING, PATIENCE, REQUESTS};
use super::queue::Overflow;
use super::request::{Requests, Responding, respond};
use super::shared::{Ending, Shared};
use super::stream::Incoming;
use super::subscriber::Subscriber;
use super::target::{DialTarget, Resolved};
use super::topic::Topic;
use crate::discovery::Report;
use crate::nat::Nat;
use crate::node::naming::Protocol;
use crate::{
    BindError, Closed, DialError, JoinError, PeerId, PeerInfo, RelayState, RelayStatus, SendError, Taken, Ticket,
    TopicId, Unsent,
};

pub use self::peer::Peer;
pub use self::table::{Dht, Mutable, Stored};

/// A running node. Cheap to clone; all clones are the same node.
///
/// When the last clone is dropped, peers get one burst of goodbyes and the node ends, whatever topics or peers are
/// still held. [`shutdown`](Self::shutdown) does the same and sends first what waits.
#[derive(Debug, Clone)]
pub struct Swarm {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
    #[cfg(feature = "v12")]
    legacy: Option<crate::v12::Swarm>,
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
        Self {
            _alive: Arc::new(Alive(Arc::clone(&shared))),
            shared,
            #[cfg(feature = "v12")]
            legacy: None,
        }
    }

    #[cfg(feature = "v12")]
    pub(crate) fn and_v12(mut self, legacy: Option<crate::v12::Swarm>) -> Self {
        self.legacy = legacy;
        self
    }

    /// A node with a fresh identity on a port of the system's choice, which finds others by multicast on the local
    /// network, and in the distributed hash table once it has peers. No third party is contacted.
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

    /// The part of this node that speaks the v12 wire, if it does: it has an identity, a socket and peers of its own.
    #[cfg(feature = "v12")]
    #[must_use]
    pub const fn v12(&self) -> Option<&crate::v12::Swarm> {
        self.legacy.as_ref()
    }

    /// Where others see this node, and what that says of the NAT in front of it, as far as it is known yet.
    /// [`SwarmEvent::Nat`](super::SwarmEvent::Nat) tells of changes.
    #[must_use]
    pub fn nat(&self) -> Nat {
        self.shared.nat()
    }

    /// Whether the router forwards a port to this node, which `Builder::port_mapping` asks it for.
    #[cfg(feature = "portmap")]
    #[cfg_attr(docsrs, doc(cfg(feature = "portmap")))]
    #[must_use]
    pub fn port_mapping(&self) -> crate::nat::PortMapping {
        self.shared.mapping.borrow().clone()
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
        let id = topic.into();
        let topic = Topic::join(&self.shared, id, announce, lookup)?;
        #[cfg(feature = "v12")]
        let topic = {
            let legacy = self.legacy.as_ref().map(|legacy| legacy.join_with(id, announce, lookup)).transpose()?;
            topic.with_v12(legacy)
        };
        Ok(topic)
    }

    /// Accepts an invitation: joins the topic of the ticket, and dials whoever made it, now and again with growing pauses
    /// while nobody is connected. Returns at once; the topic's events tell when somebody is there.
    ///
    /// # Errors
    ///
    /// [`JoinError::NoTopic`] if the ticket is for a peer only, else as those of [`join`](Self::join).
    pub fn join_ticket(&self, ticket: &Ticket) -> Result<Topic, JoinError> {
        let topic = self.join(ticket.topic_id().ok_or(JoinError::NoTopic)?)?;
        self.shared.add_seed(ticket.into());
        Ok(topic)
    }

    /// Connects to a peer. All addresses are tried at once, of names too; a peer who is connected is not dialled again.
    /// A peer that is named by its id is tried where [`addresses`](Self::addresses) knows it to be, too.
    /// One that does not answer within a second is looked for by its id meanwhile, if that is known, and one of whom nothing else
    /// is known is looked for, for half a minute, in the distributed hash table and, with
    /// `Builder::mainline`, on the Mainline DHT. A peer says there where it is as soon as it knows one other node; if that is after it is
    /// looked for, it is found after half a second more, or as long again as it has been looked for.
    ///
    /// ```no_run
    /// # async fn example(swarm: swarm::Swarm, id: swarm::PeerId) -> Result<(), Box<dyn std::error::Error>> {
    /// let somebody = swarm.dial(([192, 0, 2, 1], 4000)).await?;
    /// let bob = swarm.dial((id, "192.0.2.2:4000".parse::<std::net::SocketAddr>()?)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`DialError`], among others when nobody answers in time, or somebody else does.
    ///
    /// # Cancel safety
    ///
    /// The dial goes on when the future is dropped; [`events`](Self::events) tells of the peer.
    pub async fn dial(&self, target: impl Into<DialTarget>) -> Result<Peer, DialError> {
        self.shared.dial(target.into()).await.map(|id| self.peer(&id))
    }

    /// The addresses of peers that dials by their ids follow: to be added, removed, exported and imported.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses(Arc::clone(&self.shared))
    }

    /// An invitation to this node: its id, the addresses that its interfaces have now, those that others see it at, and the
    /// relays at which it has places. Where none of it is public it is of use on the same network.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        let found = super::lan::interfaces(&self.local_addrs());
        let mut addrs: Vec<SocketAddr> = found.into_iter().map(|interface| interface.addr).collect();
        // Who is on this machine can read the rest; scoped addresses mean nothing elsewhere.
        let local = |addr: &SocketAddr| match addr {
            SocketAddr::V4(addr) => addr.ip().is_loopback(),
            SocketAddr::V6(addr) => addr.ip().is_loopback() || addr.ip().is_unicast_link_local(),
        };
        if !addrs.iter().all(local) {
            addrs.retain(|addr| !local(addr));
        }
        let outward = self.shared.outward.borrow().clone();
        for addr in outward.addrs {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        let held = outward.relays.into_iter().filter(|relay| relay.state == RelayState::Held);
        held.fold(Ticket::new(self.id(), addrs), |ticket, relay| {
            // Of both families, if there are: nobody knows what the guest has.
            let first = relay.addrs.first().copied();
            let other =
                relay.addrs.iter().copied().find(|addr| Some(addr.is_ipv4()) != first.map(|first| first.is_ipv4()));
            let rest = relay.addrs.iter().copied().filter(|addr| Some(*addr) != first && Some(*addr) != other);
            ticket.relay(relay.relay, first.into_iter().chain(other).chain(rest))
        })
    }

    /// The relays that are known for a place, those that were named by `Builder::relays` and [`add_relay`](Self::add_relay) first:
    /// where this node has one, it can be reached through the relay by those whom it does not reach.
    #[must_use]
    pub fn relays(&self) -> Vec<RelayStatus> {
        self.shared.outward.borrow().relays.clone()
    }

    /// Names a relay, as `Builder::relays` does. One without an id is dialled to learn that, and one that is named by a byte stream to
    /// open it. Returns its id.
    ///
    /// # Errors
    ///
    /// [`DialError`] if who it is cannot be learned, [`DialError::TooMany`] if no more relays are remembered.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has named the relay or has not.
    pub async fn add_relay(&self, relay: impl Into<DialTarget>) -> Result<PeerId, DialError> {
        let target = relay.into();
        let Resolved { peer, addrs, streams } = target.clone().resolve().await?;
        let relay = match peer {
            Some(peer) if streams.is_empty() => peer,
            _ => self.dial(target).await?.id(),
        };
        let added = self.shared.ask(|reply| Command::AddRelay { relay, addrs, again: false, reply }).await;
        match added {
            Ok(true) => Ok(relay),
            Ok(false) => Err(DialError::TooMany { limit: relay::limits::MAX_RELAYS }),
            Err(_) => Err(DialError::Closed),
        }
    }

    /// Takes back that a relay was named, and gives up the place there. Others stay.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has told the node or has not.
    pub async fn remove_relay(&self, relay: &PeerId) {
        // A node that has ended has no relays.
        let _ = self.shared.commands.send(Command::RemoveRelay(*relay)).await;
    }

    /// The connected peers, by id. None once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        #[cfg_attr(not(feature = "v12"), expect(unused_mut, reason = "the other wire adds to it"))]
        let mut peers = self.shared.ask(Command::Peers).await.unwrap_or_default();
        #[cfg(feature = "v12")]
        if let Some(legacy) = &self.legacy {
            peers.extend(legacy.peers().await);
        }
        peers
    }

    /// The handle of a peer, connected or not.
    #[must_use]
    pub fn peer(&self, id: &PeerId) -> Peer {
        let conn = self.shared.conn(id);
        #[cfg(feature = "v12")]
        if conn.is_none()
            && let Some(legacy) = self.legacy.as_ref().map(|legacy| legacy.peer(id))
            && legacy.is_connected()
        {
            return Peer::v12(legacy);
        }
        Peer::native(Arc::clone(&self.shared), *id, conn)
    }

    /// Sends a message to every connected peer and tells how many it is on its way to. Waits up to a second for those
    /// without room, and leaves out those that have none by then.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if no peer takes a message of this size, [`SendError::Closed`] once the node has ended.
    /// Nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to some of the peers.
    pub async fn broadcast(&self, data: impl Into<Bytes>) -> Result<usize, SendError> {
        self.send_to_all(data.into(), usize::MAX, &[], true).await
    }

    /// As [`broadcast`](Self::broadcast), but peers without room are left out at once.
    ///
    /// # Errors
    ///
    /// As those of [`broadcast`](Self::broadcast).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to some of the peers.
    pub async fn try_broadcast(&self, data: impl Into<Bytes>) -> Result<usize, SendError> {
        self.send_to_all(data.into(), usize::MAX, &[], false).await
    }

    /// As [`broadcast`](Self::broadcast), but to at most `limit` peers of native sessions, chosen at random, and to none of `except`.
    ///
    /// # Errors
    ///
    /// As those of [`broadcast`](Self::broadcast).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the message to some of the peers.
    pub async fn broadcast_to(
        &self,
        limit: usize,
        except: &[PeerId],
        data: impl Into<Bytes>,
    ) -> Result<usize, SendError> {
        self.send_to_all(data.into(), limit, except, true).await
    }

    async fn send_to_all(&self, data: Bytes, limit: usize, except: &[PeerId], wait: bool) -> Result<usize, SendError> {
        if self.shared.is_closed() {
            return Err(SendError::Closed);
        }
        let mut conns = self.shared.conns();
        conns.retain(|conn| !except.contains(&conn.peer));
        if limit < conns.len() {
            self.shared.shuffle(&mut conns);
            conns.truncate(limit);
        }
        let (mut sent, mut full, mut too_large) = (0, Vec::new(), None);
        for conn in &conns {
            match conn.try_send(&data) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => full.push(conn),
                Err(error @ SendError::TooLarge { .. }) => too_large = Some(error),
                Err(_) => {}
            }
        }
        if wait && !full.is_empty() {
            let until = tokio::time::Instant::now() + PATIENCE;
            for conn in full {
                let attempt = tokio::time::timeout_at(until, conn.send(&data)).await;
                sent += usize::from(matches!(attempt, Ok(Ok(()))));
            }
        }
        #[cfg(feature = "v12")]
        if let Some(legacy) = self.legacy.as_ref().filter(|_| limit == usize::MAX && except.is_empty()) {
            let others = if wait { legacy.broadcast(data).await } else { legacy.try_broadcast(data).await };
            match others {
                Ok(others) => sent += others,
                Err(error @ SendError::TooLarge { .. }) => too_large = too_large.or(Some(error)),
                Err(_) => {}
            }
        }
        match too_large {
            Some(error) if sent == 0 => Err(error),
            _ => Ok(sent),
        }
    }

    /// Everything that happens from now on; peers that are connected already are told of first.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events_with(Overflow::default())
    }

    /// As [`events`](Self::events), with another answer to the question what becomes of messages that are not read. It
    /// is for native sessions; the v12 wire knows no other than the default.
    #[must_use]
    pub fn events_with(&self, overflow: Overflow) -> Events {
        let (subscriber, receiver) = Subscriber::new(None, overflow);
        self.shared.subscribe(subscriber);
        Events {
            receiver,
            #[cfg(feature = "v12")]
            legacy: self.legacy.as_ref().map(crate::v12::Swarm::events),
        }
    }

    /// Takes the streams that peers open for a protocol.
    ///
    /// # Errors
    ///
    /// [`Taken`] if somebody does already.
    pub fn accept(&self, protocol: Protocol) -> Result<Incoming, Taken> {
        let (sender, queue) = mpsc::channel(INCOMING);
        let added = self.shared.is_closed() || self.shared.services.add_acceptor(protocol.name(), sender);
        if added { Ok(Incoming { queue }) } else { Err(Taken) }
    }

    /// Takes the requests of a protocol: each is answered by [`Inbound::answer`](super::Inbound::answer).
    ///
    /// # Errors
    ///
    /// [`Taken`] if somebody does already.
    pub fn requests(&self, protocol: Protocol) -> Result<Requests, Taken> {
        self.requests_up_to(protocol, BODY_BYTES)
    }

    /// As [`requests`](Self::requests), for requests of at most `max` bytes instead of 1 MiB. Larger ones are refused.
    ///
    /// # Errors
    ///
    /// [`Taken`] if somebody takes them already.
    pub fn requests_up_to(&self, protocol: Protocol, max: usize) -> Result<Requests, Taken> {
        let (sender, queue) = mpsc::channel(REQUESTS);
        let added = self.shared.is_closed() || self.shared.services.add_responder(protocol.name(), max, sender);
        if added { Ok(Requests::new(queue)) } else { Err(Taken) }
    }

    /// Answers the requests of a protocol with a function. An `Err` rejects the request. Handlers that wait run side by
    /// side, 1024 at most; the returned value has to be kept as long as requests are to be answered.
    ///
    /// ```no_run
    /// # fn example(swarm: &swarm::Swarm) -> Result<(), swarm::Taken> {
    /// const ECHO: swarm::Protocol = swarm::Protocol::new("echo/1");
    /// let _echo = swarm.respond(ECHO, |_from, body| async move { Ok::<_, ()>(body) })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Taken`] if somebody answers them already.
    pub fn respond<H, F, T, E>(&self, protocol: Protocol, handler: H) -> Result<Responding, Taken>
    where
        H: Fn(PeerId, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Bytes> + Send + 'static,
        E: Send + 'static,
    {
        Ok(respond(self.requests(protocol)?, handler))
    }

    /// The network has changed: every session asks every path anew. To be called by programs that hear of it from the
    /// system; a machine that slept is noticed without it.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has told the node or has not.
    pub async fn network_changed(&self) {
        // A node that has ended has no paths.
        let _ = self.shared.commands.send(Command::Resume).await;
    }

    /// The distributed hash table.
    #[must_use]
    pub fn dht(&self) -> Dht {
        Dht::new(Arc::clone(&self.shared))
    }

    /// What every source of addresses beyond the local network does, on both wires, and what came of it.
    #[must_use]
    pub fn discovery(&self) -> Report {
        let ours = self.shared.discovery();
        #[cfg(feature = "v12")]
        if let Some(legacy) = &self.legacy {
            return ours.iter().chain(legacy.discovery().iter()).cloned().collect();
        }
        ours
    }

    /// What the node and its sockets count.
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

    /// Sends what waits, for at most `grace`, then says goodbye to every peer and closes the sockets; transports have a
    /// second more for the goodbyes, and are dropped. Tells what had not left by then. Every other call returns that the node is closed from the moment this is called.
    ///
    /// It cannot fail, takes little longer than `grace`, and may be called again: then it waits for the same end.
    ///
    /// # Cancel safety
    ///
    /// The node goes on ending when the future is dropped.
    pub async fn shutdown(&self, grace: Duration) -> Unsent {
        self.shared.end(Ending::Shutdown(grace));
        #[cfg(feature = "v12")]
        if let Some(legacy) = &self.legacy {
            let (mut unsent, others) = tokio::join!(self.shared.ended(), legacy.shutdown(grace));
            unsent.messages += others.messages;
            return unsent;
        }
        self.shared.ended().await
    }
}
