use crypto::v12::{NodeId, ParseIdError, PublicKey, WireId};
use proptest::prelude::*;

const ID: &str = "e3f03f52612aadacbcbc96c9ea08aa1835740dd7";

#[test]
fn ids_are_read_in_either_case_and_written_in_lower_case() {
    let upper = ID.to_uppercase();
    assert_eq!(upper.parse::<NodeId>().unwrap().to_string(), ID);
    assert_eq!(upper[..16].parse::<WireId>().unwrap().to_string(), ID[..16]);
    assert_eq!(format!("{:?}", ID.parse::<NodeId>().unwrap()), format!("NodeId({ID})"));
}

#[test]
fn a_long_id_is_cut_after_it_was_checked() {
    let wire: WireId = ID.parse().unwrap();
    assert_eq!(wire, ID[..16].parse().unwrap());
    assert_eq!(wire, ID.parse::<NodeId>().unwrap().wire());
    let bad_end = format!("{}x", &ID[..39]);
    assert_eq!(bad_end.parse::<WireId>(), Err(ParseIdError::Alphabet { position: 39 }));
}

#[test]
fn texts_that_are_not_ids() {
    for len in (0..=50).filter(|len| *len != 40) {
        let text = "0".repeat(len);
        assert_eq!(text.parse::<NodeId>(), Err(ParseIdError::Length { len }));
        if len != 16 {
            assert_eq!(text.parse::<WireId>(), Err(ParseIdError::Length { len }));
        }
    }
    for position in 0..40 {
        for bad in ["g", "/", ":", "@", "`", " ", "\0"] {
            let mut text = ID.to_owned();
            text.replace_range(position..=position, bad);
            assert_eq!(text.parse::<NodeId>(), Err(ParseIdError::Alphabet { position }), "{text}");
            if position < 16 {
                assert_eq!(text[..16].parse::<WireId>(), Err(ParseIdError::Alphabet { position }), "{text}");
            }
        }
    }
    // A character of two bytes across the cut.
    let text = format!("{}é{}", &ID[..15], &ID[17..]);
    assert_eq!(text.parse::<WireId>(), Err(ParseIdError::Alphabet { position: 15 }));
}

#[test]
fn a_key_is_shown_by_its_start() {
    let key = PublicKey::from(std::array::from_fn(|i| i as u8));
    assert_eq!(format!("{key:?}"), "PublicKey(00010203..)");
}

proptest! {
    #[test]
    fn text_and_bytes_agree(bytes: [u8; 20]) {
        let id = NodeId::from(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(id.as_bytes(), &bytes);
        prop_assert_eq!(id.wire().to_string().parse(), Ok(id.wire()));
        let wire = WireId::from(id);
        prop_assert_eq!(wire.as_bytes(), &bytes[..8]);
    }

    #[test]
    fn any_text_is_an_id_or_an_error(text: String) {
        let _ = text.parse::<NodeId>();
        let _ = text.parse::<WireId>();
    }
}
