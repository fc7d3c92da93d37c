//! Requests: one message there, one back.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use framing::{StreamCode, StreamId};
use peer::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::call::{Asked, Call};
use super::conn::{Conn, Gone, Task};
use super::session::request_error;
use super::shared::Shared;
use crate::node::naming::Protocol;
use crate::{PeerId, RequestError};

/// A request that is about to leave: await it.
///
/// ```no_run
/// # async fn example(peer: swarm::Peer) -> Result<(), swarm::RequestError> {
/// use std::time::Duration;
/// const ECHO: swarm::Protocol = swarm::Protocol::new("echo/1");
/// let answer = peer.request(ECHO, "ping").timeout(Duration::from_secs(3)).await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// When the future is dropped the request may have reached the other side; the answer is given up.
#[must_use = "a request does nothing until it is awaited"]
pub struct Request {
    /// Not of a peer that has no native session.
    shared: Option<Arc<Shared>>,
    conn: Option<Arc<Conn>>,
    /// Nobody else's until it is awaited.
    call: Arc<Call>,
}

impl Request {
    pub(crate) fn new(
        shared: Arc<Shared>,
        peer: PeerId,
        conn: Option<Arc<Conn>>,
        protocol: Protocol,
        body: &[u8],
    ) -> Self {
        Self { shared: Some(shared), conn, call: Arc::new(Call::new(peer, protocol, body)) }
    }

    /// To a peer on a wire without requests.
    #[cfg(feature = "v12")]
    pub(crate) fn unsupported(peer: PeerId) -> Self {
        Self { shared: None, conn: None, call: Arc::new(Call::empty(peer)) }
    }

    /// How long the answer may take, a dial included. Default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Some(call) = Arc::get_mut(&mut self.call) {
            call.timeout = timeout;
        }
        self
    }

    /// The largest answer that is taken, in bytes. Default 1 MiB. What may be held for it at most, so take care.
    pub fn max_answer(mut self, bytes: usize) -> Self {
        if let Some(call) = Arc::get_mut(&mut self.call) {
            call.max_answer = bytes;
        }
        self
    }

    async fn ask_in_time(self) -> Result<Bytes, RequestError> {
        let timeout = self.call.timeout;
        let late = RequestError::Timeout { after: timeout };
        tokio::time::timeout(timeout, self.ask()).await.unwrap_or(Err(late))
    }

    async fn ask(mut self) -> Result<Bytes, RequestError> {
        let Some(shared) = self.shared.take() else { return Err(RequestError::Unsupported) };
        let open = self.conn.take().filter(|conn| !conn.is_closed()).or_else(|| shared.conn(&self.call.peer));
        let conn = match open {
            Some(conn) => conn,
            None => shared.connect_again(self.call.peer).await?,
        };
        // Bounds what waits for this peer; closed with the session.
        let permit = match conn.calls().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => conn.calls().acquire_owned().await.or(Err(RequestError::Disconnected))?,
        };
        self.push(&conn, permit).map_err(request_error)?;
        std::future::poll_fn(|cx| self.call.poll(cx)).await
    }

    /// Leaves it to the net task.
    fn push(&self, conn: &Arc<Conn>, permit: OwnedSemaphorePermit) -> Result<(), Gone> {
        conn.push_with(|| Task::Call { asked: Asked::new(Arc::clone(&self.call)), permit })
    }

    /// The same without waiting, where there is a session and room in it.
    fn try_push(&self) -> Option<()> {
        let conn = self.conn.as_ref()?;
        let permit = conn.calls().try_acquire_owned().ok()?;
        self.push(conn, permit).ok()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("call", &self.call).finish_non_exhaustive()
    }
}

impl IntoFuture for Request {
    type Output = Result<Bytes, RequestError>;
    type IntoFuture = Answer;

    fn into_future(self) -> Answer {
        Answer(State::New(Some(self)))
    }
}

/// The answer to a [`Request`], once it is awaited.
#[must_use = "a request does nothing until it is awaited"]
pub struct Answer(State);

enum State {
    New(Option<Request>),
    /// The net task keeps the time of what is under way.
    Asked(Arc<Call>),
    /// It has to wait for a session, or for its turn.
    Waiting(Pin<Box<dyn Future<Output = Result<Bytes, RequestError>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Bytes, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self(state) = self.get_mut();
        loop {
            match state {
                State::New(request) => {
                    let Some(request) = request.take() else { return Poll::Ready(Err(RequestError::Closed)) };
                    *state = match request.try_push() {
                        Some(()) => State::Asked(request.call),
                        None => State::Waiting(Box::pin(request.ask_in_time())),
                    };
                }
                State::Asked(call) => return call.poll(cx),
                State::Waiting(asking) => return asking.as_mut().poll(cx),
            }
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// Which request of a peer. Never used again for another by this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    session: Handle,
    stream: StreamId,
}

impl RequestId {
    pub(crate) const fn new(session: Handle, stream: StreamId) -> Self {
        Self { session, stream }
    }
}

/// A request of a peer. Dropping it without an answer tells the peer at once that it was rejected.
pub struct Inbound {
    reply: Reply,
    body: Bytes,
}

impl Inbound {
    pub(crate) const fn new(conn: Arc<Conn>, stream: StreamId, body: Bytes) -> Self {
        Self { reply: Reply { conn, stream, answered: false }, body }
    }

    /// Which request it is, as [`SwarmEvent::RequestFailed`](crate::SwarmEvent::RequestFailed) names it.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.reply.id()
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.reply.peer()
    }

    /// What is asked.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What is asked, and what answers it.
    #[must_use]
    pub fn split(self) -> (Bytes, Reply) {
        (self.body, self.reply)
    }

    /// Answers. Whether the answer arrives is for the asking side to know.
    pub fn answer(self, body: impl Into<Bytes>) {
        self.reply.answer(body);
    }

    /// Refuses: the asking side gets [`RequestError::Rejected`].
    pub fn reject(self) {}
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("peer", &self.peer()).field("len", &self.body.len()).finish_non_exhaustive()
    }
}

/// The answer that a request of a peer waits for, from [`Inbound::split`]. Dropping it tells the peer at once that it was
/// rejected.
pub struct Reply {
    conn: Arc<Conn>,
    stream: StreamId,
    answered: bool,
}

impl Reply {
    /// Which request it is for, as [`SwarmEvent::RequestFailed`](crate::SwarmEvent::RequestFailed) names it.
    #[must_use]
    pub fn id(&self) -> RequestId {
        RequestId::new(self.conn.session, self.stream)
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.conn.peer
    }

    /// Answers. Whether the answer arrives is for the asking side to know.
    pub fn answer(mut self, body: impl Into<Bytes>) {
        self.answered = true;
        // Nobody is left to hear it if the session is over.
        let _ = self.conn.push(Task::Answer { stream: self.stream, answer: Ok(body.into()) });
    }

    /// Refuses: the asking side gets [`RequestError::Rejected`].
    pub fn reject(self) {}
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.conn.push(Task::Answer { stream: self.stream, answer: Err(StreamCode::REJECTED) });
        }
    }
}

/// Requests of one protocol, from [`Swarm::requests`](crate::Swarm::requests).
///
/// 1024 wait to be taken; beyond it they are refused as [`RequestError::Refused`]. When this is dropped the protocol is
/// not supported any more.
#[derive(Debug)]
#[must_use = "dropping it gives the protocol up"]
pub struct Requests {
    queue: mpsc::Receiver<Inbound>,
    /// Some of them at once, the next one last.
    taken: Vec<Inbound>,
}

impl Requests {
    pub(crate) const fn new(queue: mpsc::Receiver<Inbound>) -> Self {
        Self { queue, taken: Vec::new() }
    }

    /// The next request, or `None` once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: a request is taken only when it is returned.
    pub async fn next(&mut self) -> Option<Inbound> {
        if self.taken.is_empty() {
            self.queue.recv_many(&mut self.taken, AT_ONCE).await;
            self.taken.reverse();
        }
        self.taken.pop()
    }
}

/// Answers requests as long as it lives, from [`Swarm::respond`](crate::Swarm::respond). Dropping it gives the protocol
/// up; answers that are being worked on are rejected.
#[derive(Debug)]
#[must_use = "dropping it gives the protocol up"]
pub struct Responding {
    task: tokio::task::AbortHandle,
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs a handler for each request, at most so many at once as requests may wait.
pub(crate) fn respond<H, F, T, E>(mut requests: Requests, handler: H) -> Responding
where
    H: Fn(PeerId, Bytes) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Bytes> + Send + 'static,
    E: Send + 'static,
{
    let run = async move {
        let mut working = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = working.join_next(), if !working.is_empty() => {}
                request = requests.next(), if working.len() < super::limits::REQUESTS => {
                    let Some(request) = request else { break };
                    let (body, reply) = request.split();
                    let Some(answer) = unless_panic(|| handler(reply.peer(), body)) else { continue };
                    let mut answer = Box::pin(answer);
                    // Most handlers are done at once: a task for each would cost more than they do.
                    match poll_once(answer.as_mut()).await {
                        Some(Ok(body)) => reply.answer(body),
                        Some(Err(_)) => reply.reject(),
                        None => drop(working.spawn(async move {
                            match answer.await {
                                Ok(body) => reply.answer(body),
                                Err(_) => reply.reject(),
                            }
                        })),
                    }
                }
            }
        }
    };
    Responding { task: tokio::spawn(run).abort_handle() }
}

/// What a future has to say now. One that panics has nothing to say any more: the request is rejected, and no other.
async fn poll_once<T, E>(mut future: Pin<&mut impl Future<Output = Result<T, E>>>) -> Option<Result<T, Option<E>>> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match unless_panic(|| future.as_mut().poll(cx)) {
            Some(Poll::Ready(output)) => Some(output.map_err(Some)),
            Some(Poll::Pending) => None,
            None => Some(Err(None)),
        })
    })
    .await
}

/// What `run` returns, if it does. What it had a hold of is not to be looked at again otherwise.
fn unless_panic<T>(run: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).ok()
}

/// Requests that are taken from their queue together.
const AT_ONCE: usize = 32;
