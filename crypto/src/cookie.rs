//! Proof of address without memory: what a responder under load asks for before it does any work.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::handshake::mac::{self, MAC};
use crate::handshake::{Incoming, Kind, encode_address};
use crate::{Identity, Rng, Seed};

/// Makes and checks cookies: MACs of an address under a secret that changes every [two minutes](Self::PERIOD).
///
/// COOKIE answers a first message, in less than its length, with a cookie that only its sender can open; the message
/// that is then sent again carries a MAC keyed with the cookie. A cookie is good for its period and the next. All that
/// is kept is two secrets, whoever many ask. The secrets are wiped when they go out of use and on drop.
pub struct CookieJar {
    rng: Rng,
    /// Of this period and the one before.
    secrets: [[u8; 32]; 2],
    /// When this period began; `None` before the first use.
    since: Option<Instant>,
}

impl CookieJar {
    /// How long a secret makes new cookies.
    pub const PERIOD: Duration = Duration::from_secs(120);

    /// A jar with secrets of its own. Use a seed that nothing else uses.
    pub fn new(seed: &Seed) -> Self {
        let mut rng = seed.rng();
        Self { secrets: [rng.array(), rng.array()], rng, since: None }
    }

    /// The cookie of an address: HMAC-SHA-256 of its 16 bytes of IPv6 (or mapped IPv4) and 2 of port, cut to 16 bytes.
    pub fn cookie_for(&mut self, addr: SocketAddr, now: Instant) -> [u8; MAC] {
        self.rotate(now);
        let [current, _] = &self.secrets;
        mac::mac(current, &encode_address(addr))
    }

    /// Whether the message shows that its sender got a cookie at this address.
    pub fn check_mac2(&mut self, incoming: &Incoming<'_>, addr: SocketAddr, now: Instant) -> bool {
        self.rotate(now);
        let addr = encode_address(addr);
        let (before, mac2) = incoming.mac2();
        self.secrets.iter().any(|secret| mac::verify(&mac::mac(secret, &addr), before, mac2))
    }

    /// COOKIE for a first message from `addr`: 68 bytes, which is less than any of them has.
    ///
    /// `psk` is the key of the ticket that an INIT_R is made with; `None` if it is unknown, and then there is no answer
    /// but [RETRY](crate::handshake::InitR::retry). Check mac1 before, so that this answers nobody who only guesses.
    pub fn answer(
        &mut self,
        incoming: &Incoming<'_>,
        identity: &Identity,
        psk: Option<&[u8; 32]>,
        addr: SocketAddr,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let cookie = self.cookie_for(addr, now);
        let nonce = self.rng.array();
        let hash;
        let (key, aad): (_, &[u8]) = match (incoming, incoming.mac1()) {
            (Incoming::Init(_), Some(mac1)) => (Zeroizing::new(identity.keys().cookie), mac1),
            (Incoming::InitR(_), Some(mac1)) => (ticket_key(psk?), mac1),
            _ => {
                hash = Sha256::digest(incoming.datagram());
                (xx_key(incoming.ephemeral()), &hash)
            }
        };
        let sealed = seal(&key, &nonce, aad, cookie)?;
        Some([Kind::Cookie.header(incoming.connection_id()).as_slice(), &nonce, &sealed].concat())
    }

    fn rotate(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed < Self::PERIOD {
            return;
        }
        let [current, _] = self.secrets;
        let fresh = self.rng.array();
        // After a longer pause the last secret is as old as any other.
        let previous = if passed < 2 * Self::PERIOD { current } else { self.rng.array() };
        self.secrets.zeroize();
        self.secrets = [fresh, previous];
        let periods = u32::try_from(passed.as_secs() / Self::PERIOD.as_secs()).unwrap_or(u32::MAX);
        self.since = Some(since.checked_add(Self::PERIOD.saturating_mul(periods)).unwrap_or(now));
    }
}

impl Drop for CookieJar {
    fn drop(&mut self) {
        self.secrets.zeroize();
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").field("since", &self.since).finish_non_exhaustive()
    }
}

/// Key of a COOKIE for INIT_R.
pub(crate) fn ticket_key(psk: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    mac::key(&[b"setowire cookie", psk])
}

/// Key of a COOKIE for XX1. Who sees XX1 can compute it: XX1 names nobody whose key could hide the cookie.
pub(crate) fn xx_key(ephemeral: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    mac::key(&[b"setowire cookie x", ephemeral])
}

/// XChaCha20-Poly1305. `None` is a fault.
fn seal(key: &[u8; 32], nonce: &[u8; NONCE], aad: &[u8], mut cookie: [u8; MAC]) -> Option<Vec<u8>> {
    let cipher = XChaCha20Poly1305::new(key.into());
    let tag = cipher.encrypt_inout_detached(nonce.into(), aad, cookie.as_mut_slice().into()).ok()?;
    Some([cookie.as_slice(), &tag].concat())
}

/// The cookie of a COOKIE, whose length was checked. What follows the cookie belongs to later versions.
pub(crate) fn open(key: &[u8; 32], aad: &[u8], datagram: &[u8]) -> Option<[u8; MAC]> {
    let (nonce, sealed) = datagram.get(12..)?.split_first_chunk::<NONCE>()?;
    let (sealed, tag) = sealed.split_last_chunk::<MAC>()?;
    let mut text = sealed.to_vec();
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt_inout_detached(nonce.into(), aad, text.as_mut_slice().into(), tag.into()).ok()?;
    text.first_chunk().copied()
}

const NONCE: usize = 24;
