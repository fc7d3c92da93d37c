//! The datagrams of the distributed hash table (SPEC 11.2 and 11.3).
//!
//! ```text
//! D8 sealed    flags, sender 32, token 8, envelope (nonce 24, body, tag 16)
//! D9 hello     flags, echo 8, sender 32, zeros to 64 bytes
//! DA welcome   flags, echo 8, sender 32, token 8
//! DB retry     flags, echo 8, token 8
//! body         transaction 8, type 1, fields, anything
//! ```
//!
//! No answer to an address that has not proved itself is longer than what it answers: a hello is as long as its padding, and
//! sealed requests without a valid token are [as long as they like the answer to be](Request::padded_len).

use std::net::SocketAddr;

use crypto::Rng;
use crypto::envelope::{self, SharedKeys};
use framing::{DecodeError, Reader, Writer, address};
use thiserror::Error;

use crate::token::Token;
use crate::{Contact, Family, Key, NodeId, limits};

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
    /// Answers a sealed datagram without a valid token, which was not opened: try again with this one.
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
        reader.array::<2>()?; // kind; flags are not looked at
        if kind == SEALED {
            let (sender, token) = (NodeId::from_bytes(reader.array()?), Token::from_bytes(reader.array()?));
            return Ok(Self::Sealed { sender, token, echo: Echo(reader.array()?) });
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
            Self::Sealed { sender, token, .. } => {
                start(SEALED);
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

/// What connects an answer with its request. Random, drawn by who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(pub [u8; 8]);

/// What one node asks another. All can be repeated without harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Are you there?
    Ping,
    /// Whom do you know near `target`?
    Find {
        /// A place in the key space.
        target: Key,
        /// Which contacts are wanted.
        family: Family,
    },
}

impl Request {
    /// The least length of the body with which it gets a full answer from a node whose token we do not have.
    #[must_use]
    pub const fn padded_len(&self) -> usize {
        match self {
            // A refusal has one byte more than the answer.
            Self::Ping => ANSWER + 1,
            Self::Find { .. } => ANSWER + 1 + limits::K * Contact::LEN,
        }
    }
}

/// What one node answers another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For the next requests to this node.
    pub token: Token,
    /// The address that the request came from.
    pub observed: SocketAddr,
    /// What was asked for.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The answer to [`Request::Ping`].
    Pong,
    /// The answer to [`Request::Find`]: the closest first, at most 20.
    Nodes(Vec<Contact>),
    /// It was not answered.
    Refused(Refused),
}

/// Why a request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Refused {
    /// The other node does not know this type of request.
    #[error("the type of the request is not known to the other node")]
    Unknown,
    /// A reason that we do not know.
    #[error("refused with the unknown code {0}")]
    Other(u8),
}

/// What is inside a sealed datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A question.
    Request(Transaction, Request),
    /// A question of a type that we do not know; it is answered with [`Refused::Unknown`].
    UnknownRequest(Transaction),
    /// An answer.
    Answer(Transaction, Answer),
}

impl Message {
    /// Reads a body. What stands behind the fields is padding, or belongs to later versions.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`]; [`DecodeError::UnknownFrame`] for an answer of a type that we cannot have asked for;
    /// [`DecodeError::TooLong`] above 20 contacts, [`DecodeError::BadAddress`] if one cannot be sent to or is not of the family
    /// of the first, [`DecodeError::OutOfRange`] for a family that does not exist.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let transaction = Transaction(reader.array()?);
        let kind = reader.u8()?;
        if kind < PONG {
            return Ok(match kind {
                PING => Self::Request(transaction, Request::Ping),
                FIND => Self::Request(transaction, decode_find(&mut reader)?),
                _ => Self::UnknownRequest(transaction),
            });
        }
        let token = Token::from_bytes(reader.array()?);
        let observed = address::decode(reader.array()?);
        let outcome = match kind {
            PONG => Outcome::Pong,
            NODES => Outcome::Nodes(decode_nodes(&mut reader)?),
            REFUSED => Outcome::Refused(match reader.u8()? {
                0 => Refused::Unknown,
                other => Refused::Other(other),
            }),
            other => return Err(DecodeError::UnknownFrame(other.into())),
        };
        Ok(Self::Answer(transaction, Answer { token, observed, outcome }))
    }

    /// Writes a body, filled with zeros to `least` bytes. Contacts that do not fit into `most` bytes, or above 20, are left
    /// out; everything else is written in any case.
    #[must_use]
    pub fn encode(&self, least: usize, most: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(least.max(ANSWER));
        let mut writer = Writer::new(&mut out);
        match self {
            Self::Request(transaction, request) => {
                writer.put(&transaction.0);
                match request {
                    Request::Ping => writer.u8(PING),
                    Request::Find { target, family } => {
                        writer.u8(FIND);
                        writer.put(target.as_bytes());
                        writer.u8(match family {
                            Family::V4 => 4,
                            Family::V6 => 6,
                        });
                    }
                }
            }
            Self::UnknownRequest(transaction) => {
                writer.put(&transaction.0);
                writer.u8(PONG - 1);
            }
            Self::Answer(transaction, Answer { token, observed, outcome }) => {
                writer.put(&transaction.0);
                writer.u8(match outcome {
                    Outcome::Pong => PONG,
                    Outcome::Nodes(_) => NODES,
                    Outcome::Refused(_) => REFUSED,
                });
                writer.put(token.as_bytes());
                writer.put(&address::encode(*observed));
                match outcome {
                    Outcome::Pong => {}
                    Outcome::Nodes(nodes) => {
                        let room = most.saturating_sub(ANSWER + 1) / Contact::LEN;
                        let count = nodes.len().min(room).min(limits::K);
                        writer.u8(u8::try_from(count).unwrap_or(u8::MAX));
                        nodes.iter().take(count).for_each(|contact| contact.encode(&mut writer));
                    }
                    Outcome::Refused(Refused::Unknown) => writer.u8(0),
                    Outcome::Refused(Refused::Other(code)) => writer.u8(*code),
                }
            }
        }
        if out.len() < least {
            out.resize(least, 0);
        }
        out
    }

    /// The transaction.
    #[must_use]
    pub const fn transaction(&self) -> Transaction {
        match self {
            Self::Request(transaction, _) | Self::UnknownRequest(transaction) | Self::Answer(transaction, _) => {
                *transaction
            }
        }
    }
}

fn decode_find(reader: &mut Reader<'_>) -> Result<Request, DecodeError> {
    let target = Key::from_bytes(reader.array()?);
    let family = match reader.u8()? {
        4 => Family::V4,
        6 => Family::V6,
        _ => return Err(DecodeError::OutOfRange),
    };
    Ok(Request::Find { target, family })
}

fn decode_nodes(reader: &mut Reader<'_>) -> Result<Vec<Contact>, DecodeError> {
    let len = usize::from(reader.u8()?);
    if len > limits::K {
        return Err(DecodeError::TooLong { len, max: limits::K });
    }
    if reader.len() < len * Contact::LEN {
        return Err(DecodeError::Truncated);
    }
    let nodes = (0..len).map(|_| Contact::decode(reader)).collect::<Result<Vec<_>, _>>()?;
    let families = nodes.windows(2).all(|pair| match pair {
        [a, b] => Family::of(&a.addr) == Family::of(&b.addr),
        _ => true,
    });
    if families { Ok(nodes) } else { Err(DecodeError::BadAddress) }
}

/// Seals a body into a datagram from the owner of `keys` to the other one.
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
    let front = Front::Sealed { sender, token, echo: Echo([0; 8]) }.encode();
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
const _: () = assert!(OVERHEAD + ANSWER + 1 + limits::K * Contact::LEN <= MAX_DATAGRAM);

const SEALED: u8 = 0xd8;
const HELLO: u8 = 0xd9;
const WELCOME: u8 = 0xda;
const RETRY: u8 = 0xdb;

const PING: u8 = 0x00;
const FIND: u8 = 0x01;
const PONG: u8 = 0x80;
const NODES: u8 = 0x81;
const REFUSED: u8 = 0xff;

/// Kind, flags, sender, token.
const FRONT: usize = 2 + NodeId::LEN + Token::LEN;
/// Transaction and type.
const BODY: usize = 8 + 1;
/// The fields that all answers have.
const ANSWER: usize = BODY + Token::LEN + address::LEN;
const HELLO_LEN: usize = 64;
