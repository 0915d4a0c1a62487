//! From a profile to findings: pure rules, no I/O, no clock.
//!
//! Every rule looks at the same [`Evidence`] and posts what it found on a [`Board`], where later rules see the time that
//! earlier ones claimed. Rules that say exactly what happened run before those that only say where the time is.

mod board;
mod callers;
mod calls;
mod critical_path;
mod evidence;
mod excess;
mod fields;
mod headline;
mod leak;
mod levels;
mod operation_tables;
mod outermost;
mod path_table;
#[cfg(test)]
mod planted;
mod replay;
mod rules;
mod statistics;
mod targets;
mod thresholds;
mod timeline;
mod trend;
mod valley;
mod wording;

pub use levels::{RuleLevel, RuleLevels, UnknownRule};
pub use thresholds::{
    DatabaseThresholds, GpuThresholds, MemoryThresholds, NetworkThresholds, StorageThresholds,
    TaskThresholds, ThreadThresholds, Thresholds, TrendThresholds, WorkThresholds,
};

use crate::diagnose::board::Board;
use crate::diagnose::evidence::Evidence;
use crate::model::{Diagnosis, Profile};

/// Judges a profile. The same profile gives the same diagnosis, whatever the time or the machine.
///
/// The capture does this at its end; call it to know more while the program runs.
///
/// ```
/// use tracing_cortex::{CortexLayer, Severity, TextOptions, Thresholds, diagnose, report_text};
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder().build()?;
/// let subscriber = tracing_subscriber::registry().with(cortex);
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::info_span!("request").in_scope(|| ());
///
///     let profile = guard.profile();
///     let diagnosis = diagnose(&profile, &Thresholds::default());
///     if diagnosis.findings.iter().any(|finding| finding.severity >= Severity::High) {
///         eprint!("{}", report_text(&profile, &diagnosis, &TextOptions::stderr()));
///     }
///     # assert!(diagnosis.headline.contains("too short"));
/// });
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
pub fn diagnose(profile: &Profile, thresholds: &Thresholds) -> Diagnosis {
    let evidence = Evidence::new(profile, thresholds);
    let mut board = Board::default();
    for rule in rules::in_order() {
        let outcome = (rule.check)(&evidence, &board);
        board.post(rule, outcome, &evidence);
    }
    board.conclude(&evidence)
}

#[cfg(test)]
mod tests;
