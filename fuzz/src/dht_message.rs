//! What nodes of the distributed hash table send each other, as bytes: read, written and read again.

use dht::message::{Front, MAX_BODY, Message, OVERHEAD, Outcome};
use dht::{Announcement, Item, Key, Kind, Wanted};

use crate::input::Input;

/// Whatever the bytes, decoders end without a panic, take no more than there is, and agree with the encoders.
pub fn dht_message(data: &[u8]) {
    if let Ok(front) = Front::decode(data) {
        let bytes = front.encode();
        let same = match front {
            // The echo is the beginning of the envelope.
            Front::Sealed { .. } => Front::decode(&[&bytes, &data[bytes.len()..]].concat()),
            _ => Front::decode(&bytes),
        };
        assert_eq!(same, Ok(front));
    }
    if let Ok(message) = Message::decode(data) {
        let bytes = message.encode(0, usize::MAX);
        assert!(bytes.len() <= data.len(), "what was read is written in as many bytes at most");
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        let short = message.encode(MAX_BODY, MAX_BODY);
        assert!(short.len() >= MAX_BODY);
        if let Message::Answer(_, answer) = &message {
            let fits = match &answer.outcome {
                Outcome::Peers { announcements, .. } => {
                    announcements.iter().map(|one| one.len() + 2).sum::<usize>() <= 1000
                }
                Outcome::Item { item, .. } => item.len() <= 1072,
                _ => true,
            };
            assert!(!fits || short.len() + OVERHEAD <= 1200);
        }
    }
    let mut input = Input::new(data);
    let key = Key::from_bytes([input.u8(); 32]);
    let rest = input.rest();
    // Mostly forged; what is signed is said again as it was.
    if let Ok(announcement) = Announcement::decode(key, rest) {
        assert_eq!(Announcement::decode(key, announcement.as_bytes()).as_ref(), Ok(&announcement));
    }
    for kind in [Kind::Value, Kind::Signed, Kind::Peer] {
        if let Ok(item) = Item::decode(kind, rest) {
            assert_eq!(Item::decode(kind, &item.to_bytes()).as_ref(), Ok(&item));
        }
    }
    if let Ok(item) = Item::decode(Kind::Value, rest) {
        assert_eq!(Wanted::Value(item.key()).decode(&item.to_answer()).as_ref(), Ok(&item));
    }
    if let Ok(contacts) = dht::load(data) {
        assert_eq!(dht::load(&dht::save(&contacts)).as_ref(), Ok(&contacts));
    }
}
