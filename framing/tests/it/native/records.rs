use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Context, Identity, PeerId};
use framing::record::{Record, Records, Refused, SignedRecord, Taken};
use framing::tlv::Rule;
use framing::voucher::Voucher;
use framing::{DecodeError, EncodeError};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn identity(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn record(sequence: u64) -> Record {
    Record {
        sequence,
        expires: NOW + HOUR,
        capabilities: 1,
        addresses: vec!["192.0.2.1:4242".parse().unwrap(), "[2001:db8::7]:4242".parse().unwrap()],
        relays: vec![identity(8).peer_id(), identity(9).peer_id()],
        vouchers: Vec::new(),
    }
}

fn voucher(relay: u8, client: u8) -> Voucher {
    let addrs = ["192.0.2.9:7".parse().unwrap(); 4];
    Voucher::sign(&identity(relay), identity(client).peer_id(), NOW + HOUR, &addrs).unwrap()
}

#[test]
fn vouchers_come_along_and_those_of_others_are_passed_over() {
    let vouchers = vec![voucher(8, 1), voucher(9, 1)];
    let signed = Record { vouchers: vouchers.clone(), ..record(1) }.sign(&identity(1)).unwrap();
    let read = SignedRecord::decode(signed.as_bytes()).unwrap();
    assert_eq!(read.vouchers().collect::<Vec<_>>(), vouchers);
    let others = Record { vouchers: vec![voucher(8, 2), voucher(9, 1)], ..record(1) }.sign(&identity(1)).unwrap();
    assert_eq!(others.vouchers().map(|voucher| voucher.relay()).collect::<Vec<_>>(), [identity(9).peer_id()]);
    let three = Record { vouchers: vec![voucher(8, 1), voucher(9, 1), voucher(7, 1)], ..record(1) };
    assert_eq!(three.sign(&identity(1)), Err(EncodeError::TooMany { max: 2 }));
    let addresses = vec!["192.0.2.1:1".parse().unwrap(); 16];
    let relays = vec![identity(8).peer_id(); 4];
    let largest = Record { addresses, relays, vouchers, ..record(1) }.sign(&identity(1)).unwrap();
    assert!(largest.as_bytes().len() <= 1000);
    // What stands there is looked at for its lengths only, until somebody wants to know.
    let garbage = forged(&identity(1), &[1, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 8, 0, 0, 0, 0, 0, 0, 0, 1, 6, 4, 1, 2, 7, 7]);
    assert_eq!(SignedRecord::decode(&garbage).unwrap().vouchers().count(), 0);
    let short = forged(&identity(1), &[1, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 8, 0, 0, 0, 0, 0, 0, 0, 1, 6, 2, 1, 2]);
    assert_eq!(SignedRecord::decode(&short), Err(DecodeError::Truncated));
}

/// Signs entries that the library would not write.
fn forged(identity: &Identity, entries: &[u8]) -> Vec<u8> {
    let mut bytes = [identity.peer_id().as_bytes(), entries].concat();
    let signature = identity.sign(Context::new(*b"setowire addr v1"), &bytes);
    bytes.extend_from_slice(signature.as_bytes());
    bytes
}

#[test]
fn bytes_are_those_of_the_layout() {
    let signed = record(7).sign(&identity(1)).unwrap();
    let entries = [
        &[1, 8, 0, 0, 0, 0, 0, 0, 0, 7, 2, 8, 0, 0, 0, 0][..],
        &(1_800_003_600_u32).to_be_bytes(),
        &[3, 8, 0, 0, 0, 0, 0, 0, 0, 1, 4, 37, 2],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0x10, 0x92],
        &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0x10, 0x92],
        &[5, 0x40, 65, 2],
        identity(8).peer_id().as_bytes(),
        identity(9).peer_id().as_bytes(),
    ]
    .concat();
    assert_eq!(signed.as_bytes(), forged(&identity(1), &entries));
    assert_eq!(signed.record(), record(7));
    assert_eq!((signed.peer(), signed.sequence(), signed.expires()), (identity(1).peer_id(), 7, NOW + HOUR));
    assert_eq!(SignedRecord::decode(signed.as_bytes()), Ok(signed.clone()));
    assert_eq!(SignedRecord::decode_with(signed.as_bytes(), Rule::Strict), Ok(signed));
    // The largest there can be.
    let addr: SocketAddr = "[2001:db8::7]:4242".parse().unwrap();
    let largest = Record { addresses: vec![addr; 16], relays: vec![identity(8).peer_id(); 4], ..record(1) };
    assert!(largest.sign(&identity(1)).unwrap().as_bytes().len() <= 1000);
}

#[test]
fn limits_of_writing() {
    let sign = |record: Record| record.sign(&identity(1)).map(drop);
    let addr: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let relay = identity(8).peer_id();
    assert_eq!(sign(Record { addresses: vec![addr; 17], ..record(1) }), Err(EncodeError::TooMany { max: 16 }));
    assert_eq!(sign(Record { addresses: vec![addr; 300], ..record(1) }), Err(EncodeError::TooMany { max: 16 }));
    assert_eq!(sign(Record { relays: vec![relay; 5], ..record(1) }), Err(EncodeError::TooMany { max: 4 }));
    for bad in ["192.0.2.1:0", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "[ff02::1]:1"] {
        let addresses = vec![addr, bad.parse().unwrap()];
        assert_eq!(sign(Record { addresses, ..record(1) }), Err(EncodeError::BadAddress), "{bad}");
    }
    let bare = Record { addresses: Vec::new(), relays: Vec::new(), capabilities: 0, ..record(1) };
    let signed = bare.sign(&identity(1)).unwrap();
    assert_eq!(signed.as_bytes().len(), 32 + 20 + 64);
    assert_eq!(signed.record(), bare);
}

#[test]
fn additions_are_kept_and_passed_over() {
    let own = record(7).sign(&identity(1)).unwrap();
    let entries = &own.as_bytes()[32..own.as_bytes().len() - 64];
    // A field behind the sequence number, one behind the addresses, a tag below and one above.
    let mut later = vec![0, 1, 0x55];
    later.extend([1, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0xee]);
    later.extend(&entries[10..]);
    let at = later.windows(3).position(|window| window == [4, 37, 2]).unwrap();
    later[at + 1] = 38;
    later.insert(at + 2 + 37, 0xee);
    later.extend([0x40, 0x50, 2, 1, 2]);
    let bytes = forged(&identity(1), &later);
    let read = SignedRecord::decode(&bytes).unwrap();
    assert_eq!(read.record(), record(7));
    assert_eq!(read.as_bytes(), bytes, "it is handed on as it came");
    assert_eq!(SignedRecord::decode_with(&bytes, Rule::Strict), Err(DecodeError::UnknownTag(0)));
    assert_eq!(
        SignedRecord::decode_with(&forged(&identity(1), &later[3..]), Rule::Strict),
        Err(DecodeError::TrailingBytes)
    );
}

#[test]
fn what_does_not_decode() {
    let decode = |entries: &[u8]| SignedRecord::decode(&forged(&identity(1), entries)).map(drop);
    let must = [1, 8, 0, 0, 0, 0, 0, 0, 0, 7, 2, 8, 0, 0, 0, 0, 0, 0, 0, 9];
    let with = |entries: &[u8]| decode(&[&must[..], entries].concat());
    assert_eq!(decode(&must), Ok(()));
    assert_eq!(decode(&must[..10]), Err(DecodeError::Truncated), "no expiry");
    assert_eq!(decode(&must[10..]), Err(DecodeError::Truncated), "no sequence");
    assert_eq!(decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(with(&[3, 7, 0, 0, 0, 0, 0, 0, 0]), Err(DecodeError::Truncated));
    assert_eq!(with(&[4, 0]), Err(DecodeError::Truncated));
    assert_eq!(with(&[4, 1, 1]), Err(DecodeError::Truncated));
    assert_eq!(with(&[4, 1, 17]), Err(DecodeError::TooLong { len: 17, max: 16 }));
    assert_eq!(with(&[5, 1, 5]), Err(DecodeError::TooLong { len: 5, max: 4 }));
    assert_eq!(with(&[2, 8, 0, 0, 0, 0, 0, 0, 0, 9]), Err(DecodeError::BadOrder));
    let zero = [&[4, 19, 1][..], &[0; 18]].concat();
    assert_eq!(with(&zero), Err(DecodeError::BadAddress));
    let relay = [&[5, 33, 1][..], &[0xff; 32]].concat();
    assert_eq!(with(&relay), Err(DecodeError::BadKey), "signed by who named it");
    let long = [&[9, 0x43, 0x80][..], &[0; 896]].concat();
    assert_eq!(with(&long), Err(DecodeError::TooLong { len: 1015, max: 1000 }));
    let long = [&[9, 0x43, 0x71][..], &[0; 881]].concat();
    assert_eq!(with(&long), Ok(()), "1000 bytes");
    let mut foreign = forged(&identity(1), &must);
    foreign[..32].copy_from_slice(&[0xff; 32]);
    assert_eq!(SignedRecord::decode(&foreign), Err(DecodeError::BadKey));
    foreign[..32].copy_from_slice(identity(2).peer_id().as_bytes());
    assert_eq!(SignedRecord::decode(&foreign), Err(DecodeError::BadSignature));
    // A signature for something else.
    let mut bytes = [identity(1).peer_id().as_bytes(), &must[..]].concat();
    let signature = identity(1).sign(Context::new(*b"setowire rant v1"), &bytes);
    bytes.extend_from_slice(signature.as_bytes());
    assert_eq!(SignedRecord::decode(&bytes), Err(DecodeError::BadSignature));
}

#[test]
fn no_truncation_and_no_flipped_bit_is_accepted() {
    let signed = Record { relays: Vec::new(), ..record(7) }.sign(&identity(1)).unwrap();
    let bytes = signed.as_bytes();
    for len in 0..bytes.len() {
        assert!(SignedRecord::decode(&bytes[..len]).is_err(), "{len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(SignedRecord::decode(&bytes).is_err(), "bit {bit}");
    }
    let mut more = bytes.to_vec();
    more.push(0);
    assert!(SignedRecord::decode(&more).is_err());
}

#[test]
fn the_highest_number_is_kept() {
    let mut records = Records::new(4);
    let signed = |n: u8, sequence| record(sequence).sign(&identity(n)).unwrap();
    assert_eq!(records.insert(signed(1, 5), NOW), Ok(Taken::First));
    assert_eq!(records.insert(signed(1, 5), NOW), Ok(Taken::Known));
    assert_eq!(records.insert(signed(1, 4), NOW), Err(Refused::Older));
    let other = Record { capabilities: 2, ..record(5) }.sign(&identity(1)).unwrap();
    assert_eq!(records.insert(other, NOW), Err(Refused::Conflict));
    assert_eq!(records.insert(signed(1, 6), NOW), Ok(Taken::Newer));
    assert_eq!(records.insert(signed(2, 1), NOW), Ok(Taken::First));
    assert_eq!(records.len(), 2);
    assert_eq!(records.get(&identity(1).peer_id()).unwrap().sequence(), 6);
    assert!(signed(1, 6).supersedes(&signed(1, 5)) && !signed(1, 5).supersedes(&signed(1, 5)));
    assert!(!signed(2, 6).supersedes(&signed(1, 5)), "another peer");
    assert_eq!(records.remove(&identity(1).peer_id()).unwrap().sequence(), 6);
    assert_eq!(records.remove(&identity(1).peer_id()), None);
    assert_eq!(records.insert(signed(1, 4), NOW), Ok(Taken::First), "forgotten");
}

#[test]
fn records_end_and_make_room() {
    let until = |n: u8, expires| Record { expires, relays: Vec::new(), ..record(1) }.sign(&identity(n)).unwrap();
    let mut records = Records::new(2);
    assert_eq!(records.insert(until(1, NOW), NOW), Err(Refused::Expired));
    let week = HOUR * 24 * 7;
    assert_eq!(records.insert(until(1, NOW + week + Duration::from_secs(1)), NOW), Err(Refused::TooFarAhead));
    assert_eq!(records.insert(until(1, NOW + week), NOW), Ok(Taken::First));
    assert_eq!(records.insert(until(2, NOW + HOUR), NOW), Ok(Taken::First));
    assert_eq!(records.insert(until(3, NOW + HOUR), NOW), Err(Refused::Full));
    assert_eq!(records.insert(until(3, NOW + HOUR * 2), NOW + HOUR), Ok(Taken::First), "2 has expired");
    let left: Vec<PeerId> = records.iter().map(SignedRecord::peer).collect();
    let mut expected = [identity(1).peer_id(), identity(3).peer_id()];
    expected.sort();
    assert_eq!(left, expected);
    records.expire(NOW + week);
    assert!(records.is_empty());
    assert_eq!(Records::new(0).insert(until(1, NOW + HOUR), NOW), Err(Refused::Full));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_signed_decodes(sequence: u64, expires: u64, capabilities: u64, addresses in proptest::collection::vec(any::<SocketAddr>(), 0..=16), relays in 0..=4_u8) {
        let usable = |addr: &SocketAddr| addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast();
        let addresses = addresses.into_iter().map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port())).filter(usable).collect();
        let relays = (0..relays).map(|n| identity(n).peer_id()).collect();
        let expires = Duration::from_secs(expires);
        let record = Record { sequence, expires, capabilities, addresses, relays, ..Record::default() };
        let signed = record.sign(&identity(1)).unwrap();
        let read = SignedRecord::decode(signed.as_bytes()).unwrap();
        prop_assert_eq!(read.record(), record);
        prop_assert_eq!(read, signed);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
        prop_assert!(SignedRecord::decode(&bytes).is_err());
    }
}
