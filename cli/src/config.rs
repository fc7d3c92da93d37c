//! `setowire.toml`. Every key has a default, so an empty file is valid; a key that is not known is an error, so that a slip of
//! the pen is told.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use swarm::rendezvous::without_secrets;
use swarm::{DialTarget, ListenAddr};

use crate::exit::Failure;
use crate::output::Output;
use crate::settings;

/// What a node takes of each: [`swarm::Builder`] says so.
const BIND: usize = 16;
const SERVERS: usize = 8;
const RELAYS: usize = 32;
/// Bytes of a file. What is longer is something else.
const MAX_BYTES: u64 = 1 << 20;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Where the node is meant to run.
    pub(crate) preset: Option<Preset>,
    /// Where the node listens: `IP:PORT` for UDP, `tcp://IP:PORT`, `ws://IP:PORT`.
    #[serde(deserialize_with = "texts")]
    pub(crate) bind: Vec<ListenAddr>,
    /// Whether the router is asked to forward a port.
    pub(crate) port_mapping: Option<bool>,
    #[serde(deserialize_with = "discovery")]
    pub(crate) discovery: Discovery,
    pub(crate) limits: Limits,
    pub(crate) relay: Relay,
    pub(crate) serve: Serve,
}

/// See [`swarm::Preset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Preset {
    Public,
    Lan,
    Loopback,
    Server,
}

impl Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Lan => "lan",
            Self::Loopback => "loopback",
            Self::Server => "server",
        })
    }
}

impl From<Preset> for swarm::Preset {
    fn from(preset: Preset) -> Self {
        match preset {
            Preset::Public => Self::Public,
            Preset::Lan => Self::Lan,
            Preset::Loopback => Self::Loopback,
            Preset::Server => Self::Server,
        }
    }
}

/// How others are found.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Discovery {
    /// Multicast on the local network.
    pub(crate) lan: Option<bool>,
    /// Broadcast beside it.
    pub(crate) lan_broadcast: Option<bool>,
    /// Multicast DNS.
    pub(crate) mdns: Option<bool>,
    /// The BitTorrent Mainline DHT, at its public nodes.
    pub(crate) mainline: Option<bool>,
    /// Asking random peers in common topics whom they know.
    pub(crate) random_walk: Option<bool>,
    /// STUN servers: `host:port`.
    pub(crate) stun: Vec<String>,
    /// URLs of HTTP bootstrap servers.
    pub(crate) http_bootstrap: Vec<String>,
    /// URLs of piping servers.
    pub(crate) piping: Vec<String>,
    /// A file in which peers are kept.
    pub(crate) cache: Option<PathBuf>,
    pub(crate) dht: Dht,
}

/// The distributed hash table.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Dht {
    /// Nodes to begin at: `host:port`.
    #[serde(deserialize_with = "texts")]
    pub(crate) bootstrap: Vec<DialTarget>,
    /// A file in which nodes are kept.
    pub(crate) cache: Option<PathBuf>,
}

/// How much the node takes on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Limits {
    /// Peers connected at once.
    pub(crate) peers: Option<NonZeroUsize>,
}

/// Relays, and being one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Relay {
    /// Relays that are used before others.
    #[serde(deserialize_with = "texts")]
    pub(crate) servers: Vec<DialTarget>,
    /// What is passed on for all others together.
    pub(crate) max_rate: Option<Rate>,
}

/// Bytes per second: a number, or a text such as `"1MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Rate(pub(crate) u32);

/// The units that sizes are written in, the largest first.
const UNITS: [(&str, u32); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// As a rate may be written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(u32),
    Text(String),
}

impl TryFrom<Written> for Rate {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let rate = match &written {
            Written::Bytes(bytes) => Some(*bytes),
            Written::Text(text) => UNITS.iter().find_map(|(unit, bytes)| {
                let number: u32 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
                number.checked_mul(*bytes)
            }),
        };
        let slow = "a rate is a number of bytes from 1 to 4294967295, as 1048576 or \"1MiB\"";
        rate.filter(|bytes| *bytes > 0).map(Self).ok_or_else(|| slow.to_owned())
    }
}

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = UNITS.into_iter().find(|(_, bytes)| self.0.is_multiple_of(*bytes)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// What `setowire serve` does, as its options say it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Serve {
    pub(crate) bootstrap: bool,
    pub(crate) relay: bool,
    pub(crate) stun: bool,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) piping: Option<SocketAddr>,
    pub(crate) behind_proxy: bool,
    pub(crate) identity: Option<PathBuf>,
}

/// `setowire config`.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Action {
    /// Read a file and tell what is wrong with it: exit status 78 if anything is
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show what `setowire serve` uses without options, as a configuration, and where each value comes from: a variable, the file,
    /// or the default
    Show {
        /// The file; without it the one that SETOWIRE_CONFIG names, if any
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,

        /// Write an object, {"v":1,"settings":{KEY:{"value":..,"from":..},..}}
        #[arg(long)]
        json: bool,
    },
}

/// Checks a file, or shows what is in force.
pub(crate) fn run(action: &Action) -> Result<(), Failure> {
    match action {
        Action::Check { file } => read(file).map(drop),
        Action::Show { file, json } => settings::show(file.as_deref(), Output { json: *json }),
    }
}

/// Reads a file. Paths in it are relative to the folder that it is in.
pub(crate) fn read(path: &Path) -> Result<Config, Failure> {
    let failed = |error| Failure::new(Failure::CONFIG, error);
    let config: anyhow::Result<Config> = text(path).and_then(|text| Ok(toml::from_str(&text)?));
    let mut config =
        config.with_context(|| format!("the configuration {} cannot be used", path.display())).map_err(failed)?;
    let checked = check(&config).with_context(|| format!("the configuration {} cannot be used", path.display()));
    checked.map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let files = [&mut config.serve.identity, &mut config.discovery.cache, &mut config.discovery.dht.cache];
    for file in files.into_iter().flatten() {
        *file = folder.join(&*file);
    }
    Ok(config)
}

/// What can be seen to be wrong without a network. No line of the file is shown: there may be a password in it.
fn check(config: &Config) -> anyhow::Result<()> {
    let Discovery { stun, http_bootstrap, piping, .. } = &config.discovery;
    for (key, count, most) in [
        ("bind", config.bind.len(), BIND),
        ("discovery.stun", stun.len(), SERVERS),
        ("discovery.http-bootstrap", http_bootstrap.len(), SERVERS),
        ("discovery.piping", piping.len(), SERVERS),
        ("relay.servers", config.relay.servers.len(), RELAYS),
    ] {
        ensure!(count <= most, "{key} has {count} entries, and {most} are used at most");
    }
    for (at, addr) in config.bind.iter().enumerate() {
        let is_new = addr.addr().port() == 0 || !config.bind.iter().take(at).any(|other| other == addr);
        ensure!(is_new, "bind names {addr} twice");
    }
    for server in stun {
        let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        let is_one = port.is_some_and(|port| port.is_ok_and(|port| port != 0));
        ensure!(is_one, "discovery.stun: {server:?} is no server: expected host:port");
    }
    for (key, urls) in [("http-bootstrap", http_bootstrap), ("piping", piping)] {
        for url in urls {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
            let is_one = host.is_some_and(|host| !host.is_empty());
            let shown = without_secrets(url);
            ensure!(
                is_one,
                "discovery.{key}: {shown:?} is no URL of a server: expected https://host or http://host:port"
            );
        }
    }
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_BYTES, "it is longer than {MAX_BYTES} bytes");
    Ok(text)
}

/// A table, or a list of the sources that are on while the other switches are off: `discovery = ["lan", "random-walk"]`.
fn discovery<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Discovery, D::Error> {
    struct TableOrList;

    impl<'de> Visitor<'de> for TableOrList {
        type Value = Discovery;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table, or a list of sources")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Discovery, A::Error> {
            Discovery::deserialize(MapAccessDeserializer::new(map))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Discovery, A::Error> {
            const KNOWN: [&str; 4] = ["lan", "mdns", "mainline", "random-walk"];
            let mut on = [Some(false); KNOWN.len()];
            while let Some(name) = names.next_element::<String>()? {
                let known = on.iter_mut().zip(KNOWN).find(|(_, known)| *known == name);
                let (switch, _) = known.ok_or_else(|| serde::de::Error::unknown_variant(&name, &KNOWN))?;
                *switch = Some(true);
            }
            let [lan, mdns, mainline, random_walk] = on;
            Ok(Discovery { lan, mdns, mainline, random_walk, ..Discovery::default() })
        }
    }

    deserializer.deserialize_any(TableOrList)
}

/// A list of what is written as text.
fn texts<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_default() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    #[test]
    fn what_is_written_is_read() {
        let text = r#"
            preset = "server"
            bind = ["0.0.0.0:7400", "tcp://[::]:7400"]
            [discovery]
            lan = false
            lan-broadcast = true
            stun = ["stun.example:3478"]
            http-bootstrap = ["https://boot.example"]
            dht = { bootstrap = ["boot.example:7400"], cache = "nodes" }
            [limits]
            peers = 100
            [relay]
            max-rate = "2MiB"
            [serve]
            bootstrap = true
            http = "127.0.0.1:8080"
            behind-proxy = true
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.preset, Some(Preset::Server));
        assert_eq!(config.bind.len(), 2);
        assert_eq!(config.discovery.dht.bootstrap, ["boot.example:7400".parse().unwrap()]);
        assert_eq!((config.discovery.lan, config.discovery.lan_broadcast), (Some(false), Some(true)));
        assert_eq!(config.limits.peers, NonZeroUsize::new(100));
        assert_eq!(config.relay.max_rate, Some(Rate(2 << 20)));
        assert_eq!(config.serve.http, Some(([127, 0, 0, 1], 8080).into()));
        assert!(config.serve.behind_proxy && config.serve.bootstrap && config.serve.piping.is_none());
    }

    #[test]
    fn sources_are_a_list_where_there_is_no_more_to_say() {
        let listed: Config = toml::from_str("discovery = [\"lan\", \"random-walk\"]").unwrap();
        let written = "[discovery]\nlan = true\nmdns = false\nmainline = false\nrandom-walk = true\n";
        assert_eq!(listed, toml::from_str(written).unwrap());
        let error = toml::from_str::<Config>("discovery = [\"randomwalk\"]").unwrap_err().to_string();
        assert!(error.contains("randomwalk") && error.contains("random-walk"), "{error}");
    }

    #[test]
    fn the_configuration_of_the_readme_is_one() {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let config: Config = toml::from_str(rest.split_once("```").unwrap().0).unwrap();
        assert_eq!((config.relay.max_rate, config.discovery.piping.len()), (Some(Rate(1 << 20)), 1));
    }

    #[test]
    fn rates_are_shown_as_they_are_read() {
        for (rate, text) in [(1, "1B"), (1500, "1500B"), (1024, "1KiB"), (3 << 20, "3MiB"), (u32::MAX, "4294967295B")] {
            assert_eq!(Rate(rate).to_string(), text);
            assert_eq!(Rate::try_from(Written::Text(text.to_owned())), Ok(Rate(rate)));
        }
    }

    #[test]
    fn what_a_node_would_not_take_is_told_without_secrets() {
        let told = |text: &str| check(&toml::from_str(text).unwrap()).map_err(|error| error.to_string());
        for (wrong, said) in [
            ("[discovery]\nhttp-bootstrap = [\"boot.example\"]", "boot.example"),
            ("[discovery]\npiping = [\"ftp://host\"]", "ftp://host"),
            ("[discovery]\npiping = [\"https:///x\"]", "https:///x"),
            ("[discovery]\nstun = [\"stun.example\"]", "expected host:port"),
            ("[discovery]\nstun = [\":3478\"]", "expected host:port"),
            ("bind = [\"127.0.0.1:7\", \"udp://127.0.0.1:7\"]", "twice"),
        ] {
            assert!(told(wrong).unwrap_err().contains(said), "{wrong}");
        }
        let many = format!("[discovery]\nstun = [{}]", "\"a:1\",".repeat(9));
        assert!(told(&many).unwrap_err().contains("9 entries, and 8"));
        let secret = told("[discovery]\npiping = [\"ftp://me:hush@host\"]").unwrap_err();
        assert!(!secret.contains("hush"), "{secret}");
        assert_eq!(told("bind = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"tcp://127.0.0.1:7\", \"127.0.0.1:7\"]"), Ok(()));
        assert_eq!(told("[discovery]\nstun = [\"[::1]:3478\"]\npiping = [\"https://host/base\"]"), Ok(()));
    }

    #[test]
    fn slips_are_told() {
        for wrong in [
            "prest = \"lan\"",
            "preset = \"wan\"",
            "bind = \"0.0.0.0:7400\"",
            "bind = [\"here\"]",
            "[discovery.dht]\nbootstrap = [\"nowhere\"]",
            "[limits]\npeers = 0",
            "[relay]\nmax-rate = 0",
            "[relay]\nmax-rate = \"4GiB\"",
            "[relay]\nmax-rate = \"fast\"",
            "[serve]\nbehind_proxy = true",
            "[serv]",
            "=",
        ] {
            assert!(toml::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
    }
}
