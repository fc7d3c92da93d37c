//! A running program, whose lines are waited for.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than anything here takes, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The program, with a data folder of this run of the tests.
pub(crate) fn command(options: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_setowire"));
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
pub(crate) struct Server {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    /// What it has written so far.
    pub(crate) lines: Vec<String>,
}

impl Server {
    /// Starts `setowire serve` with these options and waits until it is ready.
    pub(crate) fn start(options: &str) -> Self {
        Self::spawn(command(&format!("serve {options}")))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        let mut server = Self { child, out, err, lines: Vec::new() };
        server.noted("* ready");
        // What is told of the parts is written before.
        while let Ok(line) = server.out.try_recv() {
            server.lines.push(line);
        }
        server
    }

    /// What it said to give to others for this part.
    pub(crate) fn give(&mut self, role: &str) -> String {
        let begin = format!("{role}\t");
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(given) = self.lines.iter().find_map(|line| line.strip_prefix(&begin)) {
                return given.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.out.recv_timeout(left).unwrap_or_else(|_| panic!("no {role} in {:?}", self.lines));
            self.lines.push(line);
        }
    }

    /// Where the server of this name listens.
    pub(crate) fn http(&mut self, role: &str) -> SocketAddr {
        self.give(role).strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Waits for a line of standard error.
    pub(crate) fn noted(&mut self, line: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.err.recv_timeout(left).unwrap_or_else(|_| panic!("no `{line}` in {:?}", self.lines));
            let found = next.starts_with(line);
            self.lines.push(next);
            if found {
                return;
            }
        }
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        // The channel closes with the stream.
        while let Ok(line) = self.err.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.lines.push(line);
        }
        assert!(Instant::now() < deadline, "it does not end");
        self.child.wait().unwrap()
    }

    /// Kilobytes of memory that it holds.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
