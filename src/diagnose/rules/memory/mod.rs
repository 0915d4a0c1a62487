//! Rules about memory and handles.

mod handles;
mod memory_pressure;
mod memory_spike;
mod rss_growth;

use std::time::Duration;

use crate::diagnose::rules::Rule;
use crate::model::Severity;

pub(super) const RULES: &[Rule] = &[
    rss_growth::RULE,
    memory_spike::RULE,
    memory_pressure::RULE,
    handles::FILES,
    handles::THREADS,
];

/// A leak is as severe as its limit is near.
fn severity(reaches: Option<(Duration, Duration)>, soon: Duration) -> Severity {
    match reaches {
        Some((soonest, _)) if soonest < soon => Severity::High,
        _ => Severity::Medium,
    }
}
