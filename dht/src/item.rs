//! What lies under a key alone: a value, a value that its signer can change, the addresses of a peer (SPEC 11.5).

use std::fmt;
use std::sync::Arc;

use crypto::{Context, Identity, PeerId, Signature};
use framing::record::SignedRecord;
use framing::tlv::Entries;
use framing::{DecodeError, EncodeError, Reader, Writer};
use sha2::{Digest, Sha256};

use crate::{Key, Refused, limits};

/// What the signature of a [`SignedValue`] is for.
pub const CONTEXT: Context = Context::new(*b"setowire value 1");

/// What kind of thing lies under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes under their hash.
    Value = 1,
    /// Bytes that their signer can change.
    Signed = 2,
    /// The address record of a peer.
    Peer = 3,
}

impl Kind {
    /// The kind with this number on the wire.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Value),
            2 => Some(Self::Signed),
            3 => Some(Self::Peer),
            _ => None,
        }
    }
}

/// What somebody looks for under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The [value](Item::Value) with this [key](value_key).
    Value(Key),
    /// The newest value of a signer under a salt.
    Signed {
        /// Who signs.
        signer: PeerId,
        /// Which of the values of that signer.
        salt: Box<[u8]>,
    },
    /// The address record of a peer.
    Peer(PeerId),
}

impl Wanted {
    /// Where it lies.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Value(key) => *key,
            Self::Signed { signer, salt } => signed_key(signer, salt),
            Self::Peer(peer) => peer_key(peer),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Value(_) => Kind::Value,
            Self::Signed { .. } => Kind::Signed,
            Self::Peer(_) => Kind::Peer,
        }
    }

    /// Reads and verifies an answer. It is what was looked for, or an error.
    ///
    /// # Errors
    /// [`DecodeError::BadSignature`] if it is something else, [`DecodeError::TooLong`] above its limit, and those of
    /// [`SignedRecord::decode`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Item, DecodeError> {
        match self {
            Self::Value(key) => {
                check_len(bytes.len(), limits::MAX_VALUE)?;
                let found = value_key(bytes) == *key;
                if found { Ok(Item::Value(bytes.into())) } else { Err(DecodeError::BadSignature) }
            }
            Self::Signed { signer, salt } => {
                let bytes = [&SignedValue::front(signer, salt), bytes].concat();
                SignedValue::decode(&bytes).map(Item::Signed)
            }
            Self::Peer(peer) => {
                let record = SignedRecord::decode(bytes)?;
                if record.peer() == *peer { Ok(Item::Peer(record)) } else { Err(DecodeError::BadSignature) }
            }
        }
    }
}

/// What lies under a key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// At most 1000 bytes under their hash.
    Value(Arc<[u8]>),
    /// Bytes that their signer can change.
    Signed(SignedValue),
    /// Where a peer can be found.
    Peer(SignedRecord),
}

impl Item {
    /// Reads and verifies what a PUT carries.
    ///
    /// # Errors
    /// As [`Wanted::decode`].
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, DecodeError> {
        match kind {
            Kind::Value => {
                check_len(bytes.len(), limits::MAX_VALUE)?;
                Ok(Self::Value(bytes.into()))
            }
            Kind::Signed => SignedValue::decode(bytes).map(Self::Signed),
            Kind::Peer => SignedRecord::decode(bytes).map(Self::Peer),
        }
    }

    /// What a PUT carries.
    #[must_use]
    pub fn to_bytes(&self) -> Arc<[u8]> {
        match self {
            Self::Value(value) => value.clone(),
            Self::Signed(signed) => signed.bytes.clone(),
            Self::Peer(record) => record.as_bytes().into(),
        }
    }

    /// What an answer carries: without what the asker knows.
    #[must_use]
    pub fn to_answer(&self) -> Arc<[u8]> {
        match self {
            Self::Signed(signed) => signed.bytes.get(signed.front_len()..).unwrap_or_default().into(),
            Self::Value(_) | Self::Peer(_) => self.to_bytes(),
        }
    }

    /// Where the bytes of a PUT claim to lie.
    pub(crate) fn claimed_key(kind: Kind, bytes: &[u8]) -> Result<Key, Refused> {
        Claim::of(kind, bytes).map(|claim| claim.key)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Value(_) => Kind::Value,
            Self::Signed(_) => Kind::Signed,
            Self::Peer(_) => Kind::Peer,
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Value(value) => value_key(value),
            Self::Signed(signed) => signed.key,
            Self::Peer(record) => peer_key(&record.peer()),
        }
    }

    /// Its number among what was signed for the same key; 0 of a value that cannot change.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        match self {
            Self::Value(_) => 0,
            Self::Signed(signed) => signed.sequence,
            Self::Peer(record) => record.sequence(),
        }
    }

    /// Who signed it.
    #[must_use]
    pub const fn signer(&self) -> Option<PeerId> {
        match self {
            Self::Value(_) => None,
            Self::Signed(signed) => Some(signed.signer),
            Self::Peer(record) => Some(record.peer()),
        }
    }
}

/// A value that its signer can change, by one with a higher sequence.
///
/// Who takes the sequence that it read and adds one learns by [`Refused::Conflict`] or
/// [`Refused::Older`] if another holder of the key was faster.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedValue {
    key: Key,
    signer: PeerId,
    salt_len: u8,
    sequence: u64,
    bytes: Arc<[u8]>,
}

impl SignedValue {
    /// Signs a value. `salt`, at most 64 bytes, tells values of one signer apart; with the value it has at most 1000 bytes.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn sign(identity: &Identity, salt: &[u8], sequence: u64, value: &[u8]) -> Result<Self, EncodeError> {
        let too_long = |len, max| Err(EncodeError::TooLong { len, max });
        if salt.len() > limits::MAX_SALT {
            return too_long(salt.len(), limits::MAX_SALT);
        }
        let max = limits::MAX_VALUE - salt.len();
        if value.len() > max {
            return too_long(value.len(), max);
        }
        let signer = identity.peer_id();
        let key = signed_key(&signer, salt);
        let signature = identity.sign(CONTEXT, &signed(key, sequence, value));
        let mut bytes = Self::front(&signer, salt);
        let mut writer = Writer::new(&mut bytes);
        writer.u64(sequence);
        writer.put(signature.as_bytes());
        writer.put(value);
        let salt_len = u8::try_from(salt.len()).unwrap_or(u8::MAX);
        Ok(Self { key, signer, salt_len, sequence, bytes: bytes.into() })
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let parts = Parts::decode(bytes)?;
        let key = place(SIGNED, &[&parts.signer, parts.salt]);
        let message = signed(key, parts.sequence, parts.value);
        let signer = PeerId::of_signer(parts.signer, CONTEXT, &message, &parts.signature)?;
        let salt_len = u8::try_from(parts.salt.len()).unwrap_or(u8::MAX);
        Ok(Self { key, signer, salt_len, sequence: parts.sequence, bytes: bytes.into() })
    }

    /// What the asker of a key knows already.
    fn front(signer: &PeerId, salt: &[u8]) -> Vec<u8> {
        let len = u8::try_from(salt.len()).unwrap_or(u8::MAX);
        [signer.as_bytes(), [len].as_slice(), salt].concat()
    }

    fn front_len(&self) -> usize {
        PeerId::LEN + 1 + usize::from(self.salt_len)
    }

    /// Where it lies.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Who signed it.
    #[must_use]
    pub const fn signer(&self) -> PeerId {
        self.signer
    }

    /// Which of the values of the signer it is.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        self.bytes.get(PeerId::LEN + 1..self.front_len()).unwrap_or_default()
    }

    /// Its number: the highest counts.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.bytes.get(self.front_len() + 8 + Signature::LEN..).unwrap_or_default()
    }
}

impl fmt::Debug for SignedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedValue")
            .field("signer", &self.signer)
            .field("salt", &self.salt().escape_ascii().to_string())
            .field("sequence", &self.sequence)
            .field("value", &format_args!("{} bytes", self.value().len()))
            .finish_non_exhaustive()
    }
}

/// A signed value, not verified.
struct Parts<'a> {
    signer: [u8; 32],
    salt: &'a [u8],
    sequence: u64,
    signature: Signature,
    value: &'a [u8],
}

impl<'a> Parts<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (signer, salt) = (reader.array()?, reader.short_bytes()?);
        check_len(salt.len(), limits::MAX_SALT)?;
        let (sequence, signature) = (reader.u64()?, Signature::from_bytes(reader.array()?));
        check_len(salt.len() + reader.len(), limits::MAX_VALUE)?;
        Ok(Self { signer, salt, sequence, signature, value: reader.rest() })
    }
}

/// What the bytes of a PUT claim to be, by cheap checks only.
pub(crate) struct Claim {
    pub(crate) key: Key,
    pub(crate) sequence: u64,
    pub(crate) signer: Option<[u8; 32]>,
    /// How many bytes an answer leaves out.
    pub(crate) front: usize,
}

impl Claim {
    pub(crate) fn of(kind: Kind, bytes: &[u8]) -> Result<Self, Refused> {
        match kind {
            Kind::Value if bytes.len() > limits::MAX_VALUE => Err(Refused::Limit),
            Kind::Value => Ok(Self { key: value_key(bytes), sequence: 0, signer: None, front: 0 }),
            Kind::Signed => {
                let Parts { signer, salt, sequence, .. } = Parts::decode(bytes)?;
                let key = place(SIGNED, &[&signer, salt]);
                Ok(Self { key, sequence, signer: Some(signer), front: signer.len() + 1 + salt.len() })
            }
            Kind::Peer => {
                let (message, _signature) = bytes.split_last_chunk::<{ Signature::LEN }>().ok_or(Refused::Limit)?;
                let mut reader = Reader::new(message);
                let peer: [u8; 32] = reader.array()?;
                let sequence = Entries::new(reader.rest()).find(SEQUENCE).ok_or(Refused::Limit)?;
                let sequence = Reader::new(sequence).u64()?;
                Ok(Self { key: place(PEER, &[&peer]), sequence, signer: Some(peer), front: 0 })
            }
        }
    }
}

/// The key of a value that cannot change: its hash.
#[must_use]
pub fn value_key(value: &[u8]) -> Key {
    place(VALUE, &[value])
}

/// The key of the values of a signer under a salt.
#[must_use]
pub fn signed_key(signer: &PeerId, salt: &[u8]) -> Key {
    place(SIGNED, &[signer.as_bytes(), salt])
}

/// The key of the address record of a peer.
#[must_use]
pub fn peer_key(peer: &PeerId) -> Key {
    place(PEER, &[peer.as_bytes()])
}

pub(crate) fn place(label: &[u8], parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new().chain_update(label);
    parts.iter().for_each(|part| hash.update(part));
    Key::from_bytes(hash.finalize().into())
}

fn signed(key: Key, sequence: u64, value: &[u8]) -> Vec<u8> {
    [key.as_bytes().as_slice(), &sequence.to_be_bytes(), value].concat()
}

fn check_len(len: usize, max: usize) -> Result<(), DecodeError> {
    if len > max { Err(DecodeError::TooLong { len, max }) } else { Ok(()) }
}

const VALUE: &[u8] = b"setowire dht value 1";
const SIGNED: &[u8] = b"setowire dht signed 1";
const PEER: &[u8] = b"setowire dht peer 1";
/// The tag of the sequence in an address record (SPEC 7.6).
const SEQUENCE: u64 = 1;
