//! Impairments of one direction between two machines.
//!
//! [`Link`] says what a network does to datagrams, [`Wire`] does it. Order: MTU, then the rate limit and its queue,
//! then loss, then delay, jitter and reordering, then duplication and corruption. A lost datagram has therefore spent
//! its time on the bottleneck, as on a radio link.
//!
//! Every datagram draws the same number of random values whatever is configured, so that turning one impairment on
//! leaves the dice of the others as they were.

use std::num::NonZeroU64;
use std::time::Duration;

use crypto::{Rng, Seed};
use structs::{Ecn, TransmitBuf};

/// What one direction of a network path does to datagrams: a value, without state.
///
/// Probabilities are clamped to 0..=1 and held in steps of 2⁻³², so that they compare alike on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    delay: Duration,
    jitter: Duration,
    loss: Chance,
    burst: Option<Burst>,
    reorder: Chance,
    held: Duration,
    duplicate: Chance,
    corrupt: Chance,
    rate: Option<NonZeroU64>,
    queue: usize,
    mark: usize,
    mtu: usize,
}

impl Link {
    /// Delivers everything at once and in order, up to the largest UDP payload over IPv4 (65,507 bytes): datagrams
    /// above the size of a frame travel as IP fragments.
    #[must_use]
    pub const fn perfect() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Chance::NEVER,
            burst: None,
            reorder: Chance::NEVER,
            held: Duration::ZERO,
            duplicate: Chance::NEVER,
            corrupt: Chance::NEVER,
            rate: None,
            queue: usize::MAX,
            mark: usize::MAX,
            mtu: TransmitBuf::MAX_BATCH,
        }
    }

    /// Delivers nothing.
    #[must_use]
    pub fn dead() -> Self {
        Self::perfect().loss(1.0)
    }

    /// A wired local network: 200 µs, a gigabit, a queue of 512 KiB.
    #[must_use]
    pub fn lan() -> Self {
        Self::perfect()
            .delay(Duration::from_micros(200))
            .jitter(Duration::from_micros(50))
            .rate(125_000_000)
            .queue(512 * 1024)
    }

    /// A home connection across a continent: 40 ms, 5 ms of jitter, 0.5 % loss, 0.1 % reordered, 50 Mbit/s with
    /// 100 ms of queue.
    #[must_use]
    pub fn wan() -> Self {
        Self::perfect()
            .delay(Duration::from_millis(40))
            .jitter(Duration::from_millis(5))
            .loss(0.005)
            .reorder(0.001, Duration::from_millis(10))
            .rate(6_250_000)
            .queue(625_000)
    }

    /// A moving telephone: 70 ms, 40 ms of jitter, 1 % loss and bursts in which half is lost (about 10 datagrams
    /// long, 2 % of the time), 1 % reordered, 0.1 % duplicated, 8 Mbit/s with 500 ms of queue.
    #[must_use]
    pub fn mobile() -> Self {
        Self::perfect()
            .delay(Duration::from_millis(70))
            .jitter(Duration::from_millis(40))
            .loss(0.01)
            .burst_loss(0.002, 0.1, 0.5)
            .reorder(0.01, Duration::from_millis(30))
            .duplicate(0.001)
            .rate(1_000_000)
            .queue(500_000)
    }

    /// The least time a datagram travels.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a time drawn evenly from 0 to `jitter`. It never reorders: what would overtake arrives together with
    /// the datagram ahead of it. See [`reorder`](Self::reorder).
    #[must_use]
    pub const fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Loses each datagram with probability `p`, whatever became of the others.
    #[must_use]
    pub fn loss(mut self, p: f64) -> Self {
        self.loss = Chance::of(p);
        self
    }

    /// Loses datagrams in bursts, by the two-state model of Gilbert and Elliott: before each datagram the link turns
    /// bad with probability `enter`, or good again with probability `leave`; while bad it loses with probability
    /// `loss`, while good as [`loss`](Self::loss) says.
    ///
    /// It is bad `enter / (enter + leave)` of the time, for `1 / leave` datagrams on average.
    #[must_use]
    pub fn burst_loss(mut self, enter: f64, leave: f64, loss: f64) -> Self {
        self.burst = Some(Burst { enter: Chance::of(enter), leave: Chance::of(leave), loss: Chance::of(loss) });
        self
    }

    /// Holds a datagram back for `held` with probability `p`, so that those behind it overtake it.
    #[must_use]
    pub fn reorder(mut self, p: f64, held: Duration) -> Self {
        self.reorder = Chance::of(p);
        self.held = held;
        self
    }

    /// Delivers a datagram twice with probability `p`. The copy comes within the jitter behind the original.
    #[must_use]
    pub fn duplicate(mut self, p: f64) -> Self {
        self.duplicate = Chance::of(p);
        self
    }

    /// Flips one bit of a datagram with probability `p`.
    #[must_use]
    pub fn corrupt(mut self, p: f64) -> Self {
        self.corrupt = Chance::of(p);
        self
    }

    /// Lets `bytes_per_second` of payload through; zero means without limit. What comes faster waits in the
    /// [queue](Self::queue).
    #[must_use]
    pub const fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = NonZeroU64::new(bytes_per_second);
        self
    }

    /// Bounds what waits for the rate limit, in bytes of payload; the newest is dropped when it is full. An idle
    /// link takes any one datagram.
    #[must_use]
    pub const fn queue(mut self, bytes: usize) -> Self {
        self.queue = bytes;
        self
    }

    /// Marks ECN-capable datagrams ([`Ecn::Ce`]) that find more than `bytes` in the queue.
    #[must_use]
    pub const fn mark_above(mut self, bytes: usize) -> Self {
        self.mark = bytes;
        self
    }

    /// Drops datagrams with more than `bytes` of payload.
    #[must_use]
    pub const fn mtu(mut self, bytes: usize) -> Self {
        self.mtu = bytes;
        self
    }

    pub(crate) const fn least_delay(&self) -> Duration {
        self.delay
    }

    /// Whether the passage of a datagram is independent of those before it, so that no [`Lane`] need be kept.
    pub(crate) fn is_stateless(&self) -> bool {
        self.rate.is_none() && self.burst.is_none() && self.jitter.is_zero()
    }

    fn is_certain(&self) -> bool {
        let chances = [self.loss, self.reorder, self.duplicate, self.corrupt];
        chances.iter().all(|&chance| chance == Chance::NEVER) && self.burst.is_none() && self.jitter.is_zero()
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::perfect()
    }
}

/// Why a datagram did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dropped {
    /// Lost at random.
    Lost,
    /// Lost while the link was bad.
    Burst,
    /// The queue of the rate limit was full.
    QueueFull,
    /// Larger than the MTU.
    TooLarge,
    /// Nobody has that address.
    NoRoute,
    /// A partition or a cut lay between the two.
    Cut,
    /// The machine at that address is not running.
    Dead,
    /// The machine was suspended, and what its socket keeps for it was full.
    Suspended,
}

impl Dropped {
    /// Every cause.
    pub const ALL: &'static [Self] = &[
        Self::Lost,
        Self::Burst,
        Self::QueueFull,
        Self::TooLarge,
        Self::NoRoute,
        Self::Cut,
        Self::Dead,
        Self::Suspended,
    ];
}

/// How a datagram comes through a [`Wire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// When it arrives, on the clock of the `now` given to [`Wire::carry`].
    pub at: Duration,
    /// Whether it was held back, so that those behind it may overtake it.
    pub held: bool,
    /// When a duplicate of it arrives.
    pub copy_at: Option<Duration>,
    /// Which bit of the payload is flipped, counted from the lowest bit of the first byte.
    pub flipped: Option<usize>,
    /// Its congestion mark on arrival.
    pub ecn: Ecn,
}

impl Passage {
    /// Applies the corruption, if there is any.
    pub fn apply(&self, payload: &mut [u8]) {
        if let Some(bit) = self.flipped
            && let Some(byte) = payload.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
    }
}

/// One direction of a [`Link`] in use: its dice, its queue and whether it is in a burst.
#[derive(Debug)]
pub struct Wire {
    link: Link,
    lane: Lane,
    rng: Rng,
}

impl Wire {
    /// An idle wire.
    #[must_use]
    pub fn new(link: Link, seed: &Seed) -> Self {
        Self { link, lane: Lane::default(), rng: seed.rng() }
    }

    /// Changes the impairments; what is queued stays queued.
    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Sends a datagram of `len` bytes at `now` and says how it comes through.
    ///
    /// # Errors
    ///
    /// [`Dropped`] says why it does not arrive.
    pub fn carry(&mut self, len: usize, ecn: Ecn, now: Duration) -> Result<Passage, Dropped> {
        self.lane.carry(&self.link, &mut self.rng, len, ecn, now)
    }
}

/// The state of one direction. Small, because a large world holds one for every pair that talks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lane {
    /// When the bottleneck has sent all it has.
    busy_until: Duration,
    /// The latest arrival of what was not held back.
    last_arrival: Duration,
    in_burst: bool,
}

impl Lane {
    pub(crate) fn carry(
        &mut self,
        link: &Link,
        rng: &mut Rng,
        len: usize,
        ecn: Ecn,
        now: Duration,
    ) -> Result<Passage, Dropped> {
        if len > link.mtu {
            return Err(Dropped::TooLarge);
        }
        // Before the dice, so that a full queue costs no draws: whether it is full does not hang on them.
        let (departs, queued) = self.enqueue(link, len, now)?;
        let ecn = if ecn != Ecn::NotEct && queued > link.mark { Ecn::Ce } else { ecn };
        if link.is_certain() {
            let at = self.in_order(departs.saturating_add(link.delay));
            return Ok(Passage { at, held: false, copy_at: None, flipped: None, ecn });
        }

        let dice = Dice::roll(rng);
        if let Some(burst) = link.burst {
            let change = if self.in_burst { burst.leave } else { burst.enter };
            self.in_burst ^= change.hit(dice.burst);
        }
        match link.burst {
            Some(burst) if self.in_burst && burst.loss.hit(dice.loss) => return Err(Dropped::Burst),
            Some(_) if self.in_burst => {}
            _ if link.loss.hit(dice.loss) => return Err(Dropped::Lost),
            _ => {}
        }
        let at = departs.saturating_add(link.delay).saturating_add(portion(link.jitter, dice.jitter));
        let held = link.reorder.hit(dice.reorder);
        let at = if held { at.saturating_add(link.held) } else { self.in_order(at) };
        let copy_at = link.duplicate.hit(dice.duplicate).then(|| at.saturating_add(portion(link.jitter, dice.copy)));
        let bits = len.saturating_mul(8);
        let flipped = (bits > 0 && link.corrupt.hit(dice.corrupt))
            .then(|| usize::try_from(dice.bit).unwrap_or(0).checked_rem(bits).unwrap_or(0));
        Ok(Passage { at, held, copy_at, flipped, ecn })
    }

    /// When the last byte leaves the bottleneck, and how many bytes were waiting before it.
    fn enqueue(&mut self, link: &Link, len: usize, now: Duration) -> Result<(Duration, usize), Dropped> {
        let Some(rate) = link.rate else { return Ok((now, 0)) };
        let rate = u128::from(rate.get());
        let backlog = self.busy_until.saturating_sub(now);
        let queued = usize::try_from(backlog.as_nanos() * rate / NANOS).unwrap_or(usize::MAX);
        if queued > 0 && queued.saturating_add(len) > link.queue {
            return Err(Dropped::QueueFull);
        }
        let nanos = u64::try_from(len as u128 * NANOS / rate).unwrap_or(u64::MAX);
        self.busy_until = now.max(self.busy_until).saturating_add(Duration::from_nanos(nanos));
        Ok((self.busy_until, queued))
    }

    fn in_order(&mut self, at: Duration) -> Duration {
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }
}

/// One value for everything that may happen to a datagram, each below 2³².
struct Dice {
    burst: u64,
    loss: u64,
    jitter: u64,
    reorder: u64,
    duplicate: u64,
    copy: u64,
    corrupt: u64,
    bit: u64,
}

impl Dice {
    fn roll(rng: &mut Rng) -> Self {
        let mut two = || {
            let value = rng.next_u64();
            (value >> 32, value & 0xffff_ffff)
        };
        let ((burst, loss), (jitter, reorder), (duplicate, copy), (corrupt, bit)) = (two(), two(), two(), two());
        Self { burst, loss, jitter, reorder, duplicate, copy, corrupt, bit }
    }
}

/// `value / 2³²` of `span`.
fn portion(span: Duration, value: u64) -> Duration {
    let nanos = (span.as_nanos() * u128::from(value)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Burst {
    enter: Chance,
    leave: Chance,
    loss: Chance,
}

/// A probability in units of 2⁻³².
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chance(u64);

impl Chance {
    const NEVER: Self = Self(0);

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0..=2^32 after the clamp; the product is exact, and not-a-number becomes zero"
    )]
    fn of(p: f64) -> Self {
        Self((p.clamp(0.0, 1.0) * 4_294_967_296.0) as u64)
    }

    fn hit(self, value: u64) -> bool {
        value < self.0
    }
}

const NANOS: u128 = 1_000_000_000;
