//! What peers do in the table for us while we reach nobody there, and what is looked for there for them (SPEC 18).

use std::time::Instant;

use ::dht::{Item, PublishError, QueryError, QueryId, Wanted};
use framing::record::SignedRecord;

use super::{Finder, News, PEER, RECORD_EVERY, RECORD_LIFE};
use crate::PeerId;
use crate::discovery::{SourceError, Task};

/// What a peer is asked for.
#[derive(Debug)]
pub(in crate::node) enum Question {
    /// The record of this peer.
    Peer(PeerId),
    /// To publish ours.
    Publish(SignedRecord),
}

impl Finder {
    /// Looks for what a peer wants to know.
    pub(in crate::node) fn get_for_others(&mut self, wanted: Wanted, now: Instant) -> Result<QueryId, QueryError> {
        let query = self.dht.get_for_others(wanted, now);
        self.settle(now);
        query
    }

    /// Publishes what a peer wants to be found.
    pub(in crate::node) fn put_for_others(&mut self, item: Item, now: Instant) -> Result<QueryId, PublishError> {
        let query = self.dht.put_for_others(item, now);
        self.settle(now);
        query
    }

    /// Whether there are peers that can be asked.
    pub(in crate::node) fn set_helped(&mut self, helped: bool, now: Instant) {
        if std::mem::replace(&mut self.helped, helped) != helped && helped {
            self.ask_again(now);
        }
    }

    /// Asks at once what there is to ask.
    pub(in crate::node) fn ask_again(&mut self, now: Instant) {
        if self.is_connected || !self.helped {
            return;
        }
        for (_, job) in self.jobs.iter_mut().filter(|(task, _)| can_be_asked(**task)) {
            if let Some(query) = job.query.take() {
                self.queries.remove(&query);
                let _ = self.dht.cancel(query) || self.dht.withdraw(query);
            }
            job.hurry(now);
        }
        self.settle(now);
    }

    /// Has peers do what is due, if they have to. It is due again unless they answer.
    pub(super) fn ask(&mut self, task: Task, now: Instant) -> bool {
        if self.is_connected || !self.helped {
            return false;
        }
        let question = match task {
            Task::Peer(peer) => Some(Question::Peer(peer)),
            Task::Record => self.record_to_ask(now).map(Question::Publish),
            _ => None,
        };
        let (Some(question), Some(job)) = (question, self.jobs.get_mut(&task)) else { return false };
        self.progressed = true;
        job.asked(now);
        self.news.push_back(News::Ask(question));
        true
    }

    /// What is published by others: the same until it is, since a new one would begin everything anew there.
    fn record_to_ask(&mut self, now: Instant) -> Option<SignedRecord> {
        let fresh = self.epoch.unix_at(now) + RECORD_LIFE / 2;
        let asked = self.asked.take().filter(|asked| asked.expires() > fresh);
        self.asked = asked.or_else(|| self.sign_record(now).ok());
        self.asked.clone()
    }

    /// A peer found a record of somebody whom we look for. Says whether it is one.
    pub(in crate::node) fn on_record_of(&mut self, record: &SignedRecord, now: Instant) -> bool {
        let is_good = record.check(self.epoch.unix_at(now)).is_ok();
        if is_good {
            self.on_record(Some(Task::Peer(record.peer().into())), record, now);
        }
        is_good
    }

    /// Those who were asked for a peer have no more to say.
    pub(in crate::node) fn searched_by_others(&mut self, peer: PeerId, now: Instant) {
        self.progressed = true;
        if let Some(job) = self.jobs.get_mut(&Task::Peer(peer)) {
            job.searched(PEER, now);
        }
        self.settle(now);
    }

    /// Those who were asked to publish our record did, or cannot.
    pub(in crate::node) fn published_by_others(&mut self, kept: bool, now: Instant) {
        let Some(job) = self.jobs.get_mut(&Task::Record).filter(|job| job.query.is_none()) else { return };
        self.progressed = true;
        if kept {
            self.asked = None;
            job.published(None, now.checked_add(RECORD_EVERY));
            job.due = now.checked_add(RECORD_EVERY);
        } else {
            job.failed(SourceError::NobodyAnswered, now);
        }
        self.settle(now);
    }

    /// Nobody publishes our record any more who was asked to.
    pub(in crate::node) fn record_lost(&mut self, now: Instant) {
        if let Some(job) = self.jobs.get_mut(&Task::Record) {
            job.hurry(now);
        }
        self.settle(now);
    }
}

const fn can_be_asked(task: Task) -> bool {
    matches!(task, Task::Record | Task::Peer(_))
}
