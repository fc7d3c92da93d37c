//! How a node ends: what waits is sent, goodbyes leave, and whoever waits for anything is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Driver;
use super::builder::NO_GRACE;
use super::limits::LAST_WORDS;
use super::shared::{Ending, Shared};

/// The node is ending.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// When the time is over.
    pub(super) at: Instant,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The sessions are given what waits in the outboxes.
    Collect,
    /// The sessions send what they have.
    Drain,
    /// Goodbyes leave; what the sockets have not taken when the time is over is lost.
    Leave,
}

/// However the driver ends, no handle waits for it from then on.
#[derive(Debug)]
pub(super) struct Closes(pub(super) Arc<Shared>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Driver {
    /// A handle wishes the node to end.
    pub(super) fn begin_to_end(&mut self, ending: Option<Ending>, now: Instant) {
        let (end, grace) = match (ending, self.ending) {
            (Some(Ending::Abort), _) => (true, Duration::ZERO),
            (Some(Ending::Shutdown(grace)), None) => (true, grace),
            _ => (false, Duration::ZERO),
        };
        if end {
            self.table.save(&self.node);
            let stage = self.ending.map_or(Stage::Collect, |end| end.stage);
            // Beyond the range of the clock is no limit at all; a day is close enough.
            let at = now.checked_add(grace).unwrap_or(now + Duration::from_secs(86_400));
            if self.ending.is_none_or(|end| end.stage != Stage::Leave) {
                self.ending = Some(End { at, stage });
            }
        }
    }

    /// Brings a node that is to end closer to its end.
    pub(super) fn end(&mut self, now: Instant) {
        let Some(end) = &mut self.ending else { return };
        let over = end.at <= now;
        let pending = !self.sessions.values().all(|session| session.is_drained());
        if end.stage == Stage::Collect && (over || !pending) {
            end.stage = Stage::Drain;
            self.shared.close();
            self.node.shutdown(end.at.saturating_duration_since(now), now);
        }
        if end.stage == Stage::Drain && over {
            *end = End { at: now + LAST_WORDS, stage: Stage::Leave };
            self.node.shutdown(NO_GRACE, now);
        }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.ending.is_some_and(|end| {
            let left = self.node.is_closed() && self.held.is_none();
            left || (end.stage == Stage::Leave && end.at <= now)
        })
    }
}
