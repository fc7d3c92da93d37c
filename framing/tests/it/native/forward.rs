//! Later versions add; this one still reads what it knows. And a strict reader tells that something was added.

use framing::tlv::{Entries, Rule};
use framing::{DecodeError, Frame, Frames, Hello, Limits, ProtocolEntry};
use proptest::collection::vec;
use proptest::prelude::*;

/// A HELLO with an unknown tag below, between and above the known ones, and fields behind the known ones of each value.
const LATER: &[u8] = &[
    0, 1, 9, // tag 0
    1, 4, 1, b'a', 0, 7, // protocols
    2, 18, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0xee, 0xee, // reset token and 2 bytes
    3, 2, b'h', b'i', // agent
    4, 15, 0x80, 2, 0, 0, 0x80, 1, 0, 0, 17, 0x80, 1, 0, 0, 0, 4, // limits, a field behind them comes below
    0x40, 0x41, 0, // tag 0x41, empty
    0xbf, 0xff, 0xff, 0xff, 2, 0, 0, // a tag of four bytes
];

/// [`LATER`] with a seventh limit.
fn later() -> Vec<u8> {
    let mut bytes = LATER.to_vec();
    let at = bytes.windows(2).rposition(|pair| pair == [4, 15]).unwrap();
    bytes[at + 1] = 16;
    bytes.insert(at + 2 + 15, 0x33);
    bytes
}

#[test]
fn a_later_hello_is_read_as_far_as_it_is_known() {
    let bytes = later();
    let hello = Hello::parse(&bytes).unwrap();
    assert_eq!(hello.protocols().collect::<Vec<_>>(), [ProtocolEntry { name: "a", version: 7 }]);
    assert_eq!(hello.reset_token(), Some([5; 16]));
    assert_eq!(hello.agent(), Some("hi"));
    let limits =
        Limits { max_data: 131_072, max_stream_data: 65_536, max_streams: 17, max_message: 65_536, ..Limits::INITIAL };
    assert_eq!(
        hello.limits(),
        Limits { max_datagram_frame: 0, ack_delay: std::time::Duration::from_micros(4), ..limits }
    );
    // It is handed on as it came.
    let mut frame = vec![4, 0x40, u8::try_from(bytes.len()).unwrap()];
    frame.extend_from_slice(&bytes);
    let read = Frames::new(&frame).next().unwrap().unwrap();
    assert_eq!(read, Frame::Hello(hello));
}

#[test]
fn strict_reading_refuses_each_addition() {
    assert_eq!(Hello::parse_with(&later(), Rule::Strict), Err(DecodeError::UnknownTag(0)));
    assert_eq!(Hello::parse_with(&[5, 0], Rule::Strict), Err(DecodeError::UnknownTag(5)));
    assert_eq!(Hello::parse(&[5, 0]).map(|hello| hello.protocols().count()), Ok(0));
    let token = [&[2, 17][..], &[0; 17]].concat();
    assert_eq!(Hello::parse_with(&token, Rule::Strict), Err(DecodeError::TrailingBytes));
    assert!(Hello::parse(&token).is_ok());
    let limits = [4, 7, 0, 0, 0, 0, 0, 0, 9];
    assert_eq!(Hello::parse_with(&limits, Rule::Strict), Err(DecodeError::TrailingBytes));
    assert!(Hello::parse(&limits).is_ok());
    assert!(Hello::parse_with(&limits[..1], Rule::Strict).is_err());
    let own =
        Hello::compose([ProtocolEntry { name: "a", version: 1 }], Some([1; 16]), Some("a"), &Limits::INITIAL).unwrap();
    assert!(Hello::parse_with(&own, Rule::Strict).is_ok(), "what we write is known to us");
}

#[test]
fn unknown_frames_from_40_on_are_skipped_and_lower_ones_are_errors() {
    for (bytes, kind, body) in [
        (&[0x40, 0x40, 0][..], 0x40, &[][..]),
        (&[0x40, 0x40, 3, 1, 2, 3], 0x40, &[1, 2, 3]),
        (&[0x7f, 0xff, 1, 9], 0x3fff, &[9]),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], (1 << 62) - 1, &[]),
    ] {
        let payload = [bytes, &[1]].concat();
        let frames: Vec<_> = Frames::new(&payload).collect();
        assert_eq!(frames, [Ok(Frame::Unknown { kind, body }), Ok(Frame::Ping)]);
    }
    for kind in (0x15..=0x17).chain(0x1c..=0x3f) {
        let payload = [kind, 0, 0, 0];
        let mut frames = Frames::new(&payload);
        assert_eq!(frames.next(), Some(Err(DecodeError::UnknownFrame(kind.into()))));
        assert_eq!(frames.next(), None, "nothing is read behind an error");
        // Nor in a longer form of its type.
        assert_eq!(Frames::new(&[0x40, kind, 0]).next(), Some(Err(DecodeError::UnknownFrame(kind.into()))));
    }
    assert_eq!(Frames::new(&[0x40, 0x40, 4, 1, 2, 3]).next(), Some(Err(DecodeError::Truncated)));
}

#[test]
fn a_type_in_a_longer_form_is_the_same_type() {
    assert_eq!(Frames::new(&[0x40, 0x01]).next(), Some(Ok(Frame::Ping)));
    assert_eq!(Frames::new(&[0x80, 0, 0, 0, 0, 0]).next(), Some(Ok(Frame::Padding(3))));
    let stream = Frames::new(&[0x40, 0x18, 0, 0, 1, 7]).next();
    assert!(matches!(stream, Some(Ok(Frame::Stream(stream))) if stream.data == [7]));
}

proptest! {
    /// Whatever is added, entries that are known read as before.
    #[test]
    fn additions_change_nothing(tag in 5_u8..64, added in vec(any::<u8>(), 0..40), behind in vec(any::<u8>(), 0..40)) {
        let own = Hello::compose([ProtocolEntry { name: "p", version: 3 }], Some([9; 16]), None, &Limits::INITIAL).unwrap();
        let before = Hello::parse(&own).unwrap();
        let mut bytes = Vec::new();
        for entry in Entries::new(&own) {
            let (tag, value) = entry.unwrap();
            // The list of protocols goes on to its end.
            let more = if tag == 1 { &[] } else { &behind[..] };
            bytes.extend([u8::try_from(tag).unwrap(), u8::try_from(value.len() + more.len()).unwrap()].map(|byte| {
                assert!(byte < 64 + 40);
                byte
            }).into_iter().flat_map(|byte| if byte < 64 { vec![byte] } else { vec![0x40, byte] }));
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(more);
        }
        bytes.extend([tag, u8::try_from(added.len()).unwrap()]);
        bytes.extend_from_slice(&added);
        let hello = Hello::parse(&bytes).unwrap();
        prop_assert_eq!(hello.protocols().collect::<Vec<_>>(), before.protocols().collect::<Vec<_>>());
        prop_assert_eq!(hello.reset_token(), before.reset_token());
        prop_assert_eq!(hello.limits(), before.limits());
        prop_assert!(Hello::parse_with(&bytes, Rule::Strict).is_err());
    }
}
