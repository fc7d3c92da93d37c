//! How many may be somewhere at once, and how many of them from one address.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits;
use super::origin::{Origin, Shares};

/// Counts who is inside. A lock, held to count: connections are tasks of their own.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    inside: Arc<Mutex<Inside>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    shares: Shares,
}

/// Leaves when dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    door: Door,
    origin: Origin,
}

impl Door {
    /// A door for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { inside: Arc::default(), most }
    }

    /// Lets one more in, if there is room for him and his neighbours.
    pub(crate) fn enter(&self, origin: Origin) -> Option<Pass> {
        let mut inside = self.lock();
        let (per_host, per_network) = (limits::CONNECTIONS_PER_HOST, limits::CONNECTIONS_PER_NETWORK);
        if inside.all >= self.most || !inside.shares.has_room(origin, per_host, per_network) {
            return None;
        }
        inside.all += 1;
        inside.shares.add(origin);
        Some(Pass { door: self.clone(), origin })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let inside = self.lock();
        inside.all == 0 && inside.shares.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.door.lock();
        inside.all = inside.all.saturating_sub(1);
        inside.shares.remove(self.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_does_not_fill_the_house() {
        let (door, host) = (Door::new(limits::CONNECTIONS), |ip: [u8; 4]| Origin::new(ip.into()));
        let mut inside: Vec<Pass> =
            (0..limits::CONNECTIONS_PER_HOST).filter_map(|_| door.enter(host([203, 0, 113, 1]))).collect();
        assert_eq!(inside.len(), limits::CONNECTIONS_PER_HOST);
        assert!(door.enter(host([203, 0, 113, 1])).is_none());
        inside.pop();
        inside.extend(door.enter(host([203, 0, 113, 1])));
        assert!(door.enter(host([203, 0, 113, 1])).is_none());
        let near: Vec<Pass> = std::iter::from_fn(|| door.enter(host([10, 0, 0, 1]))).collect();
        assert_eq!(near.len(), limits::PRIVATE * limits::CONNECTIONS_PER_HOST, "nor does one of a private network");
        assert!(door.enter(host([10, 0, 0, 2])).is_some());
        drop(near);
        inside.extend(std::iter::from_fn(|| door.enter(host([127, 0, 0, 1]))));
        assert_eq!(inside.len(), limits::CONNECTIONS);
        assert!(door.enter(host([203, 0, 113, 2])).is_none());
        inside.clear();
        assert!(door.lock().shares.is_empty());
    }
}
