//! One signal's receiver.

/// Where the requests of one signal go.
#[derive(Debug, Clone)]
pub(crate) struct Target {}
