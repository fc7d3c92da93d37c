//! Who is there, and where.

use std::net::SocketAddr;

use crypto::Identity;
use nat::stun;
use swarm::{PeerId, TransportAddr};

use super::NODES;
use crate::input::Input;

pub(super) const PORT: u16 = 4000;
/// All nodes have it, and none has anybody there.
pub(super) const TRANSPORT: u16 = 9;

pub(super) fn identity(node: usize) -> Identity {
    Identity::from_seed([node as u8 + 1; 32])
}

pub(super) fn id(node: usize) -> PeerId {
    PeerId::from(identity(node).peer_id())
}

pub(super) fn home(node: usize) -> SocketAddr {
    ([20 + node as u8, 0, 0, 1], PORT).into()
}

/// They send what they made up or heard before, and never answer.
pub(super) fn stranger(number: u8) -> SocketAddr {
    ([40 + number % 2, 0, 0, number % 4], PORT).into()
}

/// They ask by STUN, whose answers are longer than questions (SPEC 15.1), and never answer.
pub(super) fn asker(number: u8) -> SocketAddr {
    ([42 + number % 2, 0, 0, number % 4], PORT).into()
}

/// Where a datagram comes from that no node sent now.
pub(super) fn stranger_with(bytes: &[u8], number: u8) -> SocketAddr {
    if stun::is_stun(bytes) { asker(number) } else { stranger(number) }
}

/// Packets of others arrive from there first, as if their session had moved.
pub(super) fn mover(number: u8) -> SocketAddr {
    ([44 + number % 2, 0, 0, number % 4], PORT).into()
}

/// They are named, and never send.
pub(super) fn bystander(number: u8) -> SocketAddr {
    ([50, 0, 0, number % 4], PORT + u16::from(number / 64)).into()
}

/// A server that is asked where it sees a node.
pub(super) fn stun_server() -> SocketAddr {
    ([60, 0, 0, 1], 3478).into()
}

/// Anywhere.
pub(super) fn any(input: &mut Input<'_>) -> SocketAddr {
    match input.below(7) {
        0 => home(input.below(NODES)),
        1 => ([127, 0, 0, 1], PORT).into(),
        2 => ([10, 0, 0, input.u8()], PORT).into(),
        3 => ([0x2a01, 0, 0, 0, 0, 0, 0, u16::from(input.u8())], PORT).into(),
        4 => TransportAddr::new(TRANSPORT, input.u8().into()).into(),
        _ => bystander(input.u8()),
    }
}
