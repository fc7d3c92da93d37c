//! `setowire.toml`. Every key has a default, so an empty file is valid; a key that is not known is an error, so that a slip of
//! the pen is told.

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use swarm::{DialTarget, ListenAddr};

use crate::exit::Failure;

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
    pub(crate) discovery: Discovery,
    pub(crate) limits: Limits,
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
}

/// Checks a file.
pub(crate) fn run(action: &Action) -> Result<(), Failure> {
    let Action::Check { file } = action;
    read(file).map(drop)
}

/// Reads a file. Paths in it are relative to the folder that it is in.
pub(crate) fn read(path: &Path) -> Result<Config, Failure> {
    let failed = |error| Failure::new(Failure::CONFIG, error);
    let config: anyhow::Result<Config> = text(path).and_then(|text| Ok(toml::from_str(&text)?));
    let mut config =
        config.with_context(|| format!("the configuration {} cannot be used", path.display())).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for file in [&mut config.serve.identity, &mut config.discovery.dht.cache].into_iter().flatten() {
        *file = folder.join(&*file);
    }
    Ok(config)
}

fn text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_BYTES, "it is longer than {MAX_BYTES} bytes");
    Ok(text)
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
            dht = { bootstrap = ["boot.example:7400"], cache = "nodes" }
            [limits]
            peers = 100
            [serve]
            bootstrap = true
            http = "127.0.0.1:8080"
            behind-proxy = true
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.preset, Some(Preset::Server));
        assert_eq!(config.bind.len(), 2);
        assert_eq!(config.discovery.dht.bootstrap, ["boot.example:7400".parse().unwrap()]);
        assert_eq!(config.limits.peers, NonZeroUsize::new(100));
        assert_eq!(config.serve.http, Some(([127, 0, 0, 1], 8080).into()));
        assert!(config.serve.behind_proxy && config.serve.bootstrap && config.serve.piping.is_none());
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
            "[serve]\nbehind_proxy = true",
            "[serv]",
            "=",
        ] {
            assert!(toml::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
    }
}
