//! Who takes part, and frames that pass the first checks because they carry the right names.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, OnceLock};

use crypto::v12::{Identity, Nonce, PublicKey, Session, TopicHash};
use framing::v12::{Frame, GoawayReason, Kind, NodeId, PexEntry, WireId, encode};
use swarm::TopicId;

use crate::input::{Input, pattern};

/// How many identities there are: the two under test and two strangers.
pub(crate) const ACTORS: usize = 4;

/// An identity, always the same.
pub(crate) fn identity(actor: usize) -> Arc<Identity> {
    static IDENTITIES: OnceLock<Vec<Arc<Identity>>> = OnceLock::new();
    let all = IDENTITIES.get_or_init(|| (0..ACTORS).map(|actor| Arc::new(owned_identity(actor))).collect());
    all[actor].clone()
}

/// The same identity for a machine that wants to own it.
pub(crate) fn owned_identity(actor: usize) -> Identity {
    Identity::from_seed([b"alice".as_slice(), b"bob", b"carol", b"dave"][actor])
}

fn session(from: usize, to: usize) -> &'static Session {
    static SESSIONS: OnceLock<Vec<Session>> = OnceLock::new();
    let all = SESSIONS.get_or_init(|| {
        let pairs = (0..ACTORS * ACTORS).map(|pair| (identity(pair / ACTORS), identity(pair % ACTORS)));
        pairs.map(|(from, to)| Session::derive(&from, to.public()).expect("no weak key among them")).collect()
    });
    &all[from * ACTORS + to]
}

/// Where an actor is at home.
pub(crate) fn home(actor: usize) -> SocketAddr {
    SocketAddr::V4(ADDRS[actor])
}

/// An address: the homes first, then others that nobody lives at, some of which must not be dialled.
pub(crate) fn addr(input: &mut Input<'_>) -> SocketAddrV4 {
    match input.u8() {
        255 => SocketAddrV4::new(input.array::<4>().into(), input.u16()),
        byte => ADDRS[usize::from(byte) % ADDRS.len()],
    }
}

const fn at(a: u8, b: u8, c: u8, d: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(std::net::Ipv4Addr::new(a, b, c, d), port)
}

const ADDRS: [SocketAddrV4; 14] = [
    at(10, 0, 0, 1, 4000),
    at(10, 0, 0, 2, 4000),
    at(10, 0, 0, 3, 4000),
    at(10, 0, 0, 4, 4000),
    at(10, 0, 0, 2, 4001),
    at(10, 0, 0, 9, 9),
    at(8, 8, 4, 4, 4000),
    at(8, 8, 4, 4, 4001),
    at(9, 9, 9, 9, 1),
    at(127, 0, 0, 1, 4000),
    at(224, 0, 0, 1, 4000),
    at(0, 0, 0, 0, 4000),
    at(255, 255, 255, 255, 4000),
    at(192, 168, 1, 1, 1),
];

/// The keys of values; the value of each is always the same.
pub(crate) fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.u8() {
        255 => input.bytes().to_vec(),
        byte => vec![b'k', byte % 6],
    }
}

/// The value that belongs to a key.
pub(crate) fn value(key: &[u8]) -> Vec<u8> {
    let salt = key.last().copied().unwrap_or(0);
    pattern(salt, [1, 900, 901, 5000, 20_000, 60_000][usize::from(salt) % 6])
}

/// A DATA frame as `from` would seal it for `to`.
pub(crate) fn seal(from: usize, to: usize, nonce: Nonce, plaintext: &[u8]) -> Vec<u8> {
    let mut frame = vec![Kind::Data.byte()];
    session(from, to).seal(nonce, &[plaintext], &mut frame);
    frame
}

/// A nonce: of the form the existing nodes use, of what the input likes, or near one that was seen.
pub(crate) fn nonce(input: &mut Input<'_>, from: usize, to: usize, seen: Option<Nonce>, next: &mut u64) -> Nonce {
    let choice = input.u8();
    *next += 1;
    let counter = match choice & 3 {
        0 | 1 => *next,
        2 => u64::from(input.u8()),
        _ => seen.map_or(u64::MAX, |nonce| nonce.counter()).wrapping_add(u64::from(input.u8())).wrapping_sub(4),
    };
    let prefix = match (choice >> 2) & 3 {
        0 | 1 => session(from, to).session_id(),
        2 => seen.map_or(7, |nonce| nonce.prefix()),
        _ => u32::from(input.u8()),
    };
    Nonce::new(prefix, counter)
}

/// What somebody who has the key may seal: messages, notes, gossip, anything.
pub(crate) fn plaintext(input: &mut Input<'_>, next_seq: &mut u32) -> Vec<u8> {
    let message = |seq: u32, payload: &[u8]| [&seq.to_be_bytes(), payload].concat();
    match input.below(9) {
        0 | 1 => {
            *next_seq = next_seq.wrapping_add(1);
            message(next_seq.wrapping_sub(1), input.bytes())
        }
        2 => message(u32::from(input.u8()), input.bytes()),
        3 => message(input.u32(), &pattern(1, input.len().min(65_000))),
        4 => input.bytes().to_vec(),
        5 => {
            let (next, missing, messages, bytes) = (input.u32(), input.u16(), input.u16(), input.u32());
            format!(r#"{{"_gossip":1,"x":[1,{next},{missing},{messages},{bytes}]}}"#).into_bytes()
        }
        6 => format!(r#"{{"_gossip":1,"x":[1],"bye":{}}}"#, input.u16()).into_bytes(),
        7 => {
            let (addr, id) = (addr(input), identity(input.below(ACTORS)).id());
            let (ip, port) = (addr.ip(), addr.port());
            let gossip = format!(r#"{{"_gossip": true, "id": "{id}", "ip": "{ip}", "port": {port}}}"#);
            if input.flip() { message(*next_seq, gossip.as_bytes()) } else { gossip.into_bytes() }
        }
        _ => {
            let text = String::from_utf8_lossy(input.bytes()).into_owned();
            format!(r#"{{"_gossip":1,"x":{text}}}"#).into_bytes()
        }
    }
}

/// A frame that names actors, addresses and keys which exist. Empty where the input asks for what does not encode.
pub(crate) fn frame(input: &mut Input<'_>, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = Kind::ALL[input.below(Kind::ALL.len())];
    let actor = input.u8();
    let known = identity(usize::from(actor) % ACTORS);
    let encoded = match kind {
        Kind::Hello | Kind::HelloAck => {
            // Keys that give no shared secret name themselves correctly, too.
            let key = if actor > 250 { PublicKey::from([actor & 1; 32]) } else { *known.public() };
            let id = if actor == 250 { WireId::from([0; 8]) } else { NodeId::of(&key).wire() };
            match kind {
                Kind::Hello => encode::hello(id, key, &mut out),
                _ => encode::hello_ack(id, key, &mut out),
            }
            Ok(())
        }
        Kind::Data => encode::data(input.rest(), &mut out),
        Kind::Ping => {
            encode::ping(u64::from(input.u16()), known.id(), &mut out);
            Ok(())
        }
        Kind::Pong if actor > 200 => {
            encode::pong_echo(u64::from(input.u16()), known.id(), input.bytes(), &mut out);
            Ok(())
        }
        Kind::Pong => {
            encode::pong(known.id(), &mut out);
            Ok(())
        }
        Kind::Ihave => encode::ihave((0..input.below(4)).map(|_| input.array()), &mut out),
        Kind::Lan => {
            let topic = topic(usize::from(actor) / ACTORS);
            encode::lan(known.id(), addr(input), topic.as_deref(), &mut out)
        }
        Kind::Goaway => {
            encode::goaway(GoawayReason::from_code(actor), &mut out);
            Ok(())
        }
        Kind::Frag => {
            let (id, total) = ([actor; 8], u16::from(input.u8()));
            let index = u16::from(input.u8());
            let len = if index + 1 == total { input.len() % 1189 } else { 1188 };
            encode::frag(id, index, total, &pattern(actor, len), &mut out)
        }
        Kind::Have => {
            let keys: Vec<Vec<u8>> = (0..input.below(5)).map(|_| key(input)).collect();
            encode::have(keys.iter().map(Vec::as_slice), &mut out)
        }
        Kind::Want => encode::want(&key(input), &mut out),
        Kind::Chunk if actor & 3 == 0 => encode::chunk(&key(input), input.bytes(), &mut out),
        Kind::Chunk => {
            // A part of the true value, or one that only looks like it.
            let key = key(input);
            let value = value(&key);
            let parts: Vec<&[u8]> = value.chunks(900).collect();
            let index = input.below(parts.len());
            let total = if actor & 4 == 0 { parts.len() } else { input.below(256) };
            let data = if actor & 8 == 0 { parts[index].to_vec() } else { pattern(actor, parts[index].len()) };
            encode::chunk_part(&key, index as u16, total as u16, &data, &mut out)
        }
        Kind::ChunkAck => encode::chunk_ack(&key(input), u16::from(input.u8()), &mut out),
        Kind::Batch if depth > 0 => Ok(()),
        Kind::Batch => {
            let frames: Vec<Vec<u8>> = (0..input.below(6)).map(|_| frame(input, depth + 1)).collect();
            encode::batch(frames.iter().filter(|frame| !frame.is_empty()).map(Vec::as_slice), &mut out)
        }
        Kind::RelayAnn => encode::relay_ann(known.wire_id(), addr(input), &mut out),
        Kind::RelayReq => {
            let to = identity(input.below(ACTORS)).wire_id();
            encode::relay_req(known.wire_id(), to, addr(input), &mut out)
        }
        Kind::RelayFwd => encode::relay_fwd(known.wire_id(), addr(input), &mut out),
        Kind::Pex => {
            let compact = actor & 4 != 0;
            let entries: Vec<PexEntry> = (0..input.below(25))
                .map(|_| PexEntry { id: identity(input.below(ACTORS)).wire_id(), addr: addr(input) })
                .collect();
            if compact { encode::pex_compact(entries, &mut out) } else { encode::pex(entries, &mut out) }
        }
    };
    if encoded.is_err() {
        out.clear();
    }
    out
}

/// Addresses that a datagram names, as often as it names them: whoever reads it may dial them.
pub(crate) fn named(bytes: &[u8]) -> Vec<SocketAddrV4> {
    match Frame::decode(bytes) {
        Ok(Frame::Lan { addr, .. } | Frame::RelayAnn { addr, .. } | Frame::RelayFwd { addr, .. }) => vec![addr],
        Ok(Frame::RelayReq { addr, .. }) => vec![addr],
        Ok(Frame::Pex(pex)) => pex.iter().map(|entry| entry.addr).collect(),
        Ok(Frame::Batch(frames)) => frames.iter().flat_map(named).collect(),
        _ => Vec::new(),
    }
}

/// The address that gossip names, if the plaintext is gossip.
pub(crate) fn gossiped(plaintext: &[u8]) -> Option<SocketAddrV4> {
    let text = String::from_utf8_lossy(plaintext);
    let (_, rest) = text.split_once(r#""ip": ""#)?;
    let (ip, rest) = rest.split_once('"')?;
    let (_, port) = rest.split_once(r#""port": "#)?;
    Some(SocketAddrV4::new(ip.parse().ok()?, port.trim_end_matches('}').parse().ok()?))
}

/// The name of the topic that nodes under test join.
pub(crate) const TOPIC: &str = "a topic";

/// What a beacon says that its sender joined: the topic, as two implementations write it, nothing, or another one.
fn topic(choice: usize) -> Option<String> {
    let ours = TopicHash::of(TopicId::from_name(TOPIC).as_bytes());
    match choice % 4 {
        0 => Some(ours.as_str().to_owned()),
        1 => Some(format!("{}0123456789ab", ours.as_str())),
        2 => None,
        _ => Some("abc".to_owned()),
    }
}
