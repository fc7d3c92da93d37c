//! What nodes tell each other in sessions, changed or invented.

use std::time::Duration;

use framing::record::Record;
use nat::message::{Message as Punching, Proposal};
use nat::{AttemptId, Candidate, CandidateKind, Secret};
use peer::mux::ProtocolId;
use relay::message::{Notice, Request};
use relay::{CircuitId, Code};
use swarm::node::ProtocolIds;

use super::UNIX;
use super::places::{any, id, identity};
use crate::input::Input;
use crate::nat::report;

/// Any bytes, in any protocol.
pub(super) fn noise(ids: ProtocolIds, input: &mut Input<'_>) -> (ProtocolId, Vec<u8>) {
    let pex = ids.pex.expect("it is on");
    let protocol = input.pick(&[ids.topic, ids.relay, pex, ids.punch, ids.stream, ids.find]);
    (protocol, input.bytes().to_vec())
}

/// An attempt to pass NATs.
pub(super) fn punching(input: &mut Input<'_>) -> Vec<u8> {
    let attempt = AttemptId([input.u8() % 4; 8]);
    let kinds = [CandidateKind::Reflexive, CandidateKind::Mapped, CandidateKind::Host, CandidateKind::Relayed];
    match input.below(5) {
        kind @ 0..=2 => {
            let report = report(input);
            let count = input.below(17);
            let candidates = (0..count).map(|_| Candidate { kind: input.pick(&kinds), addr: any(input) }).collect();
            let secret = Secret::from_bytes(input.array());
            let proposal = Proposal { attempt, round: input.u8() % 4, secret, report, candidates };
            if kind == 2 { Punching::Answer(proposal).encode() } else { Punching::Offer(proposal).encode() }
        }
        3 => [&[3][..], &attempt.0, input.bytes()].concat(),
        _ => [&[4][..], &attempt.0, &[input.u8()]].concat(),
    }
}

/// What relays and those whom they serve say.
pub(super) fn relaying(input: &mut Input<'_>) -> Vec<u8> {
    let circuit = CircuitId::from_bytes([input.u8() % 8; 8]);
    let (code, addr) = (Code(input.u8()), input.flip().then(|| any(input)));
    match input.below(11) {
        0 => Notice::Incoming { circuit, peer: identity(input.below(4)).peer_id(), addr }.encode(),
        1 => Notice::Opened { request: input.u32() % 8, circuit, addr }.encode(),
        2 => Notice::Closed { circuit, code }.encode(),
        3 => Notice::Refused { code, wait: Duration::from_secs(input.u8().into()) }.encode(),
        4 => Notice::NotOpened { request: input.u32() % 8, code }.encode(),
        5 => Notice::Relays((0..input.below(6)).map(|n| (identity(n + 4).peer_id(), any(input))).collect()).encode(),
        6 => Request::Reserve { show: input.flip() }.encode(),
        7 => Request::Connect { request: input.u32(), show: input.flip(), target: identity(input.below(4)).peer_id() }
            .encode(),
        8 => Request::Close { circuit, code }.encode(),
        9 => Notice::Places((0..input.below(6)).map(|n| (identity(n + 2).peer_id(), any(input))).collect()).encode(),
        _ => Request::Relays.encode(),
    }
}

/// Where one is, or where others are, signed by whoever it is.
pub(super) fn exchange(at: usize, input: &mut Input<'_>, tag: [u8; 16]) -> Vec<u8> {
    let own = record(at, input);
    let others = [4, 5, 0].map(|who| record(who, input));
    if input.flip() {
        return [&[0, 1][..], &tag, &own].concat();
    }
    let count = input.below(4);
    let mut message = [&[1][..], &tag, &[count as u8]].concat();
    for other in others.iter().take(count) {
        message.extend((other.len() as u16).to_be_bytes());
        message.extend(other);
    }
    message
}

/// What is looked for and published by way of sessions.
pub(super) fn finding(at: usize, input: &mut Input<'_>) -> Vec<u8> {
    let who = input.below(6);
    match input.below(5) {
        0 => [&[0][..], id(who).as_bytes()].concat(),
        1 => [&[1][..], &record(at, input)].concat(),
        2 => [&[1][..], &record(who, input)].concat(),
        3 => [&[0x80][..], id(who).as_bytes(), &if input.flip() { record(who, input) } else { Vec::new() }].concat(),
        _ => [&[0x81][..], &u64::from(input.u8()).to_be_bytes(), &[input.u8()]].concat(),
    }
}

/// Where somebody says he is.
fn record(who: usize, input: &mut Input<'_>) -> Vec<u8> {
    let addresses = (0..input.below(5)).map(|_| any(input)).collect();
    let sequence = u64::from(input.u8()) + 1;
    let expires = UNIX + Duration::from_secs(u64::from(input.u16()));
    let signed = Record { sequence, expires, addresses, ..Record::default() }.sign(&identity(who));
    signed.map(|record| record.as_bytes().to_vec()).unwrap_or_default()
}
