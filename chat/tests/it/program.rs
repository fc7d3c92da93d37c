//! A running chat program, whose lines are waited for.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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

    /// Writes a line again and again, from a thread of its own; tells of each time.
    #[cfg(unix)]
    pub(crate) fn flood(&mut self, line: &str, count: usize) -> Receiver<()> {
        let (mut input, line, (sender, written)) = (self.input.take().unwrap(), line.to_owned(), channel());
        thread::spawn(move || {
            for _ in 0..count {
                if writeln!(input, "{line}").is_err() || sender.send(()).is_err() {
                    return;
                }
            }
            // Its end is not the end of the input.
            std::mem::forget(input);
        });
        written
    }

    /// Asks it to end and waits until it has, while nobody reads what it says. Killed, and so no success, after 5 s.
    #[cfg(unix)]
    pub(crate) fn terminated(mut self) -> ExitStatus {
        self.signal("TERM");
        let (ended, ending) = channel::<()>();
        let id = self.child.id().to_string();
        let watch = thread::spawn(move || {
            if ending.recv_timeout(Duration::from_secs(5)) == Err(RecvTimeoutError::Timeout) {
                Command::new("kill").args(["-s", "KILL", &id]).status().unwrap();
            }
        });
        let status = self.child.wait().unwrap();
        drop(ended);
        watch.join().unwrap();
        status
    }

    /// One whose standard output, and standard error beyond its address if `mute`, nobody reads.
    #[cfg(unix)]
    pub(crate) fn unread(options: &str, mute: bool) -> (Self, Box<dyn std::any::Any>) {
        let mut command = Command::new(BINARY);
        command.args(["--v12", "--no-lan", "--bind", "127.0.0.1:0"]).args(options.split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, mut err) = (child.stdout.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        let mut first = String::new();
        err.read_line(&mut first).unwrap();
        let addr = first.trim_end().strip_prefix("* listening on ").map(str::to_owned);
        let (input, (_, nothing)) = (child.stdin.take(), channel());
        // The pipes stay open as long as they are held.
        if mute {
            return (Self { child, input, out: nothing, err: channel().1, addr }, Box::new((out, err)));
        }
        (Self { child, input, out: nothing, err: lines(err), addr }, Box::new(out))
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
