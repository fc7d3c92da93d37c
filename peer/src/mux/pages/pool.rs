//! Pages for the windows of one direction of a session.

use std::collections::VecDeque;

use super::{MAX_WIDE, PAGE, Page, WIDE};

/// Bytes of free pages of either width that are kept while none is in use.
pub(super) const MAX_IDLE: usize = 256 << 10;

/// Who never uses more narrow pages together is one of many that say little: it allocates them each time, and holds none between.
const FEW: u32 = 4;

/// With less memory than this all pages are narrow.
pub(super) const MIN_WIDE_MEMORY: usize = 1 << 20;

/// The pages of one direction of a session: counted, and kept for reuse.
///
/// None is allocated while one is free, and none of one width beside free ones of the other, so there are never more than were in use
/// at some time: what bounds those in use bounds the memory.
#[derive(Debug, Default)]
pub(in crate::mux) struct Pool {
    narrow: Stack,
    /// Nothing in a session that never held much, or rests.
    pub(super) busy: Option<Box<Busy>>,
    /// Pages of [`PAGE`] bytes that would hold what is in use.
    pub(super) used: u32,
    /// Whether windows may get wide pages, and how many have them.
    pub(super) may_widen: bool,
    pub(super) widened: u8,
}

/// What only a busy session needs.
#[derive(Debug, Default)]
pub(super) struct Busy {
    wide: Stack,
    /// Lists of pages that windows left, without pages: a short-lived stream needs no memory of its own.
    pub(super) lists: Vec<VecDeque<Option<Page>>>,
}

/// Pages of one width.
#[derive(Debug, Default)]
struct Stack {
    free: Vec<Page>,
    used: u32,
    /// The most that were in use since nothing was.
    peak: u32,
}

impl Stack {
    fn take(&mut self) -> Option<Page> {
        self.used += 1;
        self.peak = self.peak.max(self.used);
        self.free.pop()
    }

    /// Keeps it, if more than `few` were in use together.
    fn give(&mut self, page: Page, few: u32) {
        self.used = self.used.saturating_sub(1);
        if self.peak > few || !self.free.is_empty() {
            self.free.push(page);
        }
    }

    /// Nothing is in use: what comes next will want about as much as what is over now.
    fn relax(&mut self, few: u32, max: usize) {
        let peak = std::mem::take(&mut self.peak);
        let keep = if peak > few { (peak as usize).min(max) } else { 0 };
        if self.free.len() > keep {
            self.free.truncate(keep);
            self.free.shrink_to(keep);
        }
    }

    const fn len(&self) -> usize {
        self.used as usize + self.free.len()
    }
}

impl Pool {
    /// A pool whose windows get wide pages when they hold much: up to [`MAX_WIDE`] of them, if `memory` bytes are enough for that.
    pub(in crate::mux) fn new(memory: usize) -> Self {
        Self { may_widen: memory >= MIN_WIDE_MEMORY, ..Self::default() }
    }

    /// What wide pages may take beyond what is [`used`](Self::used).
    pub(in crate::mux) const fn slack(memory: usize) -> usize {
        if memory >= MIN_WIDE_MEMORY { MAX_WIDE * 2 * WIDE } else { 0 }
    }

    // What a page held before is never read: its owner knows which bytes it filled.

    pub(super) fn take(&mut self) -> Page {
        self.used += 1;
        self.narrow.take().unwrap_or_else(|| {
            if let Some(busy) = &mut self.busy {
                busy.wide.free.pop();
            }
            vec![0; PAGE].into()
        })
    }

    pub(super) fn take_wide(&mut self) -> Page {
        self.busy.get_or_insert_default().wide.take().unwrap_or_else(|| {
            let left = self.narrow.free.len().saturating_sub(WIDE / PAGE);
            self.narrow.free.truncate(left);
            vec![0; WIDE].into()
        })
    }

    pub(super) fn give(&mut self, page: Page) {
        if page.len() == WIDE {
            self.busy.get_or_insert_default().wide.give(page, 0);
        } else {
            self.used = self.used.saturating_sub(1);
            self.narrow.give(page, FEW);
        }
        if self.narrow.used == 0 && self.busy.as_ref().is_none_or(|busy| busy.wide.used == 0) {
            self.narrow.relax(FEW, MAX_IDLE / PAGE);
            if let Some(busy) = &mut self.busy {
                busy.wide.relax(0, MAX_IDLE / WIDE);
            }
        }
    }

    /// Gives back what is kept for reuse.
    pub(in crate::mux) fn rest(&mut self) {
        self.narrow.free = Vec::new();
        if let Some(busy) = self.busy.take_if(|busy| busy.wide.used == 0) {
            drop(busy);
        } else if let Some(busy) = &mut self.busy {
            (busy.wide.free, busy.lists) = (Vec::new(), Vec::new());
        }
    }

    /// Bytes of the pages in use, as if all were of [`PAGE`] bytes.
    pub(in crate::mux) const fn used(&self) -> usize {
        self.used as usize * PAGE
    }

    /// Bytes of all pages, in use and free.
    pub(in crate::mux) const fn memory(&self) -> usize {
        let wide = match &self.busy {
            Some(busy) => busy.wide.len(),
            None => 0,
        };
        self.narrow.len() * PAGE + wide * WIDE
    }
}
