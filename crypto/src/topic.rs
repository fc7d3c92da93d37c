//! Tags by which those who know a topic recognise each other, and nobody else does (SPEC 10).
//!
//! A tag is HMAC-SHA-256 under the 32 bytes of the topic, cut to 16. It is worth as much as the topic is hard to guess:
//! who tries names of topics finds the one that a tag was made for.

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
