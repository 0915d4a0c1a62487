//! The rules, one a file. A rule reads the evidence and what the rules before it posted, and changes nothing.

mod blocking_call_in_poll;
mod cold_start;
mod cpu_heavy_poll;
mod dominant_subtree;
mod dropped_or_truncated_data;
mod hot_self_time;
mod insufficient_data;
mod poll_time;
mod profiler_overhead;
mod tail_latency;
mod uninstrumented_time;

use crate::diagnose::board::{Board, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::model::{Distribution, Finding, Nanos, Site};

/// One rule. The id is never used again once the rule is retired.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) standing: Standing,
    pub(crate) check: fn(&Evidence<'_>, &Board) -> Outcome,
}

/// What a rule's findings are about; earlier kinds are told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Something that takes time and can be changed.
    Cause,
    /// Where to look; nothing to change there.
    Pointer,
    /// The data itself.
    Data,
}

/// Rules that claim time come before those that take what is left; the rule about missing data comes last.
pub(crate) const IN_ORDER: [Rule; 10] = [
    blocking_call_in_poll::RULE,
    cpu_heavy_poll::RULE,
    tail_latency::RULE,
    cold_start::RULE,
    hot_self_time::RULE,
    dominant_subtree::RULE,
    uninstrumented_time::RULE,
    profiler_overhead::RULE,
    dropped_or_truncated_data::RULE,
    insufficient_data::RULE,
];

/// Findings that are about no single callsite have this as their site.
const PROCESS: &str = "process";

impl Rule {
    fn about(&self, site: &Site) -> Finding {
        let mut finding = Finding::new(self.id, self.name, site.name);
        finding.location = site.location();
        finding
    }

    fn about_process(&self) -> Finding {
        Finding::new(self.id, self.name, PROCESS)
    }
}

/// Returns the operations without the first one, which often pays for what later ones find ready.
fn without_first(operations: &Distribution, first: Option<Nanos>) -> Distribution {
    let Some(first) = first else {
        return operations.clone();
    };
    let mut buckets = operations.buckets.clone();
    let nearest = buckets
        .iter_mut()
        .filter(|bucket| bucket.count > 0)
        .min_by_key(|bucket| bucket.value.0.abs_diff(first.0));
    if let Some(bucket) = nearest {
        bucket.count -= 1;
    }
    buckets.retain(|bucket| bucket.count > 0);
    let sum = operations.sum.saturating_sub(first);
    Distribution::from_buckets(
        buckets,
        sum,
        operations.min,
        operations.max,
        operations.outliers,
    )
}
