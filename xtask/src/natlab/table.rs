//! The results as tables for people.

use super::goals::{Goal, Summary};
use super::kind::Kind;
use super::trial::Scenario;

/// Every pair in a matrix, then the cases in which something else happens.
pub(super) fn markdown(summaries: &[Summary]) -> String {
    let mut text = String::from("| direct of met, median to direct (or first answer) |");
    for kind in Kind::ALL {
        text += &format!(" {kind} |");
    }
    text += &format!("\n|---|{}", "---|".repeat(Kind::ALL.len()));
    for (row, a) in Kind::ALL.into_iter().enumerate() {
        text += &format!("\n| {a} |");
        for (column, b) in Kind::ALL.into_iter().enumerate() {
            let found = summaries.iter().find(|summary| {
                let pair = summary.case.pair;
                summary.case.scenario == Scenario::Plain && (pair == [a, b] || pair == [b, a])
            });
            let shown = found.filter(|_| column >= row).map(cell).unwrap_or_default();
            text += &format!(" {shown} |");
        }
    }
    let others: Vec<&Summary> = summaries.iter().filter(|summary| summary.case.scenario != Scenario::Plain).collect();
    if !others.is_empty() {
        text += "\n\n| case | runs | met | direct | first answer, median | path direct, median | as hoped |\n|---|---|---|---|---|---|---|";
    }
    for summary in others {
        let Summary { case, runs, met, direct, first, straight, .. } = summary;
        let verdict = if summary.is_good() { "yes" } else { "no" };
        let (first, straight) = (time(first[0]), time(straight[0]));
        text += &format!("\n| {case} | {runs} | {met} | {direct} | {first} | {straight} | {verdict} |");
    }
    text
}

/// How many, and how fast; an asterisk where it is not as hoped.
fn cell(summary: &Summary) -> String {
    let Summary { case, met, direct, first, straight, .. } = summary;
    let mark = if summary.is_good() { "" } else { " *" };
    if Goal::of(*case).direct == 0.0 && *direct == 0 {
        return format!("relay {met}/{}, {}{mark}", summary.runs, time(first[0]));
    }
    format!("{direct}/{}, {}{mark}", summary.runs, time(straight[0]))
}

fn time(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.2} s", ms / 1000.0))
}
