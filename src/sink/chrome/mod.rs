//! The Chrome trace: spans, events and counters over time, for Perfetto, Catapult and speedscope.
//!
//! Streams one event per line into an array that loads wherever it is cut, and turns the file into an object
//! (`{"traceEvents":[..],..}`) at a clean end. The shape of each event follows what the viewers were seen to need.

mod args;
mod events;
mod gpu;
mod labels;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Write};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use self::events::Events;
use crate::model::{
    Diagnosis, EventRecord, GpuBatch, Losses, Process, Profile, Sample, SpanRecord, WallAnchor,
};
use crate::sink::trace_events::{Destination, Lines};
use crate::sink::{Sink, SinkError};

/// How the object begins that a clean end makes of the array.
const OBJECT: &[u8] = b"{\"traceEvents\":[";

/// Writes a Chrome trace while the program runs.
pub(crate) struct ChromeSink {
    lines: Lines,
    events: Events,
    anchor: WallAnchor,
    target: Target,
}

enum Target {
    /// A regular file: the path as given, and where that was when the file was created.
    File { path: PathBuf, absolute: PathBuf },
    /// A pipe or a device.
    Device { path: PathBuf },
    /// A user's writer.
    Writer,
}

impl ChromeSink {
    /// Creates or empties the file at `path`. What cannot be rewritten (a pipe, a device) gets an array that is closed
    /// at the end, everything else an object.
    ///
    /// Waits for a reader if `path` is a named pipe.
    ///
    /// # Errors
    ///
    /// [`SinkError::File`] if `path` cannot be opened for writing.
    pub(crate) fn create(
        path: PathBuf,
        process: &Process,
        anchor: WallAnchor,
    ) -> Result<ChromeSink, SinkError> {
        match open(&path) {
            Ok((destination, target)) => Ok(ChromeSink::new(destination, target, process, anchor)),
            Err(source) => Err(SinkError::File { path, source }),
        }
    }

    /// Writes an array to `writer`, closed at the end.
    pub(crate) fn to_writer(
        writer: impl Write + Send + 'static,
        process: &Process,
        anchor: WallAnchor,
    ) -> ChromeSink {
        let destination = Destination::Stream(Box::new(writer));
        ChromeSink::new(destination, Target::Writer, process, anchor)
    }

    fn new(
        destination: Destination,
        target: Target,
        process: &Process,
        anchor: WallAnchor,
    ) -> ChromeSink {
        let mut lines = Lines::new(destination, OBJECT.len());
        let events = Events::new(lines.buffer(), process);
        ChromeSink {
            lines,
            events,
            anchor,
            target,
        }
    }

    /// Lets `append` write one record's lines, unless an earlier write failed.
    #[inline]
    fn append(&mut self, append: impl FnOnce(&mut Events, &mut Vec<u8>)) -> Result<(), SinkError> {
        if self.lines.failed() {
            return Ok(());
        }
        append(&mut self.events, self.lines.buffer());
        self.lines
            .write_if_full()
            .map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> SinkError {
        match &self.target {
            Target::File { path, .. } | Target::Device { path } => SinkError::File {
                path: path.clone(),
                source,
            },
            Target::Writer => SinkError::other(source),
        }
    }

    /// What follows the events in the object.
    fn tail(&self, losses: &Losses) -> String {
        let other = serde_json::json!({
            "producer": concat!("tracing-cortex ", env!("CARGO_PKG_VERSION")),
            // As text: viewers read numbers as `f64`, which has no room for it.
            "started_unix_ns": self.anchor.unix_ns.to_string(),
            "losses": losses,
        });
        format!("],\n\"displayTimeUnit\":\"ms\",\n\"otherData\":{other}}}\n")
    }

    /// A file that somebody deleted takes everything without an error, and nobody ever sees it.
    fn still_there(&self) -> io::Result<()> {
        match &self.target {
            Target::File { absolute, .. } => absolute.metadata().map(drop),
            Target::Device { .. } | Target::Writer => Ok(()),
        }
    }
}

impl Sink for ChromeSink {
    fn name(&self) -> &str {
        "chrome"
    }

    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        let mut rest = batch;
        while let Some(first) = rest.first() {
            let together = rest
                .iter()
                .take_while(|span| ended_together(first, span))
                .count();
            let (run, after) = rest.split_at(together);
            if first.unfinished {
                let mut inner_first: Vec<_> = run.iter().collect();
                inner_first.sort_by_key(|record| Reverse(record.start));
                for record in inner_first {
                    self.append(|events, out| events.span(out, record))?;
                }
            } else {
                // Of two bars with the same start and end, viewers take the earlier line for the outer one, but the
                // inner one ended first.
                for record in run.iter().rev() {
                    self.append(|events, out| events.span(out, record))?;
                }
            }
            rest = after;
        }
        Ok(())
    }

    fn events(&mut self, batch: &[EventRecord<'_>]) -> Result<(), SinkError> {
        for record in batch {
            self.append(|events, out| events.event(out, record))?;
        }
        Ok(())
    }

    fn samples(&mut self, batch: &[Sample<'_>]) -> Result<(), SinkError> {
        for sample in batch {
            self.append(|events, out| events.sample(out, sample))?;
        }
        Ok(())
    }

    fn gpu(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        // An arrow leaves from the call's bar, which therefore comes first.
        for call in batch.calls {
            self.append(|events, out| events.call(out, call))?;
        }
        for work in batch.work {
            self.append(|events, out| events.work(out, work))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.lines.flush().map_err(|error| self.error(error))
    }

    fn finish(
        &mut self,
        profile: &Profile,
        _diagnosis: &Diagnosis,
        _deadline: Duration,
    ) -> Result<(), SinkError> {
        // A full buffer that cannot be written is told by `finish` below.
        let _ = self.append(|events, out| {
            events.unfinished_calls(out);
            events.name_devices(out, profile.gpu.as_ref());
        });
        if let Some(losses) = events::actual(&profile.losses) {
            let _ = self.append(|events, out| events.losses(out, &losses));
        }
        let tail = self.tail(&profile.losses);
        self.lines
            .finish(OBJECT, tail.as_bytes())
            .and_then(|()| self.still_there())
            .map_err(|error| self.error(error))
    }
}

fn ended_together(one: &SpanRecord<'_>, other: &SpanRecord<'_>) -> bool {
    one.end == other.end
        && one.thread.index == other.thread.index
        && one.unfinished == other.unfinished
}

fn open(path: &Path) -> io::Result<(Destination, Target)> {
    if let Some(stream) = standard_stream(path) {
        let path = path.to_owned();
        return Ok((Destination::Stream(stream), Target::Device { path }));
    }
    let file = File::create(path)?;
    Ok(if file.metadata()?.is_file() {
        let target = Target::File {
            path: path.to_owned(),
            absolute: path::absolute(path)?,
        };
        (Destination::File(Box::new(file)), target)
    } else {
        let path = path.to_owned();
        (Destination::Stream(Box::new(file)), Target::Device { path })
    })
}

/// Opening these by path would empty the file that the program's own output goes to.
fn standard_stream(path: &Path) -> Option<Box<dyn Write + Send>> {
    if path == Path::new("/dev/stdout") {
        Some(Box::new(io::stdout()))
    } else if path == Path::new("/dev/stderr") {
        Some(Box::new(io::stderr()))
    } else {
        None
    }
}
