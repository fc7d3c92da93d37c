//! The side that is dialled.

use std::hint::black_box;
use std::sync::Arc;

use super::mac::{self, MAC};
use super::wire::Parts;
use super::{
    Acquaintance, Acquaintances, AnswerHeader, Established, FirstHeader, HandshakeError, InitPayload, Kind,
    MAX_MESSAGE, NetworkId, RespPayload, prologue,
};
use crate::noise::{Ephemeral, Lasting, Meeting, Met, Noise, Pattern, Start};
use crate::x25519::{Backend, KeyPair};
use crate::{Identity, PeerId, Rng};

/// A first message of any pattern, looked at and not yet believed.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// Somebody who knows our key.
    Init(Init<'a>),
    /// Somebody who wants to know who is here.
    Xx1(Xx1<'a>),
    /// Somebody with a ticket, or who says so.
    InitR(InitR<'a>),
}

impl<'a> Incoming<'a> {
    /// Takes a first message apart. Costs nothing: kind, length and version are checked, and no key is used.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::WrongKind`], [`WrongLength`](HandshakeError::WrongLength) or
    /// [`WrongVersion`](HandshakeError::WrongVersion).
    pub fn parse(datagram: &'a [u8]) -> Result<Self, HandshakeError> {
        let kind = datagram.first().copied().and_then(Kind::of).ok_or(HandshakeError::WrongKind)?;
        if !matches!(kind, Kind::Init | Kind::Xx1 | Kind::InitR) {
            return Err(HandshakeError::WrongKind);
        }
        kind.check(datagram)?;
        Self::split(kind, datagram).ok_or(HandshakeError::Internal)
    }

    fn split(kind: Kind, datagram: &'a [u8]) -> Option<Self> {
        let (before, mac2) = datagram.split_last_chunk::<MAC>()?;
        Some(match kind {
            Kind::Xx1 => {
                let (header, noise) = before.split_first_chunk()?;
                let first = First { datagram, header, ephemeral: noise.first_chunk()?, before, mac2 };
                Self::Xx1(Xx1(first))
            }
            Kind::InitR => {
                let Parts { header: prefix, noise, covered, mac1 } = Parts::<28>::of(before)?;
                let (header, ticket) = (prefix.first_chunk()?, prefix.last_chunk()?);
                let first = First { datagram, header, ephemeral: noise.first_chunk()?, before, mac2 };
                Self::InitR(InitR { first, ticket, noise, covered, mac1 })
            }
            _ => {
                let Parts { header, noise, covered, mac1 } = Parts::<12>::of(before)?;
                let first = First { datagram, header, ephemeral: noise.first_chunk()?, before, mac2 };
                Self::Init(Init { first, noise, covered, mac1 })
            }
        })
    }

    /// Which of the three.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Init(_) => Kind::Init,
            Self::Xx1(_) => Kind::Xx1,
            Self::InitR(_) => Kind::InitR,
        }
    }

    /// The whole message.
    pub const fn datagram(&self) -> &'a [u8] {
        self.first().datagram
    }

    /// The connection id of the sender, which every answer carries.
    pub fn connection_id(&self) -> [u8; 8] {
        self.first().cid()
    }

    /// The ephemeral key of the sender: fresh for each attempt, so it tells a repeated message from a new one.
    pub const fn ephemeral(&self) -> &'a [u8; 32] {
        self.first().ephemeral
    }

    /// mac1: what a cookie for this message is bound to. XX1 has none.
    pub(crate) const fn mac1(&self) -> Option<&'a [u8; MAC]> {
        match self {
            Self::Init(init) => Some(init.mac1),
            Self::Xx1(_) => None,
            Self::InitR(init) => Some(init.mac1),
        }
    }

    /// What mac2 covers, and mac2.
    pub(crate) const fn mac2(&self) -> (&'a [u8], &'a [u8; MAC]) {
        let first = self.first();
        (first.before, first.mac2)
    }

    const fn first(&self) -> &First<'a> {
        match self {
            Self::Init(init) => &init.first,
            Self::Xx1(Xx1(first)) => first,
            Self::InitR(init) => &init.first,
        }
    }
}

/// What all first messages have.
#[derive(Debug, Clone, Copy)]
struct First<'a> {
    datagram: &'a [u8],
    header: &'a FirstHeader,
    ephemeral: &'a [u8; 32],
    /// All but mac2.
    before: &'a [u8],
    mac2: &'a [u8; MAC],
}

impl First<'_> {
    fn cid(&self) -> [u8; 8] {
        Kind::connection_id(self.header).unwrap_or_default()
    }
}

/// INIT.
#[derive(Debug, Clone, Copy)]
pub struct Init<'a> {
    first: First<'a>,
    noise: &'a [u8],
    covered: &'a [u8],
    mac1: &'a [u8; MAC],
}

impl Init<'_> {
    /// Whether the sender knows our key. Costs about as much as hashing the message; check it before anything else, and
    /// say nothing if it fails.
    pub fn check_mac1(&self, identity: &Identity) -> bool {
        mac::verify(&identity.keys().mac1, self.covered, self.mac1)
    }

    /// Reads who wants to talk and what he says: two key agreements. Checks mac1 first.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if it was not made for this identity and network, or by nobody who could be answered.
    pub fn accept(&self, identity: &Identity, network: NetworkId) -> Result<IkResponder, HandshakeError> {
        self.accept_with(identity, network, &Arc::default())
    }

    /// [`accept`](Self::accept) of somebody who may be among those that are known: one key agreement then.
    ///
    /// A message that does not open costs two nevertheless: it may name anybody, and how long we are busy with it must not tell
    /// its sender whom we know.
    ///
    /// # Errors
    ///
    /// As those of [`accept`](Self::accept).
    pub fn accept_with(
        &self,
        identity: &Identity,
        network: NetworkId,
        known: &Arc<Acquaintances>,
    ) -> Result<IkResponder, HandshakeError> {
        if !self.check_mac1(identity) {
            return Err(HandshakeError::WrongMac);
        }
        let local = identity.agreement();
        let ephemeral = Ephemeral::default();
        let met = Met::new(*self.first.ephemeral, known);
        let mut noise = Noise::new(&Start {
            pattern: Pattern::Ik,
            initiator: false,
            local: Some(local),
            remote: None,
            ephemeral: &ephemeral,
            lasting: Some(&Lasting::Responder(Arc::clone(&met))),
            psk: None,
            prologue: &prologue(network, self.first.header, None),
        })?;
        let read = read_init(&mut noise, self.noise);
        if let (Err(_), Some(Meeting::Again(claimed))) = (&read, met.now()) {
            black_box(local.agree(claimed.key()));
        }
        let payload = read?;
        let (acquaintance, again) = match met.now() {
            Some(Meeting::Again(acquaintance)) => (Arc::clone(acquaintance), true),
            Some(Meeting::New(key, agreed)) => {
                let peer = PeerId::from_x25519(key).map_err(HandshakeError::BadIdentity)?;
                (Acquaintance::of(peer, *key, agreed.clone()), false)
            }
            // Only if its lasting key is its ephemeral one as well.
            None => {
                let key = noise.remote().ok_or(HandshakeError::Internal)?;
                let peer = PeerId::from_x25519(&key).map_err(HandshakeError::BadIdentity)?;
                let agreed = local.agree(&key).ok_or(HandshakeError::WeakKey)?;
                (Acquaintance::of(peer, key, agreed), false)
            }
        };
        let answer = Answer::new(Kind::Resp, &self.first, local.backend(), ephemeral);
        Ok(IkResponder { noise, acquaintance, again, payload, answer })
    }
}

/// INIT_R.
#[derive(Debug, Clone, Copy)]
pub struct InitR<'a> {
    first: First<'a>,
    ticket: &'a [u8; 16],
    noise: &'a [u8],
    covered: &'a [u8],
    mac1: &'a [u8; MAC],
}

impl InitR<'_> {
    /// The ticket it is made with.
    pub const fn ticket_id(&self) -> &[u8; 16] {
        self.ticket
    }

    /// Whether the sender holds the key of the ticket. Costs about as much as hashing the message.
    pub fn check_mac1(&self, psk: &[u8; 32]) -> bool {
        mac::verify(&*mac::ticket_key(psk), self.covered, self.mac1)
    }

    /// Reads what the holder of the ticket says: no key agreement yet. Checks mac1 first.
    ///
    /// The caller must have forgotten the ticket before the answer leaves.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if it was not made with this key, for this network.
    pub fn accept(&self, psk: &[u8; 32], network: NetworkId) -> Result<ResumeResponder, HandshakeError> {
        if !self.check_mac1(psk) {
            return Err(HandshakeError::WrongMac);
        }
        let ephemeral = Ephemeral::default();
        let mut noise = Noise::new(&Start {
            pattern: Pattern::NnPsk0,
            initiator: false,
            local: None,
            remote: None,
            ephemeral: &ephemeral,
            lasting: None,
            psk: Some(psk),
            prologue: &prologue(network, self.first.header, Some(self.ticket)),
        })?;
        let payload = read_init(&mut noise, self.noise)?;
        let answer = Answer::new(Kind::RespR, &self.first, Backend::default(), ephemeral);
        Ok(ResumeResponder { noise, payload, answer })
    }

    /// RETRY: tells the sender that the ticket is unknown here. Proves nothing, and costs nothing.
    pub fn retry(&self) -> FirstHeader {
        Kind::Retry.header(self.first.cid())
    }
}

/// XX1.
#[derive(Debug, Clone, Copy)]
pub struct Xx1<'a>(First<'a>);

impl Xx1<'_> {
    /// Prepares an answer. Costs nothing yet: XX1 holds only a key, and proves nothing.
    pub fn accept(&self, identity: &Identity, network: NetworkId) -> XxResponder {
        let local = Arc::clone(identity.agreement());
        let prologue = prologue(network, self.0.header, None);
        let answer = Answer::new(Kind::Xx2, &self.0, local.backend(), Ephemeral::default());
        XxResponder { local, prologue, answer }
    }
}

/// An INIT that opened: who it is of, and the means to answer.
#[derive(Debug)]
pub struct IkResponder {
    noise: Noise,
    acquaintance: Arc<Acquaintance>,
    again: bool,
    payload: InitPayload,
    answer: Answer,
}

impl IkResponder {
    /// Who made the INIT, now or at some time before.
    pub fn peer(&self) -> PeerId {
        self.acquaintance.peer()
    }

    /// What spares a key agreement when the same peer comes again, unless it was known already.
    pub fn acquaintance(&self) -> Option<&Arc<Acquaintance>> {
        (!self.again).then_some(&self.acquaintance)
    }

    /// What it says.
    pub const fn payload(&self) -> &InitPayload {
        &self.payload
    }

    /// RESP, 132 bytes, and a session that is half open until a packet of the peer opens. Takes 32 bytes of `rng` and
    /// two key agreements.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::WeakKey`] if the peer sent keys that agree on zero.
    pub fn reply(
        mut self,
        cid: [u8; 8],
        payload: &RespPayload,
        rng: &mut Rng,
    ) -> Result<(Vec<u8>, Established<InitPayload>), HandshakeError> {
        let (message, header) = self.answer.write(&mut self.noise, cid, payload, rng)?;
        let established = Established {
            peer: Some(self.peer()),
            remote_cid: self.answer.cid_i,
            payload: self.payload,
            secrets: self.noise.split(header)?,
            confirmed: false,
            xx3: None,
        };
        Ok((message, established))
    }
}

/// An INIT_R that opened, and the means to answer.
#[derive(Debug)]
pub struct ResumeResponder {
    noise: Noise,
    payload: InitPayload,
    answer: Answer,
}

impl ResumeResponder {
    /// What it says.
    pub const fn payload(&self) -> &InitPayload {
        &self.payload
    }

    /// RESP_R, 132 bytes, and a session that is half open until a packet of the peer opens. Takes 32 bytes of `rng` and
    /// one key agreement.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::WeakKey`] if the peer sent a key that agrees on zero.
    pub fn reply(
        mut self,
        cid: [u8; 8],
        payload: &RespPayload,
        rng: &mut Rng,
    ) -> Result<(Vec<u8>, Established<InitPayload>), HandshakeError> {
        let (message, header) = self.answer.write(&mut self.noise, cid, payload, rng)?;
        let established = Established {
            peer: None,
            remote_cid: self.answer.cid_i,
            payload: self.payload,
            secrets: self.noise.split(header)?,
            confirmed: false,
            xx3: None,
        };
        Ok((message, established))
    }
}

/// An XX1, and the means to answer.
#[derive(Debug)]
pub struct XxResponder {
    local: Arc<KeyPair>,
    prologue: Vec<u8>,
    answer: Answer,
}

impl XxResponder {
    /// XX2, 180 bytes, and what reads XX3. Takes 32 bytes of `rng` and two key agreements.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::WeakKey`] if the peer sent a key that agrees on zero.
    pub fn reply(
        self,
        cid: [u8; 8],
        payload: &RespPayload,
        rng: &mut Rng,
    ) -> Result<(Vec<u8>, XxPending), HandshakeError> {
        let mut noise = self.begin()?;
        let (message, header) = self.answer.write(&mut noise, cid, payload, rng)?;
        let pending =
            XxPending { responder: self, noise: Some(noise), cid, payload: *payload, header, finished: false };
        Ok((message, pending))
    }

    fn begin(&self) -> Result<Noise, HandshakeError> {
        let mut noise = Noise::new(&Start {
            pattern: Pattern::Xx,
            initiator: false,
            local: Some(&self.local),
            remote: None,
            ephemeral: &self.answer.ephemeral,
            lasting: None,
            psk: None,
            prologue: &self.prologue,
        })?;
        noise.read(&self.answer.e_i, &mut [])?;
        Ok(noise)
    }
}

/// An XX1 that was answered: waits for XX3.
#[derive(Debug)]
pub struct XxPending {
    responder: XxResponder,
    /// `None` after a bad XX3: see [`XxPending::resume`].
    noise: Option<Noise>,
    cid: [u8; 8],
    payload: RespPayload,
    header: AnswerHeader,
    finished: bool,
}

impl XxPending {
    /// The connection id that XX3 carries: ours.
    pub const fn connection_id(&self) -> [u8; 8] {
        self.cid
    }

    /// Reads XX3: who has been talking. The handshake is then complete, and the peer is known to be there.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; a good XX3 is still accepted afterwards. Who has seen XX2 can make each call cost three key
    /// agreements, so bound the calls for one XX1.
    pub fn finish(&mut self, datagram: &[u8]) -> Result<Established<InitPayload>, HandshakeError> {
        if self.finished {
            return Err(HandshakeError::Finished);
        }
        Kind::Xx3.check(datagram)?;
        if Kind::connection_id(datagram) != Some(self.cid) {
            return Err(HandshakeError::WrongConnectionId);
        }
        let Parts { noise: sealed, covered, mac1, .. } = Parts::<12>::of(datagram).ok_or(HandshakeError::Internal)?;
        let answer = &self.responder.answer;
        let e_r = answer.ephemeral.get().ok_or(HandshakeError::Internal)?.public();
        if !mac::verify(&*mac::xx3_key(e_r, &self.cid), covered, mac1) {
            return Err(HandshakeError::WrongMac);
        }
        let mut noise = match self.noise.take() {
            Some(noise) => noise,
            None => self.resume()?,
        };
        // A message that does not open spoils the state, which is therefore put back only by `resume`.
        let payload = read_init(&mut noise, sealed)?;
        let key = noise.remote().ok_or(HandshakeError::Internal)?;
        let peer = PeerId::from_x25519(&key).map_err(HandshakeError::BadIdentity)?;
        let secrets = noise.split(self.header)?;
        self.finished = true;
        let remote_cid = self.responder.answer.cid_i;
        Ok(Established { peer: Some(peer), remote_cid, payload, secrets, confirmed: true, xx3: None })
    }

    /// The state after XX2 once more, with the same key and the same bytes.
    fn resume(&self) -> Result<Noise, HandshakeError> {
        let mut noise = self.responder.begin()?;
        noise.write(&self.payload.encode(), &mut Vec::new())?;
        Ok(noise)
    }
}

/// What an answer is made from.
#[derive(Debug)]
struct Answer {
    kind: Kind,
    cid_i: [u8; 8],
    e_i: [u8; 32],
    backend: Backend,
    ephemeral: Ephemeral,
}

impl Answer {
    fn new(kind: Kind, first: &First<'_>, backend: Backend, ephemeral: Ephemeral) -> Self {
        Self { kind, cid_i: first.cid(), e_i: *first.ephemeral, backend, ephemeral }
    }

    /// Makes our ephemeral key and the answer.
    fn write(
        &self,
        noise: &mut Noise,
        cid: [u8; 8],
        payload: &RespPayload,
        rng: &mut Rng,
    ) -> Result<(Vec<u8>, AnswerHeader), HandshakeError> {
        // A `OnceLock` that is set keeps its key; an answer is written once.
        let _: Result<(), KeyPair> = self.ephemeral.set(KeyPair::generate(self.backend, rng));
        let header = self.kind.answer_header(self.cid_i, cid);
        let mut message = Vec::with_capacity(self.kind.min_len() + 2 * MAC);
        message.extend_from_slice(&header);
        noise.write(&payload.encode(), &mut message)?;
        message.extend_from_slice(&mac::mac(&*mac::answer_key(&self.e_i, &self.cid_i), &message));
        Ok((message, header))
    }
}

/// Reads the message that carries what the initiator says.
fn read_init(noise: &mut Noise, sealed: &[u8]) -> Result<InitPayload, HandshakeError> {
    let mut buffer = [0; MAX_MESSAGE];
    let payload = noise.read(sealed, &mut buffer)?;
    InitPayload::decode(payload).ok_or(HandshakeError::Internal)
}
