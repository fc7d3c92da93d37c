//! `cargo xtask bench dht`: distributed hash tables at the same work.
//!
//! The programs are `bench/dht-*`; what they do is in `bench/harness/src/table.rs`. Each runs a network of its own, in a network
//! namespace where there is one, and they take turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::network::Network;
use crate::peers::{self, Log};
use crate::report::{progress, say};
use crate::{UsageError, flags, workspace};

/// Ours first; then who it is compared with. Name and package.
const TABLES: [(&str, &str); 3] =
    [("setowire", "bench-dht-ours"), ("mainline", "bench-dht-mainline"), ("libp2p", "bench-dht-libp2p")];

/// Figures of a run, with what they are called in the table, and decimals.
const FIGURES: [(&str, &str, usize); 11] = [
    ("announce_ms", "announce, ms", 2),
    ("announce_cpu_ms", "CPU of it, ms", 2),
    ("announce_datagrams", "datagrams", 0),
    ("first_ms", "first found, ms", 2),
    ("lookup_ms", "lookup, ms", 2),
    ("lookup_cpu_ms", "CPU of it, ms", 2),
    ("lookup_datagrams", "datagrams", 0),
    ("connect_ms", "connect by key, first answer, ms", 2),
    ("connect_cpu_ms", "CPU of it, ms", 2),
    ("connect_datagrams", "datagrams", 0),
    ("start_ms", "start, ms", 0),
];

/// Runs the comparison.
///
/// # Errors
/// When a program cannot be built or does not do its work, or for something unknown on the command line.
pub(crate) fn run(flags: &flags::Bench) -> anyhow::Result<bool> {
    if flags.work.is_some() || flags.svg.is_some() {
        return Err(UsageError("--work and --svg go with `cargo xtask bench peers`".into()).into());
    }
    let chosen = chosen(flags.only.as_deref())?;
    let sh = workspace::shell()?;
    let packages: Vec<&str> = chosen.iter().map(|(_, package)| *package).collect();
    peers::build(&sh, &packages)?;
    let programs = peers::programs(&sh)?;
    let network = Network::best(&sh);
    let mut log = Log::new(flags.json.as_deref())?;
    let mut runs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for round in 1..=flags.rounds.unwrap_or(if flags.quick { 1 } else { 5 }) {
        for (name, _) in &chosen {
            let figures = once(&network, &programs, name, flags.quick)?;
            progress(&format!("round {round}, {name}: {figures}"));
            log.write(&json!({ "run": name, "round": round, "figures": figures }))?;
            runs.entry(name).or_default().push(figures);
        }
    }
    let medians: Vec<(&str, Vec<Option<f64>>)> = chosen
        .iter()
        .map(|(name, _)| (*name, FIGURES.map(|(figure, ..)| median(runs.get(name)?, figure)).to_vec()))
        .collect();
    say(&markdown(&medians));
    for (name, figures) in &medians {
        let named: BTreeMap<&str, Option<f64>> =
            FIGURES.iter().map(|(figure, ..)| *figure).zip(figures.iter().copied()).collect();
        log.write(&json!({ "medians": name, "figures": named }))?;
    }
    Ok(true)
}

fn chosen(only: Option<&str>) -> anyhow::Result<Vec<(&'static str, &'static str)>> {
    let Some(only) = only else { return Ok(TABLES.to_vec()) };
    only.split(',')
        .map(|name| {
            TABLES.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
                let known = TABLES.map(|(known, _)| known).join(", ");
                UsageError(format!("there is no table `{name}`; there are {known}")).into()
            })
        })
        .collect()
}

fn once(network: &Network, programs: &Path, name: &str, quick: bool) -> anyhow::Result<Value> {
    let program: PathBuf = programs.join(format!("bench-dht-{name}"));
    let mut command = network.command(&program);
    if quick {
        command.arg("--quick");
    }
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line: Option<Value> = text.lines().find_map(|line| serde_json::from_str(line).ok());
    match line {
        Some(line) if output.status.success() => Ok(line["figures"].clone()),
        _ => bail!("{name} says: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// `None` for what a library does not do.
fn median(runs: &[Value], figure: &str) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| run[figure].as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Ours, the others, and how ours stand to the best of the others: below 1 is better.
fn markdown(medians: &[(&str, Vec<Option<f64>>)]) -> String {
    let mut text = String::from("| 50 nodes, medians |");
    for (name, _) in medians {
        text += &format!(" {name} |");
    }
    text += " ours to the best other |\n|---|";
    text += &"---|".repeat(medians.len() + 1);
    for (at, (_, title, decimals)) in FIGURES.iter().enumerate() {
        text += &format!("\n| {title} |");
        let of = |(_, figures): &(&str, Vec<Option<f64>>)| figures.get(at).copied().flatten();
        for median in medians {
            text += &of(median).map_or_else(|| " |".to_owned(), |figure| format!(" {figure:.decimals$} |"));
        }
        let best = medians.iter().filter(|(name, _)| *name != "setowire").filter_map(of).min_by(f64::total_cmp);
        let ours = medians.iter().find(|(name, _)| *name == "setowire").and_then(of);
        text += &match (ours, best) {
            (Some(ours), Some(best)) if best > 0.0 => format!(" {:.2} |", ours / best),
            _ => " |".to_owned(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_best_of_the_others() {
        let all = |figure: f64| vec![Some(figure); 7];
        let text = markdown(&[("setowire", [all(1.0), all(3.0)].concat()), ("a", all(4.0)), ("b", all(2.0))]);
        assert!(text.contains("| announce, ms | 1.00 | 4.00 | 2.00 | 0.50 |"), "{text}");
        assert!(text.contains("| connect by key, first answer, ms | 3.00 | | | |"), "{text}");
        assert_eq!(median(&[json!({"x": 3}), json!({"x": 1}), json!({"x": 2})], "x"), Some(2.0));
        assert_eq!(median(&[json!({"x": null})], "x"), None);
        assert!(chosen(Some("mainline,nobody")).is_err() && chosen(None).unwrap().len() == 3);
    }
}
