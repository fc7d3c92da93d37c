//! Congestion control: how much may be in flight on a path, and how fast it leaves.
//!
//! One `Congestion` per path holds a controller, the pacer it drives and the measurement of the delivery rate. It costs
//! a few comparisons per packet; all else happens once per ACK frame. Where nothing is sent, only what is worth
//! remembering of it is kept, and the first packet makes it again.
//!
//! # Which one, and why
//!
//! [`Algorithm::Bbr`] is the default, by measurement at the bottleneck of `lab.rs`: 100 Mbit/s, 50 ms, drop-tail queue
//! of one bandwidth-delay product unless said otherwise, application bytes as a part of the link over 20 s from the
//! fifth on (97.3 % is all that headers leave):
//!
//! | Case | CUBIC | BBR |
//! |---|---|---|
//! | no loss | 97.3 % | 94.2 % |
//! | 1 % lost at random | 2.9 % | 92.9 % |
//! | 5 % lost at random | 1.0 % | 86.0 % |
//! | 20 % lost at random | 0.4 % | 61 % |
//! | bursts (half of 10 packets, 2 % of the time) | 6.5 % | 93.2 % |
//! | mean wait in the queue, alone; at 4 products | 40 ms; 165 ms | 1.5 ms; 1.5 ms |
//! | beside one CUBIC flow, 75 runs: starts up to 5 s apart either way, three seeds | 16-81 % (9 runs) | 42-59 % |
//! | the same at a queue of 2, of 4 products | | 42-56 %, 37-60 % |
//! | beside 3, beside 7 CUBIC flows | | 44 %, 33 % |
//! | bandwidth falls to a tenth, queue of 4 products: mean wait after it | 1,590 ms | 166 ms |
//! | bandwidth rises tenfold: part of it used from the second second on | 96 % | 94 % |
//!
//! What BBR is not good at: queues of a tenth of a product and less, where it loses 3-5 % of its packets alone and 12 %
//! beside its like; queues of 8 products that a slow start is just filling when it starts (4-10 % of the link for many
//! seconds then; 37 % on average); and it takes more than an equal part beside many CUBIC flows. CUBIC is there for
//! paths whose operator wants what everybody else does.

mod bbr;
mod cubic;
mod fixed;
#[cfg(test)]
mod lab;
mod rate;
mod rival;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use bbr::Bbr;
pub use cubic::Cubic;
pub use fixed::Fixed;
pub use rate::{Newest, Sample, Snapshot};

use crate::pacing::Pacer;
use rate::Sampler;

/// Which congestion controller a path uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// Grows until packets are lost (RFC 9438).
    Cubic,
    /// Models the rate and the delay of the path.
    #[default]
    Bbr,
    /// Holds a window of so many bytes and does not pace: for tests.
    Fixed(u64),
}

/// A packet whose fate became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketInfo {
    /// When it left.
    pub sent_at: Instant,
    /// Its bytes on the wire (UDP payload).
    pub size: u32,
    /// What was handed out when it left.
    pub snapshot: Snapshot,
}

/// The path after an ACK frame or a loss pass was applied in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes still in flight.
    pub in_flight: u64,
    /// The round trip of this ACK frame, if it gave one.
    pub latest_rtt: Option<Duration>,
    /// The smoothed round trip.
    pub smoothed_rtt: Duration,
    /// The least round trip of the path so far.
    pub min_rtt: Duration,
    /// Packets newly reported as marked by the network (ECN-CE).
    pub newly_ce: u64,
    /// Everything sent over a persistent congestion period was lost (RFC 9002 7.6).
    pub persistent: bool,
}

/// A congestion controller of one path.
///
/// Calls arrive in this order: for every packet acknowledged [`on_acked`](Self::on_acked), for every packet lost
/// [`on_lost`](Self::on_lost), then once [`on_round`](Self::on_round) for all of them together.
/// Bytes are UDP payload; packets that hold only acknowledgements are not counted.
pub trait Controller {
    /// A packet was acknowledged. Most controllers need no more than the sum that `on_round` gives.
    fn on_acked(&mut self, _packet: &PacketInfo, _now: Instant) {}

    /// A packet was declared lost.
    fn on_lost(&mut self, packet: &PacketInfo, now: Instant);

    /// A packet that had been declared lost was acknowledged after all.
    fn on_spurious(&mut self, _packet: &PacketInfo, _now: Instant) {}

    /// Everything that an ACK frame or a loss timer told has been reported.
    fn on_round(&mut self, sample: &Sample, summary: &Summary, now: Instant);

    /// The packet size of the path changed, in bytes of UDP payload.
    fn on_mtu(&mut self, mtu: u64);

    /// How many bytes may be in flight.
    fn window(&self) -> u64;

    /// Bytes per second at which packets leave; `None` does not pace.
    fn pacing_rate(&self) -> Option<u64>;
}

/// Which controller runs.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "in one box with what drives it")]
enum State {
    Cubic(Cubic),
    Bbr(Bbr),
    Fixed(Fixed),
}

/// Runs the same call on whichever controller it is: static calls, unlike a boxed trait object.
macro_rules! dispatch {
    ($state:expr, $controller:ident => $call:expr) => {
        match $state {
            State::Cubic($controller) => $call,
            State::Bbr($controller) => $call,
            State::Fixed($controller) => $call,
        }
    };
}

/// The controller of one path with its pacer and its rate measurement.
#[derive(Debug)]
pub(crate) struct Congestion {
    pacer: Pacer,
    life: Life,
}

/// A path that is used has a model, the other ones a memory of it.
#[derive(Debug)]
enum Life {
    Awake(Box<Model>),
    AtRest(Memory),
}

#[derive(Debug)]
struct Model {
    sampler: Sampler,
    state: State,
}

/// What is kept of a controller while nothing is sent.
#[derive(Debug, Clone, Copy)]
enum Memory {
    Cubic { window: u64, threshold: u64 },
    Bbr(bbr::Memory),
    Fixed(u64),
}

impl Congestion {
    /// A path on which nothing has been sent; `mtu` in bytes of UDP payload.
    pub(crate) fn new(algorithm: Algorithm, mtu: usize, now: Instant) -> Self {
        let mtu = clamp_mtu(mtu);
        let state = match algorithm {
            Algorithm::Cubic => State::Cubic(Cubic::new(u64::from(mtu), now)),
            Algorithm::Bbr => State::Bbr(Bbr::new(u64::from(mtu), now)),
            Algorithm::Fixed(window) => State::Fixed(Fixed::new(window)),
        };
        let model = Model { sampler: Sampler::new(now), state };
        Self { pacer: Pacer::new(mtu, now), life: Life::Awake(Box::new(model)) }
    }

    /// Whether so little was delivered that the model can know nothing that [`rest`](Self::rest) would forget.
    pub(crate) fn knows_little(&self) -> bool {
        match &self.life {
            Life::Awake(model) => model.sampler.delivered() <= initial_window(self.pacer.mtu().into()),
            Life::AtRest(_) => true,
        }
    }

    /// Nothing is in flight, and nothing will be sent for long: keeps only what is worth remembering.
    pub(crate) fn rest(&mut self) {
        if let Life::Awake(model) = &self.life {
            self.life = Life::AtRest(match &model.state {
                State::Cubic(cubic) => Memory::Cubic { window: cubic.window(), threshold: cubic.threshold() },
                State::Bbr(bbr) => Memory::Bbr(bbr.remember()),
                State::Fixed(fixed) => Memory::Fixed(fixed.window()),
            });
        }
    }

    #[cold]
    fn wake(memory: Memory, mtu: u32, now: Instant) -> Box<Model> {
        let mtu = u64::from(mtu);
        let state = match memory {
            Memory::Cubic { window, threshold } => State::Cubic(Cubic::wake(window, threshold, mtu, now)),
            Memory::Bbr(memory) => State::Bbr(Bbr::wake(&memory, mtu, now)),
            Memory::Fixed(window) => State::Fixed(Fixed::new(window)),
        };
        let mut sampler = Sampler::new(now);
        // What wakes a path is a packet or two as a rule, which shows nothing of what the path can do.
        sampler.set_app_limited(0);
        Box::new(Model { sampler, state })
    }

    /// The model, if anything can have been sent since the last rest.
    fn model(&mut self) -> Option<&mut Model> {
        match &mut self.life {
            Life::Awake(model) => Some(model),
            Life::AtRest(_) => None,
        }
    }

    /// A packet left that counts as in flight. What it returns is kept with the packet.
    #[inline]
    pub(crate) fn on_sent(&mut self, size: u32, in_flight_before: u64, now: Instant) -> Snapshot {
        self.pacer.on_sent(size);
        if let Life::AtRest(memory) = self.life {
            self.life = Life::Awake(Self::wake(memory, self.pacer.mtu(), now));
        }
        self.model().map_or_else(Snapshot::default, |model| model.sampler.on_sent(size, in_flight_before, now))
    }

    /// A packet was acknowledged.
    pub(crate) fn on_acked(&mut self, packet: &PacketInfo, now: Instant) {
        let Some(Model { sampler, state }) = self.model() else { return };
        sampler.on_acked(packet);
        dispatch!(state, controller => controller.on_acked(packet, now));
    }

    /// A packet was declared lost. Packets that were too large (MTU probes) must not be reported.
    pub(crate) fn on_lost(&mut self, packet: &PacketInfo, now: Instant) {
        let Some(Model { sampler, state }) = self.model() else { return };
        sampler.on_lost(packet);
        dispatch!(state, controller => controller.on_lost(packet, now));
    }

    /// A packet that had been declared lost was acknowledged after all.
    pub(crate) fn on_spurious(&mut self, packet: &PacketInfo, now: Instant) {
        let Some(Model { state, .. }) = self.model() else { return };
        dispatch!(state, controller => controller.on_spurious(packet, now));
    }

    /// Once per ACK frame or loss pass, after its packets were reported.
    pub(crate) fn on_round(&mut self, summary: &Summary, now: Instant) {
        let Some(Model { sampler, state }) = self.model() else { return };
        let sample = sampler.take(now);
        dispatch!(state, controller => controller.on_round(&sample, summary, now));
        let rate = dispatch!(state, controller => controller.pacing_rate());
        // No model is so sure of itself that less than two packets in a round trip would be worth waiting for: after a
        // long sleep of the other side, with packets of 64 KiB, the wait for one would be minutes.
        let least = u128::from(self.pacer.mtu()) * 2 * 1_000_000_000 / summary.smoothed_rtt.as_nanos().max(1);
        let least = u64::try_from(least).unwrap_or(u64::MAX);
        self.pacer.set_rate(rate.map(|rate| rate.max(least)), now);
    }

    /// There is nothing more to send although the window and the pacer would allow it.
    pub(crate) fn set_app_limited(&mut self, in_flight: u64) {
        if in_flight < self.window()
            && let Some(model) = self.model()
        {
            model.sampler.set_app_limited(in_flight);
        }
    }

    /// How many bytes may be in flight.
    pub(crate) fn window(&self) -> u64 {
        match &self.life {
            Life::Awake(model) => dispatch!(&model.state, controller => controller.window()),
            Life::AtRest(Memory::Bbr(memory)) => memory.window(),
            Life::AtRest(Memory::Cubic { window, .. }) => initial_window(u64::from(self.pacer.mtu())).min(*window),
            Life::AtRest(Memory::Fixed(window)) => *window,
        }
    }

    /// When the pacer lets the next packet leave; `None` is now.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        self.pacer.ready_at(now)
    }

    /// How many bytes may leave in one go, as of the last [`ready_at`](Self::ready_at). At least a packet.
    pub(crate) fn burst(&self) -> usize {
        self.pacer.burst()
    }

    /// The path carries packets of this size now.
    pub(crate) fn on_mtu(&mut self, mtu: usize) {
        let mtu = clamp_mtu(mtu);
        self.pacer.set_mtu(mtu);
        let Some(Model { state, .. }) = self.model() else { return };
        dispatch!(state, controller => controller.on_mtu(u64::from(mtu)));
    }

    /// Forgets everything: the path leads elsewhere now.
    pub(crate) fn reset(&mut self, mtu: usize, now: Instant) {
        self.rest();
        let algorithm = match self.life {
            Life::AtRest(Memory::Cubic { .. }) => Algorithm::Cubic,
            Life::AtRest(Memory::Fixed(window)) => Algorithm::Fixed(window),
            Life::AtRest(Memory::Bbr(_)) | Life::Awake(_) => Algorithm::Bbr,
        };
        *self = Self::new(algorithm, mtu, now);
    }
}

/// RFC 9002 7.2.
fn initial_window(mtu: u64) -> u64 {
    mtu.saturating_mul(10).min(14_720.max(mtu.saturating_mul(2)))
}

/// What a model-based controller never goes below: with less, a lost packet stops the acknowledgements that show it.
fn least_window(mtu: u64) -> u64 {
    mtu.saturating_mul(4)
}

/// `value * factor`; not-a-number and negative products are zero, large ones saturate.
fn scale(value: u64, factor: f64) -> u64 {
    (value as f64 * factor) as u64
}

/// A window per round trip, as a rate; `None` before the first round trip.
fn window_rate(window: u64, rtt: Duration) -> Option<u64> {
    rate::per_second(window, rtt)
}

fn clamp_mtu(mtu: usize) -> u32 {
    u32::try_from(mtu).unwrap_or(u32::MAX).clamp(256, 65_535)
}
