//! Medians, spreads, and who is best.

use serde_json::{Value, json};

use super::session::{Run, State};
use super::{Peer, Role};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
}

/// A row of the table: a figure of a work.
#[derive(Debug)]
pub(super) struct Figure {
    work: &'static str,
    key: &'static str,
    pub(super) title: &'static str,
    unit: &'static str,
    /// Multiplies the figure, to have it in `unit`.
    scale: f64,
    better: Better,
    /// Whether it is the first thing to say about the work, and in the picture.
    pub(super) first: bool,
}

const fn figure(
    work: &'static str,
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    scale: f64,
    better: Better,
    first: bool,
) -> Figure {
    Figure { work, key, title, unit, scale, better, first }
}

use Better::{Higher, Lower};

const BULK: &str = "one stream, datagrams of at most 1452 bytes";
const FREE: &str = "one stream, datagrams of any size";

const FIGURES: [Figure; 27] = [
    figure("bulk", "mb_per_s", BULK, "MB/s", 1.0, Higher, true),
    figure("bulk", "cpu_s_per_gib", "its CPU time, both ends", "s/GiB", 1.0, Lower, false),
    figure("bulk-free-mtu", "mb_per_s", FREE, "MB/s", 1.0, Higher, true),
    figure("bulk-free-mtu", "cpu_s_per_gib", "its CPU time, both ends", "s/GiB", 1.0, Lower, false),
    figure("messages-64", "per_s", "messages of 64 bytes", "k/s", 1e-3, Higher, true),
    figure("messages-64-gathered", "per_s", "the same, gathered before writing", "k/s", 1e-3, Higher, true),
    figure("messages-1k", "per_s", "messages of 1 KiB", "k/s", 1e-3, Higher, true),
    figure("ping-pong", "p50_us", "64 bytes there and back, median", "µs", 1.0, Lower, true),
    figure("ping-pong", "p99_us", "64 bytes there and back, 99 %", "µs", 1.0, Lower, false),
    figure("requests", "p50_us", "the same on a new stream, median", "µs", 1.0, Lower, true),
    figure("requests", "p99_us", "the same on a new stream, 99 %", "µs", 1.0, Lower, false),
    figure("requests-100", "per_s", "100 requesters, new streams", "k/s", 1e-3, Higher, true),
    figure("datagrams-1k", "per_s", "datagrams of 1 KiB received", "k/s", 1e-3, Higher, true),
    figure("connects", "per_s", "connect, request, close", "/s", 1.0, Higher, true),
    figure("connects", "p50_us", "from connecting to the answer", "µs", 1.0, Lower, false),
    figure("connects-resumed", "per_s", "the same, resumed", "/s", 1.0, Higher, true),
    figure("connects-resumed", "p50_us", "from resuming to the answer", "µs", 1.0, Lower, false),
    figure("connects-32", "per_s", "32 connecting at a time", "/s", 1.0, Higher, true),
    figure("idle-1000", "server_bytes", "memory of an idle connection, server", "KiB", 1.0 / 1024.0, Lower, true),
    figure("idle-1000", "client_bytes", "memory of an idle connection, client", "KiB", 1.0 / 1024.0, Lower, false),
    figure("idle-1000", "idle_server_ms_per_s", "CPU of 1000 idle connections, server", "ms/s", 1.0, Lower, false),
    figure("idle-1000", "idle_client_ms_per_s", "CPU of 1000 idle connections, client", "ms/s", 1.0, Lower, false),
    figure("path-loss-1", "mb_per_s", "50 ms, 1 % lost", "MB/s", 1.0, Higher, true),
    figure("path-loss-5", "mb_per_s", "50 ms, 5 % lost", "MB/s", 1.0, Higher, true),
    figure("path-rate", "mb_per_s", "50 ms, 100 Mbit/s", "MB/s", 1.0, Higher, true),
    figure("path-rate-loss-1", "mb_per_s", "50 ms, 100 Mbit/s, 1 % lost", "MB/s", 1.0, Higher, true),
    figure("path-rate-loss-5", "mb_per_s", "50 ms, 100 Mbit/s, 5 % lost", "MB/s", 1.0, Higher, true),
];

impl Figure {
    /// With its unit.
    pub(super) fn value(&self, value: f64) -> String {
        format!("{} {}", number(value), self.unit)
    }
}

/// The works of the table, in its order.
pub(super) fn works() -> Vec<&'static str> {
    let mut works: Vec<&str> = FIGURES.iter().map(|figure| figure.work).collect();
    works.dedup();
    works
}

/// What one run measured, in a line.
pub(super) fn line(work: &str, figures: &Value) -> String {
    let of_work = FIGURES.iter().filter(|figure| figure.work == work);
    let values: Vec<String> =
        of_work.filter_map(|figure| Some(figure.value(figures[figure.key].as_f64()? * figure.scale))).collect();
    values.join(", ")
}

/// Three digits that count.
fn number(value: f64) -> String {
    let decimals = if value >= 100.0 || value == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// What a peer reached in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) median: f64,
    least: f64,
    most: f64,
    count: usize,
    /// How many times as good as the best rival; `None` where there is nothing to divide.
    pub(super) ratio: Option<f64>,
}

/// A row with its cells, in the order of the peers.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) figure: &'static Figure,
    pub(super) cells: Vec<Option<Cell>>,
}

/// The rows of all runs in one state of the machine.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) state: State,
    pub(super) peers: Vec<(&'static str, Role)>,
    pub(super) rows: Vec<Row>,
    runs: usize,
}

impl Summary {
    /// One per state there were runs in, the one with most runs first. Runs that have none are in each.
    pub(super) fn of_states(runs: &[Run], peers: &[&Peer]) -> Vec<Self> {
        let peers: Vec<(&str, Role)> = peers.iter().map(|peer| (peer.name, peer.role)).collect();
        let mut summaries: Vec<Self> = [State::Near, State::Far]
            .into_iter()
            .filter(|state| runs.iter().any(|run| run.state == Some(*state)))
            .map(|state| {
                let of_state = |run: &&Run| run.state.is_none_or(|known| known == state);
                let runs: Vec<&Run> = runs.iter().filter(of_state).collect();
                let rows = FIGURES.iter().map(|figure| row(figure, &runs, &peers));
                let rows = rows.filter(|row| row.cells.iter().any(Option::is_some)).collect();
                Self { state, peers: peers.clone(), rows, runs: runs.len() }
            })
            .collect();
        summaries.sort_by_key(|summary| std::cmp::Reverse(summary.runs));
        summaries
    }

    /// A table: median, spread and ratio to the best rival.
    pub(super) fn markdown(&self) -> String {
        let mut out = format!("\n### Cores {} each other, {} runs\n\n", self.state.preposition(), self.runs);
        out.push_str("Median [least-most] of n runs, and how many times as good as the best encrypted peer.\n\n| | |");
        for (name, _) in &self.peers {
            out.push_str(&format!(" {name} |"));
        }
        out.push_str("\n|---|---|");
        out.push_str(&"---|".repeat(self.peers.len()));
        for row in &self.rows {
            out.push_str(&format!("\n| {} | {} |", row.figure.title, row.figure.unit));
            for cell in &row.cells {
                out.push_str(&cell.map_or_else(|| " - |".to_owned(), |cell| format!(" {} |", cell.text())));
            }
        }
        out.push('\n');
        out
    }

    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let cells = self.peers.iter().zip(&row.cells).filter_map(|((name, _), cell)| {
                    let cell = (*cell)?;
                    let Cell { median, least, most, count, ratio } = cell;
                    let cell = json!({ "median": median, "min": least, "max": most, "n": count, "ratio": ratio });
                    Some(((*name).to_owned(), cell))
                });
                let cells: serde_json::Map<String, Value> = cells.collect();
                let Figure { work, key, title, unit, .. } = row.figure;
                json!({ "work": work, "figure": key, "title": title, "unit": unit, "peers": cells })
            })
            .collect();
        json!({ "summary": self.state.name(), "rows": rows })
    }
}

impl Cell {
    fn text(self) -> String {
        let Self { median, least, most, count, ratio } = self;
        let ratio = ratio.map(|ratio| format!(" **{ratio:.2}x**")).unwrap_or_default();
        format!("{} [{}-{}] n{count}{ratio}", number(median), number(least), number(most))
    }
}

fn row(figure: &'static Figure, runs: &[&Run], peers: &[(&'static str, Role)]) -> Row {
    let mut cells: Vec<Option<Cell>> = peers
        .iter()
        .map(|(name, _)| {
            let of_peer = runs.iter().filter(|run| run.peer == *name && run.work == figure.work);
            let mut values: Vec<f64> =
                of_peer.filter_map(|run| Some(run.figures[figure.key].as_f64()? * figure.scale)).collect();
            values.sort_by(f64::total_cmp);
            let (least, most) = (*values.first()?, *values.last()?);
            Some(Cell { median: median(&values), least, most, count: values.len(), ratio: None })
        })
        .collect();
    let rivals = peers.iter().zip(&cells).filter(|((_, role), _)| *role == Role::Rival);
    let medians = rivals.filter_map(|(_, cell)| Some((*cell)?.median));
    let best = match figure.better {
        Higher => medians.max_by(f64::total_cmp),
        Lower => medians.min_by(f64::total_cmp),
    };
    if let Some(best) = best.filter(|best| *best > 0.0) {
        for cell in cells.iter_mut().flatten().filter(|cell| cell.median > 0.0) {
            cell.ratio = Some(match figure.better {
                Higher => cell.median / best,
                Lower => best / cell.median,
            });
        }
    }
    Row { figure, cells }
}

/// Of sorted values.
fn median(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Peer = Peer { name: "a", package: "", library: None, role: Role::Rival };
    const SLOW: Peer = Peer { name: "b", package: "", library: None, role: Role::Rival };
    const BARE: Peer = Peer { name: "c", package: "", library: None, role: Role::Floor };

    fn runs(work: &'static str, key: &str, state: State, figures: &[(&'static str, f64)]) -> Vec<Run> {
        figures.iter().map(|(peer, figure)| Run::example(peer, work, state, json!({ key: figure }))).collect()
    }

    fn ratios(runs: &[Run]) -> Vec<Option<f64>> {
        let summary = Summary::of_states(runs, &[&QUICK, &SLOW, &BARE]).remove(0);
        summary.rows[0].cells.iter().map(|cell| cell.and_then(|cell| cell.ratio)).collect()
    }

    #[test]
    fn the_best_is_encrypted() {
        let more = [("a", 9.0), ("a", 10.0), ("a", 30.0), ("b", 5.0), ("c", 40.0)];
        assert_eq!(ratios(&runs("bulk", "mb_per_s", State::Far, &more)), [Some(1.0), Some(0.5), Some(4.0)]);
        let less = [("a", 10.0), ("b", 40.0), ("c", 5.0)];
        assert_eq!(ratios(&runs("ping-pong", "p50_us", State::Far, &less)), [Some(1.0), Some(0.25), Some(2.0)]);
    }

    #[test]
    fn states_are_not_mixed() {
        let mut all = runs("bulk", "mb_per_s", State::Near, &[("a", 10.0), ("a", 12.0), ("b", 8.0)]);
        all.extend(runs("bulk", "mb_per_s", State::Far, &[("a", 1.0), ("b", 2.0)]));
        let summaries = Summary::of_states(&all, &[&QUICK, &SLOW]);
        assert_eq!(
            summaries.iter().map(|s| (s.state, s.runs)).collect::<Vec<_>>(),
            [(State::Near, 3), (State::Far, 2)]
        );
        assert_eq!(summaries[0].rows[0].cells[0].map(|cell| cell.median), Some(11.0));
        assert_eq!(summaries[1].rows[0].cells[0].and_then(|cell| cell.ratio), Some(0.5));
    }

    #[test]
    fn every_work_has_a_first_figure() {
        for work in works() {
            assert_eq!(FIGURES.iter().filter(|figure| figure.work == work && figure.first).count(), 1, "{work}");
        }
    }
}
