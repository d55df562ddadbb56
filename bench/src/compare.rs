//! Two reports side by side: which numbers differ, and whether that means anything. Pure.
use std::fmt::Write as _;

use crate::{
    report::{Figure, Report},
    text::{number, percent},
};

/// Differences below this are noise on a shared machine.
const NOISE: f64 = 0.10;

/// A number in both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it is of.
    pub figure: Figure,
    /// In the first report.
    pub a: f64,
    /// In the second.
    pub b: f64,
    /// What to think of it.
    pub verdict: Verdict,
}

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within the noise.
    Alike,
    /// The second is better.
    Better,
    /// The second is worse.
    Worse,
    /// Different, and neither is better.
    Different,
}

impl Verdict {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Alike => "alike",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Different => "different",
        }
    }
}

/// The numbers that both have.
pub fn lines(a: &Report, b: &Report) -> Vec<Line> {
    let both = a.results.iter().filter_map(|figure| Some((figure, b.figure(&figure.name)?)));
    both.map(|(figure, other)| Line {
        figure: figure.clone(),
        a: figure.value,
        b: other,
        verdict: verdict(figure.value, other, figure.more_is_better),
    })
    .collect()
}

fn verdict(a: f64, b: f64, more_is_better: Option<bool>) -> Verdict {
    let apart = (b - a).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE);
    match more_is_better {
        _ if apart <= NOISE => Verdict::Alike,
        None => Verdict::Different,
        Some(more) if (b > a) == more => Verdict::Better,
        Some(_) => Verdict::Worse,
    }
}

/// Why the two should not be compared, or with care.
pub fn doubts(a: &Report, b: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    if a.machine != b.machine {
        doubts.push("they are from different machines: compare ratios to the ceiling, not rates".into());
    }
    let settings = a.stand.keys().chain(b.stand.keys()).collect::<std::collections::BTreeSet<_>>();
    for name in settings {
        let [left, right] = [a, b].map(|report| report.stand.get(name).map_or("-", String::as_str));
        if left != right {
            doubts.push(format!("{name}: {left} in the first, {right} in the second"));
        }
    }
    for (which, report) in [("first", a), ("second", b)] {
        doubts.extend(report.doubts.iter().map(|doubt| format!("the {which}: {doubt}")));
    }
    doubts
}

/// All of it as text.
pub fn text(a: &Report, b: &Report) -> String {
    let rows = lines(a, b).into_iter().map(|Line { figure, a, b, verdict }| {
        let unit = if figure.unit.is_empty() { String::new() } else { format!(" ({})", figure.unit) };
        let ratio = if a == 0.0 { "-".into() } else { percent(b / a) };
        [format!("{}{unit}", figure.name), number(a), number(b), ratio, verdict.word().to_owned()]
    });
    let head = [String::new(), "first".into(), "second".into(), "second / first".into(), String::new()];
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let mut text = format!("first   {}\nsecond  {}\n\n", a.title, b.title);
    text.push_str(&crate::report::table::columns(&rows));
    let percent = NOISE * 100.0;
    let _ = writeln!(text, "\nLess than {percent:.0} % apart is alike: machines are noisy.");
    for doubt in doubts(a, b) {
        let _ = writeln!(text, "! {doubt}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rate: f64, p95: f64) -> Report {
        let mut report = Report::default();
        report.add("sustained", rate, "transfers/s", Some(true));
        report.add("answer P95", p95, "ms", Some(false));
        report.add("transfers a transaction", rate / 10.0, "", None);
        report
    }

    #[test]
    fn better_and_worse_depend_on_what_it_is() {
        let verdicts = |a: &Report, b: &Report| lines(a, b).iter().map(|line| line.verdict).collect::<Vec<_>>();
        let (old, new) = (report(100.0, 900.0), report(200.0, 1_200.0));
        assert_eq!(verdicts(&old, &new), [Verdict::Better, Verdict::Worse, Verdict::Different]);
        assert_eq!(verdicts(&new, &old), [Verdict::Worse, Verdict::Better, Verdict::Different]);
        assert_eq!(verdicts(&old, &report(109.0, 830.0)), [Verdict::Alike; 3]);
        assert_eq!(verdict(0.0, 0.0, Some(true)), Verdict::Alike);
    }

    #[test]
    fn what_differs_beside_the_numbers_is_named() {
        let (mut a, b) = (report(1.0, 1.0), report(1.0, 1.0));
        assert_eq!(doubts(&a, &b), [""; 0]);
        a.stand.insert("keys".into(), "12".into());
        a.machine.cores = 8;
        a.doubts.push("noisy".into());
        let text = text(&a, &b);
        for part in ["different machines", "keys: 12 in the first, - in the second", "the first: noisy"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
