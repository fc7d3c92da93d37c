//! Which peers messages are flooded through.
//!
//! Degree 6, raised below 4 and cut above 16 by score; the degree itself follows the round-trip times within 4 and
//! 16, as the existing nodes have it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::v12::limits;

use super::{LinkId, Node};

/// How often the degree follows the round-trip times.
const ADAPT_INTERVAL: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(200);
const FAST: Duration = Duration::from_millis(50);
/// Scores stay within this, both ways.
const MAX_SCORE: i32 = 1000;

#[derive(Debug)]
pub(super) struct Mesh {
    degree: usize,
    adapt_at: Instant,
    pub(super) maintain_at: Instant,
}

impl Mesh {
    pub(super) fn new(now: Instant) -> Self {
        Self { degree: limits::MESH_D, adapt_at: now + ADAPT_INTERVAL, maintain_at: now + limits::HEARTBEAT }
    }

    /// There are peers again.
    pub(super) fn resume(&mut self, now: Instant) {
        *self = Self { degree: self.degree, ..Self::new(now) };
    }
}

impl Node {
    /// The ids of the mesh, in the order of their connecting.
    pub(super) fn mesh(&self) -> Vec<LinkId> {
        self.connected().filter(|(_, link)| link.in_mesh).map(|(id, _)| id).collect()
    }

    pub(super) fn add_to_mesh(&mut self, id: LinkId) {
        let room = self.mesh().len() < self.mesh.degree;
        if let Some(link) = self.links.get_mut(&id) {
            link.in_mesh = room;
        }
    }

    pub(super) fn score(&mut self, id: LinkId, change: i32) {
        if let Some(link) = self.links.get_mut(&id) {
            link.score = link.score.saturating_add(change).clamp(-MAX_SCORE, MAX_SCORE);
        }
    }

    /// Passes a message on to the mesh, but not back. A neighbour whose queue is full misses it: another will have it.
    pub(super) fn flood(&mut self, from: LinkId, message: &Bytes) {
        if !self.config.flood {
            return;
        }
        for id in self.mesh() {
            if id == from {
                continue;
            }
            if let Some(link) = self.links.get_mut(&id) {
                if link.peer.send(message.clone(), self.now).is_ok() {
                    self.touch(id);
                } else {
                    self.stats.not_flooded += 1;
                }
            }
        }
    }

    pub(super) fn maintain_mesh(&mut self) {
        let now = self.now;
        if now < self.mesh.maintain_at {
            return;
        }
        self.mesh.maintain_at = now + limits::HEARTBEAT;
        if now >= self.mesh.adapt_at {
            self.mesh.adapt_at = now + ADAPT_INTERVAL;
            self.adapt_degree();
        }
        let mut ranked: Vec<(i32, LinkId, bool)> =
            self.connected().map(|(id, link)| (link.score, id, link.in_mesh)).collect();
        ranked.sort_unstable();
        let size = ranked.iter().filter(|(_, _, in_mesh)| *in_mesh).count();
        if size > limits::MESH_D_HIGH {
            let surplus = size - self.mesh.degree;
            for (_, id, _) in ranked.iter().filter(|(_, _, in_mesh)| *in_mesh).take(surplus) {
                self.set_in_mesh(*id, false);
            }
        } else if size < limits::MESH_D_LOW {
            let missing = self.mesh.degree.saturating_sub(size);
            for (_, id, _) in ranked.iter().rev().filter(|(_, _, in_mesh)| !*in_mesh).take(missing) {
                self.set_in_mesh(*id, true);
            }
        }
    }

    fn set_in_mesh(&mut self, id: LinkId, in_mesh: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            link.in_mesh = in_mesh;
        }
    }

    fn adapt_degree(&mut self) {
        let rtts: Vec<Duration> = self.connected().map(|(_, link)| link.peer.rtt()).collect();
        let Ok(count) = u32::try_from(rtts.len()) else { return };
        if count == 0 {
            return;
        }
        let mean = rtts.iter().sum::<Duration>() / count;
        if mean > SLOW && self.mesh.degree > limits::MESH_D_LOW {
            self.mesh.degree -= 1;
        } else if mean < FAST && self.mesh.degree < limits::MESH_D_HIGH && rtts.len() > self.mesh.degree + 2 {
            self.mesh.degree += 1;
        }
    }
}
