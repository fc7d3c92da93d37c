//! What comes in: packets, their frames, and what a new address means.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use crypto::record::{OpenError, RekeyError};
use framing::{Frame, Frames, Role, Stream};
use structs::{Datagram, Path, Rejected};
use subtle::ConstantTimeEq;

use crate::Violation;
use crate::cids::RemoteCid;
use crate::event::{Event, Reason};
use crate::limits::{MAX_EVENTS, OVERHEAD, Rank, TICKET_LIFE, TICKETS};
use crate::mux::Received;
use crate::path::{Outcome as PathOutcome, PathState};
use crate::recovery::{Outcome, PathChange, PathStart};
use crate::sent::Sent;
use crate::session::{Context, Session, Silence};
use crate::shared::RouteChange;

/// What a packet was found to hold, beside what was done about it.
#[derive(Debug, Default)]
struct Contents {
    /// It wants an acknowledgement.
    eliciting: bool,
    /// It holds something of an application, or for one.
    used: bool,
    /// It does more than probe a path, so its path is the one that the other side uses.
    moves: bool,
    /// A frame found no room: the packet must not be acknowledged.
    refused: bool,
    /// It ends the session.
    closed: Option<Reason>,
}

/// Why another path is used from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// It is the quicker one of two that work.
    Quicker,
    /// The other side is there now.
    Moved,
    /// The one in use answers nothing.
    Silent,
}

impl Session {
    /// Takes a sealed packet in.
    pub(crate) fn on_data(&mut self, datagram: Datagram<'_>, cx: &mut Context<'_>) -> Result<(), Rejected> {
        let Datagram { path, ecn, payload } = datagram;
        self.notice_sleep(cx);
        let len = payload.len();
        // Opening overwrites the datagram, and a forged one may be a reset.
        let tail: Option<[u8; 16]> = payload.last_chunk().copied();
        let opened = match self.keys.open(payload, cx.now) {
            Ok(opened) => opened,
            Err(OpenError::Replayed { .. }) => return Err(Rejected::Replayed),
            Err(OpenError::Exhausted) => {
                self.end(Reason::KeyLimit, cx);
                return Err(Rejected::Unauthentic);
            }
            Err(_) => {
                if tail.is_some_and(|tail| self.is_reset(&tail)) {
                    self.end(Reason::Reset, cx);
                    return Ok(());
                }
                return Err(Rejected::Unauthentic);
            }
        };
        let (number, payload) = (opened.pn, opened.payload);
        if opened.advanced {
            let patience = self.recovery.pto(self.paths.best().slot) * 3;
            self.keys.keep_old_until(cx.now + patience);
        }
        cx.counters.received += 1;
        cx.counters.bytes_received += len as u64;
        self.highest = self.highest.max(number);
        self.last_heard = cx.now;
        self.awake = true;
        (self.unanswered, self.silence) = (None, Silence::Nothing);
        self.confirm = None;
        if self.ending.is_some() {
            return self.on_data_while_ending(payload, cx);
        }

        let at = self.arrived_over(path, len, cx);
        let contents = self.on_frames(payload, path, cx);
        let contents = match contents {
            Ok(contents) => contents,
            Err(violation) => {
                self.end(Reason::Violation(violation), cx);
                return Err(Rejected::Malformed);
            }
        };
        if contents.used {
            self.last_used = cx.now;
        }
        if !contents.refused {
            self.acks.on_packet(number, contents.eliciting, ecn, cx.now);
        }
        if let Some(reason) = contents.closed {
            self.end(reason, cx);
            return Ok(());
        }
        if let Some(at) = at.filter(|_| contents.moves) {
            self.paths.on_used(at, number);
            // The other side speaks to us over another path than ours to it: follow it once that is proved.
            if number == self.highest && at != self.paths.best_index() {
                self.follow(at, cx);
            }
        }
        Ok(())
    }

    /// Which path a packet came over; a new one if there is room for it.
    fn arrived_over(&mut self, path: Path, len: usize, cx: &mut Context<'_>) -> Option<usize> {
        let at = self.paths.find(&path).or_else(|| self.new_path(path, false, cx))?;
        self.paths.on_received(at, len, cx.now);
        Some(at)
    }

    /// Begins to prove a path. `ours` if we chose it, and not the other side by using it.
    pub(crate) fn new_path(&mut self, path: Path, ours: bool, cx: &mut Context<'_>) -> Option<usize> {
        if !self.paths.has_room() {
            return None;
        }
        let slot = self.paths.free_slot()?;
        // Without a spare id the one in use must do: a NAT that changed a port needs no new one, and nothing else is left.
        let spare = self.remote.take();
        cx.routes.extend(spare.and_then(|spare| spare.token).map(RouteChange::AddToken));
        let cid = spare.unwrap_or(self.paths.best().cid);
        let start = self.path_start(&path, cx.shared);
        self.recovery.add_path(slot, &start, cx.now);
        let data = cx.challenge();
        Some(self.paths.add(path, slot, cid, ours, data, cx.now))
    }

    /// The newest packet came over a path that is not the one in use.
    ///
    /// The dialler chooses, the responder follows: two sides that chose would run after each other for ever. Only when
    /// the path in use has fallen silent does the dialler follow as well.
    fn follow(&mut self, at: usize, cx: &mut Context<'_>) {
        if !self.paths.get(at).is_some_and(PathState::is_full) {
            return;
        }
        if self.role == Role::Responder || self.is_silent(cx.now) {
            self.switch(at, Switch::Moved, cx);
        }
    }

    /// Whether nothing has come over the path in use for longer than an answer takes.
    fn is_silent(&self, now: Instant) -> bool {
        let best = self.paths.best();
        now.saturating_duration_since(best.last_received) > self.recovery.pto(best.slot)
    }

    /// Uses another proved path, and asks the one left behind whether it still works.
    pub(crate) fn switch(&mut self, at: usize, why: Switch, cx: &mut Context<'_>) {
        let old = self.paths.best_index();
        let (left, slot) = (self.paths.best().path, self.paths.best().slot);
        if !self.paths.choose(at) {
            return;
        }
        // A change of the port alone is a NAT at work: the network between is the same, and so is what is known of it.
        let new = self.paths.best().path;
        let rebound = left.link == new.link && left.remote.ip() == new.remote.ip() && left.local == new.local;
        match why {
            Switch::Moved if rebound => self.paths.swap_slots(old, at),
            // What is under way there may never arrive, so it is sent again here; should the path come back, it begins
            // anew.
            Switch::Moved | Switch::Silent => {
                self.drop_slot(slot, cx);
                let start = self.path_start(&left, cx.shared);
                self.recovery.add_path(slot, &start, cx.now);
            }
            Switch::Quicker => {}
        }
        if why == Switch::Silent {
            self.paths.on_left(old);
        }
        let data = cx.challenge();
        self.paths.recheck(old, data, cx.now);
        self.set_keepalive(self.keepalive_base(cx.shared));
        self.paced_until = None;
        let best = self.paths.best();
        cx.mux.set_packet_room(self.recovery.mtu(best.slot).saturating_sub(OVERHEAD));
        cx.events.push_back(Event::PathChanged(best.path));
        // Whether the other side sees us elsewhere now is worth knowing, and so is where we see it.
        self.control.observed = true;
    }

    fn on_frames(&mut self, payload: &[u8], path: Path, cx: &mut Context<'_>) -> Result<Contents, Violation> {
        let mut contents = Contents::default();
        if payload.is_empty() {
            return Err(Violation::FrameEncoding);
        }
        for frame in Frames::new(payload) {
            let frame = frame.map_err(|_malformed| Violation::FrameEncoding)?;
            contents.eliciting |= frame.is_ack_eliciting();
            let (used, moves) = match frame {
                Frame::Padding(_) | Frame::PathChallenge(_) | Frame::PathResponse(_) | Frame::NewCid { .. } => {
                    (false, false)
                }
                Frame::Ack(_) | Frame::Ping => (false, true),
                _ => (true, true),
            };
            contents.used |= used;
            contents.moves |= moves;
            self.on_frame(frame, path, &mut contents, cx)?;
            if contents.closed.is_some() {
                break;
            }
        }
        Ok(contents)
    }

    fn on_frame(
        &mut self,
        frame: Frame<'_>,
        path: Path,
        contents: &mut Contents,
        cx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        match frame {
            Frame::Stream(stream) => match cx.mux.on_stream(&Stream { id: stream.id.mirrored(), ..stream })? {
                Received::Taken => {}
                Received::Refused => contents.refused = true,
            },
            Frame::Ack(ack) => self.on_ack(&ack, cx)?,
            Frame::Datagram { protocol, data } => cx.mux.on_datagram(protocol, data)?,
            Frame::MaxData(max) => cx.mux.on_max_data(max),
            Frame::MaxStreamData { id, max } => cx.mux.on_max_stream_data(id.mirrored(), max)?,
            Frame::MaxStreams(max) => cx.mux.on_max_streams(max),
            Frame::StreamReset { id, code, final_size } => cx.mux.on_reset(id.mirrored(), code, final_size)?,
            Frame::StreamStop { id, code } => cx.mux.on_stop(id.mirrored(), code)?,
            Frame::Goaway { code } => cx.mux.on_goaway(code),
            Frame::Hello(hello) => self.on_hello(&hello, cx)?,
            Frame::Close { code, reason } => {
                contents.closed = Some(Reason::Remote { code: code.0, reason: reason.to_owned() });
            }
            Frame::PathChallenge(data) => self.control.respond(path, data),
            Frame::PathResponse(data) => self.on_path_response(data, cx),
            Frame::NewCid { sequence, retire_prior_to, cid, token } => {
                self.on_new_cid(RemoteCid { sequence, cid, token: Some(token) }, retire_prior_to, cx)?;
            }
            Frame::RetireCid { sequence } => {
                if let Some(cid) = self.local.retire(sequence)? {
                    cx.routes.push_back(RouteChange::RemoveCid(cid));
                    self.issue_cids(cx);
                }
            }
            Frame::Rekey(theirs) => match self.keys.on_rekey(&theirs, cx.rng) {
                Ok(ours) => {
                    self.rekey.on_exchange(ours, &self.keys, cx.now);
                    self.control.rekey = true;
                }
                // Late copies of an exchange that is over.
                Err(RekeyError::Repeated | RekeyError::Pending) => {}
                Err(_) => return Err(Violation::Protocol),
            },
            Frame::RekeyAck(theirs) => match self.keys.on_rekey_ack(&theirs) {
                Ok(()) => self.rekey.on_exchanged(),
                Err(RekeyError::Repeated) => {}
                Err(_) => return Err(Violation::Protocol),
            },
            Frame::Ticket { id, lifetime } => self.on_ticket(id, lifetime, cx),
            // Whoever repeats himself is not heard, and whoever tells endless tales only so far.
            Frame::Observed(addr) if self.observed != Some(addr) && cx.events.len() < MAX_EVENTS => {
                self.observed = Some(addr);
                cx.events.push_back(Event::Observed(addr));
            }
            Frame::Observed(_) => {}
            Frame::Ping | Frame::Padding(_) | Frame::Unknown { .. } => {}
            _ => return Err(Violation::FrameEncoding),
        }
        Ok(())
    }

    fn on_hello(&mut self, hello: &framing::Hello<'_>, cx: &mut Context<'_>) -> Result<(), Violation> {
        if self.greeted {
            return Ok(());
        }
        self.greeted = true;
        cx.mux.on_hello(hello)?;
        if let Some(token) = hello.reset_token()
            && self.remote.set_first_token(token)
        {
            self.paths.set_first_token(token);
            cx.routes.push_back(RouteChange::AddToken(token));
        }
        self.recovery.set_max_ack_delay(hello.limits().ack_delay);
        self.issue_cids(cx);
        Ok(())
    }

    fn on_ticket(&mut self, id: [u8; 16], lifetime: Duration, cx: &mut Context<'_>) {
        // Of a peer that sends more than were agreed on, the rest is not kept.
        if cx.shared.config.tickets && self.tickets_received < TICKETS {
            self.tickets_received += 1;
            let expires = cx.now + lifetime.min(TICKET_LIFE);
            let ticket = self.ticket(id, expires);
            cx.events.push_back(Event::Ticket(ticket));
        }
    }

    fn on_path_response(&mut self, data: [u8; 8], cx: &mut Context<'_>) {
        let next = cx.challenge();
        let PathOutcome::Proved(at) = self.paths.on_response(data, next, cx.now) else { return };
        let Some(proved) = self.paths.get(at) else { return };
        let best = self.paths.best();
        let (slot, rtt, path) = (proved.slot, proved.rtt, proved.path);
        let newer = proved.highest > best.highest;
        let quicker = rtt.zip(self.recovery.rtt(best.slot)).is_some_and(|(new, old)| new + new / 4 < old.smoothed());
        let why = match self.role {
            _ if at == self.paths.best_index() => None,
            Role::Responder => newer.then_some(Switch::Moved),
            Role::Dialler if newer && self.is_silent(cx.now) => Some(Switch::Moved),
            Role::Dialler => match Rank::of(&path).cmp(&Rank::of(&best.path)) {
                Ordering::Greater => Some(Switch::Quicker),
                Ordering::Less => None,
                Ordering::Equal => quicker.then_some(Switch::Quicker),
            },
        };
        if let Some(why) = why {
            let start = PathStart { rtt, ..self.path_start(&path, cx.shared) };
            self.recovery.reset_path(slot, &start, cx.now);
            self.switch(at, why, cx);
        }
    }

    fn on_new_cid(&mut self, new: RemoteCid, retire_prior_to: u64, cx: &mut Context<'_>) -> Result<(), Violation> {
        let offered = self.remote.offer(new, retire_prior_to)?;
        self.control.retire.extend(offered.retire);
        for old in offered.replaced {
            let spare = self.remote.take();
            if let (Some(spare), Some(token)) = (spare, spare.and_then(|spare| spare.token)) {
                cx.routes.push_back(RouteChange::AddToken(token));
                self.paths.replace_cid(old.sequence, spare);
            }
            self.give_back(old.sequence, cx);
        }
        Ok(())
    }

    /// Stops using an id of the other side.
    pub(crate) fn give_back(&mut self, sequence: u64, cx: &mut Context<'_>) {
        if self.paths.iter().any(|state| state.cid.sequence == sequence) {
            return;
        }
        if let Some(old) = self.remote.give_back(sequence) {
            self.control.retire.push(sequence);
            if let Some(token) = old.token {
                cx.routes.push_back(RouteChange::RemoveToken(token));
            }
        }
    }

    /// Gives the other side as many ids as it should have.
    pub(crate) fn issue_cids(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.local.wanted() {
            let cid = cx.rng.array();
            self.control.new_cids.push(self.local.issue(cid));
            cx.routes.push_back(RouteChange::AddCid(cid));
        }
    }

    fn on_ack(&mut self, ack: &framing::Ack<'_>, cx: &mut Context<'_>) -> Result<(), Violation> {
        let mut outcome = self.outcome.take().unwrap_or_default();
        let result = self.recovery.on_ack(ack, cx.now, &mut outcome);
        if let Some(newest) = outcome.newest {
            self.keys.on_ack(newest);
        }
        self.apply(&mut outcome, cx);
        self.outcome = Some(outcome);
        result
    }

    /// Hands the fates of frames to those who sent them.
    pub(crate) fn apply(&mut self, outcome: &mut Outcome, cx: &mut Context<'_>) {
        for frame in outcome.acked.drain(..) {
            match frame {
                Sent::Stream { .. }
                | Sent::MaxData
                | Sent::MaxStreamData(_)
                | Sent::MaxStreams
                | Sent::StreamReset(_)
                | Sent::StreamStop(_)
                | Sent::Datagram(_) => cx.mux.on_acked(&frame),
                Sent::Ack { largest } => self.acks.on_ack_of_ack(largest),
                Sent::RekeyAck => {
                    self.keys.on_rekey_ack_acknowledged();
                    self.rekey.on_exchanged();
                }
                Sent::Ping => self.on_ping_acknowledged(cx),
                Sent::Close => self.on_close_acknowledged(),
                _ => {}
            }
        }
        for frame in outcome.lost.drain(..) {
            match frame {
                Sent::Hello => self.control.hello = true,
                Sent::Rekey | Sent::RekeyAck => self.control.rekey = self.rekey.pending().is_some(),
                Sent::NewCid(sequence) => self.control.new_cids.push(sequence),
                Sent::RetireCid(sequence) => self.control.retire.push(sequence),
                Sent::Ticket(n) => self.control.tickets |= 1 << n,
                Sent::Goaway => self.control.goaway = true,
                Sent::Observed => self.control.observed = true,
                Sent::Ack { .. } | Sent::Ping | Sent::Close => {}
                _ => cx.mux.on_lost(&frame),
            }
        }
        let best = self.paths.best().slot;
        if outcome.paths.iter().any(|change| matches!(change, PathChange::Mtu(..) | PathChange::BlackHole(_))) {
            cx.mux.set_packet_room(self.recovery.mtu(best).saturating_sub(OVERHEAD));
        }
        if let Some(rtt) = self.recovery.rtt(best).filter(|rtt| rtt.is_sampled()) {
            cx.mux.set_rtt(rtt.smoothed());
            self.acks.set_min_rtt(rtt.min());
        }
        outcome.clear();
    }

    fn is_reset(&self, tail: &[u8; 16]) -> bool {
        // All are compared, so that the time says nothing of which one it was.
        self.remote.tokens().fold(false, |found, token| found | bool::from(token.ct_eq(tail)))
    }

    /// Our CLOSE may have been lost, or theirs crossed it.
    fn on_data_while_ending(&mut self, payload: &[u8], cx: &mut Context<'_>) -> Result<(), Rejected> {
        for frame in Frames::new(payload) {
            match frame {
                Ok(Frame::Ack(ack)) => drop(self.on_ack(&ack, cx)),
                Ok(Frame::Close { .. }) => self.on_close_acknowledged(),
                Ok(_) => {}
                Err(_) => return Err(Rejected::Malformed),
            }
        }
        Ok(())
    }
}
