//! A client that writes its requests as they are meant to be on the wire.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::program::LIMIT;

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection with a request on it.
pub(crate) struct Asked(pub(crate) TcpStream);

impl Asked {
    /// Connects and writes.
    pub(crate) fn new(addr: SocketAddr, bytes: &[u8]) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream.write_all(bytes).unwrap();
        Self(stream)
    }

    /// The answer, once the connection is closed. None if there is none.
    pub(crate) fn answer(mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        // One that is refused before all was read may be reset after the answer.
        let _ = self.0.read_to_end(&mut bytes);
        parse(&bytes)
    }

    /// Reads until this has come, and the line that it is on.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let (mut bytes, mut part) = (Vec::new(), [0; 512]);
        loop {
            let len = self.0.read(&mut part).unwrap();
            bytes.extend_from_slice(&part[..len]);
            let read = String::from_utf8_lossy(&bytes).into_owned();
            if read.split_once(text).is_some_and(|(_, rest)| rest.contains('\n')) {
                return read;
            }
            assert_ne!(len, 0, "{text:?} in {read:?}");
        }
    }
}

/// A request whose connection ends with it.
pub(crate) fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A request and its answer.
pub(crate) fn ask(addr: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    Asked::new(addr, &request(method, path, body)).answer().unwrap()
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?.to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &bytes[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { chunks(rest) } else { rest.to_vec() };
    Some(Answer { status, head, body })
}

fn chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|part| part == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        if len == 0 {
            break;
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + len]);
        rest = &rest[at + 2 + len + 2..];
    }
    body
}
