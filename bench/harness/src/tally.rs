//! What the server counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::machine;

/// What was received, by all tasks of a server.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages, requests, datagrams or bytes that were as they should be.
    right: AtomicU64,
    /// Those that were not.
    wrong: AtomicU64,
    finished: Mutex<Option<Finish>>,
    finish: Condvar,
}

/// The end of the work, as the server saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// When, by [`machine::monotonic`].
    pub at: u64,
    /// [`machine::cpu_time`] then.
    pub cpu: u64,
}

impl Tally {
    /// Counts.
    pub fn add(&self, right: u64, wrong: u64) {
        self.right.fetch_add(right, Ordering::Relaxed);
        self.wrong.fetch_add(wrong, Ordering::Relaxed);
    }

    /// What was counted: right, wrong.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.right.load(Ordering::Relaxed), self.wrong.load(Ordering::Relaxed))
    }

    /// The last of it has come.
    pub fn finish(&self) {
        let finish = Finish { at: machine::monotonic(), cpu: machine::cpu_time() };
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(finish);
        self.finish.notify_all();
    }

    /// Waits for [`finish`](Self::finish). Blocks the thread.
    pub fn wait(&self) -> Finish {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *finished {
                Some(finish) => return finish,
                None => finished = self.finish.wait(finished).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
