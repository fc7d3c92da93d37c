//! The laws of machines.

use std::time::Instant;

use bytes::Bytes;
use crypto::Seed;
use framing::v12::GoawayReason;
use peer::v12::{Config, ExchangeError, Peer, SendError, max_buffered_bytes};
use sim::conformance::{Reply, Subject, check_all};
use structs::{Machine, Path};

use crate::support::{epoch, identity};

struct Pair;

const VALUE_LIMIT: usize = 200_000;

impl Subject for Pair {
    type Machine = Peer;

    fn fresh(&self, seed: Seed, [to_b, to_a]: [Path; 2], now: Instant) -> [Peer; 2] {
        let config =
            Config::default().value_limit(VALUE_LIMIT).accept_plaintext_fragments(true).persistent_identity(true);
        let a = config.clone().danger_send_plaintext_fragments(true);
        [
            Peer::dial(a, identity("alice"), to_b, 8, &seed.fork("a"), epoch(), now),
            Peer::accept(config, identity("bob"), to_a, &seed.fork("b"), epoch(), now),
        ]
    }

    fn command(&self, peer: &mut Peer, op: u64, now: Instant) -> Reply {
        let len = [0, 3, 100, 1200, 5000, 65_474, 70_000, 600_000][(op >> 8) as usize % 8];
        let key = Bytes::from(vec![b'k', (op >> 16) as u8 % 8]);
        let exchanged = |result| match result {
            Ok(()) => Reply::Done,
            Err(ExchangeError::Closed) => Reply::Closed,
            Err(_) => Reply::Refused,
        };
        // Some commands take no time, and the suite counts on every one having told it.
        peer.handle_timeout(now);
        match op % 8 {
            0..=3 => match peer.send(Bytes::from(vec![op as u8; len]), now) {
                Ok(()) => Reply::Done,
                Err(SendError::Closed) => Reply::Closed,
                Err(_) => Reply::Refused,
            },
            4 => exchanged(peer.want(key, now)),
            5 => exchanged(peer.serve(key, Bytes::from(vec![7; len + 1]), now)),
            6 => {
                peer.cancel_want(&key);
                if peer.is_closed() { Reply::Closed } else { Reply::Done }
            }
            _ if peer.send_control(vec![0x30, 0]) => Reply::Done,
            _ if peer.is_closed() => Reply::Closed,
            _ => Reply::Refused,
        }
    }

    fn close(&self, peer: &mut Peer, now: Instant) {
        peer.close(GoawayReason::Quitting, now);
    }

    fn is_closed(&self, peer: &Peer) -> bool {
        peer.is_closed()
    }

    fn buffered_bytes(&self, peer: &Peer) -> usize {
        peer.buffered_bytes()
    }

    fn buffered_limit(&self, _: &Peer) -> usize {
        max_buffered_bytes(VALUE_LIMIT)
    }
}

#[test]
fn a_peer_keeps_the_laws_of_machines() {
    check_all(&Pair, [1]).unwrap_or_else(|violation| panic!("{violation}"));
}

/// The same with more seeds: `cargo test -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_peer_keeps_the_laws_of_machines_whatever_the_seed() {
    check_all(&Pair, 2..40).unwrap_or_else(|violation| panic!("{violation}"));
}
