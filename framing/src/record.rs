//! Where a peer can be found, said and signed by the peer itself (SPEC 7.6).
//!
//! A record is worth what its signature is worth: who passes it on can withhold it, or hand out an older one, and nothing else.
//! The owner numbers its records upwards, and everyone keeps the one with the highest number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Context, Identity, PeerId, Signature};
use thiserror::Error;

use crate::tlv::{self, Entries, Rule};
use crate::voucher::Voucher;
use crate::{DecodeError, EncodeError, Reader, Writer, address, limits};

/// What the signature of a record is for.
pub const CONTEXT: Context = Context::new(*b"setowire addr v1");

const SEQUENCE: u64 = 1;
const EXPIRES: u64 = 2;
const CAPABILITIES: u64 = 3;
const ADDRESSES: u64 = 4;
const RELAYS: u64 = 5;
const VOUCHERS: u64 = 6;

/// What a peer says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Higher than in every earlier record of the peer. The unix time in milliseconds will do.
    pub sequence: u64,
    /// When it ends to be true, as time since 1970-01-01 00:00 UTC; cut to whole seconds on the wire.
    pub expires: Duration,
    /// The capability bits of the handshake (SPEC 6.2).
    pub capabilities: u64,
    /// Where it listens: at most 16, the preferred first.
    pub addresses: Vec<SocketAddr>,
    /// Who passes packets on to it: at most 4.
    pub relays: Vec<PeerId>,
    /// What relays say of themselves and it, with their addresses: at most 2. They need not be among `relays`.
    pub vouchers: Vec<Voucher>,
}

impl Record {
    /// Signs the record.
    ///
    /// # Errors
    /// [`EncodeError::TooMany`] above 16 addresses, 4 relays or 2 vouchers, [`EncodeError::BadAddress`] for one that nobody can send to: port 0,
    /// the unspecified address, multicast.
    pub fn sign(&self, identity: &Identity) -> Result<SignedRecord, EncodeError> {
        let mut bytes = identity.peer_id().to_bytes().to_vec();
        let mut writer = Writer::new(&mut bytes);
        tlv::put(SEQUENCE, &self.sequence.to_be_bytes(), &mut writer)?;
        tlv::put(EXPIRES, &self.expires.as_secs().to_be_bytes(), &mut writer)?;
        if self.capabilities != 0 {
            tlv::put(CAPABILITIES, &self.capabilities.to_be_bytes(), &mut writer)?;
        }
        if !self.addresses.iter().copied().all(is_usable) {
            return Err(EncodeError::BadAddress);
        }
        let addresses = self.addresses.iter().map(|addr| address::encode(*addr));
        put_list(ADDRESSES, addresses, limits::MAX_RECORD_ADDRESSES, &mut writer)?;
        let relays = self.relays.iter().map(|relay| relay.to_bytes());
        put_list(RELAYS, relays, limits::MAX_RECORD_RELAYS, &mut writer)?;
        put_vouchers(&self.vouchers, &mut writer)?;
        let signature = identity.sign(CONTEXT, &bytes);
        bytes.extend_from_slice(signature.as_bytes());
        Ok(SignedRecord {
            peer: identity.peer_id(),
            sequence: self.sequence,
            expires: self.expires.as_secs(),
            bytes: bytes.into(),
        })
    }
}

/// `count u8, as many of: length u8, voucher`.
fn put_vouchers(vouchers: &[Voucher], writer: &mut Writer<'_>) -> Result<(), EncodeError> {
    if vouchers.is_empty() {
        return Ok(());
    }
    let count = u8::try_from(vouchers.len()).ok().filter(|count| usize::from(*count) <= limits::MAX_RECORD_VOUCHERS);
    let mut value = vec![count.ok_or(EncodeError::TooMany { max: limits::MAX_RECORD_VOUCHERS })?];
    for voucher in vouchers {
        let (len, max) = (voucher.as_bytes().len(), limits::MAX_VOUCHER);
        value.push(u8::try_from(len).or(Err(EncodeError::TooLong { len, max }))?);
        value.extend_from_slice(voucher.as_bytes());
    }
    tlv::put(VOUCHERS, &value, writer)
}

/// What stands where a voucher does, which is not verified.
fn vouchers<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, DecodeError> {
    let count = usize::from(reader.u8()?);
    if count > limits::MAX_RECORD_VOUCHERS {
        return Err(DecodeError::TooLong { len: count, max: limits::MAX_RECORD_VOUCHERS });
    }
    (0..count)
        .map(|_| {
            let len = usize::from(reader.u8()?);
            reader.take(len)
        })
        .collect()
}

/// What [`Record::sign`] writes at most: three numbers of 8 bytes and full lists, each with its tag, length and count.
const LONGEST: usize = PeerId::LEN
    + 3 * (2 + 8)
    + (4 + address::LEN * limits::MAX_RECORD_ADDRESSES)
    + (4 + PeerId::LEN * limits::MAX_RECORD_RELAYS)
    + (4 + (1 + limits::MAX_VOUCHER) * limits::MAX_RECORD_VOUCHERS)
    + Signature::LEN;
const _: () = assert!(LONGEST <= limits::MAX_RECORD);

pub(crate) fn put_list<const N: usize>(
    tag: u64,
    items: impl ExactSizeIterator<Item = [u8; N]>,
    max: usize,
    writer: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    if items.len() == 0 {
        return Ok(());
    }
    let count = u8::try_from(items.len()).ok().filter(|count| usize::from(*count) <= max);
    let mut value = vec![count.ok_or(EncodeError::TooMany { max })?];
    items.for_each(|item| value.extend_from_slice(&item));
    tlv::put(tag, &value, writer)
}

/// Whether an address can be sent to.
pub(crate) fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

/// A [`Record`] with the key and the signature of its peer: `key 32, entries, signature 64`, at most 1000 bytes.
///
/// Whoever holds one knows that the signature is right.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRecord {
    peer: PeerId,
    sequence: u64,
    /// In seconds.
    expires: u64,
    bytes: Box<[u8]>,
}

impl SignedRecord {
    /// Reads and verifies a record. Entries and fields that are not known are passed over; they are signed and stay with it.
    ///
    /// Whether it holds at some time is another question: [`check`](Self::check).
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above 1000 bytes and for lists above their limit, [`DecodeError::BadKey`], [`DecodeError::BadAddress`],
    /// [`DecodeError::Truncated`] also without sequence or expiry, and [`DecodeError::BadSignature`]. The signature, which costs most,
    /// is checked last.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with(bytes, Rule::Lenient)
    }

    /// [`decode`](Self::decode) under a rule for what is not known.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and those of the [`Rule`].
    pub fn decode_with(bytes: &[u8], rule: Rule) -> Result<Self, DecodeError> {
        if bytes.len() > limits::MAX_RECORD {
            return Err(DecodeError::TooLong { len: bytes.len(), max: limits::MAX_RECORD });
        }
        let (message, signature) = bytes.split_last_chunk().ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(message);
        let key = reader.array()?;
        let (mut sequence, mut expires, mut relays) = (None, None, None);
        for entry in Entries::new(reader.rest()) {
            let (tag, value) = entry?;
            let mut value = Reader::new(value);
            match tag {
                SEQUENCE => sequence = Some(value.u64()?),
                EXPIRES => expires = Some(value.u64()?),
                CAPABILITIES => drop(value.u64()?),
                ADDRESSES => {
                    let mut list = List::<{ address::LEN }>::decode(&mut value, limits::MAX_RECORD_ADDRESSES)?;
                    if !list.all(|item| is_usable(address::decode(item))) {
                        return Err(DecodeError::BadAddress);
                    }
                }
                RELAYS => relays = Some(List::<{ PeerId::LEN }>::decode(&mut value, limits::MAX_RECORD_RELAYS)?),
                VOUCHERS => drop(vouchers(&mut value)?),
                _ => {
                    rule.unknown(tag)?;
                    continue;
                }
            }
            rule.end(&value)?;
        }
        let sequence = sequence.ok_or(DecodeError::Truncated)?;
        let expires = expires.ok_or(DecodeError::Truncated)?;
        let peer = PeerId::of_signer(key, CONTEXT, message, &Signature::from_bytes(*signature))?;
        // Each costs a square root, so only a peer that signed for them makes us take it.
        let valid = |key| PeerId::from_bytes(key).map_err(|_not_a_key| DecodeError::BadKey);
        relays.into_iter().flatten().try_for_each(|relay| valid(relay).map(drop))?;
        Ok(Self { peer, sequence, expires, bytes: bytes.into() })
    }

    /// Whose record it is.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Its number among the records of its peer.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it ends to be true, as time since 1970-01-01 00:00 UTC.
    #[must_use]
    pub const fn expires(&self) -> Duration {
        Duration::from_secs(self.expires)
    }

    /// The capability bits of the handshake (SPEC 6.2).
    #[must_use]
    pub fn capabilities(&self) -> u64 {
        self.value(CAPABILITIES).u64().unwrap_or(0)
    }

    /// Where the peer listens, the preferred address first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        List::decode(&mut self.value(ADDRESSES), limits::MAX_RECORD_ADDRESSES)
            .into_iter()
            .flatten()
            .map(address::decode)
    }

    /// Who passes packets on to the peer.
    pub fn relays(&self) -> impl Iterator<Item = PeerId> {
        List::decode(&mut self.value(RELAYS), limits::MAX_RECORD_RELAYS)
            .into_iter()
            .flatten()
            .filter_map(|key| PeerId::from_bytes(key).ok())
    }

    /// The relays that vouch for having a place for the peer, whenever that ends. Verifies each of them.
    pub fn vouchers(&self) -> impl Iterator<Item = Voucher> {
        let found = vouchers(&mut self.value(VOUCHERS)).unwrap_or_default();
        let of_peer = |voucher: &Voucher| voucher.client() == self.peer;
        found.into_iter().filter_map(|bytes| Voucher::decode(bytes).ok()).filter(of_peer)
    }

    /// All that we know of what it says.
    #[must_use]
    pub fn record(&self) -> Record {
        Record {
            sequence: self.sequence,
            expires: self.expires(),
            capabilities: self.capabilities(),
            addresses: self.addresses().collect(),
            relays: self.relays().collect(),
            vouchers: self.vouchers().collect(),
        }
    }

    /// The bytes, as they were signed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether this record takes the place of `other`: one of the same peer with a lower number.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        self.peer == other.peer && self.sequence > other.sequence
    }

    /// Whether it holds at `unix`, the time since 1970-01-01 00:00 UTC.
    ///
    /// # Errors
    /// [`Refused::Expired`]; [`Refused::TooFarAhead`] if it would for more than a week from then.
    pub fn check(&self, unix: Duration) -> Result<(), Refused> {
        if self.expires() <= unix {
            Err(Refused::Expired)
        } else if self.expires() > unix.saturating_add(limits::MAX_RECORD_LIFETIME) {
            Err(Refused::TooFarAhead)
        } else {
            Ok(())
        }
    }

    fn value(&self, tag: u64) -> Reader<'_> {
        let entries = self.bytes.get(PeerId::LEN..self.bytes.len().saturating_sub(Signature::LEN));
        Reader::new(entries.and_then(|entries| Entries::new(entries).find(tag)).unwrap_or_default())
    }
}

impl fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRecord").field("peer", &self.peer).field("record", &self.record()).finish_non_exhaustive()
    }
}

/// `count u8, items of N bytes`.
pub(crate) struct List<'a, const N: usize> {
    items: Reader<'a>,
}

impl<'a, const N: usize> List<'a, N> {
    pub(crate) fn decode(reader: &mut Reader<'a>, max: usize) -> Result<Self, DecodeError> {
        let count = usize::from(reader.u8()?);
        if count > max {
            return Err(DecodeError::TooLong { len: count, max });
        }
        Ok(Self { items: Reader::new(reader.take(count.saturating_mul(N))?) })
    }
}

impl<const N: usize> Iterator for List<'_, N> {
    type Item = [u8; N];

    fn next(&mut self) -> Option<Self::Item> {
        self.items.array().ok()
    }
}

/// The newest record of each of a bounded number of peers.
///
/// When it is full, records that expired give way, and if there are none a new peer is refused: nobody can push out what others
/// signed, and what fills it today is gone in a week. At most 1.1 KiB each.
#[derive(Debug, Clone)]
pub struct Records {
    peers: BTreeMap<PeerId, SignedRecord>,
    /// The same by the end of their time.
    expiry: BTreeSet<(u64, PeerId)>,
    capacity: usize,
}

impl Records {
    /// For at most `capacity` peers.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { peers: BTreeMap::new(), expiry: BTreeSet::new(), capacity }
    }

    /// Takes a record, if it is the newest of its peer. `unix` is the time since 1970-01-01 00:00 UTC.
    ///
    /// # Errors
    /// [`Refused`] says why nothing changed.
    pub fn insert(&mut self, record: SignedRecord, unix: Duration) -> Result<Taken, Refused> {
        record.check(unix)?;
        let taken = match self.peers.get(&record.peer) {
            Some(known) if *known == record => return Ok(Taken::Known),
            Some(known) if known.sequence == record.sequence => return Err(Refused::Conflict),
            Some(known) if !record.supersedes(known) => return Err(Refused::Older),
            Some(_) => Taken::Newer,
            None => {
                if self.peers.len() >= self.capacity {
                    self.expire(unix);
                }
                if self.peers.len() >= self.capacity {
                    return Err(Refused::Full);
                }
                Taken::First
            }
        };
        self.remove(&record.peer);
        self.expiry.insert((record.expires, record.peer));
        self.peers.insert(record.peer, record);
        Ok(taken)
    }

    /// The newest record of a peer.
    #[must_use]
    pub fn get(&self, peer: &PeerId) -> Option<&SignedRecord> {
        self.peers.get(peer)
    }

    /// Forgets a peer, and hands out its record.
    pub fn remove(&mut self, peer: &PeerId) -> Option<SignedRecord> {
        let record = self.peers.remove(peer)?;
        self.expiry.remove(&(record.expires, record.peer));
        Some(record)
    }

    /// Forgets what does not hold any more at `unix`.
    pub fn expire(&mut self, unix: Duration) {
        while let Some((expires, peer)) = self.expiry.first().copied() {
            if expires > unix.as_secs() {
                break;
            }
            self.remove(&peer);
        }
    }

    /// The records, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &SignedRecord> {
        self.peers.values()
    }

    /// How many peers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is the first of its peer.
    First,
    /// It took the place of an older one.
    Newer,
    /// It was there already.
    Known,
}

/// Why a record was not taken. Nothing changed but that expired records may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its time is over.
    #[error("the record has expired")]
    Expired,
    /// It claims to hold for longer than a week from now.
    #[error("the record expires too far ahead")]
    TooFarAhead,
    /// There is a newer one.
    #[error("a newer record is known")]
    Older,
    /// The peer signed another record with the same number.
    #[error("another record has the same sequence number")]
    Conflict,
    /// No room for another peer.
    #[error("no room for another peer")]
    Full,
}
