//! What a session gives back when nothing happens.
//!
//! A session that is used has its keys set up, a model of its path, records of packets and queues with room in them. All
//! that is several KiB, and all of it is empty, or can be made again, when a session is only kept open. It comes to rest
//! when it was not used for [`REST_AFTER`] and nothing is under way; a PING and its answer wake it for a round trip. So
//! whoever asks and answers every second allocates nothing for it, and what is only there costs little. What is known
//! of the speed of a path is kept longer: for [`FORGET_AFTER`], and until the next PING.
//!
//! What many sessions hold at once stays with the process, whatever they give back, because the allocator has something else on
//! every page. An endpoint therefore sees to it that of many that are new few are awake: see `endpoint/young.rs`.

use std::time::{Duration, Instant};

use crate::limits::{FORGET_AFTER, REST_AFTER};
use crate::session::{Context, Session};

impl Session {
    /// When it may come to rest, if that takes a look at the clock; what is still under way then ends with a packet or a
    /// time-out, after which it is looked at as well.
    pub(crate) fn rest_at(&self) -> Option<Instant> {
        let at = self.last_used + REST_AFTER;
        (self.awake && at > self.last_called).then_some(at)
    }

    /// Comes to rest if it was not used for so long. To be called when there is nothing to send.
    pub(crate) fn rest_if_quiet(&mut self, after: Duration, cx: &mut Context<'_>) {
        if self.awake && cx.now >= self.last_used + after && self.recovery.is_settled() && !self.acks.is_waiting() {
            self.awake = false;
            self.rest(cx);
        }
    }

    fn rest(&mut self, cx: &mut Context<'_>) {
        if cx.now >= self.last_used + REST_AFTER {
            // What was sealed with the keys before these was sent a long time before, and has arrived or never will.
            self.keys.keep_old_until(cx.now);
            self.keys.expire_old(cx.now);
        }
        self.keys.rest();
        self.recovery.rest(cx.now >= self.last_used + FORGET_AFTER, cx.now);
        self.acks.rest();
        self.remote.rest();
        self.outcome = None;
        self.control.new_cids.rest();
        self.control.retire.rest();
        self.control.responses.rest();
        cx.rng.rest();
        cx.mux.rest();
        cx.events.shrink_to_fit();
        cx.routes.rest();
    }
}
