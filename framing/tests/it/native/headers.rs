use framing::header::{Reset, destination, reset_token};
use framing::{AnswerHeader, DataHeader, DecodeError, FirstHeader, Kind, Reader};
use proptest::prelude::*;

const CID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn every_first_byte_has_its_kind() {
    let expected = |byte: u8| {
        Some(match byte {
            0xc8 => Kind::ToRelay,
            0xc9 => Kind::FromRelay,
            0xd0 => Kind::Init,
            0xd1 => Kind::Resp,
            0xd2 => Kind::Cookie,
            0xd3 => Kind::Xx1,
            0xd4 => Kind::Xx2,
            0xd5 => Kind::Xx3,
            0xd6 => Kind::InitR,
            0xd7 => Kind::RespR,
            0xd8..=0xdb => Kind::Dht,
            0xdc..=0xdd => Kind::Probe,
            0xde => Kind::Beacon,
            0xdf => Kind::Retry,
            0xe0..=0xef => Kind::Data,
            _ => return None,
        })
    };
    for byte in 0..=255 {
        let kind = Kind::of(byte);
        assert_eq!(kind, expected(byte), "{byte:#04x}");
        if let Some(kind) = kind {
            assert_eq!(Kind::of(kind.byte()), Some(kind));
            assert!(kind.byte() <= byte);
        }
    }
}

#[cfg(feature = "v12")]
#[test]
fn no_first_byte_is_also_one_of_v12() {
    for kind in framing::v12::Kind::ALL {
        assert_eq!(Kind::of(kind.byte()), None, "{kind:?}");
    }
}

#[test]
fn first_headers() {
    for byte in (0xd0..=0xd7).chain([0xdf]) {
        let bytes = [byte, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let header = FirstHeader { kind: Kind::of(byte).unwrap(), version: 1, cid: CID };
        assert_eq!(header.encode(), bytes);
        let mut more = bytes.to_vec();
        more.push(9);
        let mut reader = Reader::new(&more);
        assert_eq!(FirstHeader::decode(&mut reader), Ok(header));
        assert_eq!(reader.rest(), [9]);
    }
    let later = [0xd0, 200, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8];
    let read = FirstHeader::decode(&mut Reader::new(&later));
    assert_eq!(
        read,
        Ok(FirstHeader { kind: Kind::Init, version: 200, cid: CID }),
        "later versions, flags not looked at"
    );
    let zero = [0xd0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(FirstHeader::decode(&mut Reader::new(&zero)), Err(DecodeError::OutOfRange));
    for byte in (0..=255).filter(|byte| !matches!(byte, 0xd0..=0xd7 | 0xdf)) {
        let bytes = [byte, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(FirstHeader::decode(&mut Reader::new(&bytes)), Err(DecodeError::UnknownKind(byte)));
    }
}

#[test]
fn truncated_headers_take_nothing() {
    let bytes = [0xd1, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9];
    let data = [0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1];
    for len in 0..20 {
        let error = if len == 0 { DecodeError::Empty } else { DecodeError::Truncated };
        let mut reader = Reader::new(&bytes[..len]);
        assert_eq!(AnswerHeader::decode(&mut reader), Err(error));
        assert_eq!(reader.len(), len);
        if len < 12 {
            assert_eq!(FirstHeader::decode(&mut reader), Err(error));
            assert_eq!(destination(&bytes[..len]), None);
        }
        if len < 13 {
            assert_eq!(DataHeader::decode(&mut Reader::new(&data[..len])), Err(error));
        }
    }
}

#[test]
fn where_datagrams_belong() {
    let mut bytes = [0xd0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    for (kind, known) in [
        (0xd0, false),
        (0xd1, true),
        (0xd2, true),
        (0xd3, false),
        (0xd4, true),
        (0xd5, true),
        (0xd6, false),
        (0xd7, true),
        (0xd8, false),
        (0xdc, false),
        (0xde, false),
        (0xdf, true),
    ] {
        bytes[0] = kind;
        assert_eq!(destination(&bytes), known.then_some(CID), "{kind:#x}");
    }
    assert_eq!(destination(&[0xe3, 1, 2, 3, 4, 5, 6, 7, 8]), Some(CID));
    assert_eq!(destination(&[0xe3, 1, 2, 3, 4, 5, 6, 7]), None);
    assert_eq!(destination(&[]), None);
    assert_eq!(destination(&[0x20; 40]), None);
}

#[test]
fn resets_are_shorter_than_what_they_answer() {
    let token = *b"sixteen bytes, ok";
    let token = *token.first_chunk().unwrap();
    for trigger in 0..43 {
        assert_eq!(Reset::new(trigger, [9; 27], token), None);
    }
    let mut lengths = std::collections::BTreeSet::new();
    for byte in 0..=255_u8 {
        let mut random = [byte; 27];
        random[1] = !byte;
        let reset = Reset::new(43, random, token).unwrap();
        let bytes = reset.as_ref();
        lengths.insert(bytes.len());
        assert_eq!(Kind::of(bytes[0]), Some(Kind::Data));
        assert_eq!(bytes[0] & 0x0f, byte & 0x0f);
        assert_eq!(bytes[1], !byte);
        assert_eq!(reset_token(bytes), Some(token));
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [39, 40, 41, 42]);
    assert_eq!(reset_token(&[0xe0; 38]), None, "too short");
    assert_eq!(reset_token(&[0xd0; 39]), None, "no packet");
    assert_eq!(reset_token(&[]), None);
}

proptest! {
    #[test]
    fn headers_read_back(which in 0..9_u8, version in 1..=u8::MAX, cid: [u8; 8], responder: [u8; 8], phase in 0..4_u8, number: u32) {
        let kind = Kind::of([0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xdf][usize::from(which)]).unwrap();
        let first = FirstHeader { kind, version, cid };
        prop_assert_eq!(FirstHeader::decode(&mut Reader::new(&first.encode())), Ok(first));
        let answer = AnswerHeader { first, responder };
        prop_assert_eq!(AnswerHeader::decode(&mut Reader::new(&answer.encode())), Ok(answer));
        let data = DataHeader { phase, cid, number };
        let bytes = data.encode();
        prop_assert_eq!(bytes[0] >> 2, 0xe0 >> 2);
        prop_assert_eq!(DataHeader::decode(&mut Reader::new(&bytes)), Ok(data));
        prop_assert_eq!(destination(&bytes), Some(cid));
    }
}
