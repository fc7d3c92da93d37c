//! Settings of a node and how it starts.

mod resolve;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crypto::{Identity, Seed};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::Driver;
use super::bind;
use super::busy_poll::{self, BusyPoll};
use super::carrier::{Brought, Given, Listener};
use super::handle::Swarm;
use super::hash_table;
use super::limits::{COMMANDS, LISTENERS, TRANSPORTS};
use super::listening::Bound;
#[cfg(feature = "portmap")]
use super::portmap::Mapper;
use super::relays::Outward;
use super::shared::Shared;
#[cfg(feature = "mdns")]
use super::source::MdnsSource;
use super::source::{self, Announcer, GivenStrategy, Sources, Strategy};
#[cfg(feature = "cache")]
use super::source::{CacheSource, Keeper, PeerCache};
#[cfg(feature = "http")]
use super::source::{
    HttpSource, Meetings, Span,
    piping::{PipingSource, Sealed},
    web::{Server, Web},
};
#[cfg(feature = "mainline")]
use super::source::{Mainline, MainlineSource};
use super::target::DialTarget;
use crate::carrier::ListenAddr;
use crate::clock;
use crate::node::{Node, Ways};
use crate::transport::{MIN_DATAGRAM, Transport};
use crate::{BindError, PeerId, Preset, RelayLimits, ServeRelay};

/// Settings of a node. [`bind`](Self::bind) starts it.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is bound"]
pub struct Builder {
    preset: Preset,
    listen: Vec<ListenAddr>,
    transports: Vec<(u16, Box<dyn Transport>)>,
    tcp_fallback: Option<bool>,
    #[cfg(feature = "portmap")]
    port_mapping: bool,
    identity: Option<Identity>,
    session: Option<peer::Config>,
    network: Option<[u8; 32]>,
    agent: Option<String>,
    idle: Option<peer::Idle>,
    max_peers: Option<NonZeroUsize>,
    busy_poll: Option<Duration>,
    lan: Option<bool>,
    lan_broadcast: bool,
    seeds: Vec<DialTarget>,
    dht: Option<bool>,
    pex: Option<bool>,
    bootstrap: Vec<DialTarget>,
    dht_cache: Option<PathBuf>,
    strategies: Vec<GivenStrategy>,
    stun: Vec<String>,
    serve_stun: bool,
    direct: Option<bool>,
    serve_relay: Option<ServeRelay>,
    relay_limits: Option<RelayLimits>,
    use_relays: Option<bool>,
    relays: Vec<DialTarget>,
    #[cfg(feature = "mainline")]
    mainline: Option<Mainline>,
    #[cfg(feature = "mdns")]
    mdns: bool,
    #[cfg(feature = "cache")]
    peer_cache: Option<PathBuf>,
    #[cfg(feature = "http")]
    bootstrap_servers: Vec<String>,
    #[cfg(feature = "http")]
    piping_servers: Vec<String>,
    #[cfg(feature = "v12")]
    v12: Option<crate::v12::Builder>,
}

impl Builder {
    /// Where the node is meant to run; every other setter overrides it, in any order.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = preset;
        self
    }

    /// Adds an address to listen on; a port of 0 is one of the system's choice. Up to 16 of them: sessions
    /// go on by the socket they came in by, and dials by the one that fits the address. Default: every interface, IPv4
    /// and, where there is any, IPv6, on the same port if it is free.
    pub fn listen(self, addr: SocketAddr) -> Self {
        self.listen_on(ListenAddr::Udp(addr))
    }

    /// Adds something to listen on: UDP, TCP or, with the feature `ws`, WebSockets. As soon as anything is added, here or by
    /// [`listen`](Self::listen), nothing else is bound, except that a server that was given no more than UDP addresses listens
    /// on TCP at the same addresses and ports too, as it does by default.
    ///
    /// ```
    /// # fn main() -> Result<(), swarm::ParseListenError> {
    /// let builder = swarm::Swarm::builder().listen_on("udp://0.0.0.0:7400".parse()?).listen_on("tcp://0.0.0.0:443".parse()?);
    /// # drop(builder); Ok(()) }
    /// ```
    pub fn listen_on(mut self, addr: ListenAddr) -> Self {
        self.listen.push(addr);
        self
    }

    /// Adds a carrier of the application's own, by the number that it has at all nodes that use it, 1 to 65,535: 8 at most.
    /// Sessions over it are the same as over UDP; dial a [`TransportAddr`](crate::TransportAddr). It counts as something to
    /// listen on: a node with transports has sockets too only if [`listen`](Self::listen) or [`listen_on`](Self::listen_on)
    /// adds some.
    pub fn transport(mut self, id: u16, transport: impl Transport) -> Self {
        self.transports.push((id, Box::new(transport)));
        self
    }

    /// Whether the router of this network is asked to forward the ports of the first UDP socket and the first TCP listener over
    /// IPv4: by PCP, NAT-PMP and UPnP at once, at the default gateway and nowhere else (Linux and Android tell which that is). It
    /// is asked anew after half of the time, and to stop when the node ends. [`Swarm::port_mapping`] says what came of it.
    /// Default: no. A node on loopback addresses never asks.
    #[cfg(feature = "portmap")]
    #[cfg_attr(docsrs, doc(cfg(feature = "portmap")))]
    pub fn port_mapping(mut self, on: bool) -> Self {
        self.port_mapping = on;
        self
    }

    /// Whether addresses that this node dials and that are silent for 750 ms are tried by TCP as well, at the same port: those
    /// given to it by its owner, and those of relays. A session moves to UDP as soon as that works. Default: yes.
    pub fn tcp_fallback(mut self, on: bool) -> Self {
        self.tcp_fallback = Some(on);
        self
    }

    /// An identity that lasts, from 32 bytes of entropy that nobody else knows. Default is a fresh identity per run.
    pub fn seed(self, seed: [u8; 32]) -> Self {
        self.identity(Identity::from_seed(seed))
    }

    /// An identity that lasts.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Which network this is: nodes of different networks do not understand each other's first packets. Default: all
    /// zero, the public one.
    pub fn network(mut self, network: [u8; 32]) -> Self {
        self.network = Some(network);
        self
    }

    /// What peers are told of this program: at most 64 bytes.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = Some(agent.into());
        self
    }

    /// What becomes of a session on which nothing happens. Default: it is kept.
    pub fn idle(mut self, idle: peer::Idle) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Peers connected at once, 1 to 65,536. Default 256; 65,536 of a server. An idle one costs a few KiB.
    pub fn max_peers(mut self, peers: NonZeroUsize) -> Self {
        self.max_peers = Some(peers);
        self
    }

    /// How long the node looks whether an answer has come before it lets its thread sleep, while peers and handles talk to each
    /// other: what takes turns is several times faster so. Other tasks run meanwhile, and all of it takes at most twice the
    /// time that the work takes, beside what sleeping would have cost. Zero never stays awake. Default: 100 µs; zero where the
    /// program may use one processor only, for there others would have to wait. If that one is its own, 100 µs is right too.
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = Some(limit);
        self
    }

    /// Whether topics are announced and looked up by multicast on the local network.
    pub fn lan(mut self, on: bool) -> Self {
        self.lan = Some(on);
        self
    }

    /// Whether what goes by multicast on the local network is sent to the broadcast address of each IPv4 subnet as well, for
    /// networks that keep multicast back. Nodes hear it whether they do so themselves or not. Nothing where [`lan`](Self::lan)
    /// is off. Default: no.
    pub fn lan_broadcast(mut self, on: bool) -> Self {
        self.lan_broadcast = on;
        self
    }

    /// All settings of sessions. The setters here override it, in any order; its protocols are the node's own.
    pub fn sessions(mut self, config: peer::Config) -> Self {
        self.session = Some(config);
        self
    }

    /// More peers to dial, at the start and again with growing pauses (1 to 60 s) while nobody is connected.
    pub fn seeds<T: Into<DialTarget>>(mut self, targets: impl IntoIterator<Item = T>) -> Self {
        self.seeds.extend(targets.into_iter().map(Into::into));
        self
    }

    /// Whether the node takes part in the distributed hash table, on the sockets of its sessions: it answers others there,
    /// announces its topics and its addresses, and looks for peers. Default: yes, as far as the preset reaches. Nobody is
    /// contacted for it but those named by [`bootstrap`](Self::bootstrap) and [`dht_cache`](Self::dht_cache), the peers of
    /// sessions, and the nodes that these know.
    pub fn dht(mut self, on: bool) -> Self {
        self.dht = Some(on);
        self
    }

    /// Whether peers in a topic tell each other of the others there: this node of those who announce themselves in it, and
    /// those of this node, if it does. Default: yes. Whom peers name is dialled as far as the preset reaches, and never inside
    /// of a network that the peer who names it is not in.
    pub fn pex(mut self, on: bool) -> Self {
        self.pex = Some(on);
        self
    }

    /// Nodes at which the distributed hash table begins, by address or by name: any node that others reach will do. They
    /// are asked now and again as long as no other node is known. Nodes that know each other only are a network of their
    /// own. What is beyond the reach of the preset is left out; an address of this machine or of a private network says
    /// that the node is to be found there too.
    pub fn bootstrap<T: Into<DialTarget>>(mut self, targets: impl IntoIterator<Item = T>) -> Self {
        self.bootstrap.extend(targets.into_iter().map(Into::into));
        self
    }

    /// A file in which a few nodes of the distributed hash table are kept, to begin with in the next run. It is made if
    /// there is none, written every ten minutes and at the end, and whole at any moment.
    pub fn dht_cache(mut self, path: impl Into<PathBuf>) -> Self {
        self.dht_cache = Some(path.into());
        self
    }

    /// Adds a way of the application's own to find peers: it is called every half second, or as often as it says, while fewer peers
    /// are connected than `target`, and always without one. Whom it names is dialled. 8 of them, others are left out.
    pub fn strategy(mut self, strategy: impl Strategy, target: Option<usize>) -> Self {
        self.strategies.push(GivenStrategy::new(strategy, target));
        self
    }

    /// STUN servers (RFC 8489), as `host:port`, that are asked now and again where they see this node: at most 8. With two of
    /// them, of different networks, it is known what kind of NAT there is, and with one that has two addresses (RFC 5780) what
    /// it lets in. Default: none; peers and nodes of the distributed hash table say where they see the node, too.
    pub fn stun<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.stun.extend(servers.into_iter().map(Into::into));
        self
    }

    /// Whether the node answers others as a STUN server, on the sockets of its sessions: with at most 44 bytes to 20 of a
    /// question, at most 20 times a second to one address. Default: no.
    pub fn serve_stun(mut self, on: bool) -> Self {
        self.serve_stun = on;
        self
    }

    /// Whether direct paths are looked for to peers that are reached through relays, by both sides telling each other their
    /// addresses and opening their NATs for each other. Default: yes.
    pub fn direct_paths(mut self, on: bool) -> Self {
        self.direct = Some(on);
        self
    }

    /// Whether this node relays for others: passes on, without being able to read it, what two peers send each other who cannot
    /// reach each other. Default: of [`Preset::Public`] while it can be reached from outside, of a server always, otherwise
    /// never. Who asks one that does not is told so.
    pub fn serve_relay(mut self, when: ServeRelay) -> Self {
        self.serve_relay = Some(when);
        self
    }

    /// What the node gives away as a relay: places, circuits, bytes per second. Default: what a line bears that is used for
    /// other things too.
    pub fn relay_limits(mut self, limits: RelayLimits) -> Self {
        self.relay_limits = Some(limits);
        self
    }

    /// Whether others may reach this node through relays: places are kept at two of those that [`relays`](Self::relays) names
    /// and, while nobody comes who was not called, of those that the distributed hash table and peers know. Peers are dialled
    /// through theirs too. Default: yes, except of a server, and on one machine only if relays are named. Sessions through a
    /// relay move to a direct path when there is one.
    pub fn use_relays(mut self, on: bool) -> Self {
        self.use_relays = Some(on);
        self
    }

    /// Relays to be used before others, 32 at most: by address or name, with or without their ids. Peers that do not answer
    /// directly are looked for there too.
    pub fn relays<T: Into<DialTarget>>(mut self, targets: impl IntoIterator<Item = T>) -> Self {
        self.relays.extend(targets.into_iter().map(Into::into));
        self
    }

    /// Announces topics and looks them up on the BitTorrent Mainline DHT, and publishes the addresses of this node there
    /// for those who know its id. Off by default, whatever the preset: this contacts strangers, as [`Mainline`] says. A
    /// node that is bound to loopback addresses only contacts loopback addresses only.
    #[cfg(feature = "mainline")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mainline")))]
    pub fn mainline(mut self, settings: Mainline) -> Self {
        self.mainline = Some(settings);
        self
    }

    /// Whether topics are announced and looked up by multicast DNS too, as services of the type `_setowire._udp` that say
    /// neither their topics nor whose they are to those who do not know them. Default: no, and then nothing is sent or
    /// answered. It has a thread and sockets of its own, on port 5353.
    #[cfg(feature = "mdns")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mdns")))]
    pub fn mdns(mut self, on: bool) -> Self {
        self.mdns = on;
        self
    }

    /// A file in which peers are kept that sessions were open with, and where: 200 of them, those seen last and those who
    /// came often. The 30 newest are dialled at the start, and again while nobody is connected. It is made if there is
    /// none, written every 30 s and at the end, and whole at any moment; one that was damaged is put aside, with `.damaged`
    /// behind its name. [`Swarm::discovery`] says why it cannot be used, if so. Default: none.
    #[cfg(feature = "cache")]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    pub fn peer_cache(mut self, path: impl Into<PathBuf>) -> Self {
        self.peer_cache = Some(path.into());
        self
    }

    /// Bootstrap servers, as `http://` or `https://` URLs: where this node leaves its signed addresses, sealed, for those who
    /// know a topic of its or its id, and looks what others left. `setowire serve` runs one. It learns the IP addresses of
    /// those who ask, and which of them meet; neither topics nor what is left there. Default: none. Each is asked by itself,
    /// at the start and then every three minutes; a URL that is none is [`BindError::Url`]. Eight at most, others are left out.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn http_bootstrap<T: Into<String>>(mut self, urls: impl IntoIterator<Item = T>) -> Self {
        self.bootstrap_servers.extend(urls.into_iter().map(Into::into));
        self.bootstrap_servers.truncate(MAX_SERVERS);
        self
    }

    /// Piping servers, as [`http_bootstrap`](Self::http_bootstrap) takes them: those in a topic hand each other their sealed
    /// addresses there, both being there at the same time. They learn as much as bootstrap servers. Default: none;
    /// [`hosts::PIPING`](crate::hosts::PIPING) has public ones.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn piping<T: Into<String>>(mut self, urls: impl IntoIterator<Item = T>) -> Self {
        self.piping_servers.extend(urls.into_iter().map(Into::into));
        self.piping_servers.truncate(MAX_SERVERS);
        self
    }

    /// Speaks the v12 wire too, with these settings: on a socket of its own, with an identity of its own, with a limit of
    /// its own on peers. If this node was given an identity and the settings name none, it is the one that belongs to it
    /// ([`Identity::v12`]). Nothing is passed on from one wire to the other, and a peer that is connected natively is not
    /// spoken to on the old wire. Off by default: then no byte of it is sent or answered.
    #[cfg(feature = "v12")]
    pub fn v12(mut self, settings: crate::v12::Builder) -> Self {
        self.v12 = Some(settings);
        self
    }

    /// Starts the node: binds its sockets and runs it on a task of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`]. Nothing runs then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    #[cfg_attr(not(feature = "v12"), expect(unused_mut, reason = "the other wire is taken out"))]
    pub async fn bind(mut self) -> Result<Swarm, BindError> {
        #[cfg(feature = "v12")]
        let legacy = match self.take_v12() {
            Some(settings) => Some(settings.bind().await?),
            None => None,
        };
        #[cfg(feature = "v12")]
        let (swarm, driver) = self.prepare(legacy)?;
        #[cfg(not(feature = "v12"))]
        let (swarm, driver) = self.prepare()?;
        drop(tokio::spawn(driver.run()));
        // Its first answer: from here on the node is at work.
        let _ = swarm.stats().await;
        Ok(swarm)
    }

    /// As [`bind`](Self::bind), but the caller runs the node, on a task or thread of its choice. Nothing happens
    /// until it does. Must be called inside of a tokio runtime. The v12 wire, if it is wanted, runs on a task of that
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    #[cfg_attr(not(feature = "v12"), expect(unused_mut, reason = "the other wire is taken out"))]
    pub fn bind_manual(mut self) -> Result<(Swarm, Driver), BindError> {
        #[cfg(feature = "v12")]
        {
            let legacy = match self.take_v12() {
                Some(settings) => {
                    let (swarm, driver) = settings.bind_manual()?;
                    drop(tokio::spawn(driver.run()));
                    Some(swarm)
                }
                None => None,
            };
            self.prepare(legacy)
        }
        #[cfg(not(feature = "v12"))]
        self.prepare()
    }

    /// The settings of the other wire, with an identity that lasts if ours does.
    #[cfg(feature = "v12")]
    fn take_v12(&mut self) -> Option<crate::v12::Builder> {
        let settings = self.v12.take()?;
        Some(match &self.identity {
            Some(identity) => settings.identity_or(|| identity.v12()),
            None => settings,
        })
    }

    fn prepare(
        mut self,
        #[cfg(feature = "v12")] legacy: Option<crate::v12::Swarm>,
    ) -> Result<(Swarm, Driver), BindError> {
        if Handle::try_current().is_err() {
            return Err(BindError::NoRuntime);
        }
        let seed = Seed::from_os().or(Err(BindError::Entropy))?;
        let transports = numbered(std::mem::take(&mut self.transports))?;
        if self.listen.len() > LISTENERS {
            return Err(BindError::TooMany { limit: LISTENERS });
        }
        let (sockets, listeners) = match self.listen.is_empty() && !transports.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => bind::all(&self.listen, self.preset)?,
        };
        let streams = listeners.iter().map(Listener::at);
        let listening: Vec<ListenAddr> =
            sockets.iter().map(|socket| ListenAddr::Udp(socket.local())).chain(streams).collect();
        let bound = Bound::of(listening);
        let local = bound.local.clone();
        let has = |ipv4: bool| sockets.iter().any(|socket| socket.local().is_ipv4() == ipv4);
        let ways = Ways { ipv4: has(true), ipv6: has(false), transports: transports.keys().copied().collect() };
        let config = self.resolve(&local).ways(ways);
        #[cfg(feature = "http")]
        let (bootstrap_servers, piping_servers) = (servers(&self.bootstrap_servers)?, servers(&self.piping_servers)?);
        #[cfg(any(feature = "http", feature = "mdns"))]
        let far = self.reach(&local);
        let contacts = match &self.dht_cache {
            Some(path) => {
                hash_table::read(path).map_err(|error| BindError::Cache { path: path.clone(), kind: error.kind() })?
            }
            None => Vec::new(),
        };
        let identity = match self.identity {
            Some(identity) => identity,
            None => Identity::generate(&mut seed.fork("identity").rng()),
        };
        let (id, identity) = (PeerId::from(identity.peer_id()), Arc::new(identity));
        let (commands, requests) = mpsc::channel(COMMANDS);
        let (outcome, ended) = watch::channel(None);
        let announcer = Announcer::new(Arc::clone(&identity), &local);
        let mut sources = Sources::new(seed.fork("sources"));
        #[cfg(feature = "mainline")]
        if let (Some(settings), Some(bind)) = (self.mainline, source::ipv4(&local)) {
            let (network, reach) = (self.network.unwrap_or_default(), Announcer::reach(&local));
            sources.start(MainlineSource::new(settings, Arc::clone(&identity), network, bind, reach));
        }
        #[cfg(feature = "mdns")]
        if self.mdns {
            sources.start(MdnsSource::new(far, &seed.fork("mdns")));
        }
        #[cfg(feature = "cache")]
        let keeper = self.peer_cache.map(|path| {
            let cache = PeerCache::new(path);
            sources.start(CacheSource(cache.clone()));
            Keeper::start(cache)
        });
        #[cfg(feature = "http")]
        {
            let web = Web::default();
            let meetings = |server: &Server, name: &str| {
                Meetings::new(Arc::clone(&identity), Span::of(server.reach(), far), seed.fork(name))
            };
            for server in bootstrap_servers {
                let meetings = meetings(&server, &format!("http {}", server.host));
                sources.start(HttpSource::new(web.clone(), server, meetings));
            }
            for server in piping_servers {
                let meetings = meetings(&server, &format!("piping {}", server.host));
                sources.start(PipingSource::new(web.clone(), server, Sealed(meetings)));
            }
        }
        let (progress, of_table) = watch::channel(Vec::new());
        let (strategies, of_strategies) = source::plan(self.strategies);
        let reports = sources.reports().into_iter().chain([of_table]).chain(of_strategies).collect();
        let (outward, of_outside) = watch::channel(Outward::default());
        #[cfg_attr(not(feature = "portmap"), expect(unused_mut, reason = "there is no mapping to name"))]
        let mut shared = Shared::new(id, bound, commands, ended, reports, of_outside, seed.fork("handles").rng());
        #[cfg(feature = "portmap")]
        let mapper = {
            let (mapper, mapping) = Mapper::of(&shared.bound.borrow().listening, shared.commands.clone());
            shared.mapping = mapping;
            mapper.filter(|_| self.port_mapping)
        };
        let shared = Arc::new(shared);
        sources.start_strategies(strategies, &shared);
        let epoch = clock::epoch();
        let mut node = Node::new(identity, config, epoch, &seed.fork("node"), epoch.instant);
        #[cfg(feature = "v12")]
        if let Some(legacy) = &legacy {
            node.set_v12_key(Some(*legacy.id().as_bytes()));
        }
        node.bootstrap_with(&contacts, epoch.instant);
        let lan = self.lan.unwrap_or(self.preset != Preset::Server) && (transports.is_empty() || !sockets.is_empty());
        let mut driver = Driver::new(
            node,
            (sockets, listeners, transports),
            (lan, self.lan_broadcast),
            self.seeds,
            self.stun,
            (sources, announcer),
            (self.bootstrap, self.dht_cache, progress),
            outward,
            Arc::clone(&shared),
            requests,
            outcome,
            #[cfg(feature = "cache")]
            keeper,
            #[cfg(feature = "v12")]
            legacy.clone(),
        );
        driver.name_relays(self.relays);
        driver.busy_poll = BusyPoll::new(self.busy_poll.unwrap_or_else(busy_poll::default_limit));
        #[cfg(feature = "portmap")]
        {
            driver.mapper = mapper;
        }
        let swarm = Swarm::with(shared);
        #[cfg(feature = "v12")]
        let swarm = swarm.and_v12(legacy);
        Ok((swarm, driver))
    }
}

/// Transports by their numbers.
fn numbered(transports: Vec<(u16, Box<dyn Transport>)>) -> Result<Brought, BindError> {
    let mut numbered = Brought::new();
    for (id, transport) in transports {
        let max_datagram = transport.max_datagram();
        if max_datagram < MIN_DATAGRAM {
            return Err(BindError::ShortDatagrams { id, longest: max_datagram });
        }
        let given = Given { carrier: transport, max_datagram };
        let is_taken = id == 0 || numbered.len() >= TRANSPORTS || numbered.insert(id, given).is_some();
        if is_taken {
            return Err(BindError::Transport { id });
        }
    }
    Ok(numbered)
}

/// Reads the URLs of servers.
#[cfg(feature = "http")]
pub(crate) fn servers(urls: &[String]) -> Result<Vec<Server>, BindError> {
    urls.iter()
        .map(|url| Server::parse(url).ok_or_else(|| BindError::Url { url: crate::rendezvous::without_secrets(url) }))
        .collect()
}

/// Servers of one kind.
#[cfg(feature = "http")]
pub(crate) const MAX_SERVERS: usize = 8;
/// How long the sessions of a node that is dropped have for their goodbyes.
pub(crate) const NO_GRACE: Duration = Duration::ZERO;
