//! Every pair of kinds, many times, the side that begins alternating.

use std::time::Duration;

use nat::Failure;
use sim::nat::NatKind::{self, AddrCone, FullCone, None as NoNat, PortClash, PortCone, SymRand, SymSeq, UdpBlock};

use crate::lab::{Lab, Outcome, World, own_addresses};

/// The attempts of one pair.
struct Cell {
    runs: usize,
    /// Sorted.
    times: Vec<Duration>,
    outcomes: Vec<Outcome>,
}

impl Cell {
    fn direct(&self) -> f64 {
        100.0 * self.times.len() as f64 / self.runs as f64
    }

    fn percentile(&self, p: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times.get(last * p / 100).copied().unwrap_or_default()
    }

    fn given_up(&self) -> Option<Duration> {
        self.outcomes.iter().filter_map(|outcome| outcome.failed_at).max()
    }
}

/// What holds in every run: nobody but the two gets anything, and they no more than the budget.
fn check(outcome: &Outcome) {
    let own = own_addresses();
    for (ip, bytes) in &outcome.sent_to {
        assert!(own.contains(ip) && *bytes <= 64_000, "{ip} got {bytes} bytes");
    }
    assert!(outcome.bytes.iter().all(|bytes| *bytes <= 64_000), "{outcome:?}");
    assert!(outcome.probes.iter().all(|probes| *probes <= 2048), "{outcome:?}");
    assert_eq!(outcome.punched.is_none(), outcome.failures.iter().all(Option::is_some), "{outcome:?}");
}

fn measure(runs: u64, a: NatKind, b: NatKind, change: impl Fn(&mut World)) -> Cell {
    let outcomes: Vec<Outcome> = (0..runs)
        .map(|seed| {
            let (a, b) = if seed % 2 == 0 { (a, b) } else { (b, a) };
            let mut world = World::new(a, b);
            change(&mut world);
            let outcome = Lab::new(world, seed).run();
            check(&outcome);
            outcome
        })
        .collect();
    let mut times: Vec<Duration> = outcomes.iter().filter_map(|outcome| outcome.punched).collect();
    times.sort_unstable();
    Cell { runs: usize::try_from(runs).unwrap(), times, outcomes }
}

fn pairs() -> impl Iterator<Item = (NatKind, NatKind)> {
    NatKind::ALL.into_iter().enumerate().flat_map(|(i, a)| NatKind::ALL.into_iter().skip(i).map(move |b| (a, b)))
}

fn has(pair: (NatKind, NatKind), a: NatKind, b: NatKind) -> bool {
    pair == (a, b) || pair == (b, a)
}

/// Whether there is a way at all between two kinds.
fn possible(a: NatKind, b: NatKind) -> bool {
    let pair = (a, b);
    let hopeless = has(pair, SymSeq, SymRand) || has(pair, SymRand, SymRand);
    a != UdpBlock && b != UdpBlock && !hopeless
}

fn print(title: &str, rows: &[(NatKind, NatKind, Cell)]) {
    println!("{title}");
    for (a, b, cell) in rows {
        let [median, tail] = [50, 95].map(|p| cell.percentile(p).as_millis());
        let bytes = cell.outcomes.iter().map(|outcome| outcome.bytes.iter().sum::<u32>()).max().unwrap_or(0);
        println!(
            "| {:>9} x {:<9} | {:>5.1} % | {median:>5} | {tail:>5} | {bytes:>6} | {:?}",
            a.name(),
            b.name(),
            cell.direct(),
            cell.given_up().map_or(0, |at| at.as_millis())
        );
    }
}

/// Both sides know what a server with two addresses can tell.
#[test]
fn every_pair_that_can_be_punched_is() {
    let rows: Vec<_> = pairs().map(|(a, b)| (a, b, measure(20, a, b, |_| ()))).collect();
    print("known", &rows);
    for (a, b, cell) in &rows {
        let name = format!("{} x {}", a.name(), b.name());
        let pair = (*a, *b);
        if !possible(*a, *b) {
            assert!(cell.times.is_empty(), "{name}");
            assert!(cell.given_up().unwrap() <= Duration::from_secs(1), "{name}");
            let hopeless = |failure: &Option<Failure>| matches!(failure, Some(Failure::Hopeless { .. }));
            assert!(cell.outcomes.iter().all(|outcome| outcome.failures.iter().all(hopeless)), "{name}");
            assert!(cell.outcomes.iter().all(|outcome| outcome.probes == [0, 0]), "{name}");
        } else if has(pair, PortCone, SymRand) || has(pair, PortClash, SymRand) {
            assert!(cell.direct() >= 97.0 && cell.percentile(95) <= Duration::from_secs(5), "{name}");
        } else {
            assert!(cell.direct() >= 100.0 && cell.percentile(95) <= Duration::from_secs(1), "{name}");
        }
    }
}

/// Nobody told what becomes of strays, or what is filtered: the order may be wrong in the first round.
#[test]
fn every_pair_but_one_without_a_server_that_tells() {
    let rows: Vec<_> = pairs().map(|(a, b)| (a, b, measure(20, a, b, |world| world.known = false))).collect();
    print("unknown", &rows);
    for (a, b, cell) in &rows {
        let name = format!("{} x {}", a.name(), b.name());
        let random = *a == SymRand || *b == SymRand;
        match possible(*a, *b) {
            false => assert!(cell.times.is_empty(), "{name}"),
            // Random ports that were missed in the one round that there is.
            true if random => assert!(cell.direct() >= 95.0, "{name}"),
            true => assert!(cell.direct() >= 100.0, "{name}"),
        }
        assert!(cell.percentile(95) <= Duration::from_secs(5), "{name}");
    }
    // One mapping for all and no clash: the order does not matter.
    for a in [NoNat, FullCone, AddrCone, PortCone] {
        for b in [NoNat, FullCone, AddrCone, PortCone] {
            assert!(measure(4, a, b, |world| world.known = false).percentile(50) <= Duration::from_secs(1));
        }
    }
}

#[test]
fn with_a_tenth_of_the_datagrams_lost() {
    let rows: Vec<_> = pairs()
        .filter(|(a, b)| possible(*a, *b))
        .map(|(a, b)| (a, b, measure(20, a, b, |world| world.loss = 0.1)))
        .collect();
    print("loss", &rows);
    for (a, b, cell) in &rows {
        assert!(cell.direct() >= 95.0, "{} x {}: {} %", a.name(), b.name(), cell.direct());
    }
}

/// No router lies between the boxes, as in a laboratory, so an opener is a stray like every other.
#[test]
fn two_that_clash_need_a_router_between_them() {
    let near = measure(10, PortClash, PortClash, |world| world.hops = 0);
    assert!(near.times.is_empty());
    assert!(near.given_up().unwrap() <= Duration::from_secs(3), "{:?}", near.given_up());
    assert!(measure(10, PortClash, PortClash, |_| ()).direct() >= 100.0);
}

#[test]
fn sequences_meet_although_others_took_some_ports() {
    for (busy, least) in [(0, 100.0), (1, 100.0), (3, 100.0)] {
        let cell = measure(20, SymSeq, SymSeq, |world| world.busy = busy);
        assert!(cell.direct() >= least && cell.percentile(95) <= Duration::from_secs(3), "{busy}: {}", cell.direct());
    }
    for kind in [PortCone, PortClash] {
        assert!(measure(20, SymSeq, kind, |world| world.busy = 30).direct() >= 100.0);
    }
}

/// What a NAT was thought to have done and did not, and what the two sent elsewhere since they told: in the first round.
#[test]
fn sequences_meet_although_they_were_miscounted() {
    for miscounted in [[1, 0], [0, 2], [2, 1], [4, 3], [0, 4]] {
        let cell = measure(10, SymSeq, SymSeq, |world| world.miscounted = miscounted);
        assert!(cell.direct() >= 100.0 && cell.percentile(100) <= Duration::from_secs(1), "{miscounted:?}");
    }
    for flows in [[1, 0], [0, 9], [7, 30], [40, 3]] {
        let cell = measure(10, SymSeq, SymSeq, |world| world.flows = flows);
        assert!(cell.direct() >= 100.0 && cell.percentile(100) <= Duration::from_secs(1), "{flows:?}");
        let both =
            measure(10, SymSeq, SymSeq, |world| (world.flows, world.miscounted, world.busy) = (flows, [2, 0], 1));
        assert!(both.direct() >= 100.0 && both.percentile(100) <= Duration::from_secs(2), "{flows:?} and miscounted");
    }
}

#[test]
fn two_behind_one_box_take_the_local_network() {
    for kind in [PortCone, PortClash, SymSeq, SymRand, UdpBlock] {
        for outcome in measure(6, kind, kind, |world| world.together = true).outcomes {
            let remote = outcome.remote.unwrap_or_else(|| panic!("{kind:?}: {outcome:?}"));
            assert!(remote.ip().to_string().starts_with("10."), "{kind:?}: {remote}");
            assert!(outcome.punched.unwrap() <= Duration::from_secs(1), "{outcome:?}");
        }
    }
}

#[test]
fn ipv6_needs_no_luck() {
    for (a, b) in [(SymRand, SymRand), (PortClash, SymSeq), (UdpBlock, PortCone), (PortCone, PortCone)] {
        for outcome in measure(6, a, b, |world| world.ipv6 = true).outcomes {
            assert!(outcome.remote.is_some_and(|remote| remote.is_ipv6()), "{a:?} {b:?}: {outcome:?}");
        }
    }
}

#[test]
fn boxes_behind_boxes() {
    for (a, b) in [(PortCone, PortCone), (FullCone, PortCone), (PortCone, SymRand), (PortCone, SymSeq)] {
        let cell = measure(10, a, b, |world| world.double = true);
        assert!(cell.direct() >= 90.0, "{a:?} {b:?}: {} %", cell.direct());
    }
}

#[test]
fn only_random_ports_cost_sockets_and_many_probes() {
    for (a, b) in pairs().filter(|(a, b)| possible(*a, *b)) {
        let cell = measure(4, a, b, |_| ());
        let random = a == SymRand || b == SymRand;
        for outcome in &cell.outcomes {
            let many = outcome.sockets.iter().any(|count| *count > 3);
            assert!(!many || random, "{a:?} {b:?}: {outcome:?}");
            let sequential = a == SymSeq || b == SymSeq;
            let probes = outcome.probes.iter().sum::<usize>();
            assert!(random || probes <= if sequential { 900 } else { 40 }, "{a:?} {b:?}: {outcome:?}");
        }
    }
}
