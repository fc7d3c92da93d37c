//! What is sent between addresses to find out which of them reach each other (SPEC 15.4).

use framing::{DecodeError, Kind, Reader};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The number of an attempt, drawn by who begins it. It tells attempts apart and is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub [u8; 8]);

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeKind {
    /// Does this arrive?
    Probe,
    /// Your probe with this number did.
    Answer,
    /// My probe with this number did, as your answer says: the path works both ways.
    Confirm,
    /// The path of this one is taken. Only the initiator says so.
    Chosen,
    /// Agreed.
    Agreed,
}

/// A probe, or what answers one: [`LEN`](Self::LEN) bytes in every case, so that no answer is longer than what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Probe {
    /// What it says.
    pub kind: ProbeKind,
    /// The number of the probe that it is, or speaks of.
    pub number: u16,
    /// Which attempt it belongs to.
    pub attempt: AttemptId,
}

impl Probe {
    /// Length of the datagram: kind, type, number, attempt, mac.
    pub const LEN: usize = 28;

    /// The attempt that a datagram says it belongs to: for finding the machine that it is for.
    #[must_use]
    pub fn attempt(datagram: &[u8]) -> Option<AttemptId> {
        Self::read(datagram).ok().map(|probe| probe.attempt)
    }

    /// Reads a datagram and checks who wrote it.
    ///
    /// # Errors
    /// [`DecodeError::UnknownKind`], [`DecodeError::Truncated`], [`DecodeError::TrailingBytes`], [`DecodeError::UnknownFrame`], and
    /// [`DecodeError::BadKey`] if the MAC is not that of `key`.
    pub fn open(datagram: &[u8], key: &ProbeKey) -> Result<Self, DecodeError> {
        let probe = Self::read(datagram)?;
        let (body, mac) = datagram.split_last_chunk::<MAC>().ok_or(DecodeError::Truncated)?;
        if bool::from(key.mac(body).ct_eq(mac)) { Ok(probe) } else { Err(DecodeError::BadKey) }
    }

    /// Writes the datagram.
    #[must_use]
    pub fn seal(&self, key: &ProbeKey) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let kind = match self.kind {
            ProbeKind::Probe => 0,
            ProbeKind::Answer => 1,
            ProbeKind::Confirm => 2,
            ProbeKind::Chosen => 3,
            ProbeKind::Agreed => 4,
        };
        let body = [Kind::Probe.byte(), kind].into_iter().chain(self.number.to_be_bytes()).chain(self.attempt.0);
        out.iter_mut().zip(body).for_each(|(to, from)| *to = from);
        if let Some((body, mac)) = out.split_last_chunk_mut::<MAC>() {
            *mac = key.mac(body);
        }
        out
    }

    fn read(datagram: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let first = reader.peek().ok_or(DecodeError::Empty)?;
        if first != Kind::Probe.byte() {
            return Err(DecodeError::UnknownKind(first));
        }
        let [_, kind] = reader.array()?;
        let kind = match kind {
            0 => ProbeKind::Probe,
            1 => ProbeKind::Answer,
            2 => ProbeKind::Confirm,
            3 => ProbeKind::Chosen,
            4 => ProbeKind::Agreed,
            other => return Err(DecodeError::UnknownFrame(other.into())),
        };
        let (number, attempt) = (reader.u16()?, AttemptId(reader.array()?));
        reader.array::<MAC>()?;
        reader.finish()?;
        Ok(Self { kind, number, attempt })
    }
}

/// Half of what the keys of an attempt are made of. Each side draws one, for each round anew, and tells the other inside the
/// session that both have.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub(crate) [u8; 16]);

impl Secret {
    /// The secret with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be sent inside the session.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// The key of one direction.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ProbeKey([u8; 32]);

impl ProbeKey {
    /// The keys of what the initiator sends, and of what the responder sends (SPEC 15.4).
    #[must_use]
    pub fn derive(initiator: &Secret, responder: &Secret, attempt: AttemptId) -> [Self; 2] {
        [0_u8, 1].map(|role| {
            let mut secrets = [0; 32];
            secrets.iter_mut().zip(initiator.0.iter().chain(&responder.0)).for_each(|(to, from)| *to = *from);
            let key = hmac(&secrets, &[LABEL, &attempt.0, &[role]]);
            secrets.zeroize();
            Self(key)
        })
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC] {
        let mac = hmac(&self.0, &[body]);
        mac.first_chunk().copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeKey").finish_non_exhaustive()
    }
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key is padded with zeros to a block.
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

const LABEL: &[u8] = b"setowire punch 1";
const MAC: usize = 16;
