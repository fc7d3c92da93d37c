//! The datagrams of the distributed hash table (SPEC 11.2 and 11.3).
//!
//! ```text
//! D8 sealed    flags, sender 32, token 8, envelope (nonce 24, body, tag 16)
//! D9 hello     flags, echo 8, sender 32, zeros to 64 bytes
//! DA welcome   flags, echo 8, sender 32, token 8
//! DB retry     flags, echo 8, token 8
//! body         transaction 8, type 1, fields, anything   (`message/body.rs`)
//! ```
//!
//! No answer to an address that has not proved itself is longer than what it answers: a hello is as long as its padding, and
//! sealed requests without a valid token are [as long as they like the answer to be](Request::padded_len).

mod body;

use crypto::Rng;
use crypto::envelope::{self, SharedKeys};
use framing::{DecodeError, Reader, Writer};

use crate::NodeId;
pub use crate::Refused;
use crate::token::Token;

pub(crate) use body::PEERS_ROOM;
pub use body::{Answer, MAX_BODY, Message, Outcome, Request, Transaction};

/// What stands in front of every datagram, in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Front {
    /// A request or an answer, of which only the two nodes can make or read the body.
    Sealed {
        /// Who sealed it.
        sender: NodeId,
        /// What the receiver gave to the sender.
        token: Token,
        /// The first bytes of the nonce, which a [`Retry`](Self::Retry) repeats.
        echo: Echo,
        /// Whether the sender answers nobody, and so is not to be asked back.
        client: bool,
    },
    /// Asks the node at an address for its id. Needs no key.
    Hello {
        /// Random, for recognising the answer.
        echo: Echo,
        /// Who asks.
        sender: NodeId,
    },
    /// Answers a [`Hello`](Self::Hello).
    Welcome {
        /// That of the hello.
        echo: Echo,
        /// Who answers.
        sender: NodeId,
        /// To be shown in requests.
        token: Token,
    },
    /// Answers a sealed request without a valid token, opened or not: try again with this one.
    Retry {
        /// That of the sealed datagram.
        echo: Echo,
        /// To be shown in the next try.
        token: Token,
    },
}

/// Eight bytes that an answer in the clear repeats, so that only who saw the question can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Echo(pub [u8; 8]);

impl Front {
    /// Reads the front of a datagram. What stands behind its fields is passed over.
    ///
    /// # Errors
    /// [`DecodeError::Empty`], [`DecodeError::UnknownKind`], and [`DecodeError::Truncated`], also for a sealed datagram that has
    /// no room for a body and for a hello below 64 bytes.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let kind = reader.peek().ok_or(DecodeError::Empty)?;
        if !(SEALED..=RETRY).contains(&kind) {
            return Err(DecodeError::UnknownKind(kind));
        }
        let least = match kind {
            SEALED => FRONT + envelope::OVERHEAD + BODY,
            HELLO => HELLO_LEN,
            _ => 0,
        };
        if datagram.len() < least {
            return Err(DecodeError::Truncated);
        }
        let [_, flags] = reader.array()?;
        if kind == SEALED {
            let (sender, token) = (NodeId::from_bytes(reader.array()?), Token::from_bytes(reader.array()?));
            return Ok(Self::Sealed { sender, token, echo: Echo(reader.array()?), client: flags & CLIENT != 0 });
        }
        let echo = Echo(reader.array()?);
        Ok(match kind {
            HELLO => Self::Hello { echo, sender: NodeId::from_bytes(reader.array()?) },
            WELCOME => {
                let sender = NodeId::from_bytes(reader.array()?);
                Self::Welcome { echo, sender, token: Token::from_bytes(reader.array()?) }
            }
            _ => Self::Retry { echo, token: Token::from_bytes(reader.array()?) },
        })
    }

    /// The whole datagram of a front that is not [`Sealed`](Self::Sealed); of one that is, what stands before the envelope.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HELLO_LEN);
        let mut writer = Writer::new(&mut out);
        let mut start = |kind: u8| writer.put(&[kind, 0]);
        match self {
            Self::Sealed { sender, token, client, .. } => {
                writer.put(&[SEALED, if *client { CLIENT } else { 0 }]);
                writer.put(sender.as_bytes());
                writer.put(token.as_bytes());
            }
            Self::Hello { echo, sender } => {
                start(HELLO);
                writer.put(&echo.0);
                writer.put(sender.as_bytes());
                out.resize(HELLO_LEN, 0);
            }
            Self::Welcome { echo, sender, token } => {
                start(WELCOME);
                writer.put(&echo.0);
                writer.put(sender.as_bytes());
                writer.put(token.as_bytes());
            }
            Self::Retry { echo, token } => {
                start(RETRY);
                writer.put(&echo.0);
                writer.put(token.as_bytes());
            }
        }
        out
    }
}

/// Seals a body into a datagram from the owner of `keys`, who answers others, to the other one.
///
/// # Errors
/// [`envelope::SealError`] if the body is longer than the cipher takes.
pub fn seal(
    keys: &SharedKeys,
    sender: NodeId,
    token: Token,
    body: &[u8],
    rng: &mut Rng,
) -> Result<Vec<u8>, envelope::SealError> {
    seal_behind(&Front::Sealed { sender, token, echo: Echo([0; 8]), client: false }, keys, body, rng)
}

/// As [`seal`], behind any sealed front. Its echo is that of the datagram made, not the one given.
///
/// # Errors
/// As [`seal`].
pub fn seal_behind(
    front: &Front,
    keys: &SharedKeys,
    body: &[u8],
    rng: &mut Rng,
) -> Result<Vec<u8>, envelope::SealError> {
    let front = front.encode();
    let mut out = Vec::with_capacity(FRONT + envelope::OVERHEAD + body.len());
    out.extend_from_slice(&front);
    keys.seal(&front, rng, body, &mut out)?;
    Ok(out)
}

/// Opens a sealed datagram in place, and returns its body.
///
/// # Errors
/// [`envelope::OpenError`].
pub fn open<'a>(keys: &SharedKeys, datagram: &'a mut [u8]) -> Result<&'a mut [u8], envelope::OpenError> {
    let (front, envelope) = datagram.split_at_mut_checked(FRONT).ok_or(envelope::OpenError::TooShort)?;
    keys.open(front, envelope)
}

/// The bytes around a body.
pub const OVERHEAD: usize = FRONT + envelope::OVERHEAD;
/// The longest datagram that is sent: it fits into every path of IPv6 and nearly every one of IPv4.
pub const MAX_DATAGRAM: usize = 1200;

const SEALED: u8 = 0xd8;
const HELLO: u8 = 0xd9;
const WELCOME: u8 = 0xda;
const RETRY: u8 = 0xdb;

/// The flag of a sender who answers nobody.
const CLIENT: u8 = 0x01;
/// Kind, flags, sender, token.
const FRONT: usize = 2 + NodeId::LEN + Token::LEN;
/// Transaction and type.
const BODY: usize = 8 + 1;
const HELLO_LEN: usize = 64;
