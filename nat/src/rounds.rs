//! The coordination of an attempt: round by round, offered, answered and begun.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use structs::{Rejected, SlidingWindow};

use crate::candidate::{Candidate, CandidateKind};
use crate::limits;
use crate::message::{EndCode, Message, Proposal, Start};
use crate::observe::step;
use crate::plan::{Method, Plan, Role};
use crate::probe::{ProbeKey, Secret};
use crate::punch::{Event, Failure, Phase, Punch};
use crate::schedule::{Meeting, Schedule, Sweep};
use crate::scope::is_public;

impl Punch {
    pub(crate) fn on_message(&mut self, message: Message, now: Instant) -> Result<(), Rejected> {
        if self.attempt.is_some_and(|attempt| attempt != message.attempt()) {
            return Err(Rejected::Unsolicited);
        }
        match message {
            Message::Offer(theirs) => self.on_offer(theirs, now),
            Message::Answer(theirs) => self.on_answer(theirs, now),
            Message::Start(start) => self.on_start(start, now),
            Message::End { why, .. } => {
                if self.phase == Phase::Lingering || self.attempt.is_none() {
                    return Err(Rejected::Unsolicited);
                }
                let (ours, theirs) = self.kinds();
                self.fail(match why {
                    EndCode::Failed => Failure::Unanswered { ours, theirs },
                    EndCode::Hopeless => Failure::Hopeless { ours, theirs },
                    why => Failure::Ended(why),
                });
                Ok(())
            }
        }
    }

    /// Declines what a peer offers: for owners who have too much to do. Says so, and ends.
    pub fn refuse(&mut self) {
        if !self.is_closed() {
            self.say_end(EndCode::Refused);
            self.shut();
        }
    }

    // ---- the initiator ----

    pub(crate) fn send_offer(&mut self, now: Instant) {
        self.phase = Phase::Offered;
        self.offered_at = now;
        self.deadline = Some(now + limits::COORDINATION_TIMEOUT);
        if let Some(proposal) = self.proposal() {
            self.say(&Message::Offer(proposal));
        }
    }

    fn on_answer(&mut self, theirs: Proposal, now: Instant) -> Result<(), Rejected> {
        if self.phase != Phase::Offered || theirs.round != self.round {
            return Err(Rejected::Unsolicited);
        }
        self.rtt = now.saturating_duration_since(self.offered_at);
        self.meet(theirs);
        let Some(plan) = self.plan_for(self.round) else {
            self.give_up();
            return Ok(());
        };
        if plan.method == Method::Relay {
            let (ours, theirs) = self.kinds();
            self.say_end(EndCode::Hopeless);
            self.fail(Failure::Hopeless { ours, theirs });
            return Ok(());
        }
        if !self.accepts(&plan) {
            self.refuse_plan();
            return Ok(());
        }
        self.plan = Some(plan);
        self.arm(now);
        Ok(())
    }

    fn send_start(&mut self, now: Instant) {
        let (Some(attempt), Some(plan)) = (self.attempt, self.plan) else { return };
        let rtt_ms = u16::try_from(self.rtt.as_millis()).unwrap_or(u16::MAX);
        self.say(&Message::Start(Start { attempt, round: self.round, plan, rtt_ms }));
        self.begin(now);
    }

    /// What the reports say about a round, and the peer's last one if there is none of this round yet.
    fn plan_for(&self, round: u8) -> Option<Plan> {
        let theirs = self.theirs.as_ref()?;
        if round >= limits::MAX_ROUNDS {
            return None;
        }
        // Of public IPv4 addresses the reports speak; the others are there or not.
        let direct = self.remotes.iter().any(|candidate| match candidate.addr.ip() {
            IpAddr::V6(_) => true,
            ip @ IpAddr::V4(_) => !is_public(ip) || candidate.kind == CandidateKind::Mapped,
        });
        let reports = match self.role {
            Role::Initiator => [&self.setup.report, &theirs.report],
            Role::Responder => [&theirs.report, &self.setup.report],
        };
        let [initiator, responder] = reports;
        Plan::choose(initiator, responder, direct, round)
    }

    fn give_up(&mut self) {
        let (ours, theirs) = self.kinds();
        self.say_end(EndCode::Failed);
        self.fail(Failure::Unanswered { ours, theirs });
    }

    // ---- the responder ----

    fn on_offer(&mut self, theirs: Proposal, now: Instant) -> Result<(), Rejected> {
        if self.role != Role::Responder || self.phase == Phase::Lingering {
            return Err(Rejected::Unsolicited);
        }
        let expected = if self.attempt.is_none() { 0 } else { self.round.saturating_add(1) };
        if theirs.round != expected || matches!(self.phase, Phase::Gathering | Phase::Arming) {
            return Err(Rejected::Duplicate);
        }
        self.attempt = Some(theirs.attempt);
        let round = theirs.round;
        self.theirs = Some(theirs);
        if round == 0 {
            self.send_answer(now);
        } else {
            self.next_round(round, now);
        }
        Ok(())
    }

    fn send_answer(&mut self, now: Instant) {
        let Some(theirs) = self.theirs.take() else { return };
        self.meet(theirs);
        self.phase = Phase::Waiting;
        self.deadline = Some(now + limits::COORDINATION_TIMEOUT);
        if let Some(proposal) = self.proposal() {
            self.say(&Message::Answer(proposal));
        }
    }

    fn on_start(&mut self, start: Start, now: Instant) -> Result<(), Rejected> {
        if self.phase == Phase::Lingering {
            // In one network probes are quicker than messages.
            return Ok(());
        }
        let expected = self.role == Role::Responder && self.phase == Phase::Waiting && self.keys.is_some();
        if !expected || start.round != self.round || self.plan.is_some() {
            return Err(Rejected::Unsolicited);
        }
        if !self.accepts(&start.plan) {
            self.refuse_plan();
            return Ok(());
        }
        self.rtt = Duration::from_millis(start.rtt_ms.into());
        self.plan = Some(start.plan);
        self.arm(now);
        Ok(())
    }

    // ---- both ----

    /// Whether we take part in a plan: a simple one, or what the reports of both make of it. Whoever decides on it may lie of itself,
    /// and not of us.
    fn accepts(&self, plan: &Plan) -> bool {
        let Some(theirs) = self.theirs.as_ref() else { return false };
        let (initiator, responder) = match self.role {
            Role::Initiator => (&self.setup.report, &theirs.report),
            Role::Responder => (&theirs.report, &self.setup.report),
        };
        let fits = plan.method == Method::Simple || plan.method == Plan::method(initiator, responder);
        fits && (self.setup.birthday || !matches!(plan.method, Method::Birthday { .. }))
    }

    fn refuse_plan(&mut self) {
        self.say_end(EndCode::Refused);
        self.fail(Failure::Ended(EndCode::Refused));
    }

    fn proposal(&self) -> Option<Proposal> {
        Some(Proposal {
            attempt: self.attempt?,
            round: self.round,
            secret: self.secret.clone(),
            report: self.setup.report,
            candidates: self.setup.candidates.clone(),
        })
    }

    /// Both secrets of a round are there.
    fn meet(&mut self, theirs: Proposal) {
        let Some(attempt) = self.attempt else { return };
        self.keys = Some(match self.role {
            Role::Initiator => ProbeKey::derive(&self.secret, &theirs.secret, attempt),
            Role::Responder => {
                let [initiator, responder] = ProbeKey::derive(&theirs.secret, &self.secret, attempt);
                [responder, initiator]
            }
        });
        self.remotes = self.admitted(&theirs);
        self.theirs = Some(theirs);
    }

    /// Forgets a round, and begins with a socket that no NAT has seen. Where a stray took a port away, it took it away for good.
    fn next_round(&mut self, round: u8, now: Instant) {
        self.round = round;
        self.plan = None;
        self.keys = None;
        self.secret = Secret(self.rng.array());
        self.schedule = Schedule::default();
        self.window = SlidingWindow::new();
        self.outbox.clear();
        self.answered.clear();
        self.proved.clear();
        self.settle_at = None;
        self.chosen = None;
        if self.setup.max_sockets > self.opened {
            self.phase = Phase::Gathering;
            self.deadline = Some(now + limits::SOCKETS_TIMEOUT);
            self.ask_for_sockets(1, true);
        } else {
            self.on_gathered(now);
        }
    }

    fn ask_for_sockets(&mut self, count: u16, observed: bool) {
        let first = self.setup.first_socket.saturating_add(self.opened.into());
        self.events.push_back(Event::OpenSockets { first, count, observed });
    }

    pub(crate) fn on_gathered(&mut self, now: Instant) {
        match self.role {
            Role::Initiator => self.send_offer(now),
            Role::Responder => self.send_answer(now),
        }
    }

    /// How many sockets the plan wants of us.
    pub(crate) fn wanted(&self) -> u16 {
        match self.plan.map(|plan| plan.method) {
            Some(Method::Birthday { seeker, .. }) if seeker != self.role => {
                limits::SPRAY_SOCKETS.min(self.setup.max_sockets.saturating_sub(self.opened))
            }
            _ => 0,
        }
    }

    fn arm(&mut self, now: Instant) {
        let count = self.wanted();
        if count == 0 {
            self.on_armed(0, now);
        } else {
            self.phase = Phase::Arming;
            self.deadline = Some(now + limits::SOCKETS_TIMEOUT);
            self.ask_for_sockets(count, false);
        }
    }

    pub(crate) fn on_armed(&mut self, _count: u16, now: Instant) {
        match self.role {
            Role::Initiator => self.send_start(now),
            Role::Responder => self.begin(now),
        }
    }

    fn begin(&mut self, now: Instant) {
        let Some(plan) = self.plan else { return };
        let start = now + plan.delay(self.role, self.rtt);
        let opener = plan.opener && plan.first != self.role;
        let sweep = self.sweep(&plan);
        // In a meeting every other mapping would put the count out.
        let meets = plan.method == Method::Meet;
        let through_nat = |candidate: &Candidate| matches!(candidate.addr.ip(), IpAddr::V4(ip) if is_public(ip.into()));
        let targets = self.remotes.iter().filter(|candidate| !(meets && through_nat(candidate)));
        let targets = targets.map(|candidate| candidate.addr).collect();
        self.schedule = Schedule::new(targets, sweep, opener, start, now);
        self.phase = Phase::Probing;
        let duration = plan.duration(self.rtt, self.is_last());
        // The initiator decides when it is over; the responder only if it hears nothing.
        self.deadline = Some(match self.role {
            Role::Initiator => now + duration,
            Role::Responder => now + duration + limits::COORDINATION_TIMEOUT,
        });
    }

    /// Whether there is nothing to try after this round.
    fn is_last(&self) -> bool {
        self.plan_for(self.round.saturating_add(1)).is_none()
    }

    fn sweep(&mut self, plan: &Plan) -> Option<Sweep> {
        let theirs = self.theirs.as_ref()?;
        let (next, delta) = (theirs.report.next, theirs.report.delta);
        let seen = |candidate: &&Candidate| {
            let kind = matches!(candidate.kind, CandidateKind::Reflexive | CandidateKind::Predicted);
            kind && candidate.addr.is_ipv4() && is_public(candidate.addr.ip())
        };
        let target = self.remotes.iter().find(seen)?.addr;
        let ip = target.ip();
        match plan.method {
            Method::Search { seeker } if seeker == self.role && next != 0 => {
                Some(Sweep::Ahead { ip, next: soonest(target.port(), next, delta), delta, sent: 0 })
            }
            Method::Birthday { seeker, ahead } if seeker == self.role => {
                let count = if ahead { limits::SCATTER_AHEAD } else { limits::SCATTER_PROBES };
                Some(Sweep::scatter(ip, count, &mut self.rng))
            }
            Method::Birthday { .. } => {
                let sockets = self.opened.saturating_add(1).saturating_sub(self.extra);
                (sockets > 0 && self.extra > 0).then_some(Sweep::Spray { to: target, sockets, sent: 0 })
            }
            Method::Meet if next != 0 => {
                let we_are_first = self.role == Role::Initiator;
                let of_main = self.setup.opened.iter().filter(|_| self.own == 0).copied();
                let of_round = self.sent.iter().filter(|route| route.socket == self.own).map(|route| route.remote);
                let used = of_main.chain(of_round).filter(|addr| addr.ip() == ip).map(|addr| addr.port()).collect();
                Some(Sweep::Meet(Meeting { ip, next, delta, we_are_first, made: self.made, used, behind: 0 }))
            }
            _ => None,
        }
    }

    pub(crate) fn on_deadline(&mut self, now: Instant) {
        self.deadline = None;
        match self.phase {
            Phase::Closed => {}
            Phase::Lingering => self.shut(),
            Phase::Gathering => self.on_gathered(now),
            Phase::Arming => {
                self.extra = 0;
                self.on_armed(0, now);
            }
            Phase::Waiting | Phase::Offered => {
                self.say_end(EndCode::Cancelled);
                self.fail(Failure::NoCoordination);
            }
            // The choice ends by itself, one way or the other.
            Phase::Probing if self.chosen.is_some() || self.settle_at.is_some() => {
                self.deadline = Some(now + limits::CHOSEN_INTERVAL * u32::from(limits::CHOSEN_TRIES));
            }
            Phase::Probing => match self.role {
                Role::Responder => self.give_up(),
                Role::Initiator if self.is_last() => self.give_up(),
                Role::Initiator => self.next_round(self.round.saturating_add(1), now),
            },
        }
    }
}

/// From which port on a sequence is searched: the one that follows the last one seen, since not all that was sent in between need have
/// passed the NAT. `next`, if that is not a few steps on.
fn soonest(seen: u16, next: u16, delta: i16) -> u16 {
    let known = (1..=STEPS_BACK).any(|count| step(seen, delta, count) == next);
    if known { step(seen, delta, 1) } else { next }
}

/// How many mappings may have been counted that were not made.
const STEPS_BACK: i64 = 32;
