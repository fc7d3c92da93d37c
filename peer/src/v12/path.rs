//! The addresses that lead to a peer: what each has proved, what it may be sent, and which is the best.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use framing::v12::limits;
use structs::Path;

use super::proof::Challenge;

/// One address of a peer.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) path: Path,
    /// Whether somebody has been shown to be there, or a sealed packet came from there; until then `allowance` bounds
    /// what it is sent.
    pub(super) proved: bool,
    /// Whether somebody there answered our PINGs. A sealed packet alone may carry a forged address: until this, control
    /// frames and values stay within `allowance`.
    pub(super) reached: bool,
    /// When it was last chosen, counted up: by being the first address proved, or by the newest sealed packet. Zero:
    /// whoever is there has shown nothing but that he is there, and gets no traffic.
    favour: u64,
    /// Whether something other than HELLO came from it: then our answer to the HELLO has arrived.
    pub(super) hears_us: bool,
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
            reached: false,
            favour: 0,
            hears_us: false,
            challenge: Challenge::new(),
            rtt: Rtt::new(),
            last_heard: now,
            pinged: None,
            allowance: own_account,
        }
    }

    /// Whether it is known to be the peer who is there, as far as the peer has proved anything at all.
    pub(super) const fn is_chosen(&self) -> bool {
        self.favour > 0
    }

    pub(super) fn on_received(&mut self, bytes: usize) {
        if !self.reached {
            self.allowance = self.allowance.saturating_add(bytes as u64);
        }
    }

    /// Takes `bytes` from what may be sent; false if it does not suffice.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let can_spend = self.can_spend(bytes);
        if can_spend && !self.reached {
            self.allowance = self.allowance.saturating_sub(bytes as u64);
        }
        can_spend
    }

    /// Whether so many bytes more may go there though nobody has answered from there.
    pub(super) fn affords(&self, bytes: usize) -> bool {
        self.reached || self.allowance >= bytes as u64
    }

    pub(super) fn can_spend(&self, bytes: usize) -> bool {
        self.proved || self.allowance >= bytes as u64
    }
}

/// At most four addresses, as the existing nodes keep.
#[derive(Debug, Default)]
pub(super) struct Routes {
    routes: Vec<Route>,
    choices: u64,
}

/// An address that was silent for this long stands behind all that were not.
const QUIET: Duration = Duration::from_secs(5);

impl Routes {
    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut Route> {
        self.routes.iter_mut().find(|route| same(&route.path, path))
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Route> {
        self.routes.iter().find(|route| same(&route.path, path))
    }

    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Route> {
        self.routes.iter_mut()
    }

    /// Adds an address. When four are known the quietest of those that are not proved goes, or, for an address that
    /// is itself `proved`, the quietest of all, first of those never chosen. Returns the address that went; `None`
    /// if the new one found no place.
    pub(super) fn add(&mut self, route: Route) -> Option<Added> {
        let mut removed = None;
        if self.routes.len() >= limits::MAX_ADDRS_PER_PEER {
            let worst = (0..self.routes.len())
                .filter(|&index| self.routes.get(index).is_some_and(|old| route.proved || !old.proved))
                .min_by_key(|&index| self.routes.get(index).map(|old| (old.proved, old.is_chosen(), old.last_heard)));
            removed = Some(self.routes.remove(worst?).path);
        }
        self.routes.push(route);
        Some(Added { removed })
    }

    pub(super) fn keep_only(&mut self, path: &Path) -> Vec<Path> {
        let (kept, gone) = std::mem::take(&mut self.routes).into_iter().partition(|route| same(&route.path, path));
        self.routes = kept;
        gone.into_iter().map(|route: Route| route.path).collect()
    }

    /// Makes an address the one that is used, as long as it is heard from.
    pub(super) fn choose(&mut self, path: &Path) {
        self.choices += 1;
        let choices = self.choices;
        if let Some(route) = self.get_mut(path) {
            route.proved = true;
            route.favour = choices;
        }
    }

    /// Whether frames from `path` may be taken for the peer's.
    pub(super) fn is_chosen(&self, path: &Path) -> bool {
        self.get(path).is_some_and(Route::is_chosen)
    }

    /// The address chosen last that was heard from lately; one that was chosen at all otherwise; before one is, the
    /// nearest of any.
    ///
    /// A low round-trip time alone wins nothing: a stranger next door would become everybody's path.
    pub(super) fn best(&self, now: Instant) -> Option<&Route> {
        self.routes.iter().min_by_key(|route| {
            let silent = now.saturating_duration_since(route.last_heard);
            let quiet = if silent > QUIET { silent } else { Duration::ZERO };
            (!route.is_chosen(), !route.proved, quiet, Reverse(route.favour), route.rtt.smoothed())
        })
    }

    pub(super) fn is_best(&self, path: &Path, now: Instant) -> bool {
        self.best(now).is_some_and(|best| same(&best.path, path))
    }

    pub(super) fn best_path(&self, now: Instant) -> Option<Path> {
        self.best(now).map(|route| route.path)
    }
}

/// An address found its place.
#[derive(Debug)]
pub(super) struct Added {
    /// The one that had to go for it.
    pub(super) removed: Option<Path>,
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
