//! Programs under test: processes whose lines are waited for, and networks of their own for them.
//!
//! All of it panics where a test should fail. Nothing here sleeps: what is waited for is a line, or the end of a process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a failure here is that of a test"
)]

mod lines;
mod namespace;
#[cfg(target_os = "linux")]
mod wire;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

pub use lines::Lines;
pub use namespace::Namespace;
#[cfg(target_os = "linux")]
pub use wire::watch;

/// How long anything is waited for: far more than it takes, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A process. It is killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    /// Its standard output.
    pub out: Lines,
    /// Its standard error.
    pub err: Lines,
}

impl Program {
    /// Starts it, with pipes on all three sides.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self::of(child, out, err)
    }

    /// One that was started, whose lines are read by others or by nobody.
    #[must_use]
    pub fn of(mut child: Child, out: Lines, err: Lines) -> Self {
        Self { input: child.stdin.take(), child, out, err }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Its standard input, for somebody else; dropping that is the end of it.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        // Its streams close with it.
        self.out.drain();
        self.err.drain();
        self.child.wait().unwrap()
    }

    /// Waits until it has ended by itself, while nobody reads what it says. It is killed, and so fails, after `limit`.
    pub fn ended_unread(&mut self, limit: Duration) -> ExitStatus {
        let ((ended, ending), id) = (channel::<()>(), self.child.id().to_string());
        let watch = thread::spawn(move || {
            if ending.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                Command::new("kill").args(["-s", "KILL", &id]).status().unwrap();
            }
        });
        let status = self.child.wait().unwrap();
        drop(ended);
        watch.join().unwrap();
        status
    }

    /// KiB of memory that it holds.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells that a test cannot run on this machine: to whoever reads its output, and by the file that `SETOWIRE_SKIPPED_TESTS` names,
/// from which `cargo xtask test` tells of it.
pub fn skipped(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("SETOWIRE_SKIPPED_TESTS") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        // In one write, for others write too.
        file.write_all(format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}
