//! The laws of machines, for endpoints.

use std::time::{Duration, Instant};

use crypto::Seed;
use peer::{Config, DialError, Endpoint, Handle, SubnetLimits, Target};
use sim::conformance::{Reply, Subject, check_all};
use structs::{Epoch, Path};

use super::support::{BYE, id, identity};

struct Two {
    subnets: SubnetLimits,
}

impl Subject for Two {
    type Machine = Endpoint;

    fn fresh(&self, seed: Seed, [to_b, to_a]: [Path; 2], now: Instant) -> [Endpoint; 2] {
        let config = || Config::default().subnet_limits(self.subnets).max_peers(8);
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_735_689_600) };
        let mut alice = Endpoint::new(identity("alice"), config(), epoch, &seed.fork("alice"), now);
        let bob = Endpoint::new(identity("bob"), config(), epoch, &seed.fork("bob"), now);
        alice.dial(Target::Known(id("bob")), to_b, now).expect("nothing stands against it");
        // Where each finds the other is what commands need; it is the same in every run.
        assert_eq!((to_b.remote, to_a.remote), (to_a.local, to_b.local));
        [alice, bob]
    }

    fn command(&self, endpoint: &mut Endpoint, op: u64, now: Instant) -> Reply {
        let other = if endpoint.id() == id("alice") { "bob" } else { "alice" };
        let [a, b] = [0, 1].map(|index| self.addresses().at(index));
        let path = if other == "bob" { Path::udp(a, b) } else { Path::udp(b, a) };
        let handles: Vec<Handle> = endpoint.peers().map(|(handle, _)| handle).collect();
        let pick = handles.get((op >> 8) as usize % handles.len().max(1)).copied();
        let dialled = |result| match result {
            Ok(_) => Reply::Done,
            Err(DialError::Closed) => Reply::Closed,
            Err(_) => Reply::Refused,
        };
        match op % 16 {
            0..=3 => dialled(endpoint.dial(Target::Known(id(other)), path, now)),
            4 => dialled(endpoint.dial(Target::Anyone, path, now)),
            5 => dialled(endpoint.dial(Target::Known(id("carol")), path, now)),
            6 if !endpoint.is_closed() => {
                let grace = Duration::from_millis(op >> 8 & 0x3ff);
                let closed =
                    pick.and_then(|peer| endpoint.with(peer, now, |peer, now| peer.close(BYE, "", grace, now)));
                closed.map_or(Reply::Refused, |()| Reply::Done)
            }
            // Dials keep it honest once it has ended; nothing else can be asked of it then.
            _ if endpoint.is_closed() => dialled(endpoint.dial(Target::Anyone, path, now)),
            _ => {
                // Commands tell the time, and the suite counts on every one having told it.
                let resumed = pick.and_then(|peer| endpoint.with(peer, now, |peer, now| peer.handle_resume(now)));
                structs::Machine::handle_timeout(endpoint, now);
                resumed.map_or(Reply::Refused, |()| Reply::Done)
            }
        }
    }

    fn close(&self, endpoint: &mut Endpoint, now: Instant) {
        endpoint.close(BYE, "bye", Duration::from_secs(1), now);
    }

    fn is_closed(&self, endpoint: &Endpoint) -> bool {
        endpoint.is_closed()
    }

    fn buffered_bytes(&self, endpoint: &Endpoint) -> usize {
        endpoint.buffered_bytes()
    }

    fn buffered_limit(&self, _: &Endpoint) -> usize {
        8 * (8 << 20) + (8 << 20)
    }
}

#[test]
fn an_endpoint_keeps_the_laws_of_machines() {
    for (subnets, seed) in [(SubnetLimits::Public, 1), (SubnetLimits::All, 2)] {
        check_all(&Two { subnets }, [seed]).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

/// The same with more seeds: `cargo test -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn an_endpoint_keeps_the_laws_of_machines_whatever_the_seed() {
    check_all(&Two { subnets: SubnetLimits::All }, 3..40).unwrap_or_else(|violation| panic!("{violation}"));
}
