//! What a process writes, line by line.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use crate::LIMIT;

/// The lines of a stream: those that came, and those to come.
#[derive(Debug)]
pub struct Lines {
    arriving: Receiver<String>,
    past: RefCell<Vec<String>>,
}

impl Lines {
    /// Those of a stream, which is read as fast as it comes.
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, arriving) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { arriving, past: RefCell::default() }
    }

    /// The same of a stream of which some were read already.
    #[must_use]
    pub fn after(self, past: Vec<String>) -> Self {
        Self { past: RefCell::new(past), ..self }
    }

    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self { arriving: channel().1, past: RefCell::default() }
    }

    /// The next one.
    #[must_use]
    pub fn next(&self) -> String {
        self.find("line", |_| true)
    }

    /// The next one that begins so; those before it are passed over.
    pub fn begins(&self, begin: &str) -> String {
        self.find(begin, |line| line.starts_with(begin))
    }

    /// The next one that is what is looked for, which `what` calls it.
    pub fn find(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.arriving.recv_timeout(left);
            let line = next.unwrap_or_else(|error| panic!("no `{what}`, {error}, after {:#?}", self.past.borrow()));
            self.past.borrow_mut().push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
    }

    /// The first one that begins so, whether it was waited for already or is to come.
    #[must_use]
    pub fn told(&self, begin: &str) -> String {
        let past = self.past.borrow().iter().find(|line| line.starts_with(begin)).cloned();
        past.unwrap_or_else(|| self.begins(begin))
    }

    /// Takes those that have come by now.
    pub fn look(&self) {
        self.past.borrow_mut().extend(self.arriving.try_iter());
    }

    /// All that have come and were taken.
    #[must_use]
    pub fn past(&self) -> Vec<String> {
        self.past.borrow().clone()
    }

    /// Waits for the end of the stream, and returns what came since the last one that was taken.
    pub fn drain(&self) -> Vec<String> {
        let (deadline, mut rest) = (Instant::now() + LIMIT, Vec::new());
        loop {
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end, after {:#?}", self.past.borrow()),
            }
        }
        self.past.borrow_mut().extend(rest.iter().cloned());
        rest
    }
}
