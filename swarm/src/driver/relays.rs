//! What the net task has to do with relays: those that the owner named are learned and kept known, and the handles hear how
//! it goes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use relay::client::Named;
use tokio::sync::{mpsc, oneshot, watch};

use super::Driver;
use super::command::Command;
use super::events::SwarmEvent;
use super::target::{DialTarget, Resolved};
use crate::clock;
use crate::{PeerId, RelayState, RelayStatus};

/// Where this node is for others, beside the addresses of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outward {
    pub(crate) relays: Vec<RelayStatus>,
    /// As others see it.
    pub(crate) addrs: Vec<SocketAddr>,
}

impl Outward {
    /// The relay that the owner named, with a place for us over IPv4, that says that it is at one of these addresses too.
    fn named_at(&self, addrs: &[SocketAddr]) -> Option<(PeerId, Vec<SocketAddr>)> {
        let held = self.relays.iter().filter(|status| status.named && status.state == RelayState::Held);
        let over_ipv4 = held.filter(|status| status.addrs.first().is_some_and(SocketAddr::is_ipv4));
        let mut there = over_ipv4.filter(|status| status.addrs.iter().any(|addr| addrs.contains(addr)));
        there.next().map(|status| (status.relay, status.addrs.clone()))
    }

    fn is_held(&self, relay: PeerId) -> bool {
        self.relays.iter().any(|status| status.relay == relay && status.state == RelayState::Held)
    }
}

/// The driver's part.
#[derive(Debug)]
pub(super) struct Relays {
    outward: watch::Sender<Outward>,
    held: BTreeSet<PeerId>,
    /// Something may have changed.
    pub(super) stale: bool,
}

impl Relays {
    pub(super) const fn new(outward: watch::Sender<Outward>) -> Self {
        Self { outward, held: BTreeSet::new(), stale: true }
    }
}

impl Driver {
    /// Keeps the relays known that the builder was given.
    pub(super) fn name_relays(&self, targets: Vec<DialTarget>) {
        for target in targets.into_iter().take(RELAYS) {
            let (commands, outward) = (self.shared.commands.clone(), self.shared.outward.clone());
            drop(tokio::spawn(keep(target, commands, outward)));
        }
    }

    /// A relay of the owner. `again` says that it was named before.
    pub(super) fn add_relay(&mut self, named: (PeerId, Vec<SocketAddr>), again: bool, reply: oneshot::Sender<bool>) {
        let (relay, addrs) = named;
        let wanted = !(again && self.node.is_relay_removed(&relay));
        let taken = wanted && self.node.add_relay(relay, &addrs, clock::now());
        self.relays.stale = true;
        // Whoever named it may have given up.
        let _ = reply.send(taken);
    }

    pub(super) fn remove_relay(&mut self, relay: PeerId) {
        self.node.remove_relay(relay, clock::now());
        self.relays.stale = true;
    }

    /// Tells the handles how it goes with relays, if that may have changed.
    pub(super) fn report_relays(&mut self) {
        if !std::mem::take(&mut self.relays.stale) {
            return;
        }
        let outward = Outward { relays: self.node.relays(), addrs: self.node.addresses() };
        let held = outward.relays.iter().filter(|status| status.state == RelayState::Held);
        let held: BTreeSet<PeerId> = held.map(|status| status.relay).collect();
        let relays = outward.relays.clone();
        self.relays.outward.send_if_modified(|known| {
            let changed = *known != outward;
            *known = outward;
            changed
        });
        self.report_places(&relays);
        let before = std::mem::replace(&mut self.relays.held, held.clone());
        if before != held {
            self.tell_sources();
        }
        before.difference(&held).for_each(|relay| self.pass(Some(SwarmEvent::RelayLost { relay: *relay })));
        held.difference(&before).for_each(|relay| self.pass(Some(SwarmEvent::RelayGained { relay: *relay })));
    }
}

/// Keeps a relay known: its names may lead elsewhere later, and behind an address without an id may be another one.
async fn keep(target: DialTarget, commands: mpsc::Sender<Command>, mut outward: watch::Receiver<Outward>) {
    let is_fixed = target.peer.is_some() && target.hosts.is_empty() && target.streams.is_empty();
    let (mut pause, mut again) = (FIRST_PAUSE, false);
    // A relay that we talk to over IPv4 sees what a NAT makes of our address, and says so to those behind other NATs; over IPv6
    // nothing has to be said. So one that is named by addresses of both is talked to over IPv4, if that works. Which these are is
    // the word of the relay, which the owner trusts to be one, and counts as long as it has a place for us.
    let only_ipv6 = target.peer.is_none() && !target.addrs.is_empty() && target.addrs.iter().all(SocketAddr::is_ipv6);
    if only_ipv6 {
        tokio::time::sleep(IPV6_LATER).await;
    }
    loop {
        let known = if only_ipv6 { outward.borrow().named_at(&target.addrs) } else { None };
        let learned = match known {
            Some(known) => Some(known),
            None => learn(target.clone(), &commands).await,
        };
        if let Some((relay, addrs)) = learned.clone() {
            let (reply, taken) = oneshot::channel();
            let command = Command::AddRelay { relay, addrs, again: std::mem::replace(&mut again, true), reply };
            if commands.send(command).await.is_err() || !taken.await.unwrap_or(false) || is_fixed {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = commands.closed() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        while learned.as_ref().is_some_and(|(relay, _)| outward.borrow_and_update().is_held(*relay)) {
            pause = FIRST_PAUSE;
            if outward.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Who a relay is, and where.
async fn learn(target: DialTarget, commands: &mpsc::Sender<Command>) -> Option<(PeerId, Vec<SocketAddr>)> {
    let Resolved { peer, addrs, streams } = target.resolve().await.ok()?;
    let relay = match peer {
        // Nobody else knows the way by a stream.
        Some(peer) if streams.is_empty() => peer,
        peer => {
            let (reply, answer) = oneshot::channel();
            let (addrs, relays, way) = (addrs.clone(), Vec::new(), crate::DialWay::Direct);
            commands.send(Command::Dial { peer, addrs, streams, relays, way, reply }).await.ok()?;
            answer.await.ok()?.ok()?
        }
    };
    Some((relay, addrs))
}

/// Learns who the relays of a dial are, each within `patience`; those of which that fails are left out.
pub(super) async fn learn_all(
    targets: Vec<DialTarget>,
    patience: Duration,
    commands: &mpsc::Sender<Command>,
) -> Vec<Named> {
    let mut relays = Vec::new();
    for target in targets {
        let learned = tokio::time::timeout(patience, learn(target, commands)).await.ok().flatten();
        if let Some((relay, addrs)) = learned
            && let Ok(relay) = crypto::PeerId::try_from(relay)
        {
            relays.push(Named { relay, addrs });
        }
    }
    relays
}

/// Relays that the owner may name at the start.
const RELAYS: usize = 32;
/// How much later than others relays are dialled that are named by IPv6 addresses alone.
const IPV6_LATER: Duration = Duration::from_millis(300);
/// Between two attempts to learn who a relay is.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
