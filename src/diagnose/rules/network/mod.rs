//! Rules about networks.

mod large_payload;
mod n_plus_one_http;
mod network_bound;
mod no_connection_reuse;

use crate::diagnose::rules::Rule;

pub(super) const RULES: &[Rule] = &[
    n_plus_one_http::RULE,
    no_connection_reuse::RULE,
    large_payload::RULE,
];

/// What takes the time that no specific rule explains.
pub(super) const GENERIC: &[Rule] = &[network_bound::RULE];
