//! The protocols of the sessions of a node.

use peer::mux::{Protocol, ProtocolId, Protocols};

use super::{asking, pex, topics};

/// The protocols that every session of a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolIds {
    /// Membership in topics, and publications.
    pub topic: ProtocolId,
    /// Messages and datagrams from peer to peer.
    pub message: ProtocolId,
    /// Streams, each of which names what it is for.
    pub stream: ProtocolId,
    /// Requests: a stream for each.
    pub request: ProtocolId,
    /// What peers and their relays tell each other.
    pub relay: ProtocolId,
    /// What peers tell each other of others, if they do.
    pub pex: Option<ProtocolId>,
    /// What peers do for each other in the distributed hash table.
    pub find: ProtocolId,
    /// What peers tell each other who look for a direct path.
    pub punch: ProtocolId,
}

/// The protocols of every session, and their ids.
#[expect(clippy::expect_used, reason = "names and versions are constants, which fit the announcement")]
pub(super) fn register(pex: bool) -> (Protocols, ProtocolIds) {
    let mut protocols = Protocols::new();
    let mut register = |name: &str, streams: bool| {
        let protocol = Protocol::new(name, 1).accepts_streams(streams).datagrams(name == MESSAGES);
        protocols.register(protocol).expect("a valid protocol")
    };
    let ids = ProtocolIds {
        topic: register(topics::PROTOCOL, false),
        message: register(MESSAGES, false),
        stream: register("setowire/stream", true),
        request: register("setowire/request", true),
        relay: register(relay::PROTOCOL, false),
        pex: pex.then(|| register(pex::PROTOCOL, false)),
        find: register(asking::PROTOCOL, false),
        punch: register(PUNCHING, false),
    };
    (protocols, ids)
}

/// The protocol of those who look for a direct path.
const PUNCHING: &str = "setowire/punch";
/// The protocol of messages and datagrams.
const MESSAGES: &str = "setowire/message";
