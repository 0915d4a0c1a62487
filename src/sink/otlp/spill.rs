//! The file for spans that could not be sent: lines of OTLP-JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use super::json;
use super::settings::Signal;

/// A file that is opened when it is first needed, and only ever gets longer.
#[derive(Debug)]
pub(super) struct Spill {
    path: PathBuf,
    file: Option<File>,
    /// A line may have been cut off; the next must not be glued to it.
    is_torn: bool,
}

impl Spill {
    pub(super) fn new(path: PathBuf) -> Spill {
        Spill {
            path,
            file: None,
            is_torn: false,
        }
    }

    /// Adds one request; says in words why it could not.
    pub(super) fn write(&mut self, request: &[u8]) -> Result<(), String> {
        let mut line = Vec::new();
        if self.is_torn {
            line.push(b'\n');
        }
        let json = json::from_protobuf(Signal::Traces, request)
            .map_err(|error| format!("a request could not be written as JSON ({error})"))?;
        line.extend_from_slice(&json);
        line.push(b'\n');
        self.append(&line).map_err(|error| {
            // Opened anew for the next: the disk may have been freed, or the folder made, by then.
            self.file = None;
            format!(
                "cannot write {} ({error}): free the disk or choose another path with Otlp::spill",
                self.path.display()
            )
        })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?,
        };
        let file = self.file.insert(file);
        self.is_torn = true;
        // One call, so that the lines of two processes do not mix.
        file.write_all(line)?;
        self.is_torn = false;
        Ok(())
    }
}
