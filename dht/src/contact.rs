//! A node and where it is: what answers are made of, and what is kept over a restart.

use std::fmt;
use std::net::SocketAddr;

use framing::{DecodeError, Reader, Writer, address};

use crate::limits;
use crate::subnet::is_usable;

/// The public X25519 key of a node, by which datagrams to it are sealed (`crypto::envelope`). It is no identity: most nodes
/// have a new one after every start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The id with these bytes. Any bytes will do: a key that agrees on nothing is found out when it is used.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "NodeId({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A node, and the address where it is said to be, or was found.
///
/// Its place in the key space follows from both: [`Subnets::key_of`](crate::Subnets::key_of).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contact {
    /// Its key.
    pub id: NodeId,
    /// Where it receives datagrams.
    pub addr: SocketAddr,
}

impl Contact {
    /// Length in bytes.
    pub const LEN: usize = NodeId::LEN + address::LEN;

    /// Reads a contact (SPEC 11.1): id 32, address 18.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], and [`DecodeError::BadAddress`] for an address that cannot be sent to.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = reader.clone();
        let contact = Self { id: NodeId(ahead.array()?), addr: address::decode(ahead.array()?) };
        if !is_usable(&contact.addr) {
            return Err(DecodeError::BadAddress);
        }
        *reader = ahead;
        Ok(contact)
    }

    /// Appends what [`decode`](Self::decode) reads.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put(&self.id.0);
        writer.put(&address::encode(self.addr));
    }
}

/// Contacts as bytes, to be kept over a restart: a version byte, then each in 50 bytes. Above
/// [`MAX_SAVED`](limits::MAX_SAVED) the rest is left out.
#[must_use]
pub fn save(contacts: &[Contact]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let mut writer = Writer::new(&mut bytes);
    contacts.iter().take(limits::MAX_SAVED).for_each(|contact| contact.encode(&mut writer));
    bytes
}

/// Reads what [`save`] wrote. They are candidates: nothing is known of them until they answer.
///
/// # Errors
/// [`DecodeError`] for another version, for more than [`MAX_SAVED`](limits::MAX_SAVED), and for anything that is not a row of
/// contacts.
pub fn load(bytes: &[u8]) -> Result<Vec<Contact>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => {}
        other => return Err(DecodeError::UnknownKind(other)),
    }
    let count = reader.len().div_ceil(Contact::LEN);
    if count > limits::MAX_SAVED {
        return Err(DecodeError::TooLong { len: count, max: limits::MAX_SAVED });
    }
    (0..count).map(|_| Contact::decode(&mut reader)).collect()
}

const VERSION: u8 = 1;
