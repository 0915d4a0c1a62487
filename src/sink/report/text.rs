//! The text report as a sink.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::destination::Destination;
use super::{TextOptions, report_text};
use crate::model::{Diagnosis, Profile};
use crate::sink::{Sink, SinkError, Wants};

/// Writes the report for people when the capture ends.
#[derive(Debug)]
pub struct TextSink {
    output: Output,
    options: Option<TextOptions>,
}

#[derive(Debug)]
enum Output {
    Stderr,
    File(Destination),
}

impl TextSink {
    /// Writes to standard error, in the width and colours of the terminal at that time.
    pub fn stderr() -> TextSink {
        TextSink {
            output: Output::Stderr,
            options: None,
        }
    }

    /// Writes to a file of 100 columns without colour, which appears when the report is complete.
    ///
    /// # Errors
    ///
    /// [`SinkError::File`] if `path` cannot be written now.
    pub fn file(path: impl AsRef<Path>) -> Result<TextSink, SinkError> {
        Ok(TextSink {
            output: Output::File(Destination::create(path.as_ref())?),
            options: Some(TextOptions::default()),
        })
    }

    /// Sets the look, instead of what suits the output.
    pub fn with_options(mut self, options: TextOptions) -> TextSink {
        self.options = Some(options);
        self
    }
}

impl Sink for TextSink {
    fn name(&self) -> &str {
        "report_text"
    }

    fn wants(&self) -> Wants {
        Wants::PROFILE
    }

    fn finish(
        &mut self,
        profile: &Profile,
        diagnosis: &Diagnosis,
        _deadline: Duration,
    ) -> Result<(), SinkError> {
        let options = self.options.unwrap_or_else(TextOptions::stderr);
        let text = report_text(profile, diagnosis, &options);
        match &self.output {
            Output::Stderr => write_stderr(text.as_bytes()).map_err(SinkError::Stderr),
            Output::File(destination) => destination.write(text.as_bytes()),
        }
    }
}

/// Writes through a duplicate of the descriptor: `std::io::stderr` hides that it is closed.
#[cfg(unix)]
fn write_stderr(text: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd;

    // Held while writing, so that no other line of the program lands inside the report.
    let mut stderr = io::stderr().lock();
    stderr.flush()?;
    std::fs::File::from(stderr.as_fd().try_clone_to_owned()?).write_all(text)
}

#[cfg(not(unix))]
fn write_stderr(text: &[u8]) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(text)?;
    stderr.flush()
}
