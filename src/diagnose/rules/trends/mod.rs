//! Rules about distributions, targets and change over time.

mod bimodal_latency;
mod clock_or_nesting;
mod degrades_over_run;
mod periodic_stall;
mod sla_breach;
mod throughput_drop;

use crate::diagnose::rules::Rule;

pub(super) const RULES: &[Rule] = &[
    sla_breach::RULE,
    degrades_over_run::RULE,
    throughput_drop::RULE,
    periodic_stall::RULE,
    clock_or_nesting::RULE,
];

/// Comes before the rule about tails: a second speed is a tail with a cause.
pub(super) const TWO_SPEEDS: Rule = bimodal_latency::RULE;
