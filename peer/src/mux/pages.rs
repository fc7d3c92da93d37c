//! Bytes at absolute offsets, in pages.

/// The bytes of a page.
pub(super) const PAGE: usize = 1024;
