//! A running chat program, whose lines are waited for.

use std::cell::RefCell;
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
    /// The lines of standard error that were read.
    past: RefCell<Vec<String>>,
}

impl Chat {
    /// A program of this machine alone; `options` are separated by spaces.
    pub(crate) fn start(options: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["--no-lan", "--bind", "127.0.0.1:0"]).args(options.split_whitespace());
        Self::spawn(command)
    }

    /// One that speaks the v12 wire as well.
    pub(crate) fn start_v12(options: &str) -> Self {
        Self::start(&format!("{options} --v12"))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { input: child.stdin.take(), child, out, err, past: RefCell::default() }
    }

    /// One that another has dialled.
    pub(crate) fn pair() -> (Self, Self) {
        let alice = Self::start("alice lobby");
        let bob = Self::start(&format!("bob lobby --dial {}", alice.addr()));
        bob.addr();
        alice.noted("* bob joined");
        bob.noted("* alice joined");
        (alice, bob)
    }

    /// The address it listens on.
    pub(crate) fn addr(&self) -> String {
        self.told("* listening on ")
    }

    /// The address on the v12 wire of one that speaks it.
    pub(crate) fn v12_addr(&self) -> String {
        self.told("* listening for the v12 wire on ")
    }

    /// The address that names its key, as it tells others.
    pub(crate) fn uri(&self) -> String {
        self.told("* others reach you by --dial ")
    }

    /// The last word of the line that begins so, which may have been read before.
    fn told(&self, begin: &str) -> String {
        let past = self.past.borrow().iter().find(|line| line.starts_with(begin)).cloned();
        past.unwrap_or_else(|| self.noted(begin)).rsplit(' ').next().unwrap().to_owned()
    }

    /// What it says of the peers that are here, once there are so many of them and all have a name.
    pub(crate) fn peers(&mut self, count: usize) -> Vec<String> {
        self.peers_once(|peers| peers.len() == count && peers.iter().all(|peer| !peer.contains(" ? ")))
    }

    /// The same, once they are as they should be.
    pub(crate) fn peers_once(&mut self, are_they: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.tell("/peers");
            let told = self.note("peers here", |line| line.ends_with(" peer here") || line.ends_with(" peers here"));
            let here: usize = told.split_whitespace().nth(1).unwrap().parse().unwrap();
            let peers: Vec<String> = (0..here).map(|_| self.noted("*   ")).collect();
            if are_they(&peers) {
                return peers;
            }
            assert!(Instant::now() < deadline, "that are not the peers: {peers:#?}");
        }
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
        self.note(begin, |line| line.starts_with(begin))
    }

    fn note(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line =
                self.err.recv_timeout(left).unwrap_or_else(|_| panic!("no `{what}` in {:#?}", self.past.borrow()));
            assert!(line.starts_with("* "), "{line}");
            self.past.borrow_mut().push(line.clone());
            if is_it(&line) {
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
        command.args(["--no-lan", "--bind", "127.0.0.1:0"]).args(options.split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, mut err) = (child.stdout.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        let mut first = String::new();
        err.read_line(&mut first).unwrap();
        let past = RefCell::new(vec![first.trim_end().to_owned()]);
        let (input, (_, nothing)) = (child.stdin.take(), channel());
        // The pipes stay open as long as they are held.
        if mute {
            return (Self { child, input, out: nothing, err: channel().1, past }, Box::new((out, err)));
        }
        (Self { child, input, out: nothing, err: lines(err), past }, Box::new(out))
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
