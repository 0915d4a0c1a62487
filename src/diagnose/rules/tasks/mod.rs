//! Rules about tasks and futures.

mod blocking_call_in_poll;
mod busy_polling;
mod cpu_heavy_poll;
mod inside;
mod leaked_or_stuck_task;
mod never_yields;
mod poll_time;
mod ran;
mod scheduler_delay;
mod serial_awaits;
mod serial_runs;
mod tiny_parallel_tasks;
mod tree;
mod unbounded_fan_out;

use crate::diagnose::rules::Rule;

/// What owns the time of a poll comes before what would explain it less exactly.
pub(super) const RULES: &[Rule] = &[
    never_yields::RULE,
    blocking_call_in_poll::RULE,
    cpu_heavy_poll::RULE,
    busy_polling::RULE,
    tiny_parallel_tasks::RULE,
    unbounded_fan_out::RULE,
    serial_awaits::RULE,
    scheduler_delay::RULE,
    leaked_or_stuck_task::RULE,
];

/// The least share that is told.
const LEAST_SAVING: f64 = 0.01;

/// Returns how many times faster it gets without a share of the time; `None` below what is told.
fn factor(share: f64) -> Option<f64> {
    (LEAST_SAVING..1.0)
        .contains(&share)
        .then(|| 1.0 / (1.0 - share))
}
