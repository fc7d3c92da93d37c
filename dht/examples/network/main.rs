//! Networks of nodes in virtual time: what lookups in them find, what they cost and how long they take. `cargo xtask sim dht` runs
//! this program and judges its figures; by itself it prints them, one in a line: name, value, unit, "most" or "least" and the goal if
//! there is one, note, with tabs between them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "a tool for developers"
)]

mod measure;
mod net;
mod node;
mod options;
mod scenario;

use std::process::ExitCode;

fn main() -> ExitCode {
    match options::Options::parse(std::env::args().skip(1)) {
        Ok(options) => {
            options.scenarios.iter().for_each(|name| scenario::run(name, &options));
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(2)
        }
    }
}
