//! What requests that are not answered take, of all sessions together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::limits::ALL_BODIES_BYTES;

/// What large requests take together, in bytes. Changed by the net task alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bodies(Arc<AtomicUsize>);

/// What one request takes of it, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    of: Bodies,
    bytes: usize,
}

impl Bodies {
    /// Nothing yet.
    pub(crate) fn hold(&self) -> Held {
        Held { of: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// Takes so many bytes in place of what it took, if there is room; `anyway` if there is none.
    pub(crate) fn resize(&mut self, bytes: usize, anyway: bool) -> bool {
        let others = self.of.0.load(Ordering::Relaxed).saturating_sub(self.bytes);
        let all = others.saturating_add(bytes);
        if all > ALL_BODIES_BYTES && !anyway {
            return false;
        }
        self.of.0.store(all, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.resize(0, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let bodies = Bodies::default();
        let (mut first, mut second) = (bodies.hold(), bodies.hold());
        assert!(first.resize(ALL_BODIES_BYTES - 10, false));
        assert!(second.resize(10, false) && !second.resize(11, false), "all sessions together");
        assert!(second.resize(11, true), "a session that holds nothing else");
        assert!(!first.resize(ALL_BODIES_BYTES - 10, false) && first.resize(ALL_BODIES_BYTES - 11, false));
        drop(second);
        assert!(first.resize(ALL_BODIES_BYTES, false));
        drop(first);
        assert_eq!(bodies.0.load(Ordering::Relaxed), 0);
    }
}
