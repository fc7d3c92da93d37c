//! Networks made for a test.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::skipped;

/// A network namespace of its own (Linux, as root). It is removed when dropped.
#[derive(Debug)]
pub struct Namespace(String);

/// How many were made by this process.
static MADE: AtomicU32 = AtomicU32::new(0);

impl Namespace {
    /// One with its loopback interface up and nothing else. `None`, which is told as a reason why `test` was skipped, where none
    /// can be made.
    #[must_use]
    pub fn new(test: &str) -> Option<Self> {
        let name = format!("setowire-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        match Command::new("ip").args(["netns", "add", &name]).output() {
            Ok(made) if made.status.success() => {}
            Ok(refused) => {
                let why = String::from_utf8_lossy(&refused.stderr).trim().replace('\n', " ");
                skipped(test, &format!("no network namespace: {why}"));
                return None;
            }
            Err(error) => {
                skipped(test, &format!("no program `ip`: {error}"));
                return None;
            }
        }
        let namespace = Self(name);
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Two, joined by an Ethernet with an MTU of 1,500 bytes: 10.77.0.1 and 10.77.0.2.
    #[must_use]
    pub fn pair(test: &str) -> Option<(Self, Self)> {
        let (a, b) = (Self::new(test)?, Self::new(test)?);
        a.ip(&format!("link add ether type veth peer name ether netns {}", b.0));
        for (namespace, addr) in [(&a, "10.77.0.1/24"), (&b, "10.77.0.2/24")] {
            namespace.ip(&format!("addr add {addr} dev ether"));
            namespace.ip("link set ether up");
        }
        Some((a, b))
    }

    /// Runs `ip` there with these words.
    pub fn ip(&self, words: &str) {
        let done = Command::new("ip").args(["-n", &self.0]).args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// A program that will run there.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What remains is empty and harmless.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
