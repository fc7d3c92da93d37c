//! A session comes to rest when it is not used, and nobody notices.

use std::time::Duration;

use peer::congestion::Algorithm;
use peer::mux::{ProtocolId, Urgency};
use peer::{Endpoint, Handle};
use sim::Link;
use sim::pair::{Setup, Side};

use crate::support::*;

/// How long it takes to bring so many messages of 250 kB from A to B.
fn transfer(pair: &mut Endpoints, (a, b): (Handle, Handle), protocol: ProtocolId, count: usize) -> Duration {
    let began = pair.elapsed();
    let (mut sent, mut got) = (0, 0);
    let (message, mut space) = (vec![7; 250_000], Vec::new());
    while got < count {
        pair.with_a(|endpoint, now| {
            endpoint.with(a, now, |peer, _| {
                while sent < count && peer.send(protocol, &message, Urgency::Normal).is_ok() {
                    sent += 1;
                }
            })
        });
        got += pair.with_b(|endpoint: &mut Endpoint, now| {
            endpoint.with(b, now, |peer, _| std::iter::from_fn(|| peer.recv(protocol, &mut space)).count()).unwrap()
        });
        pair.run_for(ms(2));
        assert!(pair.elapsed() - began < Duration::from_secs(60), "{got} of {count}");
    }
    drop((pair.take_a_events(), pair.take_b_events()));
    pair.elapsed() - began
}

#[test]
fn what_a_path_carries_is_remembered() {
    // 100 Mbit/s and 50 ms.
    let link = Link::perfect().delay(ms(25)).rate(12_500_000).queue(625_000);
    for (algorithm, most) in [(Algorithm::Bbr, 1.1), (Algorithm::Cubic, 1.5)] {
        let setup = Setup::new(crypto::Seed::fixed(7)).link(link);
        let config = || config().congestion(algorithm);
        let mut pair = pair_of(setup, config(), config(), 7);
        let ends = connected(&mut pair);
        let bulk = protocols().1[BULK];
        let _ = transfer(&mut pair, ends, bulk, 60);
        // A packet lost at the end of one makes it a third longer, with or without a rest before.
        let warm: Duration = (0..9).map(|_| transfer(&mut pair, ends, bulk, 20)).sum();
        for quiet in [5, 60, 600] {
            let mut after = || {
                pair.run_for(Duration::from_secs(quiet));
                transfer(&mut pair, ends, bulk, 20)
            };
            let after: Duration = (0..9).map(|_| after()).sum();
            assert!(after <= warm.mul_f64(most), "{algorithm:?}: {after:?} after rests of {quiet} s, {warm:?} before");
        }
    }
}

/// Keepalives, updates of keys and rekeys of hours meet rests; what is said in between arrives.
#[test]
fn a_session_rests_for_hours_between_two_words() {
    let mut pair = pair(Link::perfect().delay(ms(10)), 3);
    let (a, b) = connected(&mut pair);
    let echo = protocols().1[ECHO];
    let mut space = Vec::new();
    for round in 0..200_u64 {
        // From well below the time after which a session rests to well above that between two keepalives.
        pair.run_for(Duration::from_millis(7_000 + round * round * 5));
        send_a(&mut pair, a, echo, &round.to_be_bytes());
        pair.run_for(ms(40));
        let got = pair.with_b(|endpoint, now| endpoint.with(b, now, |peer, _| peer.recv(echo, &mut space)).unwrap());
        assert_eq!((got, &space[..]), (Some(8), &round.to_be_bytes()[..]), "round {round}");
        let send = |endpoint: &mut Endpoint, now| {
            endpoint.with(b, now, |peer, _| peer.send(echo, &space, Urgency::Urgent)).unwrap().unwrap()
        };
        pair.with_b(send);
        pair.run_for(ms(40));
        let got = pair.with_a(|endpoint, now| endpoint.with(a, now, |peer, _| peer.recv(echo, &mut space)).unwrap());
        assert_eq!(got, Some(8), "round {round}");
        drop((pair.take_a_events(), pair.take_b_events()));
    }
    assert!(pair.elapsed() > Duration::from_secs(4 * 3600));
    let stats = pair.a.peer(a).unwrap().stats();
    assert!(stats.generations.0 > 60 && stats.generations.1 > 60, "{:?}", stats.generations);
    assert_eq!((stats.lost, stats.rejected.total()), (0, 0));
    assert_eq!(pair.b.peer(b).unwrap().stats().rejected.total(), 0);
    // Nothing but keepalives and what was said: a few packets for each round, and one PING in 15 s at the most.
    let most = 200 * 8 + pair.elapsed().as_secs() / 15 * 2;
    assert!(stats.sent < most, "{} packets", stats.sent);
    assert_eq!(pair.path(Side::A), pair.a.peer(a).unwrap().path().unwrap());
}
