//! Tokens that end a session whose state is lost.

use std::fmt;

use zeroize::Zeroizing;

use crate::Identity;
use crate::handshake::{NetworkId, mac};

/// What a node computes reset tokens with: the same after a restart, because it follows from the identity, so that a
/// node that forgot a session can still end it at the other side.
pub struct ResetKey(Zeroizing<[u8; 32]>);

impl ResetKey {
    /// The key of this node in this network.
    pub fn new(identity: &Identity, network: NetworkId) -> Self {
        Self(mac::key(&[b"setowire reset", identity.to_bytes().as_slice(), network.as_bytes()]))
    }

    /// The token of a connection id: told to the peer in the session, and to anyone only in the datagram that ends it.
    pub fn token(&self, cid: &[u8; 8]) -> [u8; 16] {
        mac::mac(self.0.as_slice(), cid)
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn the_same_for_a_node_and_an_id_and_different_otherwise() {
        let mut rng = Seed::fixed(1).rng();
        let (a, b) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
        let again = Identity::from_bytes(a.to_bytes().as_slice()).expect("its own bytes");
        let (one, other) = (NetworkId::default(), NetworkId::new([1; 32]));
        let token = ResetKey::new(&a, one).token(&[7; 8]);
        assert_eq!(token, ResetKey::new(&again, one).token(&[7; 8]));
        assert_ne!(token, ResetKey::new(&a, one).token(&[8; 8]));
        assert_ne!(token, ResetKey::new(&a, other).token(&[7; 8]));
        assert_ne!(token, ResetKey::new(&b, one).token(&[7; 8]));
    }
}
