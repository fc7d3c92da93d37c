//! What follows when a dial is answered, a session ends, or two sessions have one key.
//!
//! The invariant: a key has one open session. Of two, the newer one stays, for the older one is what a restart left
//! behind; but of two dials that crossed, both sides keep the one that the smaller id began.

use std::net::IpAddr;
use std::time::Instant;

use crypto::PeerId;
use framing::Role;
use structs::{Path, Rare};

use super::admission::Origin;
use super::table::Phase;
use super::{Endpoint, limits};

/// What becomes of a session that a peer has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settlement {
    /// It takes the place of our dial.
    Adopt(u32),
    /// It takes the place of an older session.
    Replace(u32),
    /// It is the only one.
    New,
    /// It goes: our own session with the peer is the one that both keep.
    Refuse,
}

impl Endpoint {
    /// Takes note of what has become of a peer.
    pub(super) fn advance(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        if entry.phase == Phase::Dialling && !entry.peer.is_dialling() && !entry.peer.is_closed() {
            self.on_dial_answered(index);
        }
        if self.table.get(index).is_some_and(|entry| entry.phase != Phase::Ended && entry.peer.is_closed()) {
            self.on_ended(index);
        }
    }

    /// A dial became a session.
    fn on_dial_answered(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        let begun = entry.begun;
        entry.phase = Phase::Open;
        (entry.tried, entry.yields_until) = (Rare::new(), None);
        let Some(id) = entry.peer.id() else { return };
        if self.table.dialling.get(&id) == Some(&index) {
            self.table.dialling.remove(&id);
        }
        if id == self.id {
            // Whoever answers at the address is ourselves.
            self.end_silently(index);
            return;
        }
        match self.table.open.get(&id).copied() {
            Some(other) if self.stays(other, Role::Dialler, begun) => self.end_silently(index),
            Some(other) => {
                self.table.open.insert(id, index);
                self.end_silently(other);
            }
            None => {
                self.table.open.insert(id, index);
            }
        }
    }

    /// Whether an open session stays when another with the same key begins, dialled by `dialler` as seen from here, of
    /// which the first message was sent or seen at `begun`.
    ///
    /// Who has answered a dial does not dial himself, so of two dials that cross the first messages are both under way
    /// before either is a session: one that is seen later, or after he said something in the open session, is not of a
    /// dial that crossed, but of somebody who has lost the open session.
    fn stays(&self, index: u32, dialler: Role, begun: Instant) -> bool {
        let Some(entry) = self.table.get(index) else { return false };
        let (Some(id), Some(since)) = (entry.peer.id(), entry.peer.established_at()) else { return false };
        let role = entry.peer.role();
        let overtaken = entry.heard.is_none_or(|heard| begun <= heard);
        let crossed = role != dialler && overtaken && begun.saturating_duration_since(since) < limits::CROSSING;
        // Ours stays if we are the smaller one, theirs if they are.
        crossed && (role == Role::Dialler) == (self.id < id)
    }

    /// What becomes of a session that the holder of a key began and has confirmed.
    pub(super) fn settle(&self, id: &PeerId, begun: Instant) -> Settlement {
        if let Some(&dial) = self.table.dialling.get(id) {
            return Settlement::Adopt(dial);
        }
        match self.table.open.get(id) {
            Some(&open) if self.stays(open, Role::Responder, begun) => Settlement::Refuse,
            Some(&open) => Settlement::Replace(open),
            None => Settlement::New,
        }
    }

    /// Ends a session whose place another has taken.
    pub(super) fn end_silently(&mut self, index: u32) {
        let now = self.now;
        if let Some(entry) = self.table.get_mut(index) {
            entry.peer.replaced(now);
        }
        self.touch(index);
    }

    fn on_ended(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        entry.phase = Phase::Ended;
        let (id, origin) = (entry.peer.id(), entry.origin.take());
        self.table.live = self.table.live.saturating_sub(1);
        self.sessions.remove(origin);
        if let Some(id) = id {
            for places in [&mut self.table.dialling, &mut self.table.open] {
                if places.get(&id) == Some(&index) {
                    places.remove(&id);
                }
            }
        }
    }

    /// Forgets a peer that has ended and has nothing more to tell.
    pub(super) fn remove_ended(&mut self, index: u32) {
        if self.table.get(index).is_some_and(|entry| entry.phase == Phase::Ended)
            && let Some(entry) = self.table.remove(index)
        {
            self.stats.rejected.merge(&entry.peer.stats().rejected);
        }
    }

    /// Sends the first message of a dial to another address too.
    pub(super) fn also_try(&mut self, index: u32, path: Path) {
        let now = self.now;
        if let Some(entry) = self.table.get_mut(index)
            && !entry.has_tried(&path)
            && crate::limits::has_room(&entry.tried, &path)
        {
            entry.tried.push(path);
            entry.peer.also_try(path, now);
        }
        self.touch(index);
    }

    /// Lets the other side's dial go first for a while. Not for ever: its first message may be a recorded one, and
    /// without this the two dials would still come to one session.
    pub(super) fn yield_dial(&mut self, index: u32) {
        let after = |span| self.now.checked_add(span).unwrap_or(self.now);
        let (until, limit) = (after(limits::YIELD), after(limits::YIELD_IN_ALL));
        if let Some(entry) = self.table.get_mut(index) {
            let limit = entry.yields_until.as_ref().map_or(limit, |yields| yields.1);
            if self.now < limit {
                let until = until.min(limit);
                entry.yields_until = Some(Box::new((until, limit)));
                entry.peer.suspend_dial(until);
            }
        }
        self.touch(index);
    }

    pub(super) fn origin(&self, ip: IpAddr) -> Option<Origin> {
        Origin::of(ip, self.shared.config.subnet_limits)
    }

    /// Whether one more session fits, which `origin` opened.
    pub(super) fn has_room(&self, origin: Option<Origin>) -> bool {
        self.table.len() < self.shared.config.max_peers && self.sessions.has_room(origin)
    }

    /// Whether there is a session with a key, or a dial to it.
    pub(super) fn is_known(&self, id: &PeerId) -> bool {
        self.table.open.contains_key(id) || self.table.dialling.contains_key(id)
    }
}
