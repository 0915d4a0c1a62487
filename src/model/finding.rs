//! What the diagnosis says: evidence and a judgement, no formatting.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Nanos, OperationTables, TargetResult};

/// The result of all rules on one profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// One sentence: where the time went and what to do first.
    pub headline: String,
    /// What fired, the most worthwhile first.
    pub findings: Vec<Finding>,
    /// Rules that looked and found nothing, by id.
    pub checked: Vec<Checked>,
    /// What determined how long the roots took, out of sampled trees; `None` where there are too few of them.
    pub critical_path: Option<CriticalPath>,
    /// What databases and other programs were asked for, out of the same trees; `None` where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<OperationTables>,
    /// What became of the targets that were set, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetResult>,
}

impl Diagnosis {
    /// Whether the rule with this id looked and found nothing.
    pub fn is_healthy(&self, rule: &str) -> bool {
        self.checked.iter().any(|checked| checked.rule == rule)
    }

    /// Returns the findings of rules that were denied: a program that is to fail for them exits with a failure when there
    /// is one.
    pub fn denied(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.denied)
    }
}

/// A rule that looked and found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Checked {
    /// The rule's stable id, such as `CTX001`.
    pub rule: &'static str,
    /// The rule's name, such as `hot-self-time`.
    pub name: &'static str,
    /// What holds therefore, in a few words.
    pub healthy: &'static str,
}

impl Checked {
    /// Builds a line about a rule.
    pub fn new(rule: &'static str, name: &'static str, healthy: &'static str) -> Checked {
        Checked {
            rule,
            name,
            healthy,
        }
    }
}

/// The chains of operations that determined how long the roots took, by site.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CriticalPath {
    /// Trees that were looked at.
    pub trees: u64,
    /// Roots that they stand for.
    pub roots: u64,
    /// What the shares are of: the wall time, or the time of all roots where that is more because they overlap.
    #[serde(rename = "whole_ns")]
    pub whole: Nanos,
    /// The sites, the largest part of the path first; at most 20. Their times on the path add up, their savings do not.
    pub sites: Vec<PathSite>,
}

/// One site on the critical path, and what would happen without it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PathSite {
    /// The callsite's name.
    pub site: String,
    /// Where in the source that is, `file:line`.
    pub location: Option<String>,
    /// Its time on the path in all roots, as far as the trees tell.
    #[serde(rename = "time_ns")]
    pub time: Nanos,
    /// That time as a share of [`CriticalPath::whole`].
    pub share: f64,
    /// The share of the whole that a replay says would vanish if the site's own time did. Where the trees do not show all
    /// that can run at the same time, more vanishes.
    pub saving: f64,
    /// The 95 % interval of `saving`, by resampling the roots.
    pub saving_low: f64,
    /// See `saving_low`.
    pub saving_high: f64,
    /// The same for half of its own time.
    pub saving_halved: f64,
    /// The share of the whole that can vanish at most.
    pub saving_most: f64,
}

/// One thing that a rule found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The rule's stable id, such as `CTX001`.
    pub rule: &'static str,
    /// The rule's name, such as `hot-self-time`.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// How sure the rule is.
    pub confidence: Confidence,
    /// Whether the rule was denied, so that this is to make the program fail.
    pub denied: bool,
    /// The callsite's name, or `process` for findings about everything.
    pub site: String,
    /// Where in the source that is, `file:line`.
    pub location: Option<String>,
    /// The share of the time that this is about, in `[0, 1]`; `None` where the rule has no share.
    pub share: Option<f64>,
    /// The share of the whole that a replay of sampled trees says would vanish without what this is about; `None` where
    /// there are no trees, or the rule is about something that a replay cannot price.
    pub saving: Option<f64>,
    /// How many times faster the program could get.
    pub gain: Gain,
    /// The numbers behind it, by name; the unit is part of the name.
    pub evidence: BTreeMap<&'static str, f64>,
    /// The fact in a sentence.
    pub message: String,
    /// What to change.
    pub recommendation: String,
    /// The change in Rust.
    pub example: String,
}

impl Finding {
    /// Builds a finding about a site; the rest is filled in by the rule.
    pub fn new(rule: &'static str, name: &'static str, site: impl Into<String>) -> Finding {
        Finding {
            rule,
            name,
            severity: Severity::Info,
            confidence: Confidence::Medium,
            denied: false,
            site: site.into(),
            location: None,
            share: None,
            saving: None,
            gain: Gain::default(),
            evidence: BTreeMap::new(),
            message: String::new(),
            recommendation: String::new(),
            example: String::new(),
        }
    }
}

/// How many times faster the whole could get: 1.25 is a quarter more work in the same time. `None`: cannot be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Gain {
    /// At least this, if the recommended change works.
    pub low: Option<f64>,
    /// Probably about this.
    pub likely: Option<f64>,
    /// Never more than this.
    pub bound: Option<f64>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A pointer or a note on the data.
    Info,
    /// Up to a tenth.
    Low,
    /// More than a tenth.
    Medium,
    /// More than a fifth.
    High,
    /// More than half.
    Critical,
}

/// How sure a rule is of its finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The evidence allows other readings.
    Low,
    /// Likely.
    Medium,
    /// Follows from what was measured.
    High,
}
