//! What goes out: which packet is next, what is in it, and how it is sealed.
//!
//! Packets are built where they leave from: frames are written into the batch, sealed in place, and never copied.
//! Nothing is taken from a queue before there is a packet for it that may leave now.

use framing::{CloseCode, DataHeader, Frame, Hello, PacketWriter, Role};
use structs::{Ecn, Path, Transmit, TransmitBuf};

use crate::event::{Event, Reason};
use crate::limits::{CHALLENGE_PATIENCE, HEADER, MIN_DATAGRAM, MIN_RESETTABLE, OVERHEAD, REST_AFTER, TAG, TICKET_LIFE};
use crate::recovery::{Budget, PathSlot, SentPacket};
use crate::sent::{Sent, SentFrames};
use crate::session::{Context, Session};

/// What a packet may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Acknowledgements only: the window is full.
    Acks,
    /// Whatever waits; a PING if nothing does and `probe` is set.
    All { probe: bool },
}

impl Session {
    /// The next batch.
    pub(crate) fn poll_transmit(&mut self, out: &mut TransmitBuf, cx: &mut Context<'_>) -> Option<Transmit> {
        if self.ending.is_some() {
            return self.last_words(out, cx);
        }
        if let Some(confirm) = &mut self.confirm
            && confirm.next_at <= cx.now
            && out.push(&confirm.message)
        {
            confirm.on_sent(cx.now);
            return self.finish(out, self.paths.best().path, Ecn::NotEct, cx);
        }
        if let Some(transmit) = self.path_frames(out, cx) {
            return Some(transmit);
        }
        self.take_next_key(cx);
        if let Some(transmit) = self.packets(out, cx) {
            return Some(transmit);
        }
        let probe = self.mtu_probe(out, cx);
        if probe.is_none() {
            self.rest_if_quiet(REST_AFTER, cx);
        }
        probe
    }

    /// Packets for the path in use.
    fn packets(&mut self, out: &mut TransmitBuf, cx: &mut Context<'_>) -> Option<Transmit> {
        let best = self.paths.best();
        let (path, slot) = (best.path, best.slot);
        let mtu = self.recovery.mtu(slot);
        let budget = self.recovery.may_send(slot, cx.now);
        let mut probes = self.recovery.probes_due(slot);
        let ecn = self.recovery.ecn(slot);
        self.paced_until = None;
        let mut left = match budget {
            Budget::Bytes(bytes) => bytes,
            Budget::Wait(until) => {
                self.paced_until = Some(until);
                0
            }
            Budget::Full => 0,
        };
        loop {
            let wanted = self.control.has_output() || cx.mux.has_output(cx.now);
            let fill = if probes > 0 {
                Fill::All { probe: true }
            } else if wanted && left > 0 {
                Fill::All { probe: false }
            } else if self.acks.has_pending(cx.now) {
                Fill::Acks
            } else {
                break;
            };
            // A batch is for one size: what would be cut by it waits for the next. Datagrams are not cut.
            let limit = out.limit();
            if limit < mtu && !(limit > OVERHEAD && cx.mux.has_only_datagrams(limit - OVERHEAD)) {
                break;
            }
            let Some(size) = self.packet(out, mtu, slot, ecn, fill, cx) else { break };
            if size >= mtu {
                self.search_from = None;
            }
            if fill != Fill::Acks {
                left = left.saturating_sub(size);
                probes = probes.saturating_sub(1);
            }
        }
        if left > 0 && !cx.mux.has_output(cx.now) {
            self.recovery.set_app_limited(slot);
        }
        self.paced_until = self.paced_until.filter(|_| self.control.has_output() || cx.mux.has_output(cx.now));
        self.finish(out, path, ecn, cx)
    }

    /// Builds one packet. Returns its size, or nothing if there was nothing to put into it.
    fn packet(
        &mut self,
        out: &mut TransmitBuf,
        mtu: usize,
        slot: PathSlot,
        ecn: Ecn,
        fill: Fill,
        cx: &mut Context<'_>,
    ) -> Option<usize> {
        let number = self.recovery.next_pn(cx.rng, cx.now);
        let cid = self.paths.best().cid.cid;
        let space = out.space(mtu)?;
        let (header, body) = space.split_at_mut_checked(HEADER)?;
        let room = body.len().checked_sub(TAG)?;
        let mut writer = PacketWriter::new(body.get_mut(..room)?);
        let mut frames = SentFrames::new();
        if let Some(sent) = self.acks.write(&mut writer, cx.now) {
            frames.push(sent);
        }
        let acks = frames.len();
        // Whoever only receives learns nothing of its acknowledgements, unless it asks for one now and then.
        if fill == Fill::Acks && self.recovery.wants_ping() && Frame::Ping.encode(&mut writer) {
            frames.push(Sent::Ping);
        }
        if let Fill::All { probe } = fill {
            self.write_control(&mut writer, &mut frames, cx);
            cx.mux.fill(&mut writer, &mut frames, cx.now);
            if probe && frames.len() == acks && Frame::Ping.encode(&mut writer) {
                frames.push(Sent::Ping);
            }
            // Equal sizes make a batch: a few bytes too few for another frame must not end it.
            let left = writer.remaining();
            if left > 0 && left < 64 && cx.mux.has_output(cx.now) {
                let _ = Frame::Padding(left).encode(&mut writer);
            }
        }
        if frames.len() > acks {
            pad_to(&mut writer, MIN_RESETTABLE - OVERHEAD);
        }
        let len = writer.len();
        if len == 0 {
            return None;
        }
        let size = HEADER + len + TAG;
        header.copy_from_slice(&DataHeader { phase: 0, cid, number: number as u32 }.encode());
        let sealed = self.keys.seal(space.get_mut(..size)?, number);
        if sealed.is_err() {
            self.end(Reason::KeyLimit, cx);
            return None;
        }
        out.commit(size);
        let eliciting = frames.len() > acks;
        let packet = SentPacket {
            pn: number,
            path: slot,
            size: size as u32,
            ack_eliciting: eliciting,
            mtu_probe: false,
            marked: ecn != Ecn::NotEct,
            frames,
        };
        self.on_sent(packet, cx);
        Some(size)
    }

    fn on_sent(&mut self, packet: SentPacket, cx: &mut Context<'_>) {
        self.awake = true;
        if packet.ack_eliciting {
            self.unanswered.get_or_insert(cx.now);
            self.last_sent = cx.now;
            if packet.frames.iter().any(|frame| !matches!(frame, Sent::Ping | Sent::Ack { .. } | Sent::NewCid(_))) {
                self.last_used = cx.now;
            }
        }
        self.recovery.on_sent(packet, cx.now);
    }

    fn write_control(&mut self, writer: &mut PacketWriter<'_>, frames: &mut SentFrames, cx: &mut Context<'_>) {
        if !self.control.has_output() {
            return;
        }
        if self.control.hello
            && let Some(body) = self.hello_body(cx)
            && let Ok(hello) = Hello::parse(&body)
            && Frame::Hello(hello).encode(writer)
        {
            self.control.hello = false;
            frames.push(Sent::Hello);
        }
        if self.control.rekey {
            let frame = self.rekey.pending().map(|key| match self.role {
                Role::Dialler => (Frame::Rekey(key), Sent::Rekey),
                Role::Responder => (Frame::RekeyAck(key), Sent::RekeyAck),
            });
            match frame {
                Some((frame, sent)) => {
                    if frame.encode(writer) {
                        self.control.rekey = false;
                        frames.push(sent);
                    }
                }
                None => self.control.rekey = false,
            }
        }
        while let Some(&sequence) = self.control.retire.last() {
            if !(Frame::RetireCid { sequence }).encode(writer) {
                break;
            }
            self.control.retire.pop();
            frames.push(Sent::RetireCid(sequence));
        }
        while let Some(&sequence) = self.control.new_cids.last() {
            // One that was retired meanwhile need not be told of.
            if let Some(cid) = self.local.get(sequence) {
                let token = cx.shared.reset_token(&cid);
                if !(Frame::NewCid { sequence, retire_prior_to: 0, cid, token }).encode(writer) {
                    break;
                }
                frames.push(Sent::NewCid(sequence));
            }
            self.control.new_cids.pop();
        }
        while self.control.tickets != 0 {
            let n = self.control.tickets.trailing_zeros() as u8;
            let ticket = self.ticket_id(n, cx);
            if !(Frame::Ticket { id: ticket, lifetime: TICKET_LIFE }).encode(writer) {
                break;
            }
            self.control.tickets &= !(1 << n);
            frames.push(Sent::Ticket(n));
        }
        if self.control.observed && Frame::Observed(self.paths.best().path.remote).encode(writer) {
            self.control.observed = false;
            frames.push(Sent::Observed);
        }
        if self.control.goaway && (Frame::Goaway { code: CloseCode::SHUTDOWN }).encode(writer) {
            self.control.goaway = false;
            frames.push(Sent::Goaway);
        }
        if self.control.ping && Frame::Ping.encode(writer) {
            self.control.ping = false;
            frames.push(Sent::Ping);
        }
    }

    fn hello_body(&self, cx: &Context<'_>) -> Option<Vec<u8>> {
        let token = self.local.get(0).map(|cid| cx.shared.reset_token(&cid));
        let agent = Some(cx.shared.config.agent.as_str()).filter(|agent| !agent.is_empty());
        let mut limits = cx.mux.announced();
        limits.ack_delay = crate::rtt::MAX_ACK_DELAY;
        // The configuration was checked when it was made, so that this cannot fail.
        Hello::compose(cx.mux.protocols().entries(), token, agent, &limits).ok()
    }

    /// The id of the ticket number `n` of ours. Its owner hears of it once.
    fn ticket_id(&mut self, n: u8, cx: &mut Context<'_>) -> [u8; 16] {
        let slot = usize::from(n);
        if let Some(Some(id)) = self.tickets_issued.get(slot) {
            return *id;
        }
        let id = cx.rng.array();
        if let Some(place) = self.tickets_issued.get_mut(slot) {
            *place = Some(id);
        }
        let ticket = self.ticket(id, cx.now + TICKET_LIFE);
        cx.events.push_back(Event::Issued(ticket));
        id
    }

    /// Answers to challenges, and our own: each on its path.
    fn path_frames(&mut self, out: &mut TransmitBuf, cx: &mut Context<'_>) -> Option<Transmit> {
        while let Some((path, data)) = self.control.responses.pop() {
            let Some(at) = self.paths.find(&path) else { continue };
            let Some(state) = self.paths.get(at) else { continue };
            let len = OVERHEAD + 9;
            // To an address that proved nothing the answer is no longer than the question, and counts.
            if state.allowance() < len as u64 {
                continue;
            }
            return self.path_packet(out, at, Frame::PathResponse(data), 0, cx);
        }
        let probe = self.paths.due(cx.now)?;
        let slot = self.paths.get(probe.at)?.slot;
        let patience = self.recovery.pto(slot).max(self.recovery.pto(self.paths.best().slot)) * 3 / 2;
        let patience = patience.min(CHALLENGE_PATIENCE);
        self.paths.on_challenge_sent(probe.at, patience, cx.now);
        let pad = if probe.padded { MIN_DATAGRAM } else { 0 };
        self.path_packet(out, probe.at, Frame::PathChallenge(probe.data), pad, cx)
    }

    /// One packet with one frame on a path of its own. Its frame is not repeated: a challenge has its own clock.
    fn path_packet(
        &mut self,
        out: &mut TransmitBuf,
        at: usize,
        frame: Frame<'_>,
        pad: usize,
        cx: &mut Context<'_>,
    ) -> Option<Transmit> {
        let state = self.paths.get(at)?;
        let path = state.path;
        let size = self.single(out, at, frame, pad, false, cx)?;
        if let Some(state) = self.paths.get_mut(at) {
            state.on_sent(size);
        }
        self.finish(out, path, Ecn::NotEct, cx)
    }

    fn mtu_probe(&mut self, out: &mut TransmitBuf, cx: &mut Context<'_>) -> Option<Transmit> {
        if self.search_from.is_some_and(|from| cx.now < from) {
            return None;
        }
        let best = self.paths.best();
        let (path, slot) = (best.path, best.slot);
        let size = self.recovery.mtu_probe(slot, cx.now)?;
        self.single(out, self.paths.best_index(), Frame::Ping, size, true, cx)?;
        self.finish(out, path, Ecn::NotEct, cx)
    }

    /// A packet with one frame on the path at this place, padded to `pad` bytes.
    fn single(
        &mut self,
        out: &mut TransmitBuf,
        at: usize,
        frame: Frame<'_>,
        pad: usize,
        probe: bool,
        cx: &mut Context<'_>,
    ) -> Option<usize> {
        let state = self.paths.get(at)?;
        let (slot, cid) = (state.slot, state.cid.cid);
        let number = self.recovery.next_pn(cx.rng, cx.now);
        let space = out.space(pad.max(OVERHEAD + frame.encoded_len()))?;
        let (header, body) = space.split_at_mut_checked(HEADER)?;
        let room = body.len().checked_sub(TAG)?;
        let mut writer = PacketWriter::new(body.get_mut(..room)?);
        if !frame.encode(&mut writer) {
            return None;
        }
        let left = (pad.saturating_sub(OVERHEAD)).saturating_sub(writer.len());
        if left > 0 && !Frame::Padding(left).encode(&mut writer) {
            return None;
        }
        let size = HEADER + writer.len() + TAG;
        header.copy_from_slice(&DataHeader { phase: 0, cid, number: number as u32 }.encode());
        if self.keys.seal(space.get_mut(..size)?, number).is_err() {
            self.end(Reason::KeyLimit, cx);
            return None;
        }
        out.commit(size);
        self.awake = true;
        let frames = SentFrames::new();
        // A challenge that gets lost says nothing about congestion, and its own clock repeats it.
        self.recovery.on_sent(
            SentPacket {
                pn: number,
                path: slot,
                size: size as u32,
                ack_eliciting: probe,
                mtu_probe: probe,
                marked: false,
                frames,
            },
            cx.now,
        );
        Some(size)
    }

    /// Our CLOSE, or the acknowledgement of theirs.
    fn last_words(&mut self, out: &mut TransmitBuf, cx: &mut Context<'_>) -> Option<Transmit> {
        let ending = self.ending.as_mut()?;
        if ending.done || ending.next_at > cx.now {
            return None;
        }
        ending.next_at = cx.now + ending.interval;
        ending.interval *= 2;
        let number = self.recovery.next_pn(cx.rng, cx.now);
        let best = self.paths.best();
        let (path, slot, cid) = (best.path, best.slot, best.cid.cid);
        let space = out.space(MIN_DATAGRAM)?;
        let (header, body) = space.split_at_mut_checked(HEADER)?;
        let room = body.len().checked_sub(TAG)?;
        let mut writer = PacketWriter::new(body.get_mut(..room)?);
        let mut frames = SentFrames::new();
        let owes_answer = std::mem::take(&mut ending.owes_answer);
        match &ending.close {
            Some((code, reason)) => {
                if !(Frame::Close { code: CloseCode(*code), reason }).encode(&mut writer) {
                    return None;
                }
                frames.push(Sent::Close);
            }
            None => ending.done = true,
        }
        if owes_answer {
            self.acks.demand();
        }
        if let Some(sent) = self.acks.write(&mut writer, cx.now) {
            frames.push(sent);
        }
        if writer.is_empty() {
            return None;
        }
        let size = HEADER + writer.len() + TAG;
        header.copy_from_slice(&DataHeader { phase: 0, cid, number: number as u32 }.encode());
        if self.keys.seal(space.get_mut(..size)?, number).is_err() {
            ending.done = true;
            return None;
        }
        out.commit(size);
        self.recovery.on_sent(
            SentPacket {
                pn: number,
                path: slot,
                size: size as u32,
                ack_eliciting: false,
                mtu_probe: false,
                marked: false,
                frames,
            },
            cx.now,
        );
        self.finish(out, path, Ecn::NotEct, cx)
    }

    fn finish(&mut self, out: &TransmitBuf, path: Path, ecn: Ecn, cx: &mut Context<'_>) -> Option<Transmit> {
        let transmit = out.finish(path, ecn)?;
        cx.counters.sent += transmit.len.div_ceil(transmit.segment_size.max(1)) as u64;
        cx.counters.bytes_sent += transmit.len as u64;
        Some(transmit)
    }

    /// The next record key of ours, and the question for fresh ephemeral keys, when they are due and there is
    /// something to seal.
    fn take_next_key(&mut self, cx: &mut Context<'_>) {
        let config = &cx.shared.config;
        self.rekey.update(&mut self.keys, config, cx.now);
        if self.role == Role::Dialler
            && self.rekey.wants_exchange(&self.keys, config, cx.now)
            && cx.mux.has_output(cx.now)
            && let Ok(ours) = self.keys.start_rekey(cx.rng)
        {
            self.rekey.on_exchange(ours, &self.keys, cx.now);
            self.control.rekey = true;
        }
    }
}

/// Adds padding up to `len` bytes of frames, as far as there is room.
fn pad_to(writer: &mut PacketWriter<'_>, len: usize) {
    let missing = len.saturating_sub(writer.len()).min(writer.remaining());
    if missing > 0 {
        let fits = Frame::Padding(missing).encode(writer);
        debug_assert!(fits, "no more than the room");
    }
}
