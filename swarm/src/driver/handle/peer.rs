//! The handle of a peer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "v12")]
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::driver::command::Command;
use crate::driver::conn::{Conn, Gone, Task};
use crate::driver::messages::{Datagrams, Messages};
use crate::driver::pipe::Pipe;
use crate::driver::request::Request;
use crate::driver::shared::Shared;
use crate::driver::stream::Stream;
use crate::nat::Way;
use crate::node::naming::Protocol;
use crate::{OpenError, PeerId, PeerInfo, Security, SendError};

/// A peer, connected or not. Cheap to clone.
///
/// Messages of one task to one peer leave in the order of the calls.
#[derive(Clone)]
pub struct Peer {
    id: PeerId,
    wire: Wire,
}

/// By what a peer is reached.
#[derive(Clone)]
enum Wire {
    Native {
        shared: Arc<Shared>,
        /// The session that was open when the handle was made.
        conn: Option<Arc<Conn>>,
    },
    #[cfg(feature = "v12")]
    V12(crate::v12::Peer),
}

impl Peer {
    pub(crate) const fn native(shared: Arc<Shared>, id: PeerId, conn: Option<Arc<Conn>>) -> Self {
        Self { id, wire: Wire::Native { shared, conn } }
    }

    #[cfg(feature = "v12")]
    pub(crate) fn v12(peer: crate::v12::Peer) -> Self {
        Self { id: peer.id(), wire: Wire::V12(peer) }
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// How the link to it is protected, which says which wire it is on.
    #[must_use]
    pub const fn security(&self) -> Security {
        match &self.wire {
            Wire::Native { .. } => Security::Native,
            #[cfg(feature = "v12")]
            Wire::V12(_) => Security::LegacyV12,
        }
    }

    /// The session that is open now.
    fn conn(&self) -> Result<Arc<Conn>, SendError> {
        match &self.wire {
            Wire::Native { shared, conn } => {
                let known = conn.as_ref().filter(|conn| !conn.is_closed()).cloned();
                known.or_else(|| shared.conn(&self.id)).ok_or_else(|| shared.unreachable(self.id))
            }
            #[cfg(feature = "v12")]
            Wire::V12(_) => Err(SendError::NotConnected { peer: self.id }),
        }
    }

    /// Sends a message, whole and in order, and waits while there is no room for it: while the peer, or the network to
    /// it, takes no more. `Ok` means that it will leave in its turn if the peer stays connected, not that it arrived.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`], [`SendError::TooLarge`] (above 1 MiB; on the v12 wire above 65,474 bytes) or
    /// [`SendError::Closed`]. Nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the whole message or nothing.
    pub async fn send(&self, data: impl AsRef<[u8]>) -> Result<(), SendError> {
        let data = data.as_ref();
        match &self.wire {
            // The session that the handle was made with, without a look at the list of all.
            Wire::Native { conn: Some(conn), .. } => match conn.try_send(data) {
                Ok(()) => Ok(()),
                Err(SendError::Full | SendError::NotConnected { .. }) => self.conn()?.send(data).await,
                Err(error) => Err(error),
            },
            Wire::Native { .. } => self.conn()?.send(data).await,
            #[cfg(feature = "v12")]
            Wire::V12(peer) => peer.send(Bytes::copy_from_slice(data)).await,
        }
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there is no room, else as those of [`send`](Self::send). Nothing was sent then.
    pub fn try_send(&self, data: impl AsRef<[u8]>) -> Result<(), SendError> {
        let data = data.as_ref();
        match &self.wire {
            Wire::Native { .. } => self.conn()?.try_send(data),
            #[cfg(feature = "v12")]
            Wire::V12(peer) => peer.try_send(Bytes::copy_from_slice(data)),
        }
    }

    /// Sends a datagram: once, in one packet, which may be lost. Waits while many wait to leave.
    ///
    /// # Errors
    ///
    /// As those of [`send`](Self::send); [`SendError::TooLarge`] is for what no packet carries: always for more than both sides
    /// ever take, some 9,000 bytes, and for what the path was found not to take, which is looked at again every five seconds:
    /// about 1,150 bytes at first, 1,400 on most networks once their MTU is known. One that was accepted before and turns out
    /// too large for its path is dropped and counted, as on the network. On the v12 wire it is sent as a message.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the datagram or not.
    pub async fn send_datagram(&self, data: impl AsRef<[u8]>) -> Result<(), SendError> {
        let data = data.as_ref();
        match &self.wire {
            Wire::Native { .. } => self.conn()?.send_datagram(data).await,
            #[cfg(feature = "v12")]
            Wire::V12(peer) => peer.send(Bytes::copy_from_slice(data)).await,
        }
    }

    /// Sends a datagram if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there is no room, else as those of [`send_datagram`](Self::send_datagram).
    pub fn try_send_datagram(&self, data: impl AsRef<[u8]>) -> Result<(), SendError> {
        let data = data.as_ref();
        match &self.wire {
            Wire::Native { .. } => self.conn()?.try_send_datagram(data),
            #[cfg(feature = "v12")]
            Wire::V12(peer) => peer.try_send(Bytes::copy_from_slice(data)),
        }
    }

    /// The messages of this peer for one reader, instead of among the events: for many of them, or to make this peer
    /// alone wait while they are not read. `None` if somebody has them, or the peer has no native session.
    #[must_use]
    pub fn messages(&self) -> Option<Messages> {
        Messages::claim(self.conn().ok()?)
    }

    /// The datagrams of this peer. `None` if somebody has them, or the peer has no native session.
    #[must_use]
    pub fn datagrams(&self) -> Option<Datagrams> {
        Datagrams::claim(self.conn().ok()?)
    }

    /// Opens a stream for a protocol. Waits while the peer allows no more. If it turns out not to support the protocol,
    /// reading and writing fail with [`StreamError::Unsupported`](crate::StreamError::Unsupported).
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves no stream open.
    pub async fn open_stream(&self, protocol: Protocol) -> Result<Stream, OpenError> {
        let conn = self.conn().map_err(|error| match error {
            SendError::Closed => OpenError::Closed,
            _ => OpenError::NotConnected,
        })?;
        let (pipe, mut head) = (Arc::new(Pipe::default()), Vec::new());
        protocol.write(&mut head);
        let (reply, answer) = oneshot::channel();
        let task = Task::Open { head, pipe, reply };
        conn.push(task).map_err(|gone| match gone {
            Gone::Closed => OpenError::Closed,
            Gone::Disconnected => OpenError::NotConnected,
        })?;
        answer.await.unwrap_or(Err(OpenError::Closed))
    }

    /// Asks the peer something and gets one answer. A peer that was connected before is dialled again if need be.
    pub fn request(&self, protocol: Protocol, body: impl AsRef<[u8]>) -> Request {
        match &self.wire {
            Wire::Native { shared, conn } => {
                Request::new(Arc::clone(shared), self.id, conn.clone(), protocol, body.as_ref())
            }
            #[cfg(feature = "v12")]
            Wire::V12(_) => Request::unsupported(self.id),
        }
    }

    /// What is known of the peer, or `None` if it is not connected.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn info(&self) -> Option<PeerInfo> {
        match &self.wire {
            Wire::Native { shared, .. } => {
                let peers = shared.ask(Command::Peers).await.unwrap_or_default();
                peers.into_iter().find(|info| info.id == self.id)
            }
            #[cfg(feature = "v12")]
            Wire::V12(peer) => peer.info().await,
        }
    }

    /// How the peer is reached now, and why not directly if it is not; `None` if it is not connected.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn path(&self) -> Option<Way> {
        self.info().await.map(|info| info.path)
    }

    /// Ends the session with the peer: says goodbye, after at most `grace` for what waits. Nothing happens if it is not
    /// connected.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has disconnected the peer or has not.
    pub async fn disconnect(&self, grace: Duration) {
        let peer = self.id;
        match &self.wire {
            // If the node has ended, so has the session.
            Wire::Native { shared, .. } => {
                let _ = shared.ask(|reply| Command::Disconnect { peer, grace, reply }).await;
            }
            #[cfg(feature = "v12")]
            Wire::V12(peer) => peer.disconnect().await,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.id.short())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

impl PartialEq for Peer {
    /// The same peer, of the same or another session.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Peer {}
