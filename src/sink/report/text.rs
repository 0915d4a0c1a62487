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

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;
    use std::process::{Command, Stdio, exit};

    use super::*;

    const AS_CHILD: &str = "CORTEX_TEST_REPORT_CHILD";

    #[test]
    fn a_stderr_that_cannot_be_written_is_an_error_and_no_panic() {
        if std::env::var_os(AS_CHILD).is_some() {
            let written = TextSink::stderr().finish(
                &Profile::default(),
                &Diagnosis::default(),
                Duration::from_secs(1),
            );
            exit(match written {
                Err(SinkError::Stderr(_)) => 42,
                Ok(()) => 43,
                Err(_) => 44,
            });
        }
        let child = |stderr: Stdio| {
            let name = "sink::report::text::tests::a_stderr_that_cannot_be_written_is_an_error_and_no_panic";
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(AS_CHILD, "1")
                .stdout(Stdio::null())
                .stderr(stderr)
                .status();
            status.unwrap().code()
        };
        let (reader, broken_pipe) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(child(broken_pipe.into()), Some(42));
        // A descriptor that is not open for writing gives EBADF, as a closed one does.
        assert_eq!(child(File::open("/dev/null").unwrap().into()), Some(42));
        assert_eq!(child(Stdio::null()), Some(43));
    }

    #[test]
    fn a_file_gets_the_report_without_colour() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.txt");
        let mut sink = TextSink::file(&path).unwrap();
        assert!(!path.exists());
        let (profile, diagnosis) = (Profile::default(), Diagnosis::default());
        sink.finish(&profile, &diagnosis, Duration::from_secs(1))
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            report_text(&profile, &diagnosis, &TextOptions::default())
        );
    }
}
