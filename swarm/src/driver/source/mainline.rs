//! The BitTorrent Mainline DHT as a source (SPEC 13).
//!
//! Topics are announced and looked up as torrents are (BEP 5), under names that only those can compute who know the topic.
//! Our signed record is a mutable item (BEP 44) of our own key, so that who knows our id finds it. The crate `mainline`
//! runs the protocol on a thread and a socket of its own.
//!
//! Everything that comes from there is a stranger's word: an address found may be anybody's, a record counts by its
//! signature.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crypto::topic::{mainline_key, mainline_nodes_key};
use crypto::{Context, Identity};
use framing::record::SignedRecord;
use framing::voucher::Voucher;
use futures_core::Stream;
use mainline::async_dht::AsyncDht;
use mainline::errors::{PutMutableError, PutQueryError};
use mainline::{Dht, Id, MutableItem};
use relay::client::Named;
use tokio::sync::Mutex;

use super::{Found, Outcome, Pace, Source, Us};
use crate::discovery::{self, SourceError, Task};
use crate::reach::Reach;
use crate::{PeerId, clock};

/// Settings of the BitTorrent Mainline DHT as a way to find peers and to be found.
///
/// What it does, while the node runs: it contacts the bootstrap nodes, and through them strangers all over the internet,
/// from a UDP socket of its own (IPv4 only). It tells them, for each topic that is announced, the port of this node under
/// a name that follows from the topic and the day; and, unless [`record`](Self::record) says otherwise, the signed
/// addresses of this node under its id. A node that takes part in the distributed hash table of this project
/// (`Builder::dht`) also looks there for others of that while it knows few, and says that it is one if there is no NAT before
/// it. So whoever knows the topic, or the id, learns the address of this machine. Who
/// stores it learns the address, not the topic, unless its name can be guessed.
#[derive(Debug, Clone)]
pub struct Mainline {
    bootstrap: Vec<String>,
    port: u16,
    record: bool,
}

impl Default for Mainline {
    fn default() -> Self {
        Self { bootstrap: Self::BOOTSTRAP.map(str::to_owned).to_vec(), port: 0, record: true }
    }
}

impl Mainline {
    /// The public nodes that are contacted first, if no others are named.
    pub const BOOTSTRAP: [&'static str; 4] = [
        "router.bittorrent.com:6881",
        "dht.transmissionbt.com:6881",
        "dht.libtorrent.org:25401",
        "relay.pkarr.org:6881",
    ];

    /// The nodes to contact first, as `host:port`, instead of [`BOOTSTRAP`](Self::BOOTSTRAP); the first 16 of them.
    #[must_use]
    pub fn bootstrap<T: Into<String>>(mut self, nodes: impl IntoIterator<Item = T>) -> Self {
        self.bootstrap = nodes.into_iter().take(MAX_BOOTSTRAP).map(Into::into).collect();
        self
    }

    /// The UDP port of its socket. Default: one of the system's choice.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Whether this node can be found by its id. Default: yes.
    #[must_use]
    pub const fn record(mut self, publish: bool) -> Self {
        self.record = publish;
        self
    }
}

/// The source.
pub(crate) struct MainlineSource {
    settings: Mainline,
    identity: Arc<Identity>,
    network: [u8; 32],
    /// Where its socket is bound: at our own IPv4 address, so that others see the two at one.
    bind: Ipv4Addr,
    /// The narrowest addresses that are contacted or taken: those of this machine only if all of it is on this machine.
    reach: Reach,
    /// Started by the first attempt, and anew by the next one after it broke.
    dht: Mutex<Option<AsyncDht>>,
    /// Its thread may be gone, and nothing must be asked of it.
    broken: AtomicBool,
}

impl MainlineSource {
    /// `bind` is the IPv4 address of the node, and `reach` the one kind of addresses that may be contacted.
    pub(crate) fn new(
        settings: Mainline,
        identity: Arc<Identity>,
        network: [u8; 32],
        bind: Ipv4Addr,
        reach: Reach,
    ) -> Self {
        Self { settings, identity, network, bind, reach, dht: Mutex::new(None), broken: AtomicBool::new(false) }
    }

    /// The node of the DHT, started if need be.
    async fn dht(&self) -> Result<AsyncDht, SourceError> {
        let mut running = self.dht.lock().await;
        if self.broken.swap(false, Ordering::Relaxed) {
            *running = None;
        }
        if let Some(dht) = &*running {
            return Ok(dht.clone());
        }
        let mut config = Dht::builder();
        // The names are looked up here: the crate would do it once, on its thread, and go without those that fail.
        config.bootstrap(&self.bootstrap().await?).port(self.settings.port).bind_address(self.bind);
        let started =
            tokio::task::spawn_blocking(move || config.build()).await.map_err(|_panicked| SourceError::Broken)?;
        let dht = started.map_err(|error| SourceError::Io { kind: error.kind() })?.as_async();
        Ok(running.insert(dht).clone())
    }

    async fn bootstrap(&self) -> Result<Vec<SocketAddrV4>, SourceError> {
        let (mut addrs, mut error) = (Vec::new(), SourceError::NobodyAnswered);
        for host in &self.settings.bootstrap {
            match tokio::net::lookup_host(host).await {
                Ok(found) => addrs.extend(found.filter_map(|addr| match addr {
                    SocketAddr::V4(addr) => Some(addr),
                    SocketAddr::V6(_) => None,
                })),
                Err(failed) => error = SourceError::Unresolved { host: host.clone(), kind: failed.kind() },
            }
        }
        addrs.retain(|addr| self.is_usable(*addr));
        addrs.truncate(MAX_BOOTSTRAP * 2);
        if addrs.is_empty() { Err(error) } else { Ok(addrs) }
    }

    fn is_usable(&self, addr: SocketAddrV4) -> bool {
        addr.port() != 0 && Reach::of(IpAddr::V4(*addr.ip())) == Some(self.reach)
    }

    async fn announce(&self, key: [u8; 20], us: &Us) -> Result<(), SourceError> {
        if us.port == 0 {
            return Err(SourceError::NoAddress);
        }
        let (dht, key) = (self.dht().await?, Id::from(key));
        // The crate looks for the nodes to tell in another way than for peers, and answers one search by the other if both
        // look for the same: peers then are not found. Whom this search finds is told as it is.
        let mut peers = pin!(dht.get_peers(key));
        while poll_fn(|cx| peers.as_mut().poll_next(cx)).await.is_some() {}
        dht.announce_peer(key, Some(us.port)).await.map(drop).map_err(|error| refused(&error))
    }

    async fn lookup(&self, keys: &[[u8; 20]], found: &mut Found) -> Result<(), SourceError> {
        let dht = self.dht().await?;
        let mut known = BTreeSet::new();
        for key in keys {
            let mut peers = pin!(dht.get_peers(Id::from(*key)));
            while let Some(peers) = poll_fn(|cx| peers.as_mut().poll_next(cx)).await {
                for addr in peers.into_iter().filter(|addr| self.is_usable(*addr)) {
                    if known.len() < MAX_FOUND && known.insert(addr) {
                        found.push(None, vec![addr.into()]).await;
                    }
                }
            }
        }
        self.was_answered(&dht, !known.is_empty()).await
    }

    async fn find_record(&self, peer: PeerId, found: &mut Found) -> Result<(), SourceError> {
        let dht = self.dht().await?;
        let (mut items, mut best) = (pin!(dht.get_mutable(peer.as_bytes(), Some(SALT), None)), None);
        let unix = clock::epoch().unix;
        while let Some(item) = poll_fn(|cx| items.as_mut().poll_next(cx)).await {
            let Ok(record) = SignedRecord::decode(item.value()) else { continue };
            let newer = best.is_none_or(|best| best < record.sequence());
            if newer && PeerId::from(record.peer()) == peer && record.check(unix).is_ok() {
                best = Some(record.sequence());
                // He says it himself: his local addresses are worth a try where all of this is local.
                let addrs = record.addresses().filter(|addr| Reach::of(addr.ip()) == Some(self.reach)).collect();
                let of_reach = |voucher: Voucher| {
                    let addrs = voucher.addresses().filter(|addr| Reach::of(addr.ip()) == Some(self.reach)).collect();
                    Named { relay: voucher.relay(), addrs }
                };
                let relays = record.vouchers().filter(|voucher| voucher.holds_at(unix)).map(of_reach).collect();
                found.push_via(Some(peer), addrs, relays).await;
            }
        }
        self.was_answered(&dht, best.is_some()).await
    }

    async fn publish(&self, us: &Us) -> Result<(), SourceError> {
        let record = us.record.as_ref().ok_or(SourceError::NoAddress)?;
        let item = item(record, &self.identity)?;
        match self.dht().await?.put_mutable(item, None).await {
            Ok(_) => Ok(()),
            Err(PutMutableError::Query(error)) => Err(refused(&error)),
            // Somebody else, or we in an earlier run, published one with a higher number.
            Err(PutMutableError::Concurrency(_)) => Err(SourceError::Refused { code: NOT_THE_NEWEST }),
        }
    }

    /// That nobody is there is an answer only if somebody gave it.
    async fn was_answered(&self, dht: &AsyncDht, found: bool) -> Result<(), SourceError> {
        if found || !dht.to_bootstrap().await.is_empty() { Ok(()) } else { Err(SourceError::NobodyAnswered) }
    }

    /// The keys under which others may be announced now: clocks differ by up to an hour.
    fn keys(make: impl Fn(u64) -> [u8; 20]) -> Vec<[u8; 20]> {
        super::day::now().into_iter().map(make).collect()
    }
}

impl Source for MainlineSource {
    const NAME: discovery::Source = discovery::Source::Mainline;

    fn pace(&self) -> Pace {
        PACE
    }

    fn does(&self, task: &Task) -> bool {
        match task {
            Task::Record => self.settings.record,
            Task::AnnounceRelay | Task::LookupRelays => false,
            Task::Reconnect | Task::Strategy(_) => false,
            _ => true,
        }
    }

    async fn attempt(self: Arc<Self>, task: Task, us: Us, mut found: Found) -> Result<Outcome, SourceError> {
        let result = match task {
            Task::Announce(topic) => self.announce(mainline_key(topic.as_bytes(), super::day::today()), &us).await,
            Task::AnnounceNode => self.announce(mainline_nodes_key(&self.network, super::day::today()), &us).await,
            Task::Lookup(topic) => {
                self.lookup(&Self::keys(|day| mainline_key(topic.as_bytes(), day)), &mut found).await
            }
            Task::LookupNodes => {
                self.lookup(&Self::keys(|day| mainline_nodes_key(&self.network, day)), &mut found).await
            }
            Task::Record => self.publish(&us).await,
            Task::Peer(peer) => self.find_record(peer, &mut found).await,
            // Relays are looked for in our own table.
            Task::AnnounceRelay | Task::LookupRelays => Err(SourceError::Broken),
            Task::Reconnect | Task::Strategy(_) => Err(SourceError::Broken),
        };
        if result == Err(SourceError::NobodyAnswered) {
            // The names may have other addresses by now, and the system another network.
            self.broken();
        }
        result.map(|()| found.outcome())
    }

    fn broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

/// The mutable item of a record: the value is the record itself, the number its own.
///
/// What BEP 44 signs begins with `4:salt15:` and the salt, and so with the label of [`ITEM`], which nothing else that an
/// identity signs begins with.
fn item(record: &SignedRecord, identity: &Identity) -> Result<MutableItem, SourceError> {
    let value = record.as_bytes();
    if value.len() > MAX_VALUE {
        return Err(SourceError::TooLong { len: value.len(), max: MAX_VALUE });
    }
    // Milliseconds since 1970 are far below the limit.
    let sequence = i64::try_from(record.sequence()).unwrap_or(i64::MAX);
    let mut signed = Vec::with_capacity(64 + value.len());
    signed.extend_from_slice(b"e addr 1");
    signed.extend_from_slice(format!("3:seqi{sequence}e1:v{}:", value.len()).as_bytes());
    signed.extend_from_slice(value);
    let signature = identity.sign(ITEM, &signed).to_bytes();
    Ok(MutableItem::new_signed_unchecked(*identity.peer_id().as_bytes(), signature, value, sequence, Some(SALT)))
}

fn refused(error: &PutQueryError) -> SourceError {
    match error {
        PutQueryError::ErrorResponse(error) => SourceError::Refused { code: error.code },
        _ => SourceError::NobodyAnswered,
    }
}

impl std::fmt::Debug for MainlineSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MainlineSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One lookup is some 90 datagrams. Nodes forget announcements after 30 minutes or more (BEP 5 names no time).
const PACE: Pace = Pace {
    search: (Duration::from_secs(10), Duration::from_secs(300)),
    renew: Duration::from_secs(900),
    failed: (Duration::from_secs(5), Duration::from_secs(300)),
    parallel: 4,
};
/// The salt of the item (SPEC 13.2), and the label that what is signed then begins with.
const SALT: &[u8] = b"setowire addr 1";
const ITEM: Context = Context::new(*b"4:salt15:setowir");
/// BEP 44 allows 1000 bytes, of which three digits and a colon go in front.
const MAX_VALUE: usize = 996;
/// The code of BEP 44 for a sequence number that is not higher than the stored one.
const NOT_THE_NEWEST: i32 = 302;
const MAX_BOOTSTRAP: usize = 16;
/// Addresses taken from one lookup.
const MAX_FOUND: usize = 256;
