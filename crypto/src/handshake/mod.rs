//! The native handshakes: who is there, and keys that nobody else has.

mod secrets;

pub use secrets::SessionSecrets;

/// Kind, version, flags (2), connection id of the initiator (8), connection id of the responder (8).
pub type AnswerHeader = [u8; 20];
