//! Settings of a node and how it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use crypto::Seed;
use crypto::v12::{Identity, SeedError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::Driver;
use super::handle::Swarm;
use super::limits::COMMANDS;
use super::shared::Shared;
#[cfg(feature = "http")]
use super::web::{ListSource, Plain};
use crate::clock;
#[cfg(feature = "http")]
use crate::discovery::Reach;
#[cfg(feature = "http")]
use crate::driver::servers;
#[cfg(feature = "http")]
use crate::driver::source::{Sources, Span, piping::PipingSource, web::Web};
use crate::udp::{Fragments, Udp};
use crate::v12::{Config, Node};
use crate::{BindError, PeerId, Preset};

/// Settings of a node. [`bind`](Self::bind) starts it.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is bound"]
pub struct Builder {
    preset: Preset,
    listen: Option<SocketAddr>,
    identity: Source,
    config: Option<Config>,
    max_peers: Option<NonZeroUsize>,
    lan: Option<bool>,
    flood: Option<bool>,
    relay: Option<bool>,
    seeds: Vec<SocketAddr>,
    #[cfg(feature = "http")]
    bootstrap_servers: Vec<String>,
    #[cfg(feature = "http")]
    piping_servers: Vec<String>,
}

/// Where the identity comes from.
#[derive(Debug, Default)]
enum Source {
    #[default]
    Fresh,
    Given(Box<Identity>),
    Refused(SeedError),
}

impl Builder {
    /// Where the node is meant to run; every other setter overrides it, in any order.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = preset;
        self
    }

    /// The address of the socket. Default `0.0.0.0:0`: every interface, and a port of the system's choice. Bound to
    /// one address the node announces that one alone.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = Some(addr);
        self
    }

    /// An identity that lasts, from a seed of any length. It must hold at least 128 bits of entropy: a phrase that a
    /// person can remember is found by trying phrases. Default is a fresh identity per run.
    pub fn seed(mut self, seed: &[u8]) -> Self {
        self.identity = match seed {
            [] => Source::Refused(SeedError::Length { len: 0 }),
            _ => Source::Given(Box::new(Identity::from_seed(seed))),
        };
        self
    }

    /// As [`seed`](Self::seed), in hexadecimal digits, as the existing nodes take it.
    pub fn hex_seed(mut self, seed: &str) -> Self {
        self.identity = match Identity::from_hex_seed(seed) {
            Ok(identity) => Source::Given(Box::new(identity)),
            Err(error) => Source::Refused(error),
        };
        self
    }

    /// An identity that lasts.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Source::Given(Box::new(identity));
        self
    }

    /// This identity, unless one was named.
    pub(crate) fn identity_or(mut self, identity: impl FnOnce() -> Identity) -> Self {
        if matches!(self.identity, Source::Fresh) {
            self.identity = Source::Given(Box::new(identity()));
        }
        self
    }

    /// Peers connected at once, 1 to 1,024. Default 100.
    pub fn max_peers(mut self, peers: NonZeroUsize) -> Self {
        self.max_peers = Some(peers);
        self
    }

    /// Whether topics are announced and looked up by multicast on the local network.
    pub fn lan(mut self, on: bool) -> Self {
        self.lan = Some(on);
        self
    }

    /// Whether messages that arrive for the first time are passed on. Default yes.
    pub fn flood(mut self, on: bool) -> Self {
        self.flood = Some(on);
        self
    }

    /// Whether this node introduces peers to each other.
    pub fn relay(mut self, on: bool) -> Self {
        self.relay = Some(on);
        self
    }

    /// All other settings. The setters here override it, in any order.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// More addresses to dial, at the start and again with growing pauses (1 to 60 s) while nobody is connected.
    pub fn seeds(mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.seeds.extend(addrs);
        self
    }

    /// Bootstrap servers of the existing nodes, as `http://` or `https://` URLs: they are told the id and an address of this
    /// node, and whoever they list is dialled; at the start and then every three minutes, whatever topics are joined.
    /// Whoever asks them learns the same. Default: none; [`hosts::V12_BOOTSTRAP`](crate::hosts::V12_BOOTSTRAP) has those that
    /// the existing nodes ask. Eight at most.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn bootstrap_http<T: Into<String>>(mut self, urls: impl IntoIterator<Item = T>) -> Self {
        self.bootstrap_servers.extend(urls.into_iter().map(Into::into));
        self.bootstrap_servers.truncate(crate::driver::MAX_SERVERS);
        self
    }

    /// Piping servers, as the existing nodes use them: those in a topic tell each other there who and where they are, in
    /// the clear, under a name that follows from the topic. Default: none; [`hosts::PIPING`](crate::hosts::PIPING) has
    /// those that the existing nodes ask. Eight at most.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn piping<T: Into<String>>(mut self, urls: impl IntoIterator<Item = T>) -> Self {
        self.piping_servers.extend(urls.into_iter().map(Into::into));
        self.piping_servers.truncate(crate::driver::MAX_SERVERS);
        self
    }

    /// Starts the node: binds its socket and runs it on a task of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`]. Nothing runs then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    pub async fn bind(self) -> Result<Swarm, BindError> {
        let (swarm, driver) = self.bind_manual()?;
        drop(tokio::spawn(driver.run()));
        // Its first answer: from here on the node is at work.
        let _ = swarm.peers().await;
        Ok(swarm)
    }

    /// As [`bind`](Self::bind), but the caller runs the node, on a task or thread of its choice. Nothing happens
    /// until it does. Must be called inside of a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind_manual(self) -> Result<(Swarm, Driver), BindError> {
        if Handle::try_current().is_err() {
            return Err(BindError::NoRuntime);
        }
        let seed = Seed::from_os().or(Err(BindError::Entropy))?;
        let mut config = self.resolve();
        #[cfg(feature = "http")]
        let (bootstrap_servers, piping_servers) = (servers(&self.bootstrap_servers)?, servers(&self.piping_servers)?);
        let identity = match self.identity {
            Source::Fresh => Identity::generate(&mut seed.fork("identity").rng()),
            Source::Given(identity) => {
                config = config.persistent_identity(true);
                *identity
            }
            Source::Refused(error) => return Err(BindError::Seed(error)),
        };
        let any = match self.preset {
            Preset::Loopback => Ipv4Addr::LOCALHOST,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let addr = self.listen.unwrap_or(SocketAddr::from((any, 0)));
        if !addr.is_ipv4() {
            return Err(BindError::Unsupported { addr });
        }
        let socket = Udp::bind(addr, Fragments::Allowed).map_err(|error| BindError::from_io(addr, &error))?;
        let buffer = socket.receive_buffer();
        if buffer > 0 {
            config = config.receive_buffer(buffer);
        }
        let id = PeerId::from_bytes(*identity.public().as_bytes());
        let (commands, requests) = mpsc::channel(COMMANDS);
        let (outcome, ended) = watch::channel(None);
        #[cfg(feature = "http")]
        let sources = {
            let (mut sources, web, far) =
                (Sources::new(seed.fork("sources")), Web::default(), Self::reach(self.preset, addr));
            for server in bootstrap_servers {
                sources.start(ListSource::new(web.clone(), server, identity.id(), far));
            }
            for server in piping_servers {
                let (span, seed) = (Span::of(server.reach(), far), seed.fork(&format!("piping {}", server.host)));
                sources.start(PipingSource::new(web.clone(), server, Plain::new(identity.id(), span, seed)));
            }
            sources
        };
        #[cfg(feature = "http")]
        let reports = sources.reports();
        #[cfg(not(feature = "http"))]
        let reports = Vec::new();
        let shared = Arc::new(Shared::new(id, socket.local(), max_message(&config), commands, ended, reports));
        let lan = config.lan;
        let node = Node::new(config, identity, seed.fork("node"), clock::epoch());
        let driver = Driver::new(
            node,
            socket,
            lan,
            self.seeds,
            #[cfg(feature = "http")]
            sources,
            Arc::clone(&shared),
            requests,
            outcome,
        );
        Ok((Swarm::with(shared), driver))
    }

    /// How far the node goes to find others.
    #[cfg(feature = "http")]
    const fn reach(preset: Preset, bound: SocketAddr) -> Reach {
        match preset {
            _ if bound.ip().is_loopback() => Reach::Host,
            Preset::Loopback => Reach::Host,
            Preset::Lan => Reach::Network,
            Preset::Public | Preset::Server => Reach::World,
        }
    }

    fn resolve(&self) -> Config {
        let (base, most) = (Config::default(), NonZeroUsize::new(1024).unwrap_or(NonZeroUsize::MIN));
        let preset = match self.preset {
            Preset::Public | Preset::Lan | Preset::Loopback => base,
            Preset::Server => base.lan(false).relay(true).max_peers(most),
        };
        let mut config = self.config.clone().unwrap_or(preset);
        if let Some(peers) = self.max_peers {
            config = config.max_peers(peers);
        }
        if let Some(on) = self.lan {
            config = config.lan(on);
        }
        if let Some(on) = self.flood {
            config = config.flood(on);
        }
        if let Some(on) = self.relay {
            config = config.relay(on);
        }
        config
    }
}

/// The largest message that may be sent to anybody: one sealed datagram (65,507 less 29 of frame and seal and 4 of
/// sequence), or 512 KiB in fragments where those are allowed.
const fn max_message(config: &Config) -> usize {
    if config.send_plaintext_fragments { 65_535 * 1188 } else { 65_474 }
}
