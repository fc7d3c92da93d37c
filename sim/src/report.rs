//! Samples and their percentiles.

use std::fmt;

/// Measured values of one kind: times, counts, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples<T> {
    sorted: Vec<T>,
}

impl<T: Ord + Copy> Samples<T> {
    /// Takes the values in any order.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = T>) -> Self {
        let mut sorted: Vec<T> = values.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The smallest.
    #[must_use]
    pub fn min(&self) -> Option<T> {
        self.sorted.first().copied()
    }

    /// The largest.
    #[must_use]
    pub fn max(&self) -> Option<T> {
        self.sorted.last().copied()
    }

    /// The smallest value that at least `percent` of 100 do not exceed: the nearest-rank percentile, always one of the
    /// samples. `percent` is clamped to 0..=100.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank between 0 and the count"
    )]
    pub fn percentile(&self, percent: f64) -> Option<T> {
        let rank = (percent.clamp(0.0, 100.0) / 100.0 * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied()
    }

    /// The 50th percentile.
    #[must_use]
    pub fn median(&self) -> Option<T> {
        self.percentile(50.0)
    }
}

/// One line: count, least, 50th, 90th and 99th percentile, greatest.
impl<T: Ord + Copy + fmt::Debug> fmt::Display for Samples<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={}", self.len())?;
        let points = [("min", 0.0), ("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("max", 100.0)];
        for (name, percent) in points {
            if let Some(value) = self.percentile(percent) {
                write!(f, " {name}={value:?}")?;
            }
        }
        Ok(())
    }
}
