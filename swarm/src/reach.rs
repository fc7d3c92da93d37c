//! How far an address reaches, and so who may name it.

use std::net::IpAddr;

/// For how much of the world an address means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// One machine.
    Host,
    /// One local network.
    Network,
    /// All of the internet.
    World,
}

impl Reach {
    /// Whether an address, whose meaning reaches so far, may be named by somebody at another one: nobody at an address that
    /// means the same everywhere has anything to say of the private network of somebody else.
    #[must_use]
    pub fn may_be_named_by(addr: IpAddr, by: IpAddr) -> bool {
        Self::of(addr).zip(Self::of(by)).is_some_and(|(addr, by)| addr >= by)
    }

    /// That of an address; `None` for what nobody is at: unspecified, multicast, broadcast, reserved.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => match ip.octets() {
                [0 | 224..=255, ..] => None,
                [127, ..] => Some(Self::Host),
                [10, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => {
                    Some(Self::Network)
                }
                _ => Some(Self::World),
            },
            IpAddr::V6(ip) => match ip.segments() {
                [0, 0, 0, 0, 0, 0, 0, 1] => Some(Self::Host),
                [0x2000..=0x3fff, ..] => Some(Self::World),
                [0xfc00..=0xfdff, ..] | [0xfe80..=0xfebf, ..] => Some(Self::Network),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_afar_names_addresses_nearby() {
        let may = |addr: &str, by: &str| Reach::may_be_named_by(addr.parse().unwrap(), by.parse().unwrap());
        assert!(may("9.9.9.9", "8.8.8.8") && may("9.9.9.9", "10.0.0.1") && may("10.0.0.2", "10.0.0.1"));
        assert!(!may("10.0.0.2", "8.8.8.8") && !may("127.0.0.1", "10.0.0.1") && !may("224.0.0.1", "127.0.0.1"));
        assert!(may("127.0.0.1", "::1") && !may("::ffff:127.0.0.1", "9.9.9.9"));
    }

    #[test]
    fn addresses_reach_as_far_as_their_ranges_say() {
        let reach = |text: &str| Reach::of(text.parse().unwrap());
        for text in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "64:ff9b::1"] {
            assert_eq!(reach(text), None, "{text}");
        }
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(reach(text), Some(Reach::Host), "{text}");
        }
        for text in ["10.0.0.1", "172.31.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "fd00::1", "fe80::1"] {
            assert_eq!(reach(text), Some(Reach::Network), "{text}");
        }
        for text in ["1.2.3.4", "172.32.0.1", "100.128.0.1", "2001:db8::1"] {
            assert_eq!(reach(text), Some(Reach::World), "{text}");
        }
    }
}
