//! What the handles of one peer and the net task share.
//!
//! One lock per session, held for as long as it takes to copy a message, and never across sealing, I/O or protocol
//! code. It is here because a message through a channel of its own costs more than sealing it. Messages lie in the
//! outbox as they travel: each behind its length, so that a batch of them goes into the session at once.

#![expect(clippy::disallowed_types, reason = "the locks of outboxes: see above")]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use framing::{StreamCode, StreamId, varint};
use peer::Handle;
use peer::mux::{Messages, push_message};
use structs::TransmitBuf;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::call::Asked;
use super::limits::{CALLS, DATAGRAM_INBOX_BYTES, DATAGRAM_OUTBOX_BYTES, INBOX_BYTES, KEPT_BYTES, OUTBOX_BYTES};
use super::pipe::Pipe;
use super::stream::Stream;
use crate::{OpenError, PeerId, SendError};

/// Where sessions with something to do are listed, and how the net task is woken.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    listed: Mutex<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    conns: Vec<Arc<Conn>>,
    /// There is something else to look at.
    woken: bool,
    /// The net task, while it waits.
    waker: Option<Waker>,
}

impl Ready {
    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the net task.
    pub(crate) fn wake(&self) {
        let mut listed = self.listed();
        listed.woken = true;
        let waker = listed.waker.take();
        drop(listed);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when there is something for the net task, which alone may ask: says whether that may be elsewhere than in the
    /// sessions.
    pub(crate) fn poll_woken(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut listed = self.listed();
        let woken = std::mem::take(&mut listed.woken);
        if woken || !listed.conns.is_empty() {
            listed.waker = None;
            return Poll::Ready(woken);
        }
        match &mut listed.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => listed.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The net task is at work: it looks before it waits again, and where it lets others go first it is not to be called back.
    pub(crate) fn is_awake(&self) {
        self.listed().waker = None;
    }

    fn push(&self, conn: &Arc<Conn>) {
        let mut listed = self.listed();
        listed.conns.push(Arc::clone(conn));
        let waker = listed.waker.take();
        drop(listed);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves the listed sessions into `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<Arc<Conn>>) {
        std::mem::swap(&mut self.listed().conns, into);
    }
}

/// The bell of what the net task does not ask on each wake.
impl std::task::Wake for Ready {
    fn wake(self: Arc<Self>) {
        Self::wake(&self);
    }
}

/// One session, as its handles see it.
pub(crate) struct Conn {
    pub(crate) peer: PeerId,
    pub(crate) session: Handle,
    /// The longest message that this node sends; the peer may take less.
    max_message: usize,
    ready: Arc<Ready>,
    state: Mutex<State>,
    /// Told when there is room for messages or datagrams again.
    room: Notify,
    /// One permit per request that may be under way; there with the first, since most peers are asked nothing.
    calls: OnceLock<Arc<Semaphore>>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("peer", &self.peer).field("session", &self.session).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Why it takes nothing more.
    closed: Option<Gone>,
    /// Nothing more comes of it either.
    over: bool,
    /// The other side takes no messages.
    refused: bool,
    /// The net task has been told to look.
    listed: bool,
    waiting: bool,
    messages: Vec<u8>,
    datagrams: Vec<u8>,
    /// The longest datagram that the session can ever carry, once that is known, or that its path carried last.
    max_datagram: Option<u32>,
    /// The longest message that the peer takes, once it has said so.
    their_max: Option<u32>,
    tasks: Vec<Task>,

    /// Somebody reads the messages of this peer by himself.
    inbox: Option<Box<Inbox>>,
    datagram_inbox: Option<Box<Inbox>>,
    datagrams_dropped: u64,
}

/// Why a session takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The peer is not connected by it any more.
    Disconnected,
    /// The node has ended.
    Closed,
}

/// Messages that were taken out of the session for a reader, each behind its length.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    reader: Option<Waker>,
    /// The session has more.
    starved: bool,
}

/// What handles want of a session.
#[derive(Debug)]
pub(crate) enum Task {
    /// Opens a stream that begins with these bytes.
    Open { head: Vec<u8>, pipe: Arc<Pipe>, reply: oneshot::Sender<Result<Stream, OpenError>> },
    /// A stream has something to do.
    Pump(StreamId),
    /// Asks. The permit is its place among those that may be under way: given back with it, also when nobody waits for the
    /// answer any more.
    Call { asked: Asked, permit: OwnedSemaphorePermit },
    /// Somebody reads datagrams from now on.
    Datagrams,
    /// Answers a request, with the body, or with the code that refuses it.
    Answer { stream: StreamId, answer: Result<Bytes, StreamCode> },
}

impl Conn {
    pub(crate) fn new(peer: PeerId, session: Handle, max_message: usize, ready: Arc<Ready>) -> Self {
        Self { peer, session, max_message, ready, state: Mutex::default(), room: Notify::new(), calls: OnceLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held is impossible but for memory exhaustion; the state stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a look at the state: tells the net task, if it was not told.
    fn tell(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let first = !std::mem::replace(&mut state.listed, true);
        drop(state);
        if first {
            self.ready.push(self);
        }
    }

    /// Whether the session takes nothing more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    fn gone(&self, gone: Gone) -> SendError {
        match gone {
            Gone::Disconnected => SendError::NotConnected { peer: self.peer },
            Gone::Closed => SendError::Closed,
        }
    }

    // ---- the side of the handles ----

    /// What bounds the requests that are under way. It is closed with the session, for those who wait.
    pub(crate) fn calls(&self) -> Arc<Semaphore> {
        Arc::clone(self.calls.get_or_init(|| Arc::new(Semaphore::new(CALLS))))
    }

    /// Puts a message into the outbox, if there is room.
    pub(crate) fn try_send(self: &Arc<Self>, message: &[u8]) -> Result<(), SendError> {
        let mut state = self.state();
        if let Some(gone) = state.closed {
            return Err(self.gone(gone));
        }
        if state.refused {
            return Err(SendError::Refused { peer: self.peer });
        }
        let max = state.their_max.map_or(self.max_message, |max| self.max_message.min(max as usize));
        if message.len() > max {
            return Err(SendError::TooLarge { len: message.len(), max });
        }
        let filled = state.messages.len();
        if filled > 0 && filled + message.len() + varint::MAX_LEN > OUTBOX_BYTES {
            state.waiting = true;
            return Err(SendError::Full);
        }
        push_message(&mut state.messages, message);
        self.tell(state);
        Ok(())
    }

    /// Waits for room, and puts a message into the outbox. Cancel-safe: the whole message or nothing.
    pub(crate) async fn send(self: &Arc<Self>, message: &[u8]) -> Result<(), SendError> {
        self.wait(|| self.try_send(message)).await
    }

    /// Puts a datagram into the outbox, if there is room.
    pub(crate) fn try_send_datagram(self: &Arc<Self>, datagram: &[u8]) -> Result<(), SendError> {
        let mut state = self.state();
        if let Some(gone) = state.closed {
            return Err(self.gone(gone));
        }
        // Until it is known better: what UDP carries.
        let max = state.max_datagram.map_or(TransmitBuf::MAX_BATCH, |max| max as usize);
        if datagram.len() > max {
            return Err(SendError::TooLarge { len: datagram.len(), max });
        }
        let filled = state.datagrams.len();
        if filled > 0 && filled + datagram.len() + varint::MAX_LEN > DATAGRAM_OUTBOX_BYTES {
            state.waiting = true;
            return Err(SendError::Full);
        }
        push_message(&mut state.datagrams, datagram);
        self.tell(state);
        Ok(())
    }

    /// Waits for room, and puts a datagram into the outbox. Cancel-safe.
    pub(crate) async fn send_datagram(self: &Arc<Self>, datagram: &[u8]) -> Result<(), SendError> {
        self.wait(|| self.try_send_datagram(datagram)).await
    }

    async fn wait(&self, mut attempt: impl FnMut() -> Result<(), SendError>) -> Result<(), SendError> {
        match attempt() {
            Err(SendError::Full) => {}
            done => return done,
        }
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match attempt() {
                Err(SendError::Full) => room.await,
                done => return done,
            }
        }
    }

    /// Gives the net task something to do.
    pub(crate) fn push(self: &Arc<Self>, task: Task) -> Result<(), Gone> {
        self.push_with(|| task)
    }

    /// The same for something that is not even made if the session is over.
    pub(crate) fn push_with(self: &Arc<Self>, task: impl FnOnce() -> Task) -> Result<(), Gone> {
        let mut state = self.state();
        if let Some(gone) = state.closed {
            return Err(gone);
        }
        state.tasks.push(task());
        self.tell(state);
        Ok(())
    }

    /// Takes the messages of this peer for one reader. False if somebody has them.
    pub(crate) fn claim_inbox(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        if state.inbox.is_some() {
            return false;
        }
        state.inbox = Some(Box::new(Inbox { starved: true, ..Inbox::default() }));
        self.tell(state);
        true
    }

    /// Messages go to the events again.
    pub(crate) fn release_inbox(self: &Arc<Self>) {
        let mut state = self.state();
        state.inbox = None;
        self.tell(state);
    }

    /// Takes the datagrams of this peer for one reader. False if somebody has them.
    pub(crate) fn claim_datagrams(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        if state.datagram_inbox.is_some() {
            return false;
        }
        state.datagram_inbox = Some(Box::default());
        state.tasks.push(Task::Datagrams);
        self.tell(state);
        true
    }

    /// Nobody reads datagrams any more.
    pub(crate) fn release_datagrams(&self) {
        self.state().datagram_inbox = None;
    }

    /// Everything that came, each message behind its length; `None` once the session is over and nothing is left.
    pub(crate) fn poll_inbox(self: &Arc<Self>, into: &mut Vec<u8>, cx: &Context<'_>) -> Poll<Option<()>> {
        let mut state = self.state();
        let closed = state.over;
        let Some(inbox) = &mut state.inbox else { return Poll::Ready(None) };
        let polled = inbox.poll(into, closed, cx);
        let starved = std::mem::take(&mut inbox.starved);
        if starved && polled.is_ready() {
            self.tell(state);
        }
        polled
    }

    /// The same for datagrams.
    pub(crate) fn poll_datagrams(&self, into: &mut Vec<u8>, cx: &Context<'_>) -> Poll<Option<()>> {
        let mut state = self.state();
        let closed = state.over;
        let Some(inbox) = &mut state.datagram_inbox else { return Poll::Ready(None) };
        inbox.poll(into, closed, cx)
    }

    /// Datagrams that the reader was too slow for.
    pub(crate) fn datagrams_dropped(&self) -> u64 {
        self.state().datagrams_dropped
    }

    // ---- the side of the net task ----

    /// Takes what there is to do, into empty buffers only. Says whether the reader of the inbox has room.
    pub(crate) fn take(&self, messages: &mut Vec<u8>, datagrams: &mut Vec<u8>, tasks: &mut Vec<Task>) -> bool {
        let mut state = self.state();
        state.listed = false;
        let mut room = false;
        if messages.is_empty() && !state.messages.is_empty() {
            std::mem::swap(messages, &mut state.messages);
            room = true;
        }
        if datagrams.is_empty() && !state.datagrams.is_empty() {
            std::mem::swap(datagrams, &mut state.datagrams);
            room = true;
        }
        let inbox_room = state.inbox.as_ref().is_none_or(|inbox| inbox.bytes.len() < INBOX_BYTES);
        if tasks.is_empty() {
            std::mem::swap(&mut state.tasks, tasks);
        }
        self.made_room(state, room);
        inbox_room
    }

    /// Takes what was put into the outbox of messages, into an empty buffer.
    pub(crate) fn take_messages(&self, messages: &mut Vec<u8>) {
        let mut state = self.state();
        std::mem::swap(messages, &mut state.messages);
        self.made_room(state, !messages.is_empty());
    }

    /// The same for datagrams.
    pub(crate) fn take_datagrams(&self, datagrams: &mut Vec<u8>) {
        let mut state = self.state();
        std::mem::swap(datagrams, &mut state.datagrams);
        self.made_room(state, !datagrams.is_empty());
    }

    fn made_room(&self, mut state: MutexGuard<'_, State>, room: bool) {
        let wake = room && std::mem::take(&mut state.waiting);
        drop(state);
        if wake {
            self.room.notify_waiters();
        }
    }

    /// Whether somebody reads the messages of this peer by himself, and how much room he has.
    pub(crate) fn inbox_room(&self) -> Option<usize> {
        let mut state = self.state();
        let inbox = state.inbox.as_mut()?;
        let room = INBOX_BYTES.saturating_sub(inbox.bytes.len());
        inbox.starved |= room == 0;
        Some(room)
    }

    /// Brings messages, each behind its length.
    pub(crate) fn deliver(&self, messages: &mut Vec<u8>) {
        let mut state = self.state();
        if let Some(inbox) = &mut state.inbox {
            inbox.deliver(messages);
        }
    }

    /// Brings datagrams, each behind its length; those there is no room for are dropped. Says whether anybody reads.
    pub(crate) fn deliver_datagrams(&self, datagrams: &mut Vec<u8>, count: u64) {
        let mut state = self.state();
        let Some(inbox) = &mut state.datagram_inbox else { return };
        if inbox.bytes.len() + datagrams.len() > DATAGRAM_INBOX_BYTES {
            state.datagrams_dropped += count;
            datagrams.clear();
        } else {
            inbox.deliver(datagrams);
        }
    }

    /// Whether somebody reads datagrams of this peer.
    pub(crate) fn wants_datagrams(&self) -> bool {
        self.state().datagram_inbox.is_some()
    }

    /// Remembers what the session said of the length of datagrams.
    pub(crate) fn set_max_datagram(&self, max: usize) {
        self.state().max_datagram = Some(u32::try_from(max).unwrap_or(u32::MAX));
    }

    /// Takes no more messages, because the other side does not.
    ///
    /// Returns how many of those that were accepted are lost with it.
    pub(crate) fn refuse_messages(&self) -> u64 {
        let mut state = self.state();
        state.refused = true;
        let lost = std::mem::take(&mut state.messages);
        drop(state);
        self.room.notify_waiters();
        Messages::new(&lost).count() as u64
    }

    /// Remembers what the peer said of the length of messages.
    pub(crate) fn set_max_message(&self, max: usize) {
        self.state().their_max = Some(u32::try_from(max).unwrap_or(u32::MAX));
    }

    /// Takes nothing more. What was accepted stays.
    pub(crate) fn refuse(&self) {
        let mut state = self.state();
        state.closed = state.closed.or(Some(Gone::Disconnected));
        drop(state);
        self.room.notify_waiters();
    }

    /// From now on handles say that the session is over. What they wanted and did not get is returned.
    pub(crate) fn close(&self, gone: Gone) -> Vec<Task> {
        let mut state = self.state();
        state.closed = state.closed.or(Some(gone));
        state.over = true;
        (state.messages, state.datagrams) = (Vec::new(), Vec::new());
        let tasks = std::mem::take(&mut state.tasks);
        if let Some(inbox) = &mut state.inbox {
            inbox.wake();
        }
        if let Some(inbox) = &mut state.datagram_inbox {
            inbox.wake();
        }
        drop(state);
        self.room.notify_waiters();
        if let Some(calls) = self.calls.get() {
            calls.close();
        }
        tasks
    }

    /// Gives back memory that is not in use.
    pub(crate) fn tidy(&self) {
        let mut state = self.state();
        tidy(&mut state.messages);
        tidy(&mut state.datagrams);
        if state.tasks.is_empty() {
            state.tasks = Vec::new();
        }
        if let Some(inbox) = &mut state.inbox {
            tidy(&mut inbox.bytes);
        }
        if let Some(inbox) = &mut state.datagram_inbox {
            tidy(&mut inbox.bytes);
        }
    }

    /// Messages in the outbox that the net task has not taken.
    pub(crate) fn pending(&self) -> u64 {
        Messages::new(&self.state().messages).count() as u64
    }
}

/// Shortens the memory of a buffer to what it may keep, unless it is in use.
pub(crate) fn tidy(buffer: &mut Vec<u8>) {
    if buffer.is_empty() {
        buffer.shrink_to(KEPT_BYTES);
    }
}

impl Inbox {
    fn poll(&mut self, into: &mut Vec<u8>, closed: bool, cx: &Context<'_>) -> Poll<Option<()>> {
        if !self.bytes.is_empty() {
            into.clear();
            std::mem::swap(&mut self.bytes, into);
            return Poll::Ready(Some(()));
        }
        if closed {
            return Poll::Ready(None);
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn deliver(&mut self, messages: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, messages);
        } else {
            self.bytes.append(messages);
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
