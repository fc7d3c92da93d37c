//! A map for numbers that are given out in order and mostly given back in order.
//!
//! The invariant: rows are sorted by number, so iteration goes up.

use std::collections::VecDeque;

/// A map from numbers to values, for numbers that mostly come and go in order, as those of streams and requests do.
///
/// Finding, adding and removing take constant time where there are no gaps between the row and one end, or where it is at
/// an end; otherwise finding is a binary search, and adding and removing move the rows on the shorter side, so the caller
/// bounds how many there are. No allocation for a row: one for all, which [`remove`](Self::remove) never gives back.
///
/// ```
/// use structs::SequenceMap;
///
/// let mut calls: SequenceMap<&str> = (7..10).zip(["seven", "eight", "nine"]).collect();
/// assert_eq!(calls.remove(7), Some("seven"));
/// assert_eq!(calls.get(9), Some(&"nine"));
/// assert_eq!(calls.insert(8, "again"), Some("eight"));
/// assert_eq!(calls.keys().collect::<Vec<_>>(), [8, 9]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceMap<T> {
    rows: VecDeque<(u64, T)>,
}

impl<T> SequenceMap<T> {
    /// An empty map. It allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: VecDeque::new() }
    }

    /// How many numbers have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no number has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows there is memory for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.rows.capacity()
    }

    /// Gives back memory that no row is in.
    pub fn shrink_to_fit(&mut self) {
        self.rows.shrink_to_fit();
    }

    /// The value of a number.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        let at = self.place(number).ok()?;
        self.rows.get(at).map(|(_, value)| value)
    }

    /// The value of a number, to be changed.
    #[inline]
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.place(number).ok()?;
        self.rows.get_mut(at).map(|(_, value)| value)
    }

    /// Gives a number a value; returns the one it had.
    #[inline]
    pub fn insert(&mut self, number: u64, value: T) -> Option<T> {
        match self.place(number) {
            Ok(at) => self.rows.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) if at == self.rows.len() => {
                self.rows.push_back((number, value));
                None
            }
            Err(at) => {
                self.rows.insert(at, (number, value));
                None
            }
        }
    }

    /// Takes the value of a number away.
    #[inline]
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let row = match self.place(number).ok()? {
            0 => self.rows.pop_front(),
            at => self.rows.remove(at),
        };
        row.map(|(_, value)| value)
    }

    /// The numbers that have a value, going up.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.rows.iter().map(|(number, _)| *number)
    }

    /// Numbers and values, by rising number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.rows.iter().map(|(number, value)| (*number, value))
    }

    /// The same with values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.rows.iter_mut().map(|(number, value)| (*number, value))
    }

    /// Where the row of a number is, or would have to be.
    ///
    /// Without gaps it is as far from either end as its number is from the number there. The last row is looked at first:
    /// a few old numbers that stay, before many that come and go, are gaps behind the first.
    #[inline]
    fn place(&self, number: u64) -> Result<usize, usize> {
        let Some((last, _)) = self.rows.back() else { return Err(0) };
        let Some(behind) = last.checked_sub(number) else { return Err(self.rows.len()) };
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let at = (self.rows.len() - 1).wrapping_sub(behind);
        if self.is_at(at, number) { Ok(at) } else { self.place_from_first(number) }
    }

    fn place_from_first(&self, number: u64) -> Result<usize, usize> {
        let Some((first, _)) = self.rows.front() else { return Err(0) };
        let ahead = usize::try_from(number.wrapping_sub(*first)).unwrap_or(usize::MAX);
        if self.is_at(ahead, number) {
            return Ok(ahead);
        }
        self.rows.binary_search_by_key(&number, |(there, _)| *there)
    }

    #[inline]
    fn is_at(&self, at: usize, number: u64) -> bool {
        self.rows.get(at).is_some_and(|(there, _)| *there == number)
    }
}

impl<T> Default for SequenceMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FromIterator<(u64, T)> for SequenceMap<T> {
    fn from_iter<I: IntoIterator<Item = (u64, T)>>(rows: I) -> Self {
        let mut map = Self::new();
        for (number, value) in rows {
            map.insert(number, value);
        }
        map
    }
}

impl<T> IntoIterator for SequenceMap<T> {
    type Item = (u64, T);
    type IntoIter = std::collections::vec_deque::IntoIter<(u64, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}
