//! Why an export could not start.

/// A setting that cannot work.
#[derive(Debug)]
#[non_exhaustive]
pub enum OtlpError {}
