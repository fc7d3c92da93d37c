//! A relay's word that it keeps a place for a peer, signed by the relay (SPEC 14.2).
//!
//! The peer shows it to whoever wants to reach it, so that a relay cannot be named that never agreed to be one, and so that
//! its addresses come from the relay itself.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Context, Identity, PeerId, Signature};

use crate::record::{List, is_usable, put_list};
use crate::tlv::{self, Entries};
use crate::{DecodeError, EncodeError, Reader, Writer, address, limits};

/// What the signature of a voucher is for.
pub const CONTEXT: Context = Context::new(*b"setowire vouch 1");

const EXPIRES: u64 = 2;
const ADDRESSES: u64 = 4;
const CLIENT: u64 = 6;

/// A voucher with the key and the signature of its relay: `key 32, entries, signature 64`, at most 220 bytes.
///
/// Whoever holds one knows that the signature is right.
#[derive(Clone, PartialEq, Eq)]
pub struct Voucher {
    relay: PeerId,
    client: PeerId,
    /// In seconds.
    expires: u64,
    bytes: Box<[u8]>,
}

impl Voucher {
    /// Says that the holder of `identity` relays for `client` until `expires`, the time since 1970-01-01 00:00 UTC, and can be
    /// reached at `addresses`.
    ///
    /// # Errors
    /// [`EncodeError::TooMany`] above 4 addresses, [`EncodeError::BadAddress`] for one that nobody can send to.
    pub fn sign(
        identity: &Identity,
        client: PeerId,
        expires: Duration,
        addresses: &[SocketAddr],
    ) -> Result<Self, EncodeError> {
        let (relay, expires) = (identity.peer_id(), expires.as_secs());
        let mut bytes = relay.to_bytes().to_vec();
        let mut writer = Writer::new(&mut bytes);
        tlv::put(EXPIRES, &expires.to_be_bytes(), &mut writer)?;
        if !addresses.iter().copied().all(is_usable) {
            return Err(EncodeError::BadAddress);
        }
        let list = addresses.iter().map(|addr| address::encode(*addr));
        put_list(ADDRESSES, list, limits::MAX_VOUCHER_ADDRESSES, &mut writer)?;
        tlv::put(CLIENT, client.as_bytes(), &mut writer)?;
        let signature = identity.sign(CONTEXT, &bytes);
        bytes.extend_from_slice(signature.as_bytes());
        Ok(Self { relay, client, expires, bytes: bytes.into() })
    }

    /// Reads and verifies a voucher. Entries and fields that are not known are passed over; they are signed and stay with it.
    ///
    /// Whether it holds at some time is another question: [`holds_at`](Self::holds_at).
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above 220 bytes and 4 addresses, [`DecodeError::BadKey`], [`DecodeError::BadAddress`],
    /// [`DecodeError::Truncated`] also without end or client, and [`DecodeError::BadSignature`]. The signature, which costs
    /// most, is checked last.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > limits::MAX_VOUCHER {
            return Err(DecodeError::TooLong { len: bytes.len(), max: limits::MAX_VOUCHER });
        }
        let (message, signature) = bytes.split_last_chunk().ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(message);
        let relay = reader.array()?;
        let (mut expires, mut client) = (None, None);
        for entry in Entries::new(reader.rest()) {
            let (tag, value) = entry?;
            let mut value = Reader::new(value);
            match tag {
                EXPIRES => expires = Some(value.u64()?),
                ADDRESSES => {
                    let mut list = List::<{ address::LEN }>::decode(&mut value, limits::MAX_VOUCHER_ADDRESSES)?;
                    if !list.all(|item| is_usable(address::decode(item))) {
                        return Err(DecodeError::BadAddress);
                    }
                }
                CLIENT => client = Some(value.array()?),
                _ => {}
            }
        }
        let expires = expires.ok_or(DecodeError::Truncated)?;
        let client = client.ok_or(DecodeError::Truncated)?;
        let relay = PeerId::of_signer(relay, CONTEXT, message, &Signature::from_bytes(*signature))?;
        let client = PeerId::from_bytes(client).map_err(|_not_a_key| DecodeError::BadKey)?;
        Ok(Self { relay, client, expires, bytes: bytes.into() })
    }

    /// Who relays.
    #[must_use]
    pub const fn relay(&self) -> PeerId {
        self.relay
    }

    /// For whom.
    #[must_use]
    pub const fn client(&self) -> PeerId {
        self.client
    }

    /// When it ends, as time since 1970-01-01 00:00 UTC.
    #[must_use]
    pub const fn expires(&self) -> Duration {
        Duration::from_secs(self.expires)
    }

    /// Where the relay can be reached, the preferred address first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let entries = self.bytes.get(PeerId::LEN..self.bytes.len().saturating_sub(Signature::LEN));
        let value = entries.and_then(|entries| Entries::new(entries).find(ADDRESSES)).unwrap_or_default();
        List::decode(&mut Reader::new(value), limits::MAX_VOUCHER_ADDRESSES).into_iter().flatten().map(address::decode)
    }

    /// Whether it holds at `unix`, the time since 1970-01-01 00:00 UTC: it has not ended, and does not claim to hold for more
    /// than a day from then.
    #[must_use]
    pub fn holds_at(&self, unix: Duration) -> bool {
        self.expires() > unix && self.expires() <= unix.saturating_add(limits::MAX_VOUCHER_LIFETIME)
    }

    /// The bytes, as they were signed.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What [`Voucher::sign`] writes at most.
const LONGEST: usize =
    PeerId::LEN + (2 + 8) + (3 + 1 + address::LEN * limits::MAX_VOUCHER_ADDRESSES) + (2 + PeerId::LEN) + Signature::LEN;
const _: () = assert!(LONGEST <= limits::MAX_VOUCHER);

impl fmt::Debug for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voucher")
            .field("relay", &self.relay)
            .field("client", &self.client)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
