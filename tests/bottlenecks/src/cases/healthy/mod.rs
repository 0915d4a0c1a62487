//! Programs with which nothing is wrong, some of which look as if.

mod latency;
mod resources;
mod structure;
mod tasks;

use crate::case::Case;

pub const CASES: [&[Case]; 4] = [
    latency::CASES,
    resources::CASES,
    structure::CASES,
    tasks::CASES,
];
