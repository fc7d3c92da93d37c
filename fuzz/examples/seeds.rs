//! Writes inputs to start from into a folder, one folder for each target: `cargo run --example seeds -- FOLDER`.
//!
//! The codec starts from the frames of the reference implementations, the machines from conversations that begin as
//! honest ones do and then take random turns. Most are redundant: minimise before committing (see the README).

use std::path::Path;
use std::{env, fs, io};

use crypto::{Rng, Seed};
use serde_json::Value;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or_else(|| io::Error::other("say into which folder"))?;
    for (target, _) in fuzz::TARGETS {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        let mut rng = Seed::fixed(1).fork(target).rng();
        let seeds = match *target {
            "frame" => native()?,
            "handshake" => (0..=255).map(|n| meddling(n, &mut rng)).collect(),
            "recovery" => (0..256).map(|_| noise(&[], 16 + rng.below(500), &mut rng)).collect(),
            "mux" => (0..=255).map(|n| noise(&[n], 64 + rng.below(1500), &mut rng)).collect(),
            "session" => (0..=255).map(|n| noise(&[n | 1], 32 + rng.below(400), &mut rng)).collect(),
            "nat" => traversal(&mut rng),
            "relay" => (0..256).map(|_| noise(&[], 64 + rng.below(1500), &mut rng)).collect(),
            "node" => (0..=255).map(|n| noise(&[n], 16 + rng.below(300), &mut rng)).collect(),
            "stream" => (0..64).map(|n| noise(&[n], 8 + rng.below(60), &mut rng)).collect(),
            "text" => texts(),
            "rendezvous" => said(&mut rng)?,
            "v12_dht" => (0..256).map(|_| noise(&[], 32 + rng.below(300), &mut rng)).collect(),
            "dht_message" => hash_table(&mut rng),
            "dht_table" => (0..=255).map(|n| noise(&[n], 32 + rng.below(600), &mut rng)).collect(),
            "dht_store" => (0..=255).map(|_| noise(&[], 32 + rng.below(600), &mut rng)).collect(),
            "dht_node" => (0..=255).map(|_| noise(&[], 32 + rng.below(500), &mut rng)).collect(),
            "v12_frame" => frames()?,
            "v12_peer" => (0..512).map(|n| conversation(n, PEER, &mut rng)).collect(),
            "v12_node" => (0..512).map(|n| conversation(n, NODE, &mut rng)).collect(),
            _ => (0..256).map(|n| turns(vec![n], &mut rng)).collect(),
        };
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), seed)?;
        }
    }
    Ok(())
}

/// Every native frame, header and record of the vectors, frames two at a time, and beacons.
fn native() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = vectors("native")?;
    let pairs: Vec<Vec<u8>> = seeds.windows(2).map(<[Vec<u8>]>::concat).collect();
    seeds.extend(pairs);
    let beacon =
        |tags: u8| [&[0xde, 1, 0, 0][..], &[7; 16], &[0x1f, 0x90, tags], &vec![tags; usize::from(tags) * 16]].concat();
    seeds.extend([1, 4, 64].map(beacon));
    Ok(seeds)
}

/// A body and a front of every kind, and records.
fn hash_table(rng: &mut Rng) -> Vec<Vec<u8>> {
    use dht::message::{Answer, Echo, Front, Message, Outcome, Refused, Request, Transaction};
    use dht::{Announcement, Contact, Family, Item, Key, Kind, NodeId, Relay, SignedValue, Token};

    let identity = crypto::Identity::from_seed([1; 32]);
    let (key, family) = (Key::from_bytes([1; 32]), Family::V4);
    let addr = ([9, 8, 7, 6], 5).into();
    let relay = Relay { peer: identity.peer_id(), addr };
    let unix = std::time::Duration::from_secs(1_800_000_000);
    let life = std::time::Duration::from_secs(7200);
    let announcement = Announcement::sign(&identity, key, unix, life, &[addr; 2], &[relay]).expect("within limits");
    let announcement = announcement.as_bytes().clone();
    let signed = Item::Signed(SignedValue::sign(&identity, b"salt", 4, b"value").expect("within limits"));
    let requests = [
        Request::Ping,
        Request::Find { target: key, family: Family::V6 },
        Request::Peers { key, family: None, start: 7 },
        Request::Peers { key, family: Some(family), start: 7 },
        Request::Get { kind: Kind::Peer, key, family },
        Request::Announce { key, announcement: announcement.clone(), family: None },
        Request::Put { kind: Kind::Signed, item: signed.to_bytes(), family: Some(Family::V4) },
        Request::Put { kind: Kind::Value, item: [7; 100].into(), family: None },
    ];
    let nodes = |count| vec![Contact { id: NodeId::from_bytes([5; 32]), addr }; count];
    let announcements = vec![announcement.clone(); 3];
    let outcomes = [
        Outcome::Pong,
        Outcome::Nodes(nodes(20)),
        Outcome::Peers { total: 100, next: 9, announcements, nodes: nodes(8) },
        Outcome::Item { item: signed.to_answer(), nodes: nodes(2) },
        Outcome::Stored { seconds: 7200, nodes: Vec::new() },
        Outcome::Refused(Refused::Quota),
    ];
    let transaction = Transaction([3; 8]);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    seeds.extend(requests.map(|request| Message::Request(transaction, request).encode(0, usize::MAX)));
    seeds.extend(outcomes.map(|outcome| {
        let answer = Answer { token: Token::from_bytes([4; 8]), observed: addr, outcome };
        Message::Answer(transaction, answer).encode(0, usize::MAX)
    }));
    let (echo, sender, token) = (Echo([1; 8]), NodeId::from_bytes([2; 32]), Token::from_bytes([3; 8]));
    seeds.push([Front::Sealed { sender, token, echo, client: true }.encode(), vec![7; 60]].concat());
    seeds.push(Front::Hello { echo, sender }.encode());
    seeds.push(Front::Welcome { echo, sender, token }.encode());
    seeds.push(Front::Retry { echo, token }.encode());
    seeds.push(dht::save(&nodes(3)));
    // The first byte of a record is that of its key.
    seeds.extend([&announcement[..], &signed.to_bytes()].map(|bytes| [&[1], bytes].concat()));
    let cut: Vec<Vec<u8>> = seeds.iter().map(|seed| seed[..rng.below(seed.len() as u64) as usize].to_vec()).collect();
    seeds.extend(cut);
    seeds
}

/// What people write.
fn texts() -> Vec<Vec<u8>> {
    use swarm::{PeerId, Ticket, TopicId};
    let id = PeerId::from(crypto::Identity::from_seed([1; 32]).peer_id());
    let (v4, v6) = (([192, 0, 2, 1], 4000).into(), "[2001:db8::1]:4000".parse().expect("an address"));
    let ticket = Ticket::new(id, [v4, v6]);
    let mut texts = vec![
        id.to_string(),
        ticket.to_string(),
        ticket.clone().topic(TopicId::from("cats")).relay(id, [v4]).to_string(),
        Ticket::new(id, []).to_string().to_uppercase(),
    ];
    for place in ["192.0.2.1:4000", "[2001:db8::1]:4000", "[fe80::1%2]:7", "host.example:4000"] {
        texts.push(format!("{id}@{place}"));
        for scheme in ["", "p2p://", "udp://", "tcp://", "ws://"] {
            texts.push(format!("{scheme}{place}"));
            texts.push(format!("{scheme}{id}@{place}"));
        }
    }
    texts.into_iter().map(String::into_bytes).collect()
}

/// What nodes leave at servers, each behind the bytes that choose how it is read.
fn said(rng: &mut Rng) -> io::Result<Vec<Vec<u8>>> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/v12/json_messages.json");
    let vectors: Value = serde_json::from_slice(&fs::read(vectors)?)?;
    let met = [vectors["me_with_stun"].to_string(), vectors["me_without_stun"].to_string()];
    let list = r#"[{"id":"ab","ip":"9.9.9.9","port":9},{"ip":"127.0.0.1","port":1},7]"#.to_owned();
    let service = format!("{}.{}", "ab".repeat(16), "cd".repeat(16));
    let record = framing::record::Record {
        sequence: 1,
        expires: std::time::Duration::from_secs(1_800_000_600),
        addresses: vec![([9, 9, 9, 9], 9).into(), ([127, 0, 0, 1], 9).into()],
        ..framing::record::Record::default()
    };
    let record = record.sign(&crypto::Identity::from_seed([2; 32])).map_err(io::Error::other)?;
    let bodies = swarm::rendezvous::list([&[1; 40][..], &[2; 100], &[]]);
    let mut seeds = Vec::new();
    for reaches in [[0, 2], [2, 2], [1, 1], [0, 0]] {
        seeds.push([&reaches, &[1][..], record.as_bytes()].concat());
        seeds.push([&reaches, &[2][..], &bodies].concat());
        seeds.extend(met.iter().map(|met| [&reaches, &[3][..], met.as_bytes()].concat()));
        seeds.push([&reaches, &[4][..], list.as_bytes()].concat());
        seeds.push([&reaches, &[5, 0, 0, 0, 0, 7, 1, 3, 2, 9, 9, 9, 9][..], service.as_bytes()].concat());
        seeds.extend((0..8).map(|_| noise(&[reaches[0], reaches[1], 0], 20 + rng.below(100), rng)));
    }
    Ok(seeds)
}

/// Everything in a folder of vectors that goes over the network.
fn vectors(folder: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(folder);
    let mut paths: Vec<_> =
        fs::read_dir(vectors)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|name| name == "json")) {
        collect(&serde_json::from_slice(&fs::read(path)?)?, &mut frames);
    }
    Ok(frames)
}

/// Every frame of the vectors, alone and two at a time in a BATCH.
fn frames() -> io::Result<Vec<Vec<u8>>> {
    let mut frames = vectors("v12")?;
    let batches: Vec<Vec<u8>> = frames
        .windows(2)
        .filter_map(|pair| {
            let mut batch = Vec::new();
            framing::v12::encode::batch(pair.iter().map(Vec::as_slice), &mut batch).ok().map(|()| batch)
        })
        .collect();
    frames.extend(batches.into_iter().filter(|batch| batch.len() < 1500));
    Ok(frames)
}

/// Members with the names of what goes over the network, wherever they are.
fn collect(value: &Value, frames: &mut Vec<Vec<u8>>) {
    let hex = |text: &Value| data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_str()?.as_bytes()).ok();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("frame_hex" | "payload_hex" | "header_hex" | "record_hex", text) => frames.extend(hex(text)),
                    ("frames_hex", Value::Array(texts)) => frames.extend(texts.iter().filter_map(hex)),
                    (_, other) => collect(other, frames),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, frames)),
        _ => {}
    }
}

/// How the input of a target that runs machines begins, and what its steps look like: an operation and its arguments.
struct Script {
    header: usize,
    /// Before each operation stands the node that it is for.
    sited: bool,
    operations: u8,
}

const PEER: Script = Script { header: 1, sited: false, operations: 24 };
const NODE: Script = Script { header: 2, sited: true, operations: 24 };

/// A conversation of up to forty steps; every second one of them lets the network do its work.
fn conversation(number: u16, script: Script, rng: &mut Rng) -> Vec<u8> {
    let [flags, more] = number.to_be_bytes().map(|byte| byte ^ rng.array::<1>()[0]);
    let mut seed = [flags | 1, more][..script.header].to_vec();
    for step in 0..4 + rng.below(36) {
        if script.sited {
            seed.push(rng.array::<1>()[0]);
        }
        if step % 2 == 0 {
            let [pause] = rng.array();
            seed.extend([0, pause]);
        } else {
            let [operation, arguments] = rng.array();
            seed.push(operation % script.operations);
            seed.extend((0..arguments % 8).flat_map(|_| rng.array::<1>()).map(|byte| byte >> (byte & 7)));
        }
    }
    seed
}

/// A handshake with somebody between its ends who mostly lets messages pass: the pattern, whether the responder asks for
/// cookies, a number, and then for each message an operation with arguments.
fn meddling(number: u8, rng: &mut Rng) -> Vec<u8> {
    let mut seed = vec![number % 4, number / 4 % 2, number / 8];
    if number % 4 == 0 {
        // A single message: its kind, whether its MAC is made right, and what is in it.
        seed[1] = number / 4;
        let len =
            if rng.below(4) == 0 { rng.below(1300) } else { [12, 68, 132, 148, 180, 240][usize::from(number) % 6] };
        seed.extend((0..len).map(|at| if at == 1 { 1 } else { rng.array::<1>()[0] }));
    } else {
        for _ in 0..rng.below(24) {
            match rng.below(10) {
                0..5 => seed.push(0),
                operation => seed.extend([operation.to_le_bytes()[0], rng.array::<1>()[0], rng.array::<1>()[0], 1]),
            }
        }
    }
    seed
}

/// Random bytes behind given ones, for a target most of whose bytes are operations.
fn noise(first: &[u8], len: u64, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = first.to_vec();
    bytes.extend((0..len).flat_map(|_| rng.array::<1>()));
    bytes
}

/// Messages of all kinds, then noise for the other parts, mostly for two who punch.
fn traversal(rng: &mut Rng) -> Vec<Vec<u8>> {
    use nat::stun::{Change, Message, Transaction};
    let transaction = Transaction([7; 12]);
    let change = Change { ip: true, port: true };
    let request = Message::Request { transaction, change, fingerprint: true };
    let addr = ([203, 0, 113, 5], 5000).into();
    let success = Message::Success { transaction, mapped: addr, other: Some(addr) };
    let unknown = Message::Unknown { transaction, types: vec![0x24, 0x25], fingerprint: true };
    let mut whole = vec![request.encode(true), success.encode(true), unknown.encode(true), success.encode(false)];
    let setup = || nat::Setup {
        candidates: vec![nat::Candidate { kind: nat::CandidateKind::Reflexive, addr }],
        ..nat::Setup::default()
    };
    let now = sim::clock::base();
    let mut offer = nat::Punch::initiate(setup(), &Seed::fixed(1), now);
    let mut answer = nat::Punch::respond(setup(), &Seed::fixed(2), now);
    for _ in 0..3 {
        let message = offer.poll_message().unwrap_or_default();
        let _ = answer.handle_message(&message, now);
        whole.push(message);
        let message = answer.poll_message().unwrap_or_default();
        let _ = offer.handle_message(&message, now);
        whole.push(message);
    }
    whole.push([&[0xdc, 0, 0, 1][..], &[9; 24]].concat());
    whole.retain(|message| !message.is_empty());
    let mut seeds: Vec<Vec<u8>> = whole.iter().map(|message| [&[0], &message[..]].concat()).collect();
    seeds.extend((0..24).map(|n| noise(&[1 + n % 2], 64 + rng.below(400), rng)));
    seeds.extend((0..64).map(|_| noise(&[3], 40 + rng.below(600), rng)));
    seeds
}

/// Random steps of a target that has few operations.
fn turns(mut seed: Vec<u16>, rng: &mut Rng) -> Vec<u8> {
    let len = 16 + rng.below(240);
    let mut bytes: Vec<u8> = seed.drain(..).flat_map(u16::to_le_bytes).collect();
    bytes.extend((0..len).flat_map(|_| rng.array::<1>()).map(|byte| byte >> (byte & 3)));
    bytes
}
