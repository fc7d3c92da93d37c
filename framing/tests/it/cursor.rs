use framing::{DecodeError, EncodeError, Reader, Writer};
use structs::Rejected;

#[test]
fn reads_back_what_was_written() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    writer.u8(1);
    writer.u16(0x0203);
    writer.u32(0x0405_0607);
    writer.u64(0x0809_0a0b_0c0d_0e0f);
    writer.short_bytes(&[16, 17]).unwrap();
    writer.put(&[18]);
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 2, 16, 17, 18]);

    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.len(), 19);
    assert_eq!(reader.u8(), Ok(1));
    assert_eq!(reader.u16(), Ok(0x0203));
    assert_eq!(reader.u32(), Ok(0x0405_0607));
    assert_eq!(reader.u64(), Ok(0x0809_0a0b_0c0d_0e0f));
    assert_eq!(reader.short_bytes(), Ok(&[16, 17][..]));
    assert_eq!(reader.finish(), Err(DecodeError::TrailingBytes));
    assert_eq!(reader.rest(), [18]);
    assert!(reader.is_empty());
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn a_failed_read_takes_nothing() {
    let mut reader = Reader::new(&[9, 8, 7]);
    assert_eq!(reader.u32(), Err(DecodeError::Truncated));
    assert_eq!(reader.u64(), Err(DecodeError::Truncated));
    assert_eq!(reader.take(4), Err(DecodeError::Truncated));
    assert_eq!(reader.take(usize::MAX), Err(DecodeError::Truncated));
    assert_eq!(reader.array::<4>(), Err(DecodeError::Truncated));
    assert_eq!(reader.short_bytes(), Err(DecodeError::Truncated), "9 bytes are promised, 2 are there");
    assert_eq!(reader.take(3), Ok(&[9, 8, 7][..]));
    assert_eq!(reader.u8(), Err(DecodeError::Truncated));
    assert_eq!(reader.take(0), Ok(&[][..]));
}

#[test]
fn a_length_byte_says_at_most_255() {
    let mut bytes = vec![7];
    assert_eq!(Writer::new(&mut bytes).short_bytes(&[0; 256]), Err(EncodeError::TooLong { len: 256, max: 255 }));
    assert_eq!(bytes, [7], "nothing was written");
    Writer::new(&mut bytes).short_bytes(&[0; 255]).unwrap();
    assert_eq!(bytes.len(), 257);
}

#[test]
fn every_decode_error_is_counted_under_its_reason() {
    for (error, rejected) in [
        (DecodeError::Empty, Rejected::Empty),
        (DecodeError::UnknownKind(0x55), Rejected::UnknownKind),
        (DecodeError::Truncated, Rejected::Malformed),
        (DecodeError::TrailingBytes, Rejected::Malformed),
        (DecodeError::TooLong { len: 2, max: 1 }, Rejected::TooLarge),
        (DecodeError::EmptyPiece, Rejected::Malformed),
        (DecodeError::BadIndex { index: 1, total: 1 }, Rejected::Malformed),
        (DecodeError::BadId, Rejected::Malformed),
        (DecodeError::BadAddress, Rejected::BadAddress),
        (DecodeError::BadText, Rejected::Malformed),
        (DecodeError::Nested, Rejected::Nested),
    ] {
        assert_eq!(Rejected::from(error), rejected, "{error}");
        assert!(!error.to_string().ends_with('.'));
    }
}
