//! `setowire dht`: the distributed hash table by hand.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use serde_json::{Value, json};
use swarm::discovery::Task;
use swarm::{Key, PeerId, Swarm, TopicEvent, TopicId};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::exit::Failure;
use crate::helpers::Helpers;
use crate::output::Output;
use crate::signals::{Signal, Signals};
use crate::{identity, text};

/// How often the node is asked how it goes.
const LOOK: Duration = Duration::from_millis(50);
/// Once somebody was found and nobody else for so long, no more are expected.
const QUIET: Duration = Duration::from_secs(2);
/// The longest value.
const MAX_VALUE: u64 = 1000;

/// `setowire dht`.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Action {
    /// Look for a value: one by its key, or the newest that somebody has signed
    Get {
        /// The key of a value: 64 hexadecimal digits, as `put` tells it
        #[arg(value_name = "KEY", required_unless_present = "signer", conflicts_with_all = ["signer", "salt"])]
        key: Option<Digits>,

        /// Whose value it is
        #[arg(long, value_name = "ID")]
        signer: Option<PeerId>,

        /// Which of them
        #[arg(long, value_name = "TEXT", default_value = "")]
        salt: String,

        #[command(flatten)]
        common: Common,
    },
    /// Put a value of at most 1000 bytes where others find it for a day, and tell its key
    Put {
        /// The value; without it what is on standard input
        #[arg(value_name = "VALUE")]
        value: Option<String>,

        /// Sign the value, and put it in the place of the one with a lower number
        #[arg(long, value_name = "NUMBER")]
        sequence: Option<u64>,

        /// Tells several values of one signer apart
        #[arg(long, value_name = "TEXT", default_value = "", requires = "sequence")]
        salt: String,

        /// Who signs; without it whoever `setowire id` shows
        #[arg(long, value_name = "FILE", requires = "sequence")]
        identity: Option<PathBuf>,

        #[command(flatten)]
        common: Common,
    },
    /// Look for those who announce themselves in a topic, and connect to them
    Peers {
        /// The name of the topic
        #[arg(value_name = "TOPIC")]
        topic: String,

        #[command(flatten)]
        common: Common,
    },
    /// Announce this machine in a topic, until Ctrl-C
    Announce {
        /// The name of the topic
        #[arg(value_name = "TOPIC")]
        topic: String,

        #[command(flatten)]
        common: Common,
    },
}

/// What all of them are told. Nobody is contacted but the nodes that are named, whom these know, and who is found.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    helpers: Helpers,

    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,

    /// Write an object for each thing that is told
    #[arg(long)]
    json: bool,
}

/// A key as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Digits(Key);

impl FromStr for Digits {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a key has 64 hexadecimal digits";
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(digits, 16).or(Err(wrong))?;
        }
        Ok(Self(Key::from_bytes(bytes)))
    }
}

/// Does it, unless a signal comes before its end.
pub(crate) async fn run(action: Action) -> Result<(), Failure> {
    let (Action::Get { common, .. }
    | Action::Put { common, .. }
    | Action::Peers { common, .. }
    | Action::Announce { common, .. }) = &action;
    let (common, mut signals) = (common.clone(), Signals::new()?);
    if common.helpers.bootstrap.is_empty() {
        let nowhere =
            anyhow!("name a node of the table to begin at, by --bootstrap HOST:PORT; `setowire serve` is one");
        return Err(Failure::new(2, nowhere));
    }
    let out = Output { json: common.json };
    let mut builder = common.helpers.builder().agent(concat!("setowire-dht/", env!("CARGO_PKG_VERSION")));
    if let Action::Put { sequence: Some(_), identity, .. } = &action {
        builder = builder.identity(identity::load_or_create(&identity::path(identity.as_deref())?, out)?);
    }
    // Read before anybody is troubled.
    let value = match &action {
        Action::Put { value, .. } => read(value.as_deref())?,
        _ => Vec::new(),
    };
    let swarm = builder.bind().await.context("the node cannot start")?;
    let work = Work { swarm: &swarm, out, limit: Duration::from_secs(common.timeout) };
    let done = tokio::select! {
        done = work.of(action, &value) => done,
        signal = signals.next() => match signal {
            Signal::Interrupt => Err(Failure::silent(Failure::INTERRUPTED)),
            Signal::Terminate => Ok(()),
        },
    };
    swarm.shutdown(Duration::from_millis(500)).await;
    done
}

/// The value to put.
fn read(value: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match value {
        Some(value) => bytes.extend_from_slice(value.as_bytes()),
        None => drop(io::stdin().lock().take(MAX_VALUE + 1).read_to_end(&mut bytes).context("cannot read the value")?),
    }
    ensure!(bytes.len() as u64 <= MAX_VALUE, "a value has at most {MAX_VALUE} bytes");
    Ok(bytes)
}

/// A node that was started for one thing.
struct Work<'a> {
    swarm: &'a Swarm,
    out: Output,
    limit: Duration,
}

impl Work<'_> {
    async fn of(&self, action: Action, value: &[u8]) -> Result<(), Failure> {
        let late = || Failure::new(Failure::TIMED_OUT, anyhow!("it is not done within {} s", self.limit.as_secs()));
        timeout(self.limit, self.begin()).await.map_err(|_late| {
            Failure::new(
                Failure::UNREACHED,
                anyhow!("none of the named nodes answers within {} s", self.limit.as_secs()),
            )
        })??;
        match action {
            Action::Get { key: Some(Digits(key)), .. } => {
                let found =
                    timeout(self.limit, self.swarm.dht().get_immutable(key)).await.map_err(|_late| late())??;
                self.show(found.as_deref(), json!({"t": "value", "key": key.to_string()}))
            }
            Action::Get { signer, salt, .. } => {
                let signer = signer.context("name a key, or whose value it is by --signer")?;
                let found = timeout(self.limit, self.swarm.dht().get_mutable(signer, &salt))
                    .await
                    .map_err(|_late| late())??;
                let sequence = found.as_ref().map(|found| found.sequence);
                let fields = json!({"t": "value", "signer": signer.to_string(), "salt": salt, "sequence": sequence});
                self.show(found.as_ref().map(|found| &found.value[..]), fields)
            }
            Action::Put { sequence, salt, .. } => {
                let table = self.swarm.dht();
                let put = async {
                    match sequence {
                        Some(sequence) => table.put_mutable(&salt, sequence, value).await,
                        None => table.put_immutable(value).await,
                    }
                };
                let stored = timeout(self.limit, put).await.map_err(|_late| late())??;
                let signer = sequence.map(|_| self.swarm.id().to_string());
                let name = signer.clone().unwrap_or_else(|| stored.key.to_string());
                let fields = json!({"t": "stored", "key": stored.key.to_string(), "nodes": stored.nodes, "signer": signer, "sequence": sequence});
                self.out.data(&name, fields);
                self.out.note(&format!(
                    "kept for a day by {} node{}",
                    stored.nodes,
                    if stored.nodes == 1 { "" } else { "s" }
                ));
                Ok(())
            }
            Action::Peers { topic, .. } => self.peers(&topic).await,
            Action::Announce { topic, .. } => self.announce(&topic).await,
        }
    }

    /// Waits until somebody of the table is known.
    async fn begin(&self) -> Result<(), Failure> {
        let table = self.swarm.dht();
        while table.stats().await?.is_none_or(|stats| stats.contacts.iter().sum::<usize>() == 0) {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// What was found.
    fn show(&self, value: Option<&[u8]>, mut fields: Value) -> Result<(), Failure> {
        let Some(value) = value else {
            return Err(Failure::new(Failure::UNREACHED, anyhow!("none of the nodes that were asked has it")));
        };
        let (name, written) = text::field(value);
        if let Some(fields) = fields.as_object_mut() {
            fields.insert(name.to_owned(), Value::from(written));
        }
        self.out.only_json(fields);
        if !self.out.json {
            // As it is, unless somebody looks at it.
            let mut stdout = io::stdout().lock();
            if stdout.is_terminal() {
                writeln!(stdout, "{}", text::shown(value))?;
            } else {
                stdout.write_all(value)?;
                stdout.flush()?;
            }
        }
        Ok(())
    }

    /// Those who are in a topic, as far as they are reached.
    async fn peers(&self, topic: &str) -> Result<(), Failure> {
        let joined = self.swarm.join_with(topic, false, true)?;
        let mut events = joined.events();
        let end = Instant::now() + self.limit;
        let (mut found, mut quiet) = (0, end);
        while let Ok(event) = timeout_at(quiet, events.next()).await {
            if let TopicEvent::Joined(peer) = event.context("the node has ended by itself")? {
                found += 1;
                quiet = end.min(Instant::now() + QUIET);
                let at = peer.info().await.map(|info| info.addr);
                let line = at.map_or_else(|| peer.id().to_string(), |at| format!("{}@{at}", peer.id()));
                self.out.data(&line, json!({"t": "peer", "id": peer.id().to_string(), "addr": at}));
            }
        }
        if found == 0 {
            return Err(Failure::new(Failure::UNREACHED, anyhow!("nobody found ({})", self.swarm.discovery())));
        }
        Ok(())
    }

    /// Announces itself, tells when that was done, and stays.
    async fn announce(&self, topic: &str) -> Result<(), Failure> {
        let _joined = self.swarm.join_with(topic, true, false)?;
        let task = Task::Announce(TopicId::from(topic));
        let is_done = || self.swarm.discovery().of(task).iter().any(|progress| progress.answered > 0);
        let done = async {
            while !is_done() {
                sleep(LOOK).await;
            }
        };
        if timeout(self.limit, done).await.is_err() {
            let error = anyhow!("not announced within {} s ({})", self.limit.as_secs(), self.swarm.discovery());
            return Err(Failure::new(Failure::TIMED_OUT, error));
        }
        let id = self.swarm.id().to_string();
        self.out.event(&format!("announced {id}; Ctrl-C ends it"), json!({"t": "announced", "id": id}));
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_in_digits() {
        let key = Key::from_bytes([0xab; 32]);
        assert_eq!(key.to_string().parse(), Ok(Digits(key)));
        for wrong in ["", "ab", &"g".repeat(64), &"ä".repeat(32)] {
            assert!(wrong.parse::<Digits>().is_err(), "{wrong}");
        }
    }
}
