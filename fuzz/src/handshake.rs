//! The native handshakes: every decoder on its own, and two ends with somebody between them.
//!
//! Who is between may change, repeat, cut, extend, drop and invent messages, and knows everything that does not take a
//! secret to know, so also how to make the first MAC of what he changed. He must not get an end to change its mind, to
//! believe in another peer, or to share keys with him or with an end that saw another conversation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Instant;

use crypto::handshake::{
    Established, HandshakeError, Incoming, InitPayload, Initiator, Kind, NetworkId, RespPayload, Ticket, VERSIONS,
    XxPending,
};
use crypto::{CookieJar, Identity, Rng, Seed};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use sim::clock;

use crate::input::Input;

/// Takes the input as a message, or as what somebody does to a conversation.
pub fn handshake(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(4) {
        0 => decode(&mut input),
        pattern => converse(PATTERNS[pattern - 1], &mut input),
    }
}

const PATTERNS: [Kind; 3] = [Kind::Init, Kind::Xx1, Kind::InitR];
const NETWORK: NetworkId = NetworkId::new([0; 32]);
const PSK: [u8; 32] = [3; 32];
const CID_I: [u8; 8] = *b"fuzz ini";
const CID_R: [u8; 8] = *b"fuzz res";
const HELLO: InitPayload = InitPayload { timestamp: 1, versions: VERSIONS, capabilities: 1, max_datagram: 1452 };

static ALICE: LazyLock<Identity> = LazyLock::new(|| Identity::from_seed([1; 32]));
static BOB: LazyLock<Identity> = LazyLock::new(|| Identity::from_seed([2; 32]));
static BOB_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| BOB.peer_id().x25519());

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}

fn welcome() -> RespPayload {
    RespPayload {
        versions: VERSIONS,
        capabilities: 1,
        max_datagram: 1452,
        observed: address(),
        reset_token: *b"the reset token.",
    }
}

fn dial(pattern: Kind, rng: &mut Rng) -> Initiator {
    let ticket = || Ticket::new([4; 16], PSK, BOB.peer_id(), clock::base());
    let dial = match pattern {
        Kind::Init => Initiator::ik(&ALICE, BOB.peer_id(), CID_I, &HELLO, NETWORK, rng),
        Kind::Xx1 => Initiator::xx(&ALICE, CID_I, &HELLO, NETWORK, rng),
        _ => Initiator::resume(ticket(), CID_I, &HELLO, NETWORK, rng),
    };
    dial.expect("no reason to fail")
}

/// Nothing from outside is a fault of ours.
fn blame(error: HandshakeError) {
    assert_ne!(error, HandshakeError::Internal);
    assert!(!error.to_string().is_empty());
}

/// The input as each message, to whoever reads that kind, and with a MAC that lets it pass if it wants that.
fn decode(input: &mut Input<'_>) {
    let (kind, fixed) = (input.pick(&Kind::ALL), input.flip());
    let mut message = input.rest().to_vec();
    if let Some(first) = message.first_mut() {
        *first = kind.byte();
    }
    let mut rng = Seed::fixed(1).rng();
    for pattern in PATTERNS {
        let mut dial = dial(pattern, &mut rng);
        let mut known = Known { e_i: ephemeral(dial.message()), e_r: [0; 32] };
        if fixed {
            known.sign(&mut message);
        }
        let before = dial.message().to_vec();
        // What opens was sealed by somebody with the keys, and nobody here did.
        blame(dial.finish(&message, None).expect_err("nobody made that answer"));
        blame(dial.on_cookie(&message).expect_err("nobody made that cookie"));
        assert_eq!(dial.message(), before);
        if let Err(error) = dial.on_retry(&message) {
            blame(error);
        }
        if pattern == Kind::Xx1 {
            let mut responder = Responder::new();
            let xx2 = responder.answer(dial.message(), false).expect("an answer");
            known.e_r = ephemeral(&xx2);
            if fixed {
                known.sign(&mut message);
            }
            let mut pending = responder.pending.pop().expect("a conversation");
            blame(pending.finish(&message).expect_err("nobody made that XX3"));
            assert_eq!(pending.connection_id(), CID_R);
        }
    }
    match Incoming::parse(&message) {
        Ok(Incoming::Init(init)) => blame(init.accept(&BOB, NETWORK).map(drop).expect_err("nobody made that INIT")),
        Ok(Incoming::InitR(init)) => blame(init.accept(&PSK, NETWORK).map(drop).expect_err("nobody made that INIT_R")),
        Ok(Incoming::Xx1(_)) => drop(Responder::new().answer(&message, false)),
        Err(error) => blame(error),
    }
}

/// What an end has at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    k_i: [u8; 32],
    k_r: [u8; 32],
    hash: [u8; 32],
    header: [u8; 20],
}

impl Outcome {
    fn of<P>(established: &Established<P>) -> Self {
        let (k_i, k_r) = established.secrets.keys();
        let (hash, header) = (established.secrets.hash(), established.secrets.answer_header());
        Self { k_i: *k_i, k_r: *k_r, hash: *hash, header: *header }
    }
}

/// Alice dials Bob, again and again while the input lasts.
fn converse(pattern: Kind, input: &mut Input<'_>) {
    let loaded = input.flip();
    let mut rng = Seed::fixed(u64::from(input.u8())).rng();
    let mut responder = Responder::new();
    let mut alice = dial(pattern, &mut rng);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for _ in 0..24 {
        if input.is_empty() {
            return;
        }
        let mut known = Known { e_i: ephemeral(alice.message()), e_r: [0; 32] };
        let Some(sent) = known.tamper(alice.message(), &seen, input) else { continue };
        seen.push(sent.clone());
        let Some(answer) = responder.answer(&sent, loaded) else { continue };
        seen.push(answer.clone());
        known.e_r = ephemeral(&answer);
        let Some(answer) = known.tamper(&answer, &seen, input) else { continue };
        let Some(established) = take(&mut alice, &answer, &responder) else { continue };
        let ours = Outcome::of(&established);
        assert_eq!(established.peer, Some(BOB.peer_id()), "nobody else has a key here");
        match established.xx3 {
            None => responder.compare(&answer, &ours),
            Some(xx3) => {
                known.e_r = ephemeral(&answer);
                let theirs = known.tamper(&xx3, &seen, input).and_then(|tampered| responder.confirm(&tampered));
                // The good one is taken after any bad one.
                let theirs = theirs.or_else(|| responder.confirm(&xx3));
                let honest = responder.answers.contains_key(&answer);
                match theirs {
                    Some(theirs) => {
                        assert_eq!(theirs.hash, ours.hash);
                        assert_eq!(theirs == ours, honest, "a changed header gives other record keys");
                    }
                    None => assert!(!honest, "an honest XX3 was refused"),
                }
            }
        }
        blame(alice.finish(&answer, None).map(drop).expect_err("it is over"));
        alice = dial(pattern, &mut rng);
        responder.pending.clear();
    }
}

/// Gives Alice an answer, and checks that she takes it exactly if she should, and is as before if she does not.
fn take(alice: &mut Initiator, answer: &[u8], responder: &Responder) -> Option<Established<RespPayload>> {
    let before = alice.message().to_vec();
    let due = responder.answers.get(answer).is_some_and(|(request, _)| alike(request, &before));
    match answer.first().copied().and_then(Kind::of) {
        Some(Kind::Cookie) => {
            match alice.on_cookie(answer) {
                Ok(()) => assert!(alike(&before, alice.message())),
                Err(error) => blame(error),
            }
            return None;
        }
        Some(Kind::Retry) => {
            alice.on_retry(answer).map_or_else(blame, drop);
            return None;
        }
        _ => {}
    }
    match alice.finish(answer, Some(BOB.peer_id())) {
        Ok(established) => Some(established),
        Err(error) => {
            blame(error);
            assert!(!due, "{error}");
            assert_eq!(alice.message(), before);
            None
        }
    }
}

/// Whether two first messages differ in nothing that is part of the handshake: only in mac2, or in the padding of XX1.
fn alike(one: &[u8], other: &[u8]) -> bool {
    let end = |message: &[u8]| if message[0] == Kind::Xx1.byte() { 44 } else { message.len() - 16 };
    one[..end(one)] == other[..end(other)]
}

/// The ephemeral key in a first message or an answer.
fn ephemeral(message: &[u8]) -> [u8; 32] {
    let at = match message.first().copied().and_then(Kind::of) {
        Some(Kind::InitR) => 28,
        Some(Kind::Init | Kind::Xx1) => 12,
        _ => 20,
    };
    message.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
}

/// Bob, who remembers what he answered to check what comes of it.
struct Responder {
    rng: Rng,
    jar: CookieJar,
    now: Instant,
    pending: Vec<XxPending>,
    /// Each answer, with what it answers and, if that is known already, with what Bob has of it.
    answers: BTreeMap<Vec<u8>, (Vec<u8>, Option<Outcome>)>,
}

impl Responder {
    fn new() -> Self {
        let seed = Seed::fixed(9);
        Self {
            rng: seed.rng(),
            jar: CookieJar::new(&seed.fork("jar")),
            now: clock::base(),
            pending: Vec::new(),
            answers: BTreeMap::new(),
        }
    }

    fn answer(&mut self, datagram: &[u8], loaded: bool) -> Option<Vec<u8>> {
        let answer = self.read(datagram, loaded).map_err(blame).ok()?;
        assert!(answer.len() <= datagram.len(), "more than came");
        Some(answer)
    }

    fn read(&mut self, datagram: &[u8], loaded: bool) -> Result<Vec<u8>, HandshakeError> {
        let incoming = Incoming::parse(datagram)?;
        if loaded && !self.jar.check_mac2(&incoming, address(), self.now) {
            let cookie = self.jar.answer(&incoming, &BOB, Some(&PSK), address(), self.now);
            return Ok(cookie.expect("the ticket is known"));
        }
        let (answer, outcome) = match incoming {
            Incoming::Init(init) => {
                let accepted = init.accept(&BOB, NETWORK)?;
                assert_eq!((accepted.peer(), accepted.payload()), (ALICE.peer_id(), &HELLO));
                let (answer, established) = accepted.reply(CID_R, &welcome(), &mut self.rng)?;
                (answer, Some(Outcome::of(&established)))
            }
            Incoming::InitR(init) if init.ticket_id() != &[4; 16] => return Ok(init.retry().to_vec()),
            Incoming::InitR(init) => {
                let (answer, established) = init.accept(&PSK, NETWORK)?.reply(CID_R, &welcome(), &mut self.rng)?;
                (answer, Some(Outcome::of(&established)))
            }
            Incoming::Xx1(xx1) => {
                let (answer, pending) = xx1.accept(&BOB, NETWORK).reply(CID_R, &welcome(), &mut self.rng)?;
                self.pending.push(pending);
                (answer, None)
            }
        };
        self.answers.insert(answer.clone(), (datagram.to_vec(), outcome));
        Ok(answer)
    }

    /// Gives an XX3 to every conversation that waits for one.
    fn confirm(&mut self, xx3: &[u8]) -> Option<Outcome> {
        self.pending.iter_mut().find_map(|pending| {
            let established = pending.finish(xx3).map_err(blame).ok()?;
            assert_eq!((established.peer, established.payload), (Some(ALICE.peer_id()), HELLO));
            Some(Outcome::of(&established))
        })
    }

    /// What an initiator has of an answer is what Bob has of it, or the header was changed and then the keys of the
    /// records differ, which the first record shows.
    fn compare(&self, answer: &[u8], ours: &Outcome) {
        match self.answers.get(answer) {
            Some((_, theirs)) => assert_eq!(theirs.as_ref(), Some(ours)),
            None => {
                let twin =
                    self.answers.iter().find(|(other, _)| other[20..other.len() - 16] == answer[20..answer.len() - 16]);
                let (_, (_, theirs)) = twin.expect("somebody sealed it");
                assert_ne!(theirs.as_ref().expect("an outcome").header, ours.header);
            }
        }
    }
}

/// What somebody between the ends knows.
struct Known {
    e_i: [u8; 32],
    e_r: [u8; 32],
}

impl Known {
    /// What arrives of a message, if anything does.
    fn tamper(&self, message: &[u8], seen: &[Vec<u8>], input: &mut Input<'_>) -> Option<Vec<u8>> {
        let mut message = message.to_vec();
        let signed = match input.below(10) {
            0..=2 => return Some(message),
            3 => return None,
            4 => return Some(seen.get(input.below(seen.len().max(1)))?.clone()),
            5 => {
                message.truncate(usize::from(input.u8()));
                false
            }
            6 => {
                message.resize(message.len() + input.len().min(2000), input.u8());
                input.flip()
            }
            7 => {
                let (at, weak) = (input.pick(&[12, 20, 28]), input.pick(&WEAK));
                replace(&mut message, at..at + 32, &weak);
                true
            }
            8 => {
                let at = usize::from(input.u8());
                replace(&mut message, at..at.saturating_add(16), &input.array::<16>());
                input.flip()
            }
            _ => {
                let bit = usize::from(input.u16()) % (message.len() * 8).max(1);
                if let Some(byte) = message.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                input.flip()
            }
        };
        if signed {
            self.sign(&mut message);
        }
        Some(message)
    }

    /// Makes mac1 anew, where that takes no secret. (That of INIT_R does; here it is known all the same.)
    fn sign(&self, message: &mut [u8]) {
        let Some(kind) = message.first().copied().and_then(Kind::of) else { return };
        let cid = Kind::connection_id(message).unwrap_or_default();
        let (key, behind) = match kind {
            Kind::Init => ([b"setowire mac1".as_slice(), &*BOB_KEY].concat(), 32),
            Kind::InitR => ([b"setowire mac1 r".as_slice(), &PSK].concat(), 32),
            Kind::Resp | Kind::Xx2 | Kind::RespR => ([b"setowire mac1 a".as_slice(), &self.e_i, &cid].concat(), 16),
            Kind::Xx3 => ([b"setowire mac1 3".as_slice(), &self.e_r, &cid].concat(), 16),
            _ => return,
        };
        let Some(end) = message.len().checked_sub(behind) else { return };
        let mac =
            Hmac::<Sha256>::new_from_slice(&Sha256::digest(key)).expect("any length").chain_update(&message[..end]);
        message[end..end + 16].copy_from_slice(&mac.finalize().into_bytes()[..16]);
    }
}

fn replace(message: &mut [u8], at: Range<usize>, with: &[u8]) {
    if let Some(bytes) = message.get_mut(at) {
        bytes.copy_from_slice(with);
    }
}

/// Keys that agree on zero with everyone.
const WEAK: [[u8; 32]; 3] = {
    let mut keys = [[0; 32]; 3];
    keys[1][0] = 1;
    keys[2] = [0xff; 32];
    keys[2][0] = 0xec;
    keys
};
