//! Two honest sides over a bad link: acknowledgements as they are really written, data repeated until it has arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::ack::Acks;

/// How a direction treats packets.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// Per thousand.
    lost: u64,
    delay: Duration,
    /// Each packet takes up to so much longer, so packets overtake each other.
    jitter: Duration,
    /// Larger packets do not pass.
    carries: usize,
}

struct Packet {
    pn: u64,
    bytes: Vec<u8>,
    unit: Option<u64>,
    eliciting: bool,
}

struct Side {
    sender: Sender,
    acks: Acks,
    /// Units of data to be sent, in order; lost ones come first again.
    queue: VecDeque<u64>,
    acked: BTreeSet<u64>,
    arrived: BTreeSet<u64>,
    seen: BTreeSet<u64>,
    wake: Option<Instant>,
}

impl Side {
    fn new(seed: u64, algorithm: Algorithm, units: u64) -> Self {
        let mut sender = Sender::with(algorithm, Some(ms(20)));
        sender.recovery.skip_at = None;
        sender.rng = Seed::fixed(seed).rng();
        Self {
            sender,
            acks: Acks::new(),
            queue: (0..units).collect(),
            acked: BTreeSet::new(),
            arrived: BTreeSet::new(),
            seen: BTreeSet::new(),
            wake: None,
        }
    }

    fn receive(&mut self, packet: &Packet, now: Instant) {
        if !self.seen.insert(packet.pn) {
            return;
        }
        self.acks.on_packet(packet.pn, packet.eliciting, Ecn::NotEct, now);
        self.arrived.extend(packet.unit);
        for frame in Frames::new(&packet.bytes) {
            let Ok(Frame::Ack(ack)) = frame else { continue };
            self.sender.out.clear();
            self.sender.recovery.on_ack(&ack, now, &mut self.sender.out).expect("an honest side is believed");
            self.apply();
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.sender.recovery.deadline().is_some_and(|deadline| deadline.at <= now) {
            self.sender.out.clear();
            self.sender.recovery.on_timeout(now, &mut self.sender.out);
            self.apply();
        }
    }

    fn apply(&mut self) {
        for frame in &self.sender.out.acked {
            match frame {
                Sent::Stream { offset, .. } => assert!(self.acked.insert(*offset), "acknowledged twice"),
                Sent::Ack { largest } => self.acks.on_ack_of_ack(*largest),
                _ => {}
            }
        }
        for frame in &self.sender.out.lost {
            if let Sent::Stream { offset, .. } = frame {
                assert!(!self.acked.contains(offset) && !self.queue.contains(offset), "{offset} is lost twice");
                self.queue.push_front(*offset);
            }
        }
    }

    fn transmit(&mut self, now: Instant) -> Option<(usize, Packet)> {
        self.wake = None;
        let recovery = &mut self.sender.recovery;
        let probe = recovery.probes_due(A) > 0;
        let mtu_probe = recovery.mtu_probe(A, now);
        let budget = recovery.may_send(A, now);
        let may = probe || matches!(budget, Budget::Bytes(_));
        let mut frames = SentFrames::new();
        let mut size = recovery.mtu(A);
        let mut unit = None;
        if let Some(larger) = mtu_probe {
            size = larger;
            frames.push(Sent::Ping);
        } else if may && !self.queue.is_empty() {
            unit = self.queue.pop_front();
            frames.extend(unit.map(stream));
        } else if probe || (self.acks.has_pending(now) && recovery.wants_ping()) {
            frames.push(Sent::Ping);
        } else if !self.acks.has_pending(now) {
            if let Budget::Wait(until) = budget {
                self.wake = (!self.queue.is_empty()).then_some(until);
            }
            return None;
        }
        let eliciting = !frames.is_empty();
        let mut bytes = vec![0; 600];
        let mut writer = PacketWriter::new(&mut bytes);
        frames.extend(self.acks.write(&mut writer, now));
        let len = writer.len();
        bytes.truncate(len);
        if unit.is_none() && mtu_probe.is_none() {
            size = 30 + len;
        }
        let pn = recovery.next_pn(&mut self.sender.rng, now);
        let packet = SentPacket {
            pn,
            path: A,
            size: u32::try_from(size).unwrap(),
            ack_eliciting: eliciting,
            mtu_probe: mtu_probe.is_some(),
            marked: false,
            frames,
        };
        recovery.on_sent(packet, now);
        Some((size, Packet { pn, bytes, unit, eliciting }))
    }

    fn deadline(&self) -> Option<Instant> {
        let timers = [self.sender.recovery.deadline(), self.acks.deadline()];
        timers.into_iter().flatten().map(|deadline| deadline.at).chain(self.wake).min()
    }
}

/// Runs until both sides know that all units arrived; returns them and how long it took.
fn run(
    seed: u64,
    algorithm: Algorithm,
    units: [u64; 2],
    links: impl Fn(Duration) -> [Link; 2],
) -> ([Side; 2], Duration) {
    let mut rng = Seed::fixed(seed).fork("link").rng();
    let mut sides = [Side::new(seed, algorithm, units[0]), Side::new(seed + 1, algorithm, units[1])];
    let mut wire: BTreeMap<(Instant, u64), (usize, Packet)> = BTreeMap::new();
    let (mut now, mut number) = (start(), 0);
    loop {
        for from in [0, 1] {
            while let Some((size, packet)) = sides[from].transmit(now) {
                let link = links(now - start())[from];
                if rng.below(1000) >= link.lost && size <= link.carries {
                    number += 1;
                    let at = now + link.delay + rng.duration_below(link.jitter);
                    wire.insert((at, number), (1 - from, packet));
                }
            }
        }
        if sides.iter().zip(units).all(|(side, units)| side.acked.len() as u64 == units) {
            return (sides, now - start());
        }
        let timer = sides.iter().filter_map(Side::deadline).min();
        let arrival = wire.first_key_value().map(|((at, _), _)| *at);
        let next = [timer, arrival].into_iter().flatten().min().expect("somebody waits for something");
        now = now.max(next);
        assert!(now < start() + ms(600_000), "seed {seed}: no end in sight");
        while let Some(entry) = wire.first_entry().filter(|entry| entry.key().0 <= now) {
            let (to, packet) = entry.remove();
            sides[to].receive(&packet, now);
        }
        sides.iter_mut().for_each(|side| side.timeout(now));
    }
}

fn check(sides: &[Side; 2], units: [u64; 2]) {
    for (side, other) in [(0, 1), (1, 0)] {
        assert_eq!(sides[other].arrived.len() as u64, units[side]);
        assert_eq!(sides[side].acked.len() as u64, units[side]);
    }
}

#[test]
fn honest_sides_agree_over_any_link() {
    for seed in 0..40 {
        let mut rng = Seed::fixed(seed).fork("kind").rng();
        let link = Link {
            lost: if seed % 4 == 0 { 0 } else { rng.below(300) },
            delay: ms(rng.below(100)),
            jitter: ms(if seed % 3 == 0 { 1 } else { rng.below(100) }),
            carries: 1452,
        };
        let units = [400, if seed % 2 == 0 { 0 } else { 150 }];
        let algorithm =
            [Algorithm::Cubic, Algorithm::Bbr, Algorithm::Fixed(30_000)][usize::try_from(seed).unwrap() % 3];
        let (sides, _) = run(seed, algorithm, units, |_| [link, link]);
        check(&sides, units);
        for (side, units) in sides.iter().zip(units) {
            assert!(units == 0 || side.sender.recovery.mtu(A) <= 1452, "seed {seed}");
        }
    }
}

#[test]
fn nothing_is_given_up_on_a_link_that_loses_nothing() {
    let link = Link { lost: 0, delay: ms(10), jitter: us(0), carries: 1500 };
    let (sides, took) = run(7, Algorithm::Fixed(60_000), [2000, 0], |_| [link, link]);
    check(&sides, [2000, 0]);
    let counts = sides[0].sender.recovery.counts();
    assert_eq!((counts.lost, counts.spurious, counts.timeouts), (0, 0, 0));
    // 40 to 50 packets per round trip of 20 ms, once the size is found.
    assert!(took < ms(1200), "{took:?}");
    // One acknowledgement for two packets at most, and one for each batch at least.
    let acks = sides[1].sender.recovery.counts().sent;
    assert!((40..=1100).contains(&acks), "{acks} acknowledgements");
}

#[test]
fn a_link_that_reorders_is_learnt() {
    // Packets overtake each other by up to 5 ms of 20, hundreds at a time.
    let link = Link { lost: 0, delay: ms(20), jitter: ms(5), carries: 1500 };
    let (sides, _) = run(3, Algorithm::Fixed(100_000), [5000, 0], |_| [link, link]);
    check(&sides, [5000, 0]);
    let counts = sides[0].sender.recovery.counts();
    assert!(counts.spurious <= counts.lost && counts.lost < 150, "{counts:?}");
    assert_eq!(counts.timeouts, 0);
}

#[test]
fn a_link_that_shrinks_goes_on_with_smaller_packets() {
    let link = |carries| Link { lost: 0, delay: ms(10), jitter: us(0), carries };
    let (sides, took) = run(5, Algorithm::Fixed(30_000), [2000, 0], |since| {
        let carries = if since < ms(300) { 1500 } else { 1280 };
        [link(carries), link(1500)]
    });
    check(&sides, [2000, 0]);
    assert!((1200..=1280).contains(&sides[0].sender.recovery.mtu(A)), "{}", sides[0].sender.recovery.mtu(A));
    assert!(took < ms(2500), "{took:?}");
}

#[test]
fn a_link_that_is_cut_for_a_while_goes_on() {
    let link = |lost| Link { lost, delay: ms(10), jitter: us(0), carries: 1500 };
    for algorithm in [Algorithm::Fixed(30_000), Algorithm::Cubic, Algorithm::Bbr] {
        let (sides, took) = run(6, algorithm, [2000, 100], |since| {
            let lost = if (ms(100)..ms(1100)).contains(&since) { 1000 } else { 0 };
            [link(lost), link(lost)]
        });
        check(&sides, [2000, 100]);
        assert!(took < ms(5000), "{algorithm:?} {took:?}");
    }
}
