//! What is shown: messages on one stream, notices on another, each written by a thread of its own.
//!
//! A pipe that nobody reads blocks whoever writes into it. Here it blocks one of these threads only: up to
//! [`LINES`] lines wait per stream, those beyond are counted instead of shown, and a notice says how many.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Lines that wait for one stream. When full, further ones are dropped and counted.
const LINES: usize = 1024;
/// Lines written between two notices about lost ones, while there are always more to write.
const LINES_PER_NOTICE: usize = LINES / 2;

/// The two streams. Nothing here waits, but for [`close`](Self::close).
#[derive(Debug)]
pub(crate) struct Screen {
    out: Stream,
    err: Stream,
}

impl Screen {
    /// Starts the threads. The receiver gets why messages cannot be written any more.
    ///
    /// # Errors
    ///
    /// When the system has no thread to give.
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> io::Result<(Self, oneshot::Receiver<io::Error>)> {
        let (err, _) = Stream::start("notices", err, |lost, err| writeln!(err, "{}", lost.notice()))?;
        // Weak, so that the notices end with the screen even while the messages cannot.
        let notices = Arc::downgrade(&err.lines);
        let (out, broken) = Stream::start("messages", out, move |lost, _| {
            if let Some(lines) = Weak::upgrade(&notices) {
                lines.send(lost.notice());
            }
            Ok(())
        })?;
        Ok((Self { out, err }, broken))
    }

    /// A message, on standard output.
    pub(crate) fn show(&self, nick: &str, text: &str) {
        self.out.lines.send(format!("{nick}\t{text}"));
    }

    /// Everything else, on standard error.
    pub(crate) fn notice(&self, text: &str) {
        self.err.lines.send(format!("* {text}"));
    }

    /// Waits until everything is written, for at most this long. What is not is given up.
    pub(crate) fn close(self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let (Stream { lines, done }, err) = (self.out, self.err);
        let counts = Arc::clone(&lines.counts);
        drop(lines);
        // Something is left for the notices, which may have to tell of lost messages.
        let stuck = ended(&done, deadline - limit / 4);
        let lost = Lost(if stuck { counts.lost() } else { 0 });
        if lost.0 > 0 {
            err.lines.send(lost.notice());
        }
        let Stream { lines, done } = err;
        drop(lines);
        ended(&done, deadline);
    }
}

/// Whether the thread was still writing at the deadline.
fn ended(done: &Receiver<()>, deadline: Instant) -> bool {
    // Nothing is ever sent: the channel closes with the thread.
    done.recv_timeout(deadline.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout)
}

/// Messages that were not shown.
struct Lost(usize);

impl Lost {
    fn notice(&self) -> String {
        let plural = if self.0 == 1 { "" } else { "s" };
        format!("* {} message{plural} could not be shown: too much came at once, or nobody reads", self.0)
    }
}

#[derive(Debug)]
struct Stream {
    lines: Arc<Lines>,
    done: Receiver<()>,
}

/// The way into a stream.
#[derive(Debug)]
struct Lines {
    sender: SyncSender<String>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines that wait, or are being written.
    queued: AtomicUsize,
    /// Lines for which there was no room, and of which nobody has been told.
    dropped: AtomicUsize,
}

impl Counts {
    fn lost(&self) -> usize {
        self.dropped.load(Ordering::Relaxed).saturating_add(self.queued.load(Ordering::Relaxed))
    }
}

impl Lines {
    fn send(&self, line: String) {
        // Before the thread can have written it.
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        match self.sender.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.counts.queued.fetch_sub(1, Ordering::Relaxed);
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // The stream is broken, which ends the program or cannot be told.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Stream {
    /// `tell` says how many lines were lost.
    fn start<W: Write + Send + 'static>(
        name: &str,
        mut to: W,
        mut tell: impl FnMut(Lost, &mut W) -> io::Result<()> + Send + 'static,
    ) -> io::Result<(Self, oneshot::Receiver<io::Error>)> {
        let (sender, lines) = sync_channel(LINES);
        let (ending, done) = channel::<()>();
        let (breaking, broken) = oneshot::channel();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ending = ending;
            if let Err(error) = write(&lines, &counted, &mut to, &mut tell) {
                // Nobody listens once the program is on its way out.
                let _ = breaking.send(error);
            }
        })?;
        Ok((Self { lines: Arc::new(Lines { sender, counts }), done }, broken))
    }
}

/// Writes lines until there will be no more.
fn write<W: Write>(
    lines: &Receiver<String>,
    counts: &Counts,
    to: &mut W,
    tell: &mut impl FnMut(Lost, &mut W) -> io::Result<()>,
) -> io::Result<()> {
    let mut since = 0;
    loop {
        let next = lines.try_recv();
        if next.is_err() || since >= LINES_PER_NOTICE {
            since = 0;
            let dropped = counts.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tell(Lost(dropped), to)?;
            }
        }
        let mut line = match next {
            Ok(line) => line,
            Err(TryRecvError::Empty) => match lines.recv() {
                Ok(line) => line,
                Err(_) => return Ok(()),
            },
            Err(TryRecvError::Disconnected) => return Ok(()),
        };
        line.push('\n');
        to.write_all(line.as_bytes())?;
        to.flush()?;
        counts.queued.fetch_sub(1, Ordering::Relaxed);
        since += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Sender;

    /// Hands on what is written, one part per permission.
    struct Gate {
        permits: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.permits.recv().is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // A test that has ended reads no more.
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, Sender<()>, Receiver<String>) {
        let ((permit, permits), (written, lines)) = (channel(), channel());
        (Gate { permits, written }, permit, lines)
    }

    #[test]
    fn lines_beyond_the_bound_are_counted_and_told() {
        let (out, permit, shown) = gate();
        let (err, permit_err, noted) = gate();
        let (screen, _broken) = Screen::start(out, err).unwrap();
        // One is being written from here on.
        screen.show("alice", "first");
        permit.send(()).unwrap();
        assert_eq!(shown.recv().unwrap(), "alice\tfirst\n");
        for number in 0..LINES + 100 {
            screen.show("alice", &number.to_string());
        }
        for _ in 0..LINES + 1 {
            permit.send(()).unwrap();
        }
        for _ in 0..4 {
            permit_err.send(()).unwrap();
        }
        // One more may have been taken out of the queue meanwhile.
        let told = noted.recv().unwrap();
        assert!(told.starts_with("* 100 messages could") || told.starts_with("* 99 messages could"), "{told}");
        screen.close(Duration::from_secs(20));
        assert!(shown.iter().count() >= LINES);
        assert_eq!(noted.iter().count(), 0);
    }

    #[test]
    fn streams_that_nobody_reads_do_not_keep_it_from_closing() {
        let (out, _permit, _shown) = gate();
        let (err, permit_err, noted) = gate();
        let (screen, _broken) = Screen::start(out, err).unwrap();
        for number in 0..7 {
            screen.show("alice", &number.to_string());
        }
        permit_err.send(()).unwrap();
        screen.close(Duration::from_millis(100));
        assert!(noted.recv().unwrap().starts_with("* 7 messages could"));
        let ((out, _a, _b), (err, _c, _d)) = (gate(), gate());
        let (screen, _broken) = Screen::start(out, err).unwrap();
        for _ in 0..2 * LINES {
            screen.show("alice", "");
            screen.notice("");
        }
        screen.close(Duration::from_millis(100));
    }

    #[test]
    fn a_stream_that_is_closed_is_told() {
        let (out, permit, _shown) = gate();
        drop(permit);
        let (screen, broken) = Screen::start(out, io::sink()).unwrap();
        screen.show("alice", "");
        assert_eq!(broken.blocking_recv().unwrap().kind(), io::ErrorKind::BrokenPipe);
        screen.close(Duration::from_secs(20));
    }
}
