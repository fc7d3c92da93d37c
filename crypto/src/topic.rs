//! Tags by which those who know a topic recognise each other, and nobody else does (SPEC 10).
//!
//! A tag is HMAC-SHA-256 under the 32 bytes of the topic, cut to 16. It is worth as much as the topic is hard to guess:
//! who tries names of topics finds the one that a tag was made for.

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::handshake::mac;

/// Length of a tag, in bytes.
pub const TAG: usize = mac::MAC;

/// Length of the random part of a beacon, in bytes.
pub const NONCE: usize = 16;

/// The tag of a topic in a beacon with this `nonce`. `hour` is the unix time divided by 3600: old beacons are worth
/// nothing.
#[must_use]
pub fn beacon_tag(topic: &[u8; 32], hour: u64, nonce: &[u8; NONCE]) -> [u8; TAG] {
    mac::mac(topic, &[b"setowire beacon 1".as_slice(), &hour.to_be_bytes(), nonce].concat())
}

/// The tag by which the side of a session with the number `role` (0 dialled, 1 answered) proves that it knows the topic.
///
/// `exporter` is a secret of the session, so the tag is good for nobody else, and the roles are apart, so it is not good
/// for the other side either.
#[must_use]
pub fn member_tag(topic: &[u8; 32], exporter: &[u8; 32], role: u8) -> [u8; TAG] {
    mac::mac(topic, &[b"setowire member 1".as_slice(), exporter, &[role]].concat())
}

/// Where those in a topic announce themselves on the BitTorrent Mainline DHT on a `day`, counted since 1970 (SPEC 13.1).
#[must_use]
pub fn mainline_key(topic: &[u8; 32], day: u64) -> [u8; 20] {
    key_of_day(topic, b"setowire mainline 1", day)
}

/// Where the nodes of our own distributed hash table in a `network` announce themselves there.
#[must_use]
pub fn mainline_nodes_key(network: &[u8; 32], day: u64) -> [u8; 20] {
    key_of_day(network, b"setowire mainline nodes 1", day)
}

fn key_of_day(secret: &[u8; 32], label: &[u8], day: u64) -> [u8; 20] {
    let mut key = [0; 20];
    let expanded = Hkdf::<Sha256>::new(None, secret).expand_multi_info(&[label, &day.to_be_bytes()], &mut key);
    debug_assert!(expanded.is_ok(), "less than one block");
    key
}

/// Whether two tags are the same, in a time that does not tell how much of them is.
#[must_use]
pub fn same_tag(a: &[u8; TAG], b: &[u8; TAG]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// Computed by the HMAC of Python's standard library.
    #[test]
    fn tags_are_those_of_the_specification() {
        assert_eq!(HEXLOWER.encode(&beacon_tag(&[1; 32], 472_223, &[2; NONCE])), "ed5e320f69e8d0b761b68826010dddae");
        assert_eq!(HEXLOWER.encode(&member_tag(&[1; 32], &[3; 32], 0)), "e147e2f83749d6ca902b9f52bbf7b8a3");
        assert_eq!(HEXLOWER.encode(&member_tag(&[1; 32], &[3; 32], 1)), "13932690b3ca2e3c34f6482098198fb3");
    }

    /// Computed as above.
    #[test]
    fn keys_of_a_day_are_those_of_the_specification() {
        let key = mainline_key(&[1; 32], 20_000);
        assert_eq!(HEXLOWER.encode(&key), "b36da585e18968e6799eec1070d5d51a67456470");
        let nodes = mainline_nodes_key(&[0; 32], 20_000);
        assert_eq!(HEXLOWER.encode(&nodes), "30d7fa5252ab92db3b0c317e948265df2c03b989");
        assert_ne!(mainline_key(&[1; 32], 20_001), key);
    }

    #[test]
    fn every_input_of_a_tag_counts() {
        let beacon = beacon_tag(&[1; 32], 7, &[2; NONCE]);
        assert_ne!(beacon, beacon_tag(&[3; 32], 7, &[2; NONCE]));
        assert_ne!(beacon, beacon_tag(&[1; 32], 8, &[2; NONCE]));
        assert_ne!(beacon, beacon_tag(&[1; 32], 7, &[3; NONCE]));
        let member = member_tag(&[1; 32], &[2; 32], 0);
        assert_ne!(member, member_tag(&[3; 32], &[2; 32], 0));
        assert_ne!(member, member_tag(&[1; 32], &[3; 32], 0));
        assert_ne!(member, member_tag(&[1; 32], &[2; 32], 1));
        assert!(same_tag(&member, &member_tag(&[1; 32], &[2; 32], 0)));
        assert!(!same_tag(&member, &beacon));
    }
}
