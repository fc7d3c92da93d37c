//! The primitives behind the records on each implementation, so that tests and benches can compare them. Not an
//! interface: use [`record`](crate::record).

pub use crate::aead::{
    AeadKey, Backend, HeaderKey, KEY_LEN, MASK_LEN, NONCE_LEN, Refused, SAMPLE_LEN, TAG_LEN, XNONCE_LEN, xchacha,
};
