//! Protocols share a session by weight, and nobody waits behind a queue that is not his.

use std::num::{NonZeroU16, NonZeroU32};

use crypto::Seed;
use peer::congestion::Algorithm;
use peer::mux::{Protocol, ProtocolId, Protocols, Urgency};
use peer::{Handle, Target};
use sim::Link;
use sim::pair::{Setup, Side};

use crate::support::*;

/// A pair over 80 Mbit/s with protocols of these weights, and their ids.
fn weighted(weights: &[u16], cap: Option<u32>) -> (Endpoints, Vec<ProtocolId>) {
    let mut protocols = Protocols::new();
    let register = |(n, weight): (usize, &u16)| {
        let mut protocol = Protocol::new(&format!("p{n}"), 1).weight(NonZeroU16::new(*weight).unwrap());
        if n == 0 {
            protocol = protocol.rate_cap(cap.and_then(NonZeroU32::new));
        }
        protocols.register(protocol).unwrap()
    };
    let ids = weights.iter().enumerate().map(register).collect();
    let config = peer::Config::default().protocols(protocols).congestion(Algorithm::Fixed(300_000)).max_datagram(1452);
    let link = Link::perfect().delay(ms(5)).rate(10_000_000).queue(1 << 20);
    (pair_of(Setup::new(Seed::fixed(1)).link(link), config.clone(), config, 1), ids)
}

fn connect(pair: &mut Endpoints) -> (Handle, Handle) {
    let path = pair.path(Side::A);
    let id = identity(2).peer_id();
    let a = pair.with_a(|a, now| a.dial(Target::Known(id), path, now)).unwrap();
    pair.run_for(ms(500));
    (a, pair.b.by_id(&identity(1).peer_id()).unwrap())
}

/// Keeps every queue of A full for a second and says how many bytes B got of each.
fn backlog(
    pair: &mut Endpoints,
    ids: &[ProtocolId],
    (a, b): (Handle, Handle),
    len: impl Fn(usize) -> usize,
    millis: u64,
) -> Vec<u64> {
    let mut got = vec![0; ids.len()];
    let mut space = Vec::new();
    for _ in 0..millis {
        pair.with_a(|endpoint, now| {
            endpoint.with(a, now, |peer, _| {
                for (n, &id) in ids.iter().enumerate() {
                    let message = vec![1; len(n)];
                    // A quarter of a megabyte ahead of each is plenty for a millisecond.
                    for _ in 0..(262_144 / message.len()).max(1) {
                        let account = peer.account(id, Urgency::Normal);
                        let ahead = (account.accepted - account.acked) as usize * message.len();
                        if ahead > 400_000 || peer.send(id, &message, Urgency::Normal).is_err() {
                            break;
                        }
                    }
                }
            });
        });
        pair.run_for(ms(1));
        pair.with_b(|endpoint, now| {
            endpoint.with(b, now, |peer, _| {
                for (n, &id) in ids.iter().enumerate() {
                    while let Some(len) = peer.recv(id, &mut space) {
                        got[n] += len as u64;
                    }
                }
            });
        });
        drop((pair.take_a_events(), pair.take_b_events()));
    }
    got
}

fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    sum * sum / (shares.len() as f64 * shares.iter().map(|share| share * share).sum::<f64>())
}

#[test]
fn protocols_of_equal_weight_get_equal_shares_whatever_they_send() {
    let (mut pair, ids) = weighted(&[1; 5], None);
    let peers = connect(&mut pair);
    let len = |n: usize| [100, 1000, 10_000, 40_000, 300][n];
    backlog(&mut pair, &ids, peers, len, 500);
    let got = backlog(&mut pair, &ids, peers, len, 1000);
    let shares: Vec<f64> = got.iter().map(|bytes| *bytes as f64 / got.iter().sum::<u64>() as f64).collect();
    // A whole message more or less of 40 KB is 2 % of a share of a second.
    assert!(shares.iter().all(|share| (0.19..0.21).contains(share)), "{shares:?}");
    assert!(jain(&shares) >= 0.99, "{}", jain(&shares));
}

#[test]
fn shares_follow_the_weights() {
    let (mut pair, ids) = weighted(&[1, 2, 4], None);
    let peers = connect(&mut pair);
    backlog(&mut pair, &ids, peers, |_| 1000, 500);
    let got = backlog(&mut pair, &ids, peers, |_| 1000, 1000);
    let total: u64 = got.iter().sum();
    for (bytes, weight) in got.iter().zip([1.0, 2.0, 4.0]) {
        let share = *bytes as f64 / total as f64 * 7.0 / weight;
        assert!((0.95..1.05).contains(&share), "{got:?}");
    }
}

#[test]
fn a_protocol_with_a_cap_keeps_to_it_and_the_others_have_the_rest() {
    let (mut pair, ids) = weighted(&[1, 1], Some(1_000_000));
    let peers = connect(&mut pair);
    backlog(&mut pair, &ids, peers, |_| 1000, 500);
    let got = backlog(&mut pair, &ids, peers, |_| 1000, 2000);
    assert!((1_800_000..2_050_000).contains(&got[0]), "{got:?}");
    assert!(got[1] > 16_500_000, "{got:?}");
}

#[test]
fn a_protocol_alone_has_the_whole_link() {
    let (mut pair, ids) = weighted(&[1, 1, 1], None);
    let peers = connect(&mut pair);
    backlog(&mut pair, &ids[..1], peers, |_| 1000, 500);
    let before = pair.traffic(Side::A).delivered.bytes;
    let got = backlog(&mut pair, &ids[..1], peers, |_| 1000, 1000)[0];
    let carried = pair.traffic(Side::A).delivered.bytes - before;
    assert!(got as f64 > 9_800_000.0 * 1402.0 / 1452.0, "{got} of {carried}");
    // 29 bytes of each packet seal it, about 20 more say what is in it and what arrived.
    assert!(got as f64 / carried as f64 > 0.96, "{got} of {carried}");
}

/// What is urgent is in the next packet that is built, however much waits.
#[test]
fn an_urgent_message_overtakes_all_that_waits() {
    let (mut pair, ids) = weighted(&[1, 1], None);
    let (a, b) = connect(&mut pair);
    backlog(&mut pair, &ids, (a, b), |_| 1000, 300);
    pair.capture(1 << 24);
    let sent_before = pair.captured().len();
    pair.with_a(|endpoint, now| endpoint.with(a, now, |peer, _| peer.send(ids[1], b"now", Urgency::Urgent)))
        .unwrap()
        .unwrap();
    let mut space = Vec::new();
    let mut packets = 0;
    for _ in 0..2000 {
        pair.step();
        packets = pair.captured().len() - sent_before;
        pair.with_b(|endpoint, now| {
            endpoint.with(b, now, |peer, _| while space != b"now" && peer.recv(ids[1], &mut space).is_some() {})
        });
        if space == b"now" {
            break;
        }
    }
    assert_eq!(space, b"now");
    // The queue of the link is before us: 300 kB that were in flight when it was sent, and the acknowledgements for
    // them, but nothing of what waited at the sender.
    assert!(packets < 420, "{packets} packets went by");
}
