//! Rules about locks, queues and threads.

mod context_switches;
mod cores;
mod cpu_saturated;
mod lock_contention;
mod lock_held;
mod locks;
mod off_cpu;
mod oversubscription;
mod queue_wait;
mod queues;

use crate::diagnose::rules::Rule;

pub(super) const RULES: &[Rule] = &[
    lock_held::RULE,
    lock_contention::RULE,
    oversubscription::RULE,
    cpu_saturated::RULE,
    queue_wait::RULE,
    context_switches::RULE,
];

/// Waiting that no other rule explains; checked when all others have claimed their time.
pub(super) const GENERIC: &[Rule] = &[off_cpu::RULE];
