//! The laws of machines.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::Seed;
use crypto::v12::Identity;
use sim::clock;
use sim::conformance::{Reply, Subject, check_all};
use structs::{Epoch, Machine, Path};
use swarm::v12::{Config, Node};
use swarm::{DialError, FetchError, JoinError, SendError, StoreError};

use crate::support::{addr, v4};

/// Two nodes, of which the first dials the second.
struct Pair;

const VALUE_LIMIT: usize = 50_000;

impl Pair {
    fn node(name: &str, seed: Seed, path: Path, now: Instant) -> Node {
        let config = Config::default()
            .value_limit(VALUE_LIMIT)
            .store_bytes(500_000)
            .accept_plaintext_fragments(true)
            .persistent_identity(true)
            .relay(true);
        let epoch = Epoch { instant: clock::base(), unix: Duration::from_secs(1_735_689_600) };
        let mut node = Node::new(config, Identity::from_seed(name.as_bytes()), seed.fork(name), epoch);
        node.set_local_addresses(&[v4(path.local)], now);
        node
    }
}

impl Subject for Pair {
    type Machine = Node;

    fn fresh(&self, seed: Seed, [to_b, to_a]: [Path; 2], now: Instant) -> [Node; 2] {
        let mut a = Self::node("alice", seed.fork("a"), to_b, now);
        let b = Self::node("bob", seed.fork("b"), to_a, now);
        a.dial(to_b.remote, now).expect("a dial");
        [a, b]
    }

    fn command(&self, node: &mut Node, op: u64, now: Instant) -> Reply {
        let len = [0, 3, 100, 1200, 5000, 65_474, 70_000][(op >> 8) as usize % 7];
        let data = Bytes::from(vec![op as u8; len]);
        let key = Bytes::from(vec![b'k', (op >> 16) as u8 % 8]);
        let topic = swarm::TopicId::from_name(&format!("room {}", (op >> 24) % 3));
        let known = node.peers().first().map(|peer| peer.id);
        fn reply<T, E: PartialEq>(result: Result<T, E>, closed: E) -> Reply {
            match result {
                Ok(_) => Reply::Done,
                Err(error) if error == closed => Reply::Closed,
                Err(_) => Reply::Refused,
            }
        }
        // Some commands take no time, and the suite counts on every one having told it.
        node.handle_timeout(now);
        match (op % 12, known) {
            (0..=2, Some(peer)) => reply(node.send(&peer, data, now), SendError::Closed),
            (0..=3, _) => reply(node.broadcast(data, now), SendError::Closed),
            (4, _) => reply(node.publish(&topic, data, now), SendError::Closed),
            (5, _) => reply(node.join(topic, true, true, now), JoinError::Closed),
            (6, _) => reply(node.store(key, data, now), StoreError::Closed),
            (7, _) => reply(node.fetch(key, Duration::from_millis(op >> 40 & 0xfff), now), FetchError::Closed),
            (8, _) => reply(
                node.dial(addr(["10.0.0.1:4000", "10.0.0.2:4000"][(op >> 8) as usize % 2]), now),
                DialError::Closed,
            ),
            (9, Some(peer)) => {
                node.exchange_peers(Some(&peer), now);
                Reply::Done
            }
            (10, Some(peer)) if op >> 8 & 7 == 0 => {
                node.disconnect(&peer, now);
                Reply::Done
            }
            _ => {
                node.leave(&topic, now);
                if node.is_closed() { Reply::Closed } else { Reply::Done }
            }
        }
    }

    fn close(&self, node: &mut Node, now: Instant) {
        node.shutdown(now);
    }

    fn is_closed(&self, node: &Node) -> bool {
        node.is_closed()
    }

    fn buffered_bytes(&self, node: &Node) -> usize {
        node.buffered_bytes()
    }

    fn buffered_limit(&self, _: &Node) -> usize {
        // Events, values, and what two of the peers hold at worst. The other handshakes hold next to nothing.
        (32 << 20) + 500_000 + 2 * peer::v12::max_buffered_bytes(VALUE_LIMIT)
    }

    fn steps(&self) -> u32 {
        60
    }
}

#[test]
fn a_node_keeps_the_laws_of_machines() {
    check_all(&Pair, [1, 2]).unwrap_or_else(|violation| panic!("{violation}"));
}
