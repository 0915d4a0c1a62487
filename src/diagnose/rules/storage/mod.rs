//! Rules about files.

mod io_bound;
mod small_unbuffered_io;
mod sync_per_item;

use crate::diagnose::rules::Rule;

pub(super) const RULES: &[Rule] = &[small_unbuffered_io::RULE, sync_per_item::RULE];

/// What takes the time that no specific rule explains.
pub(super) const GENERIC: &[Rule] = &[io_bound::RULE];
