//! What is delivered is what was sent.

use std::collections::BTreeMap;

use framing::StreamCode;

use super::*;

const PATHS: [Path; 4] = [
    Path { loss: 0, duplicates: 0, latency: 5, jitter: 0, rate: 20, room: ROOM },
    Path { loss: 5, duplicates: 3, latency: 10, jitter: 3, rate: 10, room: ROOM },
    Path { loss: 30, duplicates: 10, latency: 20, jitter: 40, rate: 5, room: ROOM },
    Path { loss: 10, duplicates: 0, latency: 40, jitter: 10, rate: 40, room: 8900 },
];

/// The byte at `at` of what one side sends on a stream.
fn byte(stream: StreamId, side: usize, at: u64) -> u8 {
    let mut random = Random(stream.value() * 2 + side as u64 + ((at / 8) << 20));
    random.next().to_le_bytes()[at as usize % 8]
}

/// What the test knows of one direction of a stream.
#[derive(Debug, Default)]
struct Expected {
    written: u64,
    read: u64,
    finished: bool,
    /// Reset by its writer, or stopped by its reader.
    given_up: bool,
    ended: bool,
}

/// Streams that are opened, written, finished, reset, read, and stopped at random.
#[test]
fn streams_deliver_prefixes_and_all_of_what_was_finished() {
    for seed in 0..12 {
        let now = start();
        let list = protocols(&[("a", 1), ("b", 3), ("c", 1)]);
        let mut net = Net::new(pair(&list, now), PATHS[seed as usize % 4], seed, now);
        let mut streams: BTreeMap<StreamId, [Expected; 2]> = BTreeMap::new();
        for step in 0.. {
            net.step();
            for side in 0..2 {
                let mux = &mut net.sides[side];
                for event in events(mux) {
                    if let Event::Opened { stream, .. } = event {
                        assert!(streams.contains_key(&stream));
                    }
                }
                if step < 400
                    && net.random.chance(10)
                    && let Ok(id) = mux.open_stream(ProtocolId(net.random.below(3) as u16))
                {
                    streams.insert(id, Default::default());
                }
                for (id, expected) in &mut streams {
                    let [a, b] = expected;
                    let (out, inn) = if side == 0 { (a, b) } else { (b, a) };
                    write_at_random(mux, *id, side, out, &mut net.random, step >= 400);
                    read_at_random(mux, *id, side, inn, &mut net.random);
                }
            }
            let done = streams.values().flatten().all(|way| way.ended || way.given_up);
            if step > 400 && done && net.sides.iter().all(Mux::is_flushed) {
                break;
            }
            assert!(step < 60_000, "seed {seed}: {streams:?}");
        }
        let whole = streams.values().flatten().filter(|way| way.ended).count();
        assert!(whole > 10, "{whole}");
        for way in streams.values().flatten().filter(|way| way.ended) {
            assert_eq!(way.read, way.written);
        }
        // Nothing is left behind.
        for _ in 0..500 {
            net.step();
        }
        for side in &net.sides {
            assert_eq!(side.held_bytes(), 0);
            assert_eq!((side.streams.sends.iter().count(), side.streams.ours()), (0, 0), "seed {seed}");
            assert_eq!((side.unsent, side.received), (0, side.consumed));
        }
    }
}

fn write_at_random(mux: &mut Mux, id: StreamId, side: usize, way: &mut Expected, random: &mut Random, hurry: bool) {
    if way.finished || way.given_up {
        return;
    }
    if random.chance(if hurry { 100 } else { 20 }) && way.written < 200_000 {
        let len = random.below(10_000);
        let data = (way.written..way.written + len).map(|at| byte(id, side, at)).collect::<Vec<_>>();
        let last = hurry && random.chance(50);
        match if last { mux.write_last(id, &data) } else { mux.write(id, &data) } {
            Ok(taken) => {
                way.written += taken as u64;
                way.finished = last && taken == data.len();
            }
            Err(WriteError::Stopped { .. }) => way.given_up = true,
            // The other side has not heard of the stream, or is gone.
            Err(WriteError::Closed | WriteError::Blocked) => {}
        }
    }
    if way.finished {
        assert_eq!(mux.write_last(id, &[]), Err(WriteError::Closed));
    } else if (hurry || random.chance(1)) && way.written > 0 && mux.finish(id).is_ok() {
        way.finished = true;
    } else if random.below(400) == 0 && mux.reset(id, StreamCode::application(7)).is_ok() {
        way.given_up = true;
    }
    // A stream that nothing was ever written to is finished too.
    if hurry && way.written == 0 && mux.finish(id).is_ok() {
        way.finished = true;
    }
    if hurry && !way.finished && !way.given_up && matches!(mux.write(id, &[]), Err(WriteError::Stopped { .. })) {
        way.given_up = true;
    }
}

fn read_at_random(mux: &mut Mux, id: StreamId, side: usize, way: &mut Expected, random: &mut Random) {
    if way.ended || !random.chance(50) {
        return;
    }
    if random.below(500) == 0 && mux.stop(id, StreamCode::application(9)).is_ok() {
        way.given_up = true;
        return;
    }
    let room = random.below(20_000) as usize + 1;
    let mut out = Vec::new();
    let read = if random.chance(50) { mux.read_into(id, &mut out, room) } else { mux.read_rest(id, &mut out, room) };
    for got in &out {
        assert_eq!(*got, byte(id, 1 - side, way.read));
        way.read += 1;
    }
    match read {
        Ok(Read::Bytes(len)) => assert!((1..=room).contains(&len) && len == out.len() && way.read <= way.written),
        Ok(Read::End) => way.ended = true,
        Err(ReadError::Reset { .. }) => way.given_up = true,
        Err(ReadError::Blocked | ReadError::Closed) => {}
    }
}

/// A message whose content says which it is; the first byte says how urgent.
fn message(id: u64, urgency: Urgency, len: usize) -> Vec<u8> {
    let mut random = Random(id);
    let random = (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
    let mut bytes = [urgency as u8].into_iter().chain(random).collect::<Vec<_>>();
    bytes.truncate(len);
    bytes
}

fn check_account(mux: &Mux, protocol: ProtocolId, urgency: Urgency) -> Account {
    let account = mux.account(protocol, urgency);
    assert_eq!(account.accepted, account.acked + account.unknown + account.unsent, "{account:?}");
    account
}

/// The messages of one way, protocol and urgency: lengths of those sent, how many were received, how many acknowledged.
type Progress = (Vec<usize>, usize, u64);

#[test]
fn messages_arrive_once_in_order_and_are_accounted_for_at_every_step() {
    for seed in 0..4 {
        let now = start();
        let list = protocols(&[("a", 1), ("b", 3), ("c", 1)]);
        let mut net = Net::new(pair(&list, now), PATHS[seed as usize % 4], seed, now);
        let mut sent: BTreeMap<(usize, u16, Urgency), Progress> = BTreeMap::new();
        for step in 0.. {
            net.step();
            let mut all = true;
            for side in 0..2 {
                let mux = &mut net.sides[side];
                for event in events(mux) {
                    if let Event::Acked { protocol, urgency, through } = event {
                        let acked = &mut sent.get_mut(&(side, protocol.0, urgency)).unwrap().2;
                        assert!(through.0 >= *acked, "{through} after {acked}");
                        *acked = through.0 + 1;
                    }
                }
                for protocol in (0..3).map(ProtocolId) {
                    for urgency in Urgency::BOTH {
                        let (lens, _, acked) = sent.entry((side, protocol.0, urgency)).or_default();
                        for _ in 0..net.random.below(4) {
                            let len = match net.random.below(200) {
                                0 => 300_000,
                                1..20 => net.random.below(20_000) as usize,
                                // Empty ones too, if they cannot be taken for others.
                                _ => net.random.below(200).max(u64::from(urgency == Urgency::Normal)) as usize,
                            };
                            if step < 300
                                && let Ok(id) = mux.send(protocol, &message(lens.len() as u64, urgency, len), urgency)
                            {
                                assert_eq!(id.0, lens.len() as u64);
                                lens.push(len);
                            }
                        }
                        let account = check_account(mux, protocol, urgency);
                        assert_eq!(account.accepted, lens.len() as u64);
                        assert!(account.acked >= *acked);
                        all &= account.acked == account.accepted;
                    }
                    let mut out = Vec::new();
                    while net.random.chance(90) && mux.recv(protocol, &mut out).is_some() {
                        let way = Urgency::BOTH.into_iter().find(|urgency| {
                            let (lens, received, _) = &sent[&(1 - side, protocol.0, *urgency)];
                            lens.get(*received).is_some_and(|len| out == message(*received as u64, *urgency, *len))
                        });
                        sent.get_mut(&(1 - side, protocol.0, way.expect("not the next message"))).unwrap().1 += 1;
                    }
                }
            }
            let received = sent.values().all(|(lens, received, _)| lens.len() == *received);
            if step > 300 && all && received {
                break;
            }
            assert!(step < 60_000, "seed {seed} does not end");
        }
        for ((side, protocol, urgency), (lens, received, _)) in &sent {
            let account = net.sides[*side].account(ProtocolId(*protocol), *urgency);
            assert_eq!((account.acked, lens.len() as u64), (account.accepted, *received as u64));
        }
        for _ in 0..200 {
            net.step();
        }
        assert!(net.sides.iter().all(|side| side.held_bytes() == 0));
    }
}

#[test]
fn at_the_end_every_message_is_acked_unknown_or_unsent() {
    for seed in 0..20 {
        let now = start();
        let list = protocols(&[("a", 1), ("b", 1)]);
        let mut net = Net::new(pair(&list, now), PATHS[1], seed, now);
        let mut random = Random(seed);
        let mut received = [0; 2];
        let (mut out, stop) = (Vec::new(), random.below(60));
        for _ in 0..stop {
            for _ in 0..random.below(30) {
                let len = if random.chance(5) { 5000 } else { 100 };
                let _full = net.sides[0].send(ProtocolId(random.below(2) as u16), &vec![1; len], Urgency::Normal);
            }
            net.step();
            for protocol in 0..2 {
                while net.sides[1].recv(ProtocolId(protocol), &mut out).is_some() {
                    received[protocol as usize] += 1;
                }
            }
        }
        for protocol in 0..2 {
            let account = check_account(&net.sides[0], ProtocolId(protocol), Urgency::Normal);
            // What arrived is among what may have arrived, and what is acknowledged did.
            let received = received[protocol as usize];
            assert!(account.acked <= received && received <= account.acked + account.unknown, "{account:?} {received}");
        }
        // The same when the protocol is stopped, and then it stays so.
        let before = net.sides[0].account(ProtocolId(0), Urgency::Normal);
        net.sides[0].fail_protocol(ProtocolId(0));
        assert_eq!(net.sides[0].account(ProtocolId(0), Urgency::Normal), before);
        let closed = events(&mut net.sides[0]).into_iter().find_map(|event| match event {
            Event::ChannelClosed { account, .. } => Some(account),
            _ => None,
        });
        assert!(before.accepted == 0 || closed == Some(before));
        for _ in 0..400 {
            net.step();
            while net.sides[1].recv(ProtocolId(1), &mut out).is_some() {}
        }
        assert_eq!(net.sides[0].account(ProtocolId(0), Urgency::Normal), before);
        let other = net.sides[0].account(ProtocolId(1), Urgency::Normal);
        assert_eq!(other.acked, other.accepted);
    }
}

/// The window of the session holds less than one message of each channel together: they must be sent one behind the other.
#[test]
fn large_messages_on_many_channels_do_not_starve_each_other() {
    let now = start();
    let list = protocols(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
    for (seed, len) in [1 << 20, 300_000, 90_000].into_iter().enumerate() {
        let path = Path { room: 8900, ..PATHS[1] };
        let mut net = Net::new(pair(&list, now), path, seed as u64, now);
        let (mut sent, mut received, mut out) = ([0; 10], 0, Vec::new());
        let each = 3;
        for step in 0.. {
            for (channel, sent) in sent.iter_mut().enumerate().filter(|(_, sent)| **sent < each) {
                let urgency = Urgency::BOTH[channel % 2];
                let message = vec![channel as u8; len];
                *sent += u32::from(net.sides[0].send(ProtocolId(channel as u16 / 2), &message, urgency).is_ok());
            }
            net.step();
            for protocol in 0..5 {
                while net.sides[1].recv(ProtocolId(protocol), &mut out).is_some() {
                    assert_eq!(out.len(), len);
                    received += 1;
                }
            }
            if received == 10 * each {
                break;
            }
            assert!(step < 20_000, "{len}: {received} of {sent:?}");
        }
    }
}

#[test]
fn a_loss_holds_up_nobody_else() {
    let now = start();
    let list = protocols(&[("a", 1), ("b", 1)]);
    let [mut a, mut b] = pair(&list, now);
    // One packet with a message of one protocol is lost.
    a.send(ProtocolId(0), b"lost", Urgency::Normal).unwrap();
    let (_, lost) = packet(&mut a, ROOM, now);
    a.send(ProtocolId(0), b"behind", Urgency::Normal).unwrap();
    a.send(ProtocolId(1), b"other", Urgency::Normal).unwrap();
    a.send(ProtocolId(0), b"urgent", Urgency::Urgent).unwrap();
    let (bytes, _) = packet(&mut a, ROOM, now);
    assert_eq!(deliver(&mut b, &bytes), Ok(Received::Taken));
    let mut out = Vec::new();
    assert_eq!(b.recv(ProtocolId(1), &mut out), Some(5));
    assert_eq!(out, b"other");
    assert_eq!(b.recv(ProtocolId(0), &mut out), Some(6));
    assert_eq!(out, b"urgent");
    assert_eq!(b.recv(ProtocolId(0), &mut out), None);
    lost.iter().for_each(|frame| a.on_lost(frame));
    let (bytes, _) = packet(&mut a, ROOM, now);
    assert_eq!(deliver(&mut b, &bytes), Ok(Received::Taken));
    for expected in [&b"lost"[..], b"behind"] {
        b.recv(ProtocolId(0), &mut out).unwrap();
        assert_eq!(out, expected);
    }
}

#[test]
fn only_what_is_reliable_is_sent_again() {
    let now = start();
    let [mut a, mut b] = pair(&protocols(&[("a", 1)]), now);
    a.send_datagram(ProtocolId(0), b"datagram").unwrap();
    a.send(ProtocolId(0), b"message", Urgency::Normal).unwrap();
    let (_, lost) = packet(&mut a, ROOM, now);
    lost.iter().for_each(|frame| a.on_lost(frame));
    assert_eq!(a.stats().datagrams_lost, 1);
    let (bytes, _) = packet(&mut a, ROOM, now);
    let _taken = deliver(&mut b, &bytes).unwrap();
    assert_eq!(b.recv_datagram(ProtocolId(0)), None);
    assert_eq!(b.recv(ProtocolId(0), &mut Vec::new()), Some(7));
}

/// The dialler sends before it has heard a word; then HELLO tells whether that was understood.
#[test]
fn what_is_sent_before_hello_is_kept_or_comes_to_nothing() {
    let now = start();
    let registered = |versions: &[u16]| {
        let mut list = Protocols::new();
        let first = Protocol::new("chat", versions[0]);
        list.register(versions[1..].iter().fold(first, |protocol, version| protocol.version(*version))).unwrap();
        Arc::new(list)
    };
    for (ours, theirs, agreed) in [(&[1, 2][..], &[1, 2, 3][..], Some(2)), (&[1, 2], &[1], Some(1)), (&[2], &[1], None)]
    {
        let mut a = mux(Role::Dialler, &registered(ours), now);
        let mut b = mux(Role::Responder, &registered(theirs), now);
        let chat = ProtocolId(0);
        let same = agreed == Some(2);
        assert_eq!(a.version(chat), Some(2));
        for text in ["one", "two"] {
            a.send(chat, text.as_bytes(), Urgency::Normal).unwrap();
        }
        assert_eq!(a.send(chat, &[0; 100_000], Urgency::Urgent), Err(SendError::Blocked));
        let early = a.open_stream(chat).unwrap();
        a.write(early, b"stream").unwrap();
        let (bytes, sent) = packet(&mut a, ROOM, now);
        // It overtakes our own HELLO, and the acknowledgement the other side's.
        let _taken = deliver(&mut b, &bytes).unwrap();
        assert!(events(&mut b).is_empty());
        sent.iter().for_each(|frame| a.on_acked(frame));
        assert_eq!(a.account(chat, Urgency::Normal).acked, 0, "nobody knows yet whether they were understood");
        greet(&mut b, &a).unwrap();
        let told = events(&mut b);
        assert_eq!(told.contains(&Event::Message { protocol: chat }), same, "{told:?}");
        assert_eq!(told.contains(&Event::Opened { stream: early, protocol: chat, version: 2 }), same);
        greet(&mut a, &b).unwrap();
        assert_eq!(a.version(chat), agreed);
        let account = a.account(chat, Urgency::Normal);
        let told = events(&mut a);
        assert!(
            told.contains(&Event::Agreed)
                && told.contains(&Event::SendReady { protocol: chat, urgency: Urgency::Urgent })
        );
        if same {
            assert_eq!(account.acked, 2);
        } else {
            assert_eq!((account.acked, account.unsent), (0, 2));
            assert!(
                told.iter().any(|event| matches!(event, Event::ChannelClosed { account: of, .. } if *of == account))
            );
            assert!(told.contains(&Event::Stopped { stream: early, code: StreamCode::UNKNOWN_PROTOCOL }));
        }
        let later = a.send(chat, b"three", Urgency::Normal);
        let mut sides = [a, b];
        settle(&mut sides, now);
        let mut out = Vec::new();
        let texts = std::iter::from_fn(|| sides[1].recv(chat, &mut out).map(|_| out.clone())).collect::<Vec<_>>();
        match agreed {
            Some(2) => assert_eq!(texts, [&b"one"[..], b"two", b"three"]),
            Some(_) => {
                assert_eq!((later, texts), (Ok(MessageId(2)), vec![b"three".to_vec()]));
                let account = check_account(&sides[0], chat, Urgency::Normal);
                assert_eq!((account.acked, account.unsent), (1, 2));
            }
            None => assert_eq!(later, Err(SendError::NotAgreed)),
        }
        if !same {
            for side in &sides {
                assert_eq!(side.streams.sends.iter().filter(|half| half.kind == framing::StreamKind::Bytes).count(), 0);
            }
            assert_eq!(sides[1].stats().unknown_protocol, 2);
        }
    }
}

#[test]
fn a_protocol_fails_alone() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1), ("b", 1)]), now);
    let streams = [0, 1].map(|protocol| sides[0].open_stream(ProtocolId(protocol)).unwrap());
    for (protocol, stream) in streams.into_iter().enumerate() {
        sides[0].write(stream, b"bytes").unwrap();
        sides[0].send(ProtocolId(protocol as u16), b"message", Urgency::Normal).unwrap();
    }
    settle(&mut sides, now);
    sides[1].fail_protocol(ProtocolId(0));
    for _ in 0..2 {
        settle(&mut sides, now);
        sides.iter_mut().for_each(|side| drop(events(side)));
    }
    let code = StreamCode::FAILED;
    assert_eq!(sides[0].write(streams[0], b"more"), Err(WriteError::Closed));
    assert_eq!(sides[0].read(streams[0], &mut [0; 9]), Err(ReadError::Reset { code }));
    assert_eq!(sides[0].send(ProtocolId(0), b"more", Urgency::Normal), Err(SendError::Stopped { code }));
    assert_eq!(sides[1].open_stream(ProtocolId(0)), Err(OpenError::Refused { code }));
    assert_eq!(sides[1].recv(ProtocolId(0), &mut Vec::new()), None);
    // What is opened nevertheless is refused.
    let refused = sides[0].open_stream(ProtocolId(0)).unwrap();
    settle(&mut sides, now);
    assert!(events(&mut sides[0]).contains(&Event::Stopped { stream: refused, code }));
    // The other goes on.
    assert_eq!(sides[1].recv(ProtocolId(1), &mut Vec::new()), Some(7));
    assert_eq!(sides[1].read(streams[1], &mut [0; 9]), Ok(Read::Bytes(5)));
    sides[1].write(streams[1], b"answer").unwrap();
    settle(&mut sides, now);
    assert_eq!(sides[0].read(streams[1], &mut [0; 9]), Ok(Read::Bytes(6)));
}

#[test]
fn a_stream_that_is_reset_at_once_is_still_known_to_the_other_side() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    let id = sides[0].open_stream(ProtocolId(0)).unwrap();
    sides[0].write(id, b"never read").unwrap();
    let code = StreamCode::application(1);
    sides[0].reset(id, code).unwrap();
    settle(&mut sides, now);
    let told = events(&mut sides[1]);
    assert_eq!(told[0], Event::Opened { stream: id, protocol: ProtocolId(0), version: 1 });
    assert_eq!(sides[1].read(id, &mut [0; 9]), Err(ReadError::Reset { code }));
    // The other half is as good as ever.
    sides[1].write(id, b"answer").unwrap();
    sides[1].finish(id).unwrap();
    settle(&mut sides, now);
    assert_eq!(sides[0].read(id, &mut [0; 9]), Ok(Read::Bytes(6)));
    assert_eq!(sides[0].read(id, &mut [0; 9]), Ok(Read::End));
    assert_eq!(events(&mut sides[1]).last(), Some(&Event::Delivered { stream: id }));
    assert!(sides.iter().all(|side| side.streams.find(id) == stream::Found::Closed));
}

#[test]
fn the_fate_of_a_frame_is_no_matter_to_a_later_stream_in_its_place() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    let ask = |a: &mut Mux| {
        let id = a.open_stream(ProtocolId(0)).unwrap();
        a.write(id, b"all").unwrap();
        a.finish(id).unwrap();
        id
    };
    let first = ask(&mut sides[0]);
    let (bytes, sent) = packet(&mut sides[0], ROOM, now);
    assert_eq!(deliver(&mut sides[1], &bytes), Ok(Received::Taken));
    sent.iter().for_each(|frame| sides[0].on_acked(frame));
    sides[1].finish(first).unwrap();
    settle(&mut sides, now);
    assert_eq!(sides[0].read(first, &mut [0; 9]), Ok(Read::End));
    assert_eq!(sides[0].streams.find(first), stream::Found::Closed);
    let second = ask(&mut sides[0]);
    let (_, lost) = packet(&mut sides[0], ROOM, now);
    sent.iter().for_each(|frame| sides[0].on_acked(frame));
    lost.iter().for_each(|frame| sides[0].on_lost(frame));
    settle(&mut sides, now);
    assert_eq!(sides[1].read(second, &mut [0; 9]), Ok(Read::Bytes(3)));
    assert_eq!(sides[1].read(second, &mut [0; 9]), Ok(Read::End));
}

#[test]
fn acks_of_many_messages_are_one_event() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    for _ in 0..900 {
        sides[0].send(ProtocolId(0), &[0; 64], Urgency::Normal).unwrap();
    }
    settle(&mut sides, now);
    let told = events(&mut sides[0]);
    assert_eq!(told, [Event::Acked { protocol: ProtocolId(0), urgency: Urgency::Normal, through: MessageId(899) }]);
    assert_eq!(events(&mut sides[1]), [Event::Message { protocol: ProtocolId(0) }]);
}

#[test]
fn the_end_is_told_with_the_last_that_is_read_and_with_the_last_that_is_written() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    let id = sides[0].open_stream(ProtocolId(0)).unwrap();
    assert_eq!(sides[0].write_last(id, b"request"), Ok(7));
    assert_eq!(sides[0].finish(id), Err(WriteError::Closed));
    settle(&mut sides, now);
    let mut out = Vec::new();
    assert_eq!(sides[1].read_rest(id, &mut out, 3), Ok(Read::Bytes(3)));
    assert_eq!(sides[1].read_rest(id, &mut out, 100), Ok(Read::End));
    assert_eq!(out, b"request");
    assert_eq!(sides[1].read_rest(id, &mut out, 100), Err(ReadError::Closed));

    // What is not the last is told of again when more has come, and that can be the end alone.
    assert_eq!(sides[1].write(id, b"ans"), Ok(3));
    settle(&mut sides, now);
    events(&mut sides[0]);
    out.clear();
    assert_eq!(sides[0].read_rest(id, &mut out, 100), Ok(Read::Bytes(3)));
    assert_eq!(sides[0].read_rest(id, &mut out, 100), Err(ReadError::Blocked));
    for (last, came) in [(&b"wer"[..], Ok(Read::Bytes(3))), (b"", Ok(Read::End))] {
        let taken = if last.is_empty() { sides[1].write_last(id, last) } else { sides[1].write(id, last) };
        assert_eq!(taken, Ok(last.len()));
        settle(&mut sides, now);
        assert!(events(&mut sides[0]).contains(&Event::Readable { stream: id }));
        assert_eq!(sides[0].read_rest(id, &mut out, 100), came);
    }
    // The answer says that the request has arrived, and whoever gives that does not wait.
    assert!(sides.iter_mut().all(|side| events(side).iter().all(|event| !matches!(event, Event::Delivered { .. }))));
    assert_eq!(out, b"answer");
    assert!(sides.iter().all(|side| side.streams.sends.iter().count() == 0 && side.held_bytes() == 0));
}
