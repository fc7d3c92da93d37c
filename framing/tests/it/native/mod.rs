mod beacon;
mod forward;
mod frames;
mod handshake;
mod headers;
mod hello;
mod hostile;
mod packet;
mod records;
mod uri;
mod varint;
mod vectors;

use framing::{Frame, Frames, PacketWriter};

/// The bytes of a frame, with whatever can be checked about writing it.
fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut space = vec![0xee; frame.encoded_len() + 3];
    let mut writer = PacketWriter::new(&mut space);
    assert!(writer.put(b"ab"));
    assert!(frame.encode(&mut writer), "{frame:?}");
    assert_eq!(writer.len(), 2 + frame.encoded_len(), "{frame:?}");
    let bytes = writer.written()[2..].to_vec();
    // One byte less of room: nothing is written.
    let mut space = vec![0xee; bytes.len() - 1];
    let mut writer = PacketWriter::new(&mut space);
    assert!(!frame.encode(&mut writer), "{frame:?}");
    assert!(writer.is_empty() && writer.remaining() == bytes.len() - 1);
    bytes
}

/// The only frame in `bytes`.
fn only(bytes: &[u8]) -> Frame<'_> {
    let mut frames = Frames::new(bytes);
    let frame = frames.next().unwrap().unwrap();
    assert!(frames.next().is_none(), "{frame:?} and more");
    frame
}

/// It reads as it was written, alone and among others.
fn roundtrip(frame: &Frame<'_>) {
    let bytes = encode(frame);
    assert_eq!(only(&bytes), *frame);
    let three = [&[1][..], &bytes, &[1]].concat();
    let read: Vec<_> = Frames::new(&three).map(Result::unwrap).collect();
    assert_eq!(read, [Frame::Ping, *frame, Frame::Ping]);
}
