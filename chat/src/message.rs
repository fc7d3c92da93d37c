//! The JSON that the chat programs of the existing nodes exchange.

use serde::{Deserialize, Serialize};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Message {
    /// Somebody is here; whoever hears it for the first time answers with its own.
    #[serde(rename = "JOIN")]
    Join {
        #[serde(default)]
        nick: String,
    },
    /// Somebody says something.
    #[serde(rename = "MSG")]
    Say {
        #[serde(default)]
        nick: String,
        #[serde(default)]
        text: String,
        /// The author's id, by which authors know their own words when they come back through others.
        #[serde(rename = "_selfId", default, skip_serializing_if = "Option::is_none")]
        author: Option<String>,
    },
    /// Somebody leaves.
    #[serde(rename = "LEAVE")]
    Leave {
        #[serde(default)]
        nick: String,
    },
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // A message of strings cannot fail to be JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The message in these bytes, or `None` if they are something else, as anybody may send.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_is_that_of_the_existing_chats() {
        let say = Message::Say { nick: "bob".into(), text: "hi".into(), author: Some("ab".into()) };
        let json: serde_json::Value = serde_json::from_slice(&say.encode()).expect("JSON");
        assert_eq!(json, serde_json::json!({"type": "MSG", "nick": "bob", "text": "hi", "_selfId": "ab"}));
        assert_eq!(Message::decode(br#"{"type": "JOIN", "nick": "al"}"#), Some(Message::Join { nick: "al".into() }));
        assert_eq!(
            Message::decode(br#"{"type":"LEAVE","nick":"al","more":1}"#),
            Some(Message::Leave { nick: "al".into() })
        );
    }

    #[test]
    fn what_is_missing_is_empty_and_junk_is_nothing() {
        assert_eq!(Message::decode(br#"{"type":"JOIN"}"#), Some(Message::Join { nick: String::new() }));
        for junk in [&b""[..], b"{", b"[]", b"\xff\xfe", br#"{"type":"DANCE"}"#, br#"{"type":"MSG","nick":5}"#, b"null"]
        {
            assert_eq!(Message::decode(junk), None);
        }
    }
}
