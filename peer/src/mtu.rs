//! How large the datagrams of a path may be (RFC 8899, without help from ICMP).
//!
//! A path starts at a size that every path carries and climbs a ladder of sizes that networks really have. Each step
//! is tried with a padded packet of its own whose loss says nothing about congestion. A step that fails three times
//! bounds the search from above; below Ethernet's size and above jumbo size the gap is then halved a few times. When
//! packets above the base size keep getting lost while smaller ones pass, the path falls back to the base size and
//! searches again below what was lost.

use std::time::{Duration, Instant};

/// The size that every path has to carry, in bytes of UDP payload, and the least that is ever used.
pub(crate) const BASE: usize = 1200;

/// The largest UDP payload over IPv4.
pub(crate) const LARGEST: usize = 65_507;

/// What is tried on the way up, in bytes of UDP payload: Ethernet under IPv6 and IPv4, jumbo frames (the 8,896 bytes
/// of a large cloud, so that 9,000 pass as well), the 16 KiB of loopback interfaces, 32 KiB. The limit comes last.
const LADDER: [usize; 5] = [1452, 1472, 8848, 16_336, 32_720];

/// Ethernet under IPv4: a path that carries this but not the next step is not searched in between.
const ETHERNET: std::ops::RangeInclusive<usize> = 1452..=1472;

/// How often a size is tried (RFC 8899 5.1.2, MAX_PROBES).
const ATTEMPTS: u8 = 3;

/// How often a gap is halved.
const HALVINGS: u8 = 6;

/// When a finished search starts over, because the path may carry more by now (RFC 8899 5.1.1, PMTU_RAISE_TIMER).
const SEARCH_AGAIN: Duration = Duration::from_secs(600);

/// How many suspicious passes in a row make a black hole.
const BLACK_HOLE: u8 = 3;

/// The search on one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MtuSearch {
    current: usize,
    /// The least size that is known not to pass, or one more than the limit.
    ceiling: usize,
    limit: usize,
    /// Try the limit first.
    loopback: bool,
    /// The probe in flight.
    probing: Option<usize>,
    attempts: u8,
    halvings: u8,
    /// The search is over until then.
    rest_until: Option<Instant>,
    suspicion: u8,
    /// The smallest packet above the base size that was lost since suspicion arose.
    suspect: usize,
}

impl MtuSearch {
    /// A search from `start` up to `limit`, both in bytes of UDP payload and cut to what UDP and the base size allow.
    /// `loopback` says that the path does not leave this machine: the limit is tried at once then.
    pub(crate) fn new(start: usize, limit: usize, loopback: bool) -> Self {
        let limit = limit.clamp(BASE, LARGEST);
        Self {
            current: start.clamp(BASE, limit),
            ceiling: limit + 1,
            limit,
            loopback,
            probing: None,
            attempts: 0,
            halvings: 0,
            rest_until: None,
            suspicion: 0,
            suspect: usize::MAX,
        }
    }

    /// The size that is known to pass.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// The size of a probe that should leave now, at most one at a time. It stays due until
    /// [`on_probe_sent`](Self::on_probe_sent).
    pub(crate) fn due(&mut self, now: Instant) -> Option<usize> {
        if self.probing.is_some() || self.current >= self.limit {
            return None;
        }
        match self.rest_until {
            Some(until) if now < until => return None,
            Some(_) => {
                self.rest_until = None;
                self.restart(self.limit + 1);
            }
            None => {}
        }
        let next = self.candidate();
        if next.is_none() {
            self.rest_until = Some(now + SEARCH_AGAIN);
        }
        next
    }

    /// A probe of this size left. One that is not larger than what passes anyway does not belong to the search.
    pub(crate) fn on_probe_sent(&mut self, size: usize) {
        if size > self.current {
            self.probing = Some(size);
        }
    }

    /// A probe of this size arrived, maybe after it had been given up. Returns whether the path carries more now.
    pub(crate) fn on_probe_acked(&mut self, size: usize) -> bool {
        if self.probing == Some(size) {
            self.probing = None;
            self.halvings += u8::from(self.is_halving(size));
        }
        if size <= self.current || size > self.limit {
            return false;
        }
        self.attempts = 0;
        self.current = size;
        self.ceiling = self.ceiling.max(size + 1);
        true
    }

    /// A probe of this size was lost.
    pub(crate) fn on_probe_lost(&mut self, size: usize) {
        if self.probing.take_if(|probing| *probing == size).is_none() {
            return;
        }
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            self.attempts = 0;
            self.halvings += u8::from(self.is_halving(size));
            self.ceiling = self.ceiling.min(size).max(self.current + 1);
        }
    }

    /// An ordinary packet of this size arrived.
    #[inline]
    pub(crate) fn on_acked(&mut self, size: usize) {
        if size >= self.suspect {
            (self.suspicion, self.suspect) = (0, usize::MAX);
        }
    }

    /// Packets were declared lost because later ones arrived, the smallest of `smallest` bytes, and so many probe
    /// timeouts went before. Returns whether the path turned out to be a black hole for large packets, and fell back to
    /// the base size.
    ///
    /// A pass that loses large packets only is suspicious, until a packet as large as one that was lost arrives; one
    /// that follows a row of timeouts, in which only small packets were sent at last, is proof enough.
    pub(crate) fn on_lost(&mut self, smallest: usize, timeouts: u32) -> bool {
        if smallest <= BASE || self.current == BASE {
            return false;
        }
        self.suspect = self.suspect.min(smallest);
        self.suspicion = self.suspicion.saturating_add(if timeouts >= 2 { BLACK_HOLE } else { 1 });
        if self.suspicion < BLACK_HOLE {
            return false;
        }
        let fallen_from = self.current;
        self.current = BASE;
        // The size that failed is tried once more: it might have been an outage.
        self.restart(fallen_from + 1);
        true
    }

    fn restart(&mut self, ceiling: usize) {
        self.ceiling = ceiling;
        self.attempts = 0;
        self.halvings = 0;
        self.rest_until = None;
        self.suspicion = 0;
        self.suspect = usize::MAX;
        self.probing = None;
    }

    fn candidate(&self) -> Option<usize> {
        if self.loopback && self.ceiling > self.limit {
            return Some(self.limit);
        }
        if let Some(step) = self.step() {
            return Some(step);
        }
        let gap = self.ceiling - self.current;
        let at_ethernet = ETHERNET.contains(&self.current) && self.ceiling > *ETHERNET.end();
        if self.halvings >= HALVINGS || at_ethernet || gap <= 16.max(self.current / 16) {
            return None;
        }
        Some(self.current + gap / 2)
    }

    /// The next size of the ladder, or the limit.
    fn step(&self) -> Option<usize> {
        let passable = |size: &usize| *size > self.current && *size < self.ceiling && *size <= self.limit;
        LADDER.into_iter().chain([self.limit]).filter(passable).min()
    }

    fn is_halving(&self, size: usize) -> bool {
        size != self.limit && !LADDER.contains(&size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::recovery::tests::start;

    /// Searches on a path that carries up to `carries` bytes; returns every probe's size.
    fn run(search: &mut MtuSearch, carries: usize, now: Instant) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Some(size) = search.due(now) {
            search.on_probe_sent(size);
            assert_eq!(search.due(now), None, "one probe at a time");
            sizes.push(size);
            if size <= carries {
                assert!(search.on_probe_acked(size));
            } else {
                search.on_probe_lost(size);
            }
            assert!(sizes.len() < 60, "the search ends: {sizes:?}");
        }
        sizes
    }

    #[test]
    fn loopback_is_probed_from_the_top() {
        let mut search = MtuSearch::new(BASE, 70_000, true);
        assert_eq!(run(&mut search, 100_000, start()), [LARGEST]);
        assert_eq!(search.current(), LARGEST);
        // A loopback interface of 16 KiB costs three probes more.
        let mut search = MtuSearch::new(BASE, LARGEST, true);
        let sizes = run(&mut search, 16_336, start());
        assert_eq!(sizes[..7], [LARGEST, LARGEST, LARGEST, 1452, 1472, 8848, 16_336]);
        assert!(search.current() >= 16_336);
    }

    #[test]
    fn ethernet_is_found_without_a_search_beyond() {
        let mut search = MtuSearch::new(BASE, LARGEST, false);
        assert_eq!(run(&mut search, 1472, start()), [1452, 1472, 8848, 8848, 8848]);
        assert_eq!(search.current(), 1472);
        // Under IPv6 or over PPPoE 1472 does not pass.
        let mut search = MtuSearch::new(BASE, LARGEST, false);
        assert_eq!(run(&mut search, 1452, start()), [1452, 1472, 1472, 1472]);
    }

    #[test]
    fn a_tunnel_is_found_by_halving() {
        for carries in [1200, 1232, 1280, 1392, 1420, 1440, 9000, 12_000, 30_000, 40_000] {
            let mut search = MtuSearch::new(BASE, LARGEST, false);
            let sizes = run(&mut search, carries, start());
            assert!(search.current() <= carries.max(BASE), "{carries}: {}", search.current());
            assert!(search.current() * 17 >= carries.max(BASE) * 16 - 256, "{carries}: {} {sizes:?}", search.current());
        }
    }

    #[test]
    fn the_limit_of_the_peer_is_kept() {
        let mut search = MtuSearch::new(1300, 1400, false);
        assert_eq!(run(&mut search, 9000, start()), [1400]);
        let mut search = MtuSearch::new(9000, 100, false);
        assert_eq!((search.current(), search.due(start())), (BASE, None), "never below the base");
    }

    #[test]
    fn a_finished_search_starts_over_after_ten_minutes() {
        let mut search = MtuSearch::new(BASE, LARGEST, false);
        run(&mut search, 1472, start());
        let later = start() + SEARCH_AGAIN;
        assert_eq!(search.due(later - Duration::from_nanos(1)), None);
        assert_eq!(run(&mut search, 8900, later)[0], 8848);
        assert_eq!(search.current(), 8848);
    }

    #[test]
    fn a_late_probe_still_counts() {
        let mut search = MtuSearch::new(BASE, LARGEST, false);
        for _ in 0..ATTEMPTS {
            let size = search.due(start()).unwrap();
            search.on_probe_sent(size);
            search.on_probe_lost(size);
        }
        assert!(search.on_probe_acked(1452));
        assert_eq!(search.current(), 1452);
        assert!(search.due(start()).is_none_or(|size| size > 1452));
        assert!(!search.on_probe_acked(1300), "smaller than what passes anyway");
    }

    #[test]
    fn large_packets_that_vanish_bring_the_path_down_and_a_smaller_size_is_found() {
        let mut search = MtuSearch::new(BASE, LARGEST, false);
        run(&mut search, 1472, start());
        assert!(!search.on_lost(1460, 0));
        assert!(!search.on_lost(1460, 1));
        search.on_acked(1472);
        assert!(!search.on_lost(1460, 0), "one that arrives clears the suspicion");
        assert!(!search.on_lost(1200, 0), "small ones are lost as well: not a matter of size");
        assert!(!search.on_lost(1460, 0));
        search.on_acked(100);
        search.on_acked(1459);
        assert!(search.on_lost(1472, 0));
        assert_eq!(search.current(), BASE);
        let sizes = run(&mut search, 1280 - 48, start());
        assert!((BASE..=1232).contains(&search.current()), "{} by {sizes:?}", search.current());
    }

    #[test]
    fn a_probe_that_is_not_larger_does_not_disturb_the_search() {
        let mut search = MtuSearch::new(BASE, LARGEST, false);
        for _ in 0..ATTEMPTS {
            search.on_probe_sent(BASE);
            search.on_probe_lost(BASE);
            search.on_probe_sent(BASE);
            assert!(!search.on_probe_acked(BASE));
        }
        assert_eq!(run(&mut search, 1472, start())[0], 1452);
    }

    #[test]
    fn one_pass_after_two_timeouts_is_enough_and_an_outage_is_mended_at_once() {
        let mut search = MtuSearch::new(BASE, LARGEST, false);
        run(&mut search, 8900, start());
        assert!(search.on_lost(1460, 2));
        assert_eq!(search.current(), BASE);
        assert_eq!(run(&mut search, 8900, start())[..3], [1452, 1472, 8848]);
        assert_eq!(search.current(), 8848);
        assert!(!MtuSearch::new(BASE, LARGEST, false).on_lost(1460, 9), "nothing to fall from");
    }
}
