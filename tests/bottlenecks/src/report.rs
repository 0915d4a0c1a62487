//! The numbers, for a reader and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::case::Tier;
use crate::score::{Score, Share, Verdict};

/// Everything that was scored in one tier.
#[derive(Debug, Serialize)]
pub struct TierReport {
    pub tier: &'static str,
    pub all: Score,
    /// The half of the cases by which thresholds may be chosen.
    pub training: Score,
    /// The other half.
    pub held_out: Score,
    pub verdicts: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub variants: usize,
    pub cores: usize,
    pub tiers: Vec<TierReport>,
}

impl TierReport {
    pub fn new(tier: Tier, verdicts: Vec<Verdict>) -> TierReport {
        TierReport {
            tier: match tier {
                Tier::Trace => "trace",
                Tier::Live => "live",
            },
            all: Score::of(verdicts.iter()),
            training: Score::of(verdicts.iter().filter(|verdict| !verdict.held_out)),
            held_out: Score::of(verdicts.iter().filter(|verdict| verdict.held_out)),
            verdicts,
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!("tier {}\n", self.tier);
        let mut row = |name: &str, of: fn(&Score) -> Share| {
            let cells = [&self.all, &self.training, &self.held_out].map(|score| cell(of(score)));
            let _ = writeln!(
                text,
                "  {name:<34} {:>24} {:>24} {:>24}",
                cells[0], cells[1], cells[2]
            );
        };
        row("top-1, right rule and right site", |score| score.top);
        row("recall", |score| score.recall);
        row("precision", |score| score.precision);
        row("specificity", |score| score.specificity);
        row("cases with every variant right", |score| score.cases);
        row("baseline: most self time", |score| score.hottest);
        row("baseline: longest total time", |score| score.longest);
        let _ = writeln!(
            text,
            "  promises not kept: {} of {}; worst case: {}; runs without an outcome: {}",
            self.all.violations,
            self.all.gains_checked,
            self.all.worst.map_or("none".to_owned(), |(case, share)| {
                format!("{case} ({:.0} %)", share * 100.0)
            }),
            self.all.broken,
        );
        for (rule, score) in &self.all.by_rule {
            let _ = write!(
                text,
                "  {rule}: {} planted, {} first, {} found",
                score.planted, score.top, score.found
            );
            for (other, count) in &score.taken_for {
                let _ = write!(text, "; {count} taken for {other}");
            }
            text.push('\n');
        }
        text
    }

    /// One line for each variant that is not as it should be.
    pub fn mistakes(&self) -> String {
        let mut text = String::new();
        for verdict in &self.verdicts {
            let mut wrong = Vec::new();
            if let Some(broken) = &verdict.broken {
                wrong.push(format!("broken: {broken}"));
            }
            if let (Some(false), Some(expected)) = (verdict.top, &verdict.expected) {
                let first = verdict.first.as_deref().unwrap_or("nothing");
                let later = if verdict.found == Some(true) {
                    ", which comes later"
                } else {
                    ""
                };
                wrong.push(format!("{first} instead of {expected}{later}"));
            }
            wrong.extend(
                verdict
                    .alarms
                    .iter()
                    .map(|alarm| format!("false alarm: {alarm}")),
            );
            wrong.extend(verdict.violation.clone());
            for wrong in wrong {
                let _ = writeln!(
                    text,
                    "  {} {} #{}: {wrong}",
                    self.tier, verdict.case, verdict.variant
                );
            }
        }
        text
    }
}

fn cell(share: Share) -> String {
    match (share.share, share.lower) {
        (Some(part), Some(lower)) => {
            format!(
                "{:.1} % (>= {:.1}) of {}",
                part * 100.0,
                lower * 100.0,
                share.of
            )
        }
        _ => "-".to_owned(),
    }
}
