//! Why a handshake message was not accepted.

use crate::{PeerId, PeerIdError};

/// Why a handshake message was not accepted. No variant leaves a trace: the handshake goes on as if the message had
/// never come, and a later good one is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first byte is not that of the message which is due.
    #[error("not the handshake message that is due")]
    WrongKind,
    /// Shorter than the message of this kind is, or longer than [`MAX_MESSAGE`](super::MAX_MESSAGE).
    #[error("a handshake message of this kind cannot have {len} bytes")]
    WrongLength {
        /// Length in bytes.
        len: usize,
    },
    /// Layout generation 0, which does not exist.
    #[error("the layout version of the message is zero")]
    WrongVersion,
    /// It answers another attempt.
    #[error("the connection id is not that of this handshake")]
    WrongConnectionId,
    /// The first MAC does not fit: changed on the way, or made by somebody who does not know what it is keyed by.
    #[error("the first mac of the message is wrong")]
    WrongMac,
    /// The sealed part does not open: changed on the way, made for another key or network, or forged.
    #[error("the message was not made by the peer or was changed")]
    Unauthentic,
    /// A key of small order, which agrees on zero with everyone.
    #[error("a key of the message is of small order")]
    WeakKey,
    /// The other end holds this static key, and no identity can have it.
    #[error("the static key of the other end is not that of an identity: {0}")]
    BadIdentity(PeerIdError),
    /// Somebody else than expected answered. Nothing was sent to it that shows who we are.
    #[error("the peer that answered is {obtained}")]
    WrongPeer {
        /// Whose key answers there.
        obtained: PeerId,
    },
    /// The handshake is complete already.
    #[error("the handshake is complete")]
    Finished,
    /// A fault of this crate: nothing from the network leads here.
    #[error("a fault in the handshake code")]
    Internal,
}
