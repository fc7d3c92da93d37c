//! Keys and sessions of the v12 wire, which the existing Python, JavaScript and C++ nodes speak.
//!
//! A node has one X25519 key pair ([`Identity`]) and is named by the hash of its public key ([`NodeId`], 20 bytes; on
//! the wire mostly [`WireId`], the first 8). Two nodes swap public keys in the clear and each derives the
//! [`Session`] alone; data then travels sealed with ChaCha20-Poly1305 under a [`Nonce`] that is sent along.
//! [`TopicHash`] and [`xor_hash`] are the two other hashes of that wire.
//!
//! ```
//! use std::time::Duration;
//! use crypto::Seed;
//! use crypto::v12::{Identity, NonceSequence, Session};
//!
//! let mut rng = Seed::fixed(1).rng();
//! let alice = Identity::generate(&mut rng);
//! let bob = Identity::generate(&mut rng);
//! let from_alice = Session::derive(&alice, bob.public())?;
//! let from_bob = Session::derive(&bob, alice.public())?;
//!
//! // The time is the caller's: here some moment of 2025.
//! let mut nonces = NonceSequence::new(Duration::from_secs(1_750_000_000), &mut rng);
//! let nonce = nonces.next().ok_or("no nonce left")?;
//! let mut datagram = Vec::new();
//! from_alice.seal(nonce, &[&0u32.to_be_bytes(), b"hello"], &mut datagram);
//!
//! let (seen, text) = from_bob.open_in_place(&mut datagram)?;
//! assert_eq!(seen, nonce);
//! assert_eq!(text, b"\0\0\0\0hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What this wire does not give
//!
//! The format is fixed, so these are facts to build around and not bugs to repair here:
//!
//! - No forward secrecy: both keys are static, so whoever learns one opens all recorded traffic. Use a fresh
//!   [`Identity`] per run where the name need not last.
//! - The wire does not prove that an id belongs to a key. [`NodeId::of`] and [`NodeId::wire`] do: compare, and drop
//!   what does not match. 8 bytes can be forged with about 2^64 work, so tell peers apart by [`PublicKey`].
//! - A greeting proves no possession of the key. Only a datagram that [`Session::open_in_place`] accepts does, and
//!   only that its sender knew the key at some time: there is no replay protection in the format.
//! - Nothing but the sealed bytes is authenticated: not the frame type, not the addresses.
//! - The reference implementations start their counter at 0 in each run and therefore repeat nonces when a key
//!   is used again, which gives away the XOR of the messages and lets a listener forge them. [`NonceSequence`]
//!   keeps our own sending free of that; the direction from such a peer stays weak.

mod hash;
mod hex;
mod id;
mod identity;
mod nonce;
mod session;

pub use hash::{ParseTopicError, TopicHash, xor_hash};
pub use id::{NodeId, ParseIdError, PublicKey, WireId};
pub use identity::{Identity, SeedError};
pub use nonce::{Nonce, NonceSequence};
pub use session::{OpenError, Session, WeakKey};
