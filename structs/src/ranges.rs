//! Sets of numbers that come in runs: received packet numbers, received bytes of a stream.

use std::ops::Range;

/// A set of `u64` as sorted, disjoint, non-adjacent half-open ranges.
///
/// Made for few ranges (tens), with most changes at the upper end: lookup is a binary search, a change in the middle
/// moves what lies behind it. It allocates with its first range. It has no bound of its own: whoever feeds it from
/// the network checks [`len`](Self::len).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<Range<u64>>,
}

impl RangeSet {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds all numbers of `range`. Returns whether any of them was new; an empty range adds nothing.
    pub fn insert(&mut self, range: Range<u64>) -> bool {
        if range.start >= range.end {
            return false;
        }
        // The common case first: the next number of the last run.
        match self.ranges.last_mut() {
            Some(last) if range.start == last.end => {
                last.end = range.end;
                return true;
            }
            Some(last) if range.start < last.end => {}
            _ => {
                self.ranges.push(range);
                return true;
            }
        }
        // Every range from `first` up to `past` touches or overlaps the new one.
        let first = self.ranges.partition_point(|have| have.end < range.start);
        let past = first + self.ranges[first..].partition_point(|have| have.start <= range.end);
        if first == past {
            self.ranges.insert(first, range);
            return true;
        }
        let (low, high) = (self.ranges[first].start, self.ranges[past - 1].end);
        if past == first + 1 && low <= range.start && range.end <= high {
            return false;
        }
        self.ranges[first] = low.min(range.start)..high.max(range.end);
        self.ranges.drain(first + 1..past);
        true
    }

    /// Takes all numbers of `range` out. Returns whether any of them was there.
    pub fn remove(&mut self, range: Range<u64>) -> bool {
        if range.start >= range.end {
            return false;
        }
        let first = self.ranges.partition_point(|have| have.end <= range.start);
        let past = first + self.ranges[first..].partition_point(|have| have.start < range.end);
        if first == past {
            return false;
        }
        let (low, high) = (self.ranges[first].start, self.ranges[past - 1].end);
        let left = (low < range.start).then_some(low..range.start);
        let right = (range.end < high).then_some(range.end..high);
        self.ranges.splice(first..past, left.into_iter().chain(right));
        true
    }

    /// Whether `number` is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let at = self.ranges.partition_point(|have| have.end <= number);
        self.ranges.get(at).is_some_and(|have| have.start <= number)
    }

    /// Whether all numbers of `range` are in the set; true of an empty one.
    #[must_use]
    pub fn covers(&self, range: Range<u64>) -> bool {
        let at = self.ranges.partition_point(|have| have.end <= range.start);
        range.start >= range.end
            || self.ranges.get(at).is_some_and(|have| have.start <= range.start && range.end <= have.end)
    }

    /// The lowest run.
    #[must_use]
    pub fn first(&self) -> Option<Range<u64>> {
        self.ranges.first().cloned()
    }

    /// The highest run.
    #[must_use]
    pub fn last(&self) -> Option<Range<u64>> {
        self.ranges.last().cloned()
    }

    /// Takes the lowest run out.
    pub fn pop_first(&mut self) -> Option<Range<u64>> {
        (!self.ranges.is_empty()).then(|| self.ranges.remove(0))
    }

    /// The runs, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator + '_ {
        self.ranges.iter().cloned()
    }

    /// How many runs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Gives back memory that it has beyond what it holds.
    pub fn shrink_to_fit(&mut self) {
        self.ranges.shrink_to_fit();
    }

    /// Empties the set and gives its memory back.
    pub fn clear(&mut self) {
        self.ranges = Vec::new();
    }
}
