#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod aead;
mod cookie;
pub mod envelope;
pub mod handshake;
mod identity;
mod key_bytes;
mod noise;
mod peer_id;
#[doc(hidden)]
pub mod raw;
pub mod record;
pub mod rendezvous;
mod replay;
mod reset;
mod rng;
mod schedule;
mod seed;
mod sign;
pub mod topic;
#[cfg(feature = "v12")]
#[cfg_attr(docsrs, doc(cfg(feature = "v12")))]
pub mod v12;
mod x25519;

pub use aead::{Cipher, UnsupportedCipher};
pub use cookie::CookieJar;
pub use identity::Identity;
pub use key_bytes::{KEY_BYTES, KeyError, KeyType};
#[doc(hidden)]
pub use noise::Resolver;
pub use peer_id::{ParsePeerIdError, PeerId, PeerIdError};
pub use reset::ResetKey;
pub use rng::Rng;
#[cfg(feature = "os")]
pub use seed::EntropyError;
pub use seed::Seed;
pub use sign::{BadSignature, Context, NotSigned, Signature};
#[doc(hidden)]
pub use x25519::{Backend, KeyPair};
