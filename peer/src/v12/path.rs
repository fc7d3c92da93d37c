//! The addresses that lead to a peer: what each has proved, what it may be sent, and which is the best.

use std::time::{Duration, Instant};

use framing::v12::limits;
use structs::Path;

use super::proof::Challenge;

/// One address of a peer.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) path: Path,
    /// Whether the peer has been shown to be there; until then `allowance` bounds what it is sent.
    pub(super) proved: bool,
    pub(super) challenge: Challenge,
    pub(super) rtt: Rtt,
    pub(super) last_heard: Instant,
    /// When the last PING left for it, unanswered.
    pub(super) pinged: Option<Instant>,
    /// Bytes that may still be sent before it is proved: what came from it, and what we spend on our own account.
    allowance: u64,
}

impl Route {
    pub(super) fn new(path: Path, own_account: u64, now: Instant) -> Self {
        Self {
            path,
            proved: false,
            challenge: Challenge::new(),
            rtt: Rtt::new(),
            last_heard: now,
            pinged: None,
            allowance: own_account,
        }
    }

    pub(super) fn on_received(&mut self, bytes: usize) {
        if !self.proved {
            self.allowance = self.allowance.saturating_add(bytes as u64);
        }
    }

    /// Takes `bytes` from what may be sent; false if it does not suffice.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        if self.proved {
            return true;
        }
        match self.allowance.checked_sub(bytes as u64) {
            Some(rest) => {
                self.allowance = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn can_spend(&self, bytes: usize) -> bool {
        self.proved || self.allowance >= bytes as u64
    }
}

/// At most four addresses, as the existing nodes keep.
#[derive(Debug, Default)]
pub(super) struct Routes(Vec<Route>);

/// An address that was silent for this long stands behind all that were not.
const QUIET: Duration = Duration::from_secs(5);

impl Routes {
    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut Route> {
        self.0.iter_mut().find(|route| same(&route.path, path))
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Route> {
        self.0.iter().find(|route| same(&route.path, path))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Route> {
        self.0.iter_mut()
    }

    /// Adds an address. When four are known the least useful one that is not proved goes, or, for an address that
    /// is itself `proved`, the quietest of all. Returns the address that went; `Err` if the new one found no place.
    pub(super) fn add(&mut self, route: Route) -> Result<Option<Path>, ()> {
        let mut removed = None;
        if self.0.len() >= limits::MAX_ADDRS_PER_PEER {
            let worst = (0..self.0.len())
                .filter(|&index| self.0.get(index).is_some_and(|old| route.proved || !old.proved))
                .min_by_key(|&index| self.0.get(index).map(|old| (old.proved, old.last_heard)));
            removed = Some(self.0.remove(worst.ok_or(())?).path);
        }
        self.0.push(route);
        Ok(removed)
    }

    pub(super) fn keep_only(&mut self, path: &Path) -> Vec<Path> {
        let (kept, gone) = std::mem::take(&mut self.0).into_iter().partition(|route| same(&route.path, path));
        self.0 = kept;
        gone.into_iter().map(|route: Route| route.path).collect()
    }

    /// The proved address heard from lately with the lowest round-trip time; any proved one otherwise; any at all
    /// before one is proved.
    pub(super) fn best(&self, now: Instant) -> Option<&Route> {
        self.0.iter().min_by_key(|route| {
            let silent = now.saturating_duration_since(route.last_heard);
            let quiet = silent > QUIET;
            (!route.proved, quiet, if quiet { silent } else { Duration::ZERO }, route.rtt.smoothed())
        })
    }

    pub(super) fn best_path(&self, now: Instant) -> Option<Path> {
        self.best(now).map(|route| route.path)
    }
}

/// Addresses are told apart by link and remote end; the local end may be unknown.
fn same(a: &Path, b: &Path) -> bool {
    a.link == b.link && a.remote == b.remote
}

/// Smoothed round-trip time: `rtt += 0.125 * (sample - rtt)`, starting from the first sample; 100 ms before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rtt(Option<Duration>);

impl Rtt {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn update(&mut self, sample: Duration) {
        self.0 = Some(match self.0 {
            None => sample,
            Some(old) => (old * 7 + sample) / 8,
        });
    }

    pub(super) fn smoothed(self) -> Duration {
        self.0.unwrap_or(limits::RTT_INITIAL)
    }
}
