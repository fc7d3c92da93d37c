//! The native codec: whatever decodes is within its limits, encodes, and then decodes to itself; whatever is written is read back.

use std::time::Duration;

use framing::header::{Reset, destination, reset_token};
use framing::record::SignedRecord;
use framing::tlv::Rule;
use framing::uri::PeerUri;
use framing::{
    AnswerHeader, Beacon, DataHeader, EcnCounts, FirstHeader, Frame, Frames, Hello, Kind, Limits, Open, PacketWriter,
    ProtocolEntry, Reader, StreamId, StreamKind, stream_overhead, stream_room,
};
use structs::Rejected;

use crate::input::Input;

/// Reads the input as the content of a packet, as a datagram, as a record and as text, and writes what fields can be read from it.
pub fn frame(data: &[u8]) {
    payload(data);
    headers(data);
    beacon(data);
    if let Err(error) = SignedRecord::decode(data) {
        assert!(Rejected::ALL.contains(&Rejected::from(error)));
    }
    if let Ok(uri) = std::str::from_utf8(data).unwrap_or_default().parse::<PeerUri>() {
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
    build(&mut Input::new(data));
}

fn payload(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let mut count = 0;
    while !reader.is_empty() {
        let before = reader.len();
        let frame = match Frame::decode(&mut reader) {
            Ok(frame) => frame,
            Err(error) => {
                assert!(Rejected::ALL.contains(&Rejected::from(error)));
                assert!(Frames::new(bytes).nth(count).is_some_and(|frame| frame == Err(error)));
                assert!(Frames::new(bytes).nth(count + 1).is_none(), "something behind an error");
                return;
            }
        };
        count += 1;
        views(&frame);
        let taken = before - reader.len();
        let len = frame.encoded_len();
        assert!(len > 0 && len <= taken, "{frame:?} from {taken} bytes");
        let mut space = vec![0xee; len];
        let mut writer = PacketWriter::new(&mut space);
        assert!(frame.encode(&mut writer) && writer.remaining() == 0, "{frame:?}");
        assert_eq!(Frame::decode(&mut Reader::new(&space)), Ok(frame));
        let mut writer = PacketWriter::new(&mut space[1..]);
        assert!(!frame.encode(&mut writer) && writer.is_empty(), "{frame:?}");
    }
    assert_eq!(Frames::new(bytes).filter(Result::is_ok).count(), count);
}

/// Parts that are read later keep what was promised when they were checked.
fn views(frame: &Frame<'_>) {
    match frame {
        Frame::Ack(ack) => {
            assert!((1..=64).contains(&ack.ranges().len()));
            let mut above = None;
            for range in ack.ranges() {
                assert!(range.start() <= range.end());
                assert!(above.is_none_or(|above| *range.end() + 1 < above));
                assert!(above.is_some() || *range.end() == ack.largest());
                above = Some(*range.start());
            }
            assert_eq!(ack.ranges().count(), ack.ranges().len());
        }
        Frame::Hello(hello) => {
            let entries: Vec<_> = hello.protocols().collect();
            assert!(entries.len() <= 64 && entries.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(entries.iter().all(|entry| (1..=64).contains(&entry.name.len())));
            assert!(hello.agent().is_none_or(|agent| agent.len() <= 64));
            assert!(hello.limits().max_data >= 65_536 && hello.limits().ack_delay <= Duration::from_secs(1));
            let composed = Hello::compose(entries, hello.reset_token(), hello.agent(), &hello.limits());
            match composed {
                Ok(body) => {
                    let again = Hello::parse_with(&body, Rule::Strict).expect("what is composed parses");
                    assert_eq!(again.limits(), hello.limits());
                    assert!(again.protocols().eq(hello.protocols()));
                }
                Err(error) => assert!(hello.body().len() > 1100 - 64, "{error}"),
            }
        }
        Frame::Close { reason, .. } => assert!(reason.len() <= 256),
        Frame::Stream(stream) => assert!(stream.end() < 1 << 62),
        Frame::MaxStreams(max) => assert!(*max <= 1 << 60),
        Frame::Unknown { kind, .. } => assert!(*kind >= 0x40),
        _ => {}
    }
}

fn headers(bytes: &[u8]) {
    let kind = bytes.first().copied().and_then(Kind::of);
    let first = FirstHeader::decode(&mut Reader::new(bytes));
    if let Ok(first) = first {
        assert!(first.version > 0 && Some(first.kind) == kind);
        let written = first.encode();
        assert_eq!((&written[..2], &written[4..]), (&bytes[..2], &bytes[4..12]));
    }
    if let Ok(answer) = AnswerHeader::decode(&mut Reader::new(bytes)) {
        assert_eq!(Ok(answer.first), first);
        assert_eq!(answer.encode()[12..], bytes[12..20]);
    }
    if let Ok(data) = DataHeader::decode(&mut Reader::new(bytes)) {
        assert!(first.is_err() && kind == Some(Kind::Data));
        assert_eq!(data.encode()[1..], bytes[1..13]);
        assert_eq!(destination(bytes), Some(data.cid));
    }
    if let Some(token) = reset_token(bytes) {
        assert!(bytes.len() >= 39 && bytes.ends_with(&token));
        let reset = Reset::new(bytes.len(), [bytes[1]; 27], token);
        assert_eq!(reset.is_some(), bytes.len() >= 43);
        assert!(reset.is_none_or(|reset| reset.as_ref().len() < bytes.len() && reset.as_ref().ends_with(&token)));
    }
}

fn beacon(bytes: &[u8]) {
    let beacon = match Beacon::decode(bytes) {
        Ok(beacon) => beacon,
        Err(error) => return assert!(Rejected::ALL.contains(&Rejected::from(error))),
    };
    assert!((1..=64).contains(&beacon.tags.len()) && beacon.port > 0);
    let mut written = vec![7];
    beacon.encode(&mut written).expect("what was read can be written");
    // All but the version and the flags.
    assert_eq!((written[1], &written[5..]), (bytes[0], &bytes[4..written.len() - 1]));
    assert_eq!(Beacon::decode(&written[1..]), Ok(beacon));
}

/// What the writer takes is read as it was put in; what it does not take leaves no trace.
fn build(input: &mut Input<'_>) {
    let mut space = vec![0xee; usize::from(input.u16() % 2000)];
    let room = space.len();
    let mut writer = PacketWriter::new(&mut space);
    let number = |input: &mut Input<'_>| u64::from_be_bytes(input.array()) >> (input.array::<1>()[0] % 64);
    match input.below(3) {
        0 => {
            let (id, offset, fin) = (number(input), number(input), input.flip());
            let Some(id) = StreamId::from_value(id) else { return };
            let kind = [StreamKind::Bytes, StreamKind::Messages, StreamKind::Urgent][input.below(3)];
            let open = input.flip().then(|| Open { protocol: number(input), kind });
            let Some(len) = stream_room(id, offset, open, room) else {
                assert!(!writer.stream_header(id, offset, open, fin, 0));
                return;
            };
            assert!(!writer.stream_header(id, offset, open, fin, len + 1));
            if !writer.stream_header(id, offset, open, fin, len) {
                let large = |value: u64| value >= 1 << 62;
                assert!(large(offset.saturating_add(len as u64)) || open.is_some_and(|open| large(open.protocol)));
                assert!(writer.is_empty());
                return;
            }
            assert_eq!(writer.len(), stream_overhead(id, offset, open, len));
            writer.reserve(len).expect("there is room for it").fill(7);
            let Some(Ok(Frame::Stream(stream))) = Frames::new(writer.written()).next() else { panic!("no STREAM") };
            assert_eq!((stream.id, stream.offset, stream.open, stream.fin), (id, offset, open, fin));
            assert!(stream.data.len() == len && stream.data.iter().all(|byte| *byte == 7));
        }
        1 => {
            let ecn = input.flip().then(|| EcnCounts { ect0: number(input), ect1: number(input), ce: number(input) });
            let delay = Duration::from_micros(number(input));
            let mut top = number(input);
            let mut ranges = Vec::new();
            for _ in 0..input.below(100) {
                let low = top.saturating_sub(number(input));
                ranges.push(low..=top);
                let Some(next) = low.checked_sub(number(input)) else { break };
                top = next;
            }
            if !writer.ack(ranges.iter().cloned(), delay, ecn) {
                assert!(writer.is_empty());
                return;
            }
            let Some(Ok(Frame::Ack(ack))) = Frames::new(writer.written()).next() else { panic!("no ACK") };
            assert!(ranges.starts_with(&ack.ranges().collect::<Vec<_>>()));
            assert_eq!((ack.ecn(), ack.delay()), (ecn, delay.min(Duration::from_micros((1 << 62) - 1))));
        }
        _ => {
            let names: Vec<String> =
                (0..input.below(70)).map(|_| String::from_utf8_lossy(input.bytes()).into_owned()).collect();
            let entries = names.iter().map(|name| ProtocolEntry { name, version: 1 });
            let agent = input.flip().then(|| String::from_utf8_lossy(input.bytes()).into_owned());
            let limits = Limits { max_data: number(input), max_streams: number(input), ..Limits::INITIAL };
            let Ok(body) = Hello::compose(entries.clone(), None, agent.as_deref(), &limits) else { return };
            let hello = Hello::parse_with(&body, Rule::Strict).expect("what is composed parses");
            assert!(hello.protocols().eq(entries) && hello.agent() == agent.as_deref());
            let fits = Frame::Hello(hello).encode(&mut writer);
            assert_eq!(fits, room >= Frame::Hello(hello).encoded_len());
        }
    }
}
