//! Sealed notes: what two nodes say to each other inside DATA, beside the messages.
//!
//! A DATA packet whose plaintext is a JSON object with a true member `_gossip` carries no sequence number and
//! never reaches an application: the Python, JavaScript and C++ nodes take it for gossip. With other members it is
//! this implementation's acknowledgement, and the only extension of the wire that is authenticated:
//!
//! ```json
//! {"_gossip":1,"x":[1,42,0,512,131072]}     version, next sequence number, missing, window in messages and bytes
//! {"_gossip":1,"x":[1],"bye":8}             goodbye, with a reason code
//! {"_gossip":true,"id":"…","ip":"…","port":…}   gossip of the existing nodes: a peer and its address
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};

use crypto::v12::WireId;
use serde_json::Value;

/// What a sealed note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    /// Our extension: the sender is of this implementation.
    Ours { ack: Option<Ack>, bye: Option<u8> },
    /// A peer that the sender knows.
    Gossip { id: WireId, addr: SocketAddrV4 },
    /// Nothing that we understand; harmless.
    Other,
}

/// What a peer of this implementation has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    /// The sequence number behind the highest received.
    pub(super) next: u32,
    /// How many below that were given up as lost.
    pub(super) missing: u64,
    /// How many messages it is ready to have under way.
    pub(super) window_messages: u32,
    /// How many bytes of messages it is ready to have under way.
    pub(super) window_bytes: u32,
}

/// Notes are small; whatever is longer is a message.
const MAX_NOTE: usize = 1200;

const VERSION: u64 = 1;

pub(super) fn encode_ack(ack: Ack) -> Vec<u8> {
    let Ack { next, missing, window_messages, window_bytes } = ack;
    format!(r#"{{"_gossip":1,"x":[{VERSION},{next},{missing},{window_messages},{window_bytes}]}}"#).into_bytes()
}

pub(super) fn encode_bye(reason: u8) -> Vec<u8> {
    format!(r#"{{"_gossip":1,"x":[{VERSION}],"bye":{reason}}}"#).into_bytes()
}

/// Reads a note, or says that the plaintext is none.
pub(super) fn decode(plaintext: &[u8]) -> Option<Note> {
    if plaintext.len() > MAX_NOTE || plaintext.first() != Some(&b'{') || !contains(plaintext, b"\"_gossip\"") {
        return None;
    }
    let note: Value = serde_json::from_slice(plaintext).ok()?;
    let told = match note.get("_gossip")? {
        Value::Bool(told) => *told,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Null => false,
        Value::Array(_) | Value::Object(_) => true,
    };
    if !told {
        return None;
    }
    if let Some(x) = note.get("x").and_then(Value::as_array) {
        let bye = note.get("bye").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
        return Some(Note::Ours { ack: ack(x), bye });
    }
    Some(gossip(&note).unwrap_or(Note::Other))
}

fn ack(x: &[Value]) -> Option<Ack> {
    let number = |index: usize| x.get(index).and_then(Value::as_u64);
    let small = |index| number(index).and_then(|n| u32::try_from(n).ok());
    Some(Ack { next: small(1)?, missing: number(2)?, window_messages: small(3)?, window_bytes: small(4)? })
}

fn gossip(note: &Value) -> Option<Note> {
    let id = note.get("id")?.as_str()?.parse().ok()?;
    let ip: Ipv4Addr = note.get("ip")?.as_str()?.parse().ok()?;
    let port = note.get("port")?.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)?;
    Some(Note::Gossip { id, addr: SocketAddrV4::new(ip, port) })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_back() {
        let ack = Ack { next: 42, missing: 3, window_messages: 512, window_bytes: 131_072 };
        assert_eq!(decode(&encode_ack(ack)), Some(Note::Ours { ack: Some(ack), bye: None }));
        assert_eq!(decode(&encode_bye(8)), Some(Note::Ours { ack: None, bye: Some(8) }));
    }

    #[test]
    fn the_gossip_of_the_existing_nodes_is_understood_and_other_json_is_a_message() {
        let text = br#"{"_gossip": true, "id": "e3f03f52612aadac", "ip": "127.0.0.1", "port": 40001}"#;
        let addr = "127.0.0.1:40001".parse().expect("an address");
        assert_eq!(decode(text), Some(Note::Gossip { id: "e3f03f52612aadac".parse().expect("an id"), addr }));
        assert_eq!(decode(br#"{"type":"MSG","nick":"a"}"#), None);
        assert_eq!(decode(br#"{"_gossip":0}"#), None);
        assert_eq!(decode(br#"{"_gossip":1}"#), Some(Note::Other));
        assert_eq!(decode(br#"{"_gossip":1,"id":"zz","ip":"evil.example","port":1}"#), Some(Note::Other));
        assert_eq!(decode(br#"{"_gossip":1"#), None, "not JSON");
    }
}
