//! The protocols, and bytes that tell what they are.

use std::num::{NonZeroU16, NonZeroU32};

use framing::StreamId;

use crate::mux::{Protocol, Protocols, Urgency};

/// Those of the dialler, or of a responder that has others; all of them with datagrams or only some.
pub(super) fn protocols(dialler: bool, datagrams: bool) -> Protocols {
    let mut protocols = Protocols::new();
    let weight = NonZeroU16::MIN.saturating_add(2);
    let list = if dialler {
        [
            Protocol::new("a", 1),
            Protocol::new("b", 1).version(2).weight(weight).datagrams(datagrams),
            Protocol::new("c", 1).rate_cap(NonZeroU32::new(100_000)),
            Protocol::new("d", 1).datagrams(datagrams),
        ]
    } else {
        [
            Protocol::new("a", 1).weight(weight),
            Protocol::new("b", 2).version(3).datagrams(datagrams),
            Protocol::new("c", 1).accepts_streams(false),
            Protocol::new("e", 1),
        ]
    };
    for protocol in list {
        let registered = protocols.register(protocol);
        debug_assert!(registered.is_ok(), "{registered:?}");
    }
    protocols
}

/// The byte at `offset` of what a side writes to a stream.
pub(super) fn byte(id: StreamId, side: usize, offset: u64) -> u8 {
    let [low, high, ..] = (offset.wrapping_mul(7) ^ offset >> 8).to_le_bytes();
    let [id, ..] = (id.value() * 2 + side as u64).wrapping_mul(31).to_le_bytes();
    low ^ high.rotate_left(3) ^ id
}

/// A message that tells what it is, as far as its length allows; its first byte tells how urgent. Copied in runs: most of
/// the time of a fuzzer would go into single bytes.
pub(super) fn message((side, protocol, urgency): (usize, u16, Urgency), number: usize, len: usize) -> Vec<u8> {
    let salt = (number * 16 + side * 8 + usize::from(protocol)).to_le_bytes();
    let body = salt.into_iter().cycle().zip(0_u8..=250).map(|(salt, at)| salt ^ at);
    let body: Vec<u8> = body.collect();
    run(&[u8::from(urgency == Urgency::Urgent)], &body, len)
}

/// A datagram with its number in front, if it is long enough.
pub(super) fn datagram(side: usize, protocol: u16, number: u64, len: usize) -> Vec<u8> {
    let salt = number.wrapping_mul(8) + side as u64 * 4 + u64::from(protocol);
    run(&number.to_be_bytes(), &salt.to_le_bytes(), len)
}

/// `len` bytes of `head`, and then of `body` again and again.
fn run(head: &[u8], body: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + head.len() + body.len());
    bytes.extend_from_slice(head);
    while bytes.len() < len {
        bytes.extend_from_slice(body);
    }
    bytes.truncate(len);
    bytes
}
