//! Which traces are exported.
//!
//! The head decides by trace id and by what the parent's process decided; what it leaves out the tail may still keep,
//! once it is known how the trace went. The statistics of the profile and the metrics are over all operations, whatever
//! is decided here.

mod head;
mod settings;
mod tail;

#[cfg(test)]
mod tests;

pub use self::head::Sampling;
pub(crate) use self::settings::{Choice, Rules};
pub(crate) use self::tail::Tail;
