//! What is inside sealed datagrams: requests and answers (SPEC 11.3).
//!
//! Records are bytes here. Whether they are what they must be is seen where they are stored, or looked for.

use std::net::SocketAddr;
use std::sync::Arc;

use framing::{DecodeError, Reader, Writer, address};

use crate::token::Token;
use crate::{Announcement, Contact, Family, Key, Kind, Refused, limits};

/// What connects an answer with its request. Random, drawn by who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(pub [u8; 8]);

/// What one node asks another. All can be repeated without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Who announced itself under `key`, and whom do you know near it?
    Peers {
        /// That of a topic on a day.
        key: Key,
        /// Which contacts are wanted; none of a node that is asked for more announcements.
        family: Option<Family>,
        /// From where on the circle on which announcements have their places.
        start: u32,
    },
    /// What lies under `key`, and whom do you know near it?
    Get {
        /// What kind of thing.
        kind: Kind,
        /// Where.
        key: Key,
        /// Which contacts are wanted.
        family: Family,
    },
    /// Keep this announcement.
    Announce {
        /// Under which key.
        key: Key,
        /// An [`Announcement`] for it.
        announcement: Arc<[u8]>,
        /// Which contacts near the key are wanted.
        family: Option<Family>,
    },
    /// Keep this under the key that follows from it.
    Put {
        /// What kind of thing.
        kind: Kind,
        /// An [`Item`](crate::Item).
        item: Arc<[u8]>,
        /// Which contacts near its key are wanted.
        family: Option<Family>,
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
            Self::Peers { .. } | Self::Get { .. } => MAX_BODY,
            Self::Announce { .. } | Self::Put { .. } => STORED_LEN,
        }
    }

    /// Whether it asks to keep something, for which a valid token is needed.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self, Self::Announce { .. } | Self::Put { .. })
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
    /// The answer to [`Request::Find`], and to others if nothing lies there: the closest first, at most 20.
    Nodes(Vec<Contact>),
    /// The answer to [`Request::Peers`].
    Peers {
        /// How many announcements lie there.
        total: u16,
        /// Where those go on that are left.
        next: u32,
        /// Some of them: bytes of [`Announcement`]s, not verified.
        announcements: Vec<Arc<[u8]>>,
        /// As in [`Nodes`](Self::Nodes), as many as fit.
        nodes: Vec<Contact>,
    },
    /// The answer to [`Request::Get`].
    Item {
        /// What lies there, [without what the asker knows](crate::Item::to_answer); not verified.
        item: Arc<[u8]>,
        /// As in [`Nodes`](Self::Nodes), as many as fit.
        nodes: Vec<Contact>,
    },
    /// The answer to [`Request::Announce`] and [`Request::Put`].
    Stored {
        /// For how many seconds it will be kept at most.
        seconds: u32,
        /// As in [`Nodes`](Self::Nodes), if they were wanted.
        nodes: Vec<Contact>,
    },
    /// It was not answered.
    Refused(Refused),
}

impl Outcome {
    /// The contacts in it.
    #[must_use]
    pub fn nodes(&self) -> &[Contact] {
        match self {
            Self::Nodes(nodes) | Self::Peers { nodes, .. } | Self::Item { nodes, .. } | Self::Stored { nodes, .. } => {
                nodes
            }
            Self::Pong | Self::Refused(_) => &[],
        }
    }
}

/// What is inside a sealed datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A question.
    Request(Transaction, Request),
    /// A question of a type that we do not know, or about a kind of thing that we do not; it is answered with
    /// [`Refused::Unknown`].
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
            let request = decode_request(kind, &mut reader)?;
            return Ok(request.map_or(Self::UnknownRequest(transaction), |request| Self::Request(transaction, request)));
        }
        let token = Token::from_bytes(reader.array()?);
        let observed = address::decode(reader.array()?);
        let outcome = match kind {
            PONG => Outcome::Pong,
            NODES => Outcome::Nodes(decode_nodes(&mut reader)?),
            PEERS => {
                let (total, next, count) = (reader.u16()?, reader.u32()?, reader.u8()?);
                let announcements = (0..count).map(|_| long_bytes(&mut reader)).collect::<Result<_, _>>()?;
                Outcome::Peers { total, next, announcements, nodes: decode_nodes(&mut reader)? }
            }
            ITEM => Outcome::Item { item: long_bytes(&mut reader)?, nodes: decode_nodes(&mut reader)? },
            STORED => Outcome::Stored { seconds: reader.u32()?, nodes: decode_nodes(&mut reader)? },
            REFUSED => Outcome::Refused(Refused::of(reader.u8()?)),
            other => return Err(DecodeError::UnknownFrame(other.into())),
        };
        Ok(Self::Answer(transaction, Answer { token, observed, outcome }))
    }

    /// Writes a body, filled with zeros to `least` bytes. Contacts that do not fit into `most` bytes, or above 20, are left
    /// out; everything else is written in any case.
    #[must_use]
    pub fn encode(&self, least: usize, most: usize) -> Vec<u8> {
        // With contacts an answer is about as long as one can be.
        let long = matches!(self, Self::Answer(_, answer) if !answer.outcome.nodes().is_empty());
        let mut out = Vec::with_capacity(least.max(if long { MAX_BODY } else { ANSWER }));
        match self {
            Self::Request(transaction, request) => {
                out.extend_from_slice(&transaction.0);
                encode_request(request, &mut Writer::new(&mut out));
            }
            Self::UnknownRequest(transaction) => {
                out.extend_from_slice(&transaction.0);
                out.push(PONG - 1);
            }
            Self::Answer(transaction, answer) => {
                out.extend_from_slice(&transaction.0);
                encode_answer(answer, most, &mut out);
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

/// A request of a type that we know.
fn decode_request(kind: u8, reader: &mut Reader<'_>) -> Result<Option<Request>, DecodeError> {
    Ok(Some(match kind {
        PING => Request::Ping,
        FIND => {
            let target = Key::from_bytes(reader.array()?);
            Request::Find { target, family: decode_family(reader)?.ok_or(DecodeError::OutOfRange)? }
        }
        GET_PEERS => {
            let key = Key::from_bytes(reader.array()?);
            Request::Peers { key, family: decode_family(reader)?, start: reader.u32()? }
        }
        GET => {
            let (kind, key) = (Kind::of(reader.u8()?), Key::from_bytes(reader.array()?));
            let family = decode_family(reader)?.ok_or(DecodeError::OutOfRange)?;
            let Some(kind) = kind else { return Ok(None) };
            Request::Get { kind, key, family }
        }
        ANNOUNCE => {
            let key = Key::from_bytes(reader.array()?);
            Request::Announce { key, announcement: long_bytes(reader)?, family: decode_family(reader)? }
        }
        PUT => {
            let (kind, item) = (Kind::of(reader.u8()?), long_bytes(reader)?);
            let family = decode_family(reader)?;
            let Some(kind) = kind else { return Ok(None) };
            Request::Put { kind, item, family }
        }
        _ => return Ok(None),
    }))
}

fn encode_request(request: &Request, writer: &mut Writer<'_>) {
    match request {
        Request::Ping => writer.u8(PING),
        Request::Find { target, family } => {
            writer.u8(FIND);
            writer.put(target.as_bytes());
            writer.u8(family_number(Some(*family)));
        }
        Request::Peers { key, family, start } => {
            writer.u8(GET_PEERS);
            writer.put(key.as_bytes());
            writer.u8(family_number(*family));
            writer.u32(*start);
        }
        Request::Get { kind, key, family } => {
            writer.u8(GET);
            writer.u8(*kind as u8);
            writer.put(key.as_bytes());
            writer.u8(family_number(Some(*family)));
        }
        Request::Announce { key, announcement, family } => {
            writer.u8(ANNOUNCE);
            writer.put(key.as_bytes());
            put_long_bytes(announcement, writer);
            writer.u8(family_number(*family));
        }
        Request::Put { kind, item, family } => {
            writer.u8(PUT);
            writer.u8(*kind as u8);
            put_long_bytes(item, writer);
            writer.u8(family_number(*family));
        }
    }
}

fn encode_answer(answer: &Answer, most: usize, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    writer.u8(match answer.outcome {
        Outcome::Pong => PONG,
        Outcome::Nodes(_) => NODES,
        Outcome::Peers { .. } => PEERS,
        Outcome::Item { .. } => ITEM,
        Outcome::Stored { .. } => STORED,
        Outcome::Refused(_) => REFUSED,
    });
    writer.put(answer.token.as_bytes());
    writer.put(&address::encode(answer.observed));
    match &answer.outcome {
        Outcome::Pong => {}
        Outcome::Nodes(nodes) => encode_nodes(nodes, most, out),
        Outcome::Peers { total, next, announcements, nodes } => {
            writer.u16(*total);
            writer.u32(*next);
            let count = u8::try_from(announcements.len()).unwrap_or(u8::MAX);
            writer.u8(count);
            for announcement in announcements.iter().take(count.into()) {
                put_long_bytes(announcement, &mut writer);
            }
            encode_nodes(nodes, most, out);
        }
        Outcome::Item { item, nodes } => {
            put_long_bytes(item, &mut writer);
            encode_nodes(nodes, most, out);
        }
        Outcome::Stored { seconds, nodes } => {
            writer.u32(*seconds);
            encode_nodes(nodes, most, out);
        }
        Outcome::Refused(reason) => writer.u8(reason.code()),
    }
}

/// As many contacts as fit into `most` bytes.
fn encode_nodes(nodes: &[Contact], most: usize, out: &mut Vec<u8>) {
    let room = most.saturating_sub(out.len() + 1) / Contact::LEN;
    let count = nodes.len().min(room).min(limits::K);
    let mut writer = Writer::new(out);
    writer.u8(u8::try_from(count).unwrap_or(u8::MAX));
    nodes.iter().take(count).for_each(|contact| contact.encode(&mut writer));
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

const fn family_number(family: Option<Family>) -> u8 {
    match family {
        None => 0,
        Some(Family::V4) => 4,
        Some(Family::V6) => 6,
    }
}

fn decode_family(reader: &mut Reader<'_>) -> Result<Option<Family>, DecodeError> {
    match reader.u8()? {
        0 => Ok(None),
        4 => Ok(Some(Family::V4)),
        6 => Ok(Some(Family::V6)),
        _ => Err(DecodeError::OutOfRange),
    }
}

/// `length u16`, bytes.
fn long_bytes(reader: &mut Reader<'_>) -> Result<Arc<[u8]>, DecodeError> {
    let len = usize::from(reader.u16()?);
    reader.take(len).map(Arc::from)
}

/// What is longer than its length can say is cut, and so will not verify. Everything that is made here is shorter.
fn put_long_bytes(bytes: &[u8], writer: &mut Writer<'_>) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    writer.u16(len);
    writer.put(bytes.get(..len.into()).unwrap_or_default());
}

/// The longest body that is sent.
pub const MAX_BODY: usize = super::MAX_DATAGRAM - super::OVERHEAD;
/// How many bytes of announcements, each with its length of 2, fit into an answer without contacts.
pub(crate) const PEERS_ROOM: usize = MAX_BODY - ANSWER - (2 + 4 + 1 + 1);
const _: () = assert!(STORED_LEN + limits::K * Contact::LEN <= MAX_BODY);
const _: () = assert!(PEERS_ROOM - limits::CONTACTS_BESIDE * Contact::LEN >= 2 + Announcement::MAX_LEN);
// A signed value in a PUT, and in an ITEM, where its signer and salt are left out.
const _: () = assert!(super::BODY + 1 + 2 + (32 + 1 + 8 + 64) + limits::MAX_VALUE < MAX_BODY);
const _: () = assert!(ANSWER + 2 + (8 + 64) + limits::MAX_VALUE < MAX_BODY);

const PING: u8 = 0x00;
const FIND: u8 = 0x01;
const GET_PEERS: u8 = 0x02;
const GET: u8 = 0x03;
const ANNOUNCE: u8 = 0x04;
const PUT: u8 = 0x05;
const PONG: u8 = 0x80;
const NODES: u8 = 0x81;
const PEERS: u8 = 0x82;
const ITEM: u8 = 0x83;
const STORED: u8 = 0x84;
const REFUSED: u8 = 0xff;

/// The fields that all answers have.
const ANSWER: usize = super::BODY + Token::LEN + address::LEN;
const STORED_LEN: usize = ANSWER + 4 + 1;
