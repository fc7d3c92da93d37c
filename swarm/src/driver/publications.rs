//! Publications: to the neighbours with room at once, to the others as soon as they have some.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Driver;
use super::limits::PATIENCE;
use crate::node::Publication;
use crate::{SendError, TopicId};

/// A publication that waits for room at some neighbours.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) publication: Publication,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<usize, SendError>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Driver {
    pub(super) fn publish(
        &mut self,
        (topic, data): (TopicId, Bytes),
        permit: Option<OwnedSemaphorePermit>,
        reply: oneshot::Sender<Result<usize, SendError>>,
        now: Instant,
    ) {
        let publication = match self.node.publish(&topic, &data, now) {
            Ok(publication) => publication,
            Err(error) => return drop(reply.send(Err(error))),
        };
        match permit.filter(|_| publication.is_waiting()) {
            None => drop(reply.send(Ok(publication.sent()))),
            Some(permit) => {
                let until = now.checked_add(PATIENCE).unwrap_or(now);
                self.publications.push_back(Waiting { publication, until, reply, _permit: permit });
            }
        }
    }

    /// Tries again for the neighbours that had no room.
    pub(super) fn publish_waiting(&mut self, now: Instant) {
        for _ in 0..self.publications.len() {
            let Some(mut waiting) = self.publications.pop_front() else { return };
            self.node.publish_more(&mut waiting.publication, now);
            if waiting.publication.is_waiting() && now < waiting.until {
                self.publications.push_back(waiting);
            } else {
                let _ = waiting.reply.send(Ok(waiting.publication.sent()));
            }
        }
    }
}
