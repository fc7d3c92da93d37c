//! Why a relay refuses, and why a circuit ends.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The reason in words, for logs and for people.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* _ => "another reason" }
            }
        }
    };
}

/// A reason, as it goes over the wire (SPEC 14.5). Unknown ones are taken for what they are: an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u8);

codes! {
    /// The other end has no need of it any more.
    NONE = 0x00, "it is not needed any more";
    /// The node does not relay.
    NOT_RELAYING = 0x01, "the node does not relay";
    /// All places, or all circuits, are taken.
    FULL = 0x02, "the relay is full";
    /// Too many come from the same address or network.
    SHARE = 0x03, "too many come from the same network";
    /// One of the ends has as many circuits as one peer may have.
    TOO_MANY = 0x04, "too many circuits of one peer";
    /// The peer has no reservation here.
    NOT_HERE = 0x05, "the peer has no reservation at this relay";
    /// A circuit to oneself.
    SELF = 0x06, "a circuit to oneself";
    /// The peer does not want it.
    REFUSED = 0x07, "the peer refused it";
    /// The session of the other end with the relay is over.
    GONE = 0x08, "the peer has left the relay";
    /// Nothing was carried for 10 minutes.
    IDLE = 0x09, "it was idle";
    /// It has carried as many bytes as the relay allows.
    BYTES = 0x0a, "it has carried as many bytes as the relay allows";
    /// It has lasted as long as the relay allows.
    TIME = 0x0b, "it has lasted as long as the relay allows";
    /// The relay ends.
    SHUTDOWN = 0x0c, "the relay ends";
    /// Too many requests, or messages that nobody reads.
    BUSY = 0x0d, "too many requests";
    /// Another circuit of the same peer takes its place.
    REPLACED = 0x0e, "a newer circuit has replaced it";
    /// The relay did not answer. Never sent.
    SILENT = 0x80, "the relay did not answer";
    /// There is no session with the relay. Never sent.
    UNREACHABLE = 0x81, "the relay could not be reached";
    /// A circuit is open, and the peer does not answer there. Never sent.
    NO_ANSWER = 0x82, "the peer did not answer through it";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
