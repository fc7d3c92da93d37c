//! The frames, and how they are read.
//!
//! Decoding borrows and never allocates. A list (HAVE, IHAVE, BATCH, PEX) is walked once when the frame is decoded; its view then
//! iterates without errors. A list with one bad entry is refused as a whole: what follows a bad entry cannot be trusted to
//! begin where it seems to.
//!
//! HELLO, PING, PONG and GOAWAY may be longer than they need to be, as the reference nodes allow; every other frame must end where
//! its layout ends.

mod lists;
mod session;
mod sync;

use std::net::SocketAddrV4;

pub use lists::{Frames, FramesIter, Hashes, Pex, PexEntry, PexIter};
pub use session::{GoawayReason, Pong};
pub use sync::{Chunk, Keys, KeysIter};

use crypto::v12::{NodeId, PublicKey, WireId};

use super::encode;
use super::limits::{FRAG_DATA, LAN_TOPIC_MAX, MAX_DATAGRAM, NONCE, TAG};
use super::text;
use crate::{DecodeError, EncodeError, Reader};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $byte:literal,)*) => {
        /// What the first byte of a frame says it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $byte,)* }

        impl Kind {
            /// Every kind, in the order of their bytes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The kind that begins with `first`, if there is one.
            #[must_use]
            pub const fn of(first: u8) -> Option<Self> {
                match first { $($byte => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// DATA: an encrypted message.
    Data = 0x01,
    /// PING: a sign of life that asks for a PONG.
    Ping = 0x03,
    /// PONG: the answer to a PING.
    Pong = 0x04,
    /// IHAVE: hashes of messages seen; every reference node ignores it.
    Ihave = 0x07,
    /// LAN: the multicast beacon.
    Lan = 0x09,
    /// GOAWAY: the sender ends.
    Goaway = 0x0a,
    /// FRAG: a piece of a message, in plaintext.
    Frag = 0x0b,
    /// HAVE: keys of stored values.
    Have = 0x10,
    /// WANT: asks for a stored value.
    Want = 0x11,
    /// CHUNK: a stored value, or a part of it.
    Chunk = 0x12,
    /// BATCH: several frames in one datagram.
    Batch = 0x13,
    /// CHUNK_ACK: a part of a value arrived.
    ChunkAck = 0x14,
    /// RELAY_ANN: a node that introduces others.
    RelayAnn = 0x20,
    /// RELAY_REQ: asks to be introduced.
    RelayReq = 0x21,
    /// RELAY_FWD: introduces somebody.
    RelayFwd = 0x22,
    /// PEX: addresses of other nodes.
    Pex = 0x30,
    /// HELLO: the key of a node that dials.
    Hello = 0xa1,
    /// HELLO_ACK: the key of the node that was dialled.
    HelloAck = 0xa2,
}

impl Kind {
    /// The first byte of such a frame.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }
}

/// One frame, borrowing from the datagram it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `id8 · key32`, anything behind is ignored. Nothing proves that the id belongs to the key, or the key to the sender.
    Hello {
        /// The id that the sender claims.
        id: WireId,
        /// Its public key.
        key: PublicKey,
    },
    /// As [`Frame::Hello`], in answer to one.
    HelloAck {
        /// The id that the sender claims.
        id: WireId,
        /// Its public key.
        key: PublicKey,
    },
    /// `nonce12 · ciphertext · tag16`, at least 28 bytes, still sealed.
    Data(&'a [u8]),
    /// `time u64 · id20`, anything behind is kept.
    Ping {
        /// Milliseconds of the sender's clock; means nothing to others.
        time_ms: u64,
        /// The whole id of the sender.
        id: NodeId,
        /// What follows: nothing, from reference nodes.
        extra: &'a [u8],
    },
    /// The answer to a PING, in one of two forms.
    Pong(Pong<'a>),
    /// Hashes of messages seen, 8 bytes each.
    Ihave(Hashes<'a>),
    /// The text `id40hex:ip:port:topic`.
    Lan {
        /// The whole id of the sender.
        id: NodeId,
        /// Where it listens.
        addr: SocketAddrV4,
        /// The hexadecimal hash of the topic it joined: 12 characters, from C++ nodes 24; none before it joined.
        topic: Option<&'a str>,
    },
    /// The sender ends.
    Goaway {
        /// Why; reference nodes send a single byte, without a reason.
        reason: Option<GoawayReason>,
    },
    /// `id8 · index u16 · total u16 · data`, a piece of a plaintext message.
    Frag {
        /// Names the message; chosen at random by its sender.
        id: [u8; 8],
        /// The number of the piece, below `total`.
        index: u16,
        /// How many pieces there are, at least 1.
        total: u16,
        /// 1 to 1188 bytes.
        data: &'a [u8],
    },
    /// Keys of values that the sender has.
    Have(Keys<'a>),
    /// `klen u8 · key`: asks for a value.
    Want {
        /// Any bytes; reference nodes use UTF-8 text.
        key: &'a [u8],
    },
    /// A value, or a part of one.
    Chunk(Chunk<'a>),
    /// Frames that share this datagram.
    Batch(Frames<'a>),
    /// `klen u8 · key · index u16`: a part of a value arrived.
    ChunkAck {
        /// The key of the value.
        key: &'a [u8],
        /// The number of the part.
        index: u16,
    },
    /// `id8 · address`: the sender introduces others.
    RelayAnn {
        /// The id of the relay.
        id: WireId,
        /// Where it listens.
        addr: SocketAddrV4,
    },
    /// `id8 · id8 · address`: asks a relay for an introduction.
    RelayReq {
        /// Who asks.
        from: WireId,
        /// Whom it wants to meet.
        to: WireId,
        /// Where the asker listens.
        addr: SocketAddrV4,
    },
    /// `id8 · address`: a relay introduces somebody.
    RelayFwd {
        /// Who asked for it.
        from: WireId,
        /// Where it listens.
        addr: SocketAddrV4,
    },
    /// Addresses of other nodes.
    Pex(Pex<'a>),
}

impl<'a> Frame<'a> {
    /// Reads one frame, which is all of `bytes`.
    ///
    /// # Errors
    /// A [`DecodeError`] that says what is wrong with it. The frames inside a BATCH are not looked into beyond their lengths
    /// and that none of them is a BATCH.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8().or(Err(DecodeError::Empty))?;
        let kind = Kind::of(first).ok_or(DecodeError::UnknownKind(first))?;
        let frame = match kind {
            Kind::Data => return decode_data(reader.rest()),
            Kind::Ihave => return Hashes::decode(reader.rest()).map(Self::Ihave),
            Kind::Lan => return decode_lan(reader.rest()),
            Kind::Frag => return decode_frag(&mut reader),
            Kind::Pex => return Pex::decode(&mut reader).map(Self::Pex),
            Kind::Hello => {
                let (id, key) = (WireId::from(reader.array()?), PublicKey::from(reader.array()?));
                return Ok(Self::Hello { id, key });
            }
            Kind::HelloAck => {
                let (id, key) = (WireId::from(reader.array()?), PublicKey::from(reader.array()?));
                return Ok(Self::HelloAck { id, key });
            }
            Kind::Ping => {
                let (time_ms, id) = (reader.u64()?, NodeId::from(reader.array()?));
                return Ok(Self::Ping { time_ms, id, extra: reader.rest() });
            }
            Kind::Pong => return Pong::decode(&mut reader).map(Self::Pong),
            Kind::Goaway => {
                return Ok(Self::Goaway { reason: reader.u8().ok().map(GoawayReason::from_code) });
            }
            Kind::Have => Self::Have(Keys::decode(&mut reader)?),
            Kind::Want => Self::Want { key: reader.short_bytes()? },
            Kind::Chunk => Self::Chunk(Chunk::decode(&mut reader)?),
            Kind::Batch => Self::Batch(Frames::decode(&mut reader)?),
            Kind::ChunkAck => Self::ChunkAck { key: reader.short_bytes()?, index: reader.u16()? },
            Kind::RelayAnn => Self::RelayAnn { id: WireId::from(reader.array()?), addr: text::read_addr(&mut reader)? },
            Kind::RelayReq => Self::RelayReq {
                from: WireId::from(reader.array()?),
                to: WireId::from(reader.array()?),
                addr: text::read_addr(&mut reader)?,
            },
            Kind::RelayFwd => {
                Self::RelayFwd { from: WireId::from(reader.array()?), addr: text::read_addr(&mut reader)? }
            }
        };
        reader.finish()?;
        Ok(frame)
    }

    /// What its first byte is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Hello { .. } => Kind::Hello,
            Self::HelloAck { .. } => Kind::HelloAck,
            Self::Data(_) => Kind::Data,
            Self::Ping { .. } => Kind::Ping,
            Self::Pong(_) => Kind::Pong,
            Self::Ihave(_) => Kind::Ihave,
            Self::Lan { .. } => Kind::Lan,
            Self::Goaway { .. } => Kind::Goaway,
            Self::Frag { .. } => Kind::Frag,
            Self::Have(_) => Kind::Have,
            Self::Want { .. } => Kind::Want,
            Self::Chunk(_) => Kind::Chunk,
            Self::Batch(_) => Kind::Batch,
            Self::ChunkAck { .. } => Kind::ChunkAck,
            Self::RelayAnn { .. } => Kind::RelayAnn,
            Self::RelayReq { .. } => Kind::RelayReq,
            Self::RelayFwd { .. } => Kind::RelayFwd,
            Self::Pex(_) => Kind::Pex,
        }
    }

    /// Appends the frame to `out`.
    ///
    /// What [`Frame::decode`] gave always encodes, and to the bytes it came from, save for ignored bytes at the end of a HELLO,
    /// HELLO_ACK, PONG or GOAWAY, and the letters of the id in a LAN, which become lower case.
    ///
    /// # Errors
    /// An [`EncodeError`] if a field is outside its limits; `out` is as it was then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match *self {
            Self::Hello { id, key } => encode::hello(id, key, out),
            Self::HelloAck { id, key } => encode::hello_ack(id, key, out),
            Self::Data(sealed) => return encode::data(sealed, out),
            Self::Ping { time_ms, id, extra } => {
                encode::ping(time_ms, id, out);
                out.extend_from_slice(extra);
            }
            Self::Pong(Pong::Id(id)) => encode::pong(id, out),
            Self::Pong(Pong::Echo { time_ms, id, extra }) => encode::pong_echo(time_ms, id, extra, out),
            Self::Ihave(hashes) => return encode::ihave(hashes.iter(), out),
            Self::Lan { id, addr, topic } => return encode::lan(id, addr, topic, out),
            Self::Goaway { reason: Some(reason) } => encode::goaway(reason, out),
            Self::Goaway { reason: None } => out.push(Kind::Goaway.byte()),
            Self::Frag { id, index, total, data } => return encode::frag(id, index, total, data, out),
            Self::Have(keys) => return encode::have(keys.iter(), out),
            Self::Want { key } => return encode::want(key, out),
            Self::Chunk(Chunk::Whole { key, value }) => return encode::chunk(key, value, out),
            Self::Chunk(Chunk::Part { key, index, total, data }) => {
                return encode::chunk_part(key, index, total, data, out);
            }
            Self::Batch(frames) => return encode::batch(frames.iter(), out),
            Self::ChunkAck { key, index } => return encode::chunk_ack(key, index, out),
            Self::RelayAnn { id, addr } => return encode::relay_ann(id, addr, out),
            Self::RelayReq { from, to, addr } => return encode::relay_req(from, to, addr, out),
            Self::RelayFwd { from, addr } => return encode::relay_fwd(from, addr, out),
            Self::Pex(pex) if pex.is_compact() => return encode::pex_compact(pex.iter(), out),
            Self::Pex(pex) => return encode::pex(pex.iter(), out),
        }
        Ok(())
    }
}

fn decode_data(sealed: &[u8]) -> Result<Frame<'_>, DecodeError> {
    if sealed.len() < NONCE + TAG {
        return Err(DecodeError::Truncated);
    }
    if sealed.len() > MAX_DATAGRAM - 1 {
        return Err(DecodeError::TooLong { len: sealed.len(), max: MAX_DATAGRAM - 1 });
    }
    Ok(Frame::Data(sealed))
}

fn decode_frag<'a>(reader: &mut Reader<'a>) -> Result<Frame<'a>, DecodeError> {
    let (id, index, total) = (reader.array()?, reader.u16()?, reader.u16()?);
    let data = reader.rest();
    check_piece(index, total, data, FRAG_DATA)?;
    Ok(Frame::Frag { id, index, total, data })
}

/// `id40hex:ip:port:topic`, all four present; the topic may be empty.
fn decode_lan(text: &[u8]) -> Result<Frame<'_>, DecodeError> {
    let mut fields = text.splitn(4, |&byte| byte == b':');
    let mut field = || fields.next().ok_or(DecodeError::Truncated);
    let (id, ip, port, topic) = (field()?, field()?, field()?, field()?);
    let id = text::parse_id(id)?;
    let addr = text::addr(text::parse_ip(ip)?, text::parse_port(port)?)?;
    if topic.len() > LAN_TOPIC_MAX {
        return Err(DecodeError::TooLong { len: topic.len(), max: LAN_TOPIC_MAX });
    }
    if !is_topic(topic) {
        return Err(DecodeError::BadText);
    }
    let topic = str::from_utf8(topic).or(Err(DecodeError::BadText))?;
    Ok(Frame::Lan { id, addr, topic: (!topic.is_empty()).then_some(topic) })
}

/// Whether `topic` can be the last field of a beacon: hexadecimal digits only.
pub(crate) fn is_topic(topic: &[u8]) -> bool {
    topic.iter().all(u8::is_ascii_hexdigit)
}

/// What must hold for a numbered piece of something longer.
fn check_piece(index: u16, total: u16, data: &[u8], max: usize) -> Result<(), DecodeError> {
    if index >= total {
        return Err(DecodeError::BadIndex { index, total });
    }
    if data.is_empty() {
        return Err(DecodeError::EmptyPiece);
    }
    if data.len() > max {
        return Err(DecodeError::TooLong { len: data.len(), max });
    }
    Ok(())
}
