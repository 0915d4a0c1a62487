//! The JSON report as a sink.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::destination::Destination;
use crate::model::{Diagnosis, Profile};
use crate::sink::{Sink, SinkError, Wants};

/// The first key of the document; a change that breaks readers changes the number.
const SCHEMA: &str = "tracing-cortex/1";

/// The whole document. `serde_json` writes numbers that are not finite as `null`.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    profile: &'a Profile,
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
}

impl<'a> Document<'a> {
    pub(super) fn new(profile: &'a Profile, diagnosis: &'a Diagnosis) -> Document<'a> {
        Document {
            schema: SCHEMA,
            profile,
            diagnosis,
        }
    }
}

/// Writes the JSON report on one line, for a profile taken at any time.
///
/// ```
/// use tracing_cortex::{Profile, Thresholds, diagnose, report_json};
///
/// fn answer(profile: &Profile) -> std::io::Result<Vec<u8>> {
///     let diagnosis = diagnose(profile, &Thresholds::default());
///     let mut body = Vec::new();
///     report_json(profile, &diagnosis, &mut body)?;
///     Ok(body)
/// }
/// # assert!(answer(&Profile::default())?.starts_with(b"{\"schema\":\"tracing-cortex/1\""));
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
///
/// What `out` says.
pub fn report_json(
    profile: &Profile,
    diagnosis: &Diagnosis,
    mut out: impl Write,
) -> io::Result<()> {
    // In one piece, because serde_json writes a few bytes at a time and `out` may be a bare file.
    let mut line = serde_json::to_vec(&Document::new(profile, diagnosis))?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Writes the report for programs when the capture ends.
#[derive(Debug)]
pub struct JsonSink {
    destination: Destination,
}

impl JsonSink {
    /// Writes to a file, which appears when the report is complete.
    ///
    /// # Errors
    ///
    /// [`SinkError::File`] if `path` cannot be written now.
    pub fn create(path: impl AsRef<Path>) -> Result<JsonSink, SinkError> {
        Ok(JsonSink {
            destination: Destination::create(path.as_ref())?,
        })
    }
}

impl Sink for JsonSink {
    fn name(&self) -> &str {
        "report_json"
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
        let mut document = Vec::new();
        report_json(profile, diagnosis, &mut document).map_err(SinkError::other)?;
        self.destination.write(&document)
    }
}
