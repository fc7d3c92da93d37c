//! New sessions, which hold what they give back when they come to rest.
//!
//! A session rests two seconds after it was used. A thousand that are opened within these two seconds and then say little would
//! each hold several KiB until then, and the process for ever: the allocator cannot give back a page of which a part is in use.
//! So where many are new, those that were quiet for a moment rest already. A few times for each: who talks again after such a
//! moment pays a few microseconds for it, and from then on has the two seconds.
//!
//! The list has no time of its own. It is looked at when a session has had its turn, a few places at a time, so that a turn costs the
//! same however long it is; and when nobody has a turn, nothing is opened either.

use std::collections::VecDeque;
use std::time::Instant;

use super::Handle;
use super::limits::YOUNG;
use super::table::Table;

/// How many are looked at when a session has had its turn: more than come, so that the list becomes shorter.
const LOOKS: usize = 2;

/// Those that are awake; those that were looked at last are behind. Each is in it once.
#[derive(Debug, Default)]
pub(super) struct Young(VecDeque<Handle>);

impl Young {
    /// A session had its turn: takes note of it if it is a new one, and lets others rest.
    pub(super) fn had_turn(&mut self, table: &mut Table, index: u32, now: Instant) {
        if let Some(entry) = table.get_mut(index).filter(|entry| !entry.is_listed && entry.listings > 0) {
            (entry.is_listed, entry.listings) = (true, entry.listings - 1);
            self.0.push_back(table.handle(index));
        }
        for _ in 0..LOOKS {
            if self.0.len() <= YOUNG {
                return;
            }
            let Some(handle) = self.0.pop_front() else { return };
            let Some(index) = table.index(handle) else { continue };
            let Some(entry) = table.get_mut(index) else { continue };
            if entry.peer.rest_early(now) {
                entry.is_listed = false;
                table.settle_deadline(index);
            } else {
                self.0.push_back(handle);
            }
        }
    }
}
