//! Who clears up, however this process ends.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::lab::PREFIX;

/// A shell beside us, out of the reach of Ctrl-C, that waits until our end of its standard input is closed: by us, or by the system
/// once we are gone. Then it ends what runs in our namespaces and removes them.
#[derive(Debug)]
pub(super) struct Janitor(Child);

const SCRIPT: &str = r#"trap '' INT TERM HUP
cat >/dev/null
for name in $(ip netns list | cut -d' ' -f1); do
  case $name in
    "$1"*) ip netns pids "$name" | xargs -r kill -9; ip netns del "$name" ;;
  esac
done 2>/dev/null"#;

impl Janitor {
    /// Removes what processes left behind that are no more, and watches over this one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(sh: &Shell) -> anyhow::Result<Self> {
        let list = cmd!(sh, "ip netns list").quiet().ignore_stderr().read().unwrap_or_default();
        let mut owners: Vec<&str> =
            list.lines().filter_map(|line| line.strip_prefix(PREFIX)?.split('-').next()).collect();
        owners.dedup();
        for owner in owners {
            if owner.parse::<u32>().is_ok() && !sh.path_exists(format!("/proc/{owner}")) {
                Self::of(owner)?.finish();
            }
        }
        Self::of(&std::process::id().to_string())
    }

    fn of(owner: &str) -> anyhow::Result<Self> {
        let prefix = format!("{PREFIX}{owner}-");
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh", &prefix]).process_group(0);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Ok(Self(child.context("cannot start a shell that clears up")?))
    }

    fn finish(self) {
        drop(self);
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // What it could not remove is tried again by the next run.
        let _ = self.0.wait();
    }
}
