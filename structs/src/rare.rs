//! What is empty most of the time, in the space of a pointer.
//!
//! The invariant: what is read of one that holds nothing is what [`Blank::BLANK`] says.

use std::ops::{Deref, DerefMut};

use crate::RangeSet;

/// What there is one empty value of that all can share.
pub trait Blank: Default + 'static {
    /// That value.
    const BLANK: &'static Self;

    /// Whether it holds nothing.
    fn is_blank(&self) -> bool;
}

impl<T: 'static> Blank for Vec<T> {
    const BLANK: &'static Self = &Self::new();

    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<T: 'static> Blank for std::collections::VecDeque<T> {
    const BLANK: &'static Self = &Self::new();

    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Blank for RangeSet {
    const BLANK: &'static Self = &Self::new();

    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

/// A container that is made with the first change to it, for those of which there are many and most are empty.
///
/// What holds a thousand of them that are seldom used should not hold three words for each. Reading costs a branch; what is
/// changed stays until [`rest`](Self::rest), so that who uses it often allocates once.
///
/// ```
/// use structs::Rare;
///
/// let mut queue: Rare<Vec<u8>> = Rare::default();
/// assert!(queue.is_empty());
/// queue.push(1);
/// assert_eq!(queue.pop(), Some(1));
/// queue.rest();
/// assert_eq!(size_of_val(&queue), size_of::<usize>());
/// ```
#[derive(Debug, Clone)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    /// An empty one. It allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }
}

impl<T: Blank> Rare<T> {
    /// Gives back memory that nothing is in.
    pub fn rest(&mut self) {
        self.0.take_if(|value| value.is_blank());
    }

    /// What it holds, which is taken out of it.
    #[must_use]
    pub fn take(&mut self) -> T {
        self.0.as_deref_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Blank> Deref for Rare<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank> DerefMut for Rare<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_what_is_empty_goes() {
        let mut ranges: Rare<RangeSet> = Rare::new();
        ranges.rest();
        assert!(ranges.is_empty() && ranges.0.is_none());
        ranges.insert(3..5);
        ranges.rest();
        assert!(ranges.contains(4));
        assert!(ranges.take().contains(4) && ranges.is_empty());
        ranges.rest();
        assert!(ranges.0.is_none());
    }
}
