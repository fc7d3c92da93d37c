//! What clients and relays tell each other in their session, on the protocol [`PROTOCOL`] (SPEC 14.3).
//!
//! Each message is a type and its fields; what stands behind them is not looked at, and unknown types are passed over, so that
//! later versions can add both. Types below 80 go to the relay, the others come from it: so two nodes can relay for each other
//! in one session.

use std::net::SocketAddr;
use std::time::Duration;

use crypto::PeerId;
use framing::{DecodeError, Reader, Writer, address};

use crate::{CircuitId, Code, limits};

/// The name of the protocol. Its version is 1.
pub const PROTOCOL: &str = "setowire/relay";

/// From a client to its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Keep, or renew, a place for me.
    Reserve {
        /// Whoever opens a circuit may know my address.
        show: bool,
    },
    /// I do not need it any more. What circuits there are stay.
    Release,
    /// Open a circuit to a peer with a reservation.
    Connect {
        /// Comes back with the answer.
        request: u32,
        /// The peer may know my address.
        show: bool,
        /// The peer.
        target: PeerId,
    },
    /// End a circuit, or refuse it.
    Close {
        /// Which, by our name for it.
        circuit: CircuitId,
        /// Why.
        code: Code,
    },
    /// Say that you are there.
    Ping([u8; 8]),
    /// Say which relays you know.
    Relays,
}

/// From a relay to a client; [`Places`](Self::Places) from any peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Your place is kept.
    Reserved {
        /// For so long, in whole seconds on the wire.
        lifetime: Duration,
        /// Bytes per second that a circuit carries.
        rate: u32,
        /// The proof for others: a [`Voucher`](framing::voucher::Voucher), not verified.
        voucher: Vec<u8>,
    },
    /// There is no place for you.
    Refused {
        /// Why.
        code: Code,
        /// When to ask again, in whole seconds on the wire.
        wait: Duration,
    },
    /// The circuit is open.
    Opened {
        /// As in the request.
        request: u32,
        /// Our name for it.
        circuit: CircuitId,
        /// Where the relay sees the other end, if that may be known.
        addr: Option<SocketAddr>,
    },
    /// The circuit was not opened.
    NotOpened {
        /// As in the request.
        request: u32,
        /// Why.
        code: Code,
    },
    /// A peer has opened a circuit to us.
    Incoming {
        /// Our name for it.
        circuit: CircuitId,
        /// Who: the relay says so, and only a handshake through the circuit proves it.
        peer: PeerId,
        /// Where the relay sees it, if that may be known.
        addr: Option<SocketAddr>,
    },
    /// A circuit has ended.
    Closed {
        /// Which, by our name for it.
        circuit: CircuitId,
        /// Why.
        code: Code,
    },
    /// I am there.
    Pong([u8; 8]),
    /// These relay, I among them if I do: at most [`MAX_NAMED`](limits::MAX_NAMED).
    Relays(Vec<(PeerId, SocketAddr)>),
    /// I have places at these: at most [`MAX_NAMED`](limits::MAX_NAMED). From any peer, not asked for.
    Places(Vec<(PeerId, SocketAddr)>),
}

/// A message of either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// To a relay.
    Request(Request),
    /// From a relay.
    Notice(Notice),
}

impl Message {
    /// Reads a message; `None` for a type that is not known.
    ///
    /// # Errors
    /// [`DecodeError::Empty`], [`DecodeError::Truncated`], [`DecodeError::BadKey`] for an id that is no key, and
    /// [`DecodeError::TooLong`] for a message above 512 bytes or a voucher above 220.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        if bytes.len() > limits::MAX_MESSAGE {
            return Err(DecodeError::TooLong { len: bytes.len(), max: limits::MAX_MESSAGE });
        }
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        Ok(Some(match reader.u8().map_err(|_truncated| DecodeError::Empty)? {
            RESERVE => Self::Request(Request::Reserve { show: shows(reader)? }),
            RELEASE => Self::Request(Request::Release),
            CONNECT => {
                let (request, show) = (reader.u32()?, shows(reader)?);
                Self::Request(Request::Connect { request, show, target: peer(reader)? })
            }
            CLOSE => Self::Request(Request::Close { circuit: circuit(reader)?, code: Code(reader.u8()?) }),
            PING => Self::Request(Request::Ping(reader.array()?)),
            RELAYS => Self::Request(Request::Relays),
            NAMED => Self::Notice(Notice::Relays(named(reader)?)),
            PLACES => Self::Notice(Notice::Places(named(reader)?)),
            RESERVED => {
                let (lifetime, rate) = (seconds(reader)?, reader.u32()?);
                let len = usize::from(reader.u16()?);
                if len > framing::limits::MAX_VOUCHER {
                    return Err(DecodeError::TooLong { len, max: framing::limits::MAX_VOUCHER });
                }
                Self::Notice(Notice::Reserved { lifetime, rate, voucher: reader.take(len)?.to_vec() })
            }
            REFUSED => Self::Notice(Notice::Refused { code: Code(reader.u8()?), wait: seconds(reader)? }),
            OPENED => {
                let (request, circuit) = (reader.u32()?, circuit(reader)?);
                Self::Notice(Notice::Opened { request, circuit, addr: shown(reader)? })
            }
            NOT_OPENED => Self::Notice(Notice::NotOpened { request: reader.u32()?, code: Code(reader.u8()?) }),
            INCOMING => {
                let (circuit, peer) = (circuit(reader)?, peer(reader)?);
                Self::Notice(Notice::Incoming { circuit, peer, addr: shown(reader)? })
            }
            CLOSED => Self::Notice(Notice::Closed { circuit: circuit(reader)?, code: Code(reader.u8()?) }),
            PONG => Self::Notice(Notice::Pong(reader.array()?)),
            _ => return Ok(None),
        }))
    }
}

impl Request {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40);
        let mut writer = Writer::new(&mut bytes);
        match self {
            Self::Reserve { show } => writer.put(&[RESERVE, u8::from(*show)]),
            Self::Release => writer.u8(RELEASE),
            Self::Connect { request, show, target } => {
                writer.u8(CONNECT);
                writer.u32(*request);
                writer.u8(u8::from(*show));
                writer.put(target.as_bytes());
            }
            Self::Close { circuit, code } => ending(CLOSE, *circuit, *code, &mut writer),
            Self::Ping(data) => {
                writer.u8(PING);
                writer.put(data);
            }
            Self::Relays => writer.u8(RELAYS),
        }
        bytes
    }
}

impl Notice {
    /// The bytes. A voucher above 220 bytes, which no relay makes, is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        let mut writer = Writer::new(&mut bytes);
        match self {
            Self::Reserved { lifetime, rate, voucher } => {
                writer.u8(RESERVED);
                writer.u32(whole(*lifetime));
                writer.u32(*rate);
                let voucher = voucher.get(..framing::limits::MAX_VOUCHER).unwrap_or(voucher);
                writer.u16(u16::try_from(voucher.len()).unwrap_or(u16::MAX));
                writer.put(voucher);
            }
            Self::Refused { code, wait } => {
                writer.put(&[REFUSED, code.0]);
                writer.u32(whole(*wait));
            }
            Self::Opened { request, circuit, addr } => {
                writer.u8(OPENED);
                writer.u32(*request);
                writer.put(circuit.as_bytes());
                writer.put(&hidden(*addr));
            }
            Self::NotOpened { request, code } => {
                writer.u8(NOT_OPENED);
                writer.u32(*request);
                writer.u8(code.0);
            }
            Self::Incoming { circuit, peer, addr } => {
                writer.u8(INCOMING);
                writer.put(circuit.as_bytes());
                writer.put(peer.as_bytes());
                writer.put(&hidden(*addr));
            }
            Self::Closed { circuit, code } => ending(CLOSED, *circuit, *code, &mut writer),
            Self::Pong(data) => {
                writer.u8(PONG);
                writer.put(data);
            }
            Self::Relays(relays) => naming(NAMED, relays, &mut writer),
            Self::Places(relays) => naming(PLACES, relays, &mut writer),
        }
        bytes
    }
}

/// What cannot be sent to is left out.
fn named(reader: &mut Reader<'_>) -> Result<Vec<(PeerId, SocketAddr)>, DecodeError> {
    let len = usize::from(reader.u8()?);
    if len > limits::MAX_NAMED {
        return Err(DecodeError::TooLong { len, max: limits::MAX_NAMED });
    }
    let mut relays = Vec::with_capacity(len);
    for _ in 0..len {
        let (relay, addr) = (peer(reader)?, shown(reader)?);
        relays.extend(addr.map(|addr| (relay, addr)));
    }
    Ok(relays)
}

fn naming(kind: u8, relays: &[(PeerId, SocketAddr)], writer: &mut Writer<'_>) {
    let relays = relays.get(..limits::MAX_NAMED).unwrap_or(relays);
    writer.put(&[kind, u8::try_from(relays.len()).unwrap_or(u8::MAX)]);
    for (relay, addr) in relays {
        writer.put(relay.as_bytes());
        writer.put(&address::encode(*addr));
    }
}

fn ending(kind: u8, circuit: CircuitId, code: Code, writer: &mut Writer<'_>) {
    writer.u8(kind);
    writer.put(circuit.as_bytes());
    writer.u8(code.0);
}

fn shows(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    Ok(reader.u8()? & SHOW != 0)
}

fn circuit(reader: &mut Reader<'_>) -> Result<CircuitId, DecodeError> {
    reader.array().map(CircuitId)
}

fn peer(reader: &mut Reader<'_>) -> Result<PeerId, DecodeError> {
    PeerId::from_bytes(reader.array()?).map_err(|_not_a_key| DecodeError::BadKey)
}

fn seconds(reader: &mut Reader<'_>) -> Result<Duration, DecodeError> {
    reader.u32().map(|seconds| Duration::from_secs(seconds.into()))
}

fn whole(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

/// An address, or zeros for one that is not shown.
fn shown(reader: &mut Reader<'_>) -> Result<Option<SocketAddr>, DecodeError> {
    let bytes: [u8; address::LEN] = reader.array()?;
    Ok(Some(address::decode(bytes)).filter(crate::network::is_usable))
}

fn hidden(addr: Option<SocketAddr>) -> [u8; address::LEN] {
    addr.map_or([0; address::LEN], address::encode)
}

/// The flag of those who may be told of.
const SHOW: u8 = 1;

const RESERVE: u8 = 0x00;
const RELEASE: u8 = 0x01;
const CONNECT: u8 = 0x02;
const CLOSE: u8 = 0x03;
const PING: u8 = 0x04;
const RELAYS: u8 = 0x05;
const RESERVED: u8 = 0x80;
const REFUSED: u8 = 0x81;
const OPENED: u8 = 0x82;
const NOT_OPENED: u8 = 0x83;
const INCOMING: u8 = 0x84;
const CLOSED: u8 = 0x85;
const PONG: u8 = 0x86;
const NAMED: u8 = 0x87;
const PLACES: u8 = 0x88;
