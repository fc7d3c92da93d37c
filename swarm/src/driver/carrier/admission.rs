//! Which connections of others are let in: a bounded number in all, of each address, and of those that have proved nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::driver::limits::{CONNECTIONS, CONNECTIONS_PER_ADDRESS, UNPROVED};
use crate::reach::Reach;

/// Who shares one machine or home: an IPv4 address, an IPv6 /64.
type Place = [u8; 8];

/// The connections that others opened.
#[derive(Debug, Default)]
pub(super) struct Admission {
    of: BTreeMap<u32, Option<Place>>,
    places: BTreeMap<Place, usize>,
    /// Those that have not carried a packet of a session yet, oldest first.
    unproved: VecDeque<u32>,
}

impl Admission {
    /// Lets a connection in, and returns which one has to go for it; nothing if there is no room. A full house of sessions
    /// refuses the newcomer; among those that have proved nothing the oldest goes, since any of them had its time.
    pub(super) fn admit(&mut self, link: u32, ip: IpAddr) -> Option<Option<u32>> {
        let place = place(ip);
        let taken = place.and_then(|place| self.places.get(&place)).copied().unwrap_or(0);
        if self.of.len() >= CONNECTIONS || taken >= CONNECTIONS_PER_ADDRESS {
            return None;
        }
        let evicted = if self.unproved.len() >= UNPROVED { self.unproved.front().copied() } else { None };
        evicted.into_iter().for_each(|evicted| self.remove(evicted));
        self.of.insert(link, place);
        if let Some(place) = place {
            *self.places.entry(place).or_default() += 1;
        }
        self.unproved.push_back(link);
        Some(evicted)
    }

    /// A packet of a session came over it.
    pub(super) fn proved(&mut self, link: u32) {
        self.unproved.retain(|other| *other != link);
    }

    pub(super) fn remove(&mut self, link: u32) {
        let Some(place) = self.of.remove(&link) else { return };
        self.proved(link);
        if let Some(place) = place
            && let Some(count) = self.places.get_mut(&place)
        {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&place);
            }
        }
    }
}

/// Those who are near share no bound: they are behind no translator, and none of them is a stranger.
fn place(ip: IpAddr) -> Option<Place> {
    let public = Reach::of(ip) == Some(Reach::World);
    let place = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            [a, b, c, d, e, f, g, h]
        }
    };
    public.then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let mut admission = Admission::default();
        let (one, other): (IpAddr, IpAddr) = ("1.2.3.4".parse().unwrap(), "1.2.3.5".parse().unwrap());
        for link in 0..CONNECTIONS_PER_ADDRESS as u32 {
            assert_eq!(admission.admit(link, one), Some(None));
            admission.proved(link);
        }
        assert_eq!(admission.admit(1000, one), None);
        assert_eq!(admission.admit(1000, other), Some(None));
        admission.remove(3);
        admission.remove(3);
        assert_eq!(admission.admit(1001, one), Some(None));
        assert_eq!(admission.admit(1002, one), None);
        let (one, same): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:1".parse().unwrap());
        assert_eq!(place(one), place(same));
        assert_eq!(place("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_crowd_that_proves_nothing_costs_a_bounded_number_and_pushes_out_itself() {
        let mut admission = Admission::default();
        let near: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(admission.admit(0, near), Some(None));
        admission.proved(0);
        for link in 1..=10_000 {
            let gone = (link > UNPROVED as u32).then(|| link - UNPROVED as u32);
            assert_eq!(admission.admit(link, near), Some(gone));
        }
        assert_eq!(admission.of.len(), UNPROVED + 1);
        assert!(admission.of.contains_key(&0), "who has a session stays");
        for link in 20_000..30_000 {
            if admission.admit(link, near).is_some() {
                admission.proved(link);
            }
        }
        assert_eq!(admission.of.len(), CONNECTIONS);
        assert_eq!(admission.admit(50_000, near), None);
        for link in 0..30_000 {
            admission.remove(link);
        }
        assert!(admission.of.is_empty() && admission.places.is_empty() && admission.unproved.is_empty());
    }
}
