//! What all sessions of an endpoint have in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crypto::handshake::NetworkId;
use crypto::handshake::{InitPayload, RespPayload};
use crypto::{Cipher, Identity, PeerId, ResetKey};
use structs::Epoch;

use crate::Config;
use crate::mux::Limits;

/// Whom to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The holder of this key; whoever else answers is refused.
    Known(PeerId),
    /// Whoever answers at the address.
    Anyone,
}

impl Target {
    pub(crate) const fn id(self) -> Option<PeerId> {
        match self {
            Self::Known(id) => Some(id),
            Self::Anyone => None,
        }
    }
}

/// A change in which datagrams belong to a session, for whoever shares one socket among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteChange {
    /// Packets with this connection id are for this session.
    AddCid([u8; 8]),
    /// No longer.
    RemoveCid([u8; 8]),
    /// A datagram that ends with this ends this session: the other side lost its state.
    AddToken([u8; 16]),
    /// No longer.
    RemoveToken([u8; 16]),
}

/// The part of an endpoint that its sessions read.
pub(crate) struct Shared {
    pub(crate) identity: Arc<Identity>,
    pub(crate) config: Config,
    pub(crate) reset: ResetKey,
    pub(crate) epoch: Epoch,
    /// Those of every multiplexer.
    pub(crate) mux_limits: Arc<Limits>,
}

impl Shared {
    pub(crate) fn new(identity: Arc<Identity>, config: Config, epoch: Epoch) -> Self {
        let reset = ResetKey::new(&identity, NetworkId::new(config.network));
        let mux_limits = Arc::new(config.mux_limits().checked(config.protocols.len()));
        Self { identity, config, reset, epoch, mux_limits }
    }

    pub(crate) const fn network(&self) -> NetworkId {
        NetworkId::new(self.config.network)
    }

    /// What a stateless reset for a connection id of ours ends with (SPEC 9.8).
    pub(crate) fn reset_token(&self, cid: &[u8; 8]) -> [u8; 16] {
        self.reset.token(cid)
    }

    pub(crate) fn init_payload(&self, now: Instant) -> InitPayload {
        let since = self.epoch.unix_at(now);
        InitPayload {
            timestamp: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            versions: crypto::handshake::VERSIONS,
            capabilities: self.capabilities(),
            max_datagram: self.config.max_datagram,
        }
    }

    pub(crate) fn resp_payload(&self, observed: SocketAddr, cid: &[u8; 8]) -> RespPayload {
        RespPayload {
            versions: crypto::handshake::VERSIONS,
            capabilities: self.capabilities(),
            max_datagram: self.config.max_datagram,
            observed,
            reset_token: self.reset_token(cid),
        }
    }

    pub(crate) fn capabilities(&self) -> u64 {
        if self.config.aes && Cipher::Aes256Gcm.is_supported() { crypto::handshake::CAPABILITY_AES } else { 0 }
    }
}
