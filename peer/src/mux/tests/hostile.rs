//! A peer that does what it should not.

use framing::{Open, StreamCode, StreamKind};

use super::*;

fn theirs(index: u64) -> StreamId {
    StreamId::new(index, Role::Dialler)
}

fn ours(index: u64) -> StreamId {
    StreamId::new(index, Role::Responder)
}

fn open(kind: StreamKind) -> Option<Open> {
    Some(Open { protocol: 0, kind })
}

/// The responder, after HELLO of a dialler that speaks the same.
fn victim() -> Mux {
    let now = start();
    let [_, victim] = pair(&protocols(&[("a", 1), ("b", 1)]), now);
    victim
}

#[test]
fn each_violation_is_told() {
    use Violation::*;
    let bytes = open(StreamKind::Bytes);
    let messages = open(StreamKind::Messages);
    let window = super::super::limits::STREAM_WINDOW as u64;

    let cases: [(&str, &[Stream<'_>], Violation); 10] = [
        ("a stream beyond the limit", &[stream(theirs(260), 0, bytes, false, b"x")], StreamLimit),
        ("a stream of ours that we did not open", &[stream(ours(0), 5, None, false, b"x")], Protocol),
        ("the first byte without a purpose", &[stream(theirs(0), 0, None, false, b"x")], Protocol),
        ("a purpose behind the first byte", &[stream(theirs(0), 1, bytes, false, b"x")], Protocol),
        ("more than the stream allows", &[stream(theirs(0), window, None, false, b"x")], FlowControl),
        (
            "data behind the end",
            &[stream(theirs(0), 0, bytes, true, b"end"), stream(theirs(0), 3, None, false, b"x")],
            FlowControl,
        ),
        (
            "two ends",
            &[stream(theirs(0), 1, None, true, b"end"), stream(theirs(0), 1, None, true, b"ends")],
            FlowControl,
        ),
        (
            "an end before what came",
            &[stream(theirs(0), 5, None, false, b"x"), stream(theirs(0), 1, None, true, b"end")],
            FlowControl,
        ),
        (
            "two streams of messages",
            &[stream(theirs(0), 0, messages, false, b"\x01a"), stream(theirs(1), 0, messages, false, b"\x01a")],
            Protocol,
        ),
        (
            "more than the session allows",
            &[
                stream(theirs(0), window - 1, None, false, b"x"),
                stream(theirs(1), window - 1, None, false, b"x"),
                stream(theirs(2), window - 1, None, false, b"x"),
                stream(theirs(3), window - 1, None, false, b"x"),
                stream(theirs(4), 0, bytes, false, b"x"),
            ],
            FlowControl,
        ),
    ];
    for (name, frames, expected) in cases {
        let mut victim = victim();
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            assert_eq!(victim.on_stream(frame), Ok(Received::Taken), "{name}");
        }
        assert_eq!(victim.on_stream(last), Err(expected), "{name}");
    }

    let list = protocols(&[("a", 1)]);
    let mut victim = victim();
    assert_eq!(victim.on_reset(ours(3), StreamCode::CANCELLED, 0), Err(Protocol));
    assert_eq!(victim.on_stop(ours(3), StreamCode::CANCELLED), Err(Protocol));
    assert_eq!(victim.on_max_stream_data(ours(3), 5), Err(Protocol));
    assert_eq!(victim.on_reset(theirs(1000), StreamCode::CANCELLED, 0), Err(StreamLimit));
    assert_eq!(victim.on_stop(theirs(1000), StreamCode::CANCELLED), Err(StreamLimit));
    assert_eq!(victim.on_reset(theirs(1), StreamCode::CANCELLED, window + 1), Err(FlowControl));
    assert_eq!(greet(&mut victim, &mux(Role::Dialler, &list, start())), Err(Protocol));
    // Frames about the sending half of a stream that has none.
    assert_eq!(victim.on_stream(&stream(theirs(7), 0, messages, false, b"\x01a")), Ok(Received::Taken));
    assert_eq!(victim.on_stop(theirs(7), StreamCode::CANCELLED), Err(Protocol));
    assert_eq!(victim.on_max_stream_data(theirs(7), 5), Err(Protocol));
    // And about the receiving half of one that only we write.
    victim.send(ProtocolId(0), b"message", Urgency::Normal).unwrap();
    assert_eq!(victim.on_stream(&stream(ours(0), 0, None, false, b"x")), Err(Protocol));
    assert_eq!(victim.on_reset(ours(0), StreamCode::CANCELLED, 0), Err(Protocol));
}

#[test]
fn what_is_late_is_no_violation() {
    let mut victim = victim();
    let bytes = open(StreamKind::Bytes);
    let frame = stream(theirs(0), 0, bytes, true, b"all");
    let _taken = victim.on_stream(&frame).unwrap();
    assert_eq!(victim.on_stream(&frame), Ok(Received::Taken));
    let mut out = [0; 10];
    assert_eq!(victim.read(theirs(0), &mut out), Ok(Read::Bytes(3)));
    assert_eq!(victim.read(theirs(0), &mut out), Ok(Read::End));
    victim.reset(theirs(0), StreamCode::CANCELLED).unwrap();
    let (_, sent) = packet(&mut victim, ROOM, start());
    sent.iter().for_each(|frame| victim.on_acked(frame));
    assert_eq!(victim.streams.find(theirs(0)), stream::Found::Closed);
    assert_eq!(victim.on_stream(&frame), Ok(Received::Taken));
    assert_eq!(victim.on_reset(theirs(0), StreamCode::CANCELLED, 3), Ok(()));
    assert_eq!(victim.on_stop(theirs(0), StreamCode::CANCELLED), Ok(()));
    assert_eq!(victim.on_max_stream_data(theirs(0), 99), Ok(()));
    // Credit that overtook more credit does not shrink it.
    victim.on_max_data(10);
    victim.on_max_streams(1);
    assert!(victim.credit.left() >= 64 << 10 && victim.theirs.max_streams >= 256);
    assert_eq!((victim.held_bytes(), victim.received), (0, victim.consumed));
}

#[test]
fn a_length_above_the_maximum_stops_that_protocol_before_anything_is_allocated() {
    let mut victim = victim();
    // 1 GiB.
    let header = ((1_u32 << 30) | (0b10 << 30)).to_be_bytes();
    let header = [&[0xc0, 0, 0, 0, 0x40][..], &header[1..]].concat();
    let before = victim.buffered_bytes();
    let _taken = victim.on_stream(&stream(theirs(0), 0, open(StreamKind::Messages), false, &header)).unwrap();
    assert!(victim.buffered_bytes() <= before + 1024);
    let code = StreamCode::TOO_LARGE;
    assert!(events(&mut victim).contains(&Event::ProtocolFailed { protocol: ProtocolId(0), code }));
    let (bytes, _) = packet(&mut victim, ROOM, start());
    let frames = Frames::new(&bytes).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(frames, [Frame::StreamStop { id: theirs(0), code }]);
    assert_eq!(victim.version(ProtocolId(0)), None);
    assert_eq!(victim.version(ProtocolId(1)), Some(1));
    assert_eq!(victim.held_bytes(), 0);

    // On our own side it is an error that changes nothing, and knows the other side's maximum too.
    let now = start();
    let list = protocols(&[("a", 1)]);
    let small = Limits { max_message: 20_000, ..Limits::default() };
    let (mut a, b) = (mux(Role::Dialler, &list, now), Mux::new(Role::Responder, list.clone(), small, now));
    let refused = a.send(ProtocolId(0), &vec![0; 2 << 20], Urgency::Normal);
    assert_eq!(refused, Err(SendError::TooLarge { len: 2 << 20, max: 1 << 20 }));
    assert_eq!(a.send(ProtocolId(0), &[0; 20_001], Urgency::Normal), Err(SendError::Blocked));
    greet(&mut a, &b).unwrap();
    let refused = a.send(ProtocolId(0), &[0; 20_001], Urgency::Normal);
    assert_eq!(refused, Err(SendError::TooLarge { len: 20_001, max: 20_000 }));
    assert_eq!(a.send(ProtocolId(0), &[0; 20_000], Urgency::Normal), Ok(MessageId(0)));
    assert_eq!(a.account(ProtocolId(0), Urgency::Normal).accepted, 1);
}

#[test]
fn a_stream_that_ends_within_a_message_stops_that_protocol() {
    let mut victim = victim();
    let _taken = victim.on_stream(&stream(theirs(0), 0, open(StreamKind::Messages), true, b"\x02ok\x05sho")).unwrap();
    let mut out = Vec::new();
    assert_eq!(victim.recv(ProtocolId(0), &mut out), Some(2));
    assert_eq!(victim.recv(ProtocolId(0), &mut out), None);
    let code = StreamCode::FAILED;
    assert!(events(&mut victim).contains(&Event::ProtocolFailed { protocol: ProtocolId(0), code }));
}

#[test]
fn messages_that_were_whole_are_delivered_before_a_reset() {
    let mut victim = victim();
    let _taken = victim.on_stream(&stream(theirs(0), 0, open(StreamKind::Messages), false, b"\x02ok\x05sho")).unwrap();
    victim.on_reset(theirs(0), StreamCode::CANCELLED, 5000).unwrap();
    let mut out = Vec::new();
    assert_eq!(victim.recv(ProtocolId(0), &mut out), Some(2));
    assert_eq!(victim.recv(ProtocolId(0), &mut out), None);
    assert_eq!((victim.received, victim.consumed, victim.held_bytes()), (5000, 5000, 0));
    assert_eq!(victim.streams.find(theirs(0)), stream::Found::Closed);
    // A new one may follow.
    let _taken = victim.on_stream(&stream(theirs(1), 0, open(StreamKind::Messages), false, b"\x01!")).unwrap();
    assert_eq!(victim.recv(ProtocolId(0), &mut out), Some(1));
}

/// Whoever sends before it hears what the other side lacks is no attacker.
#[test]
fn datagrams_of_one_protocol_that_we_lack_count_once() {
    let mut victim = victim();
    for _ in 0..1000 {
        victim.on_datagram(9, b"early").unwrap();
    }
    assert_eq!((victim.stats().unknown_protocol, victim.stats().datagrams_dropped_received), (1, 1000));
}

#[test]
fn unknown_protocols_are_refused_and_counted_and_too_many_end_the_session() {
    for datagrams in [false, true] {
        let mut victim = victim();
        for index in 0..64 {
            let open = Some(Open { protocol: 9, kind: StreamKind::Bytes });
            if datagrams {
                // Of numbers that were never announced, every one counts.
                victim.on_datagram(100, b"what").unwrap();
            } else {
                let _taken = victim.on_stream(&stream(theirs(index), 0, open, false, b"what")).unwrap();
            }
        }
        assert_eq!(victim.stats().unknown_protocol, 64);
        if !datagrams {
            let code = StreamCode::UNKNOWN_PROTOCOL;
            let (bytes, _) = packet(&mut victim, ROOM, start());
            let frames = Frames::new(&bytes).collect::<Result<Vec<_>, _>>().unwrap();
            assert!(frames.contains(&Frame::StreamReset { id: theirs(63), code, final_size: 0 }), "{frames:?}");
            assert!(frames.contains(&Frame::StreamStop { id: theirs(63), code }));
        }
        assert_eq!(events(&mut victim), []);
        assert_eq!(victim.on_datagram(100, b"what"), Err(Violation::UnknownProtocol));
        assert_eq!((victim.held_bytes(), victim.received), (0, victim.consumed));
    }
}

/// One byte in every other place, on as many streams as are allowed.
#[test]
fn gaps_are_bounded_and_what_fills_them_is_always_taken() {
    let mut victim = victim();
    let (mut taken, mut refused) = (0, 0);
    let most = Limits::default();
    'all: for index in 0..256 {
        for at in (1..(64 << 10)).step_by(100) {
            match victim.on_stream(&stream(theirs(index), at, None, false, b"x")) {
                Ok(Received::Taken) => taken += 1,
                Ok(Received::Refused) => refused += 1,
                Err(Violation::FlowControl) => break 'all,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(victim.buffered_bytes() <= most.receive_memory, "{}", victim.buffered_bytes());
    }
    assert_eq!(taken, super::super::limits::MAX_RANGES);
    assert!(refused > 0 && victim.stats().refused == refused);
    let first = vec![0; 100];
    let frame = stream(theirs(0), 0, open(StreamKind::Bytes), false, &first);
    assert_eq!(victim.on_stream(&frame), Ok(Received::Taken));
    assert_eq!(victim.on_stream(&stream(theirs(0), 100, None, false, b"yx")), Ok(Received::Taken));
    assert_eq!(victim.read(theirs(0), &mut [0; 500]), Ok(Read::Bytes(102)));
}

/// Fills every stream as far as it is allowed to, from its far end, and nobody reads.
#[test]
fn a_window_full_of_anything_stays_within_the_memory() {
    for stride in [1, 900, 1023, 1025, 5000] {
        let mut victim = victim();
        for index in 0..300 {
            for at in (1..64 << 10).rev().step_by(stride) {
                let open = None;
                if victim.on_stream(&stream(theirs(index), at, open, false, b"x")).is_err() {
                    break;
                }
            }
        }
        let held = victim.buffered_bytes();
        assert!(held <= Limits::default().receive_memory, "{held} with {stride}");
    }
}

#[test]
fn any_frames_at_all_do_no_more_than_end_the_session() {
    let mut violations = 0;
    for seed in 0..300 {
        let now = start();
        let mut random = Random(seed);
        let list = protocols(&[("a", 1), ("b", 1)]);
        let mut victim = mux(Role::Responder, &list, now);
        let data = vec![1; 2000];
        for step in 0..400 {
            let id = if random.chance(70) { theirs(random.below(20)) } else { ours(random.below(4)) };
            let offset = if random.chance(50) { 0 } else { random.below(70_000) };
            let kind = [StreamKind::Bytes, StreamKind::Messages, StreamKind::Urgent][random.below(3) as usize];
            let code = StreamCode(random.below(6));
            let result = match random.below(20) {
                0 => victim.on_reset(id, code, random.below(3000)),
                1 => victim.on_stop(id, code),
                2 => victim.on_max_stream_data(id, random.below(1 << 40)),
                3 => victim.on_datagram(random.below(3), &data[..random.below(2000) as usize]),
                4 if step > 30 => greet(&mut victim, &mux(Role::Dialler, &list, now)),
                5 => {
                    victim.on_max_data(random.below(1 << 30));
                    victim.on_max_streams(random.below(1000));
                    if random.chance(2) {
                        victim.refuse_streams();
                    }
                    Ok(())
                }
                _ => {
                    let open =
                        (offset == 0 && id.opener() == Role::Dialler).then(|| Open { protocol: random.below(3), kind });
                    let len = random.below(1200) as usize;
                    victim.on_stream(&stream(id, offset, open, random.chance(5), &data[..len])).map(drop)
                }
            };
            // The application and the network go on at random.
            let protocol = ProtocolId(random.below(3) as u16);
            match random.below(12) {
                0 => drop(victim.open_stream(protocol)),
                1 => drop(victim.send(protocol, &data[..random.below(2000) as usize], Urgency::BOTH[step % 2])),
                2 => drop(victim.send_datagram(protocol, &data[..500])),
                3 => drop(victim.recv(protocol, &mut Vec::new())),
                4 => drop(victim.recv_datagram(protocol)),
                5 => drop(victim.read(id, &mut [0; 500])),
                6 => drop(victim.write(id, &data[..random.below(2000) as usize])),
                7 => drop(victim.finish(id)),
                8 => drop(victim.stop(id, code)),
                9 if step % 50 == 0 => victim.fail_protocol(protocol),
                _ => {
                    let (_, sent) = packet(&mut victim, 200 + random.below(1000) as usize, now);
                    for frame in &sent {
                        if random.chance(70) { victim.on_acked(frame) } else { victim.on_lost(frame) }
                    }
                    drop(events(&mut victim));
                }
            }
            for urgency in Urgency::BOTH {
                let account = victim.account(protocol, urgency);
                assert_eq!(account.accepted, account.acked + account.unknown + account.unsent);
            }
            assert!(victim.consumed <= victim.received, "seed {seed}");
            assert!(victim.streams.closed_count() <= victim.max_streams);
            // The session would end here. Whatever state that leaves is no worse than any other.
            violations += u32::from(result.is_err());
            let most = Limits::default();
            assert!(victim.buffered_bytes() <= most.send_memory + most.receive_memory);
        }
    }
    assert!(violations > 300, "{violations}");
}
