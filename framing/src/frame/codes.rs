//! Why a session or a stream ended (SPEC 8.9).

use std::fmt;

macro_rules! codes {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $code:ident = $value:literal, $text:literal;)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub u64);

        impl $name {
            $($(#[$doc])* pub const $code: Self = Self($value);)*

            /// The lowest code that means what the application says.
            pub const FIRST_APPLICATION: u64 = 0x100;

            /// The code of the application with this number, cut at 2^62 - 1.
            #[must_use]
            pub const fn application(number: u64) -> Self {
                let code = number.saturating_add(Self::FIRST_APPLICATION);
                Self(if code > crate::varint::MAX { crate::varint::MAX } else { code })
            }

            /// The number that the application gave it; `None` if it is a code of the protocol.
            #[must_use]
            pub const fn as_application(self) -> Option<u64> {
                self.0.checked_sub(Self::FIRST_APPLICATION)
            }
        }

        impl From<$name> for u64 {
            fn from(code: $name) -> Self {
                code.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$code => f.write_str($text),)*
                    Self(code) => write!(f, "code {code:#x}"),
                }
            }
        }
    };
}

codes! {
    /// Why a session ended, or takes no new streams.
    CloseCode {
        /// Nothing wrong.
        NONE = 0, "no error";
        /// A frame that makes no sense where it came.
        PROTOCOL_VIOLATION = 1, "protocol violation";
        /// More data than allowed.
        FLOW_CONTROL = 2, "flow control violation";
        /// More streams than allowed.
        STREAM_LIMIT = 3, "too many streams";
        /// A frame that does not decode.
        FRAME_ENCODING = 4, "malformed frame";
        /// The sender failed.
        INTERNAL = 5, "internal error";
        /// Nothing was heard for too long.
        IDLE = 6, "idle";
        /// The sender ends.
        SHUTDOWN = 7, "shutdown";
        /// Another session with the same peer stays.
        REPLACED = 8, "replaced";
        /// The keys were used for as long as they may be.
        KEY_LIMIT = 9, "key limit";
        /// No version in common.
        NO_COMMON_VERSION = 10, "no common version";
        /// Too many frames for protocols that the sender lacks.
        TOO_MANY_UNKNOWN = 11, "too many frames of unknown protocols";
    }
}

codes! {
    /// Why a stream ended early.
    StreamCode {
        /// It is not wanted any more.
        CANCELLED = 0, "cancelled";
        /// The receiver lacks the protocol.
        UNKNOWN_PROTOCOL = 1, "unknown protocol";
        /// A message above the maximum.
        TOO_LARGE = 2, "message too large";
        /// The receiver takes no such stream now.
        REFUSED = 3, "refused";
        /// The protocol on the stream failed.
        FAILED = 4, "failed";
        /// The application declined.
        REJECTED = 5, "rejected";
    }
}
