//! Two who know a path meet there: what one sends by `POST` or `PUT`, the other gets by `GET`, whoever comes first waits.
//!
//! As a piping server does it: the sender is answered at once and told by lines how it goes, the receiver when there is a
//! sender. Nothing is kept: what passes is held in parts of a few KiB, and who goes away is forgotten. One sender and one
//! receiver meet; more of a kind than one are refused. Everybody who waits holds a connection, of which one address has a
//! bounded number.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::door::{Door, Pass};
use super::life::Life;
use super::origin::Origin;
use super::refusal::Refusal;
use super::{Aborted, Answer, limits};

/// Headers that a receiver gets as the sender set them.
const PASSED: [HeaderName; 4] =
    [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_DISPOSITION, HeaderName::from_static("x-piping")];

/// What browsers are told about it.
const SHIELD: [(HeaderName, &str); 3] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "sandbox"),
    (HeaderName::from_static("x-robots-tag"), "none"),
];

/// Who waits where. A lock, held for a look-up: connections are tasks of their own.
#[derive(Debug, Clone)]
pub(crate) struct Piping {
    waiting: Arc<Mutex<Waiting>>,
    /// Who is here: by the address that asks, whoever the connection is from.
    door: Door,
}

#[derive(Debug, Default)]
struct Waiting {
    paths: BTreeMap<String, (u64, Half)>,
    next: u64,
}

/// One who waits, and how the other one reaches him.
#[derive(Debug)]
enum Half {
    Sender { headers: HeaderMap, meet: oneshot::Sender<Sender<Bytes, Aborted>> },
    Receiver { meet: oneshot::Sender<Parcel> },
}

/// What a receiver gets.
#[derive(Debug)]
struct Parcel {
    headers: HeaderMap,
    body: Channel<Bytes, Aborted>,
}

/// A place where somebody waits; given up when dropped.
#[derive(Debug)]
struct Place {
    piping: Piping,
    path: String,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.piping.lock();
        if waiting.paths.get(&self.path).is_some_and(|(number, _)| *number == self.number) {
            waiting.paths.remove(&self.path);
        }
    }
}

impl Piping {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Self { waiting: Arc::default(), door: Door::new(limits::PIPE_WAITING) }
    }

    /// Answers whoever comes to a path.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        origin: Origin,
        life: Life,
    ) -> Result<Answer, Refusal> {
        let path = request.uri().path();
        if path.len() > limits::PIPE_PATH {
            return Err(Refusal::Malformed(format!("a path has at most {} bytes", limits::PIPE_PATH)));
        }
        if path.len() < 2 {
            return Err(Refusal::NotFound);
        }
        let several =
            request.uri().query().unwrap_or_default().split('&').any(|part| part.starts_with("n=") && part != "n=1");
        if several {
            return Err(Refusal::Malformed("one receiver can be served, not several".to_owned()));
        }
        let pass = self.door.enter(origin).ok_or(Refusal::TooMany)?;
        match *request.method() {
            Method::GET => self.receive(path, pass, life).await,
            Method::POST | Method::PUT => self.send(request, pass, life),
            _ => Err(Refusal::Method("GET, POST, PUT")),
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().paths.is_empty() && self.door.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at a path.
    fn wait(&self, waiting: &mut Waiting, path: &str, half: Half) -> Place {
        waiting.next += 1;
        let number = waiting.next;
        waiting.paths.insert(path.to_owned(), (number, half));
        Place { piping: self.clone(), path: path.to_owned(), number }
    }

    async fn receive(&self, path: &str, pass: Pass, life: Life) -> Result<Answer, Refusal> {
        let (place, met) = {
            let mut waiting = self.lock();
            match waiting.paths.remove(path) {
                Some((_, Half::Sender { headers, meet })) => {
                    let (sender, body) = Channel::new(limits::PIPE_PARTS);
                    // One who goes away at this moment leaves a body that breaks off.
                    let _ = meet.send(sender);
                    life.last(limits::PIPE_TRANSFER);
                    return Ok(Parcel { headers, body }.answer());
                }
                Some(taken @ (_, Half::Receiver { .. })) => {
                    waiting.paths.insert(path.to_owned(), taken);
                    return Err(Refusal::Malformed("somebody waits to receive here already".to_owned()));
                }
                None => {
                    let (meet, met) = oneshot::channel();
                    (self.wait(&mut waiting, path, Half::Receiver { meet }), met)
                }
            }
        };
        life.last(limits::PIPE_WAIT + limits::LIFE);
        let met = timeout(limits::PIPE_WAIT, met).await;
        drop((place, pass));
        // Whoever reads slowly holds a connection no longer than that.
        life.last(limits::PIPE_TRANSFER);
        match met {
            Ok(Ok(parcel)) => Ok(parcel.answer()),
            _ => Err(Refusal::Late(limits::PIPE_WAIT.as_secs())),
        }
    }

    fn send(&self, request: Request<Incoming>, pass: Pass, life: Life) -> Result<Answer, Refusal> {
        if request.body().size_hint().lower() > limits::PIPE_BYTES {
            return Err(Refusal::TooLarge(limits::PIPE_BYTES));
        }
        let (head, body) = request.into_parts();
        let headers: HeaderMap =
            PASSED.iter().filter_map(|name| Some((name.clone(), head.headers.get(name)?.clone()))).collect();
        let path = head.uri.path();
        let mut waiting = self.lock();
        let (first, work): (_, Pin<Box<dyn Future<Output = Outcome> + Send>>) = match waiting.paths.remove(path) {
            Some((_, Half::Receiver { meet })) => {
                let (sender, channel) = Channel::new(limits::PIPE_PARTS);
                let gone = meet.send(Parcel { headers, body: channel }).is_err();
                (
                    "[INFO] a receiver is here",
                    Box::pin(async move {
                        if gone {
                            return Outcome::ReceiverLeft;
                        }
                        Upload::new(body).pass(sender).await
                    }),
                )
            }
            Some(taken @ (_, Half::Sender { .. })) => {
                waiting.paths.insert(path.to_owned(), taken);
                return Err(Refusal::Malformed("somebody waits to send here already".to_owned()));
            }
            None => {
                let (meet, met) = oneshot::channel();
                let place = self.wait(&mut waiting, path, Half::Sender { headers, meet });
                (
                    "[INFO] waiting for a receiver",
                    Box::pin(async move {
                        let mut upload = Upload::new(body);
                        let met = timeout(limits::PIPE_WAIT, upload.ahead(met)).await;
                        drop(place);
                        match met {
                            Ok(Some(sender)) => upload.pass(sender).await,
                            Ok(None) => Outcome::SenderLeft,
                            Err(_) => Outcome::Nobody,
                        }
                    }),
                )
            }
        };
        drop(waiting);
        // It is told how it went, and has a moment to read that.
        life.last(limits::PIPE_WAIT + limits::PIPE_TRANSFER + limits::HEAD);
        let told = Told { first: Some(first), work: Some(work), _pass: pass };
        let mut answer = Response::new(told.boxed_unsync());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Ok(answer)
    }
}

impl Parcel {
    fn answer(self) -> Answer {
        let mut answer = Response::new(self.body.boxed_unsync());
        *answer.status_mut() = StatusCode::OK;
        *answer.headers_mut() = self.headers;
        // What a stranger sent is no page of this server.
        for (name, value) in SHIELD {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

/// What came of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Nobody,
    ReceiverLeft,
    SenderLeft,
    TooLarge,
    Slow,
}

impl Outcome {
    const fn line(self) -> &'static str {
        match self {
            Self::Passed => "[INFO] sent",
            Self::Nobody => "[ERROR] no receiver came in time",
            Self::ReceiverLeft => "[ERROR] the receiver went away",
            Self::SenderLeft => "[ERROR] the body broke off",
            Self::TooLarge => "[ERROR] the body is too long",
            Self::Slow => "[ERROR] it took too long",
        }
    }
}

/// The body of a sender: what was read of it, and the rest.
#[derive(Debug)]
struct Upload {
    body: Incoming,
    /// Copied: a part keeps all of the buffer that it was read into.
    read: Vec<u8>,
    ended: bool,
}

impl Upload {
    const fn new(body: Incoming) -> Self {
        Self { body, read: Vec::new(), ended: false }
    }

    /// Reads a little while nobody is there to receive it. None if the body breaks off.
    async fn ahead(&mut self, mut met: oneshot::Receiver<Sender<Bytes, Aborted>>) -> Option<Sender<Bytes, Aborted>> {
        while !self.ended && self.read.len() < limits::PIPE_AHEAD {
            tokio::select! {
                sender = &mut met => return sender.ok(),
                part = self.body.frame() => match part {
                    Some(Ok(frame)) => self.read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                    Some(Err(_)) => return None,
                    None => self.ended = true,
                },
            }
        }
        met.await.ok()
    }

    /// Passes it on to a receiver.
    async fn pass(self, to: Sender<Bytes, Aborted>) -> Outcome {
        timeout(limits::PIPE_TRANSFER, self.all(to)).await.unwrap_or(Outcome::Slow)
    }

    async fn all(mut self, mut to: Sender<Bytes, Aborted>) -> Outcome {
        let mut passed = 0_u64;
        let mut read = Some(Bytes::from(std::mem::take(&mut self.read))).filter(|read| !read.is_empty());
        loop {
            let data = match read.take() {
                Some(data) => data,
                None if self.ended => return Outcome::Passed,
                None => match self.body.frame().await {
                    None => return Outcome::Passed,
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(_)) => {
                        to.abort(Aborted);
                        return Outcome::SenderLeft;
                    }
                },
            };
            passed = passed.saturating_add(data.remaining() as u64);
            if passed > limits::PIPE_BYTES {
                to.abort(Aborted);
                return Outcome::TooLarge;
            }
            if to.send_data(data).await.is_err() {
                return Outcome::ReceiverLeft;
            }
        }
    }
}

/// The answer to a sender: a line at once, and one about what came of it. The work is done by whoever reads the answer, so that
/// it ends with the connection.
struct Told {
    first: Option<&'static str>,
    work: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    _pass: Pass,
}

impl Body for Told {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let line = match self.first.take() {
            Some(first) => first,
            None => {
                let Some(work) = &mut self.work else { return Poll::Ready(None) };
                let outcome = std::task::ready!(work.as_mut().poll(cx));
                self.work = None;
                outcome.line()
            }
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("{line}\n"))))))
    }
}

/// Nothing, as a body of this server.
pub(crate) fn nothing() -> super::Content {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
