//! Sealed packets, against the definition of the wire, other implementations and a model.

mod definition;
mod generations;
mod model;
mod packets;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crypto::handshake::SessionSecrets;
use crypto::raw::Backend;
use crypto::record::{OpenError, Opened, RecordKeys};
use crypto::{Cipher, Seed};

/// Every implementation of this build with every cipher that it has.
fn combinations() -> Vec<(Cipher, Backend)> {
    vec![
        (Cipher::ChaCha20Poly1305, Backend::RustCrypto),
        #[cfg(feature = "fast")]
        (Cipher::ChaCha20Poly1305, Backend::Ring),
        #[cfg(feature = "fast")]
        (Cipher::Aes256Gcm, Backend::Ring),
    ]
}

/// What a handshake leaves to the two ends.
fn secrets(seed: u64) -> [SessionSecrets; 2] {
    let parts = || {
        let mut rng = Seed::fixed(seed).fork("handshake").rng();
        (rng.array(), rng.array(), rng.array(), rng.array())
    };
    [true, false].map(|initiator| {
        let (k_i, k_r, hash, answer) = parts();
        SessionSecrets::new(k_i, k_r, hash, answer, initiator)
    })
}

/// The initiator and the responder of a session.
fn pair((cipher, backend): (Cipher, Backend)) -> [RecordKeys; 2] {
    secrets(1).map(|secrets| RecordKeys::with_backend(&secrets, cipher, backend).unwrap())
}

const CID: [u8; 8] = *b"conn-id!";

/// A packet before it is sealed.
fn unsealed(text: &[u8]) -> Vec<u8> {
    [&[0], &CID[..], &[0; 4], text, &[0; 16]].concat()
}

fn sealed(keys: &mut RecordKeys, pn: u64, text: &[u8]) -> Vec<u8> {
    let mut packet = unsealed(text);
    keys.seal(&mut packet, pn).unwrap();
    packet
}

/// Opens a copy, and returns the number, the generation and the text.
fn open(keys: &mut RecordKeys, packet: &[u8], now: Instant) -> Result<(u64, u64, Vec<u8>), OpenError> {
    let mut packet = packet.to_vec();
    let Opened { pn, generation, payload, .. } = keys.open(&mut packet, now)?;
    Ok((pn, generation, payload.to_vec()))
}

/// Some instant; which one does not matter.
fn at(seconds: u64) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the one way to get an instant; only differences count")]
    static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BASE + Duration::from_secs(seconds)
}
