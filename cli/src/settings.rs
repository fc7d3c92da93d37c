//! What is in force: an option before its variable, this before the file, and that before what is so without a word.

use std::env;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as _, FromArgMatches as _};
use serde_json::{Map, Value, json};
use swarm::rendezvous::without_secrets;
use swarm::{Builder, DialTarget, ListenAddr, Mainline, RandomWalk, RelayLimits, RelayNetworks, Swarm};

use crate::config::{self, Config, Preset, Rate};
use crate::exit::Failure;
use crate::output::Output;
use crate::serve;

/// Peers of a server, and of another node: what [`swarm::Builder::max_peers`] is without a word.
const PEERS: [NonZeroUsize; 2] = [NonZeroUsize::new(65_536).unwrap(), NonZeroUsize::new(256).unwrap()];

/// With so many peers a random walk rests.
const WALK_TARGET: usize = 20;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The command line, or the variable of this name.
    Said(&'static str),
    File,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Said(variable) => variable,
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// A value, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    origin: Origin,
}

impl<T> Setting<T> {
    fn of(file: Option<T>, default: T) -> Self {
        match file {
            Some(value) => Self { value, origin: Origin::File },
            None => Self { value: default, origin: Origin::Default },
        }
    }

    /// The same, if nothing was said.
    fn unless(self, said: Option<T>, variable: &'static str) -> Self {
        match said {
            Some(value) => Self { value, origin: Origin::Said(variable) },
            None => self,
        }
    }
}

/// All that `setowire serve` is told.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) preset: Setting<Preset>,
    pub(crate) bind: Setting<Vec<ListenAddr>>,
    pub(crate) port_mapping: Setting<bool>,
    pub(crate) lan: Setting<bool>,
    pub(crate) lan_broadcast: Setting<bool>,
    pub(crate) mdns: Setting<bool>,
    pub(crate) mainline: Setting<bool>,
    pub(crate) random_walk: Setting<bool>,
    pub(crate) stun_servers: Setting<Vec<String>>,
    pub(crate) http_servers: Setting<Vec<String>>,
    pub(crate) piping_servers: Setting<Vec<String>>,
    pub(crate) cache: Setting<Option<PathBuf>>,
    pub(crate) dht_bootstrap: Setting<Vec<DialTarget>>,
    pub(crate) dht_cache: Setting<Option<PathBuf>>,
    pub(crate) peers: Setting<NonZeroUsize>,
    pub(crate) relays: Setting<Vec<DialTarget>>,
    pub(crate) relay_rate: Setting<Option<Rate>>,
    pub(crate) bootstrap: Setting<bool>,
    pub(crate) relay: Setting<bool>,
    pub(crate) stun: Setting<bool>,
    pub(crate) http: Setting<Option<SocketAddr>>,
    pub(crate) piping: Setting<Option<SocketAddr>>,
    pub(crate) behind_proxy: Setting<bool>,
    pub(crate) identity: Setting<Option<PathBuf>>,
}

impl Settings {
    /// Puts together what was said and what is in the file.
    pub(crate) fn of(options: &serve::Options, config: &Config) -> Self {
        let (discovery, relay, serve) = (&config.discovery, &config.relay, &config.serve);
        let preset = Setting::of(config.preset, Preset::Server);
        let is_server = preset.value == Preset::Server;
        let switch =
            |said: bool, file: bool| Setting::of(file.then_some(true), false).unless(said.then_some(true), "option");
        let http = Setting::of(serve.http.map(Some), None).unless(options.http.map(Some), "SETOWIRE_HTTP");
        let piping = Setting::of(serve.piping.map(Some), None).unless(options.piping.map(Some), "SETOWIRE_PIPING");
        let mut roles =
            [(options.bootstrap, serve.bootstrap), (options.relay, serve.relay), (options.stun, serve.stun)]
                .map(|(said, file)| switch(said, file));
        if roles.iter().all(|role| !role.value) && http.value.is_none() && piping.value.is_none() {
            // Without a word about what to serve, all that a node can.
            roles = roles.map(|role| Setting { value: true, ..role });
        }
        let [bootstrap, relaying, stun] = roles;
        let bind = Setting::of(some(&config.bind), Vec::new()).unless(some(&options.listen), "SETOWIRE_LISTEN");
        let bind = if bind.value.is_empty() { Setting { value: any(), ..bind } } else { bind };
        Self {
            bind,
            port_mapping: Setting::of(config.port_mapping, false),
            lan: Setting::of(discovery.lan, !is_server),
            lan_broadcast: Setting::of(discovery.lan_broadcast, false),
            mdns: Setting::of(discovery.mdns, false),
            mainline: Setting::of(discovery.mainline, false),
            random_walk: Setting::of(discovery.random_walk, false),
            stun_servers: Setting::of(some(&discovery.stun), Vec::new()),
            http_servers: Setting::of(some(&discovery.http_bootstrap), Vec::new()),
            piping_servers: Setting::of(some(&discovery.piping), Vec::new()),
            cache: Setting::of(discovery.cache.clone().map(Some), None),
            dht_bootstrap: Setting::of(some(&discovery.dht.bootstrap), Vec::new()),
            dht_cache: Setting::of(discovery.dht.cache.clone().map(Some), None),
            peers: Setting::of(config.limits.peers, if is_server { PEERS[0] } else { PEERS[1] }),
            relays: Setting::of(some(&relay.servers), Vec::new()),
            relay_rate: Setting::of(relay.max_rate.map(Some), None),
            bootstrap,
            relay: relaying,
            stun,
            http,
            piping,
            behind_proxy: switch(options.behind_proxy, serve.behind_proxy),
            identity: Setting::of(serve.identity.clone().map(Some), None)
                .unless(options.identity.clone().map(Some), "SETOWIRE_IDENTITY"),
            preset,
        }
    }

    /// Whether any part is that of a node.
    pub(crate) const fn is_node(&self) -> bool {
        self.bootstrap.value || self.relay.value || self.stun.value
    }

    /// A node as they say, but for who it is, where it listens and what it serves.
    pub(crate) fn builder(&self) -> Builder {
        let mut builder = Swarm::builder()
            .preset(self.preset.value.into())
            .lan(self.lan.value)
            .lan_broadcast(self.lan_broadcast.value)
            .mdns(self.mdns.value)
            .stun(self.stun_servers.value.iter().cloned())
            .http_bootstrap(self.http_servers.value.iter().cloned())
            .piping(self.piping_servers.value.iter().cloned())
            .port_mapping(self.port_mapping.value)
            .max_peers(self.peers.value)
            .bootstrap(self.dht_bootstrap.value.iter().cloned())
            .relays(self.relays.value.iter().cloned());
        if self.mainline.value {
            builder = builder.mainline(Mainline::default());
        }
        if self.random_walk.value {
            let walk = RandomWalk::new().bootstrap(self.dht_bootstrap.value.iter().cloned());
            builder = builder.strategy(walk, Some(WALK_TARGET));
        }
        if let Some(cache) = &self.cache.value {
            builder = builder.peer_cache(cache);
        }
        if let Some(cache) = &self.dht_cache.value {
            builder = builder.dht_cache(cache);
        }
        builder
    }

    /// What a relay gives away without a word about it.
    pub(crate) fn relay_limits(&self) -> RelayLimits {
        // Within one network nobody has many addresses.
        let is_world = matches!(self.preset.value, Preset::Public | Preset::Server);
        RelayLimits::default().networks(if is_world { RelayNetworks::Public } else { RelayNetworks::Off })
    }

    /// Each by its key in the file: its value, `None` where there is none, and its origin.
    fn all(&self) -> [(&'static str, Option<Value>, Origin); 24] {
        fn row<T>(
            key: &'static str,
            setting: &Setting<T>,
            value: impl FnOnce(&T) -> Option<Value>,
        ) -> (&'static str, Option<Value>, Origin) {
            (key, value(&setting.value), setting.origin)
        }
        let switch = |key, setting: &Setting<bool>| row(key, setting, |on| Some(json!(on)));
        let file =
            |key, setting: &Setting<Option<PathBuf>>| row(key, setting, |path| path.as_deref().map(|path| json!(path)));
        let addr = |key, setting: &Setting<Option<SocketAddr>>| row(key, setting, |addr| addr.map(|addr| json!(addr)));
        fn list<T: ToString>(items: &[T]) -> Option<Value> {
            Some(items.iter().map(T::to_string).collect())
        }
        [
            row("preset", &self.preset, |preset| Some(json!(preset.to_string()))),
            row("bind", &self.bind, |items| list(items)),
            switch("port-mapping", &self.port_mapping),
            switch("discovery.lan", &self.lan),
            switch("discovery.lan-broadcast", &self.lan_broadcast),
            switch("discovery.mdns", &self.mdns),
            switch("discovery.mainline", &self.mainline),
            switch("discovery.random-walk", &self.random_walk),
            row("discovery.stun", &self.stun_servers, |items| list(items)),
            row("discovery.http-bootstrap", &self.http_servers, |urls| list(&shown(urls))),
            row("discovery.piping", &self.piping_servers, |urls| list(&shown(urls))),
            file("discovery.cache", &self.cache),
            row("discovery.dht.bootstrap", &self.dht_bootstrap, |items| list(items)),
            file("discovery.dht.cache", &self.dht_cache),
            row("limits.peers", &self.peers, |peers| Some(json!(peers))),
            row("relay.servers", &self.relays, |items| list(items)),
            row("relay.max-rate", &self.relay_rate, |rate| rate.map(|rate| json!(rate.to_string()))),
            switch("serve.bootstrap", &self.bootstrap),
            switch("serve.relay", &self.relay),
            switch("serve.stun", &self.stun),
            addr("serve.http", &self.http),
            addr("serve.piping", &self.piping),
            switch("serve.behind-proxy", &self.behind_proxy),
            file("serve.identity", &self.identity),
        ]
    }
}

/// URLs without the passwords in them: who shows his configuration to others shows no more.
fn shown(urls: &[String]) -> Vec<String> {
    urls.iter().map(|url| without_secrets(url)).collect()
}

/// Shows what is in force without options.
pub(crate) fn show(file: Option<&Path>, out: Output) -> Result<(), Failure> {
    // As `serve` without options: what it finds is what variables say.
    let command = serve::Options::augment_args(clap::Command::new("serve"));
    let said = command.try_get_matches_from(["serve"]).context("a variable cannot be used");
    let options = said.and_then(|matches| Ok(serve::Options::from_arg_matches(&matches)?));
    let options = options.map_err(|error| Failure::new(Failure::CONFIG, error))?;
    let config = match file.or(options.config.as_deref()) {
        Some(path) => config::read(path)?,
        None => Config::default(),
    };
    let mut settings = Settings::of(&options, &config);
    if settings.identity.value.is_none() {
        settings.identity.value = crate::identity::path(None).ok();
        if env::var_os("SETOWIRE_DATA_DIR").is_some() {
            settings.identity.origin = Origin::Said("SETOWIRE_DATA_DIR");
        }
    }
    let mut object = Map::new();
    for (key, value, origin) in settings.all() {
        out.data_line(&match &value {
            // JSON of one value is TOML of it.
            Some(value) => format!("{:<50} # {origin}", format!("{key} = {value}")),
            None => format!("# {key} is not set"),
        });
        object.insert(key.to_owned(), json!({"value": value, "from": origin.to_string()}));
    }
    out.only_json(json!({"settings": object}));
    Ok(())
}

/// Every address, IPv4 and, where there is any, IPv6.
fn any() -> Vec<ListenAddr> {
    let mut any = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, serve::PORT))];
    if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() {
        any.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, serve::PORT)));
    }
    any.into_iter().map(ListenAddr::from).collect()
}

/// A list of which something was said.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
