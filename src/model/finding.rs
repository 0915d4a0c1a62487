//! What the diagnosis says: evidence and a judgement, no formatting.

use std::collections::BTreeMap;

use serde::Serialize;

/// The result of all rules on one profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// One sentence: where the time went and what to do first.
    pub headline: String,
    /// What fired, the most worthwhile first.
    pub findings: Vec<Finding>,
    /// Rules that looked and found nothing, by id.
    pub checked: Vec<&'static str>,
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
    /// The callsite's name, or `process` for findings about everything.
    pub site: String,
    /// Where in the source that is, `file:line`.
    pub location: Option<String>,
    /// The share of the time that this is about, in `[0, 1]`; `None` where the rule has no share.
    pub share: Option<f64>,
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
            site: site.into(),
            location: None,
            share: None,
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
