//! One error per operation. Every variant says what happened, whether anything changed and what to do.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::Report;
use crate::{PeerId, TransportAddr};

/// Why a dial did not lead to a peer. No state remains of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Only IPv4 exists on the v12 wire.
    #[error("{addr} cannot be dialled: the v12 wire knows IPv4 only")]
    Unsupported {
        /// The address that was given.
        addr: SocketAddr,
    },
    /// Port 0, a multicast or an unspecified address.
    #[error("{addr} is not an address of a peer")]
    BadAddress {
        /// The address that was given.
        addr: SocketAddr,
    },
    /// The node has no socket that reaches the address: none of IPv6, perhaps, or not that transport.
    #[error("{addr} cannot be reached: this node has no {}", missing(*.addr))]
    NoWay {
        /// The address that was given.
        addr: SocketAddr,
    },
    /// Our own key answered.
    #[error("{addr} is this node itself")]
    Ourselves {
        /// The address that was dialled.
        addr: SocketAddr,
    },
    /// Nobody answered in time.
    #[error("no answer from {addr} within {} s", .after.as_secs_f32())]
    NoAnswer {
        /// The address that was dialled.
        addr: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The peer could be reached neither directly nor through a relay.
    #[error("no answer within {} s, and no circuit through {relays} relays: {reason}", .after.as_secs_f32())]
    Unrelayed {
        /// How long it was tried.
        after: Duration,
        /// How many relays were asked.
        relays: usize,
        /// What the last of them said.
        reason: relay::Code,
    },
    /// All dials that may be under way at once are; try again when one has ended.
    #[error("{limit} dials are under way already")]
    TooMany {
        /// How many may be under way at once.
        limit: usize,
    },
    /// No source knew an address at which the peer answered.
    #[error("the peer {} was not found within {} s ({report})", .peer.short(), .after.as_secs())]
    NotFound {
        /// Who was looked for.
        peer: PeerId,
        /// For how long.
        after: Duration,
        /// What the sources say.
        report: Report,
    },
    /// No address of the peer is known.
    #[error("no address of the peer is known")]
    NoAddress,
    /// The host name has no address.
    #[error("{host} has no address: {}", lookup(*.kind))]
    Unresolved {
        /// The name, with its port.
        host: String,
        /// What the resolver said.
        kind: io::ErrorKind,
    },
    /// The key is our own.
    #[error("the key to dial is our own")]
    OwnKey,
    /// The id is no Ed25519 key: that of a peer on the v12 wire, perhaps.
    #[error("{peer} is not an identity key")]
    BadKey {
        /// The id that was given.
        peer: PeerId,
    },
    /// Somebody else answered. Nothing was sent to it.
    #[error("{addr} is {obtained}, not the peer that was dialled")]
    WrongPeer {
        /// The address that was dialled.
        addr: SocketAddr,
        /// Whose key answered.
        obtained: PeerId,
    },
    /// The peer answered and closed the session.
    #[error("{addr} refused with code {code:#x}")]
    Refused {
        /// The address that was dialled.
        addr: SocketAddr,
        /// The code it gave (SPEC 8.9).
        code: u64,
    },
    /// The peer speaks no version that we speak.
    #[error("{addr} speaks no version of the protocol that this node speaks")]
    NoCommonVersion {
        /// The address that was dialled.
        addr: SocketAddr,
    },
    /// As many peers as the configuration allows are connected.
    #[error("{limit} peers are connected already")]
    Full {
        /// How many peers may be connected.
        limit: usize,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a name has no address. What the resolver says has mostly no kind of its own.
pub(crate) fn lookup(kind: io::ErrorKind) -> String {
    match kind.to_string() {
        text if text == "uncategorized error" => String::from("the name is not known, or no name server answers"),
        text => text,
    }
}

/// What it takes to reach an address.
fn missing(addr: SocketAddr) -> String {
    match TransportAddr::of(addr) {
        Some(place) => format!("transport {}", place.transport()),
        None if addr.is_ipv4() => String::from("socket for IPv4"),
        None => String::from("socket for IPv6"),
    }
}

/// Why a message was not accepted. Nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody with this id is connected.
    #[error("{peer} is not connected")]
    NotConnected {
        /// The peer in question.
        peer: PeerId,
    },
    /// The message is larger than one sealed datagram of this wire and this peer; split it.
    #[error("a message of {len} bytes is over the {max} that reach this peer in one sealed datagram")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The peer's queue is full: wait for room (`Writable`), or drop the message.
    #[error("the queue towards the peer is full")]
    Full,
    /// The peer has no such protocol, or has stopped it in this session.
    #[error("{peer} takes no messages")]
    Refused {
        /// The peer in question.
        peer: PeerId,
    },
    /// The topic has not been joined.
    #[error("the topic is not joined")]
    NotJoined,
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a topic was not joined. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The ticket names a peer and no topic: dial the peer.
    #[error("the ticket names no topic")]
    NoTopic,
    /// As many topics as the configuration allows are joined; leave one first.
    #[error("{limit} topics are joined already")]
    TooMany {
        /// How many may be joined.
        limit: usize,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a value was not stored. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A key has 1 to 255 bytes.
    #[error("a key has 1 to 255 bytes, not {len}")]
    Key {
        /// Bytes given.
        len: usize,
    },
    /// An empty value cannot be fetched by anybody on this wire.
    #[error("an empty value cannot be fetched")]
    Empty,
    /// The value is over the limit; split it.
    #[error("a value of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// This node stores as many values as it may.
    #[error("{limit} values are stored already")]
    Full {
        /// How many it may.
        limit: usize,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a value was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// A key has 1 to 255 bytes.
    #[error("a key has 1 to 255 bytes, not {len}")]
    Key {
        /// Bytes given.
        len: usize,
    },
    /// Nobody delivered the value in time.
    #[error("nobody delivered the value within {} s ({asked} peers were asked)", .after.as_secs_f32())]
    Timeout {
        /// How long was waited.
        after: Duration,
        /// How many peers were asked.
        asked: usize,
    },
    /// All fetches that may be under way at once are; try again when one has ended.
    #[error("{limit} fetches are under way already")]
    TooMany {
        /// How many may be under way at once.
        limit: usize,
    },
    /// The fetch was given up by the caller.
    #[error("the fetch was given up")]
    Cancelled,
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a node did not start, or does not listen on more. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program has the port. Choose another port, or port 0 for any that is free.
    #[error("{addr} is in use by another program: choose another port, or port 0 for any that is free")]
    AddrInUse {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The port is reserved (those below 1,024 mostly are), or a sandbox forbids sockets.
    #[error("no permission to bind {addr}: choose a port of 1024 or above")]
    PermissionDenied {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// No interface has the address.
    #[error("no interface of this machine has the address {}: choose one it has, or 0.0.0.0", .addr.ip())]
    AddrNotAvailable {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// Only IPv4 exists on the v12 wire.
    #[error("{addr} cannot be bound: the v12 wire knows IPv4 only")]
    Unsupported {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The seed cannot be read.
    #[cfg(feature = "v12")]
    #[error("unusable seed: {0}")]
    Seed(#[source] crypto::v12::SeedError),
    /// The file with nodes of the distributed hash table cannot be read, or is none. Remove it, or name another one.
    #[error("cannot read {}: {kind}", .path.display())]
    Cache {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        kind: io::ErrorKind,
    },
    /// A server is not named by an `http://` or `https://` URL.
    #[cfg(feature = "http")]
    #[error("{url:?} is no URL of a server: expected https://host or http://host:port")]
    Url {
        /// What was given, without the user and the password in it, if any.
        url: String,
    },
    /// The number of a transport is 0, or of two transports, or there are more than 8.
    #[error("there is no place for a transport with the number {id}")]
    Transport {
        /// The number.
        id: u16,
    },
    /// The datagrams of a transport are too short for sessions: see
    /// [`Transport::max_datagram`](crate::Transport::max_datagram).
    #[error("transport {id} takes datagrams of at most {longest} bytes, sessions need 1200")]
    ShortDatagrams {
        /// The number of the transport.
        id: u16,
        /// The longest datagram that it takes, in bytes.
        longest: usize,
    },
    /// The node listens on as much as it may, or was to begin with more. Stop something first, or name less.
    #[error("a node listens on {limit} addresses at most")]
    TooMany {
        /// How many may be.
        limit: usize,
    },
    /// The node has ended, and listens nowhere any more.
    #[error("the node has ended")]
    Closed,
    /// The operating system gave no entropy.
    #[error("the operating system gave no entropy")]
    Entropy,
    /// There is no tokio runtime here.
    #[error("a node must be started inside of a tokio runtime")]
    NoRuntime,
    /// The operating system refused for another reason.
    #[error("cannot bind {addr}: {kind}")]
    Other {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
}

impl BindError {
    #[cfg(feature = "tokio")]
    pub(crate) fn from_io(addr: SocketAddr, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddrInUse { addr },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { addr },
            io::ErrorKind::AddrNotAvailable => Self::AddrNotAvailable { addr },
            kind => Self::Other { addr, kind },
        }
    }
}

/// The node has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has ended")]
pub struct Closed;

/// Why no stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer is not connected by a native session. Dial it.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer takes no streams.
    #[error("the peer takes no streams")]
    Refused,
    /// As many streams to this peer as may wait for it to allow more do.
    #[error("{limit} streams wait to be opened already")]
    TooMany {
        /// How many may wait.
        limit: usize,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a stream broke off. What was read before is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The other side, or this one, gave it up with a code of the application.
    #[error("reset with code {code:#x}")]
    Reset {
        /// The code.
        code: u64,
    },
    /// Nobody at the other side takes streams of this protocol.
    #[error("the peer does not support the protocol")]
    Unsupported,
    /// The other side takes no more streams of this protocol now.
    #[error("the peer takes no more streams of the protocol now")]
    Refused,
    /// The application at the other side dropped the stream.
    #[error("the peer dropped the stream")]
    Dropped,
    /// The session is over.
    #[error("the peer is not connected any more")]
    Disconnected,
    /// The stream, or the node, has ended.
    #[error("the stream has ended")]
    Closed,
}

impl From<framing::StreamCode> for StreamError {
    fn from(code: framing::StreamCode) -> Self {
        use framing::StreamCode as Code;
        match code {
            Code::UNKNOWN_PROTOCOL => Self::Unsupported,
            Code::REFUSED | Code::REJECTED => Self::Refused,
            Code::CANCELLED => Self::Dropped,
            code => Self::Reset { code: code.as_application().unwrap_or(code.0) },
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Reset { .. } | StreamError::Dropped => io::ErrorKind::ConnectionReset,
            StreamError::Unsupported => io::ErrorKind::Unsupported,
            StreamError::Refused => io::ErrorKind::ConnectionRefused,
            StreamError::Disconnected => io::ErrorKind::NotConnected,
            StreamError::Closed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No answer came in time. The peer may have acted on the request.
    #[error("no answer within {} s", .after.as_secs_f32())]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The peer was not connected, and dialling it failed. It has not seen the request.
    #[error("the peer could not be dialled: {0}")]
    Dial(#[source] DialError),
    /// The session ended. The peer may have acted on the request.
    #[error("the session ended before the answer")]
    Disconnected,
    /// Nobody at the peer answers requests of this protocol.
    #[error("the peer does not support the protocol")]
    Unsupported,
    /// The peer has as many requests as it takes now. It has not acted on this one.
    #[error("the peer takes no more requests now")]
    Refused,
    /// The handler at the peer gave the request up.
    #[error("the peer rejected the request")]
    Rejected,
    /// The request is larger than the peer takes.
    #[error("the request is larger than the peer takes")]
    TooLarge,
    /// The answer is larger than the caller wants.
    #[error("the answer is larger than {max} bytes")]
    AnswerTooLarge {
        /// The most bytes that are taken.
        max: usize,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a request of a peer was not answered. The asking side has an error of its own, a [`RequestError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InboundError {
    /// The asking side gave up before it had the answer: its time was over, or nobody there waited any more. The wire does not
    /// tell these apart.
    #[error("the asking side gave up")]
    GivenUp,
    /// The handler rejected it, or dropped it without an answer: the peer may not ask this, for one.
    #[error("the request was rejected")]
    Rejected,
    /// Nobody here answers requests of that protocol.
    #[error("nobody answers requests of that protocol")]
    Unsupported,
    /// It is longer than whoever answers that protocol takes.
    #[error("the request is over the {max} bytes that are taken")]
    TooLarge {
        /// Bytes allowed.
        max: usize,
    },
    /// Too many requests wait, or they are too large together.
    #[error("there is no room for the request")]
    Full,
    /// It did not say, or not in time, what is asked of whom.
    #[error("the request does not say what for")]
    Unnamed,
    /// The session, or requests in it, ended before all of the answer had left.
    #[error("the session ended before the answer")]
    Closed,
}

impl From<framing::StreamCode> for RequestError {
    fn from(code: framing::StreamCode) -> Self {
        use framing::StreamCode as Code;
        match code {
            Code::UNKNOWN_PROTOCOL => Self::Unsupported,
            Code::REFUSED => Self::Refused,
            Code::TOO_LARGE => Self::TooLarge,
            _ => Self::Rejected,
        }
    }
}

/// Why a value was not looked for in the distributed hash table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// This node does not take part in the table.
    #[error("this node does not take part in the distributed hash table")]
    NoTable,
    /// No node of the table is known that could be asked. Name one to begin with, or wait for a peer.
    #[error("no node of the distributed hash table is known")]
    NobodyKnown,
    /// The id is no Ed25519 key.
    #[error("{signer} is not an identity key")]
    BadKey {
        /// The id that was given.
        signer: PeerId,
    },
    /// The node is busy looking for others. Try again.
    #[error("too many queries at a time")]
    Busy,
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Why a value was not put into the distributed hash table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// This node does not take part in the table.
    #[error("this node does not take part in the distributed hash table")]
    NoTable,
    /// The value, or its salt, is too long. Nothing was sent.
    #[error("{len} bytes where {max} fit")]
    TooLarge {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// This node keeps as many values alive as it may. Withdraw one.
    #[error("{limit} values are kept alive already")]
    Full {
        /// How many may be.
        limit: usize,
    },
    /// No node of the table is known that could keep it. Name one to begin with, or wait for a peer.
    #[error("no node of the distributed hash table is known")]
    NobodyKnown,
    /// Nodes were asked, and none answered.
    #[error("none of {asked} nodes answered")]
    NobodyAnswered {
        /// How many were asked.
        asked: u32,
    },
    /// Nobody keeps it.
    #[error("no node keeps the value: {reason}")]
    Refused {
        /// What the closest that answered said.
        reason: dht::Refused,
    },
    /// Something else was put in its place, or it was withdrawn, before it was known who keeps it.
    #[error("another value took its place")]
    Replaced,
    /// The node is busy looking for others. Try again.
    #[error("too many queries at a time")]
    Busy,
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

/// Somebody takes the streams, requests, messages or datagrams in question already, and there can be one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("taken already")]
pub struct Taken;
