use std::time::Duration;

use framing::{EcnCounts, Frame, PacketWriter, Role, StreamId, stream_overhead, stream_room};
use proptest::option;
use proptest::prelude::*;

use super::frames::{open, ranges, stream_id};
use super::only;

#[test]
fn ranges_that_do_not_fit_are_the_oldest() {
    let ranges: Vec<_> = (0..64_u64).map(|n| 1000 - n * 10..=1005 - n * 10).collect();
    let ecn = Some(EcnCounts { ect0: 100_000, ect1: 1, ce: 70 });
    let mut full = [0; 300];
    let mut writer = PacketWriter::new(&mut full);
    assert!(writer.ack(ranges.iter().cloned(), Duration::from_millis(3), ecn));
    let whole = writer.len();
    let (mut least, mut last) = (None, 0);
    for room in 0..=whole {
        let mut space = vec![0; room];
        let mut writer = PacketWriter::new(&mut space);
        if !writer.ack(ranges.iter().cloned(), Duration::from_millis(3), ecn) {
            assert!(writer.is_empty());
            assert_eq!(least, None, "it fitted into less");
            continue;
        }
        least = least.or(Some(room));
        let Frame::Ack(ack) = only(writer.written()) else { panic!("no ACK") };
        assert_eq!(ack.ecn(), ecn, "the counts are not what is cut");
        let kept: Vec<_> = ack.ranges().collect();
        assert!(kept.len() >= last && ranges.starts_with(&kept));
        last = kept.len();
    }
    // Type 1, largest 2, delay 2, count 1, first length 1, counts 4 + 1 + 2.
    assert_eq!(least, Some(14));
    assert_eq!(last, 64);
}

#[test]
fn at_most_64_ranges() {
    let mut space = [0; 1000];
    let mut writer = PacketWriter::new(&mut space);
    assert!(writer.ack((0..200_u64).rev().map(|n| n * 3..=n * 3), Duration::ZERO, None));
    let Frame::Ack(ack) = only(writer.written()) else { panic!("no ACK") };
    assert_eq!(ack.ranges().len(), 64);
    assert_eq!(ack.ranges().last(), Some(136 * 3..=136 * 3));
}

#[test]
fn ranges_out_of_order_are_not_lied_about() {
    let mut space = [0; 100];
    let mut writer = PacketWriter::new(&mut space);
    // The second touches the first: what can be said without it is said.
    assert!(writer.ack([20..=30, 10..=19, 1..=2], Duration::ZERO, None));
    let Frame::Ack(ack) = only(writer.written()) else { panic!("no ACK") };
    assert_eq!(ack.ranges().collect::<Vec<_>>(), [20..=30]);
    let mut writer = PacketWriter::new(&mut space);
    assert!(!writer.ack([], Duration::ZERO, None));
    #[expect(clippy::reversed_empty_ranges, reason = "an empty one")]
    let empty = [5..=4];
    assert!(!writer.ack(empty, Duration::ZERO, None));
    assert!(!writer.ack([1..=u64::MAX], Duration::ZERO, None), "above 2^62 - 1");
    assert!(writer.is_empty());
}

#[test]
fn delays_without_end_are_cut() {
    let mut space = [0; 100];
    let mut writer = PacketWriter::new(&mut space);
    assert!(writer.ack([0..=0], Duration::MAX, None));
    let Frame::Ack(ack) = only(writer.written()) else { panic!("no ACK") };
    assert_eq!(ack.delay(), Duration::from_micros((1 << 62) - 1));
}

#[test]
fn what_was_written_can_be_taken_back() {
    let mut space = [0; 4];
    let mut writer = PacketWriter::new(&mut space);
    assert!(writer.put(b"abc"));
    assert!(!writer.put(b"de"));
    writer.truncate(9);
    assert_eq!((writer.written(), writer.remaining()), (&b"abc"[..], 1));
    writer.truncate(1);
    assert!(writer.put(b"xyz"));
    assert_eq!(writer.written(), b"axyz");
    assert_eq!(writer.reserve(1), None);
    assert_eq!(writer.reserve(usize::MAX), None);
    assert_eq!(writer.reserve(0).map(|space| space.len()), Some(0));
}

/// `stream_room` against trying every length.
#[test]
fn the_room_for_data_is_all_there_is() {
    let id = StreamId::new(3, Role::Dialler);
    for space in (0..200).chain(16_370..16_410) {
        let best = (0..=space).rev().find(|len| stream_overhead(id, 70, None, *len) + len <= space);
        assert_eq!(stream_room(id, 70, None, space), best, "in {space}");
    }
    let large = (1 << 30) + 100;
    assert_eq!(stream_room(id, 70, None, large), Some(large - 12));
}

proptest! {
    #[test]
    fn a_stream_fills_what_is_left(id in stream_id(), offset in 0..1_u64 << 61, open in option::of(open()), fin: bool, space in 0..2000_usize) {
        let mut buffer = vec![0xee; space];
        let mut writer = PacketWriter::new(&mut buffer);
        let Some(room) = stream_room(id, offset, open, space) else {
            prop_assert!(!writer.stream_header(id, offset, open, fin, 0));
            return Ok(());
        };
        prop_assert!(!writer.stream_header(id, offset, open, fin, room + 1));
        prop_assert!(writer.stream_header(id, offset, open, fin, room));
        writer.reserve(room).unwrap().fill(7);
        prop_assert!(writer.remaining() <= 1, "{} bytes of {} unused", writer.remaining(), space);
        let Frame::Stream(stream) = only(writer.written()) else { panic!("no STREAM") };
        prop_assert_eq!((stream.id, stream.offset, stream.open, stream.fin), (id, offset, open, fin));
        prop_assert_eq!(stream.data, &vec![7; room][..]);
        prop_assert_eq!(stream.end(), offset + room as u64);
    }

    #[test]
    fn an_ack_never_says_more_than_it_was_given(ranges in ranges(), room in 0..400_usize) {
        let mut space = vec![0; room];
        let mut writer = PacketWriter::new(&mut space);
        if writer.ack(ranges.iter().cloned(), Duration::ZERO, None) {
            let Frame::Ack(ack) = only(writer.written()) else { panic!("no ACK") };
            prop_assert!(ranges.starts_with(&ack.ranges().collect::<Vec<_>>()));
        } else {
            prop_assert!(room < 19);
        }
    }
}
