//! The messages: one JSON object in a datagram each (SPEC 4.11).

use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// An id or a key.
pub(super) type Id = [u8; 20];

/// Bytes of a datagram that is read. The existing nodes know no limit; what they say has a few hundred.
pub(super) const MAX_DATAGRAM: usize = 8 * 1024;
/// Bytes of a value, as JSON.
pub(super) const MAX_VALUE: usize = 4 * 1024;
/// Nodes in an answer.
pub(super) const MAX_NODES: usize = 20;
/// Bytes of the token by which an answer is known. The existing nodes use 8.
const MAX_RPC: usize = 32;

/// A node that another names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) id: Id,
    pub(super) addr: SocketAddrV4,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// Who says it, as he says.
    pub(super) from: Option<Id>,
    /// What an answer repeats.
    pub(super) rpc: Option<String>,
    pub(super) body: Body,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Ping,
    Pong,
    /// The value is any JSON.
    Store {
        key: Id,
        value: Value,
    },
    FindNode {
        target: Id,
    },
    FoundNode {
        nodes: Vec<Contact>,
    },
    FindValue {
        key: Id,
    },
    FoundValue {
        value: Value,
    },
}

impl Message {
    /// Reads a datagram; `None` if it is none of these messages. Unknown members are passed over.
    pub(super) fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > MAX_DATAGRAM || datagram.first() != Some(&b'{') {
            return None;
        }
        let object: Value = serde_json::from_slice(datagram).ok()?;
        let id = |name: &str| object.get(name)?.as_str().and_then(parse_id);
        let rpc = match object.get("rpcId") {
            None | Some(Value::Null) => None,
            Some(Value::String(rpc)) if rpc.len() <= MAX_RPC => Some(rpc.clone()),
            Some(_) => return None,
        };
        let value = || object.get("value").filter(|value| !value.is_null()).cloned();
        let body = match object.get("type")?.as_u64()? {
            1 => Body::Ping,
            2 => Body::Pong,
            3 => Body::Store { key: id("key")?, value: value()? },
            4 => Body::FindNode { target: id("target")? },
            5 => {
                let listed = object.get("nodes")?.as_array()?;
                // One that cannot be dialled does not spoil the others: JavaScript nodes name some without a port.
                Body::FoundNode { nodes: listed.iter().take(MAX_NODES).filter_map(contact).collect() }
            }
            6 => Body::FindValue { key: id("key")? },
            7 => Body::FoundValue { value: value()? },
            _ => return None,
        };
        Some(Self { from: id("from"), rpc, body })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut object = match &self.body {
            Body::Ping => json!({"type": 1}),
            Body::Pong => json!({"type": 2}),
            Body::Store { key, value } => json!({"type": 3, "key": hex(key), "value": value}),
            Body::FindNode { target } => json!({"type": 4, "target": hex(target)}),
            Body::FoundNode { nodes } => {
                let node = |Contact { id, addr }: &Contact| json!({"id": hex(id), "ip": addr.ip().to_string(), "port": addr.port()});
                json!({"type": 5, "nodes": nodes.iter().map(node).collect::<Vec<_>>()})
            }
            Body::FindValue { key } => json!({"type": 6, "key": hex(key)}),
            Body::FoundValue { value } => json!({"type": 7, "value": value}),
        };
        if let Some(from) = &self.from {
            object["from"] = hex(from).into();
        }
        if let Some(rpc) = &self.rpc {
            object["rpcId"] = rpc.as_str().into();
        }
        object.to_string().into_bytes()
    }
}

fn contact(node: &Value) -> Option<Contact> {
    let id = parse_id(node.get("id")?.as_str()?)?;
    let ip: Ipv4Addr = node.get("ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(node.get("port")?.as_u64()?).ok().filter(|port| *port != 0)?;
    Some(Contact { id, addr: SocketAddrV4::new(ip, port) })
}

fn parse_id(text: &str) -> Option<Id> {
    if text.len() != 40 {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_existing_nodes_are_read_and_ours_are_read_back() {
        let id = "e3f03f52612aadacbcbc96c9ea08aa1835740dd7";
        // As Python writes them, with spaces, and JavaScript, without.
        for text in [
            format!(r#"{{"type": 1, "from": "{id}", "rpcId": "0a0b0c0d"}}"#),
            format!(r#"{{"type":3,"from":"{id}","key":"{id}","value":"x"}}"#),
            format!(r#"{{"type": 4, "from": "{id}", "target": "{id}", "rpcId": "0a0b0c0d"}}"#),
            format!(r#"{{"type":5,"nodes":[{{"id":"{id}","ip":"1.2.3.4","port":5}}],"rpcId":"0a"}}"#),
            format!(r#"{{"type":7,"from":"{id}","value":{{"ip":null,"port":[1,2]}},"rpcId":"0a"}}"#),
        ] {
            let message = Message::decode(text.as_bytes()).unwrap();
            assert_eq!(Message::decode(&message.encode()), Some(message), "{text}");
        }
        let nodes = format!(r#"{{"type":5,"nodes":[{{"id":"{id}"}},{{"id":"{id}","ip":"1.2.3.4","port":0}},7]}}"#);
        let body = Body::FoundNode { nodes: Vec::new() };
        assert_eq!(Message::decode(nodes.as_bytes()), Some(Message { from: None, rpc: None, body }));
    }

    #[test]
    fn what_kills_a_javascript_node_is_dropped() {
        let deep = format!("{{\"type\":1,\"x\":{}}}", "[".repeat(4000));
        let long = format!("{{\"type\":1,\"x\":\"{}\"}}", "x".repeat(MAX_DATAGRAM));
        for text in [
            r#"{"type":4}"#,
            r#"{"type":6}"#,
            r#"{"from":5}"#,
            r#"{"type":6,"key":"zz"}"#,
            r#"{"type":1,"rpcId":{}}"#,
            r#"{"type":"1"}"#,
            r#"{"type":99}"#,
            "[1]",
            "",
            "{",
            deep.as_str(),
            long.as_str(),
        ] {
            assert_eq!(Message::decode(text.as_bytes()), None, "{text}");
        }
    }
}
