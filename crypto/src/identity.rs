//! The long-term key of a node.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::key_bytes::{self, KEY_BYTES, KeyError, KeyType};
use crate::sign::{self, Context, Signature};
use crate::x25519::{Backend, KeyPair};
use crate::{PeerId, Rng};

/// Who this node is: one Ed25519 key, used for signatures and, as an X25519 key, for handshakes.
///
/// Everything follows from a seed of 32 bytes, which is what [`to_bytes`](Self::to_bytes) writes. That one key may do
/// both is shown in "On using the same key pair for Ed25519 and an X25519 based KEM" (Thormarker, 2021); signatures
/// carry a [`Context`] besides.
///
/// The secrets never leave this type except in `to_bytes`, are wiped on drop and are not shown by `Debug`. Not `Clone`:
/// share it by reference or [`Arc`].
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    signing: SigningKey,
    agreement: Arc<KeyPair>,
    peer_id: PeerId,
    keys: PublicKeys,
}

impl Identity {
    /// The identity of a seed.
    ///
    /// Candidate number *i* is HKDF-SHA256 (RFC 5869) of the seed with an empty salt and the info `setowire identity`
    /// followed by *i* (32 bits, big endian), as an Ed25519 private key. The identity is the first candidate whose
    /// public key has sign bit 0, as a [`PeerId`] must: the second on average.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::with_backend(seed, Backend::default())
    }

    /// A new identity: the seed is the next 32 bytes of `rng`.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_seed(rng.array())
    }

    /// [`from_seed`](Self::from_seed) on a chosen implementation of X25519.
    #[doc(hidden)]
    pub fn with_backend(seed: [u8; 32], backend: Backend) -> Self {
        let seed = Zeroizing::new(seed);
        let mut number: u32 = 0;
        let (signing, public) = loop {
            let signing = SigningKey::from_bytes(&derive(&seed, &[IDENTITY, &number.to_be_bytes()]));
            let public = signing.verifying_key().to_bytes();
            let [.., last] = public;
            if last & 0x80 == 0 {
                break (signing, public);
            }
            number = number.wrapping_add(1);
        };
        let agreement = Arc::new(KeyPair::new(backend, &Zeroizing::new(signing.to_scalar_bytes())));
        let keys = PublicKeys::of(agreement.public());
        Self { seed, signing, agreement, peer_id: PeerId::trusted(public), keys }
    }

    /// The name others know this node by.
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Signs `message` for one purpose. The signature is deterministic (RFC 8032) over the context and the message.
    pub fn sign(&self, context: Context, message: &[u8]) -> Signature {
        sign::sign(&self.signing, context, message)
    }

    /// The identity as [`KeyType::Identity`] in the encoding that says its own type. Secret: it is all there is to know.
    pub fn to_bytes(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(key_bytes::encode(KeyType::Identity, &self.seed))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is something else, or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::from_seed(*key_bytes::decode(KeyType::Identity, bytes)?))
    }

    /// The identity for the v12 wire that belongs to this one.
    ///
    /// Its seed is HKDF-SHA256 of this seed with the info `setowire v12 identity`: whoever learns the v12 key, which
    /// that wire uses without forward secrecy, learns nothing about the native one.
    #[cfg(feature = "v12")]
    #[cfg_attr(docsrs, doc(cfg(feature = "v12")))]
    pub fn v12(&self) -> crate::v12::Identity {
        crate::v12::Identity::from_seed(&*derive(&self.seed, &[V12]))
    }

    /// The key pair of the handshakes.
    pub(crate) const fn agreement(&self) -> &Arc<KeyPair> {
        &self.agreement
    }

    /// What others key messages to this identity with.
    pub(crate) const fn keys(&self) -> &PublicKeys {
        &self.keys
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&format_args!("{}", self.peer_id)).finish()
    }
}

/// Keys that follow from a public key: whoever knows the key can compute them, and nobody else.
#[derive(Clone)]
pub(crate) struct PublicKeys {
    /// Key of mac1 in an INIT to that identity.
    pub(crate) mac1: [u8; 32],
    /// Key under which that identity seals cookies.
    pub(crate) cookie: [u8; 32],
}

impl PublicKeys {
    /// The keys of the X25519 key `public`.
    pub(crate) fn of(public: &[u8; 32]) -> Self {
        let hash = |label: &[u8]| Sha256::new().chain_update(label).chain_update(public).finalize().into();
        Self { mac1: hash(b"setowire mac1"), cookie: hash(b"setowire cookie") }
    }
}

/// 32 bytes of HKDF-SHA256 with an empty salt and the concatenated `info`.
fn derive(seed: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(None, seed).expand_multi_info(info, out.as_mut());
    debug_assert!(expanded.is_ok(), "one block is far below the limit of 255");
    out
}

const IDENTITY: &[u8] = b"setowire identity";
#[cfg(feature = "v12")]
const V12: &[u8] = b"setowire v12 identity";
