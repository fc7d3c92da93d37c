//! ChaCha20-Poly1305 in pure Rust, by the RustCrypto crates.

use chacha20::cipher::{KeyIvInit, StreamCipherCore};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use zeroize::Zeroizing;

use super::{KEY_LEN, MASK_LEN, NONCE_LEN, Refused, SAMPLE_LEN, TAG_LEN};

/// Wipes itself on drop.
pub(super) struct Aead(ChaCha20Poly1305);

impl Aead {
    pub(super) fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    pub(super) fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], Refused> {
        self.0.encrypt_inout_detached(&nonce.into(), aad, text.into()).map(Into::into).or(Err(Refused))
    }

    pub(super) fn open<'a>(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Refused> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Refused)?;
        match self.0.decrypt_inout_detached(&nonce.into(), aad, (&mut *text).into(), (&*tag).into()) {
            Ok(()) => Ok(text),
            Err(_) => Err(Refused),
        }
    }
}

pub(super) struct Mask(Zeroizing<[u8; KEY_LEN]>);

impl Mask {
    pub(super) fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(*key))
    }

    pub(super) fn mask(&self, sample: &[u8; SAMPLE_LEN]) -> [u8; MASK_LEN] {
        let [c0, c1, c2, c3, nonce @ ..] = *sample;
        // The block function and not the stream cipher: that one refuses the last counter, which a sample may hold.
        let mut block = ChaChaCore::<R20, Ietf>::new((&*self.0).into(), &nonce.into());
        block.set_block_pos(u32::from_le_bytes([c0, c1, c2, c3]));
        let mut stream = Default::default();
        block.write_keystream_block(&mut stream);
        let [mask @ .., _, _, _] = *stream.first_chunk::<8>().unwrap_or(&[0; 8]);
        mask
    }
}
