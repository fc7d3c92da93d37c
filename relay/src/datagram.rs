//! Datagrams between an end of a circuit and its relay (SPEC 14.4): kind, circuit, and what they carry, sealed by the ends.

use std::fmt;

use framing::Kind;
use structs::Rejected;

use crate::limits::MAX_INNER;

/// Bytes in front of what a circuit carries: kind, circuit.
pub const HEADER_LEN: usize = 1 + CircuitId::LEN;

/// The name of a circuit between one end and the relay. The other end has another one.
///
/// Chosen at random by the relay, and known to the relay and this end alone (and to who listens between them).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitId(pub(crate) [u8; 8]);

impl CircuitId {
    /// Length in bytes.
    pub const LEN: usize = 8;

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who knows it can inject into the circuit from a forged address: enough of it for logs.
        let [a, b, ..] = self.0;
        write!(f, "CircuitId({a:02x}{b:02x}..)")
    }
}

/// What stands in front of a datagram of a circuit.
#[must_use]
pub(crate) fn header(kind: Kind, circuit: CircuitId) -> [u8; HEADER_LEN] {
    let mut header = [kind.byte(); HEADER_LEN];
    let [_, rest @ ..] = &mut header;
    *rest = circuit.0;
    header
}

/// Takes apart a datagram of this kind: the circuit, and what it carries.
pub(crate) fn split(kind: Kind, datagram: &[u8]) -> Result<(CircuitId, &[u8]), Rejected> {
    let (first, rest) = datagram.split_first().ok_or(Rejected::Empty)?;
    if *first != kind.byte() {
        return Err(Rejected::UnknownKind);
    }
    let (circuit, inner) = rest.split_first_chunk().ok_or(Rejected::Malformed)?;
    if inner.is_empty() {
        return Err(Rejected::Malformed);
    }
    if inner.len() > MAX_INNER {
        return Err(Rejected::TooLarge);
    }
    Ok((CircuitId(*circuit), inner))
}
