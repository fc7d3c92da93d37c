//! The command line.

use std::fmt::Display;
use std::str::FromStr;

use crate::net::Start;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Options {
    pub nodes: u32,
    pub seed: u64,
    /// How networks come into being; if not said, small and calm ones by joining.
    pub start: Option<Start>,
    /// Queries of each kind in a scenario.
    pub queries: u32,
    /// Minutes in which nodes are replaced before anything is measured, and as many while it is.
    pub minutes: u32,
    /// Of 1000 datagrams, those that are lost.
    pub loss: u32,
    pub scenarios: Vec<String>,
}

impl Options {
    /// Reads `--name value` pairs.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let scenarios = SCENARIOS.map(str::to_owned).to_vec();
        let mut options = Self { nodes: 1000, seed: 1, start: None, queries: 400, minutes: 15, loss: 0, scenarios };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--nodes" => options.nodes = number(&name, &value)?,
                "--seed" => options.seed = number(&name, &value)?,
                "--queries" => options.queries = number(&name, &value)?,
                "--minutes" => options.minutes = number(&name, &value)?,
                "--loss" => options.loss = number(&name, &value)?,
                "--start" => {
                    options.start = Some(match value.as_str() {
                        "join" => Start::Join,
                        "tables" => Start::Tables,
                        _ => return Err("--start is join or tables".to_owned()),
                    });
                }
                "--only" => options.scenarios = value.split(',').map(str::to_owned).collect(),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        match options.scenarios.iter().find(|name| !SCENARIOS.contains(&name.as_str())) {
            Some(name) => Err(format!("there is no scenario {name}; there are {}", SCENARIOS.join(", "))),
            None if options.nodes < 50 => Err("a network has 50 nodes or more".to_owned()),
            None => Ok(options),
        }
    }
}

fn number<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{name} {value}: {error}"))
}

/// All scenarios. Memory is counted in the first: the allocator keeps what others gave back.
pub const SCENARIOS: [&str; 8] = ["idle", "calm", "churn", "liars20", "liars40", "grinders20", "grinders40", "subnet"];
