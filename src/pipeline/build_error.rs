//! Why a capture could not start.

use std::error::Error;
use std::fmt;
use std::io;

use crate::diagnose::UnknownRule;
use crate::sink::SinkError;
#[cfg(feature = "otlp")]
use crate::sink::otlp::OtlpError;

/// Why a capture could not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// An output could not be opened.
    Output(SinkError),
    /// A setting is out of range.
    OutOfRange {
        /// The builder's method.
        setting: &'static str,
        /// What it takes.
        accepted: &'static str,
    },
    /// A level was set for a rule that does not exist.
    Rule(UnknownRule),
    /// A setting of the export is wrong.
    #[cfg(feature = "otlp")]
    Otlp(OtlpError),
    /// The system gave no thread.
    Thread(io::Error),
    /// The signal handlers could not be installed.
    Signals(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Output(error) => error.fmt(f),
            BuildError::OutOfRange { setting, accepted } => {
                write!(f, "{setting} is out of range; it takes {accepted}")
            }
            BuildError::Rule(error) => error.fmt(f),
            #[cfg(feature = "otlp")]
            BuildError::Otlp(error) => error.fmt(f),
            BuildError::Thread(_) => write!(
                f,
                "cannot start a thread for the capture; raise the limit of threads for this process"
            ),
            BuildError::Signals(_) => write!(
                f,
                "cannot handle SIGINT and SIGTERM; leave out flush_on_signals and finish the capture yourself"
            ),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BuildError::Output(error) => error.source(),
            BuildError::OutOfRange { .. } => None,
            BuildError::Rule(error) => error.source(),
            #[cfg(feature = "otlp")]
            BuildError::Otlp(error) => error.source(),
            BuildError::Thread(error) | BuildError::Signals(error) => Some(error),
        }
    }
}
