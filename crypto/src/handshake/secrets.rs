//! What a handshake leaves behind: the input of the record keys.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::AnswerHeader;

/// The two keys, the transcript hash and the context of a finished handshake: all that record keys are derived from.
///
/// Both ends hold the same values except for the [role](Self::is_initiator). Never shown by `Debug`, not `Clone`, and
/// wiped on drop. Hand it to the record layer and drop it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SessionSecrets {
    /// Key of the direction from the initiator to the responder.
    pub(crate) k_i: [u8; 32],
    /// Key of the direction from the responder to the initiator.
    pub(crate) k_r: [u8; 32],
    /// The Noise handshake hash: a fingerprint of everything that was said.
    pub(crate) hash: [u8; 32],
    /// The first 20 bytes of RESP, XX2 or RESP_R as they were on the wire.
    pub(crate) answer_header: AnswerHeader,
    /// Whether this end sent the first message.
    pub(crate) initiator: bool,
}

impl SessionSecrets {
    /// Puts the parts together. The handshakes of this crate do that; it is public for tests of what comes after them.
    pub const fn new(
        k_i: [u8; 32],
        k_r: [u8; 32],
        hash: [u8; 32],
        answer_header: AnswerHeader,
        initiator: bool,
    ) -> Self {
        Self { k_i, k_r, hash, answer_header, initiator }
    }

    /// The keys, for tests that compare them with another implementation.
    #[doc(hidden)]
    pub const fn keys(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.k_i, &self.k_r)
    }

    /// The Noise handshake hash. Not secret: two people may compare it to find out whether somebody sits between them.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The header of the answer, which carries both connection ids.
    pub const fn answer_header(&self) -> &AnswerHeader {
        &self.answer_header
    }

    /// Whether this end sent the first message.
    pub const fn is_initiator(&self) -> bool {
        self.initiator
    }
}

impl fmt::Debug for SessionSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSecrets").field("initiator", &self.initiator).finish_non_exhaustive()
    }
}
