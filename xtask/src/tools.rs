//! Tools that a machine may lack.

use std::env;
use std::path::PathBuf;

use xshell::{Shell, cmd};

/// A program that only some commands want.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// Arguments that make it print its version.
    version: &'static [&'static str],
    pub(crate) wanted_by: &'static str,
    pub(crate) how_to_get: &'static str,
}

pub(crate) const RUSTFMT: Tool = Tool {
    name: "rustfmt",
    version: &["--version"],
    wanted_by: "ci (formatting)",
    how_to_get: "rustup component add rustfmt",
};

pub(crate) const CLIPPY: Tool = Tool {
    name: "cargo-clippy",
    version: &["--version"],
    wanted_by: "ci (lints)",
    how_to_get: "rustup component add clippy",
};

pub(crate) const PYTHON: Tool = Tool {
    name: "python3",
    version: &["--version"],
    wanted_by: "interop, vectors (3.11 or newer)",
    how_to_get: "apt-get install python3 python3-venv, or https://www.python.org/downloads/",
};

pub(crate) const IP: Tool = Tool {
    name: "ip",
    version: &["-V"],
    wanted_by: "interop, readme (a network of its own for the nodes; also needs root)",
    how_to_get: "apt-get install iproute2",
};

pub(crate) const NFT: Tool = Tool {
    name: "nft",
    version: &["--version"],
    wanted_by: "natlab (NATs; it installs it by itself where it can)",
    how_to_get: "apt-get install nftables",
};

pub(crate) const CONNTRACK: Tool = Tool {
    name: "conntrack",
    version: &["--version"],
    wanted_by: "natlab (NATs; it installs it by itself where it can)",
    how_to_get: "apt-get install conntrack",
};

pub(crate) const TURNSERVER: Tool = Tool {
    name: "turnserver",
    version: &["--version"],
    wanted_by: "natlab (a STUN server; it installs it by itself where it can)",
    how_to_get: "apt-get install coturn",
};

pub(crate) const MINIUPNPD: Tool = Tool {
    name: "miniupnpd",
    version: &["--version"],
    wanted_by: "natlab (a router that forwards ports; it installs it by itself where it can)",
    how_to_get: "apt-get install miniupnpd-nftables",
};

pub(crate) const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: &["--version"],
    wanted_by: "fuzz",
    how_to_get: "cargo install cargo-fuzz --locked",
};

pub(crate) const GIT: Tool = Tool {
    name: "git",
    version: &["--version"],
    wanted_by: "tidy (the list of files), readme --fresh",
    how_to_get: "apt-get install git",
};

pub(crate) const VERIFPAL: Tool = Tool {
    name: "verifpal",
    version: &["--version"],
    wanted_by: "model",
    how_to_get: "cargo install verifpal --version 1.6.7 --ignore-rust-version (`cargo xtask model` does it by itself)",
};

/// All of them.
pub(crate) const ALL: [&Tool; 9] = [&GIT, &RUSTFMT, &CLIPPY, &PYTHON, &IP, &NFT, &CONNTRACK, &CARGO_FUZZ, &VERIFPAL];

impl Tool {
    /// Where it is, if it is in one of the folders of `PATH`.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(self.name)).find(|path| path.is_file())
    }

    /// What it calls its version; `None` when it is missing or does not start (such as a rustup proxy whose component
    /// is not installed).
    pub(crate) fn version(&self, sh: &Shell) -> Option<String> {
        let path = self.path()?;
        let arguments = self.version;
        let text = cmd!(sh, "{path} {arguments...}").quiet().ignore_stderr().read().ok()?;
        Some(text.lines().next().unwrap_or_default().trim().to_owned())
    }

    /// Why something that wants it was not run.
    pub(crate) fn missing(&self) -> String {
        format!("{} is not installed: {}", self.name, self.how_to_get)
    }
}
