//! Hexadecimal text: written in lower case, read in either.

use std::fmt;

use data_encoding::{DecodeKind, HEXLOWER_PERMISSIVE};

/// Decodes exactly `2 * N` characters. `Err` is the byte position of the first bad one, or the end of a text that has
/// another length.
pub(super) fn decode<const N: usize>(text: &[u8]) -> Result<[u8; N], usize> {
    let mut out = [0; N];
    if text.len() != 2 * N {
        return Err(text.len());
    }
    // With the right length, the only thing left to be wrong is a symbol.
    HEXLOWER_PERMISSIVE.decode_mut(text, &mut out).map_err(|partial| partial.error.position)?;
    Ok(out)
}

/// Decodes a text of any even length. `Err` is `None` for an odd length, else the byte position of the bad character.
pub(super) fn decode_vec(text: &[u8]) -> Result<Vec<u8>, Option<usize>> {
    HEXLOWER_PERMISSIVE.decode(text).map_err(|error| match error.kind {
        DecodeKind::Length => None,
        _ => Some(error.position),
    })
}

/// Writes `bytes` as lower-case digits.
pub(super) fn write(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
