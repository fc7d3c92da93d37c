//! The tasks of this workspace: `cargo xtask <command>`.
//!
//! Whatever measures or checks a list ends in a [`report::Report`]: a table on stdout and, with `--json FILE`, one
//! object per line. The exit code is 0 when nothing is wrong, 1 when something is (a missed speed goal is not), and 2
//! when the command line is.

mod bench;
mod ci;
mod doctor;
mod examples;
mod flags;
mod fuzz;
mod interop;
mod model;
mod natlab;
mod network;
mod peers;
mod process;
mod programs;
mod python;
mod readme;
mod report;
mod sim;
mod steps;
mod tables;
mod test;
mod tidy;
mod tools;
mod vectors;
mod workspace;

use std::process::ExitCode;

use flags::XtaskCmd;

/// The command line asks for something that does not exist; exit code 2.
#[derive(Debug)]
struct UsageError(String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

fn main() -> ExitCode {
    let outcome = flags::parse().and_then(|flags| match flags.map(|flags| flags.subcommand) {
        None => Ok(true),
        Some(XtaskCmd::Ci(flags)) => ci::run(&flags),
        Some(XtaskCmd::Test(flags)) => test::run(&flags),
        Some(XtaskCmd::Interop(flags)) => interop::run(&flags),
        Some(XtaskCmd::Readme(flags)) => readme::run(&flags),
        Some(XtaskCmd::Vectors(flags)) => vectors::run(&flags),
        Some(XtaskCmd::Tidy(flags)) => tidy::run(&flags),
        Some(XtaskCmd::Bench(flags)) => bench::run(&flags),
        Some(XtaskCmd::Sim(flags)) => sim::run(&flags),
        Some(XtaskCmd::Natlab(flags)) => natlab::run(&flags),
        Some(XtaskCmd::Fuzz(flags)) => fuzz::run(&flags),
        Some(XtaskCmd::Model(flags)) => model::run(&flags),
        Some(XtaskCmd::Doctor(flags)) => doctor::run(&flags),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            report::complain(&error);
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}
