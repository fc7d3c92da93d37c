//! The two MACs at the end of handshake messages: HMAC-SHA-256, cut to 16 bytes.
//!
//! mac1 shows that the sender knows what the message is keyed by and did not merely guess that somebody listens; it is
//! checked before any key agreement. mac2 shows that the sender gets what is sent to its address.

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Length of either MAC, and of a cookie, in bytes.
pub(crate) const MAC: usize = 16;

/// SHA-256 of the concatenated parts, the first of which is a label. Wiped, because some parts are secret.
pub(crate) fn key(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    Zeroizing::new(hash.finalize().into())
}

/// The MAC of `data`.
pub(crate) fn mac(key: &[u8], data: &[u8]) -> [u8; MAC] {
    let tag: [u8; 32] = start(key).chain_update(data).finalize().into_bytes().into();
    let mut out = [0; MAC];
    out.iter_mut().zip(tag).for_each(|(to, from)| *to = from);
    out
}

/// Whether `tag` is the MAC of `data`, in a time that does not tell how much of it is right.
pub(crate) fn verify(key: &[u8], data: &[u8], tag: &[u8; MAC]) -> bool {
    start(key).chain_update(data).verify_truncated_left(tag).is_ok()
}

/// Key of mac1 in INIT_R: only who issued the ticket can check it.
pub(crate) fn ticket_key(psk: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    key(&[b"setowire mac1 r", psk])
}

/// Key of mac1 in RESP, XX2 and RESP_R: of the message that is answered, never of a long-term key, so that a list of
/// known keys does not find out who answers.
pub(crate) fn answer_key(ephemeral: &[u8; 32], cid_i: &[u8; 8]) -> Zeroizing<[u8; 32]> {
    key(&[b"setowire mac1 a", ephemeral, cid_i])
}

/// Key of mac1 in XX3: likewise of XX2.
pub(crate) fn xx3_key(ephemeral: &[u8; 32], cid_r: &[u8; 8]) -> Zeroizing<[u8; 32]> {
    key(&[b"setowire mac1 3", ephemeral, cid_r])
}

fn start(key: &[u8]) -> Hmac<Sha256> {
    // An HMAC key of any length is accepted; the error exists for other MACs.
    Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&[0; 64].into()))
}
