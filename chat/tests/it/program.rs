//! A running chat program, whose lines are waited for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use testing::{LIMIT, Lines, Program};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_setowire-chat");

/// Killed when dropped.
pub(crate) struct Chat(Program);

impl Chat {
    /// A program of this machine alone; `options` are separated by spaces.
    pub(crate) fn start(options: &str) -> Self {
        Self::spawn(command(options))
    }

    /// One that speaks the v12 wire as well.
    pub(crate) fn start_v12(options: &str) -> Self {
        Self::start(&format!("{options} --v12"))
    }

    pub(crate) fn spawn(command: Command) -> Self {
        Self(Program::start(command))
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
        self.0.err.told(begin).rsplit(' ').next().unwrap().to_owned()
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
            let is_count = |line: &str| line.ends_with(" peer here") || line.ends_with(" peers here");
            let told = self.0.err.find("peers here", is_count);
            let here: usize = told.split_whitespace().nth(1).unwrap().parse().unwrap();
            let peers: Vec<String> = (0..here).map(|_| self.noted("*   ")).collect();
            if are_they(&peers) {
                return peers;
            }
            assert!(Instant::now() < deadline, "that are not the peers: {peers:#?}");
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        self.0.tell(line);
    }

    /// The end of its input.
    pub(crate) fn close(&mut self) {
        drop(self.0.input());
    }

    /// The next line of standard output.
    pub(crate) fn said(&self) -> String {
        self.0.out.next()
    }

    /// The next line of standard error that begins with this.
    pub(crate) fn noted(&self, begin: &str) -> String {
        self.0.err.find(begin, |line| {
            assert!(line.starts_with("* "), "{line}");
            line.starts_with(begin)
        })
    }

    /// Waits until it has ended by itself; how, and what it had left to say.
    pub(crate) fn ended(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let (out, err) = (self.0.out.drain(), self.0.err.drain());
        (self.0.ended(), out, err)
    }

    /// Writes a line again and again, from a thread of its own; tells of each time.
    #[cfg(unix)]
    pub(crate) fn flood(&mut self, line: &str, count: usize) -> Receiver<()> {
        let (mut input, line, (sender, written)) = (self.0.input().unwrap(), line.to_owned(), channel());
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
        self.0.ended_unread(Duration::from_secs(5))
    }

    /// One whose standard output, and standard error beyond its address if `mute`, nobody reads.
    #[cfg(unix)]
    pub(crate) fn unread(options: &str, mute: bool) -> (Self, Box<dyn std::any::Any>) {
        let mut command = command(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, mut err) = (child.stdout.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        let mut first = String::new();
        err.read_line(&mut first).unwrap();
        let past = vec![first.trim_end().to_owned()];
        // The pipes stay open as long as they are held.
        if mute {
            return (Self(Program::of(child, Lines::none(), Lines::none().after(past))), Box::new((out, err)));
        }
        (Self(Program::of(child, Lines::none(), Lines::of(err).after(past))), Box::new(out))
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        self.0.signal(name);
    }
}

fn command(options: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["--no-lan", "--bind", "127.0.0.1:0"]).args(options.split_whitespace());
    command
}
