//! A request of ours on its way: what the future that waits for its answer shares with the net task.
//!
//! All of it is one allocation, made with the request; what travels between both is a pointer to it. The waiting side is
//! gone when the net task has the only one.

#![expect(clippy::disallowed_types, reason = "the lock of an answer, held to put it down or to pick it up")]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::limits::{BODY_BYTES, REQUEST_TIMEOUT};
use crate::node::naming::Protocol;
use crate::{PeerId, RequestError};

/// A request, with the place for its answer.
pub(crate) struct Call {
    pub(crate) peer: PeerId,
    pub(crate) timeout: Duration,
    pub(crate) max_answer: usize,
    /// The name and the body, if they are short: so many bytes, 0 if they are not.
    len: u8,
    short: [u8; SHORT],
    state: Mutex<State>,
}

struct State {
    /// The name and the body, if they are not short, until the net task takes them.
    long: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Asked,
    /// Somebody waits for the answer.
    Awaited(Waker),
    Answered(Result<Bytes, RequestError>),
    /// The answer was taken.
    Over,
}

impl Call {
    pub(crate) fn new(peer: PeerId, protocol: Protocol, body: &[u8]) -> Self {
        let mut call = Self::empty(peer);
        let name = protocol.name().as_bytes();
        let len = 1 + name.len() + body.len();
        if let Some(space) = call.short.get_mut(..len) {
            let (prefix, rest) = space.split_at_mut(1);
            let (head, tail) = rest.split_at_mut(name.len());
            prefix.fill(name.len() as u8);
            head.copy_from_slice(name);
            tail.copy_from_slice(body);
            call.len = len as u8;
        } else {
            let mut long = Vec::with_capacity(len);
            protocol.write(&mut long);
            long.extend_from_slice(body);
            call.state.get_mut().unwrap_or_else(PoisonError::into_inner).long = long;
        }
        call
    }

    /// Of nothing: for a peer on a wire without requests.
    pub(crate) const fn empty(peer: PeerId) -> Self {
        let state = State { long: Vec::new(), stage: Stage::Asked };
        let (timeout, max_answer) = (REQUEST_TIMEOUT, BODY_BYTES);
        Self { peer, timeout, max_answer, len: 0, short: [0; SHORT], state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held is impossible but for memory exhaustion; the state stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, once it is there.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Bytes, RequestError>> {
        let mut state = self.state();
        match &mut state.stage {
            Stage::Asked => state.stage = Stage::Awaited(cx.waker().clone()),
            Stage::Awaited(waker) => waker.clone_from(cx.waker()),
            Stage::Answered(_) => {
                let answer = std::mem::replace(&mut state.stage, Stage::Over);
                return if let Stage::Answered(answer) = answer { Poll::Ready(answer) } else { Poll::Pending };
            }
            Stage::Over => return Poll::Ready(Err(RequestError::Closed)),
        }
        Poll::Pending
    }

    fn answer(&self, answer: Result<Bytes, RequestError>) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.stage, Stage::Answered(answer));
        drop(state);
        if let Stage::Awaited(waker) = before {
            waker.wake();
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("peer", &self.peer).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The net task's end of a call. Dropping it without an answer says that the session is closed.
#[derive(Debug)]
pub(crate) struct Asked(Option<Arc<Call>>);

impl Asked {
    pub(crate) const fn new(call: Arc<Call>) -> Self {
        Self(Some(call))
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.0.as_ref().is_none_or(|call| Arc::strong_count(call) == 1)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |call| call.timeout)
    }

    pub(crate) fn max_answer(&self) -> usize {
        self.0.as_ref().map_or(0, |call| call.max_answer)
    }

    /// The name and the body, if they are short; otherwise [`take_long`](Self::take_long) has them.
    pub(crate) fn short(&self) -> Option<&[u8]> {
        let call = self.0.as_ref()?;
        call.short.get(..usize::from(call.len)).filter(|short| !short.is_empty())
    }

    /// The name and the body, if they are not short. Once.
    pub(crate) fn take_long(&self) -> Vec<u8> {
        self.0.as_ref().map_or_else(Vec::new, |call| std::mem::take(&mut call.state().long))
    }

    pub(crate) fn answer(mut self, answer: Result<Bytes, RequestError>) {
        if let Some(call) = self.0.take() {
            call.answer(answer);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call.answer(Err(RequestError::Closed));
        }
    }
}

/// The name and the body together are short up to this: most questions.
const SHORT: usize = 127;
