//! Who takes part in a topic, and where: said and signed by each for itself (SPEC 11.5).
//!
//! Announcements lie under a key that follows from the topic and the day. Who stores them learns who announces, but not what:
//! the signature is over the key, and good under no other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::{Context, Identity, PeerId, Signature};
use framing::{DecodeError, EncodeError, Reader, Writer, address};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Refused;
use crate::subnet::is_usable;
use crate::{Key, limits};

/// What the signature of an announcement is for.
pub const CONTEXT: Context = Context::new(*b"setowire topic 1");

/// The key of a topic on a day, given as unix time in days. It says nothing of the topic to who does not know it.
#[must_use]
pub fn topic_key(topic: &[u8; 32], day: u64) -> Key {
    // Keys of HMAC may have any length.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(topic) else { return Key::from_bytes([0; 32]) };
    Key::from_bytes(mac.chain_update(TOPIC).chain_update(day.to_be_bytes()).finalize().into_bytes().into())
}

/// The days whose keys are asked for a topic at `unix`, the time since 1970-01-01 00:00 UTC: today, and around midnight its
/// neighbour, for clocks that differ.
pub(crate) fn days_to_ask(unix: Duration) -> impl Iterator<Item = u64> {
    days(unix, limits::CLOCK_TOLERANCE, limits::CLOCK_TOLERANCE)
}

/// The days under whose keys a topic is announced at `unix`: today, and tomorrow if it begins before it is announced again.
pub(crate) fn days_to_announce(unix: Duration) -> impl Iterator<Item = u64> {
    days(unix, Duration::ZERO, limits::PUBLISH_INTERVAL + limits::CLOCK_TOLERANCE)
}

fn days(unix: Duration, before: Duration, after: Duration) -> impl Iterator<Item = u64> {
    let day = |at: Duration| at.as_secs() / DAY;
    let today = day(unix);
    let (first, last) = (day(unix.saturating_sub(before)), day(unix.saturating_add(after)));
    std::iter::once(today).chain((first..=last).filter(move |other| *other != today))
}

/// Somebody who passes packets on to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub addr: SocketAddr,
}

/// That a peer takes part in a topic. Whoever holds one knows that the signature is right.
#[derive(Clone, PartialEq, Eq)]
pub struct Announcement {
    key: Key,
    peer: PeerId,
    time: u64,
    life: u16,
    addresses: Vec<SocketAddr>,
    relays: Vec<Relay>,
    bytes: Arc<[u8]>,
}

impl Announcement {
    /// The longest, in bytes. What later versions add has its place in it.
    pub const MAX_LEN: usize = 400;

    /// Says that `identity` takes part under `key` from `unix`, the time since 1970-01-01 00:00 UTC, for `life`, cut to whole
    /// seconds and to [`ANNOUNCEMENT_LIFE`](limits::ANNOUNCEMENT_LIFE).
    ///
    /// # Errors
    /// [`EncodeError::TooMany`] above 4 addresses or 2 relays, [`EncodeError::BadAddress`] for one that cannot be sent to.
    pub fn sign(
        identity: &Identity,
        key: Key,
        unix: Duration,
        life: Duration,
        addresses: &[SocketAddr],
        relays: &[Relay],
    ) -> Result<Self, EncodeError> {
        check_places(addresses, relays)?;
        let time = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let life = u16::try_from(life.min(limits::ANNOUNCEMENT_LIFE).as_secs()).unwrap_or(u16::MAX);
        let mut bytes = identity.peer_id().to_bytes().to_vec();
        let mut writer = Writer::new(&mut bytes);
        writer.u64(time);
        writer.u16(life);
        writer.u8(u8::try_from(addresses.len()).unwrap_or(u8::MAX));
        addresses.iter().for_each(|addr| writer.put(&address::encode(*addr)));
        writer.u8(u8::try_from(relays.len()).unwrap_or(u8::MAX));
        for relay in relays {
            writer.put(relay.peer.as_bytes());
            writer.put(&address::encode(relay.addr));
        }
        let signature = identity.sign(CONTEXT, &signed(key, &bytes));
        bytes.extend_from_slice(signature.as_bytes());
        let (addresses, relays) = (addresses.to_vec(), relays.to_vec());
        Ok(Self { key, peer: identity.peer_id(), time, life, addresses, relays, bytes: bytes.into() })
    }

    /// Reads and verifies what was found under a key. What stands between the relays and the signature is passed over; it is
    /// signed and stays with it. Whether it holds at some time is another question: [`check`](Self::check).
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above [`MAX_LEN`](Self::MAX_LEN), 4 addresses or 2 relays; [`DecodeError::Truncated`],
    /// [`DecodeError::BadKey`], [`DecodeError::BadAddress`], and [`DecodeError::BadSignature`]. The signature, which costs most, is
    /// checked last.
    pub fn decode(key: Key, bytes: &[u8]) -> Result<Self, DecodeError> {
        let (message, signature) = bytes.split_last_chunk().ok_or(DecodeError::Truncated)?;
        if bytes.len() > Self::MAX_LEN {
            return Err(DecodeError::TooLong { len: bytes.len(), max: Self::MAX_LEN });
        }
        let mut reader = Reader::new(message);
        let (peer, time, life) = (reader.array()?, reader.u64()?, reader.u16()?);
        let addresses = list(&mut reader, limits::MAX_ADDRESSES, |reader| usable(reader.array()?))?;
        let relays =
            list(&mut reader, limits::MAX_RELAYS, |reader| Ok((reader.array::<32>()?, usable(reader.array()?)?)))?;
        let peer = PeerId::of_signer(peer, CONTEXT, &signed(key, message), &Signature::from_bytes(*signature))?;
        // Each costs a square root, so only a peer that signed for them makes us take it.
        let valid = |key| PeerId::from_bytes(key).or(Err(DecodeError::BadKey));
        let relays = relays.into_iter().map(|(key, addr)| valid(key).map(|peer| Relay { peer, addr }));
        let relays = relays.collect::<Result<_, _>>()?;
        Ok(Self { key, peer, time, life, addresses, relays, bytes: bytes.into() })
    }

    /// Who it claims to be of, and its time: for leaving out what is known before the signature is looked at.
    pub(crate) fn claim(bytes: &[u8]) -> Option<([u8; 32], u64)> {
        let mut reader = Reader::new(bytes);
        Some((reader.array().ok()?, reader.u64().ok()?))
    }

    /// The key that it is signed for.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Who takes part.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// When it was signed, as time since 1970-01-01 00:00 UTC.
    #[must_use]
    pub const fn time(&self) -> Duration {
        Duration::from_millis(self.time)
    }

    /// When it ends to be true, as time since 1970-01-01 00:00 UTC.
    #[must_use]
    pub const fn expires(&self) -> Duration {
        self.time().saturating_add(Duration::from_secs(self.life as u64))
    }

    /// Where the peer listens, the preferred address first.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Who passes packets on to it.
    #[must_use]
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// The bytes, as they were signed.
    #[must_use]
    pub const fn as_bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Whether it holds at `unix`, the time since 1970-01-01 00:00 UTC, with some tolerance for the clocks of others.
    ///
    /// # Errors
    /// [`Refused::Time`] if it has ended, was signed in the future, or is to last longer than 2 h.
    pub fn check(&self, unix: Duration) -> Result<(), Refused> {
        let longer = Duration::from_secs(self.life.into()) > limits::ANNOUNCEMENT_LIFE;
        let early = self.time() > unix.saturating_add(limits::CLOCK_TOLERANCE);
        if longer || early || self.expires() <= unix { Err(Refused::Time) } else { Ok(()) }
    }
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcement")
            .field("peer", &self.peer)
            .field("time", &self.time)
            .field("addresses", &self.addresses)
            .field("relays", &self.relays)
            .finish_non_exhaustive()
    }
}

/// Whether so many places, and these, can be announced.
pub(crate) fn check_places(addresses: &[SocketAddr], relays: &[Relay]) -> Result<(), EncodeError> {
    if addresses.len() > limits::MAX_ADDRESSES {
        return Err(EncodeError::TooMany { max: limits::MAX_ADDRESSES });
    }
    if relays.len() > limits::MAX_RELAYS {
        return Err(EncodeError::TooMany { max: limits::MAX_RELAYS });
    }
    let mut all = addresses.iter().chain(relays.iter().map(|relay| &relay.addr));
    if all.all(is_usable) { Ok(()) } else { Err(EncodeError::BadAddress) }
}

fn signed(key: Key, message: &[u8]) -> Vec<u8> {
    [key.as_bytes().as_slice(), message].concat()
}

fn usable(bytes: [u8; address::LEN]) -> Result<SocketAddr, DecodeError> {
    Some(address::decode(bytes)).filter(is_usable).ok_or(DecodeError::BadAddress)
}

/// `count u8`, items.
fn list<'a, T>(
    reader: &mut Reader<'a>,
    max: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let len = usize::from(reader.u8()?);
    if len > max {
        return Err(DecodeError::TooLong { len, max });
    }
    (0..len).map(|_| item(reader)).collect()
}

const TOPIC: &[u8] = b"setowire dht topic 1";
/// Seconds in a day.
const DAY: u64 = 86_400;

/// All that this version writes.
const LONGEST: usize = PeerId::LEN
    + 8
    + 2
    + (1 + limits::MAX_ADDRESSES * address::LEN)
    + (1 + limits::MAX_RELAYS * (PeerId::LEN + address::LEN))
    + Signature::LEN;
const _: () = assert!(LONGEST <= Announcement::MAX_LEN);
