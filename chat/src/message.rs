//! What the chat programs say to each other: JSON objects, as the reference's, of the same form on both wires.
//!
//! Each message of ours also has a member `_n` that is different every time. Nodes of the v12 wire drop a message whose
//! content they have seen in the last minutes, whoever wrote it: without it nobody could say "yes" twice. And `_selfId`
//! is our id on that wire, if we speak it: a native session proves its peer by itself.

use std::net::SocketAddr;

use serde_json::{Value, json};
use swarm::PeerId;

use crate::sanitize;

/// Others that one introduction names at most.
pub(crate) const MAX_MEET: usize = 32;

/// A message that arrived, with its texts safe to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// How the author is called, as it says.
    pub(crate) nick: String,
    /// The id on the v12 wire that the author claims, 40 hexadecimal digits in lower case.
    pub(crate) v12_id: Option<String>,
    pub(crate) kind: Kind,
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The author is there.
    Join,
    /// The author says something to everybody.
    Say(String),
    /// The author says something to one alone.
    Direct(String),
    /// Others in the room and where they are, for one who has just come.
    Meet(Vec<(PeerId, SocketAddr)>),
    /// The author leaves.
    Leave,
}

/// Writes our messages.
#[derive(Debug)]
pub(crate) struct Writer {
    nick: String,
    v12_id: Option<String>,
    /// Different in each run.
    run: String,
    count: u64,
}

impl Writer {
    /// `v12_id` is our id on the v12 wire, if we speak it.
    pub(crate) fn new(nick: &str, v12_id: Option<String>, run: String) -> Self {
        Self { nick: nick.to_owned(), v12_id, run, count: 0 }
    }

    pub(crate) fn join(&mut self) -> String {
        self.write(json!({ "type": "JOIN" }))
    }

    pub(crate) fn say(&mut self, text: &str) -> String {
        self.write(json!({ "type": "MSG", "text": text }))
    }

    /// For native peers only: on the other wire it would be passed on.
    pub(crate) fn direct(&mut self, text: &str) -> String {
        self.write(json!({ "type": "DIRECT", "text": text }))
    }

    /// For native peers only.
    pub(crate) fn meet(&mut self, others: &[(PeerId, SocketAddr)]) -> String {
        let others: Vec<String> = others.iter().map(|(id, addr)| format!("{id}@{addr}")).collect();
        self.write(json!({ "type": "MEET", "peers": others }))
    }

    pub(crate) fn leave(&mut self) -> String {
        self.write(json!({ "type": "LEAVE" }))
    }

    fn write(&mut self, mut message: Value) -> String {
        self.count += 1;
        if let Value::Object(members) = &mut message {
            members.insert("nick".to_owned(), self.nick.clone().into());
            members.insert("_n".to_owned(), format!("{}-{}", self.run, self.count).into());
            if let Some(id) = &self.v12_id {
                members.insert("_selfId".to_owned(), id.clone().into());
            }
        }
        message.to_string()
    }
}

/// Reads a message; `None` for what is none.
pub(crate) fn read(data: &[u8]) -> Option<Message> {
    // The depth of nesting is limited by the parser, the size by the wire.
    let message: Value = serde_json::from_slice(data).ok()?;
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let kind = match text("type")? {
        "JOIN" => Kind::Join,
        "MSG" => Kind::Say(sanitize::text(text("text")?)),
        "DIRECT" => Kind::Direct(sanitize::text(text("text")?)),
        "MEET" => {
            let others = message.get("peers").and_then(Value::as_array)?.iter().take(MAX_MEET);
            Kind::Meet(others.filter_map(|other| read_peer(other.as_str()?)).collect())
        }
        "LEAVE" => Kind::Leave,
        _ => return None,
    };
    let is_id = |id: &&str| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let v12_id = text("_selfId").filter(is_id).map(str::to_ascii_lowercase);
    Some(Message { nick: sanitize::nick(text("nick").unwrap_or_default()), v12_id, kind })
}

fn read_peer(text: &str) -> Option<(PeerId, SocketAddr)> {
    let (id, addr) = text.split_once('@')?;
    Some((id.parse().ok()?, addr.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_messages_are_read_back_and_are_never_the_same() {
        for v12_id in [None, Some("ab".repeat(20))] {
            let mut writer = Writer::new("alice", v12_id.clone(), "1".into());
            let said = writer.say("yes");
            assert_ne!(said, writer.say("yes"));
            let alice = |kind| Some(Message { nick: "alice".into(), v12_id: v12_id.clone(), kind });
            assert_eq!(read(said.as_bytes()), alice(Kind::Say("yes".into())));
            assert_eq!(read(writer.direct("no").as_bytes()), alice(Kind::Direct("no".into())));
            assert_eq!(read(writer.join().as_bytes()), alice(Kind::Join));
            assert_eq!(read(writer.leave().as_bytes()), alice(Kind::Leave));
            let others = vec![(PeerId::from_bytes([7; 32]), SocketAddr::from(([127, 0, 0, 1], 7)))];
            assert_eq!(read(writer.meet(&others).as_bytes()), alice(Kind::Meet(others.clone())));
            let many = vec![others[0]; 2 * MAX_MEET];
            assert_eq!(read(writer.meet(&many).as_bytes()), alice(Kind::Meet(vec![others[0]; MAX_MEET])));
        }
    }

    #[test]
    fn junk_is_no_message() {
        let deep = "[".repeat(60_000);
        for junk in ["", "null", "[]", "{", "\u{1}", "{\"type\":7}", "{\"type\":\"MSG\"}", "{\"type\":\"MEET\"}", &deep]
        {
            assert_eq!(read(junk.as_bytes()), None, "{junk:.20}");
        }
        assert_eq!(read(&[0xff, 0xfe, b'{']), None);
        let nobody = Some(Message { nick: "?".into(), v12_id: None, kind: Kind::Join });
        assert_eq!(read(br#"{"type":"JOIN"}"#), nobody);
        assert_eq!(read(br#"{"type":"JOIN","nick":{"a":1},"_selfId":"a\u001b[2J"}"#), nobody);
        let meet = br#"{"type":"MEET","nick":"x","peers":[7,"x","@","a@1.2.3.4:5"]}"#;
        assert_eq!(read(meet).unwrap().kind, Kind::Meet(Vec::new()));
        let escape = br#"{"type":"MSG","nick":"\u001b[2J","text":"a\u202eb"}"#;
        let clean = Message { nick: "[2J".into(), v12_id: None, kind: Kind::Say("ab".into()) };
        assert_eq!(read(escape), Some(clean));
    }
}
