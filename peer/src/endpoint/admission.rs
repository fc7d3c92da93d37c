//! Whose handshake is worth its Diffie-Hellman operations (SPEC 9.2).
//!
//! The invariant: nobody who has not proved its address takes from the share of those who have. While the level is
//! raised, a message without a cookie costs one MAC and gets a cookie, which is shorter than the message.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Instant;

use structs::{Lru, TokenBucket};

use super::limits;
use crate::SubnetLimits;

/// The front bits of an address, as IPv6 (RFC 4291 section 2.5.5.2 for IPv4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Prefix([u8; 16]);

impl Prefix {
    /// Who shares one machine or home: an IPv4 address, an IPv6 /64.
    pub(super) fn address(ip: IpAddr) -> Self {
        Self::of(ip, 32, 64)
    }

    /// Who shares one network: an IPv4 /24, an IPv6 /48.
    pub(super) fn subnet(ip: IpAddr) -> Self {
        Self::of(ip, 24, 48)
    }

    fn of(ip: IpAddr, v4: u32, v6: u32) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self((u128::from(ip.to_ipv6_mapped()) & (u128::MAX << (32 - v4))).to_be_bytes()),
            IpAddr::V6(ip) => Self((u128::from(ip) & (u128::MAX << (128 - v6))).to_be_bytes()),
        }
    }
}

/// Where a stranger is, as far as shares are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    address: Prefix,
    subnet: Prefix,
}

impl Origin {
    /// `None` for an address that is exempt.
    pub(super) fn of(ip: IpAddr, rule: SubnetLimits) -> Option<Self> {
        let counts = match rule {
            SubnetLimits::All => true,
            SubnetLimits::Public => is_public(ip),
            SubnetLimits::Off => false,
        };
        counts.then(|| Self { address: Prefix::address(ip), subnet: Prefix::subnet(ip) })
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip)),
        IpAddr::V6(ip) => !(ip.is_loopback() || is_local(ip)),
    }
}

/// 100.64.0.0/10, between a carrier's translator and its customers (RFC 6598).
const fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

/// `fe80::/10` (RFC 4291) and `fc00::/7` (RFC 4193).
const fn is_local(ip: Ipv6Addr) -> bool {
    let [first, ..] = ip.segments();
    first & 0xffc0 == 0xfe80 || first & 0xfe00 == 0xfc00
}

/// How many of something each address and each network has. As large as what it counts, which its owner bounds.
#[derive(Debug)]
pub(super) struct Shares {
    addresses: HashMap<Prefix, u32>,
    subnets: HashMap<Prefix, u32>,
    per_address: u32,
    per_subnet: u32,
}

impl Shares {
    pub(super) fn new(per_address: u32, per_subnet: u32) -> Self {
        Self { addresses: HashMap::new(), subnets: HashMap::new(), per_address, per_subnet }
    }

    /// Whether one more may come from there.
    pub(super) fn has_room(&self, origin: Option<Origin>) -> bool {
        origin.is_none_or(|Origin { address, subnet }| {
            count(&self.addresses, address) < self.per_address && count(&self.subnets, subnet) < self.per_subnet
        })
    }

    pub(super) fn add(&mut self, origin: Option<Origin>) {
        if let Some(Origin { address, subnet }) = origin {
            *self.addresses.entry(address).or_default() += 1;
            *self.subnets.entry(subnet).or_default() += 1;
        }
    }

    /// Gives back what [`add`](Self::add) took.
    pub(super) fn remove(&mut self, origin: Option<Origin>) {
        if let Some(Origin { address, subnet }) = origin {
            release(&mut self.addresses, address);
            release(&mut self.subnets, subnet);
        }
    }
}

fn count(counts: &HashMap<Prefix, u32>, prefix: Prefix) -> u32 {
    counts.get(&prefix).copied().unwrap_or(0)
}

fn release(counts: &mut HashMap<Prefix, u32>, prefix: Prefix) {
    let Some(count) = counts.get_mut(&prefix) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        counts.remove(&prefix);
    }
}

/// What a first message gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its handshake.
    Proceed,
    /// A cookie: it may come again with it.
    Cookie,
    /// Nothing.
    Refuse,
}

/// A first message, as far as it matters whether it is looked into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// It shows no knowledge of our key or of a ticket: anybody can write it.
    pub(super) is_stranger: bool,
    /// It carries a valid cookie.
    pub(super) is_proven: bool,
    /// Where it comes from; `None` if that is exempt from shares.
    pub(super) origin: Option<Origin>,
}

/// Decides over first messages: see the [module documentation](self).
#[derive(Debug)]
pub(super) struct Admission {
    /// Handshakes of anybody.
    anybody: TokenBucket,
    /// Handshakes of those who have proved their address, once the others have taken theirs.
    proven: TokenBucket,
    strangers: TokenBucket,
    raised_until: Option<Instant>,
    addresses: Lru<Prefix, TokenBucket>,
    subnets: Lru<Prefix, TokenBucket>,
}

impl Admission {
    /// Lets `rate` handshakes a second pass without further ado, and as many again of proven addresses.
    pub(super) fn new(rate: NonZeroU32, now: Instant) -> Self {
        let rate = rate.get();
        let burst = (rate / 10).max(1);
        let entries = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            anybody: TokenBucket::new(rate, burst, now),
            proven: TokenBucket::new(rate, burst, now),
            strangers: TokenBucket::new(limits::STRANGERS.0, limits::STRANGERS.1, now),
            raised_until: None,
            addresses: Lru::new(entries(limits::ADDRESSES)),
            subnets: Lru::new(entries(limits::SUBNETS)),
        }
    }

    /// Whether strangers have to prove their address.
    pub(super) fn is_raised(&self, now: Instant) -> bool {
        self.raised_until.is_some_and(|until| now < until)
    }

    /// Whether a cookie is asked for before anything else is looked at.
    pub(super) fn wants_cookie(&mut self, half_open: usize, now: Instant) -> bool {
        if half_open >= limits::RAISED_AT || self.anybody.available(now) == 0 {
            self.raise(now);
        }
        self.is_raised(now)
    }

    /// What becomes of a message, with so many handshakes half open.
    pub(super) fn admit(&mut self, request: Request, half_open: usize, now: Instant) -> Verdict {
        let raised = self.wants_cookie(half_open, now);
        if request.is_proven {
            return self.admit_proven(request.origin, raised, now);
        }
        let idle = !raised && half_open < limits::IDLE_BELOW;
        let let_in = !raised && (!request.is_stranger || (idle && self.strangers.try_take(1, now)));
        if let_in && self.anybody.try_take(1, now) { Verdict::Proceed } else { Verdict::Cookie }
    }

    fn admit_proven(&mut self, origin: Option<Origin>, raised: bool, now: Instant) -> Verdict {
        if !raised {
            return if self.anybody.try_take(1, now) { Verdict::Proceed } else { Verdict::Refuse };
        }
        let Some(Origin { address, subnet }) = origin else {
            return self.admit_by_bucket(now);
        };
        let within = take(&mut self.addresses, address, limits::PER_ADDRESS, now)
            && take(&mut self.subnets, subnet, limits::PER_SUBNET, now);
        if within { self.admit_by_bucket(now) } else { Verdict::Refuse }
    }

    fn admit_by_bucket(&mut self, now: Instant) -> Verdict {
        if self.proven.try_take(1, now) { Verdict::Proceed } else { Verdict::Refuse }
    }

    fn raise(&mut self, now: Instant) {
        self.raised_until = now.checked_add(limits::RAISED_FOR);
    }
}

/// Takes a token from the bucket of a prefix, which begins full.
fn take(buckets: &mut Lru<Prefix, TokenBucket>, prefix: Prefix, (rate, burst): (u32, u32), now: Instant) -> bool {
    if let Some(bucket) = buckets.get_mut(&prefix, now) {
        return bucket.try_take(1, now);
    }
    let mut bucket = TokenBucket::new(rate, burst, now);
    let taken = bucket.try_take(1, now);
    // Cannot be too heavy: no weight is bounded.
    let _inserted = buckets.insert(prefix, bucket, 0, now);
    taken
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn request(is_stranger: bool, is_proven: bool, from: &str) -> Request {
        Request { is_stranger, is_proven, origin: Origin::of(ip(from), SubnetLimits::Public) }
    }

    fn admission(rate: u32, now: Instant) -> Admission {
        Admission::new(NonZeroU32::new(rate).expect("not zero"), now)
    }

    #[test]
    fn prefixes_are_what_one_party_has() {
        assert_eq!(Prefix::address(ip("8.8.8.8")), Prefix::address(ip("::ffff:8.8.8.8")));
        assert_ne!(Prefix::address(ip("8.8.8.8")), Prefix::address(ip("8.8.8.9")));
        assert_eq!(Prefix::subnet(ip("8.8.8.8")), Prefix::subnet(ip("8.8.8.9")));
        assert_ne!(Prefix::subnet(ip("8.8.8.8")), Prefix::subnet(ip("8.8.9.8")));
        assert_eq!(Prefix::address(ip("2001:db8:1:2::3")), Prefix::address(ip("2001:db8:1:2:ffff::")));
        assert_ne!(Prefix::address(ip("2001:db8:1:2::3")), Prefix::address(ip("2001:db8:1:3::3")));
        assert_eq!(Prefix::subnet(ip("2001:db8:1:2::3")), Prefix::subnet(ip("2001:db8:1:3::3")));
        assert_ne!(Prefix::subnet(ip("2001:db8:1:2::3")), Prefix::subnet(ip("2001:db8:2:2::3")));
    }

    #[test]
    fn private_addresses_are_exempt_unless_all_count() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.31.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.9.9",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ];
        for text in private {
            assert_eq!(Origin::of(ip(text), SubnetLimits::Public), None, "{text}");
            assert!(Origin::of(ip(text), SubnetLimits::All).is_some(), "{text}");
        }
        for text in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(Origin::of(ip(text), SubnetLimits::Public).is_some(), "{text}");
            assert_eq!(Origin::of(ip(text), SubnetLimits::Off), None, "{text}");
        }
    }

    #[test]
    fn shares_come_back_when_they_are_given_back() {
        let mut shares = Shares::new(2, 3);
        let origin = |text| Origin::of(ip(text), SubnetLimits::Public);
        for text in ["8.8.8.1", "8.8.8.1", "8.8.8.2"] {
            assert!(shares.has_room(origin(text)));
            shares.add(origin(text));
        }
        assert!(!shares.has_room(origin("8.8.8.1")), "the address has its two");
        assert!(!shares.has_room(origin("8.8.8.3")), "the network has its three");
        assert!(shares.has_room(origin("8.8.9.1")));
        assert!(shares.has_room(None));
        shares.remove(origin("8.8.8.1"));
        assert!(shares.has_room(origin("8.8.8.1")) && shares.has_room(origin("8.8.8.3")));
        shares.remove(origin("8.8.8.1"));
        shares.remove(origin("8.8.8.2"));
        assert!(shares.addresses.is_empty() && shares.subnets.is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn an_idle_endpoint_asks_nobody_for_a_cookie() {
        let now = sim::clock::base();
        let mut admission = admission(1000, now);
        assert_eq!(admission.admit(request(false, false, "8.8.8.8"), 0, now), Verdict::Proceed);
        assert_eq!(admission.admit(request(true, false, "8.8.8.8"), 0, now), Verdict::Proceed);
        assert_eq!(admission.admit(request(true, false, "8.8.8.8"), limits::IDLE_BELOW, now), Verdict::Cookie);
        assert_eq!(admission.admit(request(true, true, "8.8.8.8"), limits::IDLE_BELOW, now), Verdict::Proceed);
        assert!(!admission.is_raised(now), "a stranger that has to prove itself is no attack");
    }

    #[test]
    fn strangers_have_a_small_budget() {
        let now = sim::clock::base();
        let mut admission = admission(1000, now);
        let let_in = (0..100).filter(|_| admission.admit(request(true, false, "8.8.8.8"), 0, now) == Verdict::Proceed);
        assert_eq!(let_in.count(), 32);
    }

    #[test]
    fn a_flood_raises_the_level_and_does_not_take_the_share_of_the_proven() {
        let mut now = sim::clock::base();
        let mut admission = admission(1000, now);
        let mut proceeded = 0;
        // Ten thousand spoofed a second for three seconds.
        for _ in 0..30_000 {
            now += Duration::from_micros(100);
            proceeded += u32::from(admission.admit(request(false, false, "8.8.8.8"), 0, now) == Verdict::Proceed);
        }
        assert!(proceeded <= 3100, "{proceeded} handshakes for spoofed addresses");
        assert!(admission.is_raised(now));
        assert_eq!(admission.admit(request(false, false, "9.9.9.9"), 0, now), Verdict::Cookie);
        for _ in 0..5 {
            assert_eq!(admission.admit(request(false, true, "9.9.9.9"), 0, now), Verdict::Proceed);
        }
        assert_eq!(admission.admit(request(false, true, "9.9.9.9"), 0, now), Verdict::Refuse, "burst of 5");
        assert_eq!(admission.admit(request(false, true, "9.9.9.8"), 0, now), Verdict::Proceed, "another address");
        now += Duration::from_millis(50);
        assert_eq!(admission.admit(request(false, true, "9.9.9.9"), 0, now), Verdict::Proceed, "20 a second");
    }

    #[test]
    fn a_network_has_its_share_and_private_ones_have_none() {
        let now = sim::clock::base();
        let mut admission = admission(100_000, now);
        let mut proceeded = 0;
        for host in 0..=255 {
            let from = format!("9.9.9.{host}");
            let verdict = admission.admit(request(false, true, &from), limits::RAISED_AT, now);
            proceeded += u32::from(verdict == Verdict::Proceed);
        }
        assert_eq!(proceeded, limits::PER_SUBNET.1);
        for host in 0..=255 {
            let from = format!("10.9.9.{host}");
            let verdict = admission.admit(request(false, true, &from), limits::RAISED_AT, now);
            assert_eq!(verdict, Verdict::Proceed, "{from}");
        }
    }

    #[test]
    fn the_level_falls_when_the_flood_is_over() {
        let now = sim::clock::base();
        let mut admission = admission(1000, now);
        assert_eq!(admission.admit(request(false, false, "8.8.8.8"), limits::RAISED_AT, now), Verdict::Cookie);
        let later = now + limits::RAISED_FOR;
        assert_eq!(admission.admit(request(false, false, "8.8.8.8"), limits::RAISED_AT - 1, later), Verdict::Proceed);
    }

    #[test]
    fn many_proven_addresses_share_a_bound_too() {
        let now = sim::clock::base();
        let mut admission = admission(1000, now);
        let mut proceeded = 0;
        for network in 0..2000_u32 {
            let from = Ipv4Addr::from(0x0800_0000 + (network << 8)).to_string();
            let verdict = admission.admit(request(false, true, &from), limits::RAISED_AT, now);
            proceeded += u32::from(verdict == Verdict::Proceed);
        }
        assert_eq!(proceeded, 100, "a tenth of a second's worth at once");
    }
}
