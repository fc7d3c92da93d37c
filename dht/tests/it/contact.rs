use dht::{Contact, NodeId, load, save};
use framing::{DecodeError, Reader, Writer};
use proptest::prelude::*;

fn contacts(count: u16) -> Vec<Contact> {
    (0..count)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            let addr =
                if n % 2 == 0 { ([8, 8, high, low], 9).into() } else { ([0x2600, n, 0, 0, 0, 0, 0, 1], 7).into() };
            Contact { id: NodeId::from_bytes([low; 32]), addr }
        })
        .collect()
}

#[test]
fn a_cache_is_read_as_it_was_written() {
    for count in [0, 1, 4, 256] {
        let contacts = contacts(count);
        let bytes = save(&contacts);
        assert_eq!(bytes.len(), 1 + 50 * usize::from(count));
        assert_eq!(load(&bytes), Ok(contacts));
    }
    assert_eq!(load(&save(&contacts(300))).unwrap(), contacts(256), "the rest is left out");
}

#[test]
fn damage_is_found() {
    let bytes = save(&contacts(3));
    for len in 0..bytes.len() {
        let whole = len % 50 == 1;
        assert_eq!(load(&bytes[..len]).is_ok(), whole, "{len} bytes");
    }
    assert_eq!(load(&[&[2], &bytes[1..]].concat()), Err(DecodeError::UnknownKind(2)));
    let long = [&save(&contacts(256))[..], &[0; 50]].concat();
    assert_eq!(load(&long), Err(DecodeError::TooLong { len: 257, max: 256 }));
    let mut nowhere = save(&contacts(1));
    nowhere[49..51].fill(0);
    assert_eq!(load(&nowhere), Err(DecodeError::BadAddress), "port 0");
}

proptest! {
    #![proptest_config(crate::cases(256))]

    #[test]
    fn any_bytes_are_a_contact_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(contact) = Contact::decode(&mut reader) {
            let mut again = Vec::new();
            contact.encode(&mut Writer::new(&mut again));
            prop_assert_eq!(Contact::decode(&mut Reader::new(&again)), Ok(contact));
            prop_assert_eq!(reader.len(), bytes.len() - 50);
        } else {
            prop_assert_eq!(reader.len(), bytes.len(), "nothing was consumed");
        }
        let _ = load(&bytes);
    }
}
