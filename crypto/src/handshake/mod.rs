//! The native handshakes: who is there, and keys that nobody else has.
//!
//! Three patterns of the [Noise Protocol Framework](https://noiseprotocol.org/noise.html), all with the suite
//! `25519_ChaChaPoly_SHA256`, each wrapped into datagrams with a header and MACs:
//!
//! | | messages | for |
//! |---|---|---|
//! | IK | INIT, RESP | a peer whose key is known: the usual case |
//! | XX | XX1, XX2, XX3 | an address without a key: it says whose it is |
//! | NNpsk0 | INIT_R, RESP_R | a peer that gave a [`Ticket`]: one key agreement instead of four |
//!
//! The dialling side is an [`Initiator`]. It makes one message, the same bytes at each retry, until
//! [`finish`](Initiator::finish) accepts an answer. The answering side keeps nothing before it has decided to answer:
//! [`Incoming::parse`] and the checks of [`Init`], [`InitR`] and [`Xx1`] are cheap, `accept` decrypts, `reply` answers.
//! Under load it demands a cookie first ([`CookieJar`](crate::CookieJar)), which costs it no key agreement and no
//! memory. Whatever fails, fails without a trace: see [`HandshakeError`].
//!
//! ```
//! use crypto::handshake::{CAPABILITY_AES, Incoming, Initiator, InitPayload, NetworkId, RespPayload, VERSIONS};
//! use crypto::{Identity, Seed};
//!
//! let (network, mut rng) = (NetworkId::default(), Seed::fixed(1).rng());
//! let (alice, bob) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
//!
//! // Alice knows Bob's key. The connection ids are what each wants to be reached by.
//! let hello = InitPayload { timestamp: 1_790_000_000_000_000_000, versions: VERSIONS, capabilities: 0, max_datagram: 1452 };
//! let mut dial = Initiator::ik(&alice, bob.peer_id(), *b"cid of A", &hello, network, &mut rng)?;
//!
//! // Bob gets `dial.message()`.
//! let Incoming::Init(init) = Incoming::parse(dial.message())? else { unreachable!() };
//! let accepted = init.accept(&bob, network)?;
//! assert_eq!(accepted.peer(), alice.peer_id());
//! let welcome = RespPayload {
//!     versions: VERSIONS,
//!     capabilities: CAPABILITY_AES,
//!     max_datagram: 1452,
//!     observed: "203.0.113.7:4000".parse()?,
//!     reset_token: rng.array(),
//! };
//! let (resp, at_bob) = accepted.reply(*b"cid of B", &welcome, &mut rng)?;
//!
//! // Alice gets `resp`.
//! let at_alice = dial.finish(&resp, None)?;
//! assert_eq!((at_alice.peer, at_alice.payload), (Some(bob.peer_id()), welcome));
//! assert_eq!(at_alice.secrets.hash(), at_bob.secrets.hash());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the layers above must do
//!
//! - **INIT and INIT_R can be replayed.** Who recorded one can send it again, from anywhere, and gets an answer he
//!   cannot use. The responder must treat what `reply` returned ([`Established::confirmed`] is false) as half open:
//!   send no data of the application, keep no more than a bounded number of them, end no older session for it, and
//!   forget it if no sealed packet follows. The first packet that opens proves that the initiator is there. A copy of a
//!   message that was answered gets the same answer again, from a bounded cache by [`Incoming::ephemeral`]; the
//!   [timestamp](InitPayload::timestamp) tells a new attempt from an old one.
//! - **The payload of INIT has no forward secrecy**: who steals the key of the responder reads it in old recordings,
//!   and who sent it. Say nothing secret in it. All that follows has.
//! - **XX1 proves nothing at all**, not even that its sender has a key. Answer it only to an address that is known to
//!   be able to receive ([`CookieJar`](crate::CookieJar)), or when idle.
//! - **RETRY is a hint** that anyone can send. It may make the initiator try another pattern, and nothing else.
//! - **The connection id of the responder is authenticated by the first packets**, not by the answer: a forger who saw
//!   the first message can change it on the way, and then both sides have keys that do not fit.

mod acquaintance;
mod error;
mod initiator;
pub(crate) mod mac;
mod negotiate;
mod payload;
mod responder;
mod secrets;
mod ticket;
mod wire;

use std::fmt;

pub use acquaintance::{Acquaintance, Acquaintances};
pub use error::HandshakeError;
pub use initiator::Initiator;
pub use negotiate::{CAPABILITY_AES, VERSIONS, Version, negotiate};
pub(crate) use payload::encode_address;
pub use payload::{InitPayload, RespPayload};
pub use responder::{IkResponder, Incoming, Init, InitR, ResumeResponder, Xx1, XxPending, XxResponder};
pub use secrets::SessionSecrets;
pub use ticket::Ticket;
pub use wire::{AnswerHeader, FirstHeader, Kind, MAX_MESSAGE};

use crate::PeerId;

/// Which network a node belongs to. Nodes of different networks cannot open each other's handshakes.
///
/// The default, all zero, is the public one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NetworkId([u8; 32]);

impl NetworkId {
    /// The network with this id. It is no secret, and keeps nobody out who knows it.
    pub const fn new(id: [u8; 32]) -> Self {
        Self(id)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkId(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A finished handshake, as one of its ends sees it. `P` is the payload of the other end.
#[derive(Debug)]
pub struct Established<P> {
    /// Whose key the other end proved, or for a resumed handshake of the initiator, whom the ticket is of. `None` at the
    /// responder of a resumed one: it knows whom it gave the ticket to.
    pub peer: Option<PeerId>,
    /// The connection id of the other end, which goes into what is sent to it.
    pub remote_cid: [u8; 8],
    /// What the other end said.
    pub payload: P,
    /// What the record keys are derived from.
    pub secrets: SessionSecrets,
    /// Whether the other end has proved that it is there now. If not, what looks like it may be a replay.
    pub confirmed: bool,
    /// XX3, for the initiator of XX: send it, and again until the first packet of the responder opens.
    pub xx3: Option<Vec<u8>>,
}

/// What both ends must agree on before the first message: a label, the network, and the header of that message.
fn prologue(network: NetworkId, header: &FirstHeader, ticket: Option<&[u8; 16]>) -> Vec<u8> {
    let ticket = ticket.map_or(&[][..], |id| id);
    [b"setowire native 1".as_slice(), &network.0, header, ticket].concat()
}
