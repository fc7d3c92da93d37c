//! What a caller of an endpoint is told.

use super::Handle;

/// Why a dial was not begun. Nothing was sent and nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The endpoint is closing or closed.
    #[error("the endpoint is closed")]
    Closed,
    /// It talks to as many peers as the configuration allows. Close one, or wait until one ends.
    #[error("the endpoint has as many peers as it may have")]
    Full,
    /// The key is our own.
    #[error("the key to dial is our own")]
    SelfDial,
    /// There is a session with this key: use it.
    #[error("there is a session with this key already")]
    AlreadyConnected(Handle),
}
