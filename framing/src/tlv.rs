//! Entries of a tag, a length and a value, which later versions can add to (SPEC 5.4).
//!
//! Tags ascend and do not repeat, so the same content has one form and a reader needs no memory of what it saw. What an older
//! reader does not know, a tag or fields behind the known ones of a value, is for its [`Rule`] to judge.

use crate::{DecodeError, EncodeError, Reader, Writer};

/// What is done about content that is not known.
///
/// Everything on the wire is read leniently. Strict reading is for what one writes oneself: it tells a typing error from an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rule {
    /// It is passed over.
    #[default]
    Lenient,
    /// It is an error.
    Strict,
}

impl Rule {
    /// To be called for a tag that is not known.
    ///
    /// # Errors
    /// [`DecodeError::UnknownTag`] if the rule is [`Strict`](Self::Strict).
    pub const fn unknown(self, tag: u64) -> Result<(), DecodeError> {
        match self {
            Self::Lenient => Ok(()),
            Self::Strict => Err(DecodeError::UnknownTag(tag)),
        }
    }

    /// To be called behind the last known field of a value.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] if something is left and the rule is [`Strict`](Self::Strict).
    pub const fn end(self, value: &Reader<'_>) -> Result<(), DecodeError> {
        match self {
            Self::Lenient => Ok(()),
            Self::Strict => value.finish(),
        }
    }
}

/// The entries of a body: tag and value. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    reader: Reader<'a>,
    /// The lowest tag that may follow.
    next: u64,
}

impl<'a> Entries<'a> {
    /// Reads a body.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body), next: 0 }
    }

    /// The value with this tag; `None` also if the body is malformed before it.
    #[must_use]
    pub fn find(mut self, wanted: u64) -> Option<&'a [u8]> {
        self.find_map(|entry| match entry {
            Ok((tag, value)) if tag == wanted => Some(value),
            _ => None,
        })
    }

    fn entry(&mut self) -> Result<(u64, &'a [u8]), DecodeError> {
        let tag = self.reader.varint()?;
        if tag < self.next {
            return Err(DecodeError::BadOrder);
        }
        self.next = tag.saturating_add(1);
        Ok((tag, self.reader.long_bytes()?))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(u64, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.reader.rest();
        }
        Some(entry)
    }
}

/// Appends one entry. Tags have to ascend.
///
/// # Errors
/// [`EncodeError::OutOfRange`] for a tag above 2^62 - 1; nothing was written then.
pub fn put(tag: u64, value: &[u8], writer: &mut Writer<'_>) -> Result<(), EncodeError> {
    writer.varint(tag)?;
    writer.varint(value.len() as u64)?;
    writer.put(value);
    Ok(())
}
