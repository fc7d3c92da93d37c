//! The side that dials.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::mac::{self, MAC};
use super::wire::Parts;
use super::{
    Acquaintance, Established, HandshakeError, InitPayload, Kind, MAX_MESSAGE, NetworkId, RespPayload, Ticket, prologue,
};
use crate::cookie;
use crate::identity::PublicKeys;
use crate::noise::{Ephemeral, Lasting, Noise, Pattern, Start};
use crate::x25519::{Backend, KeyPair};
use crate::{Identity, PeerId, Rng};

/// One attempt to reach a peer: a message, and what is needed to read its answer.
///
/// The attempt ends with the first answer that [`finish`](Self::finish) accepts. Everything else that arrives, however
/// bad, leaves it as it was. Secrets are wiped on drop.
pub struct Initiator {
    /// INIT, XX1 or INIT_R.
    kind: Kind,
    message: Vec<u8>,
    cid: [u8; 8],
    /// Our ephemeral public key.
    ephemeral: [u8; 32],
    /// `None` once finished.
    noise: Option<Noise>,
    /// Whom the message is for, if it is for somebody.
    peer: Option<PeerId>,
    /// What COOKIE is sealed under.
    cookie_key: Zeroizing<[u8; 32]>,
    /// For XX3.
    xx: Option<Xx>,
}

/// What an initiator of XX needs after its first message: to begin again, when an answer was authentic and still not
/// the right one, and to say who it is.
struct Xx {
    local: Arc<KeyPair>,
    ephemeral: Ephemeral,
    prologue: Vec<u8>,
    payload: InitPayload,
}

impl Initiator {
    /// A handshake with a peer whose key is known: INIT, 180 bytes. Takes 32 bytes of `rng`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Internal`], which has no cause outside this crate.
    pub fn ik(
        identity: &Identity,
        peer: PeerId,
        cid: [u8; 8],
        payload: &InitPayload,
        network: NetworkId,
        rng: &mut Rng,
    ) -> Result<Self, HandshakeError> {
        let acquaintance = Acquaintance::new(identity, peer).ok_or(HandshakeError::Internal)?;
        Self::ik_with(identity, acquaintance, cid, payload, network, rng)
    }

    /// [`ik`](Self::ik) with what `identity` has in common with the peer, which spares a key agreement.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Internal`], which has no cause outside this crate.
    pub fn ik_with(
        identity: &Identity,
        acquaintance: Arc<Acquaintance>,
        cid: [u8; 8],
        payload: &InitPayload,
        network: NetworkId,
        rng: &mut Rng,
    ) -> Result<Self, HandshakeError> {
        let header = Kind::Init.header(cid);
        let local = identity.agreement();
        let key = KeyPair::generate(local.backend(), rng);
        let ephemeral = *key.public();
        let (peer, remote) = (acquaintance.peer(), *acquaintance.key());
        let mut noise = Noise::new(&Start {
            pattern: Pattern::Ik,
            initiator: true,
            local: Some(local),
            remote: Some(&remote),
            ephemeral: &Arc::new(OnceLock::from(key)),
            lasting: Some(&Lasting::Initiator(acquaintance)),
            psk: None,
            prologue: &prologue(network, &header, None),
        })?;
        let mut message = Vec::with_capacity(Kind::Init.min_len() + MAC);
        message.extend_from_slice(&header);
        noise.write(&payload.encode(), &mut message)?;
        let keys = PublicKeys::of(&remote);
        message.extend_from_slice(&mac::mac(&keys.mac1, &message));
        message.extend_from_slice(&[0; MAC]);
        Ok(Self {
            kind: Kind::Init,
            message,
            cid,
            ephemeral,
            noise: Some(noise),
            peer: Some(peer),
            cookie_key: Zeroizing::new(keys.cookie),
            xx: None,
        })
    }

    /// A handshake with whoever answers at an address: XX1, 240 bytes. Takes 32 bytes of `rng`.
    ///
    /// The payload is not sent before XX3, and only to the peer that [`finish`](Self::finish) accepted.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Internal`], which has no cause outside this crate.
    pub fn xx(
        identity: &Identity,
        cid: [u8; 8],
        payload: &InitPayload,
        network: NetworkId,
        rng: &mut Rng,
    ) -> Result<Self, HandshakeError> {
        let header = Kind::Xx1.header(cid);
        let local = Arc::clone(identity.agreement());
        let key = KeyPair::generate(local.backend(), rng);
        let ephemeral = *key.public();
        let xx = Xx {
            local,
            ephemeral: Arc::new(OnceLock::from(key)),
            prologue: prologue(network, &header, None),
            payload: *payload,
        };
        let mut message = header.to_vec();
        let noise = xx.begin(&mut message)?;
        message.resize(Kind::Xx1.min_len(), 0);
        Ok(Self {
            kind: Kind::Xx1,
            message,
            cid,
            ephemeral,
            noise: Some(noise),
            peer: None,
            cookie_key: cookie::xx_key(&ephemeral),
            xx: Some(xx),
        })
    }

    /// A handshake with the peer that gave a ticket: INIT_R, 148 bytes. Takes 32 bytes of `rng`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Internal`], which has no cause outside this crate.
    pub fn resume(
        ticket: Ticket,
        cid: [u8; 8],
        payload: &InitPayload,
        network: NetworkId,
        rng: &mut Rng,
    ) -> Result<Self, HandshakeError> {
        let header = Kind::InitR.header(cid);
        let key = KeyPair::generate(Backend::default(), rng);
        let ephemeral = *key.public();
        let mut noise = Noise::new(&Start {
            pattern: Pattern::NnPsk0,
            initiator: true,
            local: None,
            remote: None,
            ephemeral: &Arc::new(OnceLock::from(key)),
            lasting: None,
            psk: Some(ticket.psk()),
            prologue: &prologue(network, &header, Some(ticket.id())),
        })?;
        let mut message = Vec::with_capacity(Kind::InitR.min_len() + MAC);
        message.extend_from_slice(&header);
        message.extend_from_slice(ticket.id());
        noise.write(&payload.encode(), &mut message)?;
        message.extend_from_slice(&mac::mac(&*mac::ticket_key(ticket.psk()), &message));
        message.extend_from_slice(&[0; MAC]);
        Ok(Self {
            kind: Kind::InitR,
            message,
            cid,
            ephemeral,
            noise: Some(noise),
            peer: Some(ticket.peer()),
            cookie_key: cookie::ticket_key(ticket.psk()),
            xx: None,
        })
    }

    /// The datagram to send: the same bytes at each retry, but for the cookie once there is one.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// INIT, XX1 or INIT_R.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The connection id that answers carry.
    pub const fn connection_id(&self) -> [u8; 8] {
        self.cid
    }

    /// Whom the message is for: `None` for XX.
    pub const fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Takes the cookie out of COOKIE. From now on [`message`](Self::message) proves our address with it; send it again.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if this is not a COOKIE for the message as it was sent last.
    pub fn on_cookie(&mut self, datagram: &[u8]) -> Result<(), HandshakeError> {
        self.check(Kind::Cookie, datagram)?;
        let (before, mac2) = self.message.split_last_chunk_mut::<MAC>().ok_or(HandshakeError::Internal)?;
        let cookie = match self.kind {
            // XX1 has no mac1 that could tell it from another.
            Kind::Xx1 => {
                let hash = Sha256::new().chain_update(&before).chain_update(&mac2).finalize();
                cookie::open(&self.cookie_key, &hash, datagram)
            }
            _ => {
                let mac1 = before.last_chunk::<MAC>().ok_or(HandshakeError::Internal)?;
                cookie::open(&self.cookie_key, mac1, datagram)
            }
        };
        *mac2 = mac::mac(&cookie.ok_or(HandshakeError::Unauthentic)?, before);
        Ok(())
    }

    /// Whether this is a RETRY for this attempt: the ticket is unknown there. Anyone can send one; it may make us dial
    /// anew without a ticket, and this attempt may still be answered.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if it is something else, or this attempt did not use a ticket.
    pub fn on_retry(&self, datagram: &[u8]) -> Result<(), HandshakeError> {
        if self.kind != Kind::InitR {
            return Err(HandshakeError::WrongKind);
        }
        self.check(Kind::Retry, datagram)
    }

    /// Reads RESP, XX2 or RESP_R. The handshake is then complete at this end.
    ///
    /// With `expected`, no other peer will do. XX finds that out here: if another one answered, there is no XX3, so that
    /// it does not learn who we are, and an answer of the right one is still accepted.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; this attempt goes on as if the datagram had not come.
    pub fn finish(
        &mut self,
        datagram: &[u8],
        expected: Option<PeerId>,
    ) -> Result<Established<RespPayload>, HandshakeError> {
        let kind = match self.kind {
            Kind::Xx1 => Kind::Xx2,
            Kind::InitR => Kind::RespR,
            _ => Kind::Resp,
        };
        self.check(kind, datagram)?;
        let Parts { header, noise: sealed, covered, mac1 } =
            Parts::<20>::of(datagram).ok_or(HandshakeError::Internal)?;
        if !mac::verify(&*mac::answer_key(&self.ephemeral, &self.cid), covered, mac1) {
            return Err(HandshakeError::WrongMac);
        }
        if let (Some(expected), Some(obtained)) = (expected, self.peer)
            && expected != obtained
        {
            return Err(HandshakeError::WrongPeer { obtained });
        }
        let noise = self.noise.as_mut().ok_or(HandshakeError::Finished)?;
        let mut buffer = [0; MAX_MESSAGE];
        let payload = noise.read(sealed, &mut buffer)?;
        let payload = RespPayload::decode(payload).ok_or(HandshakeError::Internal)?;
        let remote_cid = *header.last_chunk().ok_or(HandshakeError::Internal)?;
        let (peer, xx3) = match &self.xx {
            None => (self.peer, None),
            Some(xx) => match xx.identify(noise, sealed, remote_cid, expected) {
                Ok((peer, xx3)) => (Some(peer), Some(xx3)),
                Err(error) => {
                    // What was read cannot be taken back, so begin again: with the same key, and without an agreement.
                    self.noise = Some(xx.begin(&mut Vec::new())?);
                    return Err(error);
                }
            },
        };
        let secrets = self.noise.take().ok_or(HandshakeError::Internal)?.split(*header)?;
        Ok(Established { peer, remote_cid, payload, secrets, confirmed: true, xx3 })
    }

    /// What is common to all answers.
    fn check(&self, kind: Kind, datagram: &[u8]) -> Result<(), HandshakeError> {
        if self.noise.is_none() {
            return Err(HandshakeError::Finished);
        }
        kind.check(datagram)?;
        if Kind::connection_id(datagram) == Some(self.cid) { Ok(()) } else { Err(HandshakeError::WrongConnectionId) }
    }
}

impl Xx {
    /// A handshake up to its first message, which is appended to `out`.
    fn begin(&self, out: &mut Vec<u8>) -> Result<Noise, HandshakeError> {
        let mut noise = Noise::new(&Start {
            pattern: Pattern::Xx,
            initiator: true,
            local: Some(&self.local),
            remote: None,
            ephemeral: &self.ephemeral,
            lasting: None,
            psk: None,
            prologue: &self.prologue,
        })?;
        noise.write(&[], out)?;
        Ok(noise)
    }

    /// Who answered and, if that is who was expected, XX3.
    fn identify(
        &self,
        noise: &mut Noise,
        sealed: &[u8],
        cid_r: [u8; 8],
        expected: Option<PeerId>,
    ) -> Result<(PeerId, Vec<u8>), HandshakeError> {
        let key = noise.remote().ok_or(HandshakeError::Internal)?;
        let obtained = PeerId::from_x25519(&key).map_err(HandshakeError::BadIdentity)?;
        if expected.is_some_and(|expected| expected != obtained) {
            return Err(HandshakeError::WrongPeer { obtained });
        }
        let mut xx3 = Kind::Xx3.header(cid_r).to_vec();
        noise.write(&self.payload.encode(), &mut xx3)?;
        let e_r = sealed.first_chunk().ok_or(HandshakeError::Internal)?;
        xx3.extend_from_slice(&mac::mac(&*mac::xx3_key(e_r, &cid_r), &xx3));
        Ok((obtained, xx3))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("kind", &self.kind)
            .field("peer", &self.peer)
            .field("finished", &self.noise.is_none())
            .finish_non_exhaustive()
    }
}
