mod batch;
mod chunk;

mod codec;
mod fragment;
mod reorder;
mod roundtrip;
mod vectors;

use std::time::{Duration, Instant};

/// Some instant; every other time of a test counts from it.
fn start() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The payload of the vectors: byte i = (7·i + i/256) mod 256.
fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((7 * i + i / 256) % 256) as u8).collect()
}

/// A small generator for models that need their own randomness.
#[derive(Clone)]
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
