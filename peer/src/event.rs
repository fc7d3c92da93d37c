//! What a session tells its owner.

use std::net::SocketAddr;

use crypto::PeerId;
use crypto::handshake::Ticket;
use framing::Role;
use structs::Path;

use crate::{Violation, mux};

/// What happened in a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is over: the other side holds the key of this id. Messages and streams of protocols that it has
    /// flow from [`Agreed`](mux::Event::Agreed) on.
    Connected(Connected),
    /// Something happened on a protocol, a stream or a message channel.
    Mux(mux::Event),
    /// Another path carries the session now.
    PathChanged(Path),
    /// Nothing has been answered for a while on the only path that there is, nor on the one taken instead of it. It is said once, until
    /// something is heard again. A
    /// path that is added now ([`Peer::add_path`](crate::Peer::add_path)) is used as soon as it is proved.
    Silent,
    /// The other side sees us at this address. One peer's word: ask several.
    Observed(SocketAddr),
    /// A ticket for the next handshake with this peer, to be used once. An [`Endpoint`](crate::Endpoint) keeps it.
    Ticket(Ticket),
    /// A ticket that was given to the other side: whoever answers its next handshake must know it. An
    /// [`Endpoint`](crate::Endpoint) keeps it.
    Issued(Ticket),
    /// The session has ended. It is the last event, and the machine is silent from here on.
    Closed(Closed),
}

/// How a session began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Who the other side has proved to be.
    pub peer: PeerId,
    /// Whether we dialled.
    pub role: Role,
    /// Whether a ticket of an earlier session shortened the handshake.
    pub resumed: bool,
    /// What the records are sealed with.
    pub cipher: crypto::Cipher,
    /// The path.
    pub path: Path,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: Reason,
    /// The channels on which messages were accepted that are not acknowledged, and what became of those.
    pub unfinished: Vec<Unfinished>,
}

/// Messages of one protocol and urgency that a session ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The protocol.
    pub protocol: mux::ProtocolId,
    /// Among these messages.
    pub urgency: mux::Urgency,
    /// How many were accepted, and what became of them.
    pub account: mux::Account,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// We closed it, and the other side knows or had the time to.
    Local {
        /// The code we gave.
        code: u64,
    },
    /// The other side closed it.
    Remote {
        /// The code it gave: below 0x100 those of SPEC 8.9, from there on the application's.
        code: u64,
        /// Its words, at most 256 bytes: untrusted text.
        reason: String,
    },
    /// The other side lost its state (it restarted) and said so with our token.
    Reset,
    /// Nobody answered the dial.
    NoAnswer,
    /// Somebody else answered the dial; nothing was sent to it.
    WrongPeer {
        /// Whose key it is.
        obtained: PeerId,
    },
    /// The other side speaks no version that we speak.
    NoCommonVersion,
    /// The peer left everything unanswered.
    TimedOut,
    /// Nothing happened for as long as the configuration allows.
    Idle,
    /// A newer session with the same peer took its place.
    Replaced,
    /// The other side broke the protocol.
    Violation(Violation),
    /// The keys have been used as often as they may be.
    KeyLimit,
    /// The owner gave it up without telling the other side.
    Abandoned,
}
