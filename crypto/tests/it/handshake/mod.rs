//! The handshakes: against another implementation, against public vectors, and against whoever changes a byte.

mod cookie;
mod flow;
mod hostile;
mod reference;
mod vectors;

use std::net::SocketAddr;
use std::time::Instant;

use crypto::handshake::{
    CAPABILITY_AES, HandshakeError, IkResponder, Incoming, InitPayload, InitR, Initiator, NetworkId, RespPayload,
    ResumeResponder, Ticket, VERSIONS, Xx1,
};
use crypto::{Identity, Rng, Seed};

const NETWORK: NetworkId = NetworkId::new([0; 32]);
const CID_I: [u8; 8] = *b"cid of i";
const CID_R: [u8; 8] = *b"cid of r";
const PSK: [u8; 32] = [0x5a; 32];

const HELLO: InitPayload = InitPayload {
    timestamp: 1_790_000_000_123_456_789,
    versions: VERSIONS,
    capabilities: CAPABILITY_AES,
    max_datagram: 1452,
};

fn welcome() -> RespPayload {
    RespPayload {
        versions: VERSIONS | 0x8000_0000,
        capabilities: CAPABILITY_AES | 0xff00,
        max_datagram: 1400,
        observed: addr("203.0.113.7:4000"),
        reset_token: *b"the reset token.",
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "where the time of a test begins")]
fn now() -> Instant {
    Instant::now()
}

fn rng(number: u64) -> Rng {
    Seed::fixed(number).rng()
}

fn alice() -> Identity {
    Identity::from_seed([1; 32])
}

fn bob() -> Identity {
    Identity::from_seed([2; 32])
}

fn ticket() -> Ticket {
    Ticket::new(*b"id of the ticket", PSK, bob().peer_id(), now())
}

fn dial_ik(rng: &mut Rng) -> Initiator {
    Initiator::ik(&alice(), bob().peer_id(), CID_I, &HELLO, NETWORK, rng).unwrap()
}

fn dial_xx(rng: &mut Rng) -> Initiator {
    Initiator::xx(&alice(), CID_I, &HELLO, NETWORK, rng).unwrap()
}

fn dial_resume(rng: &mut Rng) -> Initiator {
    Initiator::resume(ticket(), CID_I, &HELLO, NETWORK, rng).unwrap()
}

fn accept_ik(datagram: &[u8], identity: &Identity, network: NetworkId) -> Result<IkResponder, HandshakeError> {
    match Incoming::parse(datagram)? {
        Incoming::Init(init) => init.accept(identity, network),
        _ => Err(HandshakeError::WrongKind),
    }
}

fn init_r(datagram: &[u8]) -> Result<InitR<'_>, HandshakeError> {
    match Incoming::parse(datagram)? {
        Incoming::InitR(init) => Ok(init),
        _ => Err(HandshakeError::WrongKind),
    }
}

fn accept_resume(datagram: &[u8], psk: &[u8; 32], network: NetworkId) -> Result<ResumeResponder, HandshakeError> {
    init_r(datagram)?.accept(psk, network)
}

fn xx1(datagram: &[u8]) -> Result<Xx1<'_>, HandshakeError> {
    match Incoming::parse(datagram)? {
        Incoming::Xx1(xx1) => Ok(xx1),
        _ => Err(HandshakeError::WrongKind),
    }
}

/// The datagram with one bit turned over.
fn flipped(datagram: &[u8], bit: usize) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    datagram[bit / 8] ^= 1 << (bit % 8);
    datagram
}
