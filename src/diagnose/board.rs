//! What the rules have found so far, and the order in which it is told.

use std::cmp::Ordering;

use crate::diagnose::evidence::Evidence;
use crate::diagnose::headline;
use crate::diagnose::levels::RuleLevel;
use crate::diagnose::operation_tables;
use crate::diagnose::path_table;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::targets;
use crate::diagnose::thresholds::Thresholds;
use crate::model::{Checked, Confidence, Diagnosis, Finding, Gain, Nanos, Severity, SiteId};

/// A finding and its sentence for the headline.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    pub(crate) lead: String,
}

/// Self time of a site that a specific rule explains; generic rules leave it alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) site: SiteId,
    pub(crate) time: Nanos,
}

/// A rule that would have fired with more data.
#[derive(Debug, Clone)]
pub(crate) struct HeldBack {
    pub(crate) rule: &'static str,
    pub(crate) site: String,
    pub(crate) have: u64,
    pub(crate) need: u64,
    /// What is counted, such as "on-CPU samples".
    pub(crate) what: &'static str,
}

/// What one rule has to say.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whether the profile has what the rule looks at.
    pub(crate) looked: bool,
    pub(crate) found: Vec<Found>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) held_back: Vec<HeldBack>,
}

#[derive(Debug, Default)]
pub(crate) struct Board {
    found: Vec<(Standing, Found)>,
    claims: Vec<Claim>,
    held_back: Vec<HeldBack>,
    checked: Vec<Checked>,
}

impl Board {
    pub(crate) fn post(&mut self, rule: &Rule, mut outcome: Outcome, evidence: &Evidence<'_>) {
        let judged = rule.standing == Standing::Data || !evidence.too_short();
        match evidence.thresholds.levels.in_effect(rule) {
            RuleLevel::Allow => {
                if judged {
                    self.claims.append(&mut outcome.claims);
                }
                return;
            }
            RuleLevel::Warn => {}
            RuleLevel::Deny => {
                let found = outcome.found.iter_mut();
                found.for_each(|found| found.finding.denied = true);
            }
        }
        if outcome.looked && judged && outcome.found.is_empty() && outcome.held_back.is_empty() {
            self.checked
                .push(Checked::new(rule.id, rule.name, rule.healthy));
        }
        self.held_back.extend(outcome.held_back);
        if judged {
            self.claims.extend(outcome.claims);
            let found = outcome.found.into_iter();
            self.found.extend(found.map(|found| (rule.standing, found)));
        } else {
            let length = evidence.profile.wall;
            let found = outcome.found.into_iter();
            self.held_back.extend(found.map(|found| HeldBack {
                rule: rule.id,
                site: found.finding.site,
                have: length.0 / 1_000_000,
                need: u64::try_from(evidence.thresholds.min_run.as_millis()).unwrap_or(u64::MAX),
                what: "ms of run time",
            }));
        }
    }

    /// Returns how much of a site's self time is explained already.
    pub(crate) fn claimed(&self, site: SiteId) -> Nanos {
        let claims = self.claims.iter().filter(|claim| claim.site == site);
        claims.map(|claim| claim.time).sum()
    }

    /// Whether a rule that ran before found something at a site.
    pub(crate) fn has(&self, rule: &str, site: &str) -> bool {
        let mut found = self.found.iter().map(|(_, found)| &found.finding);
        found.any(|finding| finding.rule == rule && finding.site == site)
    }

    /// Returns a rule that ran before and found something to change at a site.
    pub(crate) fn rule_at(&self, site: &str) -> Option<&'static str> {
        let causes = self
            .found
            .iter()
            .filter(|(standing, _)| *standing == Standing::Cause);
        let mut findings = causes.map(|(_, found)| &found.finding);
        let finding = findings.find(|finding| finding.site == site)?;
        Some(finding.rule)
    }

    pub(crate) fn held_back(&self) -> &[HeldBack] {
        &self.held_back
    }

    pub(crate) fn conclude(mut self, evidence: &Evidence<'_>) -> Diagnosis {
        // What happens outside the spans may be the real cause.
        if self.found.iter().any(|(_, f)| f.finding.rule == "CTX003") {
            for (_, found) in &mut self.found {
                if found.finding.severity > Severity::Info {
                    found.finding.confidence = lowered(found.finding.confidence);
                }
            }
        }
        for (_, found) in &mut self.found {
            within_bound(&mut found.finding.gain);
        }
        let thresholds = evidence.thresholds;
        self.found
            .sort_by(|one, other| rank(one, other, thresholds));
        let leading = self.found.first();
        let leading = leading.filter(|(standing, _)| *standing == Standing::Cause);
        let outside = self
            .found
            .iter()
            .map(|(_, found)| found)
            .find(|found| found.finding.rule == "CTX003" && found.finding.location.is_none());
        let leading = leading.map(|(_, found)| found);
        let headline = headline::compose(evidence, leading, outside, &self.held_back);
        self.checked.sort_unstable_by_key(|checked| checked.rule);
        Diagnosis {
            headline,
            findings: self.found.into_iter().map(|(_, f)| f.finding).collect(),
            checked: self.checked,
            critical_path: path_table::of(evidence),
            operations: operation_tables::of(evidence),
            targets: targets::of(evidence),
        }
    }
}

/// Returns the severity of a share of the time.
pub(crate) fn ladder(share: f64, thresholds: &Thresholds) -> Severity {
    if share > thresholds.critical_share {
        Severity::Critical
    } else if share > thresholds.high_share {
        Severity::High
    } else if share > thresholds.medium_share {
        Severity::Medium
    } else {
        Severity::Low
    }
}

/// Puts a finding where its replayed saving belongs, or without trees its share of the time, or its severity's least share
/// if that is more: what has no price, such as a runtime that is blocked for long, still has a place.
fn score(finding: &Finding, thresholds: &Thresholds) -> f64 {
    let floor = match finding.severity {
        Severity::Critical => thresholds.critical_share,
        Severity::High => thresholds.high_share,
        Severity::Medium => thresholds.medium_share,
        Severity::Low | Severity::Info => 0.0,
    };
    finding.saving.or(finding.share).unwrap_or(0.0).max(floor)
}

/// Sees to it that no promise is above what can be had.
fn within_bound(gain: &mut Gain) {
    let most = gain.bound.unwrap_or(f64::INFINITY);
    gain.low = gain.low.map(|low| low.min(most));
    gain.likely = gain.likely.map(|likely| likely.min(most));
}

fn rank(
    (one_standing, one): &(Standing, Found),
    (other_standing, other): &(Standing, Found),
    thresholds: &Thresholds,
) -> Ordering {
    let (one, other) = (&one.finding, &other.finding);
    let scores = score(other, thresholds).total_cmp(&score(one, thresholds));
    one_standing
        .cmp(other_standing)
        .then(scores)
        .then(other.severity.cmp(&one.severity))
        .then(other.confidence.cmp(&one.confidence))
        .then(one.rule.cmp(other.rule))
        .then_with(|| one.site.cmp(&other.site))
        .then_with(|| one.location.cmp(&other.location))
}

fn lowered(confidence: Confidence) -> Confidence {
    match confidence {
        Confidence::High => Confidence::Medium,
        Confidence::Medium | Confidence::Low => Confidence::Low,
    }
}
