//! What the chat programs say to each other: JSON objects, as the reference's.
//!
//! Each message of ours also has a member `_n` that is different every time. Nodes of this wire drop a message whose
//! content they have seen in the last minutes, whoever wrote it: without it nobody could say "yes" twice.

use serde_json::{Value, json};

use crate::sanitize;

/// A message that arrived, with its texts safe to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// Somebody is there: `author`, if it says so, whose id is what it says.
    Join { nick: String, author: Option<String> },
    /// Somebody says something. `ours` if it is our own, come back.
    Say { nick: String, text: String, ours: bool },
    /// Somebody leaves.
    Leave { nick: String },
}

/// Writes our messages.
#[derive(Debug)]
pub(crate) struct Writer {
    nick: String,
    /// Our id on the wire, 40 hexadecimal digits.
    id: String,
    /// Different in each run.
    run: String,
    count: u64,
}

impl Writer {
    pub(crate) fn new(nick: &str, id: String, run: String) -> Self {
        Self { nick: nick.to_owned(), id, run, count: 0 }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn join(&mut self) -> String {
        self.write(json!({ "type": "JOIN", "nick": self.nick, "_selfId": self.id }))
    }

    pub(crate) fn say(&mut self, text: &str) -> String {
        self.write(json!({ "type": "MSG", "nick": self.nick, "text": text, "_selfId": self.id }))
    }

    pub(crate) fn leave(&mut self) -> String {
        self.write(json!({ "type": "LEAVE", "nick": self.nick }))
    }

    fn write(&mut self, mut message: Value) -> String {
        self.count += 1;
        if let Value::Object(members) = &mut message {
            members.insert("_n".to_owned(), format!("{}-{}", self.run, self.count).into());
        }
        message.to_string()
    }
}

/// Reads a message; `None` for what is none. `own_id` is ours, 40 hexadecimal digits.
pub(crate) fn read(data: &[u8], own_id: &str) -> Option<Message> {
    // The depth of nesting is limited by the parser, the size by the wire.
    let message: Value = serde_json::from_slice(data).ok()?;
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let nick = sanitize::nick(text("nick").unwrap_or_default());
    match text("type")? {
        "JOIN" => Some(Message::Join { nick, author: text("_selfId").map(str::to_owned) }),
        "MSG" => {
            let ours = text("_selfId") == Some(own_id);
            Some(Message::Say { nick, text: sanitize::text(text("text")?), ours })
        }
        "LEAVE" => Some(Message::Leave { nick }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_messages_are_read_back_and_are_never_the_same() {
        let mut writer = Writer::new("alice", "ab".repeat(20), "1".into());
        let id = writer.id().to_owned();
        let said = writer.say("yes");
        assert_ne!(said, writer.say("yes"));
        let say = |ours| Some(Message::Say { nick: "alice".into(), text: "yes".into(), ours });
        assert_eq!(read(said.as_bytes(), "somebody else"), say(false));
        assert_eq!(read(said.as_bytes(), &id), say(true));
        assert_eq!(read(writer.join().as_bytes(), ""), Some(Message::Join { nick: "alice".into(), author: Some(id) }));
        assert_eq!(read(writer.leave().as_bytes(), ""), Some(Message::Leave { nick: "alice".into() }));
    }

    #[test]
    fn junk_is_no_message() {
        let deep = "[".repeat(60_000);
        for junk in ["", "null", "[]", "{", "\u{1}", "{\"type\":7}", "{\"type\":\"MSG\"}", "{\"type\":\"WHO\"}", &deep]
        {
            assert_eq!(read(junk.as_bytes(), ""), None, "{junk:.20}");
        }
        assert_eq!(read(&[0xff, 0xfe, b'{'], ""), None);
        assert_eq!(read(br#"{"type":"JOIN"}"#, ""), Some(Message::Join { nick: "?".into(), author: None }));
        assert_eq!(
            read(br#"{"type":"JOIN","nick":{"a":1}}"#, ""),
            Some(Message::Join { nick: "?".into(), author: None })
        );
        let escape = br#"{"type":"MSG","nick":"\u001b[2J","text":"a\u202eb"}"#;
        let clean = Message::Say { nick: "[2J".into(), text: "ab".into(), ours: false };
        assert_eq!(read(escape, ""), Some(clean));
    }
}
