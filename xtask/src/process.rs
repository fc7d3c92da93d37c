//! A child whose lines are waited for, and logged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// A line, and whence.
pub(crate) type Line = (Stream, String);

/// A child process with a log of all that goes in and out. It is killed with the value.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    arriving: Receiver<Line>,
    /// Lines that nobody has waited for yet, oldest first.
    waiting: VecDeque<Line>,
    log: Log,
}

/// A log file that several threads write.
#[derive(Clone, Debug)]
struct Log(Arc<Mutex<(File, Instant)>>);

impl Log {
    fn write(&self, mark: &str, line: &str) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, start) = &mut *guard;
        // A log that cannot be written is no reason to stop what it is about.
        let _ = writeln!(file, "{:9.3} {mark} {line}", start.elapsed().as_secs_f64());
    }
}

impl Process {
    /// Starts `command`; its log is `name` in the folder `logs`.
    ///
    /// # Errors
    /// When it cannot be started or the log not be written.
    pub(crate) fn spawn(mut command: Command, name: &str, logs: &Path) -> anyhow::Result<Self> {
        let path = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let log = Log(Arc::new(Mutex::new((file, Instant::now()))));
        log.write("$", &format!("{command:?}"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let (sender, arriving) = channel();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            read(out, Stream::Out, sender.clone(), log.clone());
            read(err, Stream::Err, sender, log.clone());
        }
        let stdin = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, stdin, arriving, waiting: VecDeque::new(), log })
    }

    /// Writes a line to its stdin.
    ///
    /// # Errors
    /// When it no longer reads.
    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        self.log.write(">", line);
        let name = &self.name;
        let stdin = self.stdin.as_mut().with_context(|| format!("{name} has no stdin left"))?;
        stdin.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("{name} does not read `{line}`"))
    }

    /// Waits for the first line that `find` makes something of, past or to come. Lines it makes nothing of wait on.
    ///
    /// # Errors
    /// When `limit` passes or the process ends first; `what` says what was waited for.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut find: impl FnMut(&Line) -> Option<T>,
    ) -> anyhow::Result<T> {
        if let Some((index, found)) = self.waiting.iter().enumerate().find_map(|(i, line)| Some((i, find(line)?))) {
            self.waiting.remove(index);
            return Ok(found);
        }
        let deadline = Instant::now() + limit;
        loop {
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match find(&line) {
                    Some(found) => return Ok(found),
                    None => self.waiting.push_back(line),
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} saw no {what} within {:.1} s", self.name, limit.as_secs_f64())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended while waiting for {what}", self.name),
            }
        }
    }

    /// Forgets the lines that came and were not waited for.
    pub(crate) fn forget(&mut self) {
        self.waiting.clear();
        while self.arriving.try_recv().is_ok() {}
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.log.write("$", "kill -9");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, as `kill` does.
    ///
    /// # Errors
    /// When `kill` is not to be had.
    pub(crate) fn terminate(&mut self) -> anyhow::Result<()> {
        self.log.write("$", "kill");
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        Ok(())
    }

    /// Closes its stdin and waits until it has [`exited`](Self::exited).
    ///
    /// # Errors
    /// As there.
    pub(crate) fn ended(&mut self, limit: Duration) -> anyhow::Result<()> {
        drop(self.stdin.take());
        self.exited(limit)
    }

    /// Waits until it has ended by itself: both of its streams are closed.
    ///
    /// # Errors
    /// When `limit` passes first, or its exit code is not 0.
    pub(crate) fn exited(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.waiting.push_back(line),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} did not end within {:.1} s", self.name, limit.as_secs_f64())
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A thread that passes on the lines of one stream until it closes.
fn read(from: impl Read + Send + 'static, stream: Stream, to: Sender<Line>, log: Log) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            log.write(if stream == Stream::Out { "<" } else { "!" }, &line);
            if to.send((stream, line)).is_err() {
                break;
            }
        }
    });
}
