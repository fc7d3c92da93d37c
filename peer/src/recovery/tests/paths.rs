//! Paths that come, go and change, the size of their packets and their marks.

use super::*;

#[test]
fn a_path_that_is_removed_loses_its_packets_without_blame() {
    let mut s = Sender::with(Algorithm::Cubic, Some(ms(10)));
    s.recovery.add_path(B, &path_start(None), start());
    for n in 0..6 {
        s.send(if n % 2 == 0 { A } else { B });
    }
    let window = s.recovery.window(A);
    s.out.clear();
    s.recovery.remove_path(B, &mut s.out);
    assert_eq!(s.lost(), [1, 3, 5]);
    assert_eq!((s.recovery.in_flight(A), s.recovery.in_flight(B), s.recovery.window(A)), (3600, 0, window));
    assert_eq!(s.recovery.may_send(B, s.now), Budget::Full);
    s.recovery.add_path(B, &path_start(None), start());
    s.at(ms(10)).ack(&[0..=5]).unwrap();
    assert_eq!((s.acked(), s.lost(), s.recovery.counts().spurious), (vec![0, 2, 4], vec![], 0));
    assert!(s.recovery.is_settled());
}

#[test]
fn a_path_that_leads_elsewhere_starts_again() {
    let mut s = Sender::with(Algorithm::Cubic, Some(ms(10)));
    let window = s.recovery.window(A);
    for _ in 0..5 {
        s.send(A);
    }
    s.recovery.reset_path(A, &path_start(None), s.now);
    assert_eq!(s.recovery.in_flight(A), 0);
    assert_eq!(s.recovery.rtt(A).unwrap().latest(), crate::rtt::INITIAL);
    assert!(s.deadline().is_some(), "old packets are still waited for");
    let new = s.send(A);
    s.at(ms(700)).ack(&[0..=1]).unwrap();
    assert_eq!((s.acked(), s.recovery.in_flight(A)), (vec![0, 1], 1200));
    assert!(!s.recovery.rtt(A).unwrap().is_sampled(), "the old way's round trip");
    s.at(ms(710)).ack(&[new..=new, 0..=1]).unwrap();
    assert_eq!((s.lost(), s.recovery.in_flight(A)), (vec![2], 0));
    assert_eq!(s.recovery.rtt(A).unwrap().latest(), ms(710));
    let (at, _) = s.deadline().unwrap();
    s.at(at).timeout();
    assert_eq!(s.lost(), [3, 4]);
    assert!(s.recovery.is_settled() && s.recovery.window(A) >= window);
}

#[test]
fn a_lost_probe_for_size_is_no_congestion_and_one_that_arrives_raises_it() {
    let mut s = Sender::with(Algorithm::Cubic, Some(ms(10)));
    let window = s.recovery.window(A);
    let mut sizes = Vec::new();
    let mut at = 0;
    while let Some(size) = s.recovery.mtu_probe(A, s.now) {
        sizes.push(size);
        let probe = s.send_as(A, u32::try_from(size).unwrap(), true, true, false);
        assert_eq!(s.recovery.mtu_probe(A, s.now), None, "one at a time");
        for _ in 0..3 {
            s.send_as(A, 100, true, false, false);
        }
        at += 10;
        s.at(ms(at));
        if size <= 1472 {
            s.ack(&[probe..=probe + 3]).unwrap();
            assert_eq!(s.out.paths[..], [PathChange::Mtu(A, size)]);
        } else {
            s.ack(&[probe + 1..=probe + 3]).unwrap();
        }
    }
    assert_eq!(sizes, [1452, 1472, 1500, 1500, 1500]);
    assert_eq!((s.recovery.mtu(A), s.recovery.in_flight(A)), (1472, 0));
    assert!(s.recovery.window(A) >= window);
}

#[test]
fn a_path_that_shrinks_is_noticed_by_small_packets_that_pass() {
    let mut s = Sender::new(Some(ms(10)));
    let mut at = 0;
    while let Some(size) = s.recovery.mtu_probe(A, s.now) {
        let probe = s.send_as(A, u32::try_from(size).unwrap(), true, true, false);
        at += 10;
        s.at(ms(at)).ack(&[probe..=probe]).unwrap();
    }
    assert_eq!(s.recovery.mtu(A), 1500);
    // From here on nothing above 1280 passes: timeouts go by until probes are small.
    let first = s.send_as(A, 1500, true, false, false);
    let mut fell = false;
    for _ in 0..4 {
        let (deadline, _) = s.deadline().unwrap();
        s.at(deadline).timeout();
        let mut arrived = None;
        for _ in 0..s.recovery.probes_due(A) {
            let size = s.recovery.mtu(A);
            let pn = s.send_as(A, u32::try_from(size).unwrap(), true, false, false);
            arrived = (size <= 1280).then_some(pn).or(arrived);
        }
        if let Some(pn) = arrived {
            s.at(deadline + ms(10)).ack(&[pn..=pn]).unwrap();
            fell |= s.out.paths.contains(&PathChange::BlackHole(A));
            break;
        }
    }
    assert!(fell && s.now < start() + ms(1000));
    assert!(s.recovery.counts().lost >= 1 && first > 0);
    assert_eq!(s.recovery.mtu(A), 1200);
    assert_eq!(s.recovery.mtu_probe(A, s.now), Some(1452), "and the search goes on below what was lost");
}

#[test]
fn marks_are_tested_confirmed_and_given_up() {
    let ecn = |ect0, ce| Some(EcnCounts { ect0, ect1: 0, ce });
    let mut s = Sender::new(Some(ms(10)));
    for _ in 0..10 {
        assert_eq!(s.recovery.ecn(A), Ecn::Ect0);
        s.send_as(A, 100, true, false, true);
    }
    assert_eq!(s.recovery.ecn(A), Ecn::NotEct, "ten are enough for the test");
    s.ack_with(&[0..=9], Duration::ZERO, ecn(9, 1)).unwrap();
    assert!(s.path(A).ecn.is_capable());
    s.send_as(A, 100, true, false, true);
    s.send_as(A, 100, true, false, true);
    s.ack_with(&[10..=11], Duration::ZERO, ecn(10, 1)).unwrap();
    assert_eq!(s.recovery.ecn(A), Ecn::NotEct, "a mark was cleared");

    // Frames that overtook each other are not held against the path.
    let mut s = Sender::new(Some(ms(10)));
    for _ in 0..10 {
        s.send_as(A, 100, true, false, true);
    }
    for (last, count) in [(9, 10), (4, 5), (7, 8)] {
        s.ack_with(&[0..=last], Duration::ZERO, ecn(count, 0)).unwrap();
        assert!(s.path(A).ecn.is_capable());
    }

    let mut s = Sender::new(Some(ms(10)));
    for _ in 0..10 {
        s.send_as(A, 100, true, false, true);
    }
    for _ in 0..3 {
        s.send_as(A, 100, true, false, false);
    }
    s.ack_with(&[10..=12], Duration::ZERO, None).unwrap();
    s.at(ms(500)).timeout();
    assert_eq!(s.recovery.ecn(A), Ecn::NotEct, "what is marked does not arrive");
    assert!(!s.path(A).ecn.is_capable());
}
