//! The one line.

use std::error::Error;
use std::fmt;

use tracing_core::Dispatch;
use tracing_core::dispatcher::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::layer::SubscriberExt;

use super::build_error::BuildError;
use super::guard::CortexGuard;
use super::text_report::TextReport;
use crate::capture::CortexLayer;

/// Captures the whole program: a registry with this layer becomes the global default, and the report is written to
/// standard error when the returned guard is dropped or the process exits.
///
/// `TRACING_CORTEX_*` change what is written, see [`CortexBuilder::from_env`](crate::CortexBuilder::from_env).
/// To combine it with other layers, use [`CortexLayer::builder`].
///
/// ```no_run
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let _cortex = tracing_cortex::init()?;
///     tracing::info_span!("work").in_scope(|| { /* .. */ });
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// [`InitError`] if the program has a global default already, or an output cannot be opened.
pub fn init() -> Result<CortexGuard, InitError> {
    let builder = CortexLayer::builder()
        .report_text(TextReport::Stderr)
        .from_env();
    let (layer, guard) = builder.build().map_err(InitError::Build)?;
    let subscriber = tracing_subscriber::registry().with(layer);
    match set_global_default(Dispatch::new(subscriber)) {
        Ok(()) => Ok(guard),
        Err(error) => {
            guard.discard();
            Err(InitError::AlreadySet(error))
        }
    }
}

/// Why [`init`] could not capture the program.
#[derive(Debug)]
#[non_exhaustive]
pub enum InitError {
    /// The capture could not start.
    Build(BuildError),
    /// The program has a global default subscriber already.
    AlreadySet(SetGlobalDefaultError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::Build(error) => error.fmt(f),
            InitError::AlreadySet(_) => write!(
                f,
                "the program has a global subscriber already; call init() before it is set, or add \
                 CortexLayer::builder() to it as a layer"
            ),
        }
    }
}

impl Error for InitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            InitError::Build(error) => error.source(),
            InitError::AlreadySet(error) => Some(error),
        }
    }
}
