//! The handle of the distributed hash table.

use std::fmt;
use std::sync::Arc;

use ::dht::{Item, Key, Wanted, item};
use bytes::Bytes;

use crate::driver::command::Command;
use crate::driver::hash_table::Value;
use crate::driver::shared::Shared;
use crate::node::TableStats;
use crate::{Closed, GetError, PeerId, PutError};

/// The distributed hash table: small values that other nodes keep. From [`Swarm::dht`](crate::Swarm::dht); cheap to clone.
///
/// Values are public: whoever knows their key can read them, and those who keep them can in any case. They hold for a day
/// and are put again while this node runs, until they are [withdrawn](Self::withdraw). 128 of them are kept alive so, and
/// eight calls run at a time; further callers wait.
#[derive(Clone)]
pub struct Dht {
    shared: Arc<Shared>,
}

/// Where a value is, and how many nodes keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The key.
    pub key: Key,
    /// Nodes that keep it.
    pub nodes: u32,
}

/// A value that its signer can change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mutable {
    /// Who signed it.
    pub signer: PeerId,
    /// Its number: the highest counts.
    pub sequence: u64,
    /// The content.
    pub value: Bytes,
}

impl Dht {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The key under which a value would be put.
    #[must_use]
    pub fn key_of(value: &[u8]) -> Key {
        item::value_key(value)
    }

    /// Looks for the value with this key, which is its hash. `None` if none of the nodes that were asked has it.
    ///
    /// # Errors
    ///
    /// [`GetError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped ends the search.
    pub async fn get_immutable(&self, key: Key) -> Result<Option<Bytes>, GetError> {
        match self.get(Wanted::Value(key)).await? {
            Some(Item::Value(value)) => Ok(Some(Bytes::copy_from_slice(&value))),
            _ => Ok(None),
        }
    }

    /// Puts a value of at most 1000 bytes where others find it by its key.
    ///
    /// # Errors
    ///
    /// [`PutError`]; the value is not put then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped may have put the value, which is kept alive then.
    pub async fn put_immutable(&self, value: impl AsRef<[u8]>) -> Result<Stored, PutError> {
        self.put(Value::Immutable(value.as_ref().into())).await
    }

    /// Looks for the newest value that a peer has signed with this salt. `None` if none of the nodes that were asked has
    /// one.
    ///
    /// # Errors
    ///
    /// [`GetError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped ends the search.
    pub async fn get_mutable(&self, signer: PeerId, salt: impl AsRef<[u8]>) -> Result<Option<Mutable>, GetError> {
        let key = signer.try_into().map_err(|_not_a_key| GetError::BadKey { signer })?;
        match self.get(Wanted::Signed { signer: key, salt: salt.as_ref().into() }).await? {
            Some(Item::Signed(found)) => {
                let value = Bytes::copy_from_slice(found.value());
                Ok(Some(Mutable { signer, sequence: found.sequence(), value }))
            }
            _ => Ok(None),
        }
    }

    /// Signs a value with the identity of this node and puts it in the place of the one with a lower `sequence`. `salt`, at
    /// most 64 bytes, tells several values of one node apart; with the value it has at most 1000 bytes.
    ///
    /// # Errors
    ///
    /// [`PutError`]; the value is not put then. [`PutError::Refused`] says when there is one with the same or a higher
    /// sequence.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped may have put the value, which is kept alive then.
    pub async fn put_mutable(
        &self,
        salt: impl AsRef<[u8]>,
        sequence: u64,
        value: impl AsRef<[u8]>,
    ) -> Result<Stored, PutError> {
        let (salt, value) = (salt.as_ref().to_vec(), value.as_ref().to_vec());
        self.put(Value::Mutable { salt, sequence, value }).await
    }

    /// Keeps a value alive no longer: it is there for a day at most. Returns whether this node put it.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has withdrawn the value or has not.
    pub async fn withdraw(&self, key: Key) -> bool {
        self.shared.ask(|reply| Command::TableWithdraw(key, reply)).await.unwrap_or(false)
    }

    /// Figures; `None` if this node does not take part.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn stats(&self) -> Result<Option<TableStats>, Closed> {
        self.shared.ask(Command::TableStats).await
    }

    async fn get(&self, wanted: Wanted) -> Result<Option<Item>, GetError> {
        let permit = Arc::clone(&self.shared.queries).acquire_owned().await.map_err(|_closed| GetError::Closed)?;
        let answer = self.shared.ask(|reply| Command::TableGet { wanted, permit, reply }).await;
        answer.unwrap_or(Err(GetError::Closed))
    }

    async fn put(&self, value: Value) -> Result<Stored, PutError> {
        let permit = Arc::clone(&self.shared.queries).acquire_owned().await.map_err(|_closed| PutError::Closed)?;
        let answer = self.shared.ask(|reply| Command::TablePut { value, permit, reply }).await;
        answer.unwrap_or(Err(PutError::Closed)).map(|(key, nodes)| Stored { key, nodes })
    }
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht").field("node", &self.shared.id.short()).finish_non_exhaustive()
    }
}
