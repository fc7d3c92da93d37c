use std::collections::BTreeMap;
use std::time::Instant;

use framing::EncodeError;
use framing::v12::{FragmentError, Frame, Reassembler, fragments};
use proptest::prelude::*;
use structs::Rejected;

use super::{Lcg, ms, patterned, start};

const ID: [u8; 8] = *b"fragment";

fn add_frame(reassembler: &mut Reassembler, frame: &[u8], now: Instant) -> Result<Option<Vec<u8>>, FragmentError> {
    let Ok(Frame::Frag { id, index, total, data }) = Frame::decode(frame) else { panic!("not a FRAG") };
    Ok(reassembler.add(id, index, total, data, now)?.map(|message| message.to_vec()))
}

#[test]
fn lengths_at_the_edges() {
    for (len, pieces) in [(1, 1), (1188, 1), (1189, 2), (1200, 2), (1201, 2), (2376, 2), (2377, 3)] {
        let payload = patterned(len);
        let frames: Vec<_> = fragments(ID, &payload).unwrap().collect();
        assert_eq!(frames.len(), pieces, "{len}");
        let mut reassembler = Reassembler::default();
        let done: Vec<_> = frames.iter().filter_map(|f| add_frame(&mut reassembler, f, start()).unwrap()).collect();
        assert_eq!(done, [payload]);
    }
    assert_eq!(fragments(ID, &[]).err(), Some(EncodeError::TooShort { len: 0, min: 1 }));
    let max = 65_535 * 1188;
    let longest = vec![0; max + 1];
    assert_eq!(fragments(ID, &longest).err(), Some(EncodeError::TooLong { len: max + 1, max }));
    let frames = fragments(ID, &longest[1..]).unwrap();
    assert_eq!(frames.len(), 65_535);
    let last = frames.last().unwrap();
    assert!(matches!(Frame::decode(&last), Ok(Frame::Frag { index: 65_534, total: 65_535, .. })));
}

#[test]
fn claims_cost_nothing() {
    let t = start();
    let mut reassembler = Reassembler::default();
    // 883 pieces hold at least 882 × 1188 + 1 bytes, which is below 1 MiB; 884 do not.
    assert_eq!(
        reassembler.add(ID, 0, 884, &[0; 1188], t),
        Err(FragmentError::TooLarge { len: 883 * 1188 + 1, max: 1024 * 1024 })
    );
    assert_eq!((reassembler.buffered_bytes(), reassembler.len()), (0, 0));
    assert_eq!(reassembler.add(ID, 881, 883, &[0; 1188], t), Ok(None));
    assert_eq!((reassembler.buffered_bytes(), reassembler.len()), (1188, 1));
    // A last piece of full length would not fit either: known when it is here.
    for index in 0..881 {
        assert_eq!(reassembler.add(ID, index, 883, &[0; 1188], t), Ok(None));
    }
    assert_eq!(
        reassembler.add(ID, 882, 883, &[0; 1188], t),
        Err(FragmentError::TooLarge { len: 883 * 1188, max: 1024 * 1024 })
    );
    assert_eq!((reassembler.buffered_bytes(), reassembler.len(), reassembler.dropped()), (0, 0, 1));
}

#[test]
fn contradictions_are_refused_and_change_nothing() {
    let t = start();
    let mut reassembler = Reassembler::default();
    assert_eq!(reassembler.add(ID, 1, 3, &[1; 1188], t), Ok(None));
    for (index, total, len, error) in [
        (0, 4, 1188, FragmentError::TotalChanged { total: 4, first: 3 }),
        (0, 2, 1188, FragmentError::TotalChanged { total: 2, first: 3 }),
        (3, 3, 1188, FragmentError::BadIndex { index: 3, total: 3 }),
        (0, 3, 1187, FragmentError::BadLength { len: 1187 }),
        (0, 3, 1189, FragmentError::BadLength { len: 1189 }),
        (2, 3, 0, FragmentError::BadLength { len: 0 }),
    ] {
        assert_eq!(reassembler.add(ID, index, total, &vec![9; len], t), Err(error));
        assert_eq!(Rejected::from(error), Rejected::Malformed);
        assert_eq!((reassembler.buffered_bytes(), reassembler.len()), (1188, 1));
    }
    assert_eq!(reassembler.add([0; 8], 0, 0, &[1], t), Err(FragmentError::BadIndex { index: 0, total: 0 }));
    assert_eq!(reassembler.add([0; 8], 1, 1, &[1], t), Err(FragmentError::BadIndex { index: 1, total: 1 }));
    assert_eq!(reassembler.len(), 1, "a bad first piece begins nothing");
    // A duplicate with other content does not replace what is here.
    assert_eq!(reassembler.add(ID, 1, 3, &[7; 1188], t), Ok(None));
    assert_eq!(reassembler.add(ID, 2, 3, &[2; 10], t), Ok(None));
    let message = reassembler.add(ID, 0, 3, &[0; 1188], t).unwrap().unwrap();
    assert_eq!(message, [&[0; 1188][..], &[1; 1188], &[2; 10]].concat());
    assert_eq!(reassembler.buffered_bytes(), 0);
}

#[test]
fn a_finished_message_does_not_begin_again() {
    let t = start();
    let mut reassembler = Reassembler::default();
    assert!(reassembler.add(ID, 0, 1, b"once", t).unwrap().is_some());
    assert_eq!(reassembler.add(ID, 0, 1, b"once", t + ms(9_999)), Ok(None));
    assert_eq!(reassembler.len(), 0);
    assert!(reassembler.add(ID, 0, 1, b"once", t + ms(10_000)).unwrap().is_some(), "ids may return later");
}

#[test]
fn messages_expire_ten_seconds_after_their_first_piece() {
    let t = start();
    let mut reassembler = Reassembler::default();
    reassembler.add(ID, 0, 3, &[0; 1188], t).unwrap();
    reassembler.add(ID, 1, 3, &[0; 1188], t + ms(9_000)).unwrap();
    reassembler.add([1; 8], 0, 2, &[0; 1188], t + ms(9_500)).unwrap();
    assert_eq!(reassembler.deadline(), Some(t + ms(10_000)));
    reassembler.handle_timeout(t + ms(9_999));
    assert_eq!(reassembler.len(), 2);
    reassembler.handle_timeout(t + ms(10_000));
    assert_eq!((reassembler.len(), reassembler.buffered_bytes(), reassembler.dropped()), (1, 1188, 1));
    assert_eq!(reassembler.deadline(), Some(t + ms(19_500)));
    assert_eq!(reassembler.add(ID, 2, 3, &[0; 5], t + ms(10_001)), Ok(None), "it begins anew");
    // Without a timeout in between, a late piece does the same.
    assert_eq!(reassembler.add([1; 8], 1, 2, &[0; 5], t + ms(19_500)), Ok(None));
    assert_eq!(reassembler.len(), 2);
}

#[test]
fn the_oldest_message_makes_room() {
    let t = start();
    let mut reassembler = Reassembler::default();
    for n in 0..9 {
        reassembler.add([n; 8], 0, 2, &[n; 1188], t + ms(u64::from(n))).unwrap();
    }
    assert_eq!((reassembler.len(), reassembler.dropped()), (8, 1));
    assert_eq!(reassembler.deadline(), Some(t + ms(10_001)));
    assert!(reassembler.add([1; 8], 1, 2, &[1], t + ms(9)).unwrap().is_some(), "the second oldest is still here");

    let mut small = Reassembler::new(3000);
    small.add([1; 8], 0, 2, &[1; 1188], t).unwrap();
    small.add([2; 8], 0, 2, &[2; 1188], t).unwrap();
    small.add([2; 8], 1, 2, &[2; 624], t).unwrap().unwrap();
    assert_eq!((small.buffered_bytes(), small.dropped()), (1188, 0), "exactly full was not too much");
    small.add([3; 8], 0, 2, &[3; 1188], t).unwrap();
    small.add([1; 8], 1, 2, &[1; 625], t).unwrap().unwrap();
    assert_eq!((small.buffered_bytes(), small.dropped()), (0, 1), "one byte more, and the other one went");
}

#[test]
fn all_orders_of_five_pieces_give_the_message() {
    let payload = patterned(5000);
    let frames: Vec<_> = fragments(ID, &payload).unwrap().collect();
    let mut order = [0, 1, 2, 3, 4];
    let mut orders = 0;
    permute(&mut order, 0, &mut |order| {
        let mut reassembler = Reassembler::default();
        for (n, &index) in order.iter().enumerate() {
            let result = add_frame(&mut reassembler, &frames[index], start()).unwrap();
            assert_eq!(result.as_deref(), (n == 4).then_some(&payload[..]));
            assert_eq!(add_frame(&mut reassembler, &frames[index], start()), Ok(None), "a duplicate");
        }
        orders += 1;
    });
    assert_eq!(orders, 120);
}

fn permute(items: &mut [usize; 5], from: usize, visit: &mut impl FnMut(&[usize; 5])) {
    if from == items.len() {
        return visit(items);
    }
    for i in from..items.len() {
        items.swap(from, i);
        permute(items, from + 1, visit);
        items.swap(from, i);
    }
}

/// What a [`Reassembler`] holds, kept in the simplest way.
#[derive(Default)]
struct Model {
    sets: Vec<(u8, Instant, u16, BTreeMap<u16, Vec<u8>>)>,
    max: usize,
}

impl Model {
    fn bytes(&self) -> usize {
        self.sets.iter().flat_map(|set| set.3.values()).map(Vec::len).sum()
    }

    fn add(&mut self, id: u8, index: u16, total: u16, data: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.sets.retain(|set| set.1 + ms(10_000) > now);
        if !self.sets.iter().any(|set| set.0 == id) {
            if self.sets.len() == 8 {
                self.sets.remove(0);
            }
            self.sets.push((id, now, total, BTreeMap::new()));
        }
        let known = self.sets.iter().any(|set| set.0 == id && set.3.contains_key(&index));
        while !known && self.bytes() + data.len() > self.max {
            let oldest = self.sets.iter().position(|set| set.0 != id).unwrap();
            self.sets.remove(oldest);
        }
        let place = self.sets.iter().position(|set| set.0 == id).unwrap();
        self.sets[place].3.entry(index).or_insert_with(|| data.to_vec());
        let complete = self.sets[place].3.len() == usize::from(total);
        complete.then(|| self.sets.remove(place).3.into_values().flatten().collect())
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model(seed: u64, messages in 1..30_u8, loss in 0..20_u64, max in 20_000..80_000_usize) {
        let mut rng = Lcg(seed);
        let mut now = start();
        let (mut real, mut model) = (Reassembler::new(max), Model { max, ..Model::default() });
        // Every piece of every message, shuffled within a sliding window, some lost, some twice.
        let mut pieces: Vec<(u64, u8, Vec<u8>)> = Vec::new();
        for id in 0..messages {
            let payload = patterned(1201 + rng.below(15_000) as usize);
            for frame in fragments([id; 8], &payload).unwrap() {
                for _ in 0..1 + u64::from(rng.percent(10)) {
                    if !rng.percent(loss) {
                        pieces.push((u64::from(id) * 20 + rng.below(100), id, frame.clone()));
                    }
                }
            }
        }
        pieces.sort_by_key(|piece| piece.0);
        let mut finished = Vec::new();
        for (_, id, frame) in pieces {
            now += ms(rng.below(40));
            if rng.percent(1) {
                now += ms(9_000);
            }
            let Ok(Frame::Frag { index, total, data, .. }) = Frame::decode(&frame) else { panic!() };
            finished.retain(|&(_, at)| at + ms(10_000) > now);
            let expected = if finished.iter().any(|&(done, _)| done == id) {
                model.sets.retain(|set| set.1 + ms(10_000) > now);
                None
            } else {
                model.add(id, index, total, data, now)
            };
            if expected.is_some() {
                finished.push((id, now));
                // Only the last 16 are remembered.
                if finished.len() > 16 {
                    finished.remove(0);
                }
            }
            let result = real.add([id; 8], index, total, data, now).unwrap();
            prop_assert_eq!(result.as_deref(), expected.as_deref());
            prop_assert_eq!(real.buffered_bytes(), model.bytes());
            prop_assert!(real.buffered_bytes() <= max);
            prop_assert_eq!(real.len(), model.sets.len());
            prop_assert_eq!(real.deadline(), model.sets.first().map(|set| set.1 + ms(10_000)));
        }
    }

    #[test]
    fn hostile_pieces_are_handled(pieces in prop::collection::vec((0..12_u8, 0..6_u16, 0..6_u16, prop_oneof![Just(1188_usize), 0..1300_usize], 0..3000_u64), 0..200)) {
        let mut now = start();
        let mut reassembler = Reassembler::new(10_000);
        for (id, index, total, len, wait) in pieces {
            now += ms(wait);
            let _ = reassembler.add([id; 8], index, total, &vec![0; len], now);
            prop_assert!(reassembler.buffered_bytes() <= 10_000 && reassembler.len() <= 8);
        }
        reassembler.handle_timeout(now + ms(10_000));
        prop_assert_eq!(reassembler.buffered_bytes(), 0);
        prop_assert!(reassembler.is_empty() && reassembler.deadline().is_none());
    }
}
