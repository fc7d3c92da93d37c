//! One generation: what is opened, what is refused, and what that changes.

use crypto::record::{HEADER_LEN, MAX_PACKETS, OVERHEAD, OpenError, RecordKeys, SealError, WINDOW};
use crypto::{Cipher, UnsupportedCipher};
use proptest::prelude::*;

use super::{at, combinations, open, pair, sealed, secrets, unsealed};

/// All that can be seen of the receiving side.
fn state(keys: &RecordKeys) -> impl PartialEq + std::fmt::Debug + use<> {
    (keys.receive_generation(), keys.next_expected(), keys.deadline(), keys.send_generation(), keys.is_rekeying())
}

#[test]
fn lengths_are_those_of_the_wire() {
    assert_eq!((HEADER_LEN, OVERHEAD, WINDOW), (13, 29, 8192));
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        assert_eq!(sealed(&mut a, 0, b"").len(), 29);
        assert_eq!(a.cipher(), combination.0);
        for len in 0..29 {
            assert_eq!(a.seal(&mut vec![0; len], 1), Err(SealError::TooShort));
            assert_eq!(b.open(&mut vec![0; len], at(0)).unwrap_err(), OpenError::TooShort);
        }
        assert_eq!((a.packets_sealed(), b.failures()), (1, 0));
    }
}

#[test]
fn the_first_nibble_is_in_the_clear_and_the_rest_of_the_numbers_is_not() {
    for combination in combinations() {
        let [mut a, _] = pair(combination);
        let packets: Vec<_> = (0..200).map(|pn| sealed(&mut a, pn, b"")).collect();
        assert!(packets.iter().all(|packet| packet[0] & 0xf0 == 0xe0));
        // Under a random mask 200 consecutive numbers and equal first bytes look like anything.
        for byte in [0, 9, 10, 11, 12] {
            let mut seen: Vec<u8> = packets.iter().map(|packet| packet[byte]).collect();
            seen.sort_unstable();
            seen.dedup();
            assert!(seen.len() > if byte == 0 { 10 } else { 80 }, "byte {byte}: {} values", seen.len());
        }
    }
}

/// In every state of the receiver: alone, with the keys of the generation before, with those of the one after.
#[test]
fn every_flipped_bit_and_every_truncation_is_refused_and_changes_nothing() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let now = at(0);
        let early = sealed(&mut a, 0, b"early");
        let packet = sealed(&mut a, 1, b"a packet");
        a.on_ack(1);
        a.update().unwrap();
        let late = sealed(&mut a, 2, b"late");
        let mut failures = 0;
        let mut attack = |keys: &mut RecordKeys, packet: &[u8]| {
            let before = state(keys);
            for bit in 0..packet.len() * 8 {
                let mut changed = packet.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                let tail = changed[changed.len() - 16..].to_vec();
                assert_eq!(keys.open(&mut changed, now).unwrap_err(), OpenError::Unauthentic, "bit {bit}");
                assert_eq!(changed[changed.len() - 16..], tail, "the last bytes may be a reset token");
                assert_eq!(state(keys), before, "bit {bit}");
                failures += 1;
                assert_eq!(keys.failures(), failures);
            }
            for len in 0..packet.len() {
                let expected = if len < 29 { OpenError::TooShort } else { OpenError::Unauthentic };
                assert_eq!(open(keys, &packet[..len], now), Err(expected), "{len} bytes");
                failures += u64::from(len >= 29);
            }
            assert_eq!(open(keys, &[packet, &[0]].concat(), now), Err(OpenError::Unauthentic));
            failures += 1;
            assert_eq!(state(keys), before);
        };
        attack(&mut b, &packet);
        attack(&mut b, &late);
        assert!(open(&mut b, &packet, now).is_ok());
        attack(&mut b, &early);
        assert!(open(&mut b, &late, now).is_ok());
        attack(&mut b, &early);
        assert_eq!(open(&mut b, &early, now), Ok((0, 0, b"early".to_vec())));
    }
}

#[test]
fn a_packet_is_opened_once() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let packets: Vec<_> = (0..20).map(|pn| sealed(&mut a, pn, b"once")).collect();
        for (pn, packet) in (0..).zip(&packets) {
            assert!(open(&mut b, packet, at(0)).is_ok());
            for (pn, packet) in (0..=pn).zip(&packets) {
                assert_eq!(open(&mut b, packet, at(0)), Err(OpenError::Replayed { pn }));
            }
        }
        // Replays are authentic, so they are not failures.
        assert_eq!(b.failures(), 0);
        // And nobody opens what it sealed itself.
        assert_eq!(open(&mut a, &packets[0], at(0)), Err(OpenError::Unauthentic));
    }
}

#[test]
fn any_order_within_the_window_is_taken_once() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let packets: Vec<_> = (0..=2 * WINDOW).map(|pn| sealed(&mut a, pn, b"")).collect();
        let mut take = |pn: u64| open(&mut b, &packets[pn as usize], at(0)).map(|(pn, ..)| pn);
        assert_eq!(take(WINDOW), Ok(WINDOW));
        // Backwards, as far as the window goes.
        for pn in (1..WINDOW).rev() {
            assert_eq!(take(pn), Ok(pn));
        }
        assert_eq!(take(0), Err(OpenError::Replayed { pn: 0 }));
        assert_eq!(take(2 * WINDOW), Ok(2 * WINDOW));
        assert_eq!(take(WINDOW + 1), Ok(WINDOW + 1));
        for pn in 0..=WINDOW + 1 {
            assert_eq!(take(pn), Err(OpenError::Replayed { pn }));
        }
    }
}

#[test]
fn numbers_are_used_once_and_rise() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        sealed(&mut a, 5, b"");
        for pn in 0..=5 {
            assert_eq!(a.seal(&mut unsealed(b""), pn), Err(SealError::NumberUsed { pn, next: 6 }));
        }
        a.on_ack(5);
        a.update().unwrap();
        // Also not in the next generation.
        assert_eq!(a.seal(&mut unsealed(b""), 5), Err(SealError::NumberUsed { pn: 5, next: 6 }));
        assert!(open(&mut b, &sealed(&mut a, 6, b""), at(0)).is_ok());
        assert_eq!(a.packets_sealed(), 2);
        assert_eq!(a.sealed_in_generation(), 1);
    }
}

#[test]
fn numbers_end() {
    for combination in combinations() {
        let [mut a, _] = pair(combination);
        assert_eq!(a.seal(&mut unsealed(b""), MAX_PACKETS), Err(SealError::Exhausted));
        assert_eq!(a.seal(&mut unsealed(b""), u64::MAX), Err(SealError::Exhausted));
        // These did not count.
        sealed(&mut a, MAX_PACKETS - 1, b"");
        assert_eq!(a.seal(&mut unsealed(b""), MAX_PACKETS), Err(SealError::Exhausted));
    }
}

#[test]
fn jumps_of_almost_two_to_the_31_are_followed() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let mut pn = 0;
        for step in [0, (1 << 31) - 1, 1, (1 << 31) - 1, (1 << 31) - 1, 1 << 30, 12345, (1 << 31) - 1] {
            pn += step;
            let packet = sealed(&mut a, pn, b"far");
            assert_eq!(open(&mut b, &packet, at(0)), Ok((pn, 0, b"far".to_vec())), "{pn}");
            assert_eq!(b.next_expected(), pn + 1);
            pn += 1;
        }
        // A longer one is taken for another number, and does not authenticate.
        pn += (1 << 31) + 1;
        let packet = sealed(&mut a, pn, b"");
        assert_eq!(open(&mut b, &packet, at(0)), Err(OpenError::Unauthentic));
    }
}

#[test]
fn both_ends_export_the_same_and_each_label_differs() {
    for combination in combinations() {
        let [mut a, b] = pair(combination);
        let before = a.exporter(b"one");
        assert_eq!(before, b.exporter(b"one"));
        assert_ne!(before, a.exporter(b"two"));
        assert_ne!(before, a.exporter(b""));
        let id = *b"0123456789abcdef";
        assert_eq!(a.ticket_psk(&id), b.exporter(b"ticket0123456789abcdef"));
        assert_ne!(a.ticket_psk(&id), a.ticket_psk(&[0; 16]));
        sealed(&mut a, 0, b"");
        a.on_ack(0);
        a.update().unwrap();
        assert_eq!(a.exporter(b"one"), before);
        let [other, _] = secrets(2);
        let other = RecordKeys::with_backend(&other, combination.0, combination.1).unwrap();
        assert_ne!(other.exporter(b"one"), before);
    }
}

#[test]
fn the_cipher_is_what_both_have() {
    for (ours, theirs) in [(0, 0), (0, 1), (1, 0), (!1, !0), (2, 3)] {
        assert_eq!(Cipher::negotiated(ours, theirs), Cipher::ChaCha20Poly1305);
    }
    assert_eq!(Cipher::negotiated(1, !0), Cipher::Aes256Gcm);
    assert!(Cipher::ChaCha20Poly1305.is_supported());
    assert_eq!(Cipher::Aes256Gcm.is_supported(), Cipher::hardware_aes());
    assert!(Cipher::supported().iter().all(|cipher| cipher.is_supported()));
    assert!(cfg!(feature = "fast") || !Cipher::hardware_aes());
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        let made = RecordKeys::new(&secrets(1)[0], cipher).map(|keys| keys.cipher());
        assert_eq!(made, if cipher.is_supported() { Ok(cipher) } else { Err(UnsupportedCipher(cipher)) });
    }
}

#[test]
fn the_ciphers_and_the_directions_have_different_keys() {
    let packets: Vec<Vec<u8>> = combinations()
        .into_iter()
        .filter(|(_, backend)| *backend == crypto::raw::Backend::default())
        .flat_map(|combination| pair(combination).map(|mut end| sealed(&mut end, 0, &[0; 64])))
        .collect();
    for (i, one) in packets.iter().enumerate() {
        assert!(packets[..i].iter().all(|other| one[13..] != other[13..]));
    }
}

#[test]
fn no_key_is_shown() {
    let [a, _] = pair(combinations()[0]);
    assert_eq!(
        format!("{a:?}"),
        "RecordKeys { cipher: ChaCha20Poly1305, initiator: true, send_generation: 0, receive_generation: 0, .. }"
    );
}

proptest! {
    #[test]
    fn what_was_sealed_opens(text in prop::collection::vec(any::<u8>(), 0..2000), pn in 0_u64..1 << 31) {
        for combination in combinations() {
            let [mut a, mut b] = pair(combination);
            for (from, to) in [(&mut a, true), (&mut b, false)] {
                let packet = sealed(from, pn, &text);
                prop_assert_eq!(packet.len(), text.len() + 29);
                let [mut fresh_a, mut fresh_b] = pair(combination);
                let receiver = if to { &mut fresh_b } else { &mut fresh_a };
                prop_assert_eq!(open(receiver, &packet, at(0)), Ok((pn, 0, text.clone())));
            }
        }
    }

    #[test]
    fn noise_does_not_open(mut noise in prop::collection::vec(any::<u8>(), 0..200)) {
        for combination in combinations() {
            let [mut a, _] = pair(combination);
            let before = state(&a);
            prop_assert!(a.open(&mut noise, at(0)).is_err());
            prop_assert_eq!(state(&a), before);
        }
    }
}
