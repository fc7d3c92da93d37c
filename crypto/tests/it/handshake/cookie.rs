//! Cookies: who gets one, what it proves, and for how long.

use std::time::Duration;

use crypto::handshake::{HandshakeError, Incoming, Initiator};
use crypto::{CookieJar, Seed};

use super::*;

fn jar() -> CookieJar {
    CookieJar::new(&Seed::fixed(7))
}

fn dials() -> [Initiator; 3] {
    let mut rng = rng(1);
    [dial_ik(&mut rng), dial_xx(&mut rng), dial_resume(&mut rng)]
}

/// COOKIE for what the dial sends.
fn cookie(jar: &mut CookieJar, dial: &Initiator, from: &str, now: Instant) -> Vec<u8> {
    let incoming = Incoming::parse(dial.message()).unwrap();
    jar.answer(&incoming, &bob(), Some(&PSK), addr(from), now).unwrap()
}

fn proves(jar: &mut CookieJar, dial: &Initiator, from: &str, now: Instant) -> bool {
    jar.check_mac2(&Incoming::parse(dial.message()).unwrap(), addr(from), now)
}

#[test]
fn a_cookie_proves_the_address_it_was_sent_to() {
    for mut dial in dials() {
        let (mut jar, now) = (jar(), now());
        assert!(!proves(&mut jar, &dial, "192.0.2.1:1000", now), "no cookie yet");
        let before = dial.message().to_vec();
        let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", now);
        assert_eq!((answer.len(), answer[0]), (68, 0xd2));
        assert!(answer.len() <= before.len());
        dial.on_cookie(&answer).unwrap();

        // Only mac2 is another: the responder sees the same handshake.
        let mac2 = before.len() - 16;
        assert_eq!(dial.message()[..mac2], before[..mac2]);
        assert!(proves(&mut jar, &dial, "192.0.2.1:1000", now));
        assert!(proves(&mut jar, &dial, "[::ffff:192.0.2.1]:1000", now), "the same address");
        assert!(!proves(&mut jar, &dial, "192.0.2.1:1001", now));
        assert!(!proves(&mut jar, &dial, "192.0.2.2:1000", now));
        assert!(!proves(&mut CookieJar::new(&Seed::fixed(8)), &dial, "192.0.2.1:1000", now));
        for bit in mac2 * 8..before.len() * 8 {
            let flipped = flipped(dial.message(), bit);
            assert!(!jar.check_mac2(&Incoming::parse(&flipped).unwrap(), addr("192.0.2.1:1000"), now));
        }
        // The cookie of one address is of no use to another message of the same address either way round.
        let mut other = dials().into_iter().find(|other| other.kind() != dial.kind()).unwrap();
        assert_eq!(other.on_cookie(&answer), Err(HandshakeError::Unauthentic));
    }
}

#[test]
fn a_handshake_with_a_cookie_is_the_same_handshake() {
    let (mut jar, now) = (jar(), now());
    let [mut ik, mut xx, mut resume] = dials();
    for dial in [&mut ik, &mut xx, &mut resume] {
        let answer = cookie(&mut jar, dial, "192.0.2.1:1000", now);
        dial.on_cookie(&answer).unwrap();
    }
    let mut rng = rng(2);
    let (resp, _) = accept_ik(ik.message(), &bob(), NETWORK).unwrap().reply(CID_R, &welcome(), &mut rng).unwrap();
    assert!(ik.finish(&resp, None).is_ok());
    let (xx2, mut pending) =
        xx1(xx.message()).unwrap().accept(&bob(), NETWORK).reply(CID_R, &welcome(), &mut rng).unwrap();
    assert!(pending.finish(xx.finish(&xx2, None).unwrap().xx3.as_ref().unwrap()).is_ok());
    let (resp, _) = accept_resume(resume.message(), &PSK, NETWORK).unwrap().reply(CID_R, &welcome(), &mut rng).unwrap();
    assert!(resume.finish(&resp, None).is_ok());
}

#[test]
fn a_cookie_is_good_for_this_period_and_the_next() {
    let start = now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    for (made, checked, good) in
        [(0, 119, true), (0, 120, true), (0, 239, true), (0, 240, false), (119, 239, true), (119, 240, false)]
    {
        let (mut jar, [mut dial, ..]) = (jar(), dials());
        assert!(!proves(&mut jar, &dial, "192.0.2.1:1000", start));
        let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", at(made));
        dial.on_cookie(&answer).unwrap();
        assert_eq!(proves(&mut jar, &dial, "192.0.2.1:1000", at(checked)), good, "{made} {checked}");
    }
    // Through every period, also after an idle week, and however late the rotation is noticed.
    let (mut jar, [mut dial, ..]) = (jar(), dials());
    for second in [0, 130, 250, 604_800, 604_900, 604_921] {
        let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", at(second));
        dial.on_cookie(&answer).unwrap();
        assert!(proves(&mut jar, &dial, "192.0.2.1:1000", at(second + 119)), "{second}");
    }
}

#[test]
fn time_that_stands_still_or_goes_back_changes_nothing() {
    let (mut jar, [mut dial, ..], start) = (jar(), dials(), now() + Duration::from_secs(1000));
    let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", start);
    dial.on_cookie(&answer).unwrap();
    assert!(proves(&mut jar, &dial, "192.0.2.1:1000", start - Duration::from_secs(500)));
    assert!(proves(&mut jar, &dial, "192.0.2.1:1000", start));
}

#[test]
fn cookies_of_a_seed_are_always_the_same_and_of_another_seed_others() {
    let now = now();
    let cookie = |seed| CookieJar::new(&Seed::fixed(seed)).cookie_for(addr("192.0.2.1:1000"), now);
    assert_eq!(cookie(1), cookie(1));
    assert_ne!(cookie(1), cookie(2));
    let mut jar = jar();
    let mut of = |text| jar.cookie_for(addr(text), now);
    assert_ne!(of("192.0.2.1:1000"), of("192.0.2.1:1001"));
    assert_ne!(of("192.0.2.1:1000"), of("[2001:db8::1]:1000"));
}

#[test]
fn an_unknown_ticket_gets_no_cookie() {
    let [.., resume] = dials();
    let incoming = Incoming::parse(resume.message()).unwrap();
    assert_eq!(jar().answer(&incoming, &bob(), None, addr("192.0.2.1:1"), now()), None);
}

#[test]
fn a_changed_cookie_message_is_refused_and_leaves_no_trace() {
    for mut dial in dials() {
        let (mut jar, now) = (jar(), now());
        let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", now);
        let before = dial.message().to_vec();
        for bit in 0..answer.len() * 8 {
            let error = dial.on_cookie(&flipped(&answer, bit)).err();
            match bit / 8 {
                // Version and flags are not sealed, and nothing depends on them.
                1 if bit != 8 => {}
                2 | 3 => {}
                0 => assert_eq!(error, Some(HandshakeError::WrongKind)),
                1 => assert_eq!(error, Some(HandshakeError::WrongVersion)),
                4..12 => assert_eq!(error, Some(HandshakeError::WrongConnectionId)),
                _ => assert_eq!(error, Some(HandshakeError::Unauthentic), "bit {bit}"),
            }
            if error.is_none() {
                // Taken, and it is the right cookie; go back to a dial without one.
                assert!(proves(&mut jar, &dial, "192.0.2.1:1000", now));
                dial = dials().into_iter().find(|fresh| fresh.kind() == dial.kind()).unwrap();
            }
            assert_eq!(dial.message(), before, "bit {bit}");
        }
        for len in 0..answer.len() {
            assert!(dial.on_cookie(&answer[..len]).is_err());
        }
        for extra in 1..20 {
            let long = [answer.as_slice(), &vec![0; extra]].concat();
            assert_eq!(dial.on_cookie(&long), Err(HandshakeError::Unauthentic));
        }
        assert_eq!(dial.message(), before);
        assert_eq!(dial.on_cookie(&answer), Ok(()));
    }
}

#[test]
fn a_cookie_can_be_replaced_when_it_is_too_old() {
    for mut dial in dials() {
        let (mut jar, start) = (jar(), now());
        let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", start);
        dial.on_cookie(&answer).unwrap();
        let late = start + Duration::from_secs(500);
        assert!(!proves(&mut jar, &dial, "192.0.2.1:1000", late));
        let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", late);
        dial.on_cookie(&answer).unwrap();
        assert!(proves(&mut jar, &dial, "192.0.2.1:1000", late));
    }
}

#[test]
fn the_cookie_is_sealed_as_specified() {
    use chacha20poly1305::aead::{Aead, Payload};
    use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
    use sha2::{Digest, Sha256};
    for dial in dials() {
        let (mut jar, now) = (jar(), now());
        let answer = cookie(&mut jar, &dial, "192.0.2.1:1000", now);
        let message = dial.message();
        let end = message.len();
        let key = match message[0] {
            0xd0 => [b"setowire cookie".as_slice(), &bob().peer_id().x25519()].concat(),
            0xd3 => [b"setowire cookie x".as_slice(), &message[12..44]].concat(),
            _ => [b"setowire cookie".as_slice(), &PSK].concat(),
        };
        let hash = Sha256::digest(message);
        let aad = if message[0] == 0xd3 { &hash[..] } else { &message[end - 32..end - 16] };
        let cipher = XChaCha20Poly1305::new(&Sha256::digest(key));
        let opened = cipher.decrypt(answer[12..36].try_into().unwrap(), Payload { msg: &answer[36..], aad }).unwrap();
        assert_eq!(opened, jar.cookie_for(addr("192.0.2.1:1000"), now));
    }
}
