//! A bottleneck to measure controllers at: one rate, one drop-tail queue, any number of flows, virtual time.
//!
//! Each flow drives [`Congestion`] as recovery does: packet threshold 3, time threshold 9/8, probe timeouts, an
//! acknowledgement for every second packet. Losses at random strike behind the queue, as on a radio link.

use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use crate::congestion::{Algorithm, Congestion, PacketInfo, Snapshot, Summary};

pub(crate) const PACKET: u32 = 1452;
/// Application bytes in a packet: 29 of record, 10 of frame header.
pub(crate) const PAYLOAD: f64 = 1413.0;

/// The path and who uses it.
#[derive(Debug, Clone)]
pub(crate) struct Lab {
    /// Bytes per second of UDP payload.
    pub(crate) rate: f64,
    pub(crate) rtt: Duration,
    /// Bytes that may wait.
    pub(crate) queue: f64,
    pub(crate) loss: f64,
    /// Probability to enter and to leave the bad state, loss in it.
    pub(crate) burst: Option<(f64, f64, f64)>,
    pub(crate) jitter: Duration,
    /// Acknowledgements are held back until a multiple of this.
    pub(crate) aggregate: Duration,
    pub(crate) ack_loss: f64,
    /// Marks instead of dropping above so many queued bytes.
    pub(crate) mark: Option<f64>,
    /// The sender wakes up late, at multiples of this.
    pub(crate) tick: Duration,
    /// Rate changes: when, and to how much of the original.
    pub(crate) steps: Vec<(Duration, f64)>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) seed: u64,
}

/// One sender.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) algorithm: Algorithm,
    pub(crate) start: Duration,
    /// Bytes the application writes at the start of each period; `None` is all the time.
    pub(crate) app: Option<(Duration, u64)>,
}

/// What came out, between `from` and `until`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Application bytes of each flow, as a share of what the link carries.
    pub(crate) goodput: Vec<f64>,
    /// Packets lost or dropped, as a share of those sent, over the whole run.
    pub(crate) lost: Vec<f64>,
    /// Time a packet waited: mean, and the largest.
    pub(crate) wait: Duration,
    pub(crate) worst_wait: Duration,
}

impl Lab {
    /// `mbit` megabits of payload per second, drop-tail queue of `bdp` bandwidth-delay products, 20 s measured from 5 s on.
    pub(crate) fn new(mbit: f64, rtt: Duration, bdp: f64) -> Self {
        let rate = mbit * 1e6 / 8.0;
        Self {
            rate,
            rtt,
            queue: rate * rtt.as_secs_f64() * bdp,
            loss: 0.0,
            burst: None,
            jitter: Duration::ZERO,
            aggregate: Duration::ZERO,
            ack_loss: 0.0,
            mark: None,
            tick: Duration::ZERO,
            steps: Vec::new(),
            flows: Vec::new(),
            from: Duration::from_secs(5),
            until: Duration::from_secs(25),
            seed: 1,
        }
    }

    pub(crate) fn flow(mut self, algorithm: Algorithm, start: f64) -> Self {
        self.flows.push(Flow { algorithm, start: Duration::from_secs_f64(start), app: None });
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn run(&self) -> Report {
        Run::new(self).go()
    }
}

struct Run<'a> {
    lab: &'a Lab,
    base: Instant,
    events: BinaryHeap<Event>,
    order: u64,
    busy_until: f64,
    last_arrival: f64,
    rate: f64,
    bad: bool,
    dice: u64,
    senders: Vec<Sender>,
    waited: f64,
    worst: f64,
    packets: u64,
}

struct Sender {
    congestion: Congestion,
    next: u64,
    sent: VecDeque<Option<Packet>>,
    first: u64,
    in_flight: u64,
    largest_acked: Option<u64>,
    rtt: Rtt,
    probes: u32,
    pto_count: u32,
    last_sent: f64,
    timer: f64,
    app: f64,
    started: bool,
    // the other end
    got: Vec<u64>,
    got_largest: Option<(u64, f64)>,
    ce: u64,
    ce_seen: u64,
    ack_due: f64,
    ack_at: f64,
    immediate: bool,
    lost: u64,
    out: u64,
}

#[derive(Clone, Copy)]
struct Packet {
    at: f64,
    snapshot: Snapshot,
}

struct Rtt {
    min: f64,
    smoothed: f64,
    variance: f64,
}

impl Rtt {
    fn pto(&self) -> f64 {
        if self.smoothed == 0.0 { 0.999 } else { self.smoothed + (4.0 * self.variance).max(0.001) + 0.025 }
    }
}

enum What {
    Start,
    Arrive { number: u64, ce: bool },
    AckTimer,
    Ack { numbers: Vec<u64>, largest: u64, delay: f64, ce: u64 },
    Timer,
    App,
    Step(f64),
}

struct Event {
    at: f64,
    order: u64,
    flow: usize,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.total_cmp(&self.at).then(other.order.cmp(&self.order))
    }
}

impl<'a> Run<'a> {
    fn new(lab: &'a Lab) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let base = Instant::now();
        let mut run = Self {
            lab,
            base,
            events: BinaryHeap::new(),
            order: 0,
            busy_until: 0.0,
            last_arrival: 0.0,
            rate: lab.rate,
            bad: false,
            dice: lab.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            senders: Vec::new(),
            waited: 0.0,
            worst: 0.0,
            packets: 0,
        };
        for (index, flow) in lab.flows.iter().enumerate() {
            let start = flow.start.as_secs_f64();
            run.senders.push(Sender::new(flow.algorithm, run.instant(start)));
            run.push(start, index, What::Start);
        }
        for &(at, factor) in &lab.steps {
            run.push(at.as_secs_f64(), 0, What::Step(factor));
        }
        run
    }

    fn instant(&self, at: f64) -> Instant {
        self.base + Duration::from_secs_f64(at)
    }

    fn push(&mut self, at: f64, flow: usize, what: What) {
        self.order += 1;
        self.events.push(Event { at, order: self.order, flow, what });
    }

    fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    fn uniform(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn go(mut self) -> Report {
        let end = self.lab.until.as_secs_f64();
        while let Some(event) = self.events.pop() {
            let now = event.at;
            if now > end {
                break;
            }
            let flow = event.flow;
            match event.what {
                What::Start => {
                    self.senders[flow].started = true;
                    if self.lab.flows[flow].app.is_some() {
                        self.senders[flow].app = 0.0;
                        self.push(now, flow, What::App);
                    }
                    self.pump(flow, now);
                }
                What::App => {
                    if let Some((period, amount)) = self.lab.flows[flow].app {
                        self.senders[flow].app += amount as f64;
                        self.push(now + period.as_secs_f64(), flow, What::App);
                        self.pump(flow, now);
                    }
                }
                What::Arrive { number, ce } => self.arrive(flow, number, ce, now),
                What::AckTimer => {
                    let sender = &self.senders[flow];
                    if !sender.got.is_empty() && sender.ack_due <= now {
                        self.acknowledge(flow, now);
                    }
                }
                What::Ack { numbers, largest, delay, ce } => {
                    self.on_ack(flow, &numbers, largest, delay, ce, now);
                    self.pump(flow, now);
                }
                What::Timer => {
                    if self.senders[flow].timer <= now {
                        self.senders[flow].timer = f64::INFINITY;
                        self.on_timer(flow, now);
                        self.pump(flow, now);
                    }
                }
                What::Step(factor) => {
                    let backlog = (self.busy_until - now).max(0.0) * self.rate;
                    self.rate = self.lab.rate * factor;
                    self.busy_until = now + backlog / self.rate;
                }
            }
        }
        let measured = (self.lab.until - self.lab.from).as_secs_f64();
        Report {
            goodput: self.senders.iter().map(|s| s.out as f64 * PAYLOAD / measured / self.lab.rate).collect(),
            lost: self.senders.iter().map(|s| s.lost as f64 / s.next.max(1) as f64).collect(),
            wait: Duration::from_secs_f64(self.waited / self.packets.max(1) as f64),
            worst_wait: Duration::from_secs_f64(self.worst),
        }
    }

    fn pump(&mut self, flow: usize, now: f64) {
        let instant = self.instant(now);
        loop {
            let sender = &mut self.senders[flow];
            if !sender.started {
                return;
            }
            if sender.app < f64::from(PACKET) {
                sender.congestion.set_app_limited(sender.in_flight);
                break;
            }
            if sender.probes > 0 {
                sender.probes -= 1;
                self.send(flow, now);
                continue;
            }
            if sender.in_flight + u64::from(PACKET) > sender.congestion.window() {
                break;
            }
            if let Some(at) = sender.congestion.ready_at(instant) {
                let mut at = (at - self.base).as_secs_f64();
                let tick = self.lab.tick.as_secs_f64();
                if tick > 0.0 {
                    at = (at / tick).ceil() * tick;
                }
                self.arm(flow, at);
                break;
            }
            let burst = sender.congestion.burst() as u64 / u64::from(PACKET);
            let room = (sender.congestion.window() - sender.in_flight) / u64::from(PACKET);
            for _ in 0..burst.min(room) {
                if self.senders[flow].app >= f64::from(PACKET) {
                    self.send(flow, now);
                }
            }
        }
        self.set_loss_timer(flow);
    }

    fn send(&mut self, flow: usize, now: f64) {
        let instant = self.instant(now);
        let sender = &mut self.senders[flow];
        let snapshot = sender.congestion.on_sent(PACKET, sender.in_flight, instant);
        sender.in_flight += u64::from(PACKET);
        sender.sent.push_back(Some(Packet { at: now, snapshot }));
        sender.last_sent = now;
        sender.app -= PAYLOAD;
        let number = sender.next;
        sender.next += 1;
        // the bottleneck
        let queued = (self.busy_until - now).max(0.0) * self.rate;
        if queued > 0.0 && queued + f64::from(PACKET) > self.lab.queue {
            return;
        }
        let ce = self.lab.mark.is_some_and(|mark| queued > mark);
        self.busy_until = self.busy_until.max(now) + f64::from(PACKET) / self.rate;
        if now >= self.lab.from.as_secs_f64() {
            self.waited += queued / self.rate;
            self.worst = self.worst.max(queued / self.rate);
            self.packets += 1;
        }
        let mut loss = self.lab.loss;
        if let Some((enter, leave, bad)) = self.lab.burst {
            let change = if self.bad { leave } else { enter };
            self.bad ^= self.chance(change);
            if self.bad {
                loss = bad;
            }
        }
        if self.chance(loss) {
            return;
        }
        let jitter = self.uniform() * self.lab.jitter.as_secs_f64();
        let at = (self.busy_until + self.lab.rtt.as_secs_f64() / 2.0 + jitter).max(self.last_arrival);
        self.last_arrival = at;
        self.push(at, flow, What::Arrive { number, ce });
    }

    fn arrive(&mut self, flow: usize, number: u64, ce: bool, now: f64) {
        let measured = now >= self.lab.from.as_secs_f64();
        let hold = 0.025f64.min(self.lab.rtt.as_secs_f64() / 4.0);
        let sender = &mut self.senders[flow];
        sender.out += u64::from(measured);
        let gap = sender.got_largest.map_or(number > 0, |(largest, _)| number != largest + 1);
        if sender.got_largest.is_none_or(|(largest, _)| number > largest) {
            sender.got_largest = Some((number, now));
        }
        sender.immediate |= gap || ce;
        sender.ce += u64::from(ce);
        sender.got.push(number);
        if sender.got.len() == 1 {
            sender.ack_due = now + hold;
            self.push(now + hold, flow, What::AckTimer);
        }
        let sender = &self.senders[flow];
        if sender.got.len() >= 2 || sender.immediate {
            self.acknowledge(flow, now);
        }
    }

    fn acknowledge(&mut self, flow: usize, now: f64) {
        let step = self.lab.aggregate.as_secs_f64();
        if step > 0.0 {
            let slot = (now / step).ceil() * step;
            if slot > now + 1e-9 {
                if self.senders[flow].ack_at < slot {
                    self.senders[flow].ack_at = slot;
                    self.senders[flow].ack_due = slot;
                    self.push(slot, flow, What::AckTimer);
                }
                return;
            }
        }
        if self.chance(self.lab.ack_loss) {
            // its ranges travel with the next one
            self.senders[flow].ack_due = now + 0.025;
            self.push(now + 0.025, flow, What::AckTimer);
            return;
        }
        let back = self.lab.rtt.as_secs_f64() / 2.0;
        let sender = &mut self.senders[flow];
        let numbers = std::mem::take(&mut sender.got);
        let Some((largest, at)) = sender.got_largest else { return };
        let (delay, ce) = (now - at, sender.ce);
        sender.immediate = false;
        self.push(now + back, flow, What::Ack { numbers, largest, delay, ce });
    }

    fn on_ack(&mut self, flow: usize, numbers: &[u64], largest: u64, delay: f64, ce: u64, now: f64) {
        let instant = self.instant(now);
        let base = self.base;
        let sender = &mut self.senders[flow];
        let mut latest = None;
        for &number in numbers {
            let Some(packet) = sender.slot(number).and_then(Option::take) else { continue };
            sender.in_flight -= u64::from(PACKET);
            sender.pto_count = 0;
            if number == largest {
                latest = Some(now - packet.at);
            }
            let info = packet.info(base);
            sender.congestion.on_acked(&info, instant);
        }
        sender.largest_acked = sender.largest_acked.max(Some(largest));
        if let Some(latest) = latest {
            let rtt = &mut sender.rtt;
            if rtt.smoothed == 0.0 {
                *rtt = Rtt { min: latest, smoothed: latest, variance: latest / 2.0 };
            } else {
                rtt.min = rtt.min.min(latest);
                let adjusted = if latest >= rtt.min + delay { latest - delay } else { latest };
                rtt.variance = 0.75 * rtt.variance + 0.25 * (rtt.smoothed - adjusted).abs();
                rtt.smoothed = 0.875 * rtt.smoothed + 0.125 * adjusted;
            }
        }
        let persistent = sender.detect(now, base, instant);
        let newly_ce = ce - sender.ce_seen;
        sender.ce_seen = ce;
        sender.round(latest, newly_ce, persistent, instant);
        sender.trim();
    }

    fn on_timer(&mut self, flow: usize, now: f64) {
        let instant = self.instant(now);
        let base = self.base;
        let sender = &mut self.senders[flow];
        let before = sender.lost;
        let persistent = sender.detect(now, base, instant);
        if sender.lost > before {
            sender.round(None, 0, persistent, instant);
            sender.trim();
        } else if sender.in_flight > 0 && now >= sender.pto_at() - 1e-9 {
            sender.pto_count += 1;
            sender.probes = 2;
            sender.app += 2.0 * PAYLOAD;
        }
    }

    fn set_loss_timer(&mut self, flow: usize) {
        let sender = &self.senders[flow];
        let at = match sender.loss_time() {
            Some(at) => at,
            None if sender.in_flight > 0 => sender.pto_at(),
            None => return,
        };
        self.arm(flow, at);
    }

    fn arm(&mut self, flow: usize, at: f64) {
        let sender = &mut self.senders[flow];
        if at < sender.timer {
            sender.timer = at;
            self.push(at, flow, What::Timer);
        }
    }
}

impl Packet {
    fn info(&self, base: Instant) -> PacketInfo {
        PacketInfo { sent_at: base + Duration::from_secs_f64(self.at), size: PACKET, snapshot: self.snapshot }
    }
}

impl Sender {
    fn new(algorithm: Algorithm, now: Instant) -> Self {
        Self {
            congestion: Congestion::new(algorithm, PACKET as usize, now),
            next: 0,
            sent: VecDeque::new(),
            first: 0,
            in_flight: 0,
            largest_acked: None,
            rtt: Rtt { min: 0.0, smoothed: 0.0, variance: 0.0 },
            probes: 0,
            pto_count: 0,
            last_sent: 0.0,
            timer: f64::INFINITY,
            app: f64::INFINITY,
            started: false,
            got: Vec::new(),
            got_largest: None,
            ce: 0,
            ce_seen: 0,
            ack_due: f64::INFINITY,
            ack_at: 0.0,
            immediate: false,
            lost: 0,
            out: 0,
        }
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Packet>> {
        self.sent.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn trim(&mut self) {
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
    }

    fn threshold(&self) -> f64 {
        (1.125 * self.rtt.smoothed).max(0.001)
    }

    /// RFC 9002 6.1; says whether congestion is persistent.
    fn detect(&mut self, now: f64, base: Instant, instant: Instant) -> bool {
        let Some(largest) = self.largest_acked else { return false };
        let late = self.threshold();
        let (mut first_lost, mut last_lost) = (None, 0.0);
        let mut number = self.first;
        while number < largest {
            let slot = &mut self.sent[(number - self.first) as usize];
            if let Some(packet) = *slot {
                if number + 3 > largest && packet.at + late > now + 1e-9 {
                    break;
                }
                *slot = None;
                self.in_flight -= u64::from(PACKET);
                self.lost += 1;
                first_lost.get_or_insert(packet.at);
                last_lost = packet.at;
                let info = packet.info(base);
                self.congestion.on_lost(&info, instant);
            }
            number += 1;
        }
        first_lost.is_some_and(|first| self.rtt.smoothed > 0.0 && last_lost - first > 3.0 * self.rtt.pto())
    }

    fn round(&mut self, latest: Option<f64>, newly_ce: u64, persistent: bool, now: Instant) {
        let summary = Summary {
            in_flight: self.in_flight,
            latest_rtt: latest.map(Duration::from_secs_f64),
            smoothed_rtt: Duration::from_secs_f64(self.rtt.smoothed),
            min_rtt: Duration::from_secs_f64(self.rtt.min),
            newly_ce,
            persistent,
        };
        self.congestion.on_round(&summary, now);
    }

    fn loss_time(&self) -> Option<f64> {
        let largest = self.largest_acked?;
        let packet = (*self.sent.front()?)?;
        (self.first < largest).then(|| packet.at + self.threshold())
    }

    fn pto_at(&self) -> f64 {
        self.last_sent + self.rtt.pto() * f64::from(1 << self.pto_count.min(6))
    }
}
