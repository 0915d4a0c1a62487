//! Right or wrong, run by run and in all.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bounds::lower;
use crate::case::{Case, Tier, Truth};
use crate::outcome::{Found, Outcome, Severity};

/// Rules that say where the time is. A healthy program may have them, or none that reads a file could exist.
pub const POINTERS: [&str; 6] = ["CTX001", "CTX002", "CTX003", "CTX206", "CTX401", "CTX420"];

/// A variant of a case, with what its runs said.
pub struct Scored {
    pub case: &'static Case,
    pub variant: usize,
    pub truth: Truth,
    /// With the plant, or of a healthy program.
    pub runs: Vec<Outcome>,
    /// Without it.
    pub twins: Vec<Outcome>,
    /// Why there is no outcome.
    pub broken: Option<String>,
}

/// The verdict on one variant.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub case: &'static str,
    pub variant: usize,
    pub held_out: bool,
    pub expected: Option<String>,
    /// The first finding.
    pub first: Option<String>,
    /// The right rule at the right site comes first.
    pub top: Option<bool>,
    /// It comes at all.
    pub found: Option<bool>,
    /// Findings that are right, and all that count.
    pub right: u64,
    pub reported: u64,
    /// Of the healthy program or the twin: nothing was reported that should not be.
    pub silent: bool,
    pub alarms: Vec<String>,
    /// By how much the twin is faster, and what was promised.
    pub speed_up: Option<f64>,
    pub low: Option<f64>,
    pub bound: Option<f64>,
    pub violation: Option<String>,
    pub hottest: bool,
    pub longest: bool,
    pub broken: Option<String>,
}

impl Scored {
    pub fn verdict(&self, tier: Tier) -> Verdict {
        let run = self.runs.first();
        let findings = run.map_or(&[][..], |run| &run.findings);
        let primary = self.truth.primary.as_ref();
        let is_primary = |found: &Found| {
            primary
                .is_some_and(|planted| found.rule == planted.rule && planted.is_site(&found.site))
        };
        let least = if self.truth.only_low {
            Severity::Low
        } else {
            Severity::Medium
        };
        let ranked: Vec<_> = findings
            .iter()
            .filter(|found| found.severity >= least)
            .collect();
        // A pointer elsewhere is no mistake, one at the plant says the same thing twice.
        let counts = |found: &&&Found| {
            found.severity >= Severity::Medium
                && (!POINTERS.contains(&found.rule.as_str())
                    || primary.is_some_and(|planted| planted.is_site(&found.site)))
        };
        let counted = || ranked.iter().filter(counts);
        let right = counted()
            .filter(|found| is_primary(found) || self.truth.also.contains(&found.rule.as_str()));
        let alarms = self.alarms();
        let named = |name: Option<&Option<String>>| {
            let name = name.and_then(Option::as_deref);
            primary
                .zip(name)
                .is_some_and(|(planted, name)| planted.is_site(name))
        };
        let (low, bound) = ranked
            .iter()
            .find(|found| is_primary(found))
            .map_or((None, None), |found| (found.gain.low, found.gain.bound));
        let mut verdict = Verdict {
            case: self.case.id,
            variant: self.variant,
            held_out: self.case.is_held_out(),
            expected: primary
                .map(|planted| format!("{} {}", planted.rule, planted.sites.join("|"))),
            first: ranked
                .first()
                .map(|found| format!("{} {}", found.rule, found.site)),
            top: primary.map(|_| ranked.first().is_some_and(|first| is_primary(first))),
            found: primary.map(|_| ranked.iter().any(|found| is_primary(found))),
            right: right.count() as u64,
            reported: counted().count() as u64,
            silent: alarms.is_empty(),
            alarms,
            speed_up: None,
            low,
            bound,
            violation: None,
            hottest: named(run.map(|run| &run.hottest)),
            longest: named(run.map(|run| &run.longest)),
            broken: self.broken.clone(),
        };
        if self.truth.has_gain && primary.is_some() {
            self.check_gain(&mut verdict, tier);
        }
        verdict
    }

    /// What was reported of a program with which nothing is wrong.
    fn alarms(&self) -> Vec<String> {
        let healthy = match self.truth.primary {
            Some(_) => self.twins.first(),
            None => self.runs.first(),
        };
        let findings = healthy.map_or(&[][..], |run| &run.findings);
        let alarms = findings.iter().filter(|found| {
            found.severity >= Severity::Medium
                && !POINTERS.contains(&found.rule.as_str())
                && !self.truth.also.contains(&found.rule.as_str())
        });
        alarms
            .map(|found| format!("{} {}: {}", found.rule, found.site, found.message))
            .collect()
    }

    /// Compares what the fix was to bring with what it brought.
    fn check_gain(&self, verdict: &mut Verdict, tier: Tier) {
        let Some(of_roots) = self.runs.first().map(Outcome::roots_overlap) else {
            return;
        };
        let lengths = |runs: &[Outcome]| {
            let mut lengths: Vec<_> = runs.iter().map(|run| run.whole_ns(of_roots)).collect();
            lengths.sort_by(f64::total_cmp);
            lengths
        };
        let (with, without) = (lengths(&self.runs), lengths(&self.twins));
        let (&[shortest, ..], &[.., longest]) = (&with[..], &without[..]) else {
            return;
        };
        verdict.speed_up = Some(with[with.len() / 2] / without[without.len() / 2]);
        let (slowest, fastest) = (with[with.len() - 1], without[0]);
        // On virtual time nothing is measured; on real time the runs say how far measurements are apart.
        let (least, most) = match tier {
            Tier::Trace => (shortest / longest * 0.999, slowest / fastest * 1.001),
            Tier::Live => (shortest / longest * 0.95, slowest / fastest * 1.05),
        };
        verdict.violation = match (verdict.low, verdict.bound) {
            (_, Some(bound)) if least > bound => {
                Some(format!("at least {least:.3} is above the bound {bound:.3}"))
            }
            (Some(low), _) if most < low => {
                Some(format!("at most {most:.3} is below the low end {low:.3}"))
            }
            _ => None,
        };
    }
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Share {
    pub hits: u64,
    pub of: u64,
    pub share: Option<f64>,
    /// The lower end of the one-sided 95 % interval.
    pub lower: Option<f64>,
}

impl Share {
    pub fn new(hits: u64, of: u64) -> Share {
        Share {
            hits,
            of,
            share: (of > 0).then(|| hits as f64 / of as f64),
            lower: lower(hits, of),
        }
    }

    fn count<'v>(
        verdicts: impl Iterator<Item = &'v Verdict>,
        of: impl Fn(&Verdict) -> Option<bool>,
    ) -> Share {
        let (hits, all) = verdicts
            .filter_map(of)
            .fold((0, 0), |(hits, all), hit| (hits + u64::from(hit), all + 1));
        Share::new(hits, all)
    }
}

/// What one tier says of one half of the cases, or of all.
#[derive(Debug, Serialize)]
pub struct Score {
    pub top: Share,
    pub recall: Share,
    pub precision: Share,
    pub specificity: Share,
    pub violations: u64,
    pub gains_checked: u64,
    /// Cases with all of their variants right: variants of one case are not independent.
    pub cases: Share,
    /// The case with the smallest part of its variants right.
    pub worst: Option<(&'static str, f64)>,
    pub hottest: Share,
    pub longest: Share,
    pub broken: u64,
    pub by_rule: BTreeMap<String, RuleScore>,
}

#[derive(Debug, Default, Serialize)]
pub struct RuleScore {
    pub planted: u64,
    pub top: u64,
    pub found: u64,
    /// What came first instead.
    pub taken_for: BTreeMap<String, u64>,
}

impl Score {
    pub fn of<'v>(verdicts: impl Iterator<Item = &'v Verdict> + Clone) -> Score {
        let all = || verdicts.clone();
        let planted = || all().filter(|verdict| verdict.expected.is_some());
        let mut by_rule = BTreeMap::<String, RuleScore>::new();
        let mut by_case = BTreeMap::<&str, (u64, u64)>::new();
        for verdict in planted() {
            let rule = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
            let expected = rule(verdict.expected.as_deref().unwrap_or_default());
            let of_rule = by_rule.entry(expected).or_default();
            let top = verdict.top == Some(true);
            of_rule.planted += 1;
            of_rule.top += u64::from(top);
            of_rule.found += u64::from(verdict.found == Some(true));
            if !top {
                let first = verdict.first.as_deref().map_or("nothing".to_owned(), rule);
                *of_rule.taken_for.entry(first).or_default() += 1;
            }
            let (hits, of) = by_case.entry(verdict.case).or_default();
            *hits += u64::from(top);
            *of += 1;
        }
        let perfect = by_case.values().filter(|(hits, of)| hits == of).count() as u64;
        let share = |(hits, of): (u64, u64)| hits as f64 / of as f64;
        Score {
            top: Share::count(all(), |verdict| verdict.top),
            recall: Share::count(all(), |verdict| verdict.found),
            precision: Share::new(
                planted().map(|verdict| verdict.right).sum(),
                planted().map(|verdict| verdict.reported).sum(),
            ),
            specificity: Share::count(all(), |verdict| Some(verdict.silent)),
            violations: all().filter(|verdict| verdict.violation.is_some()).count() as u64,
            gains_checked: all()
                .filter(|verdict| {
                    verdict.speed_up.is_some() && (verdict.low.is_some() || verdict.bound.is_some())
                })
                .count() as u64,
            cases: Share::new(perfect, by_case.len() as u64),
            worst: verdicts
                .clone()
                .filter_map(|verdict| Some((verdict.case, share(*by_case.get(verdict.case)?))))
                .min_by(|(_, one), (_, other)| one.total_cmp(other)),
            hottest: Share::count(planted(), |verdict| Some(verdict.hottest)),
            longest: Share::count(planted(), |verdict| Some(verdict.longest)),
            broken: all().filter(|verdict| verdict.broken.is_some()).count() as u64,
            by_rule,
        }
    }
}
