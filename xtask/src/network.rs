//! Where the programs run that talk to each other.

use std::process::Command;

use xshell::{Shell, cmd};

use crate::report::progress;
use crate::tools::IP;

/// The names of our namespaces begin with this and end with the id of the process they belong to.
const PREFIX: &str = "setowire-xtask-";

/// The network the programs are in.
#[derive(Debug)]
pub(crate) enum Network {
    /// A namespace with this name, in which there is a loopback interface and nothing else.
    Namespace(String),
    /// That of the machine.
    Shared,
}

impl Network {
    /// A namespace of its own; it goes away with the value.
    ///
    /// # Errors
    /// What this machine or user lacks for it.
    pub(crate) fn isolated(sh: &Shell) -> Result<Self, String> {
        if IP.path().is_none() {
            return Err(IP.missing());
        }
        forget_stale(sh);
        let name = format!("{PREFIX}{}", std::process::id());
        let refused = |_| "`ip netns` is refused; it wants root".to_owned();
        cmd!(sh, "ip netns add {name}").quiet().ignore_stderr().run().map_err(refused)?;
        let network = Self::Namespace(name.clone());
        cmd!(sh, "ip -n {name} link set lo up").quiet().ignore_stderr().run().map_err(refused)?;
        cmd!(sh, "ip netns exec {name} true").quiet().ignore_stderr().run().map_err(refused)?;
        Ok(network)
    }

    /// A namespace of its own where that is to be had, else that of the machine, with a word on stderr about why.
    pub(crate) fn best(sh: &Shell) -> Self {
        Self::isolated(sh).unwrap_or_else(|why| {
            progress(&format!("what follows runs in the network of this machine: {why}"));
            Self::Shared
        })
    }

    /// Puts the namespace into a private network, in which nobody else is. That of the machine stays as it is.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn add_private_network(&self, sh: &Shell) -> anyhow::Result<()> {
        if let Self::Namespace(name) = self {
            for line in [
                "link add lan0 type veth peer name lan1",
                "addr add 10.213.0.1/24 dev lan0",
                "link set lan0 up",
                "link set lan1 up",
            ] {
                let words = line.split(' ');
                cmd!(sh, "ip -n {name} {words...}").quiet().run()?;
            }
        }
        Ok(())
    }

    /// A process that will run `program` in it.
    pub(crate) fn command(&self, program: &std::path::Path) -> Command {
        match self {
            Self::Namespace(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
            Self::Shared => Command::new(program),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Namespace(name) = self {
            // What fails here leaves an empty namespace behind, which the next run removes.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Removes namespaces whose process was interrupted.
fn forget_stale(sh: &Shell) {
    let list = cmd!(sh, "ip netns list").quiet().ignore_stderr().read().unwrap_or_default();
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let is_stale = |id: &str| id.parse::<u32>().is_ok() && !sh.path_exists(format!("/proc/{id}"));
        if name.strip_prefix(PREFIX).is_some_and(is_stale) {
            // Refused where namespaces are refused, which the caller is about to find out.
            let _ = cmd!(sh, "ip netns del {name}").quiet().ignore_stderr().run();
        }
    }
}
