//! Updates and rekeys, step by step.

use std::time::Duration;

use crypto::Seed;
use crypto::record::{OLD_KEYS, OpenError, RecordKeys, RekeyError, UpdateError};

use super::{at, combinations, open, pair, sealed};

/// Moves `from` on as soon as it may, by a packet that `to` acknowledges.
fn advance(from: &mut RecordKeys, to: &mut RecordKeys, pn: &mut u64) {
    let packet = sealed(from, *pn, b"");
    assert!(open(to, &packet, at(0)).is_ok());
    from.on_ack(*pn);
    *pn += 1;
    from.update().unwrap();
}

#[test]
fn directions_move_on_by_themselves() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let (mut up, mut down) = (0, 0);
        for round in 0..10 {
            assert_eq!((a.send_generation(), b.send_generation()), (2 * round, round));
            advance(&mut a, &mut b, &mut up);
            advance(&mut a, &mut b, &mut up);
            advance(&mut b, &mut a, &mut down);
            assert_eq!((b.receive_generation(), a.receive_generation()), (2 * round + 1, round));
        }
    }
}

#[test]
fn a_generation_is_left_only_when_the_peer_is_in_it() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        assert_eq!(a.update(), Err(UpdateError::Unacknowledged));
        a.on_ack(0);
        assert_eq!(a.update(), Err(UpdateError::Unacknowledged), "nothing was sent");
        sealed(&mut a, 0, b"");
        a.on_ack(1);
        assert_eq!(a.update(), Err(UpdateError::Unacknowledged), "that was not sent");
        assert!(!a.can_update());
        a.on_ack(0);
        assert!(a.can_update());
        assert_eq!(a.update(), Ok(1));
        let packet = sealed(&mut a, 1, b"");
        a.on_ack(0);
        assert_eq!(a.update(), Err(UpdateError::Unacknowledged), "that was sent in the last generation");
        assert_eq!(open(&mut b, &packet, at(0)), Ok((1, 1, vec![])));
        a.on_ack(1);
        assert_eq!(a.update(), Ok(2));
    }
}

#[test]
fn old_keys_open_what_was_overtaken_until_their_time_is_over() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let old: Vec<_> = (0..4).map(|pn| sealed(&mut a, pn, b"old")).collect();
        a.on_ack(0);
        a.update().unwrap();
        let mut new = sealed(&mut a, 4, b"new");
        assert_eq!(b.deadline(), None);
        let opened = b.open(&mut new, at(10)).unwrap();
        assert!(opened.advanced && opened.generation == 1);
        assert_eq!(b.deadline(), Some(at(10) + OLD_KEYS));
        assert_eq!(open(&mut b, &old[0], at(11)), Ok((0, 0, b"old".to_vec())));
        b.keep_old_until(at(15));
        assert_eq!(b.deadline(), Some(at(15)));
        assert!(open(&mut b, &old[1], at(15) - Duration::from_nanos(1)).is_ok());
        b.expire_old(at(14));
        assert!(b.deadline().is_some());
        assert_eq!(open(&mut b, &old[2], at(15)), Err(OpenError::Unauthentic));
        assert_eq!(b.deadline(), None);
        b.keep_old_until(at(100));
        assert_eq!(open(&mut b, &old[3], at(14)), Err(OpenError::Unauthentic), "gone for good");
        // The generation itself goes on.
        let packet = sealed(&mut a, 5, b"");
        assert!(!b.open(&mut packet.clone(), at(16)).unwrap().advanced);
    }
}

#[test]
fn forgeries_of_the_next_generation_do_not_move_the_receiver() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let packet = sealed(&mut a, 0, b"");
        a.on_ack(0);
        a.update().unwrap();
        let next = sealed(&mut a, 1, b"next");
        for round in 0..100 {
            let mut forged = next.clone();
            *forged.last_mut().unwrap() ^= 1 + round;
            assert_eq!(b.open(&mut forged, at(0)).unwrap_err(), OpenError::Unauthentic);
        }
        assert_eq!((b.receive_generation(), b.deadline(), b.failures()), (0, None, 100));
        assert!(open(&mut b, &packet, at(0)).is_ok());
        assert!(open(&mut b, &next, at(0)).is_ok());
    }
}

/// The steps of a rekey, and what each end may do between them.
#[test]
fn a_rekey_goes_step_by_step() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        let mut rng = Seed::fixed(2).rng();
        let (mut up, mut down) = (0, 0);
        advance(&mut a, &mut b, &mut up);
        let packet = sealed(&mut a, up, b"");
        assert!(open(&mut b, &packet, at(0)).is_ok());
        a.on_ack(up);
        up += 1;
        assert_eq!(b.start_rekey(&mut rng), Err(RekeyError::WrongRole));
        assert_eq!(a.on_rekey_ack(&[9; 32]), Err(RekeyError::NotStarted));

        let e_i = a.start_rekey(&mut rng).unwrap();
        assert_eq!(a.start_rekey(&mut rng), Err(RekeyError::Pending));
        assert_eq!(a.update(), Err(UpdateError::Rekeying));
        assert_eq!(a.on_rekey(&e_i, &mut rng), Err(RekeyError::WrongRole));
        // The responder's ordinary update crosses REKEY.
        advance(&mut b, &mut a, &mut down);

        // A weak key changes nothing.
        assert_eq!(b.on_rekey(&[0; 32], &mut rng), Err(RekeyError::WeakKey));
        assert!(!b.is_rekeying());
        let e_r = b.on_rekey(&e_i, &mut rng).unwrap();
        assert_eq!(b.on_rekey(&e_i, &mut rng), Err(RekeyError::Repeated));
        assert_eq!(b.on_rekey(&[9; 32], &mut rng), Err(RekeyError::Pending));
        assert_eq!(b.on_rekey_ack(&e_r), Err(RekeyError::WrongRole));
        let answer = sealed(&mut b, down, b"REKEY_ACK");
        assert_eq!(b.update(), Err(UpdateError::Rekeying), "not before REKEY_ACK is acknowledged");

        assert!(open(&mut a, &answer, at(0)).is_ok());
        assert_eq!(a.on_rekey_ack(&[0; 32]), Err(RekeyError::WeakKey));
        assert_eq!(a.on_rekey_ack(&e_r), Ok(()));
        assert_eq!(a.on_rekey_ack(&e_r), Err(RekeyError::Repeated));
        assert!(a.is_mixed_update_due());
        assert_eq!(a.start_rekey(&mut rng), Err(RekeyError::Pending));
        a.update().unwrap();
        let ack = sealed(&mut a, up, b"mixed");
        assert_eq!(open(&mut b, &ack, at(0)), Ok((up, 2, b"mixed".to_vec())));
        assert!(a.is_rekeying() && b.is_rekeying(), "the other direction is missing");

        b.on_ack(down);
        b.on_rekey_ack_acknowledged();
        assert!(b.is_mixed_update_due());
        b.update().unwrap();
        assert!(!b.is_rekeying());
        let packet = sealed(&mut b, down + 1, b"mixed too");
        assert_eq!(open(&mut a, &packet, at(0)), Ok((down + 1, 2, b"mixed too".to_vec())));
        assert!(!a.is_rekeying());
        assert_eq!(b.on_rekey(&e_i, &mut rng), Err(RekeyError::Repeated), "a late copy");
        // And the next one may come.
        let e_i = a.start_rekey(&mut rng).unwrap();
        assert_eq!(a.on_rekey_ack(&e_r), Err(RekeyError::Repeated), "a late copy");
        let e_r = b.on_rekey(&e_i, &mut rng).unwrap();
        assert_eq!(a.on_rekey_ack(&e_r), Ok(()));
    }
}

/// Whoever had all keys before a rekey and only listened has none after it.
#[test]
fn a_rekey_shuts_out_who_knew_the_keys_before() {
    for combination in combinations() {
        let [mut a, mut b] = pair(combination);
        // The thief has the same keys and follows every ordinary update.
        let [_, mut thief] = pair(combination);
        let mut rng = Seed::fixed(2).rng();
        let first = sealed(&mut a, 0, b"");
        assert!(open(&mut thief, &first, at(0)).is_ok());
        let e_i = a.start_rekey(&mut rng).unwrap();
        let e_r = b.on_rekey(&e_i, &mut rng).unwrap();
        a.on_rekey_ack(&e_r).unwrap();
        a.on_ack(0);
        a.update().unwrap();
        let packet = sealed(&mut a, 1, b"");
        assert!(open(&mut b, &packet, at(0)).is_ok());
        assert_eq!(open(&mut thief, &packet, at(0)), Err(OpenError::Unauthentic));
    }
}
