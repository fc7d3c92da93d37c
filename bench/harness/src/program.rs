//! The command line of the programs.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, io, thread};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::client::{self, Amount};
use crate::control::{self, Control};
use crate::library::{Library, Settings};
use crate::machine;
use crate::server;
use crate::tally::Tally;
use crate::work::Work;

const USAGE: &str =
    "works | server WORK [--bind IP] [--cpu N] | client WORK --ticket T [--bind IP] [--cpu N] [--quick]";

/// What `main` of every program is.
#[must_use]
pub fn run<L: Library>() -> ExitCode {
    match start::<L>() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", L::NAME);
            ExitCode::FAILURE
        }
    }
}

/// The options behind the work.
#[derive(Debug)]
struct Options {
    bind: IpAddr,
    cpu: Option<usize>,
    ticket: Option<String>,
    quick: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { bind: Ipv4Addr::LOCALHOST.into(), cpu: None, ticket: None, quick: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--bind" => options.bind = value()?.parse()?,
                "--cpu" => options.cpu = Some(value()?.parse()?),
                "--ticket" => options.ticket = Some(value()?),
                "--quick" => options.quick = true,
                _ => bail!("unknown option `{word}`; {USAGE}"),
            }
        }
        Ok(options)
    }
}

fn start<L: Library>() -> Result<()> {
    let mut words = env::args().skip(1);
    let command = words.next().context(USAGE)?;
    if command == "works" {
        for (name, _) in Work::ALL.iter().filter(|(_, work)| L::supports(*work)) {
            println!("{name}");
        }
        return Ok(());
    }
    let work: Work = words.next().context(USAGE)?.parse()?;
    let options = Options::parse(words)?;
    if let Some(cpu) = options.cpu {
        machine::pin(cpu)?;
    }
    machine::allow_files()?;
    let settings = Settings { work, bind: options.bind };
    // One thread: two processes, two cores. `spawn`, since tokio polls what it blocks on less often than tasks.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command.as_str() {
        "server" => runtime.block_on(async { tokio::spawn(serve::<L>(settings)).await? }),
        "client" => {
            let amount = if options.quick { Amount::QUICK } else { Amount::FULL };
            let ticket = options.ticket.context(USAGE)?;
            let figures = runtime.block_on(async { tokio::spawn(measure::<L>(settings, ticket, amount)).await? })?;
            print(&json!({ "library": L::NAME, "work": work.to_string(), "figures": figures }))
        }
        _ => bail!("{USAGE}"),
    }
}

async fn serve<L: Library>(settings: Settings) -> Result<()> {
    let tally = Arc::new(Tally::default());
    let control = control::serve(settings.bind, Arc::clone(&tally))?;
    let (listener, ticket) = L::listen(&settings).await?;
    let limits: Map<String, Value> =
        L::limits(&settings).into_iter().map(|(name, limit)| (name.to_owned(), json!(limit))).collect();
    print(&json!({ "ticket": format!("{control}/{ticket}"), "limits": limits }))?;
    thread::spawn(|| {
        // Whoever started the server closes its stdin, or is gone.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    server::serve::<L>(listener, settings.work, tally).await
}

async fn measure<L: Library>(settings: Settings, ticket: String, amount: Amount) -> Result<Map<String, Value>> {
    let (control, ticket) = ticket.split_once('/').context("a ticket without the control port")?;
    let control = Control::connect(control.parse()?).await?;
    let dialer = L::dialer(&settings, ticket).await?;
    client::measure::<L>(dialer, control, settings.work, amount).await
}

fn print(line: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
