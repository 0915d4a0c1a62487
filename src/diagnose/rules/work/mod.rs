//! Rules about how work is done: batches, repetition, growth, retries, balance.

mod activity;
mod batchable_calls;
mod idle_workers;
mod repeated_identical_work;
mod retry_storm;
mod superlinear_scaling;
mod thread_imbalance;
mod tree_parts;

use crate::diagnose::rules::Rule;

pub(super) const RULES: &[Rule] = &[
    retry_storm::RULE,
    repeated_identical_work::RULE,
    superlinear_scaling::RULE,
    thread_imbalance::RULE,
    idle_workers::RULE,
    batchable_calls::RULE,
];
