//! What is looked after now and then: interfaces, seeds, connections, what nobody waits for any more.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::oneshot;

use super::command::Command;
use super::limits::{INTERFACES_EVERY, RELAY_PATIENCE};
use super::session::Session;
use super::target::{DialTarget, Resolved};
use super::{Driver, lan, relays};
use crate::reach::Reach;
use crate::udp::Udp;

impl Driver {
    /// The interfaces, the seeds and what nobody waits for any more.
    pub(super) fn keep_house(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        if self.house_due <= now {
            self.house_due = now.checked_add(INTERFACES_EVERY).unwrap_or(now);
            self.follow_interfaces(now);
            self.tell_sources();
            self.carriers.sweep(&mut self.node, now);
            self.relays.stale = true;
            self.shared.services.sweep();
            for handle in std::mem::take(&mut self.used) {
                if let Some(session) = self.sessions.get_mut(&handle) {
                    session.tidy();
                }
            }
            let messages = self.node.protocols().message;
            let is_of_interest = |session: &Session| session.streams() > 0 || session.narrowed;
            for (handle, session) in self.sessions.iter_mut().filter(|(_, session)| is_of_interest(session)) {
                self.node.with(*handle, now, |peer, _| session.sweep(peer, messages));
                // The next visit tells of it.
                if !session.failed.is_empty() && !std::mem::replace(&mut session.listed, true) {
                    self.work.push(*handle);
                }
            }
            self.dials.retain(|_, reply| !reply.is_closed());
            self.sweep_table(now);
        }
        if self.searches.deadline().is_some_and(|at| at <= now) {
            self.end_searches(now);
        }
        self.keep_table(now);
        self.keep_stun(now);
        let due = self.seeds.due(!self.roster.is_empty(), now).to_vec();
        due.iter().for_each(|seed| self.dial_target(seed, None));
    }

    /// Looks which networks this machine is in, and by which addresses others reach the sockets there.
    pub(super) fn follow_interfaces(&mut self, now: Instant) {
        let bound: Vec<SocketAddr> = self.sockets.iter().map(Udp::local).collect();
        let interfaces = lan::interfaces(&bound);
        if let Some(lan) = &mut self.lan {
            lan.follow(&interfaces);
            self.node.set_interfaces(&interfaces, now);
        }
        self.node.set_addresses(&interfaces, &lan::addresses(&bound), now);
        self.report_sockets();
    }

    /// Dials a peer that nobody waits for, once its names are looked up, at the addresses within a reach if there is one. If that
    /// fails now, it is tried again later.
    pub(super) fn dial_target(&self, target: &DialTarget, within: Option<Reach>) {
        let (mut target, commands) = (target.clone(), self.shared.commands.clone());
        tokio::spawn(async move {
            let (relays, way) = (std::mem::take(&mut target.relays), target.way);
            if let Ok(Resolved { peer, mut addrs, mut streams }) = target.resolve().await {
                let is_near =
                    |addr: &SocketAddr| within.is_none_or(|far| Reach::of(addr.ip()).is_some_and(|of| of <= far));
                addrs.retain(is_near);
                streams.retain(|stream| is_near(&stream.addr));
                if within.is_some() && addrs.is_empty() && streams.is_empty() {
                    return;
                }
                let relays = relays::learn_all(relays, RELAY_PATIENCE, &commands).await;
                let (reply, _nobody) = oneshot::channel();
                let _ = commands.send(Command::Dial { peer, addrs, streams, relays, way, reply }).await;
            }
        });
    }
}
