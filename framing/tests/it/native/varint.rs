use framing::{DecodeError, EncodeError, PacketWriter, Reader, Writer, varint};
use proptest::prelude::*;

fn written(value: u64) -> Option<Vec<u8>> {
    let mut space = [0; 8];
    let mut writer = PacketWriter::new(&mut space);
    writer.varint(value).then(|| writer.written().to_vec())
}

/// RFC 9000, appendix A.1.
#[test]
fn the_examples_of_the_rfc() {
    for (bytes, value) in [
        (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
        (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
        (&[0x7b, 0xbd], 15_293),
        (&[0x25], 37),
    ] {
        assert_eq!(Reader::new(bytes).varint(), Ok(value));
        assert_eq!(written(value).unwrap(), bytes);
    }
    assert_eq!(Reader::new(&[0x40, 0x25]).varint(), Ok(37), "a longer form than needed");
}

#[test]
fn lengths_change_where_they_must() {
    for (value, len) in
        [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8), (varint::MAX, 8)]
    {
        assert_eq!(varint::len(value), len);
        assert_eq!(written(value).unwrap().len(), len);
    }
    assert_eq!(varint::MAX, 4_611_686_018_427_387_903);
    for value in [varint::MAX + 1, u64::MAX] {
        assert_eq!(written(value), None);
        let mut out = vec![7];
        assert_eq!(Writer::new(&mut out).varint(value), Err(EncodeError::OutOfRange));
        assert_eq!(out, [7]);
    }
}

#[test]
fn a_truncated_form_takes_nothing() {
    for first in [0x40, 0x80, 0xc0_u8] {
        let whole = [first, 0, 0, 0, 0, 0, 0, 0];
        for len in 0..1_usize << (first >> 6) {
            let mut reader = Reader::new(&whole[..len]);
            assert_eq!(reader.varint(), Err(DecodeError::Truncated));
            assert_eq!(reader.len(), len);
        }
    }
    // A length that promises everything.
    let mut reader = Reader::new(&[0xff; 9]);
    assert_eq!(reader.long_bytes(), Err(DecodeError::Truncated));
}

proptest! {
    #[test]
    fn every_value_reads_back(value in 0..=varint::MAX, shift in 0..62_u32) {
        let value = value >> shift;
        let bytes = written(value).unwrap();
        let mut out = Vec::new();
        Writer::new(&mut out).varint(value).unwrap();
        prop_assert_eq!(&out, &bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert!(reader.is_empty());
    }
}
