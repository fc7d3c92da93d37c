//! Loss recovery, and the fate of every packet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use framing::{Ack, EcnCounts, Frame, Frames, PacketWriter, Role, StreamId};
use structs::Ecn;

use crate::congestion::Algorithm;
use crate::recovery::{Budget, MAX_PATHS, Outcome, PathChange, PathSlot, PathStart, Recovery, SentPacket};
use crate::sent::{Sent, SentFrames};

/// So many packets back, recovery may forget one for want of room.
const REMEMBERED: u64 = 8192 - 256;

/// What the records of as many packets take, with the state of all paths, in bytes.
const MAX_HEAP: usize = 2 << 20;

/// A packet counts as lost when so many that left later on its path were acknowledged, or after this time.
const OVERTAKEN: u64 = 3;
const OVERDUE: Duration = Duration::from_millis(1);

/// What is known about a path when it comes into use.
#[derive(Debug, Clone, Copy)]
pub struct PathSettings {
    /// Bytes of a datagram that is known to pass, and of the largest to be tried.
    pub mtu: (usize, usize),
    /// The path does not leave the machine.
    pub loopback: bool,
    /// The round trip of the handshake.
    pub rtt: Option<Duration>,
    /// Whether packets are marked.
    pub ecn: bool,
}

/// What an acknowledgement says of marks.
#[derive(Debug, Clone, Copy)]
pub enum Marks {
    /// Nothing.
    Silent,
    /// That all marks of all acknowledged packets arrived as they left.
    Honest,
    /// These counts.
    Claimed(u64, u64, u64),
}

/// The packets of a session on their way, under an owner who notes what became of each.
///
/// Whatever is acknowledged, by whom, when, and over which path: each frame has one fate, and a packet that must be
/// acknowledged has one as soon as it is; nothing is lost without a reason; what is in flight on a path is what the model
/// says; a timer runs while anything is, and makes progress; memory is bounded.
#[derive(Debug)]
pub struct Packets {
    recovery: Recovery,
    rng: Rng,
    now: Instant,
    out: Outcome,
    paths: [Option<PathModel>; MAX_PATHS],
    /// How many paths there ever were, counting those that were reset twice.
    lives: u32,
    /// What has a frame whose fate is open.
    open: BTreeMap<u64, Packet>,
    /// What no acknowledgement covered, with the place on its path.
    uncovered: BTreeMap<u64, Packet>,
    skipped: BTreeSet<u64>,
    next: u64,
    marked_acked: u64,
    /// The peer broke the protocol: nothing is asked of recovery any more.
    over: bool,
}

#[derive(Debug, Clone, Copy)]
struct PathModel {
    /// Since when the slot was in use, and since when it leads where it does.
    life: u32,
    epoch: u32,
    max_mtu: usize,
    in_flight: u64,
    next_seq: u64,
    largest_acked: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    slot: u8,
    /// Those of the path when it left; zero if there was none.
    life: u32,
    epoch: u32,
    seq: u64,
    size: u32,
    eliciting: bool,
    marked: bool,
    sent_at: Instant,
    /// Whether the fate of the part that is repeated, and that of the packet, are open.
    data: bool,
    whole: bool,
}

impl Packets {
    /// No packet, no path, at a moment that stands for any.
    #[must_use]
    pub fn new(algorithm: Algorithm, now: Instant) -> Self {
        Self {
            recovery: Recovery::new(algorithm),
            rng: Seed::fixed(1).rng(),
            now,
            out: Outcome::default(),
            paths: [None; MAX_PATHS],
            lives: 0,
            open: BTreeMap::new(),
            uncovered: BTreeMap::new(),
            skipped: BTreeSet::new(),
            next: 0,
            marked_acked: 0,
            over: false,
        }
    }

    /// How many packet numbers were used.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.next
    }

    /// Whether the peer broke the protocol.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Time passes, and no timer is looked at.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    /// The machine slept: what left before is not held against the time.
    pub fn resume(&mut self) {
        self.recovery.on_resume(self.now);
        self.check(false);
    }

    /// Sets how long the peer may hold back an acknowledgement.
    pub fn set_max_ack_delay(&mut self, delay: Duration) {
        self.recovery.set_max_ack_delay(delay);
    }

    /// Begins to use a slot, or says that it leads elsewhere.
    pub fn add_path(&mut self, slot: u8, settings: PathSettings) {
        let slot = slot % MAX_PATHS as u8;
        self.recovery.add_path(PathSlot(slot), &start(settings), self.now);
        self.lives += 2;
        let (life, max_mtu) = (self.lives, settings.mtu.1.clamp(1200, 65_507));
        if let Some(path) = self.paths.get_mut(usize::from(slot)) {
            let fresh = PathModel { life, epoch: life, max_mtu, in_flight: 0, next_seq: 0, largest_acked: None };
            *path = Some(path.map_or(fresh, |path| PathModel { epoch: life, max_mtu, in_flight: 0, ..path }));
        }
        self.check(false);
    }

    /// The slot leads elsewhere, if it is in use.
    pub fn reset_path(&mut self, slot: u8, settings: PathSettings) {
        let slot = slot % MAX_PATHS as u8;
        if self.path(slot).is_some() {
            self.recovery.reset_path(PathSlot(slot), &start(settings), self.now);
            self.lives += 2;
            let (epoch, max_mtu) = (self.lives, settings.mtu.1.clamp(1200, 65_507));
            if let Some(Some(path)) = self.paths.get_mut(usize::from(slot)) {
                *path = PathModel { epoch, max_mtu, in_flight: 0, ..*path };
            }
        }
        self.check(false);
    }

    /// Gives a slot up.
    pub fn remove_path(&mut self, slot: u8) {
        let slot = slot % MAX_PATHS as u8;
        self.out.clear();
        self.recovery.remove_path(PathSlot(slot), &mut self.out);
        if let Some(path) = self.paths.get_mut(usize::from(slot)) {
            *path = None;
        }
        self.settle(&[]);
        let left = self.open.values().find(|packet| packet.slot == slot && packet.eliciting);
        assert!(left.is_none(), "{left:?} is on its way where there is no path");
        self.check(true);
    }

    /// Sends packets of at most `size` bytes on a slot, whatever the window says: such as only acknowledge, or data.
    pub fn send(&mut self, slot: u8, count: u16, size: usize, eliciting: bool) {
        let slot = slot % MAX_PATHS as u8;
        let size = size.clamp(1, self.recovery.mtu(PathSlot(slot)));
        (0..count).for_each(|_| self.leave(slot, size, eliciting, false));
        self.check(false);
    }

    /// Sends data on a slot while the window allows it, at most `count` packets.
    pub fn fill(&mut self, slot: u8, count: u16) {
        let slot = PathSlot(slot % MAX_PATHS as u8);
        for _ in 0..count {
            let mtu = self.recovery.mtu(slot);
            match self.recovery.may_send(slot, self.now) {
                Budget::Bytes(bytes) => {
                    assert!(bytes >= mtu, "{bytes} bytes are no datagram");
                    self.leave(slot.0, mtu, true, false);
                }
                Budget::Wait(until) => {
                    assert!(until > self.now, "there is nothing to wait for");
                    break;
                }
                Budget::Full => {
                    let waits = self.open.values().any(|packet| packet.slot == slot.0 && packet.eliciting);
                    assert!(waits || self.path(slot.0).is_none(), "the window is full of nothing");
                    self.recovery.set_app_limited(slot);
                    break;
                }
            }
        }
        self.check(false);
    }

    /// Tries for larger datagrams, if that is due.
    pub fn probe_mtu(&mut self, slot: u8) {
        let slot = PathSlot(slot % MAX_PATHS as u8);
        if let Some(size) = self.recovery.mtu_probe(slot, self.now) {
            let max = self.path(slot.0).map_or(0, |path| path.max_mtu);
            assert!((self.recovery.mtu(slot) + 1..=max).contains(&size), "{size} bytes are worth no probe");
            self.leave(slot.0, size, true, true);
            let again = self.recovery.mtu_probe(slot, self.now);
            assert!(again.is_none(), "one probe at a time, but {again:?} is due");
        }
        self.check(false);
    }

    fn leave(&mut self, slot: u8, size: usize, eliciting: bool, mtu_probe: bool) {
        let pn = self.recovery.next_pn(&mut self.rng, self.now);
        assert_eq!(pn, self.recovery.next_pn(&mut self.rng, self.now), "a number is for one packet");
        self.skipped.extend(self.next..pn);
        assert!(pn >= self.next && pn <= self.next + 1, "{pn} comes behind {}", self.next);
        self.next = pn + 1;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        // What the packet was is told by two frames: one that is worth repeating, and one that is not.
        let data = eliciting && !mtu_probe;
        let tag = Sent::Datagram(u32::try_from(pn).unwrap_or(u32::MAX));
        let stream = Sent::Stream { id: StreamId::new(0, Role::Dialler), offset: pn, len: 1, slot: 0, fin: false };
        let frames: SentFrames = data.then_some(stream).into_iter().chain([tag]).collect();
        let marked = self.recovery.ecn(PathSlot(slot)) != Ecn::NotEct;
        let now = self.now;
        let mut packet =
            Packet { slot, life: 0, epoch: 0, seq: 0, size, eliciting, marked, sent_at: now, data, whole: true };
        if let Some(Some(path)) = self.paths.get_mut(usize::from(slot)) {
            (packet.life, packet.epoch, packet.seq) = (path.life, path.epoch, path.next_seq);
            path.next_seq += 1;
            path.in_flight += if eliciting { u64::from(size) } else { 0 };
        }
        self.open.insert(pn, packet);
        self.uncovered.insert(pn, packet);
        let slot = PathSlot(slot);
        self.recovery
            .on_sent(SentPacket { pn, path: slot, size, ack_eliciting: eliciting, mtu_probe, marked, frames }, now);
    }

    /// Acknowledges ranges of numbers, each given by how far below the end (or the range above) it begins, and its length.
    /// An honest acknowledgement leaves out what was never sent.
    pub fn acknowledge(&mut self, ranges: &[(u64, u64)], honest: bool, delay: Duration, marks: Marks) {
        let mut numbers: Vec<RangeInclusive<u64>> = Vec::new();
        let mut below = if honest { self.next } else { self.next + 2 };
        for &(back, len) in ranges {
            let Some(high) = below.checked_sub(1 + back) else { break };
            let low = high.saturating_sub(len);
            below = low.saturating_sub(1);
            if honest {
                self.without_skipped(low..=high, &mut numbers);
            } else {
                numbers.push(low..=high);
            }
        }
        self.acknowledge_numbers(&numbers, delay, marks);
    }

    /// The numbers of a range that were used, from above.
    fn without_skipped(&self, range: RangeInclusive<u64>, numbers: &mut Vec<RangeInclusive<u64>>) {
        let (low, mut high) = range.into_inner();
        for &skipped in self.skipped.range(low..=high).rev() {
            if skipped < high {
                numbers.push(skipped + 1..=high);
            }
            let Some(next) = skipped.checked_sub(1) else { return };
            high = next;
        }
        if low <= high {
            numbers.push(low..=high);
        }
    }

    fn acknowledge_numbers(&mut self, numbers: &[RangeInclusive<u64>], delay: Duration, marks: Marks) {
        let ecn = match marks {
            Marks::Silent => None,
            Marks::Claimed(ect0, ect1, ce) => Some(EcnCounts { ect0, ect1, ce }),
            Marks::Honest => {
                let newly = numbers.iter().take(32).flat_map(|range| self.uncovered.range(range.clone()));
                let newly = newly.filter(|(_, packet)| packet.marked).count() as u64;
                Some(EcnCounts { ect0: self.marked_acked + newly, ect1: 0, ce: 0 })
            }
        };
        let mut bytes = [0; 2048];
        let mut writer = PacketWriter::new(&mut bytes);
        if writer.ack(numbers.iter().take(32).cloned(), delay, ecn) {
            let written = writer.written().to_vec();
            self.receive(&written);
        }
    }

    /// Takes in every ACK frame among bytes that the peer sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        for frame in Frames::new(bytes) {
            match frame {
                Ok(Frame::Ack(ack)) => self.on_ack(&ack),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }

    fn on_ack(&mut self, ack: &Ack<'_>) {
        if self.over {
            return;
        }
        let ranges: Vec<RangeInclusive<u64>> = ack.ranges().collect();
        self.out.clear();
        let result = self.recovery.on_ack(ack, self.now, &mut self.out);
        let skipped = ranges.iter().any(|range| self.skipped.range(range.clone()).next().is_some());
        if result.is_err() {
            assert!(skipped || ack.largest() >= self.next, "{ranges:?} were sent, all of them");
            self.over = true;
            return;
        }
        assert!(ack.largest() < self.next, "{} was never sent", ack.largest());
        let mut covered = Vec::new();
        for range in &ranges {
            covered.extend(self.uncovered.range(range.clone()).map(|(pn, packet)| (*pn, *packet)));
        }
        for (pn, packet) in &covered {
            self.uncovered.remove(pn);
            self.marked_acked += u64::from(packet.marked);
            if let Some(Some(path)) = self.paths.get_mut(usize::from(packet.slot))
                && path.life == packet.life
            {
                path.largest_acked = path.largest_acked.max(Some(packet.seq));
            }
        }
        self.settle(&ranges);
        for (pn, packet) in covered {
            let told = !packet.eliciting || !self.open.contains_key(&pn);
            assert!(told, "packet {pn} was acknowledged, and is still on its way");
        }
        self.check(true);
    }

    /// What a timer demands, if one is due; otherwise it must do nothing.
    pub fn timeout(&mut self) {
        if self.over {
            return;
        }
        let due = self.recovery.deadline().is_some_and(|deadline| deadline.at <= self.now);
        let before = self.recovery.counts();
        self.out.clear();
        self.recovery.on_timeout(self.now, &mut self.out);
        assert!(due || before == self.recovery.counts(), "a timer that was not due");
        self.settle(&[]);
        let next = self.recovery.deadline();
        assert!(next.is_none_or(|deadline| deadline.at > self.now), "{next:?} is no progress");
        self.check(true);
    }

    /// Time passes until the next timer, which is served; its probes leave. Says whether there was one.
    pub fn wait(&mut self) -> bool {
        let Some(deadline) = self.recovery.deadline().filter(|_| !self.over) else { return false };
        self.now = self.now.max(deadline.at);
        self.timeout();
        for slot in 0..MAX_PATHS as u8 {
            let probes = self.recovery.probes_due(PathSlot(slot));
            self.send(slot, u16::from(probes), 43, true);
            assert_eq!(self.recovery.probes_due(PathSlot(slot)), 0, "they have left");
        }
        true
    }

    /// Applies what was told: each frame once.
    fn settle(&mut self, acknowledged: &[RangeInclusive<u64>]) {
        let (acked, lost) = (std::mem::take(&mut self.out.acked), std::mem::take(&mut self.out.lost));
        assert!(self.out.newest.is_none() || !acknowledged.is_empty());
        for (frames, arrived) in [(&acked, true), (&lost, false)] {
            for frame in frames {
                let (pn, whole) = match frame {
                    Sent::Stream { offset, .. } => (*offset, false),
                    Sent::Datagram(pn) => (u64::from(*pn), true),
                    _ => continue,
                };
                let covered = acknowledged.iter().any(|range| range.contains(&pn));
                let packet = self.open.get(&pn).copied();
                let told = packet.is_none_or(|packet| if whole { !packet.whole } else { !packet.data });
                assert!(!told, "the fate of {frame:?} is told twice");
                assert!(!arrived || covered, "{frame:?} was not acknowledged");
                if let Some(packet) = packet {
                    assert!(arrived || !whole || self.may_lose(pn, &packet), "{pn} was lost for no reason: {packet:?}");
                    self.tell(pn, packet, whole);
                }
            }
        }
        for change in &self.out.paths {
            let (PathChange::Mtu(slot, _) | PathChange::BlackHole(slot) | PathChange::PersistentCongestion(slot)) =
                change;
            let path = self.path(slot.0);
            assert!(path.is_some(), "{change:?} of no path");
            if let (PathChange::Mtu(_, mtu), Some(path)) = (change, path) {
                assert!((1200..=path.max_mtu).contains(mtu), "{change:?}, {} at most", path.max_mtu);
            }
        }
        (self.out.acked, self.out.lost) = (acked, lost);
    }

    fn tell(&mut self, pn: u64, mut packet: Packet, whole: bool) {
        if whole {
            packet.whole = false;
            if let Some(Some(path)) = self.paths.get_mut(usize::from(packet.slot))
                && packet.eliciting
                && (path.life, path.epoch) == (packet.life, packet.epoch)
            {
                path.in_flight -= u64::from(packet.size);
            }
        } else {
            packet.data = false;
        }
        if packet.whole || packet.data {
            self.open.insert(pn, packet);
        } else {
            self.open.remove(&pn);
        }
    }

    /// Whether a packet may count as lost by now.
    fn may_lose(&self, pn: u64, packet: &Packet) -> bool {
        let Some(path) = self.path(packet.slot).filter(|path| path.life == packet.life) else { return true };
        let distance = path.largest_acked.map_or(0, |largest| largest.saturating_sub(packet.seq));
        let overdue = self.now.saturating_duration_since(packet.sent_at) >= OVERDUE;
        let forgotten = !packet.eliciting || pn + REMEMBERED <= self.next;
        forgotten || distance >= OVERTAKEN || (distance > 0 && overdue)
    }

    fn path(&self, slot: u8) -> Option<&PathModel> {
        self.paths.get(usize::from(slot))?.as_ref()
    }

    /// What holds at every moment. `told` says that everything that was lost so far has been told.
    fn check(&self, told: bool) {
        let recovery = &self.recovery;
        let heap = recovery.heap();
        assert!(heap <= MAX_HEAP + self.open.len() * 256, "{heap} bytes for {} packets", self.open.len());
        let counts = recovery.counts();
        assert!(counts.acked + counts.lost <= counts.sent && counts.spurious <= counts.lost, "{counts:?}");
        let mut waiting = false;
        for slot in 0..MAX_PATHS as u8 {
            let (in_flight, id) = (recovery.in_flight(PathSlot(slot)), PathSlot(slot));
            let Some(path) = self.path(slot) else {
                assert_eq!((in_flight, recovery.probes_due(id), recovery.mtu(id)), (0, 0, 1200), "there is no path");
                continue;
            };
            assert!(in_flight <= path.in_flight, "{in_flight} bytes in flight, of {}", path.in_flight);
            assert!(!told || in_flight == path.in_flight, "{in_flight} bytes in flight, not {}", path.in_flight);
            assert!(recovery.probes_due(id) <= 2 && (1200..=path.max_mtu).contains(&recovery.mtu(id)));
            assert!(recovery.pto(id) > Duration::ZERO && recovery.window(id) > 0);
            waiting |= in_flight > 0;
        }
        assert!(!waiting || recovery.deadline().is_some(), "what is in flight is waited for without a timer");
    }

    /// However it went: in silence timers fire ever more slowly, and once all is acknowledged nothing is left.
    pub fn finish(mut self) {
        for _ in 0..40 {
            let before = self.now;
            if !self.wait() {
                break;
            }
            assert!(self.now >= before);
        }
        while !self.over && !self.uncovered.is_empty() {
            let (Some((&low, _)), Some((&high, _))) =
                (self.uncovered.first_key_value(), self.uncovered.last_key_value())
            else {
                break;
            };
            // From below, as much as one frame says.
            let mut numbers = Vec::new();
            let end = high.min(low + 8000);
            self.without_skipped(low..=end, &mut numbers);
            let from = numbers.len().saturating_sub(32);
            self.acknowledge_numbers(&numbers.split_off(from), Duration::ZERO, Marks::Silent);
        }
        if self.over {
            return;
        }
        let left = self.open.values().find(|packet| packet.eliciting);
        assert!(left.is_none(), "{left:?} has no fate");
        self.timeout();
        let deadline = self.recovery.deadline();
        assert!(deadline.is_none(), "{deadline:?}, and nothing is on its way");
    }
}

fn start(settings: PathSettings) -> PathStart {
    let PathSettings { mtu: (mtu, max_mtu), loopback, rtt, ecn } = settings;
    PathStart { mtu, max_mtu, loopback, rtt, ecn }
}
