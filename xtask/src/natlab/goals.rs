//! What a pair of NATs should make possible, and whether it did.

use std::time::Duration;

use super::kind::Kind;
use super::trial::{Case, Outcome, Scenario};
use crate::report::{Row, Verdict};

/// What is hoped for; times in milliseconds from the dial on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Goal {
    /// Of a hundred meetings, those that find a direct path.
    pub(super) direct: f64,
    /// Most for the median of the first answers.
    median: Option<f64>,
    /// Most for the 95th percentile of the times to a direct path.
    p95: Option<f64>,
    /// Most for each direct path to count.
    within: Option<f64>,
    /// Most for each first answer, by whatever way.
    first: Option<f64>,
}

const NOTHING: Goal = Goal { direct: 0.0, median: None, p95: None, within: None, first: None };

impl Goal {
    /// That of a case.
    pub(super) fn of(case: Case) -> Self {
        let pair = match case.scenario {
            // Behind one NAT they meet in the local network, whatever the NAT does.
            Scenario::Same => Self { direct: 100.0, median: Some(1000.0), ..NOTHING },
            _ => Self::of_pair(case.pair),
        };
        match case.scenario {
            Scenario::Plain | Scenario::Same | Scenario::Double => pair,
            // What is lost is sent again: that all meet is what counts.
            _ => Self { direct: pair.direct.min(90.0), first: None, median: None, p95: None, ..pair },
        }
    }

    fn of_pair(pair: [Kind; 2]) -> Self {
        use Kind::{PortClash, PortCone, SymRand, SymSeq, UdpBlock};
        let [a, b] = pair;
        let are = |x: Kind, y: Kind| pair == [x, y] || pair == [y, x];
        let other = if a.is_steady() { b } else { a };
        let one_steady = a.is_steady() || b.is_steady();
        match other {
            _ if a == UdpBlock || b == UdpBlock => Self::RELAYED,
            _ if a.is_steady() && b.is_steady() => Self { direct: 100.0, median: Some(1000.0), ..NOTHING },
            SymSeq if one_steady => Self { direct: 99.0, ..NOTHING },
            SymRand if are(PortCone, SymRand) => Self { direct: 97.0, p95: Some(5000.0), ..NOTHING },
            SymRand if one_steady => Self { direct: 100.0, p95: Some(5000.0), ..NOTHING },
            PortClash if one_steady => Self { direct: 95.0, ..NOTHING },
            _ if are(PortClash, SymRand) => Self { direct: 95.0, ..NOTHING },
            _ if are(SymSeq, SymSeq) => Self { direct: 80.0, within: Some(3000.0), first: Some(3000.0), ..NOTHING },
            _ => Self::RELAYED,
        }
    }

    const RELAYED: Self = Self { first: Some(3000.0), ..NOTHING };

    /// How long a direct path is waited for.
    pub(super) fn settle(self) -> Duration {
        Duration::from_secs(if self.direct > 0.0 { 15 } else { 4 })
    }
}

/// At most this long nothing may come while something happens.
const GAP: f64 = 2000.0;

/// What a case came to.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) case: Case,
    pub(super) runs: usize,
    /// Those in which something was answered.
    pub(super) met: usize,
    /// Those that ended on a direct path.
    pub(super) direct: usize,
    /// Median and 95th percentile of the first answers.
    pub(super) first: [Option<f64>; 2],
    /// The same of the times to a direct path.
    pub(super) straight: [Option<f64>; 2],
    /// What is wrong; with `hard`, what no luck excuses.
    problems: Vec<(bool, String)>,
    why: String,
}

impl Summary {
    pub(super) fn new(case: Case, outcomes: &[Outcome]) -> Self {
        let goal = Goal::of(case);
        let runs = outcomes.len();
        let times = |of: fn(&Outcome) -> Option<f64>| {
            let mut times: Vec<f64> = outcomes.iter().filter_map(of).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let (first, straight) = (times(|outcome| outcome.first), times(|outcome| outcome.direct));
        let counted = straight.iter().filter(|ms| goal.within.is_none_or(|within| **ms <= within)).count();
        let percent = 100.0 * counted as f64 / runs.max(1) as f64;
        let mut problems = Vec::new();
        let mut wrong = |hard: bool, is_wrong: bool, text: String| {
            if is_wrong {
                problems.push((hard, text));
            }
        };
        wrong(true, first.len() < runs, format!("{} of {runs} never met", runs - first.len()));
        wrong(
            counted == 0 && goal.direct > 50.0,
            percent < goal.direct,
            format!("direct in {percent:.0} %, goal {}", goal.direct),
        );
        for (found, most, what) in [
            (at(&first, 0.5), goal.median, "median of the first answer"),
            (at(&straight, 0.95), goal.p95, "95th percentile of the direct path"),
            (first.last().copied(), goal.first, "slowest first answer"),
        ] {
            let (found, most) = (found.unwrap_or(0.0), most.unwrap_or(f64::INFINITY));
            wrong(false, found > most, format!("{what} {found:.0} ms, goal {most:.0}"));
        }
        let silent = outcomes.iter().filter(|outcome| outcome.path == "relay" && outcome.why.is_empty()).count();
        wrong(false, silent > 0, format!("{silent} relayed without a reason"));
        let trying = outcomes.iter().filter(|outcome| case.scenario.is_trying() && outcome.first.is_some());
        let (mut lost, mut late, mut ended, mut broken, mut gap) = (0, 0, 0, 0, 0.0_f64);
        for outcome in trying {
            match outcome.survived {
                Some(survived) => {
                    lost += usize::from(survived.lost > 0);
                    late += usize::from(survived.gap > GAP);
                    ended += usize::from(!survived.whole);
                    gap = gap.max(survived.gap);
                }
                None => broken += 1,
            }
        }
        wrong(true, lost > 0, format!("messages lost in {lost}"));
        wrong(true, ended > 0, format!("session ended in {ended}"));
        wrong(true, broken > 0, format!("no word in {broken}"));
        wrong(false, late > 0, format!("nothing came for {gap:.0} ms in the worst of {late}"));
        let failed = |outcome: &&Outcome| outcome.first.is_none();
        let relayed = |outcome: &&Outcome| outcome.path == "relay" && goal.direct > 0.0;
        let told = outcomes.iter().find(failed).or_else(|| outcomes.iter().find(relayed));
        Self {
            case,
            runs,
            met: first.len(),
            direct: straight.len(),
            first: [at(&first, 0.5), at(&first, 0.95)],
            straight: [at(&straight, 0.5), at(&straight, 0.95)],
            problems,
            why: told.map(|outcome| outcome.why.clone()).unwrap_or_default(),
        }
    }

    /// The row of a case. In a `quick` run only what no luck excuses fails.
    pub(super) fn row(&self, quick: bool) -> Row {
        let Self { case, runs, met, direct, .. } = self;
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let mut note = format!(
            "{met} of {runs} met, {direct} direct; first answer {} ms (p95 {}), direct {} ms (p95 {})",
            ms(self.first[0]),
            ms(self.first[1]),
            ms(self.straight[0]),
            ms(self.straight[1])
        );
        for (_, problem) in &self.problems {
            note.push_str(&format!("; {problem}"));
        }
        if !self.problems.is_empty() && !self.why.is_empty() {
            note.push_str(&format!("; one says: {}", self.why));
        }
        let percent = 100.0 * *direct as f64 / (*runs).max(1) as f64;
        let goal = Goal::of(*case);
        let row = Row::figure(case.to_string(), percent, "% direct", None).noting(note);
        let hard = self.problems.iter().any(|(hard, _)| *hard || !quick);
        let verdict = match self.problems.is_empty() {
            true => Verdict::Ok,
            false if hard => Verdict::Failed,
            false => Verdict::Missed,
        };
        Row { goal: (goal.direct > 0.0).then_some(goal.direct), verdict, ..row }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The value below which this part of the sorted values is.
fn at(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(a: Kind, b: Kind) -> Case {
        Case { scenario: Scenario::Plain, pair: [a, b] }
    }

    #[test]
    fn every_pair_has_the_goal_of_its_group() {
        use Kind::*;
        let direct = |a, b| Goal::of(case(a, b)).direct;
        for a in [None, FullCone, AddrCone, PortCone] {
            assert_eq!(direct(a, PortCone), 100.0);
            assert_eq!(direct(SymSeq, a), 99.0);
            assert_eq!(direct(a, PortClash), 95.0);
            assert_eq!(direct(a, UdpBlock), 0.0);
        }
        assert_eq!([direct(PortCone, SymRand), direct(SymRand, FullCone)], [97.0, 100.0]);
        assert_eq!([direct(PortClash, SymRand), direct(SymSeq, SymSeq)], [95.0, 80.0]);
        assert_eq!([direct(SymSeq, SymRand), direct(SymRand, SymRand), direct(PortClash, PortClash)], [0.0; 3]);
        assert_eq!([direct(PortClash, SymSeq), direct(UdpBlock, UdpBlock)], [0.0; 2]);
    }

    #[test]
    fn whoever_never_meets_fails_and_whoever_is_slow_misses() {
        let outcome = |first, direct: Option<f64>| Outcome {
            first,
            direct,
            path: if direct.is_some() { "direct" } else { "relay" }.to_owned(),
            why: "because".to_owned(),
            ..Outcome::default()
        };
        let verdict = |outcomes: &[Outcome], quick| {
            Summary::new(case(Kind::PortCone, Kind::PortCone), outcomes).row(quick).verdict
        };
        let good = outcome(Some(300.0), Some(400.0));
        assert_eq!(verdict(&[good.clone(), good.clone()], true), Verdict::Ok);
        assert_eq!(verdict(&[good.clone(), outcome(None, None)], true), Verdict::Failed);
        assert_eq!(verdict(&[good.clone(), outcome(Some(300.0), None)], true), Verdict::Missed);
        assert_eq!(verdict(&[good, outcome(Some(300.0), None)], false), Verdict::Failed);
        assert_eq!(verdict(&[outcome(Some(300.0), None)], true), Verdict::Failed);
        assert_eq!(verdict(&[outcome(Some(1300.0), Some(1300.0))], true), Verdict::Missed);
        assert_eq!(at(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.0));
        assert_eq!(at(&[1.0], 0.95), Some(1.0));
        assert_eq!(at(&[], 0.95), None);
    }
}
