//! Who gets how much.

use std::num::NonZeroU32;

use super::*;

/// What a protocol sends all the time.
#[derive(Debug, Clone, Copy)]
enum Load {
    Bulk,
    Messages(usize),
    Urgent(usize),
    Datagrams(usize),
}

/// Sends for a virtual second (four with losses: what waits behind a gap at the end does not count) over a link of so many packets a millisecond, and counts the bytes that arrive.
fn share(list: &Arc<Protocols>, loads: &[Load], path: Path, seed: u64) -> (Vec<f64>, u64) {
    let now = start();
    let mut net = Net::new(pair(list, now), path, seed, now);
    let mut bytes = vec![0.0; loads.len()];
    let mut out = vec![0; 100_000];
    let streams = loads
        .iter()
        .enumerate()
        .map(|(at, load)| matches!(load, Load::Bulk).then(|| net.sides[0].open_stream(ProtocolId(at as u16)).unwrap()));
    let streams = streams.collect::<Vec<_>>();
    let chunk = vec![7; 100_000];
    for step in 0..if path.loss > 0 { 4300 } else { 1300 } {
        if step == 300 {
            bytes.fill(0.0);
            net.sent = [0; 2];
        }
        for (at, load) in loads.iter().enumerate() {
            let protocol = ProtocolId(at as u16);
            match *load {
                Load::Bulk => while net.sides[0].write(streams[at].unwrap(), &chunk).is_ok() {},
                Load::Messages(len) => while net.sides[0].send(protocol, &chunk[..len], Urgency::Normal).is_ok() {},
                Load::Urgent(len) => while net.sides[0].send(protocol, &chunk[..len], Urgency::Urgent).is_ok() {},
                Load::Datagrams(len) => {
                    while net.sides[0].stats().datagrams_dropped_sent == 0 {
                        net.sides[0].send_datagram(protocol, &chunk[..len]).unwrap();
                    }
                    net.sides[0].stats.datagrams_dropped_sent = 0;
                }
            }
        }
        net.step();
        for (at, load) in loads.iter().enumerate() {
            let protocol = ProtocolId(at as u16);
            match load {
                Load::Bulk => {
                    while let Ok(Read::Bytes(len)) = net.sides[1].read(streams[at].unwrap(), &mut out) {
                        bytes[at] += len as f64;
                    }
                }
                Load::Messages(_) | Load::Urgent(_) => {
                    let mut message = Vec::new();
                    while let Some(len) = net.sides[1].recv(protocol, &mut message) {
                        bytes[at] += len as f64;
                    }
                }
                Load::Datagrams(_) => {
                    while let Some(datagram) = net.sides[1].recv_datagram(protocol) {
                        bytes[at] += datagram.len() as f64;
                    }
                }
            }
        }
        net.sides.iter_mut().for_each(|side| drop(events(side)));
    }
    (bytes, net.sent[0])
}

/// Jain's index of fairness: 1 if all have the same.
fn jain(bytes: &[f64]) -> f64 {
    let sum = bytes.iter().sum::<f64>();
    sum * sum / (bytes.len() as f64 * bytes.iter().map(|each| each * each).sum::<f64>())
}

fn named(weights: &[u16]) -> Arc<Protocols> {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    protocols(&names.into_iter().zip(weights.iter().copied()).collect::<Vec<_>>())
}

const SLOW: Path = Path { loss: 0, duplicates: 0, latency: 10, jitter: 0, rate: 1, room: ROOM };

#[test]
fn equal_weights_get_equal_bytes_within_five_percent() {
    use Load::*;
    for loads in [
        &[Bulk, Bulk][..],
        &[Bulk, Messages(64)],
        &[Bulk, Messages(64), Messages(20_000)],
        &[Bulk, Messages(200), Datagrams(1000), Messages(5000), Bulk],
        &[Messages(64), Messages(64), Bulk, Messages(1000), Messages(8000), Datagrams(300), Bulk, Bulk],
    ] {
        // With losses no faster than that windows hold nobody up: who waits for credit has nothing to send.
        for (seed, path) in [SLOW, Path { loss: 3, rate: 3, ..SLOW }].into_iter().enumerate() {
            let (bytes, _) = share(&named(&vec![1; loads.len()]), loads, path, seed as u64);
            let mean = bytes.iter().sum::<f64>() / bytes.len() as f64;
            for each in &bytes {
                let off = (each - mean).abs() / mean;
                // A datagram that is lost is lost.
                let lossy = path.loss > 0 && loads.iter().any(|load| matches!(load, Datagrams(_)));
                assert!(lossy || off <= 0.05, "{loads:?}, {path:?}: {bytes:?}");
            }
            assert!(jain(&bytes) >= 0.99, "{loads:?}: {bytes:?}");
        }
    }
}

#[test]
fn bytes_follow_weights_within_five_percent() {
    use Load::*;
    for loads in [[Bulk, Bulk, Bulk], [Messages(64), Bulk, Messages(3000)], [Datagrams(900), Messages(100), Bulk]] {
        let (bytes, _) = share(&named(&[1, 2, 4]), &loads, SLOW, 1);
        let unit = bytes.iter().sum::<f64>() / 7.0;
        for (each, weight) in bytes.iter().zip([1.0, 2.0, 4.0]) {
            assert!((each / (unit * weight) - 1.0).abs() <= 0.05, "{loads:?}: {bytes:?}");
        }
    }
}

#[test]
fn who_is_alone_has_the_link_and_a_capped_one_its_cap() {
    use Load::*;
    let (alone, packets) = share(&named(&[1, 5]), &[Bulk], Path { rate: 4, ..SLOW }, 1);
    // All packets full, but the frames of one stream and what a packet of random room cannot hold.
    assert!(alone[0] >= 0.96 * packets as f64 * (ROOM - 32) as f64, "{alone:?} in {packets}");
    let mut list = Protocols::new();
    list.register(Protocol::new("capped", 1).rate_cap(NonZeroU32::new(100_000))).unwrap();
    list.register(Protocol::new("free", 1)).unwrap();
    for capped in [Bulk, Messages(64), Datagrams(1000), Urgent(500)] {
        let (bytes, _) = share(&Arc::new(list.clone()), &[capped, Bulk], Path { rate: 4, ..SLOW }, 1);
        assert!((85_000.0..=101_500.0).contains(&bytes[0]), "{capped:?}: {bytes:?}");
        assert!(bytes[0] + bytes[1] >= 0.95 * alone[0], "{capped:?}: {bytes:?} of {alone:?}");
        let (bytes, _) = share(&Arc::new(list.clone()), &[capped], Path { rate: 4, ..SLOW }, 1);
        assert!((85_000.0..=101_500.0).contains(&bytes[0]), "{capped:?}: {bytes:?}");
    }
}

#[test]
fn urgent_messages_leave_in_the_next_packet_and_never_take_more_than_half() {
    let now = start();
    let list = protocols(&[("bulk", 1), ("control", 1)]);
    let [mut a, mut b] = pair(&list, now);
    let bulk = a.open_stream(ProtocolId(0)).unwrap();
    a.write(bulk, &[0; 50_000]).unwrap();
    for n in 0..10 {
        let (bytes, _) = packet(&mut a, ROOM, now);
        let _taken = deliver(&mut b, &bytes).unwrap();
        a.send(ProtocolId(1), &[n; 1000], Urgency::Urgent).unwrap();
        let (bytes, _) = packet(&mut a, ROOM, now);
        let _taken = deliver(&mut b, &bytes).unwrap();
        let mut out = Vec::new();
        assert_eq!((b.recv(ProtocolId(1), &mut out), out.first()), (Some(1000), Some(&n)));
    }
    let (bytes, _) = share(&list, &[Load::Bulk, Load::Urgent(200)], Path { rate: 4, ..SLOW }, 1);
    assert!(bytes[1] <= bytes[0] * 1.01, "{bytes:?}");
    assert!(bytes[1] >= bytes[0] * 0.9, "{bytes:?}");
}

#[test]
fn frames_become_shorter_as_more_protocols_wait() {
    let now = start();
    for k in 1..=8_u16 {
        let [mut a, _] = pair(&named(&vec![1; usize::from(k)]), now);
        for protocol in 0..k {
            let stream = a.open_stream(ProtocolId(protocol)).unwrap();
            a.write(stream, &[0; 60_000]).unwrap();
        }
        let longest = (0..6).flat_map(|_| packet(&mut a, 8900, now).1).map(|frame| match frame {
            Sent::Stream { len, .. } => len,
            _ => 0,
        });
        let longest = longest.max().unwrap();
        assert!(if k == 1 { longest > 8000 } else { longest <= 4096 / u32::from(k) }, "{longest} with {k}");
    }
}

#[test]
fn streams_of_one_protocol_take_turns() {
    let now = start();
    let mut net = Net::new(pair(&protocols(&[("a", 1)]), now), SLOW, 1, now);
    let streams = [(); 5].map(|()| net.sides[0].open_stream(ProtocolId(0)).unwrap());
    let mut read = [0.0; 5];
    for _ in 0..600 {
        for stream in streams {
            while net.sides[0].write(stream, &[0; 4096]).is_ok() {}
        }
        net.step();
        for (stream, read) in streams.into_iter().zip(&mut read) {
            while let Ok(Read::Bytes(len)) = net.sides[1].read(stream, &mut [0; 4096]) {
                *read += len as f64;
            }
        }
        net.sides.iter_mut().for_each(|side| drop(events(side)));
    }
    assert!(jain(&read) > 0.999, "{read:?}");
}
