//! How a stream says what it is for, and how a request is answered (SPEC 12).
//!
//! A stream of the protocols `setowire/stream` and `setowire/request` begins with the name of what the application
//! uses it for: one byte with its length, 1 to 64, and as many bytes. The rest is the application's. The body of a
//! request ends with the stream; the answer is one byte, 0, and the body of the answer.

use std::fmt;

/// What an application uses a stream or a request for: a name that both sides know, such as `echo/1`.
///
/// ```
/// use swarm::Protocol;
/// const ECHO: Protocol = Protocol::new("echo/1");
/// assert_eq!(ECHO.name(), "echo/1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(&'static str);

impl Protocol {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// A name of 1 to 64 bytes.
    ///
    /// # Panics
    ///
    /// If it has another length: while compiling, where it is a constant.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= Self::MAX_LEN, "a protocol has a name of 1 to 64 bytes");
        Self(name)
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Appends what a stream for it begins with.
    pub fn write(self, out: &mut Vec<u8>) {
        // At most 64.
        out.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol({})", self.0)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What the beginning of a stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// More bytes are needed.
    Incomplete,
    /// No name begins like this.
    Invalid,
    /// The name, and what follows it.
    Complete(&'a str, &'a [u8]),
}

impl<'a> Name<'a> {
    /// Reads what a stream begins with.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Self {
        let Some((&len, rest)) = bytes.split_first() else { return Self::Incomplete };
        let len = usize::from(len);
        if len == 0 || len > Protocol::MAX_LEN {
            return Self::Invalid;
        }
        let Some((name, rest)) = rest.split_at_checked(len) else { return Self::Incomplete };
        std::str::from_utf8(name).map_or(Self::Invalid, |name| Self::Complete(name, rest))
    }
}

/// The first byte of an answer.
pub const ANSWERED: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_what_follows_is_left() {
        let mut bytes = Vec::new();
        Protocol::new("echo/1").write(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(Name::read(&bytes[..len]), Name::Incomplete);
        }
        bytes.extend_from_slice(b"body");
        assert_eq!(Name::read(&bytes), Name::Complete("echo/1", b"body"));
    }

    #[test]
    fn what_is_no_name_is_refused_at_once() {
        assert_eq!(Name::read(&[0]), Name::Invalid);
        assert_eq!(Name::read(&[65]), Name::Invalid);
        assert_eq!(Name::read(&[2, 0xff, 0xfe]), Name::Invalid);
    }
}
