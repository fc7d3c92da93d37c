//! Which addresses a node contacts in the distributed hash table, and which of its own it names there.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use dht::{Family, Subnet, subnet};

use crate::discovery::Reach;
use crate::node::Interface;
use crate::node::lan::is_within;

/// How far a node goes.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// As far as its owner said.
    reach: Reach,
    /// How far the addresses reach that it was told to begin with: who names a network wants to be in it.
    named: [bool; 3],
    /// The networks that this machine is in.
    interfaces: Vec<Interface>,
}

impl Scope {
    pub(super) const fn new(reach: Reach) -> Self {
        Self { reach, named: [false; 3], interfaces: Vec::new() }
    }

    /// Notes that the owner named an address to begin with. Returns whether it is within the reach of the node.
    pub(super) fn name(&mut self, addr: SocketAddr) -> bool {
        let Some(reach) = Reach::of(addr.ip()).filter(|reach| *reach <= self.reach) else { return false };
        if let Some(named) = self.named.get_mut(reach as usize) {
            *named = true;
        }
        true
    }

    /// Whether an address is as far away as the node reaches, or in a network that the owner named.
    pub(super) fn is_out(&self, ip: IpAddr) -> bool {
        let is_named = |reach: Reach| self.named.get(reach as usize).copied().unwrap_or(false);
        Reach::of(ip).is_some_and(|reach| reach >= self.reach || is_named(reach))
    }

    pub(super) fn set_interfaces(&mut self, interfaces: &[Interface]) {
        self.interfaces = interfaces.to_vec();
    }

    fn is_named(&self, reach: Reach) -> bool {
        self.named.get(reach as usize) == Some(&true)
    }

    /// Whether a datagram may go to an address, or is looked at that comes from there.
    pub(super) fn may_contact(&self, addr: SocketAddr) -> bool {
        let Some(reach) = Reach::of(addr.ip()) else { return false };
        if !subnet::is_usable(&addr) || reach > self.reach {
            return false;
        }
        let is_near = || self.interfaces.iter().any(|interface| is_within(addr.ip().to_canonical(), interface));
        match (self.reach, reach) {
            (Reach::World, Reach::Host) => self.is_named(reach),
            (Reach::World, Reach::Network) => self.is_named(reach) || is_near(),
            _ => true,
        }
    }

    /// Whether a node says that it is at an address.
    fn may_name(&self, addr: SocketAddr) -> bool {
        let Some(reach) = Reach::of(addr.ip()) else { return false };
        // A link-local address means nothing without the name of an interface, which each machine has its own of.
        let is_link_local = matches!(addr.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        addr.port() != 0 && !is_link_local && (reach == self.reach || reach < self.reach && self.is_named(reach))
    }
}

/// Where we are: what the system says, and what others say who see us.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Of the interfaces, with the ports of our sockets.
    own: Vec<SocketAddr>,
    /// What a router forwards to us.
    forwarded: Vec<SocketAddr>,
    /// The newest words of others, the oldest first: one of each subnet.
    votes: [VecDeque<(Subnet, SocketAddr)>; 2],
}

impl Addresses {
    pub(super) fn set_own(&mut self, own: &[SocketAddr]) {
        self.own = own.to_vec();
    }

    pub(super) fn set_forwarded(&mut self, addrs: &[SocketAddr]) {
        self.forwarded = addrs.to_vec();
    }

    /// Somebody sees us at an address. It counts if both can be reached from everywhere.
    pub(super) fn on_seen(&mut self, seen: SocketAddr, by: IpAddr) {
        let (seen, by) = (SocketAddr::new(seen.ip().to_canonical(), seen.port()), by.to_canonical());
        if !subnet::is_public(seen.ip()) || !subnet::is_public(by) || seen.port() == 0 {
            return;
        }
        // Nobody sees the other family, and voters of one are cheaper than those of the other.
        if seen.is_ipv4() != by.is_ipv4() {
            return;
        }
        let voter = Subnet::of(by);
        let votes = self.votes_mut(Family::of(&seen));
        votes.retain(|(other, _)| *other != voter);
        if votes.len() >= MAX_VOTES {
            votes.pop_front();
        }
        votes.push_back((voter, seen));
    }

    /// Where others see us, if enough of them say so: three, and more than say anything else; all, where there are fewer.
    pub(super) fn seen(&self, family: Family) -> Option<SocketAddr> {
        let [v4, v6] = &self.votes;
        let votes = if family == Family::V4 { v4 } else { v6 };
        let mut counts: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        votes.iter().for_each(|(_, addr)| *counts.entry(*addr).or_default() += 1);
        let (addr, count) = counts.iter().max_by_key(|(_, count)| **count)?;
        let others = counts.values().filter(|other| *other == count).count();
        (*count >= votes.len().min(ENOUGH) && others == 1).then_some(*addr)
    }

    /// What is said of us: what is forwarded to us first, then where others see us, then the addresses of our interfaces that reach as far as we do.
    pub(super) fn told(&self, scope: &Scope, most: usize) -> Vec<SocketAddr> {
        let seen = [Family::V4, Family::V6].into_iter().filter_map(|family| self.seen(family));
        let seen = self.forwarded.iter().copied().chain(seen).filter(|addr| scope.may_name(*addr));
        let mut own: Vec<SocketAddr> = self.own.iter().copied().filter(|addr| scope.may_name(*addr)).collect();
        own.sort_by_key(|addr| (std::cmp::Reverse(Reach::of(addr.ip())), *addr));
        let mut told: Vec<SocketAddr> = Vec::new();
        for addr in seen.chain(own) {
            if !told.contains(&addr) {
                told.push(addr);
            }
        }
        // Where there is no room for all, no family goes without.
        if told.len() > most
            && let Some(last) = told.get(..most).and_then(<[SocketAddr]>::last).copied()
            && told.iter().take(most).all(|addr| addr.is_ipv4() == last.is_ipv4())
            && let Some(other) = told.iter().copied().find(|addr| addr.is_ipv4() != last.is_ipv4())
            && let Some(place) = told.get_mut(most - 1)
        {
            *place = other;
        }
        told.truncate(most);
        told
    }

    /// Whether there is no NAT before us: an interface has the address that others see, or one that reaches as far as we
    /// go. What a firewall lets in nobody knows before somebody has come.
    pub(super) fn is_open(&self, scope: &Scope, family: Family) -> bool {
        let own = || self.own.iter().filter(|addr| Family::of(addr) == family);
        match self.seen(family) {
            Some(seen) => own().any(|addr| *addr == seen),
            None => own().any(|addr| Reach::of(addr.ip()) == Some(scope.reach)),
        }
    }

    const fn votes_mut(&mut self, family: Family) -> &mut VecDeque<(Subnet, SocketAddr)> {
        let [v4, v6] = &mut self.votes;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

/// Words of others that are remembered, of each family.
const MAX_VOTES: usize = 16;
/// How many of them are enough.
const ENOUGH: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nobody_is_believed_alone_once_there_are_others() {
        let mut addresses = Addresses::default();
        let mut say = |seen: &str, by: &str| {
            addresses.on_seen(addr(seen), by.parse().unwrap());
            addresses.seen(Family::V4)
        };
        assert_eq!(say("1.2.3.4:5", "127.0.0.1"), None, "who is here does not see us from outside");
        assert_eq!(say("10.0.0.1:5", "9.9.9.9"), None);
        assert_eq!(say("1.2.3.4:5", "9.9.9.9"), Some(addr("1.2.3.4:5")));
        assert_eq!(say("6.6.6.6:6", "8.8.8.8"), None, "one says this, another that");
        assert_eq!(say("1.2.3.4:5", "7.7.7.7"), None);
        assert_eq!(say("1.2.3.4:5", "7.7.7.8"), None, "the same network");
        assert_eq!(say("1.2.3.4:5", "5.5.5.5"), Some(addr("1.2.3.4:5")));
        for liar in 0..3 {
            say("6.6.6.6:6", &format!("44.44.44.{liar}"));
        }
        assert_eq!(addresses.seen(Family::V4), Some(addr("1.2.3.4:5")));
        assert_eq!(addresses.seen(Family::V6), None);
    }

    #[test]
    fn only_what_reaches_as_far_as_the_node_is_named() {
        let mut addresses = Addresses::default();
        addresses.set_own(&["127.0.0.1:7", "192.168.1.2:7", "[::1]:7", "[fe80::1]:7", "[fd00::2]:7"].map(addr));
        let told = |scope: &Scope, addresses: &Addresses| addresses.told(scope, 4);
        assert_eq!(told(&Scope::new(Reach::Host), &addresses), ["127.0.0.1:7", "[::1]:7"].map(addr));
        assert_eq!(told(&Scope::new(Reach::Network), &addresses), ["192.168.1.2:7", "[fd00::2]:7"].map(addr));
        let mut world = Scope::new(Reach::World);
        assert_eq!(told(&world, &addresses), []);
        addresses.on_seen(addr("1.2.3.4:5"), "9.9.9.9".parse().unwrap());
        assert_eq!(told(&world, &addresses), [addr("1.2.3.4:5")]);
        assert_eq!(told(&Scope::new(Reach::Network), &addresses), ["192.168.1.2:7", "[fd00::2]:7"].map(addr));
        // Who is told to begin on this machine is to be found there.
        assert!(world.name(addr("127.0.0.1:9")));
        assert_eq!(told(&world, &addresses), ["1.2.3.4:5", "127.0.0.1:7", "[::1]:7"].map(addr));
        assert!(!Scope::new(Reach::Network).name(addr("9.9.9.9:9")));
    }

    #[test]
    fn who_is_seen_elsewhere_than_he_is_has_a_nat_before_him() {
        let world = Scope::new(Reach::World);
        let mut addresses = Addresses::default();
        addresses.set_own(&["192.168.1.2:7", "[2001:db8::1]:7"].map(addr));
        assert!(!addresses.is_open(&world, Family::V4) && addresses.is_open(&world, Family::V6));
        addresses.set_own(&["1.2.3.4:7"].map(addr));
        assert!(addresses.is_open(&world, Family::V4) && !addresses.is_open(&world, Family::V6));
        addresses.on_seen(addr("1.2.3.4:7"), "9.9.9.9".parse().unwrap());
        assert!(addresses.is_open(&world, Family::V4));
        addresses.on_seen(addr("5.6.7.8:7"), "9.9.9.9".parse().unwrap());
        assert!(!addresses.is_open(&world, Family::V4));
        addresses.set_own(&["127.0.0.1:7"].map(addr));
        assert!(Addresses { own: addresses.own, ..Addresses::default() }.is_open(&Scope::new(Reach::Host), Family::V4));
    }

    #[test]
    fn both_families_are_named_where_there_is_not_room_for_all() {
        let mut addresses = Addresses::default();
        addresses.set_own(&["1.0.0.1:7", "1.0.0.2:7", "1.0.0.3:7", "[2001:db8::1]:7"].map(addr));
        let told = addresses.told(&Scope::new(Reach::World), 2);
        assert_eq!(told, ["1.0.0.1:7", "[2001:db8::1]:7"].map(addr));
    }

    #[test]
    fn nobody_outside_of_the_reach_is_contacted() {
        let world = |ip: &str| Scope::new(Reach::World).may_contact(addr(ip));
        assert!(world("9.9.9.9:9") && !world("127.0.0.1:9") && !world("192.168.1.1:9") && !world("9.9.9.9:0"));
        let mut home = Scope::new(Reach::World);
        let prefix = 24;
        home.set_interfaces(&[Interface { addr: addr("192.168.1.2:7"), prefix, index: 2 }]);
        assert!(home.may_contact(addr("192.168.1.1:9")) && !home.may_contact(addr("192.168.2.1:9")));
        let network = |ip: &str| Scope::new(Reach::Network).may_contact(addr(ip));
        assert!(network("192.168.1.1:9") && network("127.0.0.1:9") && !network("9.9.9.9:9"));
        let host = |ip: &str| Scope::new(Reach::Host).may_contact(addr(ip));
        assert!(host("127.0.0.1:9") && host("[::1]:9") && !host("192.168.1.1:9") && !host("224.0.0.1:9"));
    }
}
