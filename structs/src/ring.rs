//! A first-in first-out queue with a bound that its user must face.
//!
//! The invariant: `len() <= capacity()`. What happens at the bound is said at every insertion, by the choice of
//! [`Ring::push`] or [`Ring::push_overwrite`].

use std::collections::VecDeque;

/// A queue of at most `capacity` items, oldest out first.
///
/// Memory follows the content, not the capacity: it grows by doubling, never beyond the capacity, and is given
/// back when the queue drains. All operations are amortised O(1).
#[derive(Debug, Clone)]
pub struct Ring<T> {
    items: VecDeque<T>,
    capacity: usize,
}

impl<T> Ring<T> {
    /// An empty ring. One of capacity 0 holds nothing and is always full.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { items: VecDeque::new(), capacity }
    }

    /// Appends `item`.
    ///
    /// # Errors
    ///
    /// Gives `item` back if the ring is full; nothing has changed then.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.is_full() {
            return Err(item);
        }
        let len = self.items.len();
        if len == self.items.capacity() {
            let grown = len.saturating_mul(2).max(SMALLEST).min(self.capacity);
            self.items.reserve_exact(grown - len);
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Appends `item`; on a full ring the oldest item makes room and is returned.
    ///
    /// A ring of capacity 0 returns `item` itself.
    pub fn push_overwrite(&mut self, item: T) -> Option<T> {
        let oldest = if self.is_full() { self.items.pop_front() } else { None };
        match self.push(item) {
            Ok(()) => oldest,
            Err(item) => Some(item),
        }
    }

    /// Removes and returns the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front();
        let (len, allocated) = (self.items.len(), self.items.capacity());
        if allocated > SHRINK_ABOVE && len <= allocated / 4 {
            // Half stays, so that a queue that hovers around this length does not allocate on every turn.
            self.items.shrink_to(allocated / 2);
        }
        item
    }

    /// The oldest item.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    /// The oldest item, for changing it in place.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.items.front_mut()
    }

    /// Every item, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.items.iter()
    }

    /// The number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether [`push`](Self::push) would refuse.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.capacity
    }

    /// The most items there may be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The number of items that memory is held for: never above the capacity.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.items.capacity().min(self.capacity) // that of items without a size is infinite
    }

    /// Drops every item and frees the memory.
    pub fn clear(&mut self) {
        self.items = VecDeque::new();
    }
}

/// The first allocation, in items.
const SMALLEST: usize = 4;
/// Allocations of no more items are not worth shrinking.
const SHRINK_ABOVE: usize = 16;
