//! What time does to a session: loss timers, keepalive, death, suspension, and the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use structs::{Deadline, Path};

use crate::Idle;
use crate::event::{Event, Reason};
use crate::limits::{KEEPALIVE_MAX, LONG_SILENT, SILENT, SUSPEND};
use crate::path::{Outcome as PathOutcome, PathState};
use crate::receive::Switch;
use crate::recovery::PathSlot;
use crate::session::{Closing, Context, Ending, Session, Silence};
use crate::shared::{RouteChange, Shared};

impl Session {
    /// Lets time pass. False when the session has ended for good.
    pub(crate) fn on_timeout(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(ending) = &self.ending {
            return !ending.done && cx.now < ending.end_at;
        }
        self.notice_sleep(cx);
        if self.recovery.deadline().is_some_and(|deadline| deadline.at <= cx.now) {
            let mut outcome = self.outcome.take().unwrap_or_default();
            self.recovery.on_timeout(cx.now, &mut outcome);
            self.apply(&mut outcome, cx);
            self.outcome = Some(outcome);
            if self.recovery.timeouts(self.paths.best().slot) >= 2 {
                self.leave_silent_path(cx);
            }
        }
        self.keys.expire_old(cx.now);
        while let PathOutcome::Lost(_, slot, cid) = self.paths.expire(cx.now) {
            self.drop_path(slot, cid.sequence, cx);
        }
        // Behind that: the path that is given up may be the only other one.
        if self.silent_at().is_some_and(|at| at <= cx.now) {
            match (self.silence, self.paths.alternative()) {
                (Silence::Nothing, Some(_)) => {
                    // The other one has its own patience.
                    (self.silence, self.unanswered) = (Silence::Left, Some(cx.now));
                    self.leave_silent_path(cx);
                }
                _ => {
                    self.silence = Silence::Told;
                    cx.events.push_back(Event::Silent);
                }
            }
        }
        if self.closing.as_ref().is_some_and(|closing| closing.at <= cx.now || cx.mux.is_flushed()) {
            self.close_now(cx);
            return true;
        }
        if let Some(reason) = self.overdue(cx) {
            self.end(reason, cx);
            return true;
        }
        if self.keepalive_at(cx.shared).is_some_and(|at| at <= cx.now) {
            self.control.ping = true;
            self.last_sent = cx.now;
            self.check_spare_paths(cx);
        }
        true
    }

    /// Notices that a deadline passed long ago and nobody called: the machine slept.
    pub(crate) fn notice_sleep(&mut self, cx: &mut Context<'_>) {
        let last = std::mem::replace(&mut self.last_called, cx.now);
        if cx.now == last {
            return; // As for all packets of a batch but the first.
        }
        if cx.now.saturating_duration_since(last) <= SUSPEND {
            return;
        }
        let deadline = self.deadline(cx.shared, None);
        if deadline.is_some_and(|deadline| cx.now.saturating_duration_since(deadline.at) > SUSPEND) {
            self.on_resume(cx);
        }
    }

    /// Why the session ends now by its own clock, if it does.
    fn overdue(&self, cx: &Context<'_>) -> Option<Reason> {
        if self.dead_at(cx.shared).is_some_and(|at| at <= cx.now) {
            return Some(Reason::TimedOut);
        }
        self.idle_at(cx.shared).is_some_and(|at| at <= cx.now).then_some(Reason::Idle)
    }

    /// When a peer that answers nothing counts as gone.
    fn dead_at(&self, shared: &Shared) -> Option<Instant> {
        let patience = shared.config.dead_after.max(self.recovery.pto(self.paths.best().slot) * 3);
        self.unanswered.map(|since| since + patience)
    }

    fn idle_at(&self, shared: &Shared) -> Option<Instant> {
        match shared.config.idle {
            Idle::KeepAlive(_) => None,
            Idle::CloseAfter(after) => Some(self.last_used + after),
        }
    }

    fn keepalive_at(&self, shared: &Shared) -> Option<Instant> {
        match shared.config.idle {
            // What is under way is asked after by its own probes.
            Idle::KeepAlive(_) if self.unanswered.is_none() => {
                Some(self.last_sent.max(self.last_heard) + self.keepalive())
            }
            _ => None,
        }
    }

    pub(crate) const fn keepalive_base(&self, shared: &Shared) -> Duration {
        match shared.config.idle {
            Idle::KeepAlive(interval) | Idle::CloseAfter(interval) => interval,
        }
    }

    /// How long it is quiet before a PING goes.
    pub(crate) const fn keepalive(&self) -> Duration {
        Duration::from_millis(self.keepalive as u64)
    }

    /// Rounded up to milliseconds, and to 49 days at most.
    pub(crate) fn set_keepalive(&mut self, interval: Duration) {
        self.keepalive = u32::try_from(interval.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
    }

    /// A PING came back, and nothing on the way is known to forget: the next one may wait longer.
    pub(crate) fn on_ping_acknowledged(&mut self, cx: &Context<'_>) {
        if self.keepalive_steady {
            return;
        }
        self.set_keepalive((self.keepalive() * 3 / 2).min(KEEPALIVE_MAX.max(self.keepalive_base(cx.shared))));
    }

    /// Whether the interval stays what it is at first.
    pub(crate) fn set_steady(&mut self, steady: bool, cx: &Context<'_>) {
        if !std::mem::replace(&mut self.keepalive_steady, steady) && steady {
            self.set_keepalive(self.keepalive().min(self.keepalive_base(cx.shared)));
        }
    }

    /// Asks the proved paths that are not in use whether they still work.
    fn check_spare_paths(&mut self, cx: &mut Context<'_>) {
        for at in 0..self.paths.len() {
            if at != self.paths.best_index() && self.paths.get(at).is_some_and(PathState::is_full) {
                let data = cx.challenge();
                self.paths.recheck(at, data, cx.now);
            }
        }
    }

    /// When the path in use counts as silent: what two probe timeouts in a row take, a second at most. Those are put off by
    /// every packet that leaves, so under steady traffic they come when the window is full, which may be seconds later. Without
    /// another path the owner is told, a little later: what he can do costs others something too.
    fn silent_at(&self) -> Option<Instant> {
        // Where round trips vary by much, three timeouts are longer than anybody wants to wait for another path.
        let pto = self.recovery.pto(self.paths.best().slot);
        let patience = (pto * 3).min(pto.max(LONG_SILENT));
        let patience = match (self.silence, self.paths.alternative()) {
            (Silence::Told, _) => return None,
            (Silence::Nothing, Some(_)) => patience,
            // Nor is the path any better that was taken instead.
            (Silence::Nothing, None) | (Silence::Left, _) => patience.max(SILENT),
        };
        self.unanswered.map(|since| since + patience)
    }

    /// The path in use is silent while another one is proved: that one it is from now on.
    fn leave_silent_path(&mut self, cx: &mut Context<'_>) {
        self.set_keepalive(self.keepalive_base(cx.shared));
        if let Some(at) = self.paths.alternative() {
            self.switch(at, Switch::Silent, cx);
        }
    }

    /// The owner knows that a path carries nothing any more.
    pub(crate) fn lose_path(&mut self, path: &Path, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.paths.find(path) else { return false };
        if at == self.paths.best_index()
            && let Some(other) = self.paths.alternative()
        {
            self.switch(other, Switch::Silent, cx);
        }
        if let PathOutcome::Lost(_, slot, cid) = self.paths.remove(at) {
            self.drop_path(slot, cid.sequence, cx);
        }
        true
    }

    /// A path was given up: what was under way on it is lost.
    pub(crate) fn drop_path(&mut self, slot: PathSlot, cid: u64, cx: &mut Context<'_>) {
        self.drop_slot(slot, cx);
        self.give_back(cid, cx);
    }

    /// Forgets what recovery knows of a path; what was under way on it is lost.
    pub(crate) fn drop_slot(&mut self, slot: PathSlot, cx: &mut Context<'_>) {
        let mut outcome = self.outcome.take().unwrap_or_default();
        self.recovery.remove_path(slot, &mut outcome);
        self.apply(&mut outcome, cx);
        self.outcome = Some(outcome);
    }

    /// The clock stood still, or the network changed: silence so far means nothing, and every path is asked anew.
    pub(crate) fn on_resume(&mut self, cx: &mut Context<'_>) {
        self.recovery.on_resume(cx.now);
        self.unanswered = self.unanswered.map(|_| cx.now);
        (self.last_heard, self.last_sent, self.last_used) = (cx.now, cx.now, cx.now);
        self.set_keepalive(self.keepalive_base(cx.shared));
        self.control.ping = true;
        for at in 0..self.paths.len() {
            let data = cx.challenge();
            self.paths.recheck(at, data, cx.now);
        }
    }

    /// When [`on_timeout`](Self::on_timeout) has something to do.
    pub(crate) fn deadline(&self, shared: &Shared, mux: Option<Instant>) -> Option<Deadline> {
        let at = |at: Option<Instant>, reason| at.map(|at| Deadline { at, reason });
        if let Some(ending) = &self.ending {
            let next = if ending.done { ending.end_at } else { ending.next_at.min(ending.end_at) };
            return Some(Deadline { at: next, reason: "goodbye" });
        }
        [
            self.recovery.deadline(),
            self.acks.deadline(),
            at(self.paced_until, "pacing"),
            at(mux, "rate cap"),
            at(self.paths.deadline(), "path challenge"),
            at(self.confirm.as_ref().map(|confirm| confirm.next_at), "handshake confirmation"),
            at(self.closing.as_ref().map(|closing| closing.at), "grace"),
            at(self.silent_at(), "silent path"),
            at(self.dead_at(shared), "death"),
            at(self.idle_at(shared), "idle"),
            at(self.keepalive_at(shared), "keepalive"),
            at(self.rest_at(), "rest"),
        ]
        .into_iter()
        .fold(None, Deadline::earliest)
    }

    /// Ends the session once everything accepted is acknowledged, or at `at`.
    pub(crate) fn close(&mut self, code: u64, reason: &str, at: Instant, cx: &mut Context<'_>) {
        if self.ending.is_some() {
            return;
        }
        let reason = crate::peer::cut(reason);
        self.closing = Some(Box::new(Closing { code, reason, at }));
        if at <= cx.now || cx.mux.is_flushed() {
            self.close_now(cx);
        } else {
            self.control.goaway = true;
            cx.mux.refuse_streams();
        }
    }

    fn close_now(&mut self, cx: &mut Context<'_>) {
        let Some(closing) = self.closing.take() else { return };
        let Closing { code, reason, .. } = *closing;
        self.begin_ending(Reason::Local { code }, Some((code, reason)), cx);
    }

    /// Ends the session for a reason that is not a wish of ours.
    pub(crate) fn end(&mut self, reason: Reason, cx: &mut Context<'_>) {
        if self.ending.is_some() {
            return;
        }
        let close = match &reason {
            Reason::Violation(violation) => Some((violation.code(), violation.as_str().to_owned())),
            Reason::Idle => Some((framing::CloseCode::IDLE.0, String::new())),
            _ => None,
        };
        // Nobody is there to be told anything, or nothing may be sealed any more.
        let silent = matches!(
            reason,
            Reason::Reset | Reason::TimedOut | Reason::KeyLimit | Reason::Replaced | Reason::Abandoned
        );
        self.begin_ending(reason, close, cx);
        if silent && let Some(ending) = &mut self.ending {
            ending.done = true;
        }
    }

    fn begin_ending(&mut self, reason: Reason, close: Option<(u64, String)>, cx: &mut Context<'_>) {
        let pto = self.recovery.pto(self.paths.best().slot);
        let owes_answer = matches!(reason, Reason::Remote { .. });
        self.ending = Some(Box::new(Ending {
            reason,
            close,
            next_at: cx.now,
            interval: pto,
            end_at: cx.now + pto * 3,
            done: false,
            owes_answer,
        }));
    }

    /// The other side knows that it is over.
    pub(crate) fn on_close_acknowledged(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.done = true;
        }
    }

    /// The routes that a session has, to be taken back.
    pub(crate) fn release(&self, routes: &mut VecDeque<RouteChange>) {
        routes.extend(self.local.iter().map(RouteChange::RemoveCid));
        routes.extend(self.remote.tokens().map(RouteChange::RemoveToken));
    }
}
