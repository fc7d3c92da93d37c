//! What a group of peers needs beside its programs: servers to find and reach each other by, and tools that tell how that goes.

mod addresses;
mod config;
mod doctor;
mod exit;
mod helpers;
mod http;
mod identity;
mod join;
mod output;
mod ping;
mod reach;
mod serve;
mod settings;
mod signals;
mod table;
mod text;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::exit::Failure;
use crate::output::Output;

/// Runs what a group of peers needs to find and reach each other, and tells how that goes.
///
/// Data are on standard output; everything else is on standard error, each line beginning with `* `.
#[derive(Debug, Parser)]
#[command(name = "setowire", version, after_help = exit::HELP)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

/// Where a command says nothing here, its options do, at length.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the identity of this machine, or make one
    #[command(after_help = exit::HELP)]
    Id(identity::Options),
    #[command(after_help = exit::HELP)]
    Serve(serve::Options),
    #[command(after_help = exit::HELP)]
    Doctor(doctor::Options),
    #[command(after_help = exit::HELP)]
    Ping(ping::Options),
    #[command(after_help = exit::HELP)]
    Join(join::Options),
    /// Get and put values in the distributed hash table, announce this machine there, and look for others
    #[command(subcommand, after_help = exit::HELP)]
    Dht(table::Action),
    /// Check a configuration, or show what is in force
    #[command(subcommand, after_help = exit::HELP)]
    Config(config::Action),
}

fn main() -> ExitCode {
    // Wrong usage ends here, with code 2.
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(error) = &failure.error {
                Output { json: false }.note(&format!("{error:#}"));
            }
            ExitCode::from(&failure)
        }
    }
}

fn run(options: Options) -> Result<(), Failure> {
    match options.command {
        Command::Id(options) => identity::run(&options),
        Command::Config(action) => config::run(&action),
        Command::Doctor(options) => in_runtime(doctor::run(options)),
        Command::Join(options) => in_runtime(join::run(options)),
        Command::Dht(action) => in_runtime(table::run(action)),
        Command::Ping(options) => in_runtime(ping::run(options)),
        Command::Serve(options) => in_runtime(serve::run(options)),
    }
}

/// Runs to the end what waits for the network.
fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(work);
    // Nobody waits for a name that is still being looked up.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_sound() {
        Options::command().debug_assert();
    }
}
