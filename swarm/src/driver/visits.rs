//! Which sessions something happened in, and a visit to each of them.

use std::time::Instant;

use peer::Handle;
use structs::Machine;

use super::Driver;
use super::limits::{NEW_PER_TURN, NEW_SESSIONS, VISITS_PER_TURN};
use super::session::{Session, Visit, earlier};

impl Driver {
    /// Finds the sessions that something happened in.
    pub(super) fn collect_work(&mut self) {
        while let Some(event) = self.node.poll_event() {
            self.on_event(event);
        }
        let mut ready = std::mem::take(&mut self.ready);
        self.shared.ready.take(&mut ready);
        for conn in ready.drain(..) {
            self.list(conn.session);
        }
        self.ready = ready;
    }

    /// Visits until nothing is left of what handles wanted, where it does not have to leave in parts.
    pub(super) fn visit_all(&mut self, now: Instant) {
        self.visit(now);
        for _ in 0..VISITS_PER_TURN {
            if self.unfinished.is_empty() {
                break;
            }
            self.list_unfinished();
            self.visit(now);
        }
    }

    /// Lists the sessions whose handles wanted more than a visit does.
    pub(super) fn list_unfinished(&mut self) {
        let mut unfinished = std::mem::take(&mut self.unfinished);
        unfinished.drain(..).for_each(|handle| self.list(handle));
        self.unfinished = unfinished;
    }

    pub(super) fn list(&mut self, handle: Handle) {
        if let Some(session) = self.sessions.get_mut(&handle)
            && !std::mem::replace(&mut session.listed, true)
        {
            self.work.push(handle);
        }
    }

    /// Visits the sessions with work.
    pub(super) fn visit(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let late = |session: &Session| session.deadline().is_some_and(|at| at <= now);
            let late: Vec<Handle> =
                self.sessions.iter().filter(|(_, session)| late(session)).map(|(h, _)| *h).collect();
            late.into_iter().for_each(|handle| self.list(handle));
            self.sessions
                .values()
                .for_each(|session| earlier(&mut self.due, session.deadline().filter(|at| *at > now)));
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.drain(..).for_each(|handle| self.list(handle));
        self.waiting = waiting;
        let mut work = std::mem::take(&mut self.work);
        for handle in work.drain(..) {
            let Some(session) = self.sessions.get_mut(&handle) else { continue };
            session.listed = false;
            let protocols = self.node.protocols();
            let mut visit = Visit::new(protocols, &self.shared.services, &mut self.scratch, now);
            self.node.with(handle, now, |peer, _| session.visit(peer, &mut visit));
            if session.has_datagrams() {
                self.waiting.push(handle);
            }
            if session.unfinished {
                self.unfinished.push(handle);
            }
            if session.readable {
                self.unread.insert(handle);
            }
            if !std::mem::replace(&mut session.used, true) {
                self.used.push_back(handle);
            }
            self.busy_poll.on_talk(std::mem::take(&mut session.talk), now);
            earlier(&mut self.due, session.deadline());
            let (from, failed) = (session.conn.peer, session.failed.take());
            self.pass_failed(handle, from, failed);
        }
        self.work = work;
        self.tidy_new();
    }

    /// Where many sessions are new, has those give back what their first visits needed that were visited longest ago: what all
    /// of them hold until the house is kept stays with the process. Once for each; some of them in a turn, so that a turn costs
    /// the same however many there are.
    fn tidy_new(&mut self) {
        for _ in 0..NEW_PER_TURN {
            if self.used.len() <= NEW_SESSIONS {
                return;
            }
            let Some(handle) = self.used.pop_front() else { return };
            match self.sessions.get_mut(&handle) {
                Some(session) if session.is_new && !session.listed && session.streams() == 0 => session.tidy(),
                Some(_) => self.used.push_back(handle),
                None => {}
            }
        }
    }
}
