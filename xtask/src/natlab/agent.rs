//! A node in the laboratory: the example `lab` of the library, driven by lines.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::lab::Lab;
use crate::process::{Line, Process, Stream};

/// How long a node may take to start, to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked whether it is where it should be.
const LOOK: Duration = Duration::from_millis(50);

/// A running node.
#[derive(Debug)]
pub(super) struct Agent {
    process: Process,
    pub(super) id: String,
}

impl Agent {
    /// Starts one on a host, with these options.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) fn start(
        lab: &Lab,
        host: &str,
        program: &Path,
        options: &[String],
        name: &str,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = lab.command(host, program);
        command.args(options);
        let mut process = Process::spawn(command, name, logs)?;
        let ready = process.wait("event `ready`", PATIENCE, |line| event(line, "ready"))?;
        let id = ready["id"].as_str().context("`ready` without an id")?.to_owned();
        Ok(Self { process, id })
    }

    /// Gives it a command.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn tell(&mut self, command: &str) -> anyhow::Result<()> {
        self.process.tell(command)
    }

    /// Waits for an event of this name.
    ///
    /// # Errors
    /// When it does not come.
    pub(super) fn event(&mut self, name: &str, limit: Duration) -> anyhow::Result<Value> {
        self.process.wait(&format!("event `{name}`"), limit, |line| event(line, name))
    }

    /// Asks, and returns the answer, whose event has the name of the command.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn ask(&mut self, command: &str) -> anyhow::Result<Value> {
        self.tell(command)?;
        let name = command.split(' ').next().unwrap_or_default();
        self.event(name, PATIENCE)
    }

    /// Asks again and again until the answer is as wanted; how long that took, and the answer.
    ///
    /// # Errors
    /// When it is not within `limit`; with the last answer.
    pub(super) fn until(
        &mut self,
        command: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<(Duration, Value)> {
        let start = Instant::now();
        loop {
            let answer = self.ask(command)?;
            if wanted(&answer) {
                return Ok((start.elapsed(), answer));
            }
            if start.elapsed() > limit {
                bail!("after {} s it still answers to `{command}`: {answer}", limit.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether it has told that the session with a peer ended.
    pub(super) fn has_lost(&mut self, peer: &str) -> bool {
        let lost = |line: &Line| event(line, "disconnected").filter(|event| event["peer"] == peer);
        self.process.wait("event `disconnected`", Duration::ZERO, lost).is_ok()
    }

    /// Lets it leave.
    ///
    /// # Errors
    /// When it does not end by itself.
    pub(super) fn quit(mut self) -> anyhow::Result<()> {
        self.tell("quit")?;
        self.process.ended(PATIENCE)
    }
}

fn event(line: &Line, name: &str) -> Option<Value> {
    let (Stream::Out, text) = line else { return None };
    serde_json::from_str::<Value>(text).ok().filter(|event| event["event"] == name)
}
