//! Bounds, backpressure and credit.

use framing::StreamCode;

use super::*;

#[test]
fn datagrams_alone_are_told_from_what_could_be_cut() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1), ("b", 1)]), now);
    let mux = &mut sides[0];
    assert!(!mux.has_only_datagrams(1000), "there is nothing");
    for (protocol, len) in [(0, 500), (1, 700), (0, 900)] {
        mux.send_datagram(ProtocolId(protocol), &vec![7; len]).unwrap();
    }
    // The type, the protocol, a length of two bytes.
    assert!(mux.has_only_datagrams(704) && !mux.has_only_datagrams(703));
    mux.send(ProtocolId(0), b"this can be cut", Urgency::Normal).unwrap();
    assert!(!mux.has_only_datagrams(704));
    settle(&mut sides, now);
    assert!(!sides[0].has_only_datagrams(1000));
}

const A: ProtocolId = ProtocolId(0);

#[test]
fn a_sender_stops_at_the_credit_and_goes_on_when_it_comes_back() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1), ("b", 1)]), now);
    let id = sides[0].open_stream(A).unwrap();
    let (mut written, mut read) = (0, 0);
    let mut push = |sides: &mut [Mux; 2]| {
        while let Ok(len) = sides[0].write(id, &[1; 10_000]) {
            written += len;
        }
        assert_eq!(sides[0].write(id, &[1]), Err(WriteError::Blocked));
        settle(sides, now);
        written
    };
    let window = super::super::limits::STREAM_WINDOW;
    assert_eq!(push(&mut sides), window);
    assert_eq!(events(&mut sides[0]), [Event::Writable { stream: id }], "all of it was sent");
    let held = push(&mut sides);
    assert_eq!(held, window + super::super::limits::STREAM_LEAST_AHEAD, "and as much waits");
    assert_eq!(sides[1].received, window as u64, "no more than the stream allows");
    assert!(!sides[0].has_output(now));
    // Another protocol has credit of its own.
    sides[0].send(ProtocolId(1), b"still", Urgency::Normal).unwrap();
    settle(&mut sides, now);
    assert_eq!(sides[1].recv(ProtocolId(1), &mut Vec::new()), Some(5));
    assert!(!events(&mut sides[0]).contains(&Event::Writable { stream: id }));
    let mut out = vec![0; 4096];
    for _ in 0..200 {
        while let Ok(Read::Bytes(len)) = sides[1].read(id, &mut out) {
            read += len;
        }
        settle(&mut sides, now);
    }
    assert_eq!(read, held);
    assert!(events(&mut sides[0]).contains(&Event::Writable { stream: id }));
}

#[test]
fn a_reader_that_reads_nothing_holds_no_more_than_its_memory() {
    let now = start();
    let list = protocols(&[("a", 1), ("b", 1), ("c", 1)]);
    let path = Path { loss: 5, duplicates: 1, latency: 5, jitter: 5, rate: 50, room: ROOM };
    let mut net = Net::new(pair(&list, now), path, 1, now);
    let mut streams = Vec::new();
    for step in 0..3000 {
        if streams.len() < 300
            && let Ok(stream) = net.sides[0].open_stream(ProtocolId(step % 3))
        {
            streams.push(stream);
        }
        for stream in &streams {
            let _full = net.sides[0].write(*stream, &[0; 10_000]);
        }
        for protocol in 0..3 {
            let _full = net.sides[0].send(ProtocolId(protocol), &[0; 3000], Urgency::BOTH[step as usize % 2]);
            net.sides[0].send_datagram(ProtocolId(protocol), &[0; 1000]).unwrap();
        }
        // Checks the memory.
        net.step();
        net.sides.iter_mut().for_each(|side| drop(events(side)));
    }
    let limits = Limits::default();
    assert!(net.sides[0].send_pool.memory() <= limits.send_memory);
    assert!(net.sides[0].send_pool.memory() >= limits.send_memory / 2);
    assert!(net.sides[1].recv_pool.memory() <= limits.receive_memory);
    assert!(net.sides[1].received >= 256 << 10);
    // Somebody who comes late finds room for a message.
    assert!(net.sides[1].stats().datagrams_dropped_received > 0);
}

#[test]
fn a_message_finds_room_beside_streams_that_take_all_they_get() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1), ("b", 1)]), now);
    let streams = (0..200).map(|_| sides[0].open_stream(A).unwrap()).collect::<Vec<_>>();
    for _ in 0..3 {
        for stream in &streams {
            while sides[0].write(*stream, &[0; 100_000]).is_ok() {}
        }
    }
    assert_eq!(sides[0].send(ProtocolId(1), &vec![0; 1 << 20], Urgency::Normal), Ok(MessageId(0)));
    assert_eq!(sides[0].send(ProtocolId(1), &[0; 100_000], Urgency::Normal), Err(SendError::Blocked));
    drop(events(&mut sides[0]));
    // All of it is sent while everybody writes on; then there is room again.
    let mut received = 0;
    let mut out = vec![0; 1 << 20];
    for _ in 0..2000 {
        settle(&mut sides, now);
        for stream in &streams {
            while let Ok(Read::Bytes(_)) = sides[1].read(*stream, &mut out) {}
            let _full = sides[0].write(*stream, &out);
        }
        while sides[1].recv(ProtocolId(1), &mut out).is_some() {
            received += 1;
        }
        out.resize(1 << 20, 0);
        if events(&mut sides[0]).contains(&Event::SendReady { protocol: ProtocolId(1), urgency: Urgency::Normal }) {
            sides[0].send(ProtocolId(1), &[0; 100_000], Urgency::Normal).unwrap();
        }
        if received == 2 {
            return;
        }
    }
    panic!("{received} messages");
}

#[test]
fn lost_credit_is_given_again() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    let id = sides[0].open_stream(A).unwrap();
    let mut read = 0;
    let mut random = Random(3);
    let total = 3_000_000;
    let mut written = 0;
    for step in 0.. {
        while written < total
            && let Ok(len) = sides[0].write(id, &vec![0; (total - written).min(10_000)])
        {
            written += len;
        }
        for from in 0..2 {
            while sides[from].has_output(now) {
                let (bytes, sent) = packet(&mut sides[from], ROOM, now);
                if bytes.is_empty() {
                    break;
                }
                // Every second packet with credit is lost, and no packet with data.
                let lost = from == 1 && random.chance(50);
                if !lost {
                    let _taken = deliver(&mut sides[1 - from], &bytes).unwrap();
                }
                for frame in &sent {
                    if lost { sides[from].on_lost(frame) } else { sides[from].on_acked(frame) }
                }
            }
        }
        while let Ok(Read::Bytes(len)) = sides[1].read(id, &mut [0; 5000]) {
            read += len;
        }
        if read == total {
            break;
        }
        assert!(step < 10_000, "{read} of {written}");
    }
}

#[test]
fn windows_grow_with_the_path_up_to_their_ceiling_and_not_for_who_reads_slowly() {
    let list = protocols(&[("a", 1)]);
    for (slow, grows) in [(false, true), (true, false)] {
        let now = start();
        let path = Path { loss: 0, duplicates: 0, latency: 50, jitter: 0, rate: 40, room: ROOM };
        let mut net = Net::new(pair(&list, now), path, 1, now);
        let id = net.sides[0].open_stream(A).unwrap();
        let mut read = 0;
        for step in 0..4000 {
            while net.sides[0].write(id, &[0; 50_000]).is_ok() {}
            net.step();
            let mut budget = if slow { 100 } else { usize::MAX };
            while budget > 0
                && let Ok(Read::Bytes(len)) = net.sides[1].read(id, &mut [0; 5000][..budget.min(5000)])
            {
                budget -= len;
                read += if step >= 2000 { len } else { 0 };
            }
            drop(events(&mut net.sides[0]));
        }
        let size = net.sides[1].window.size();
        let ceiling = net.sides[1].limits.window_ceiling(1) as u64;
        assert!(if grows { size * 2 > ceiling } else { size < 1 << 20 }, "{size} of {ceiling}");
        if grows {
            // 100 ms of round trip: at least three quarters of the window of one stream, ten times a second.
            assert!(read >= 20_000_000, "{read}");
        }
    }
}

#[test]
fn closed_streams_make_room_for_others_for_ever() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    let mut opened = 0;
    let code = StreamCode::application(0);
    while opened < 3000 {
        let Ok(id) = sides[0].open_stream(A) else {
            assert_eq!(sides[0].open_stream(A), Err(OpenError::Limit { max: 258 }));
            panic!("after {opened}");
        };
        opened += 1;
        sides[0].write(id, b"ask").unwrap();
        sides[0].finish(id).unwrap();
        settle(&mut sides, now);
        assert_eq!(sides[1].read(id, &mut [0; 9]), Ok(Read::Bytes(3)));
        assert_eq!(sides[1].read(id, &mut [0; 9]), Ok(Read::End));
        match opened % 3 {
            0 => sides[1].finish(id).unwrap(),
            1 => sides[1].reset(id, code).unwrap(),
            _ => sides[0].stop(id, code).unwrap(),
        }
        settle(&mut sides, now);
        let end = sides[0].read(id, &mut [0; 9]);
        assert!(matches!(end, Ok(Read::End) | Err(ReadError::Reset { .. } | ReadError::Closed)), "{end:?}");
        sides.iter_mut().for_each(|side| drop(events(side)));
    }
    // All that may be open at a time; then one more when one is closed.
    let open = std::iter::from_fn(|| sides[0].open_stream(A).ok()).collect::<Vec<_>>();
    assert!((220..=258).contains(&open.len()), "{}", open.len());
    settle(&mut sides, now);
    for id in &open {
        sides[0].reset(*id, code).unwrap();
        sides[0].stop(*id, code).unwrap();
        settle(&mut sides, now);
        let _reset = sides[1].read(*id, &mut [0; 9]);
    }
    settle(&mut sides, now);
    assert!(events(&mut sides[0]).contains(&Event::StreamsAvailable));
    assert!(sides[0].open_stream(A).is_ok());
}

#[test]
fn datagrams_give_way_to_newer_ones_and_both_sides_are_told() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    let cap = sides[0].datagram_cap();
    let fit = cap / 1004;
    for n in 0..2 * fit {
        sides[0].send_datagram(A, &[n as u8; 1000]).unwrap();
    }
    let dropped = Event::DatagramsDropped { protocol: A, direction: Direction::Sent, count: fit as u64 };
    assert!(events(&mut sides[0]).contains(&dropped));
    assert_eq!(sides[0].stats().datagrams_dropped_sent, fit as u64);
    settle(&mut sides, now);
    assert_eq!(sides[1].recv_datagram(A).unwrap()[0], fit as u8, "the oldest that was left");
    for n in 0..fit {
        sides[0].send_datagram(A, &[n as u8; 1000]).unwrap();
        settle(&mut sides, now);
    }
    assert!(matches!(
        events(&mut sides[1])[..],
        [
            Event::Datagram { .. },
            Event::DatagramsDropped { direction: Direction::Received, count, .. }
        ] if count == fit as u64 - 1
    ));
    let left = std::iter::from_fn(|| sides[1].recv_datagram(A)).count();
    assert_eq!(left, fit);
    assert_eq!(sides[1].held_bytes(), 0);

    let max = sides[0].send_datagram(A, &[0; 1400]);
    assert_eq!(max, Err(SendError::TooLarge { len: 1400, max: ROOM - 4 }));
    sides[0].set_packet_room(1400);
    assert_eq!(sides[0].send_datagram(A, &[0; 1396]), Ok(()));
    sides[0].send_datagram(A, &[0; 100]).unwrap();
    // The path becomes narrower.
    sides[0].set_packet_room(ROOM);
    assert!(matches!(events(&mut sides[0])[..], [.., Event::DatagramsDropped { count: 1, .. }]));
    settle(&mut sides, now);
    assert_eq!(sides[1].recv_datagram(A).unwrap().len(), 100);
}

#[test]
fn a_datagram_that_did_not_fit_is_first_in_the_next_packet_and_none_waits_for_ever() {
    let now = start();
    let [mut a, mut b] = pair(&protocols(&[("a", 1), ("b", 1)]), now);
    let bulk = a.open_stream(ProtocolId(1)).unwrap();
    a.write(bulk, &[0; 60_000]).unwrap();
    for n in 0..20 {
        a.send_datagram(A, &[n; 1100]).unwrap();
    }
    let mut received = 0;
    for _ in 0..40 {
        let (bytes, _) = packet(&mut a, ROOM, now);
        let _taken = deliver(&mut b, &bytes).unwrap();
        while b.recv_datagram(A).is_some() {
            received += 1;
        }
    }
    assert!(received >= 18, "{received}");
    while a.has_output(now) && !packet(&mut a, ROOM, now).0.is_empty() {}
    a.send_datagram(A, &[0; 1150]).unwrap();
    for _ in 0..9 {
        assert!(a.has_output(now));
        assert!(packet(&mut a, 1000, now).0.is_empty());
    }
    assert!(!a.has_output(now));
    assert_eq!(a.stats().datagrams_dropped_sent, 1);
}

#[test]
fn an_idle_multiplexer_is_small() {
    let now = start();
    let list = protocols(&[("a", 1), ("b", 1), ("c", 1)]);
    let idle = mux(Role::Dialler, &list, now);
    let heap = idle.lanes.len() * 16 + 3 * 24;
    assert!(heap <= 256, "{heap} bytes beside {}", size_of::<Mux>());
    assert_eq!(idle.held_bytes(), 0);
    assert!(!idle.has_output(now) && idle.deadline().is_none());
    // And after some use: the halves of the streams, which are reused.
    let mut sides = pair(&list, now);
    for protocol in 0..3 {
        sides[0].send(ProtocolId(protocol), &[0; 5000], Urgency::Normal).unwrap();
        sides[0].send_datagram(ProtocolId(protocol), &[0; 500]).unwrap();
    }
    settle(&mut sides, now);
    for protocol in 0..3 {
        while sides[1].recv(ProtocolId(protocol), &mut Vec::new()).is_some() {}
        while sides[1].recv_datagram(ProtocolId(protocol)).is_some() {}
    }
    settle(&mut sides, now);
    assert!(sides.iter().all(|side| side.held_bytes() == 0));
}

/// Sends messages until there is no room, writes to streams of which nothing is read, and then asks and is answered at length.
#[test]
fn whoever_reads_nothing_makes_nobody_else_wait() {
    for (len, streams) in
        [(1000, 0), (5000, 3), (60_000, 0), (60_000, 4), (200_000, 0), (500_000, 1), (1 << 20, 0), (0, 30)]
    {
        let now = start();
        let mut sides = pair(&protocols(&[("a", 1), ("b", 1)]), now);
        let mut blocked = false;
        while len > 0 && !blocked {
            blocked = sides[0].send(ProtocolId(0), &vec![1; len], Urgency::Normal).is_err();
            settle(&mut sides, now);
        }
        for _ in 0..streams {
            let id = sides[0].open_stream(ProtocolId(0)).unwrap();
            while sides[0].write(id, &[2; 50_000]).is_ok() {
                settle(&mut sides, now);
            }
        }
        for from in [0, 1] {
            let id = sides[from].open_stream(ProtocolId(1)).unwrap();
            let (mut written, mut read) = (0, 0);
            for _ in 0..100 {
                if let Ok(more) = sides[from].write(id, &vec![3; 1_000_000 - written]) {
                    written += more;
                }
                settle(&mut sides, now);
                let mut out = vec![0; 1 << 20];
                while let Ok(Read::Bytes(more)) = sides[1 - from].read(id, &mut out) {
                    read += more;
                }
            }
            assert_eq!(read, 1_000_000, "beside messages of {len} bytes and {streams} streams");
        }
        assert!(sides[1].buffered_bytes() <= Limits::default().receive_memory);
    }
}
