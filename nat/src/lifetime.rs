//! How long a NAT keeps a mapping that nothing goes through, and how often a keepalive is needed therefore.

use std::time::Duration;

/// Finds the lifetime of mappings by trying: a mapping of a socket that is used for nothing else is left alone for a while, and
/// then somebody is asked to send to it.
///
/// The times are doubled until nothing arrives, and then the interval between the longest that worked and the shortest that did not
/// is halved, down to [`PRECISION`](Self::PRECISION). A failure counts when it happened twice in a row, since datagrams are lost.
///
/// ```
/// use std::time::Duration;
/// use nat::Lifetime;
///
/// let mut lifetime = Lifetime::default();
/// let truth = Duration::from_secs(47);
/// while let Some(idle) = lifetime.next() {
///     lifetime.on_result(idle, idle < truth);
/// }
/// assert!(lifetime.known() < truth && lifetime.known() > truth * 3 / 4);
/// assert!(lifetime.keepalive() < lifetime.known());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    works: Duration,
    fails: Option<Duration>,
    failed_once: bool,
}

impl Lifetime {
    /// What every NAT is expected to keep a mapping for, and what is assumed until more is known.
    pub const SHORTEST: Duration = Duration::from_secs(20);
    /// The longest that is tried: keepalives that are rarer save nothing more.
    pub const LONGEST: Duration = Duration::from_secs(160);
    /// How near to each other what works and what does not have to be.
    pub const PRECISION: Duration = Duration::from_secs(8);

    /// How long the mapping is to be left alone in the next try; `None` when it is known well enough.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        match self.fails {
            None if self.works >= Self::LONGEST => None,
            None => Some((self.works * 2).min(Self::LONGEST)),
            Some(fails) if fails.saturating_sub(self.works) <= Self::PRECISION => None,
            Some(fails) => Some((self.works + fails) / 2),
        }
    }

    /// Whether something arrived after the mapping was left alone for `idle`. Results of other times than the one asked for count as
    /// far as they say something.
    pub fn on_result(&mut self, idle: Duration, arrived: bool) {
        if arrived {
            self.failed_once = false;
            self.works = self.works.max(idle.min(Self::LONGEST));
            // It was a loss after all, or the NAT is another one.
            self.fails = self.fails.filter(|fails| *fails > self.works);
        } else if idle > self.works {
            if self.failed_once {
                self.fails = Some(self.fails.map_or(idle, |fails| fails.min(idle)));
            }
            self.failed_once = !self.failed_once;
        } else if self.failed_once {
            // What worked does not any more: from the beginning.
            *self = Self { fails: Some(idle), works: Self::SHORTEST.min(idle / 2), failed_once: false };
        } else {
            self.failed_once = true;
        }
    }

    /// The longest time for which mappings are known to be kept.
    #[must_use]
    pub const fn known(&self) -> Duration {
        self.works
    }

    /// How often something should be sent: three quarters of what is known, since clocks and paths are not even.
    #[must_use]
    pub fn keepalive(&self) -> Duration {
        self.works * 3 / 4
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self { works: Self::SHORTEST, fails: None, failed_once: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(truth: Duration, mut lose: impl FnMut(u32) -> bool) -> (Lifetime, u32) {
        let (mut lifetime, mut tries) = (Lifetime::default(), 0);
        while let Some(idle) = lifetime.next() {
            lifetime.on_result(idle, idle < truth && !lose(tries));
            tries += 1;
            assert!(tries < 40);
        }
        (lifetime, tries)
    }

    #[test]
    fn every_lifetime_is_found_from_below() {
        for seconds in 21..400 {
            let truth = Duration::from_secs(seconds);
            let (lifetime, tries) = search(truth, |_| false);
            assert!(lifetime.known() < truth, "{truth:?}");
            let near = truth.min(Lifetime::LONGEST);
            assert!(near - lifetime.known() <= Lifetime::PRECISION, "{truth:?}: {:?}", lifetime.known());
            assert!(tries <= 14, "{tries}");
        }
    }

    #[test]
    fn one_loss_changes_nothing() {
        for lost in 0..8 {
            let (lifetime, _) = search(Duration::from_secs(100), |attempt| attempt == lost);
            assert!(lifetime.known() > Duration::from_secs(90), "{lost}: {:?}", lifetime.known());
        }
    }

    #[test]
    fn another_network_is_noticed() {
        let (mut lifetime, _) = search(Duration::from_secs(500), |_| false);
        assert_eq!(lifetime.known(), Lifetime::LONGEST);
        let keepalive = lifetime.keepalive();
        lifetime.on_result(keepalive, false);
        lifetime.on_result(keepalive, false);
        assert_eq!(lifetime.known(), Lifetime::SHORTEST);
        assert!(lifetime.next().is_some());
    }
}
