//! Rules about databases.

mod filter_columns;
mod n_plus_one_queries;
mod over_fetching;
mod pool_wait;
mod slow_query;

use crate::diagnose::rules::Rule;

pub(super) const RULES: &[Rule] = &[
    n_plus_one_queries::RULE,
    pool_wait::RULE,
    over_fetching::RULE,
    slow_query::RULE,
];
