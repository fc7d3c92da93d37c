//! Meeting at a server that learns nothing of what the meeting is about (SPEC 16.1).
//!
//! A [`Rendezvous`] follows from a secret that all who meet know (a topic, or the id of the peer who is looked for) and
//! from the day. It gives the name under which bodies lie at the server, and the key that they are sealed with. Who does
//! not know the secret can neither compute one from the other nor read what lies there; who can guess the secret can do
//! both. Whoever opens a body knows that somebody sealed it who knows the secret, and nothing of whom: what is in it
//! needs a signature of its own.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Rng;
use crate::aead::{Backend, TAG_LEN, XNONCE_LEN, xchacha};

/// Length of the name of a place at a server, in bytes.
pub const NAME: usize = 32;

/// Length of the name of one body in a place, in bytes.
pub const SLOT: usize = 16;

/// The longest text that [`seal`](Rendezvous::seal) takes, in bytes.
pub const MAX_TEXT: usize = 1022;

/// The longest sealed body: nonce, padded text and tag.
pub const MAX_BODY: usize = XNONCE_LEN + PADDED[2] + TAG_LEN;

/// What a secret is, so that one that is both a topic and an id leads to two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// A topic: whoever is in it.
    Topic,
    /// The id of a peer: whoever looks for it.
    Peer,
}

/// A place on one day. The key is wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Rendezvous {
    #[zeroize(skip)]
    name: [u8; NAME],
    key: [u8; 32],
}

impl Rendezvous {
    /// The place of a secret on a `day`, counted since 1970.
    #[must_use]
    pub fn new(meeting: Meeting, secret: &[u8; 32], day: u64) -> Self {
        let label: &[u8] = match meeting {
            Meeting::Topic => b"setowire rendezvous topic 1",
            Meeting::Peer => b"setowire rendezvous peer 1",
        };
        let mut out = [0; NAME + 32];
        expand(secret, &[label, &day.to_be_bytes()], &mut out);
        let (mut name, mut key) = ([0; NAME], [0; 32]);
        let (first, second) = out.split_at(NAME);
        name.copy_from_slice(first);
        key.copy_from_slice(second);
        out.zeroize();
        Self { name, key }
    }

    /// Its name at the server.
    #[must_use]
    pub const fn name(&self) -> &[u8; NAME] {
        &self.name
    }

    /// The name of the place where one of those who meet waits for answers of the others.
    #[must_use]
    pub fn inbox(&self, peer: &[u8; 32]) -> [u8; NAME] {
        let mut name = [0; NAME];
        expand(&self.key, &[b"setowire inbox 1", peer], &mut name);
        name
    }

    /// The name of the one body of a node here, which no other node can compute: `secret` is known to this node alone.
    #[must_use]
    pub fn slot(&self, secret: &[u8; 32]) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        expand(secret, &[b"setowire slot 1", &self.name], &mut slot);
        slot
    }

    /// Seals a text for the place with this name, [`name`](Self::name) or an [`inbox`](Self::inbox), which the body cannot
    /// be moved from. The body is as long as one of 254, 510 and 1022 bytes makes it. Takes 24 bytes from `rng`.
    ///
    /// # Errors
    ///
    /// [`TooLong`] above [`MAX_TEXT`] bytes.
    pub fn seal(&self, place: &[u8; NAME], text: &[u8], rng: &mut Rng) -> Result<Vec<u8>, TooLong> {
        let padded = PADDED.into_iter().find(|padded| text.len() + 2 <= *padded).ok_or(TooLong)?;
        let len = u16::try_from(text.len()).or(Err(TooLong))?;
        let nonce = rng.array::<XNONCE_LEN>();
        let mut body = Vec::with_capacity(XNONCE_LEN + padded + TAG_LEN);
        body.extend_from_slice(&nonce);
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(text);
        body.resize(XNONCE_LEN + padded, 0);
        let (_, inner) = body.split_at_mut(XNONCE_LEN);
        let sealed = xchacha(Backend::default(), &self.key, &nonce)
            .and_then(|(key, nonce)| key.seal(nonce, place, inner))
            .or(Err(TooLong))?;
        body.extend_from_slice(&sealed);
        Ok(body)
    }

    /// Opens a body that lay at `place`, and returns its text; `None` if nobody sealed it who knows the secret.
    #[must_use]
    pub fn open<'a>(&self, place: &[u8; NAME], body: &'a mut [u8]) -> Option<&'a [u8]> {
        let (nonce, sealed) = body.split_first_chunk_mut::<XNONCE_LEN>()?;
        let (key, nonce) = xchacha(Backend::default(), &self.key, nonce).ok()?;
        let (len, rest) = key.open(nonce, place, sealed).ok()?.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_be_bytes(*len)))
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").finish_non_exhaustive()
    }
}

/// A text is too long to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_TEXT} bytes")]
pub struct TooLong;

fn expand(secret: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    let expanded = Hkdf::<Sha256>::new(None, secret).expand_multi_info(info, out);
    debug_assert!(expanded.is_ok(), "two blocks at most");
}

/// What texts are lengthened to, with the two bytes of their length: so a body does not tell how many addresses are in it.
const PADDED: [usize; 3] = [256, 512, 1024];
