//! Integers of one, two, four or eight bytes: RFC 9000 section 16 (SPEC 5.1).
//!
//! The two highest bits of the first byte say how many bytes there are. A longer form than needed is read, never written.

use crate::{DecodeError, EncodeError, PacketWriter, Reader, Writer};

/// The largest value: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// The longest form, in bytes.
pub const MAX_LEN: usize = 8;

/// How many bytes `value` takes. Values above [`MAX`] have no form; 8 is said for them too.
#[must_use]
#[inline]
pub const fn len(value: u64) -> usize {
    if value < 1 << 6 {
        1
    } else if value < 1 << 14 {
        2
    } else if value < 1 << 30 {
        4
    } else {
        8
    }
}

impl<'a> Reader<'a> {
    /// A variable-length integer, in any of its forms.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the form is longer than what is left.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = self.peek().ok_or(DecodeError::Truncated)?;
        match first >> 6 {
            0 => self.array::<1>().map(|[byte]| u64::from(byte)),
            1 => self.u16().map(|value| u64::from(value & 0x3fff)),
            2 => self.u32().map(|value| u64::from(value & 0x3fff_ffff)),
            _ => self.u64().map(|value| value & MAX),
        }
    }

    /// A variable-length integer that counts bytes, then as many bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the length is missing or promises more than is left.
    #[inline]
    pub fn long_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        // A length that no address space holds is longer than what is left.
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }
}

impl Writer<'_> {
    /// A variable-length integer in its shortest form.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] above 2^62 - 1; nothing was written then.
    pub fn varint(&mut self, value: u64) -> Result<(), EncodeError> {
        let mut space = [0; MAX_LEN];
        let mut packet = PacketWriter::new(&mut space);
        if !packet.varint(value) {
            return Err(EncodeError::OutOfRange);
        }
        self.put(packet.written());
        Ok(())
    }
}
