//! Who takes streams and requests of which name.
//!
//! Handles register and give up; the net task looks names up. Each service has a bounded queue: what comes while it is
//! full is refused with a reason, and nobody else notices.

#![expect(clippy::disallowed_types, reason = "the lock of the register, held to look a name up")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use framing::{StreamCode, StreamId};
use tokio::sync::mpsc;

use super::bodies::Bodies;
use super::conn::Conn;
use super::pipe::Pipe;
use super::request::Inbound;
use super::stream::Stream;
use crate::InboundError;

/// The register.
#[derive(Debug, Default)]
pub(crate) struct Services {
    acceptors: Mutex<BTreeMap<Arc<str>, mpsc::Sender<Stream>>>,
    responders: Mutex<BTreeMap<Arc<str>, Responder>>,
    /// What their requests take.
    pub(crate) bodies: Bodies,
}

/// Who answers requests of one name.
#[derive(Debug, Clone)]
pub(crate) struct Responder {
    max_request: usize,
    queue: mpsc::Sender<Inbound>,
}

impl Responder {
    pub(crate) const fn max_request(&self) -> usize {
        self.max_request
    }

    /// Hands a request over.
    pub(crate) fn ask(&self, conn: Arc<Conn>, stream: StreamId, body: Bytes) -> Result<(), InboundError> {
        match self.queue.try_reserve() {
            Ok(place) => {
                place.send(Inbound::new(conn, stream, body));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(InboundError::Full),
            Err(mpsc::error::TrySendError::Closed(())) => Err(InboundError::Unsupported),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Services {
    /// Registers who takes streams. False if somebody does.
    pub(crate) fn add_acceptor(&self, name: &str, queue: mpsc::Sender<Stream>) -> bool {
        let mut acceptors = lock(&self.acceptors);
        if acceptors.get(name).is_some_and(|other| !other.is_closed()) {
            return false;
        }
        acceptors.insert(name.into(), queue);
        true
    }

    /// Registers who answers requests. False if somebody does.
    pub(crate) fn add_responder(&self, name: &str, max_request: usize, queue: mpsc::Sender<Inbound>) -> bool {
        let mut responders = lock(&self.responders);
        if responders.get(name).is_some_and(|other| !other.queue.is_closed()) {
            return false;
        }
        responders.insert(name.into(), Responder { max_request, queue });
        true
    }

    /// Forgets services whose takers are gone.
    pub(crate) fn sweep(&self) {
        lock(&self.acceptors).retain(|_, queue| !queue.is_closed());
        lock(&self.responders).retain(|_, responder| !responder.queue.is_closed());
    }

    /// Forgets all services: their takers are told by the end of their queues.
    pub(crate) fn clear(&self) {
        lock(&self.acceptors).clear();
        lock(&self.responders).clear();
    }

    /// Who answers requests of this name.
    pub(crate) fn responder(&self, name: &str) -> Option<Responder> {
        lock(&self.responders).get(name).filter(|responder| !responder.queue.is_closed()).cloned()
    }

    /// Hands a stream to whoever takes those of its name.
    pub(crate) fn offer(
        &self,
        name: &str,
        conn: Arc<Conn>,
        stream: StreamId,
        pipe: Arc<Pipe>,
    ) -> Result<(), StreamCode> {
        let queue = lock(&self.acceptors).get(name).cloned().ok_or(StreamCode::UNKNOWN_PROTOCOL)?;
        match queue.try_reserve() {
            Ok(place) => {
                place.send(Stream::new(conn, stream, pipe));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(StreamCode::REFUSED),
            Err(mpsc::error::TrySendError::Closed(())) => Err(StreamCode::UNKNOWN_PROTOCOL),
        }
    }
}
