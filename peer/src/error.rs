//! What a peer can do wrong, and what a caller is told.

use std::fmt;

macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// How the other side broke the protocol. A session ends with one, and its code goes into CLOSE (SPEC 8.9).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Violation { $($(#[$doc])* $name,)* }

        impl Violation {
            /// The code that CLOSE carries.
            #[must_use]
            pub const fn code(self) -> u64 {
                match self { $(Self::$name => $code,)* }
            }

            /// In words, as metrics and logs name it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

violations! {
    /// A frame that makes no sense in this state: an acknowledgement of what was never sent, data of ours, a credit that shrinks.
    Protocol = 1, "protocol violation";
    /// More data than the credit allows, or a final size that changes.
    FlowControl = 2, "flow control violation";
    /// A stream beyond the announced number.
    StreamLimit = 3, "too many streams";
    /// A frame that does not decode.
    FrameEncoding = 4, "malformed frame";
    /// Too many frames for protocols that were not agreed.
    UnknownProtocol = 11, "too many frames of unknown protocols";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Violation {}
