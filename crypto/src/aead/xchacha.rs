//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): ChaCha20-Poly1305 with a nonce long enough to be random.

use chacha20::{R20, hchacha};
use zeroize::Zeroizing;

use super::{AeadKey, Backend, Cipher, KEY_LEN, Refused};

/// Length of a nonce, in bytes.
pub const XNONCE_LEN: usize = 24;

/// The key and the nonce under which ChaCha20-Poly1305 is XChaCha20-Poly1305: the first 16 bytes of the nonce go into
/// the key, the other 8 behind four zeros.
///
/// # Errors
///
/// [`Refused`] if the implementation lacks ChaCha20-Poly1305, which none does.
pub fn xchacha(
    backend: Backend,
    key: &[u8; KEY_LEN],
    nonce: &[u8; XNONCE_LEN],
) -> Result<(AeadKey, [u8; 12]), Refused> {
    let [head @ .., n0, n1, n2, n3, n4, n5, n6, n7] = *nonce;
    let subkey: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(hchacha::<R20>(key.into(), &head.into()).into());
    let key = AeadKey::new(backend, Cipher::ChaCha20Poly1305, &subkey).or(Err(Refused))?;
    Ok((key, [0, 0, 0, 0, n0, n1, n2, n3, n4, n5, n6, n7]))
}
