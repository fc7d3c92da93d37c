//! A running program, whose lines are waited for.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

pub(crate) use testing::LIMIT;
use testing::Program;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_setowire");

/// The program, with a data folder of this run of the tests.
pub(crate) fn command(options: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(options.split_whitespace()).stdin(Stdio::null());
    command.env("SETOWIRE_DATA_DIR", folder("data"));
    for name in ["SETOWIRE_LISTEN", "SETOWIRE_IDENTITY", "SETOWIRE_HTTP", "SETOWIRE_PIPING", "SETOWIRE_CONFIG"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end: the exit status, and what it wrote.
pub(crate) fn run(options: &str) -> (i32, String, String) {
    let output = command(options).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A file of this run that does not exist, in the folder that cargo gives to tests.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}", std::process::id())).join(name)
}

/// A file with this content.
pub(crate) fn file(name: &str, content: &str) -> PathBuf {
    let path = folder(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// Killed when dropped.
pub(crate) struct Server(Program);

impl Server {
    /// Starts `setowire serve` with these options and waits until it is ready.
    pub(crate) fn start(options: &str) -> Self {
        Self::spawn(command(&format!("serve {options}")))
    }

    pub(crate) fn spawn(command: Command) -> Self {
        let server = Self(Program::start(command));
        server.noted("* ready");
        server
    }

    /// What it said to give to others for this part.
    pub(crate) fn give(&self, role: &str) -> String {
        let begin = format!("{role}\t");
        self.0.out.told(&begin).strip_prefix(&begin).unwrap().to_owned()
    }

    /// Whether it told of this part before it was ready.
    pub(crate) fn gives(&self, role: &str) -> bool {
        // What is told of the parts is written before it says that it is ready, so a later part is there too.
        self.0.out.look();
        self.0.out.past().iter().any(|line| line.starts_with(role))
    }

    /// Where the server of this name listens.
    pub(crate) fn http(&self, role: &str) -> SocketAddr {
        self.give(role).strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Waits for a line of standard error.
    pub(crate) fn noted(&self, begin: &str) {
        self.0.err.begins(begin);
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        self.0.signal(name);
    }

    /// Waits until it has ended by itself: how, and what it said on standard error since it was ready.
    pub(crate) fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        let rest = self.0.err.drain();
        (self.0.ended(), rest)
    }

    /// KiB of memory that it holds.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident(&self) -> u64 {
        self.0.resident()
    }
}
