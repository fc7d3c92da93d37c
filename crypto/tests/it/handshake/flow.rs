//! What honest ends do, and what they tell each other.

use std::sync::Arc;

use crypto::handshake::{
    Acquaintance, Acquaintances, CAPABILITY_AES, Established, HandshakeError, Incoming, InitPayload, Initiator, Kind,
    MAX_MESSAGE, NetworkId, RespPayload, SessionSecrets, VERSIONS, Version, negotiate,
};
use crypto::{Backend, Cipher, Identity};
use proptest::prelude::*;

use super::reference::framed;
use super::*;

fn same_keys(i: &SessionSecrets, r: &SessionSecrets) {
    assert_eq!((i.keys(), i.hash(), i.answer_header()), (r.keys(), r.hash(), r.answer_header()));
    assert_ne!(i.keys().0, i.keys().1);
    assert!(i.is_initiator() && !r.is_initiator());
}

/// What each end must have learnt of the other.
fn agreed(i: &Established<RespPayload>, r: &Established<InitPayload>) {
    same_keys(&i.secrets, &r.secrets);
    assert_eq!((i.remote_cid, r.remote_cid), (CID_R, CID_I));
    assert_eq!((i.payload, r.payload), (welcome(), HELLO));
    assert_eq!(i.secrets.answer_header()[4..12], CID_I);
    assert_eq!(i.secrets.answer_header()[12..], CID_R);
    assert!(i.confirmed);
}

#[test]
fn ik_with_every_pair_of_implementations() {
    for &(ours, theirs) in &[(0, 0), (0, 1), (1, 0), (1, 1)] {
        let pick = |n: usize| Backend::ALL[n % Backend::ALL.len()];
        let (a, b) = (Identity::with_backend([1; 32], pick(ours)), Identity::with_backend([2; 32], pick(theirs)));
        let mut rng = rng(1);
        let mut dial = Initiator::ik(&a, b.peer_id(), CID_I, &HELLO, NETWORK, &mut rng).unwrap();
        assert_eq!((dial.message().len(), dial.message()[0], dial.peer()), (180, 0xd0, Some(b.peer_id())));
        let accepted = accept_ik(dial.message(), &b, NETWORK).unwrap();
        assert_eq!((accepted.peer(), *accepted.payload()), (a.peer_id(), HELLO));
        let (resp, at_bob) = accepted.reply(CID_R, &welcome(), &mut rng).unwrap();
        assert_eq!((resp.len(), resp[0]), (132, 0xd1));
        let at_alice = dial.finish(&resp, None).unwrap();
        agreed(&at_alice, &at_bob);
        assert_eq!((at_alice.peer, at_bob.peer), (Some(b.peer_id()), Some(a.peer_id())));
        assert!(!at_bob.confirmed, "it may be a replay");
        assert_eq!(at_alice.xx3, None);
    }
}

#[test]
fn xx_with_every_pair_of_implementations() {
    for &(ours, theirs) in &[(0, 0), (0, 1), (1, 0), (1, 1)] {
        let pick = |n: usize| Backend::ALL[n % Backend::ALL.len()];
        let (a, b) = (Identity::with_backend([1; 32], pick(ours)), Identity::with_backend([2; 32], pick(theirs)));
        let mut rng = rng(1);
        let mut dial = Initiator::xx(&a, CID_I, &HELLO, NETWORK, &mut rng).unwrap();
        assert_eq!((dial.message().len(), dial.message()[0], dial.peer()), (240, 0xd3, None));
        let (xx2, mut pending) =
            xx1(dial.message()).unwrap().accept(&b, NETWORK).reply(CID_R, &welcome(), &mut rng).unwrap();
        assert_eq!((xx2.len(), xx2[0], pending.connection_id()), (180, 0xd4, CID_R));
        let at_alice = dial.finish(&xx2, Some(b.peer_id())).unwrap();
        let xx3 = at_alice.xx3.clone().unwrap();
        assert_eq!((xx3.len(), xx3[0], Kind::connection_id(&xx3)), (132, 0xd5, Some(CID_R)));
        let at_bob = pending.finish(&xx3).unwrap();
        agreed(&at_alice, &at_bob);
        assert_eq!((at_alice.peer, at_bob.peer), (Some(b.peer_id()), Some(a.peer_id())));
        assert!(at_bob.confirmed, "XX3 answers a fresh key");
        assert_eq!(pending.finish(&xx3).unwrap_err(), HandshakeError::Finished);
    }
}

#[test]
fn a_resumed_handshake() {
    let mut rng = rng(1);
    let mut dial = dial_resume(&mut rng);
    assert_eq!((dial.message().len(), dial.message()[0], dial.peer()), (148, 0xd6, Some(bob().peer_id())));
    let init = init_r(dial.message()).unwrap();
    assert_eq!(init.ticket_id(), b"id of the ticket");
    let accepted = init.accept(&PSK, NETWORK).unwrap();
    assert_eq!(*accepted.payload(), HELLO);
    let (resp, at_bob) = accepted.reply(CID_R, &welcome(), &mut rng).unwrap();
    assert_eq!((resp.len(), resp[0]), (132, 0xd7));
    let at_alice = dial.finish(&resp, None).unwrap();
    agreed(&at_alice, &at_bob);
    assert_eq!((at_alice.peer, at_bob.peer), (Some(bob().peer_id()), None));
    assert!(!at_bob.confirmed);
}

#[test]
fn no_answer_is_longer_than_its_question() {
    for (question, answers) in [
        (Kind::Init, [Kind::Resp, Kind::Cookie].as_slice()),
        (Kind::Xx1, &[Kind::Xx2, Kind::Cookie]),
        (Kind::InitR, &[Kind::RespR, Kind::Cookie, Kind::Retry]),
    ] {
        assert!(answers.iter().all(|answer| answer.min_len() <= question.min_len()), "{question:?}");
    }
    for kind in Kind::ALL {
        assert_eq!(Kind::of(kind.byte()), Some(kind));
    }
    assert_eq!((0..=255).filter_map(Kind::of).count(), Kind::ALL.len());
}

#[test]
fn a_finished_attempt_takes_nothing_more() {
    let mut rng = rng(1);
    let mut dial = dial_ik(&mut rng);
    let (resp, _) = accept_ik(dial.message(), &bob(), NETWORK).unwrap().reply(CID_R, &welcome(), &mut rng).unwrap();
    dial.finish(&resp, None).unwrap();
    assert_eq!(dial.finish(&resp, None).unwrap_err(), HandshakeError::Finished);
    assert_eq!(dial.on_cookie(&resp).unwrap_err(), HandshakeError::Finished);
}

#[test]
fn a_repeated_init_gives_other_keys_each_time() {
    let mut rng = rng(1);
    let dial = dial_ik(&mut rng);
    let mut answer = || accept_ik(dial.message(), &bob(), NETWORK).unwrap().reply(CID_R, &welcome(), &mut rng).unwrap();
    let ((first, a), (second, b)) = (answer(), answer());
    assert_ne!(first, second);
    assert_ne!(a.secrets.keys(), b.secrets.keys());
    assert_ne!(a.secrets.hash(), b.secrets.hash());
}

#[test]
fn another_peer_than_expected_learns_nothing_and_the_right_one_may_still_answer() {
    let mut rng = rng(1);
    let (bob, mallory) = (bob(), Identity::from_seed([3; 32]));
    let mut dial = dial_xx(&mut rng);
    let mut answer = |identity: &Identity| {
        let xx1 = xx1(dial.message()).unwrap();
        xx1.accept(identity, NETWORK).reply(CID_R, &welcome(), &mut rng).unwrap()
    };
    let ((wrong, _), (right, mut pending)) = (answer(&mallory), answer(&bob));
    let before = dial.message().to_vec();
    for _ in 0..3 {
        let obtained = mallory.peer_id();
        assert_eq!(dial.finish(&wrong, Some(bob.peer_id())).unwrap_err(), HandshakeError::WrongPeer { obtained });
    }
    assert_eq!(dial.message(), before);
    let at_alice = dial.finish(&right, Some(bob.peer_id())).unwrap();
    let at_bob = pending.finish(at_alice.xx3.as_ref().unwrap()).unwrap();
    agreed(&at_alice, &at_bob);
}

#[test]
fn without_an_expectation_xx_says_who_is_there() {
    let mut rng = rng(1);
    let mallory = Identity::from_seed([3; 32]);
    let mut dial = dial_xx(&mut rng);
    let (xx2, _) = xx1(dial.message()).unwrap().accept(&mallory, NETWORK).reply(CID_R, &welcome(), &mut rng).unwrap();
    assert_eq!(dial.finish(&xx2, None).unwrap().peer, Some(mallory.peer_id()));
}

#[test]
fn an_init_is_for_one_peer_and_expects_no_other() {
    let mut rng = rng(1);
    let mallory = Identity::from_seed([3; 32]);
    let mut dial = dial_ik(&mut rng);
    assert_eq!(accept_ik(dial.message(), &mallory, NETWORK).unwrap_err(), HandshakeError::WrongMac);
    let (resp, _) = accept_ik(dial.message(), &bob(), NETWORK).unwrap().reply(CID_R, &welcome(), &mut rng).unwrap();
    let obtained = bob().peer_id();
    assert_eq!(dial.finish(&resp, Some(mallory.peer_id())).unwrap_err(), HandshakeError::WrongPeer { obtained });
    assert!(dial.finish(&resp, Some(obtained)).is_ok());
}

#[test]
fn networks_do_not_mix() {
    let mut rng = rng(1);
    let other = NetworkId::new([9; 32]);
    assert_eq!(accept_ik(dial_ik(&mut rng).message(), &bob(), other).unwrap_err(), HandshakeError::Unauthentic);
    assert_eq!(accept_resume(dial_resume(&mut rng).message(), &PSK, other).unwrap_err(), HandshakeError::Unauthentic);
    let mut dial = dial_xx(&mut rng);
    let (xx2, _) = xx1(dial.message()).unwrap().accept(&bob(), other).reply(CID_R, &welcome(), &mut rng).unwrap();
    assert_eq!(dial.finish(&xx2, None).unwrap_err(), HandshakeError::Unauthentic);
}

#[test]
fn a_ticket_opens_only_with_its_key() {
    let dial = dial_resume(&mut rng(1));
    assert!(!init_r(dial.message()).unwrap().check_mac1(&[0; 32]));
    assert_eq!(accept_resume(dial.message(), &[0; 32], NETWORK).unwrap_err(), HandshakeError::WrongMac);
}

#[test]
fn an_unknown_ticket_is_answered_with_a_hint() {
    let mut rng = rng(1);
    let mut dial = dial_resume(&mut rng);
    let retry = init_r(dial.message()).unwrap().retry();
    assert_eq!(retry, *b"\xdf\x01\0\0cid of i");
    assert_eq!(dial.on_retry(&retry), Ok(()));
    // It decides nothing: an answer is still taken.
    let (resp, _) = accept_resume(dial.message(), &PSK, NETWORK).unwrap().reply(CID_R, &welcome(), &mut rng).unwrap();
    assert!(dial.finish(&resp, None).is_ok());
    // And for a dial without a ticket it means nothing.
    assert_eq!(dial_ik(&mut rng).on_retry(&retry), Err(HandshakeError::WrongKind));
    assert_eq!(dial_xx(&mut rng).on_retry(&retry), Err(HandshakeError::WrongKind));
}

#[test]
fn the_highest_common_version_is_spoken() {
    assert_eq!(negotiate(VERSIONS, VERSIONS), Some(Version::V1));
    assert_eq!(negotiate(VERSIONS, 0xffff_ffff), Some(Version::V1));
    assert_eq!(negotiate(VERSIONS, 0xffff_fffe), None);
    assert_eq!(negotiate(0, 0), None);
    assert_eq!((Version::V1.number(), Version::V1.bit()), (1, 1));
    for ours in 0..32 {
        for theirs in 0..32 {
            let all_up_to = |bit: u32| u32::MAX >> (31 - bit);
            let version = negotiate(all_up_to(ours), all_up_to(theirs)).unwrap();
            assert_eq!(u32::from(version.number()), ours.min(theirs) + 1);
            assert_eq!(version.bit(), 1 << ours.min(theirs));
        }
    }
}

#[test]
fn aes_is_used_if_both_have_it() {
    for (ours, theirs, cipher) in [
        (0, 0, Cipher::ChaCha20Poly1305),
        (CAPABILITY_AES, 0, Cipher::ChaCha20Poly1305),
        (0, CAPABILITY_AES, Cipher::ChaCha20Poly1305),
        (CAPABILITY_AES, CAPABILITY_AES, Cipher::Aes256Gcm),
        (!CAPABILITY_AES, u64::MAX, Cipher::ChaCha20Poly1305),
    ] {
        assert_eq!(Cipher::negotiated(ours, theirs), cipher);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let mut rng = rng(1);
    let mut dial = dial_ik(&mut rng);
    let accepted = accept_ik(dial.message(), &bob(), NETWORK).unwrap();
    let mut shown = format!("{dial:?} {accepted:?} {:?}", ticket());
    let (resp, at_bob) = accepted.reply(CID_R, &welcome(), &mut rng).unwrap();
    let at_alice = dial.finish(&resp, None).unwrap();
    shown.push_str(&format!("{at_alice:?} {at_bob:?}"));
    let (k_i, k_r) = at_alice.secrets.keys();
    for secret in [k_i.as_slice(), k_r, &PSK, b"the reset token."] {
        assert!(!shown.contains(&format!("{secret:?}")), "{shown}");
        assert!(!shown.contains(&format!("{}, {}, {}", secret[0], secret[1], secret[2])), "{shown}");
    }
}

proptest! {
    #[test]
    fn payloads_arrive_as_they_were_sent(
        timestamp: u64, versions: u32, capabilities: u64, max_datagram: u16, ip: std::net::IpAddr, port: u16, reset_token: [u8; 16],
    ) {
        let hello = InitPayload { timestamp, versions, capabilities, max_datagram };
        // A mapped address is the IPv4 address it maps.
        let observed = SocketAddr::new(ip.to_canonical(), port);
        let welcome = RespPayload { versions, capabilities, max_datagram, observed, reset_token };
        let mut rng = rng(1);
        let mut dial = Initiator::resume(ticket(), CID_I, &hello, NETWORK, &mut rng).unwrap();
        let accepted = accept_resume(dial.message(), &PSK, NETWORK).unwrap();
        prop_assert_eq!(*accepted.payload(), hello);
        let (resp, _) = accepted.reply(CID_R, &welcome, &mut rng).unwrap();
        prop_assert_eq!(dial.finish(&resp, None).unwrap().payload, welcome);
    }

    #[test]
    fn anything_can_arrive(bytes in proptest::collection::vec(any::<u8>(), 0..MAX_MESSAGE + 50), kind in 0xd0..=0xdfu8) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let mut rng = rng(1);
        for mut dial in [dial_ik(&mut rng), dial_xx(&mut rng), dial_resume(&mut rng)] {
            prop_assert!(dial.finish(&bytes, None).is_err());
            prop_assert!(dial.on_cookie(&bytes).is_err());
            prop_assert!(dial.on_retry(&bytes).is_err());
        }
        match Incoming::parse(&bytes) {
            Ok(Incoming::Init(init)) => prop_assert!(init.accept(&bob(), NETWORK).is_err()),
            Ok(Incoming::InitR(init)) => prop_assert!(init.accept(&PSK, NETWORK).is_err()),
            Ok(Incoming::Xx1(xx1)) => drop(xx1.accept(&bob(), NETWORK).reply(CID_R, &welcome(), &mut rng)),
            Err(_) => {}
        }
    }
}

#[test]
fn who_was_met_before_costs_less_and_gets_the_same_answer() {
    let hello = InitPayload { timestamp: 7, ..HELLO };
    let mut known = Arc::new(Acquaintances::new(2));
    let init = Initiator::ik(&alice(), bob().peer_id(), CID_I, &hello, NETWORK, &mut rng(1)).unwrap();
    let accept = |known: &Arc<Acquaintances>| match Incoming::parse(init.message()).unwrap() {
        Incoming::Init(init) => init.accept_with(&bob(), NETWORK, known).unwrap(),
        _ => unreachable!(),
    };
    let first = accept(&known);
    let met = Arc::clone(first.acquaintance().expect("nobody was known"));
    assert_eq!((met.peer(), first.peer()), (alice().peer_id(), alice().peer_id()));
    let (resp, _) = first.reply(CID_R, &welcome(), &mut rng(2)).unwrap();
    Arc::get_mut(&mut known).expect("a handshake that was answered holds nothing").insert(met);
    let again = accept(&known);
    assert!(again.acquaintance().is_none() && again.peer() == alice().peer_id());
    assert_eq!(again.reply(CID_R, &welcome(), &mut rng(2)).unwrap().0, resp);
    // The dialler says the same with what it kept.
    let kept = Acquaintance::new(&alice(), bob().peer_id()).unwrap();
    let with = Initiator::ik_with(&alice(), kept, CID_I, &hello, NETWORK, &mut rng(1)).unwrap();
    assert_eq!(with.message(), init.message());
}

#[test]
fn whom_we_know_is_nothing_that_a_forger_can_use() {
    // Mallory names Alice, whom Bob knows, in a message that nobody but Alice or Bob could make.
    let met = Acquaintance::new(&bob(), alice().peer_id()).unwrap();
    let mut known = Acquaintances::new(2);
    known.insert(met);
    let known = Arc::new(known);
    let init = dial_ik(&mut rng(1));
    for byte in [12, 50, 100, 140] {
        let message = flipped(init.message(), 8 * byte);
        let (header, rest) = message.split_at(12);
        let noise = &rest[..rest.len() - 32];
        let message = framed(header, noise, Some(&[b"setowire mac1", &bob().peer_id().x25519()]));
        let message = [message.as_slice(), &[0; 16]].concat();
        let Incoming::Init(forged) = Incoming::parse(&message).unwrap() else { unreachable!() };
        let error = forged.accept_with(&bob(), NETWORK, &known).unwrap_err();
        assert_eq!(error, HandshakeError::Unauthentic, "byte {byte}");
    }
}
