//! Sockets beside that of the sessions: opened for attempts, kept by paths, closed when nothing goes by them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peer::Handle;
use structs::Link;

use super::super::Node;
use super::super::event::Event;
use super::super::fresh::Fresh;
use super::Attempt;

/// Sockets that the driver was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    pub(super) first: u32,
    pub(super) observed: bool,
}

impl Node {
    /// Says that the driver opened sockets that [`Event::OpenSockets`] asked for: those from `first` on, at these addresses. Fewer
    /// than were asked for are fewer chances, and none is a reason to go on without.
    pub fn sockets_opened(&mut self, first: u32, locals: &[SocketAddr], now: Instant) {
        self.tick(now);
        let now = self.now;
        let count = u16::try_from(locals.len()).unwrap_or(u16::MAX);
        let wanted = |attempt: &&mut Attempt| attempt.opening.is_some_and(|opening| opening.first == first);
        let Some(attempt) = self.punches.attempts.values_mut().find(wanted) else {
            return self.close_sockets(first, count);
        };
        let Some(opening) = attempt.opening.take() else { return };
        attempt.opened = attempt.opened.saturating_add(count);
        match locals.first() {
            Some(local) if opening.observed => {
                let fresh = Fresh::new(&self.outside, Link::Socket(first), *local, &self.punches.seed, now);
                attempt.fresh = Some(Box::new(fresh));
            }
            _ if attempt.punch.sockets_opened(count, &[], None, now).is_err() => {
                // It waits no longer.
                attempt.opened = attempt.opened.saturating_sub(count);
                self.close_sockets(first, count);
            }
            _ => {}
        }
        self.drive_punches();
    }

    pub(super) fn close_unused(&mut self, first: u32, opened: u16) {
        let mut from = first;
        let end = first.saturating_add(opened.into());
        let kept: Vec<u32> = self.punches.kept.range(first..end).map(|(number, _)| *number).collect();
        for stop in kept.into_iter().chain([end]) {
            self.close_sockets(from, u16::try_from(stop.saturating_sub(from)).unwrap_or(u16::MAX));
            from = stop.saturating_add(1);
        }
    }

    pub(super) fn close_sockets(&mut self, first: u32, count: u16) {
        if count > 0 {
            self.events.push_back(Event::CloseSockets { first, count });
        }
    }

    /// Closes the sockets that no session goes by any more.
    pub(super) fn check_kept(&mut self) {
        let now = self.now;
        let unused = |(number, (session, since)): (&u32, &(Handle, Instant))| {
            let mut paths = self.endpoint.peer(*session).into_iter().flat_map(peer::Peer::paths);
            let young = self.sessions.contains_key(session) && now < *since + CHECK_EVERY;
            (!young && !paths.any(|path| path.link == Link::Socket(*number))).then_some(*number)
        };
        let unused: Vec<u32> = self.punches.kept.iter().filter_map(unused).collect();
        for number in unused {
            self.punches.kept.remove(&number);
            self.close_sockets(number, 1);
        }
        self.punches.check_at = (!self.punches.kept.is_empty()).then_some(now + CHECK_EVERY);
    }
}

/// How often sockets are looked at that sessions go by, and how long a path has to prove itself.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(15);
