//! What existing nodes say of themselves at web servers: JSON without a proof of anything (SPEC 4.12).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use serde_json::Value;

use crate::discovery::Reach;
use crate::driver::source::Span;

/// What one says who posts where those in a topic meet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// 40 hexadecimal digits.
    pub(crate) id: String,
    /// Where it may be dialled: one address at least, two at most.
    pub(crate) addrs: Vec<SocketAddr>,
}

/// Reads what one says at a piping server; `None` if it is no node that may be dialled, or `own`.
pub(crate) fn met(body: &[u8], own: &str, span: Span) -> Option<Said> {
    let said: Value = serde_json::from_slice(body).ok()?;
    let id = said.get("id")?.as_str()?;
    let is_id = id.len() == 40 && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id || id == own {
        return None;
    }
    let addrs = [addr_of(&said, "ip", "port"), addr_of(&said, "lip", "lport")];
    let mut addrs: Vec<SocketAddr> = addrs.into_iter().flatten().filter(|addr| span.has(addr)).collect();
    addrs.dedup();
    (!addrs.is_empty()).then(|| Said { id: id.to_owned(), addrs })
}

/// Reads the list of a bootstrap server, without `own`: where others may be dialled. `None` if it is no list.
pub(crate) fn listed(answer: &[u8], own: &str, span: Span) -> Option<Vec<SocketAddr>> {
    let listed = serde_json::from_slice::<Vec<Value>>(answer).ok()?;
    let dialable = |entry: &Value| {
        let is_us = entry.get("id").and_then(Value::as_str).is_some_and(|id| id == own);
        addr_of(entry, "ip", "port").filter(|addr| span.has(addr) && !is_us)
    };
    Some(listed.iter().take(MAX_LISTED).filter_map(dialable).collect())
}

/// A literal IPv4 address: others would have us look up names of their choice.
fn addr_of(entry: &Value, ip: &str, port: &str) -> Option<SocketAddr> {
    let ip: Ipv4Addr = entry.get(ip)?.as_str()?.parse().ok()?;
    let port = u16::try_from(entry.get(port)?.as_u64()?).ok().filter(|port| *port != 0)?;
    Reach::of(IpAddr::V4(ip))?;
    Some(SocketAddrV4::new(ip, port).into())
}

/// Entries of one list that are looked at.
const MAX_LISTED: usize = 256;
