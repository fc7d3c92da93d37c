//! What a node tells its owner.

use std::net::SocketAddr;

use bytes::Bytes;
use crypto::Cipher;
use peer::{Handle, Unfinished, mux};
use structs::Path;

use crate::nat::Nat;
use crate::{DialError, DialId, DisconnectReason, PeerId, TopicId};

/// How a session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Who the other side has proved to be.
    pub peer: PeerId,
    /// Where it is.
    pub addr: SocketAddr,
    /// Whether a ticket of an earlier session shortened the handshake.
    pub resumed: bool,
    /// What the packets are sealed with.
    pub cipher: Cipher,
}

/// What happened in a [`Node`](super::Node).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A session is open. If there was one with the same peer, this one takes its place, and the end of the other is
    /// told later.
    Connected {
        /// Which.
        session: Handle,
        /// With whom, and how.
        connection: Connection,
    },
    /// A dial ended with an open session, newly or already.
    Dialled {
        /// The dial.
        id: DialId,
        /// Who answered.
        peer: PeerId,
    },
    /// A dial failed.
    DialFailed {
        /// The dial.
        id: DialId,
        /// Why.
        error: DialError,
    },
    /// Something happened on a protocol of the application, a stream or a message channel.
    Session {
        /// In this session.
        session: Handle,
        /// What.
        event: mux::Event,
    },
    /// A session goes another way now.
    Moved {
        /// Which.
        session: Handle,
        /// The way.
        path: Path,
    },
    /// A peer sees us at this address: one peer's word.
    Observed {
        /// Who says so.
        session: Handle,
        /// The address.
        addr: SocketAddr,
    },
    /// A peer proved to be in a topic that we are in.
    Joined {
        /// The topic.
        topic: TopicId,
        /// In this session.
        session: Handle,
        /// Who.
        peer: PeerId,
    },
    /// A peer left a topic, or its session ended.
    Left {
        /// The topic.
        topic: TopicId,
        /// In this session.
        session: Handle,
        /// Who.
        peer: PeerId,
    },
    /// Somebody published in a topic.
    Publication {
        /// The topic.
        topic: TopicId,
        /// It came in this session.
        session: Handle,
        /// Who published.
        from: PeerId,
        /// The content.
        data: Bytes,
    },
    /// A peer that was [asked for others](super::Node::ask_for_others) has answered.
    Others {
        /// In this session.
        session: Handle,
        /// Who.
        peer: PeerId,
        /// How many it named.
        count: usize,
    },
    /// What became of a query in the distributed hash table.
    Table(dht::Event),
    /// A peer names the key that it has on the v12 wire.
    V12Key {
        /// In this session.
        session: Handle,
        /// Its X25519 key there.
        key: [u8; 32],
    },
    /// A session is over.
    Disconnected {
        /// Which.
        session: Handle,
        /// With whom.
        peer: PeerId,
        /// Why.
        reason: DisconnectReason,
        /// Messages that were accepted and are not acknowledged.
        unfinished: Vec<Unfinished>,
    },
    /// The relays at which this node has a place, or their vouchers, are others now: see
    /// [`vouchers`](super::Node::vouchers). They belong into what the node publishes, in the same step.
    RelaysChanged,
    /// A relay gave this node no place, or took it back.
    RelayRefused {
        /// Which.
        relay: PeerId,
        /// Why.
        code: relay::Code,
    },
    /// What is known of where others see this node, and of its NAT, is something else now.
    Nat(Box<Nat>),
    /// So many more UDP sockets are wanted, of IPv4 and with a port each: [`Link::Socket`](structs::Link::Socket) with the numbers
    /// from `first` on. [`sockets_opened`](super::Node::sockets_opened) says that they are there.
    OpenSockets {
        /// The number of the first.
        first: u32,
        /// How many.
        count: u16,
    },
    /// These sockets are not needed any more.
    CloseSockets {
        /// The number of the first.
        first: u32,
        /// How many.
        count: u16,
    },
    /// The node has ended. It is the last event.
    Closed,
}
