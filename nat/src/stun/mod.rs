//! STUN (RFC 8489) and the discovery of NAT behaviour with it (RFC 5780): what to ask a server, and what to answer.
//!
//! | module | content |
//! |---|---|
//! | this one | the codec: Binding requests, answers and errors |
//! | [`Client`] | a machine that asks servers and reports what they say |
//! | [`Server`] | answers Binding requests, within limits |
//!
//! Authentication, TCP and everything that is not Binding are left out: no server that tells us our address asks for them.

mod client;
mod server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use framing::{DecodeError, Reader};
use structs::Rejected;
use thiserror::Error;

pub use client::{Client, ClientError, Event};
pub use server::{Answer, Server, Via};

/// The number that connects an answer with its request. Random, drawn by who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(pub [u8; 12]);

/// From where a server is asked to answer (RFC 5780 section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Change {
    /// From its other IP address.
    pub ip: bool,
    /// From its other port.
    pub port: bool,
}

/// A Binding message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Which address do you see?
    Request {
        /// Repeated by the answer.
        transaction: Transaction,
        /// From where to answer.
        change: Change,
        /// It had a fingerprint, so the answer has one.
        fingerprint: bool,
    },
    /// This one.
    Success {
        /// That of the request.
        transaction: Transaction,
        /// Where the request came from.
        mapped: SocketAddr,
        /// The other address and port of the server, if it has them (RFC 5780 section 7.4).
        other: Option<SocketAddr>,
    },
    /// The request was refused.
    Error {
        /// That of the request.
        transaction: Transaction,
        /// 300 to 699.
        code: u16,
    },
    /// A request with attributes that have to be understood and are not, to be answered by error 420.
    Unknown {
        /// That of the request.
        transaction: Transaction,
        /// Their types, at most [`MAX_UNKNOWN`].
        types: Vec<u16>,
        /// It had a fingerprint, so the answer has one.
        fingerprint: bool,
    },
}

impl Message {
    /// The transaction.
    #[must_use]
    pub const fn transaction(&self) -> Transaction {
        match self {
            Self::Request { transaction, .. }
            | Self::Success { transaction, .. }
            | Self::Error { transaction, .. }
            | Self::Unknown { transaction, .. } => *transaction,
        }
    }

    /// Reads a whole datagram.
    ///
    /// Of an attribute that occurs twice the first counts, and behind MESSAGE-INTEGRITY only FINGERPRINT does (RFC 8489 section
    /// 14). Padding may be anything.
    ///
    /// # Errors
    /// [`StunError`]. A success without an address of the client is one: there is nothing else in it.
    pub fn decode(datagram: &[u8]) -> Result<Self, StunError> {
        let mut reader = Reader::new(datagram);
        let kind = reader.u16()?;
        let len = usize::from(reader.u16()?);
        if kind & 0xc000 != 0 || reader.u32()? != COOKIE {
            return Err(StunError::NotStun);
        }
        let transaction = Transaction(reader.array()?);
        if len != reader.len() || !len.is_multiple_of(4) {
            return Err(StunError::Length);
        }
        if datagram.len() > MAX_MESSAGE {
            return Err(StunError::TooLong);
        }
        let found = Attributes::read(datagram, reader, &transaction)?;
        let fingerprint = found.fingerprint;
        match kind {
            REQUEST if !found.unknown.is_empty() => {
                Ok(Self::Unknown { transaction, types: found.unknown, fingerprint })
            }
            REQUEST => Ok(Self::Request { transaction, change: found.change, fingerprint }),
            // An answer that is not understood is as if it were lost (RFC 8489 section 6.3.3).
            SUCCESS | ERROR if !found.unknown.is_empty() => Err(StunError::UnknownAttribute),
            SUCCESS => {
                let mapped = found.xor_mapped.or(found.mapped).ok_or(StunError::NoAddress)?;
                Ok(Self::Success { transaction, mapped, other: found.other })
            }
            ERROR => Ok(Self::Error { transaction, code: found.code.ok_or(StunError::Malformed)? }),
            _ => Err(StunError::UnknownKind),
        }
    }

    /// Writes a datagram. `fingerprint` says whether the success or the error has one; requests follow their own field.
    #[must_use]
    pub fn encode(&self, fingerprint: bool) -> Vec<u8> {
        let (kind, with_fingerprint) = match self {
            Self::Request { fingerprint, .. } => (REQUEST, *fingerprint),
            Self::Success { .. } => (SUCCESS, fingerprint),
            Self::Error { .. } => (ERROR, fingerprint),
            Self::Unknown { fingerprint, .. } => (ERROR, *fingerprint),
        };
        let transaction = self.transaction();
        let mut body = Vec::with_capacity(64);
        match self {
            Self::Request { change, .. } => {
                if *change != Change::default() {
                    let flags = u8::from(change.ip) << 2 | u8::from(change.port) << 1;
                    put(&mut body, CHANGE_REQUEST, &[0, 0, 0, flags]);
                }
            }
            Self::Success { mapped, other, .. } => {
                put(&mut body, XOR_MAPPED_ADDRESS, &encode_address(*mapped, Some(&transaction)));
                if let Some(other) = other {
                    put(&mut body, OTHER_ADDRESS, &encode_address(*other, None));
                }
            }
            Self::Error { code, .. } => put(&mut body, ERROR_CODE, &error_code(*code)),
            Self::Unknown { types, .. } => {
                put(&mut body, ERROR_CODE, &error_code(420));
                let types: Vec<u8> = types.iter().take(MAX_UNKNOWN).flat_map(|kind| kind.to_be_bytes()).collect();
                put(&mut body, UNKNOWN_ATTRIBUTES, &types);
            }
        }
        let len = body.len() + if with_fingerprint { FINGERPRINT_LEN } else { 0 };
        let mut out = Vec::with_capacity(HEADER + len);
        out.extend(kind.to_be_bytes());
        // A body of ours has at most 68 bytes.
        out.extend(u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(COOKIE.to_be_bytes());
        out.extend(transaction.0);
        out.extend(body);
        if with_fingerprint {
            let value = crc32(&out) ^ FINGERPRINT_MASK;
            put(&mut out, FINGERPRINT, &value.to_be_bytes());
        }
        out
    }
}

/// Whether a datagram may be STUN: the two highest bits are 0 and the cookie is there. No native and no v12 datagram is.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    let first = datagram.first().is_some_and(|first| first & 0xc0 == 0);
    first && datagram.get(4..8) == Some(&COOKIE.to_be_bytes())
}

/// Why a datagram is not a Binding message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StunError {
    /// It does not begin as STUN does.
    #[error("not a message of this protocol")]
    NotStun,
    /// Its length is not that of the datagram, or no multiple of four.
    #[error("the length does not fit")]
    Length,
    /// It is longer than any message that is expected.
    #[error("more than {MAX_MESSAGE} bytes")]
    TooLong,
    /// An attribute is cut off, or not of the length that it must have.
    #[error("malformed attribute")]
    Malformed,
    /// The fingerprint does not fit, or is not the last attribute.
    #[error("wrong fingerprint")]
    Fingerprint,
    /// Another method or class than is used here.
    #[error("not a binding request or an answer to one")]
    UnknownKind,
    /// An answer with an attribute that would have to be understood.
    #[error("an answer with an unknown attribute")]
    UnknownAttribute,
    /// A success that does not say what was asked.
    #[error("no address in the answer")]
    NoAddress,
}

impl From<DecodeError> for StunError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

impl From<StunError> for Rejected {
    fn from(error: StunError) -> Self {
        match error {
            StunError::NotStun | StunError::UnknownKind | StunError::UnknownAttribute => Self::UnknownKind,
            StunError::TooLong => Self::TooLarge,
            StunError::Length | StunError::Malformed | StunError::Fingerprint | StunError::NoAddress => Self::Malformed,
        }
    }
}

#[derive(Debug, Default)]
struct Attributes {
    mapped: Option<SocketAddr>,
    xor_mapped: Option<SocketAddr>,
    other: Option<SocketAddr>,
    change: Change,
    code: Option<u16>,
    unknown: Vec<u16>,
    fingerprint: bool,
}

impl Attributes {
    fn read(datagram: &[u8], mut reader: Reader<'_>, transaction: &Transaction) -> Result<Self, StunError> {
        let mut found = Self::default();
        let mut seen_change = false;
        let mut integrity = false;
        while !reader.is_empty() {
            let before = reader.len();
            let (kind, len) = (reader.u16()?, usize::from(reader.u16()?));
            let value = reader.take(len)?;
            reader.take(len.next_multiple_of(4) - len)?;
            if kind == FINGERPRINT {
                let covered = datagram.get(..datagram.len() - before).ok_or(StunError::Malformed)?;
                let expected = crc32(covered) ^ FINGERPRINT_MASK;
                if !reader.is_empty() || value != expected.to_be_bytes() {
                    return Err(StunError::Fingerprint);
                }
                found.fingerprint = true;
                continue;
            }
            if integrity {
                continue;
            }
            match kind {
                MAPPED_ADDRESS if found.mapped.is_none() => found.mapped = Some(decode_address(value, None)?),
                XOR_MAPPED_ADDRESS if found.xor_mapped.is_none() => {
                    found.xor_mapped = Some(decode_address(value, Some(transaction))?);
                }
                OTHER_ADDRESS if found.other.is_none() => found.other = Some(decode_address(value, None)?),
                CHANGE_REQUEST if !seen_change => {
                    let [.., flags] = <[u8; 4]>::try_from(value).or(Err(StunError::Malformed))?;
                    found.change = Change { ip: flags & 4 != 0, port: flags & 2 != 0 };
                    seen_change = true;
                }
                ERROR_CODE if found.code.is_none() => {
                    let mut reader = Reader::new(value);
                    let [_, _, class, number] = reader.array()?;
                    let class = class & 7;
                    if !(3..=6).contains(&class) || number > 99 {
                        return Err(StunError::Malformed);
                    }
                    found.code = Some(u16::from(class) * 100 + u16::from(number));
                }
                // Nothing to check it with, but of another length it would hide what follows.
                MESSAGE_INTEGRITY if len == 20 => integrity = true,
                MESSAGE_INTEGRITY_SHA256 if (16..=32).contains(&len) => integrity = true,
                MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => return Err(StunError::Malformed),
                _ if kind >= 0x8000 || KNOWN.contains(&kind) => {}
                // One that occurs twice is told once.
                _ if found.unknown.len() < MAX_UNKNOWN && !found.unknown.contains(&kind) => found.unknown.push(kind),
                _ => {}
            }
        }
        Ok(found)
    }
}

fn decode_address(value: &[u8], xor: Option<&Transaction>) -> Result<SocketAddr, StunError> {
    let mut reader = Reader::new(value);
    let [_, family] = reader.array()?;
    let mut port = reader.u16()?;
    let mask = mask(xor);
    if xor.is_some() {
        let [high, low, ..] = COOKIE.to_be_bytes();
        port ^= u16::from_be_bytes([high, low]);
    }
    let ip: IpAddr = match family {
        1 => {
            let mut ip: [u8; 4] = reader.array()?;
            ip.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            Ipv4Addr::from(ip).into()
        }
        2 => {
            let mut ip: [u8; 16] = reader.array()?;
            ip.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            Ipv6Addr::from(ip).into()
        }
        _ => return Err(StunError::Malformed),
    };
    reader.finish()?;
    Ok(SocketAddr::new(ip, port))
}

fn encode_address(addr: SocketAddr, xor: Option<&Transaction>) -> Vec<u8> {
    let mask = mask(xor);
    let mut port = addr.port();
    if xor.is_some() {
        let [high, low, ..] = COOKIE.to_be_bytes();
        port ^= u16::from_be_bytes([high, low]);
    }
    let (family, ip) = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut out = vec![0, family];
    out.extend(port.to_be_bytes());
    out.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    out
}

/// What addresses are masked with: the cookie, and for IPv6 the transaction (RFC 8489 section 14.2).
fn mask(xor: Option<&Transaction>) -> [u8; 16] {
    let mut mask = [0; 16];
    if let Some(Transaction(id)) = xor {
        let bytes = COOKIE.to_be_bytes().into_iter().chain(*id);
        mask.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }
    mask
}

fn error_code(code: u16) -> [u8; 4] {
    let [class, number] = [code / 100, code % 100].map(|part| u8::try_from(part).unwrap_or(0));
    [0, 0, class, number]
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The checksum of ITU-T V.42, as RFC 8489 section 14.7 has it. Bit by bit: messages are short and rare.
fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    !crc
}

/// The longest message that is read: a path of 576 bytes carries it (RFC 8489 section 6.1).
pub const MAX_MESSAGE: usize = 548;
/// Unknown attributes that are told to who sent them, so that the answer stays short.
pub const MAX_UNKNOWN: usize = 4;
/// The longest answer of [`Server`], over IPv6 with an other address and a fingerprint.
pub const MAX_ANSWER: usize = HEADER + 2 * (4 + 20) + FINGERPRINT_LEN;

const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_a442;
const FINGERPRINT_MASK: u32 = 0x5354_554e;
const FINGERPRINT_LEN: usize = 8;

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const CHANGE_REQUEST: u16 = 0x0003;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const OTHER_ADDRESS: u16 = 0x802c;
const FINGERPRINT: u16 = 0x8028;

/// Attributes below 8000 that are understood enough to be passed over: those above, and USERNAME, REALM, NONCE, USERHASH,
/// PASSWORD-ALGORITHM and PADDING.
const KNOWN: [u16; 13] = [
    MAPPED_ADDRESS,
    CHANGE_REQUEST,
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    0x0006,
    0x0014,
    0x0015,
    0x001d,
    0x001e,
    0x0026,
];
