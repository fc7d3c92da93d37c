//! What rests loses nothing: it gives back memory, and goes on as if it had not rested.

use super::*;

/// What a stream has yet to bring, one way.
#[derive(Debug, Default)]
struct Way {
    written: u64,
    read: u64,
    finished: bool,
    ended: bool,
}

fn byte(stream: StreamId, side: usize, at: u64) -> u8 {
    (stream.value() * 7 + side as u64 * 3 + at) as u8
}

fn write(mux: &mut Mux, id: StreamId, side: usize, way: &mut Way, random: &mut Random) {
    if way.finished {
        return;
    }
    let data = (way.written..way.written + random.below(3000)).map(|at| byte(id, side, at)).collect::<Vec<_>>();
    way.written += mux.write(id, &data).unwrap() as u64;
    // Half of them stay open to the end.
    if id.value() % 4 < 2 && random.chance(30) {
        mux.finish(id).unwrap();
        way.finished = true;
    }
}

fn read(mux: &mut Mux, id: StreamId, side: usize, way: &mut Way) {
    let mut out = [0; 700];
    while !way.ended {
        match mux.read(id, &mut out) {
            Ok(Read::Bytes(len)) => {
                for got in &out[..len] {
                    assert_eq!(*got, byte(id, 1 - side, way.read));
                    way.read += 1;
                }
            }
            Ok(Read::End) => way.ended = true,
            Err(ReadError::Blocked) => return,
            Err(error) => panic!("{id:?}: {error}"),
        }
    }
}

/// Streams and messages with pauses in between, in which both sides rest: every byte arrives, and no place is kept for what
/// is over.
#[test]
fn whoever_rests_between_goes_on() {
    let mut packed = 0;
    for seed in 0..30 {
        let (now, mut random) = (start(), Random(seed));
        let list = protocols(&[("a", 1), ("b", 3), ("c", 1)]);
        let mut sides = pair(&list, now);
        let mut streams: BTreeMap<StreamId, [Way; 2]> = BTreeMap::new();
        let mut messages = [[0_u64; 3]; 2];
        for _ in 0..40 {
            for (side, mux) in sides.iter_mut().enumerate() {
                events(mux);
                if streams.len() < 300 && random.chance(60) {
                    let id = mux.open_stream(ProtocolId(random.below(3) as u16)).unwrap();
                    // Who opens a stream tells of it, and then both may use it.
                    mux.write(id, &[byte(id, side, 0)]).unwrap();
                    let mut ways: [Way; 2] = Default::default();
                    ways[side].written = 1;
                    streams.insert(id, ways);
                }
                for (protocol, count) in (0..).zip(&mut messages[side]).filter(|_| random.chance(20)) {
                    mux.send(ProtocolId(protocol), &count.to_le_bytes(), Urgency::BOTH[protocol as usize % 2]).unwrap();
                    *count += 1;
                }
            }
            settle(&mut sides, now);
            for (side, mux) in sides.iter_mut().enumerate() {
                for (id, [a, b]) in &mut streams {
                    let (out, inn) = if side == 0 { (a, b) } else { (b, a) };
                    write(mux, *id, side, out, &mut random);
                    read(mux, *id, side, inn);
                }
            }
            // Sometimes in the midst of it.
            if random.chance(10) {
                sides.iter_mut().for_each(Mux::rest);
            }
            settle(&mut sides, now);
            for (side, mux) in sides.iter_mut().enumerate() {
                for (id, [a, b]) in &mut streams {
                    read(mux, *id, side, if side == 0 { b } else { a });
                }
            }
            settle(&mut sides, now);
            streams.retain(|_, ways| !ways.iter().all(|way| way.ended));
            if random.chance(50) {
                for side in &mut sides {
                    let gaps = |mux: &Mux| mux.streams.sends.gaps() + mux.streams.recvs.gaps();
                    packed += gaps(side);
                    side.rest();
                    assert_eq!(gaps(side), 0, "seed {seed}");
                }
            }
        }
        for (side, sent) in messages.iter().enumerate() {
            for (protocol, count) in (0..).map(ProtocolId).zip(sent) {
                let mut out = Vec::new();
                for expected in 0..*count {
                    assert_eq!(sides[1 - side].recv(protocol, &mut out), Some(8));
                    assert_eq!(out, expected.to_le_bytes());
                }
                assert_eq!(sides[1 - side].recv(protocol, &mut out), None);
            }
        }
        for (id, [a, b]) in &streams {
            assert_eq!((a.written, b.written), (a.read, b.read), "{id:?}");
        }
    }
    assert!(packed > 100, "{packed} places were given back");
}
