//! What a service of multicast DNS says (SPEC 10.3).

use std::net::SocketAddr;

use crypto::topic::{NONCE, TAG, beacon_tag, same_tag};
use data_encoding::HEXLOWER;

use super::Reach;
use crate::TopicId;

/// A service of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    nonce: [u8; NONCE],
    tag: [u8; TAG],
    /// A few of those that may be dialled; there is one at least.
    pub(crate) addrs: Vec<SocketAddr>,
}

impl Heard {
    /// Reads the name of an instance and its text record `t`, in hexadecimal digits both; `None` if it is none of ours or says of
    /// no address as far as `reach`.
    pub(crate) fn read(
        name: &str,
        tag: &str,
        addrs: impl IntoIterator<Item = SocketAddr>,
        reach: Reach,
    ) -> Option<Self> {
        let nonce = HEXLOWER.decode(name.as_bytes()).ok()?.try_into().ok()?;
        let tag = HEXLOWER.decode(tag.as_bytes()).ok()?.try_into().ok()?;
        let usable = |addr: &SocketAddr| addr.port() != 0 && Reach::of(addr.ip()) == Some(reach);
        let mut addrs: Vec<SocketAddr> = addrs.into_iter().filter(usable).collect();
        addrs.sort_unstable();
        addrs.truncate(MAX_ADDRS);
        (!addrs.is_empty()).then_some(Self { nonce, tag, addrs })
    }

    /// Whether it names this topic, in this hour or the one before or behind it.
    pub(crate) fn is_for(&self, topic: TopicId, hour: u64) -> bool {
        let hours = [hour, hour.saturating_sub(1), hour.saturating_add(1)];
        hours.iter().any(|hour| same_tag(&beacon_tag(topic.as_bytes(), *hour, &self.nonce), &self.tag))
    }
}

/// Addresses of one service that are tried.
const MAX_ADDRS: usize = 4;
