//! A running chat program, whose lines are waited for.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_setowire-chat");

/// Killed when dropped.
pub(crate) struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    out: Receiver<String>,
    err: Receiver<String>,
    addr: Option<String>,
}

impl Chat {
    /// A program of this machine alone; `options` are separated by spaces.
    pub(crate) fn start(options: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["--v12", "--no-lan", "--bind", "127.0.0.1:0"]).args(options.split_whitespace());
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { input: child.stdin.take(), child, out, err, addr: None }
    }

    /// One that another has dialled.
    pub(crate) fn pair() -> (Self, Self) {
        let mut alice = Self::start("alice lobby");
        let mut bob = Self::start(&format!("bob lobby --dial {}", alice.addr()));
        bob.addr();
        alice.noted("* bob joined");
        bob.noted("* alice joined");
        (alice, bob)
    }

    /// The address it listens on.
    pub(crate) fn addr(&mut self) -> String {
        if self.addr.is_none() {
            self.addr = self.noted("* listening on ").rsplit(' ').next().map(str::to_owned);
        }
        self.addr.clone().unwrap()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The end of its input.
    pub(crate) fn close(&mut self) {
        self.input = None;
    }

    /// The next line of standard output.
    pub(crate) fn said(&self) -> String {
        self.out.recv_timeout(LIMIT).expect("a line of standard output")
    }

    /// The next line of standard error that begins with this.
    pub(crate) fn noted(&self, begin: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.err.recv_timeout(left).unwrap_or_else(|_| panic!("no line `{begin}`"));
            assert!(line.starts_with("* "), "{line}");
            if line.starts_with(begin) {
                return line;
            }
        }
    }

    /// Waits until it has ended by itself; how, and what it had left to say.
    pub(crate) fn ended(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let deadline = Instant::now() + LIMIT;
        let rest = |lines: &Receiver<String>| {
            let mut rest = Vec::new();
            // The channel closes with the stream.
            while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                rest.push(line);
            }
            rest
        };
        let (out, err) = (rest(&self.out), rest(&self.err));
        assert!(Instant::now() < deadline, "it does not end");
        (self.child.wait().unwrap(), out, err)
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Chat {
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
