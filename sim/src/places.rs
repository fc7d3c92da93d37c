//! Where machines are, and how long a datagram is on its way from one to another because of that.
//!
//! The invariant: the place of a machine follows from the seed of the world and its number alone, by integer arithmetic, so that
//! it is the same on every machine that simulates it.

use std::time::Duration;

use crypto::{Rng, Seed};

/// A plan that gives each machine a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Places {
    /// All are in one place: only the [`Link`](crate::Link) delays.
    #[default]
    One,
    /// Spread over the world as users of the internet are, roughly: twelve regions on a globe, a straight way between any two, and
    /// an access line for each, of 0.5 to 90 ms. Half of all pairs are less than about 90 ms apart, there and back.
    World,
}

/// The place of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// On or near the globe, in microseconds of travel.
    at: [i32; 3],
    /// What its access line adds to each datagram, in microseconds.
    access: u32,
}

impl Places {
    /// The place of machine number `index`.
    pub(crate) fn at(self, seed: &Seed, index: u32) -> Place {
        match self {
            Self::One => Place::default(),
            Self::World => Place::draw(&mut seed.fork(&format!("place {index}")).rng()),
        }
    }
}

impl Place {
    fn draw(rng: &mut Rng) -> Self {
        let mut number = rng.below(REGIONS.iter().map(|region| region.share).sum());
        let region = REGIONS.iter().find(|region| match number.checked_sub(region.share) {
            Some(rest) => {
                number = rest;
                false
            }
            None => true,
        });
        let middle = region.map_or([0; 3], |region| region.at);
        let at = middle.map(|axis| axis * RADIUS + small(rng.below(2 * SPREAD)) - small(SPREAD));
        // Between two of the quantiles, evenly.
        let step = rng.below(ACCESS.len() as u64 - 1);
        let (low, high) = match ACCESS.windows(2).zip(0..).find(|(_, number)| *number == step) {
            Some(([low, high], _)) => (*low, *high),
            _ => (0, 1),
        };
        Self { at, access: low + u32::try_from(rng.below(u64::from(high - low))).unwrap_or(0) }
    }

    /// How long a datagram is on its way to another place, at least.
    pub(crate) fn delay(&self, other: &Self) -> Duration {
        let axes = self.at.iter().zip(other.at).map(|(a, b)| u64::from(a.abs_diff(b)).pow(2));
        let way = axes.sum::<u64>().isqrt();
        Duration::from_micros(way + u64::from(self.access) + u64::from(other.access))
    }

    /// What queues on both access lines add to one datagram: mostly little, a fifth of the lines' delay on average, all of it
    /// at worst. Takes eight bytes from `rng`.
    pub(crate) fn jitter(&self, other: &Self, rng: &mut Rng) -> Duration {
        let chance = rng.next_u64() >> 32;
        let fourth = ((chance * chance) >> 32).pow(2) >> 32;
        Duration::from_micros(((u64::from(self.access) + u64::from(other.access)) * fourth) >> 32)
    }
}

fn small(value: u64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

struct Region {
    /// On a globe of radius 1000.
    at: [i32; 3],
    /// Of 100 machines.
    share: u64,
}

const REGIONS: [Region; 12] = [
    Region { at: [669, 23, 743], share: 22 },   // Europe, west
    Region { at: [571, 231, 788], share: 12 },  // Europe, east
    Region { at: [402, 388, 829], share: 5 },   // Russia
    Region { at: [185, -743, 643], share: 16 }, // North America, east
    Region { at: [-399, -692, 602], share: 9 }, // North America, west
    Region { at: [629, -698, -342], share: 7 }, // South America
    Region { at: [211, 916, 342], share: 8 },   // India
    Region { at: [-363, 745, 559], share: 9 },  // China and Korea
    Region { at: [-618, 537, 574], share: 4 },  // Japan
    Region { at: [-258, 964, 70], share: 4 },   // South-east Asia
    Region { at: [-711, 427, -559], share: 2 }, // Australia
    Region { at: [870, 462, -174], share: 2 },  // Africa
];

/// Microseconds for a thousandth of the globe's radius. Half around the globe and back it makes 108 ms without access lines.
const RADIUS: i32 = 27;
/// How far from the middle of its region a machine is on each axis at most, in microseconds.
const SPREAD: u64 = 4_000;
/// Quantiles of what access lines add, in microseconds.
const ACCESS: [u32; 9] = [500, 1_000, 2_000, 3_000, 5_000, 8_000, 12_000, 20_000, 90_000];
