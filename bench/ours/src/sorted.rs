//! What one peer has opened and nobody has accepted yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A queue from the task that sorts to the one that accepts. A channel of tokio's has room for 32 from the start: a kilobyte
/// for every connection that nothing is opened on. Its bound is that of what a peer may have open.
#[derive(Debug)]
pub(crate) struct Sorted<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    reader: Option<Waker>,
    over: bool,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Mutex::new(State { waiting: VecDeque::new(), reader: None, over: false }))
    }
}

impl<T> Sorted<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, item: T) {
        self.change(|state| state.waiting.push_back(item));
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        self.change(|state| state.over = true);
    }

    fn change(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = self.state();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next one; `None` once it is over. For one reader.
    pub(crate) async fn next(&self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut state = self.state();
        if let Some(item) = state.waiting.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.over {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}
