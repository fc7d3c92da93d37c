//! The Noise Protocol Framework (revision 34) by `snow`, on the primitives of this crate.
//!
//! `snow` runs the patterns; what multiplies, encrypts and hashes is ours, so that there is one generation of each
//! primitive in a program, keys that are already known are not derived again, and private keys are wiped.

use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::aead::{self, AeadKey, UnsupportedCipher};
use crate::handshake::{Acquaintance, Acquaintances, AnswerHeader, HandshakeError, MAX_MESSAGE, SessionSecrets};
use crate::x25519::{Backend, KeyPair};

/// The three patterns, with the one suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// The initiator knows the responder.
    Ik,
    /// Neither knows the other.
    Xx,
    /// Both hold a ticket.
    NnPsk0,
}

impl Pattern {
    const fn name(self) -> &'static str {
        match self {
            Self::Ik => "Noise_IK_25519_ChaChaPoly_SHA256",
            Self::Xx => "Noise_XX_25519_ChaChaPoly_SHA256",
            Self::NnPsk0 => "Noise_NNpsk0_25519_ChaChaPoly_SHA256",
        }
    }
}

/// What a handshake starts from.
pub(crate) struct Start<'a> {
    pub(crate) pattern: Pattern,
    pub(crate) initiator: bool,
    /// Our identity key: IK and XX.
    pub(crate) local: Option<&'a Arc<KeyPair>>,
    /// The responder's, for the initiator of IK.
    pub(crate) remote: Option<&'a [u8; 32]>,
    pub(crate) ephemeral: &'a Ephemeral,
    /// What is known of lasting keys: IK.
    pub(crate) lasting: Option<&'a Lasting>,
    /// The key of the ticket: NNpsk0.
    pub(crate) psk: Option<&'a [u8; 32]>,
    pub(crate) prologue: &'a [u8],
}

/// The key of one handshake, filled in when its first message is written: a responder may turn a message down before
/// it has paid for a key.
pub(crate) type Ephemeral = Arc<OnceLock<KeyPair>>;

/// Where IK finds what our lasting key agrees on with that of the other end.
#[derive(Clone)]
pub(crate) enum Lasting {
    /// The initiator knows whom it dials.
    Initiator(Arc<Acquaintance>),
    /// The responder learns whose key it is while it reads.
    Responder(Arc<Met>),
}

/// Whom the responder of IK may have met before, and whom it met now.
pub(crate) struct Met {
    /// The ephemeral key of the initiator. What ours agrees on with that one is not kept.
    fresh: [u8; 32],
    before: Arc<Acquaintances>,
    now: OnceLock<Meeting>,
}

/// What came of the agreement of two lasting keys.
pub(crate) enum Meeting {
    /// It had been made before.
    Again(Arc<Acquaintance>),
    /// It was made now, with this key.
    New([u8; 32], Zeroizing<[u8; 32]>),
}

impl Met {
    pub(crate) fn new(fresh: [u8; 32], before: &Arc<Acquaintances>) -> Arc<Self> {
        Arc::new(Self { fresh, before: Arc::clone(before), now: OnceLock::new() })
    }

    pub(crate) fn now(&self) -> Option<&Meeting> {
        self.now.get()
    }
}

impl Lasting {
    /// What `own`, our lasting key, agrees on with `public`.
    fn agree(&self, own: &KeyPair, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let met = match self {
            Self::Initiator(acquaintance) if acquaintance.key() == public => {
                return Some(Zeroizing::new(*acquaintance.agreed()));
            }
            Self::Responder(met) if met.fresh != *public => met,
            _ => return own.agree(public),
        };
        if let Some(acquaintance) = met.before.by_key(public) {
            let _already: Result<(), Meeting> = met.now.set(Meeting::Again(Arc::clone(acquaintance)));
            return Some(Zeroizing::new(*acquaintance.agreed()));
        }
        let agreed = own.agree(public)?;
        let _already: Result<(), Meeting> = met.now.set(Meeting::New(*public, agreed.clone()));
        Some(agreed)
    }
}

/// A handshake under way. Its state is overwritten on drop.
pub(crate) struct Noise(Box<HandshakeState>);

impl Noise {
    pub(crate) fn new(start: &Start<'_>) -> Result<Self, HandshakeError> {
        let resolver = Resolver {
            local: start.local.cloned(),
            ephemeral: Arc::clone(start.ephemeral),
            lasting: start.lasting.cloned(),
        };
        let params = start.pattern.name().parse()?;
        let mut builder = Builder::with_resolver(params, Box::new(resolver)).prologue(start.prologue)?;
        if let Some(local) = start.local {
            builder = builder.local_private_key(local.private())?;
        }
        if let Some(remote) = start.remote {
            builder = builder.remote_public_key(remote)?;
        }
        let state = if start.initiator { builder.build_initiator() } else { builder.build_responder() }?;
        let mut noise = Self(Box::new(state));
        if let Some(psk) = start.psk {
            // Only now that the state no longer moves and leaves copies of the key behind.
            noise.0.set_psk(0, psk)?;
        }
        Ok(noise)
    }

    /// Appends the next message to `out`.
    pub(crate) fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let start = out.len();
        // `snow` wants room for a tag behind the payload even where it writes none.
        out.resize(start + MAX_TOKENS + payload.len() + TAG, 0);
        let written = self.0.write_message(payload, out.get_mut(start..).unwrap_or_default());
        out.truncate(start + *written.as_ref().unwrap_or(&0));
        Ok(written.map(drop)?)
    }

    /// Reads the next message, and its payload into `payload`, which must have room for it.
    ///
    /// After an error, the first message of an initiator may be answered again: `snow` takes the transcript back to
    /// where it was, and the answers of our three patterns set everything else anew. That is not so for the third
    /// message of XX, whose first part uses a cipher state that the last message left.
    pub(crate) fn read<'a>(&mut self, message: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], HandshakeError> {
        let len = self.0.read_message(message, payload)?;
        payload.get(..len).ok_or(HandshakeError::Internal)
    }

    /// The identity key that the other end proved or, before the end, claims.
    pub(crate) fn remote(&self) -> Option<[u8; 32]> {
        self.0.get_remote_static()?.try_into().ok()
    }

    /// The keys, after the last message.
    pub(crate) fn split(mut self, answer_header: AnswerHeader) -> Result<SessionSecrets, HandshakeError> {
        if !self.0.is_handshake_finished() {
            return Err(HandshakeError::Internal);
        }
        let hash = self.0.get_handshake_hash().try_into().or(Err(HandshakeError::Internal))?;
        let (k_i, k_r) = self.0.dangerously_get_raw_split();
        let (k_i, k_r) = (Zeroizing::new(k_i), Zeroizing::new(k_r));
        Ok(SessionSecrets::new(*k_i, *k_r, hash, answer_header, self.0.is_initiator()))
    }
}

impl Drop for Noise {
    /// Overwrites the chaining key, from which the keys of the session follow: `snow` leaves it in memory.
    fn drop(&mut self) {
        let blank = || {
            let resolver = Resolver { local: None, ephemeral: Ephemeral::default(), lasting: None };
            let params = "Noise_NN_25519_ChaChaPoly_SHA256".parse().ok()?;
            Builder::with_resolver(params, Box::new(resolver)).build_initiator().ok()
        };
        if let Some(blank) = blank() {
            *self.0 = blank;
            black_box(&mut self.0);
        }
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noise").finish_non_exhaustive()
    }
}

impl From<snow::Error> for HandshakeError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Dh => Self::WeakKey,
            snow::Error::Decrypt | snow::Error::Input => Self::Unauthentic,
            // Wrong order of calls, wrong names: faults of this crate.
            _ => Self::Internal,
        }
    }
}

/// Gives `snow` the primitives of this crate, with keys that were derived already.
///
/// The ephemeral key is handed in, not drawn: the same resolver gives the same messages again.
pub struct Resolver {
    local: Option<Arc<KeyPair>>,
    ephemeral: Ephemeral,
    lasting: Option<Lasting>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// The resolver of one handshake.
    pub fn new(local: Option<Arc<KeyPair>>, ephemeral: KeyPair) -> Self {
        Self { local, ephemeral: Arc::new(OnceLock::from(ephemeral)), lasting: None }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(NoRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| -> Box<dyn Dh> {
            let (local, ephemeral) = (self.local.clone(), Arc::clone(&self.ephemeral));
            Box::new(X25519 { local, ephemeral, lasting: self.lasting.clone(), own: Own::Nothing })
        })
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| -> Box<dyn Hash> { Box::new(Sha(Sha256::new())) })
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly).then(|| -> Box<dyn Cipher> { Box::new(ChaCha([0; 32])) })
    }
}

/// The only thing a handshake draws is its ephemeral key, and that was drawn before.
struct NoRandom;

impl Random for NoRandom {
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), snow::Error> {
        Err(snow::Error::Rng)
    }
}

/// One of the two keys of a handshake.
struct X25519 {
    local: Option<Arc<KeyPair>>,
    ephemeral: Ephemeral,
    lasting: Option<Lasting>,
    own: Own,
}

/// Which of them it is: `snow` asks for the same thing twice and then `set`s one and lets the other `generate`.
enum Own {
    Nothing,
    Static(Arc<KeyPair>),
    Ephemeral,
}

impl X25519 {
    fn own(&self) -> Option<&KeyPair> {
        match &self.own {
            Own::Nothing => None,
            Own::Static(pair) => Some(pair),
            Own::Ephemeral => self.ephemeral.get(),
        }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        // The public key of our identity is known; to derive it again would cost about a third of an agreement.
        let known = self.local.as_ref().filter(|local| local.private().as_slice().ct_eq(private).into());
        self.own = match (known, private.try_into()) {
            (Some(known), _) => Own::Static(Arc::clone(known)),
            (None, Ok(private)) => Own::Static(Arc::new(KeyPair::new(Backend::default(), private))),
            (None, Err(_)) => Own::Nothing,
        };
    }

    fn generate(&mut self, _: &mut dyn Random) -> Result<(), snow::Error> {
        self.own = Own::Ephemeral;
        self.own().map(|_| ()).ok_or(snow::Error::Rng)
    }

    fn pubkey(&self) -> &[u8] {
        self.own().map_or(&[0; 32], |own| own.public())
    }

    fn privkey(&self) -> &[u8] {
        self.own().map_or(&[0; 32], |own| own.private())
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // Both buffers are as long as the longest key of any suite.
        let (own, public) = self.own().zip(public.first_chunk()).ok_or(snow::Error::Dh)?;
        let shared = match (&self.own, &self.lasting) {
            (Own::Static(_), Some(lasting)) => lasting.agree(own, public),
            _ => own.agree(public),
        };
        let shared = shared.ok_or(snow::Error::Dh)?;
        out.first_chunk_mut().ok_or(snow::Error::Dh).map(|out| *out = *shared)
    }
}

/// SHA-256.
struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Sha256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = std::mem::take(&mut self.0).finalize();
        out.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    }
}

/// ChaCha20-Poly1305 (RFC 8439) with the nonce of Noise: four zero bytes and the counter, little endian.
struct ChaCha([u8; 32]);

impl ChaCha {
    /// By the fastest code of this build: each key seals or opens once or twice.
    fn key(&self) -> Result<AeadKey, UnsupportedCipher> {
        AeadKey::new(aead::Backend::default(), crate::Cipher::ChaCha20Poly1305, &self.0)
    }

    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce.iter_mut().skip(4).zip(counter.to_le_bytes()).for_each(|(to, from)| *to = from);
        nonce
    }
}

impl Cipher for ChaCha {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = *key;
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let Some((text, tag)) = out.split_at_mut_checked(plaintext.len()) else { return 0 };
        let Some(tag) = tag.first_chunk_mut::<TAG>() else { return 0 };
        text.copy_from_slice(plaintext);
        match self.key().map(|key| key.seal(Self::nonce(nonce), authtext, text)) {
            Ok(Ok(sealed)) => *tag = sealed,
            // Longer than any message can be; what must not happen is that the text leaves in the clear.
            _ => text.zeroize(),
        }
        plaintext.len() + TAG
    }

    fn decrypt(&self, nonce: u64, authtext: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, snow::Error> {
        let len = ciphertext.len().checked_sub(TAG).ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..len).ok_or(snow::Error::Decrypt)?;
        let mut buffer = Zeroizing::new([0; MAX_MESSAGE]);
        let sealed = buffer.get_mut(..ciphertext.len()).ok_or(snow::Error::Decrypt)?;
        sealed.copy_from_slice(ciphertext);
        let key = self.key().or(Err(snow::Error::Decrypt))?;
        let text = key.open(Self::nonce(nonce), authtext, sealed).or(Err(snow::Error::Decrypt))?;
        out.copy_from_slice(text);
        Ok(len)
    }
}

impl Drop for ChaCha {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Length of a tag in bytes.
const TAG: usize = 16;
/// The longest part of a message in front of its payload: an ephemeral key and a sealed static one.
const MAX_TOKENS: usize = 32 + 32 + TAG;
