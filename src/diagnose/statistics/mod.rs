//! What the rules compute from numbers: trends, bounds, order. No rule and no profile here; all of it is deterministic.
//!
//! | file | answers |
//! |---|---|
//! | `mann_kendall` | do the values rise, or is that chance? |
//! | `theil_sen` | how steeply, with which interval? |
//! | `spearman` | do two things grow together? |
//! | `order_statistic` | what is a quantile at least, at most? |
//! | `robust` | the middle, the spread and the quartiles, whatever the outliers |
//! | `probability` | tails of the normal, t and binomial distributions |
#![allow(
    dead_code,
    unused_imports,
    reason = "each family of rules uses some of these"
)]

mod mann_kendall;
mod order_statistic;
mod probability;
mod robust;
mod spearman;
mod theil_sen;

pub(crate) use mann_kendall::mann_kendall;
pub(crate) use order_statistic::{quantile_at_least, quantile_at_most, quantile_in};
pub(crate) use probability::binomial_most;
pub(crate) use robust::{mad, median, quantile_of};
pub(crate) use spearman::spearman;
pub(crate) use theil_sen::{Slope, theil_sen};
