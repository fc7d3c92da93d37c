//! What the handle of a stream and the net task share: bytes in both directions, and how each of them ends.
//!
//! Each side holds the lock for as long as it takes to copy or to swap a buffer. Buffers are swapped where they can be:
//! what the application wrote is copied once before the session copies it into packets.

#![expect(clippy::disallowed_types, reason = "the lock of a stream: see above")]

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use framing::StreamCode;

use super::conn::tidy;
use super::limits::PIPE_BYTES;
use crate::StreamError;

/// The state of a stream between its handle and the net task.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Written by the handle, not yet taken by the net task.
    out: Vec<u8>,
    finish: bool,
    reset: Option<StreamCode>,
    stop: Option<StreamCode>,
    /// Why nothing more can be written.
    broken: Option<StreamError>,
    /// All that was written arrived, and so did its end.
    delivered: bool,

    /// Brought by the net task; read up to `read`.
    inn: Vec<u8>,
    read: usize,
    end: Option<End>,
    /// The net task has more than there was room for.
    starved: bool,

    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The net task has been told to look.
    listed: bool,
}

/// How the incoming bytes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side finished.
    Finished,
    /// There will be no more than this.
    Broken(StreamError),
}

/// What the handle wants, as the net task takes it.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) finish: bool,
    pub(crate) reset: Option<StreamCode>,
    pub(crate) stop: Option<StreamCode>,
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held is impossible but for memory exhaustion; the state stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The side of the handle. Each of these says whether the net task has to be told.

    /// Takes as many of `data` as there is room for.
    pub(crate) fn poll_write(&self, data: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<(usize, bool)>> {
        let mut state = self.state();
        if let Some(error) = state.broken {
            return Poll::Ready(Err(error.into()));
        }
        if state.finish {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES.saturating_sub(state.out.len());
        if room == 0 && !data.is_empty() {
            remember(&mut state.writer, cx);
            return Poll::Pending;
        }
        let taken = data.get(..room).unwrap_or(data);
        state.out.extend_from_slice(taken);
        Poll::Ready(Ok((taken.len(), list(&mut state))))
    }

    /// Says that nothing more will be written, and resolves when all of it arrived.
    pub(crate) fn poll_finish(&self, cx: &mut Context<'_>) -> (Poll<io::Result<()>>, bool) {
        let mut state = self.state();
        if let Some(error) = state.broken {
            return (Poll::Ready(Err(error.into())), false);
        }
        if state.delivered {
            return (Poll::Ready(Ok(())), false);
        }
        remember(&mut state.writer, cx);
        let tell = !std::mem::replace(&mut state.finish, true) && list(&mut state);
        (Poll::Pending, tell)
    }

    /// Resolves when the net task has everything that was written.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        match state.broken {
            Some(error) => Poll::Ready(Err(error.into())),
            None if state.out.is_empty() => Poll::Ready(Ok(())),
            None => {
                remember(&mut state.writer, cx);
                Poll::Pending
            }
        }
    }

    /// Gives bytes to `take`, which says how many it took.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<Result<bool, StreamError>> {
        let mut state = self.state();
        let waiting = state.inn.get(state.read..).unwrap_or_default();
        if waiting.is_empty() {
            return match state.end {
                Some(End::Finished) => Poll::Ready(Ok(false)),
                Some(End::Broken(error)) => Poll::Ready(Err(error)),
                None => {
                    remember(&mut state.reader, cx);
                    Poll::Pending
                }
            };
        }
        state.read += take(waiting);
        if state.read >= state.inn.len() {
            state.inn.clear();
            state.read = 0;
        }
        let wanted = state.starved && state.inn.len() - state.read <= PIPE_BYTES / 2;
        Poll::Ready(Ok(wanted && list(&mut state)))
    }

    /// Gives up what was written and did not arrive.
    pub(crate) fn reset(&self, code: StreamCode) -> bool {
        let mut state = self.state();
        state.reset = state.reset.or(Some(code));
        state.out = Vec::new();
        list(&mut state)
    }

    /// Reads no further.
    pub(crate) fn stop(&self, code: StreamCode) -> bool {
        let mut state = self.state();
        state.stop = state.stop.or(Some(code));
        state.inn = Vec::new();
        state.read = 0;
        list(&mut state)
    }

    /// The handle is gone: what was written is sent to its end, and nothing is read any more.
    pub(crate) fn abandon(&self) -> bool {
        let mut state = self.state();
        state.finish = true;
        let over = state.end == Some(End::Finished) && state.read >= state.inn.len();
        if !over {
            state.stop = state.stop.or(Some(StreamCode::CANCELLED));
        }
        list(&mut state)
    }

    // The side of the net task.

    /// Takes what was written, if `spare` is empty, and what the handle wants.
    pub(crate) fn take(&self, spare: &mut Vec<u8>) -> Wishes {
        let mut state = self.state();
        state.listed = false;
        if spare.is_empty() && !state.out.is_empty() {
            std::mem::swap(&mut state.out, spare);
            wake(&mut state.writer);
        }
        let finish = state.finish && state.out.is_empty();
        Wishes { finish, reset: state.reset, stop: state.stop }
    }

    /// Whether the handle wrote something that was not taken.
    pub(crate) fn has_output(&self) -> bool {
        !self.state().out.is_empty()
    }

    /// How many bytes the handle has room for.
    pub(crate) fn room(&self) -> usize {
        let mut state = self.state();
        let room = PIPE_BYTES.saturating_sub(state.inn.len() - state.read);
        state.starved = room == 0;
        room
    }

    /// Whether there was no room when the net task looked last.
    pub(crate) fn is_starved(&self) -> bool {
        self.state().starved
    }

    /// Brings bytes, and takes an empty buffer for them.
    pub(crate) fn deliver(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.stop.is_some() {
            bytes.clear();
        } else if state.inn.is_empty() {
            std::mem::swap(&mut state.inn, bytes);
        } else {
            let read = std::mem::take(&mut state.read);
            state.inn.drain(..read);
            state.inn.append(bytes);
        }
        wake(&mut state.reader);
    }

    /// No more bytes come.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state();
        state.end = state.end.or(Some(end));
        wake(&mut state.reader);
    }

    /// Nothing more can be written.
    pub(crate) fn break_off(&self, error: StreamError) {
        let mut state = self.state();
        state.out = Vec::new();
        if !state.delivered {
            state.broken = state.broken.or(Some(error));
        }
        wake(&mut state.writer);
    }

    /// All that was written arrived.
    pub(crate) fn delivered(&self) {
        let mut state = self.state();
        state.delivered = true;
        wake(&mut state.writer);
    }

    /// Gives back memory that is not in use.
    pub(crate) fn tidy(&self) {
        let mut state = self.state();
        tidy(&mut state.out);
        tidy(&mut state.inn);
    }
}

fn list(state: &mut State) -> bool {
    !std::mem::replace(&mut state.listed, true)
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}
