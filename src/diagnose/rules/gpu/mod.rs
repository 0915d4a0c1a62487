//! Rules about devices.
//!
//! | file | holds |
//! |---|---|
//! | `device` | the devices of which enough is known, and the places in the program that use them |
//! | `quiet` | when a device did nothing, laid beside the trees |
//! | `waits` | the host's time that is waiting for devices, for rules that come later |
//!
//! Rules that say why a device does nothing come before the one that only says so.

mod candidate;
mod data_starved;
mod device;
mod excessive_sync;
mod imbalance;
mod launch_bound_kernels;
mod memory_near_limit;
mod offload_too_small;
mod pageable_or_sync_copy;
mod quiet;
mod transfer_bound;
mod underutilised;
mod waits;

use crate::diagnose::rules::Rule;

pub(super) const RULES: &[Rule] = &[
    offload_too_small::RULE,
    data_starved::RULE,
    pageable_or_sync_copy::RULE,
    excessive_sync::RULE,
    launch_bound_kernels::RULE,
    transfer_bound::RULE,
    imbalance::RULE,
    underutilised::RULE,
    memory_near_limit::RULE,
    candidate::RULE,
];
