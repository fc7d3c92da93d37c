//! The laws of the machine interface.

use std::time::Instant;

use crypto::Seed;
use nat::stun::{Client, ClientError};
use nat::{Candidate, CandidateKind, Confidence, Filtering, Mapping, Punch, PunchError, Report, Setup, Strays};
use sim::Addresses;
use sim::conformance::{Reply, Subject, check_all};
use structs::Path;

/// Two who have coordinated; what is under test are their datagrams.
struct Punches {
    mapping: [Mapping; 2],
}

impl Subject for Punches {
    type Machine = Punch;

    fn fresh(&self, seed: Seed, paths: [Path; 2], now: Instant) -> [Punch; 2] {
        let [to_b, to_a] = paths;
        let setup = |side: usize, ours: Path| Setup {
            report: Report {
                mapping: self.mapping[side],
                filtering: Filtering::AddressAndPort,
                strays: Strays::Ignored,
                confidence: Confidence::Consistent,
                delta: 1,
                next: 4000,
                ..Report::default()
            },
            candidates: vec![Candidate { kind: CandidateKind::Reflexive, addr: ours.local }],
            stated: vec![ours.remote.ip()],
            local: true,
            birthday: true,
            first_socket: 0,
            max_sockets: 16,
            ..Setup::default()
        };
        let mut a = Punch::initiate(setup(0, to_b), &seed.fork("a"), now);
        let mut b = Punch::respond(setup(1, to_a), &seed.fork("b"), now);
        for _ in 0..4 {
            while let Some(message) = a.poll_message() {
                b.handle_message(&message, now).unwrap();
            }
            while let Some(message) = b.poll_message() {
                a.handle_message(&message, now).unwrap();
            }
        }
        [a, b]
    }

    fn command(&self, machine: &mut Punch, op: u64, now: Instant) -> Reply {
        let count = op.to_be_bytes()[6].into();
        match machine.sockets_opened(count, &[], None, now) {
            Ok(()) => Reply::Done,
            Err(PunchError::Closed) => Reply::Closed,
            Err(_) => Reply::Refused,
        }
    }

    fn close(&self, machine: &mut Punch, _now: Instant) {
        machine.close();
    }

    fn is_closed(&self, machine: &Punch) -> bool {
        machine.is_closed()
    }

    fn buffered_bytes(&self, machine: &Punch) -> usize {
        machine.buffered_bytes()
    }

    fn buffered_limit(&self, _machine: &Punch) -> usize {
        512 * 28 + 8 * 512
    }

    fn addresses(&self) -> Addresses {
        Addresses::Private
    }
}

#[test]
fn the_laws_of_punching() {
    use Mapping::{EndpointIndependent, Random, Sequential};
    for mapping in [
        [EndpointIndependent, EndpointIndependent],
        [EndpointIndependent, Sequential],
        [Random, EndpointIndependent],
        [Sequential, Sequential],
    ] {
        if let Err(violation) = check_all(&Punches { mapping }, 0..4) {
            panic!("{mapping:?}: {violation}");
        }
    }
}

struct Clients;

impl Subject for Clients {
    type Machine = Client;

    fn fresh(&self, seed: Seed, paths: [Path; 2], now: Instant) -> [Client; 2] {
        let labels = ["a", "b"];
        let mut side = 0;
        paths.map(|path| {
            let mut client = Client::new(&seed.fork(labels[side]), now);
            side += 1;
            client.ask(path.remote, now).unwrap();
            client
        })
    }

    fn command(&self, machine: &mut Client, op: u64, now: Instant) -> Reply {
        match machine.ask(Addresses::Private.at(u32::try_from(op % 3).unwrap()), now) {
            Ok(()) => Reply::Done,
            Err(ClientError::Closed) => Reply::Closed,
            Err(_) => Reply::Refused,
        }
    }

    fn close(&self, machine: &mut Client, _now: Instant) {
        machine.close();
    }

    fn is_closed(&self, machine: &Client) -> bool {
        machine.is_closed()
    }

    fn buffered_bytes(&self, machine: &Client) -> usize {
        machine.buffered_bytes()
    }

    fn buffered_limit(&self, _machine: &Client) -> usize {
        16 * 2 * 36
    }
}

#[test]
fn the_laws_of_asking() {
    if let Err(violation) = check_all(&Clients, 0..6) {
        panic!("{violation}");
    }
}
