use crypto::v12::{ParseTopicError, TopicHash, xor_hash};

use super::{hex, text, vectors};

const HASHES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/v12/hashes.json"));
const TOPICS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/v12/topics.json"));

#[test]
fn messages() {
    for vector in vectors(HASHES) {
        let data = hex(&vector["data_hex"]);
        assert_eq!(data_encoding::HEXLOWER.encode(&xor_hash(&data)), text(&vector["xor_hash"]), "{vector}");
    }
}

#[test]
fn topics() {
    for vector in vectors(TOPICS) {
        let hash = TopicHash::of(&hex(&vector["topic_hex"]));
        assert_eq!(hash.as_str(), text(&vector["topic_hash"]), "{vector}");
        assert_eq!(hash.to_string(), hash.as_str());
        assert_eq!(hash.as_str().parse(), Ok(hash));
    }
}

#[test]
fn texts_that_are_not_topic_hashes() {
    let parse = |text: &str| text.parse::<TopicHash>();
    assert_eq!(parse(""), Err(ParseTopicError::Length { len: 0 }));
    assert_eq!(parse("ecf81467f34"), Err(ParseTopicError::Length { len: 11 }));
    assert_eq!(parse("ecf81467f3479cc2dfe67bfe"), Err(ParseTopicError::Length { len: 24 }));
    assert_eq!(parse("Ecf81467f347"), Err(ParseTopicError::Alphabet { position: 0 }));
    assert_eq!(parse("ecf81467f34/"), Err(ParseTopicError::Alphabet { position: 11 }));
    // Twelve bytes, eleven characters.
    assert_eq!(parse("ecf81467f3é"), Err(ParseTopicError::Alphabet { position: 10 }));
}
