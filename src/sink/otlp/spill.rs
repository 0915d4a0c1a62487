//! The file for spans that could not be sent: lines of OTLP-JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// The collector's `otlpjsonfile` receiver tears lines of more than 1 MiB apart, if it is not told otherwise.
const MAX_LINE_BYTES: usize = 900 << 10;
/// How much longer JSON usually is than protobuf; where it is longer still, a line is made anew.
const GROWTH: usize = 4;

/// A file that is opened when it is first needed, and only ever gets longer.
#[derive(Debug)]
pub(super) struct Spill {
    path: PathBuf,
    file: Option<File>,
    /// A line may have been cut off; the next must not be glued to it.
    is_torn: bool,
}

/// Not all of a request is in the file.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Spans that are.
    pub(super) written: u64,
    pub(super) why: String,
}

impl Spill {
    pub(super) fn new(path: PathBuf) -> Spill {
        Spill {
            path,
            file: None,
            is_torn: false,
        }
    }

    /// Adds one request, as several lines if it is long. Ends at the first line that cannot be written.
    pub(super) fn write(&mut self, request: &[u8]) -> Result<(), Unwritten> {
        let mut written = 0;
        let result = self.write_lines(request, &mut written);
        result.map_err(|why| Unwritten { written, why })
    }

    fn write_lines(&mut self, request: &[u8], written: &mut u64) -> Result<(), String> {
        let no_json = |error: &dyn std::fmt::Display| {
            format!("a request could not be written as JSON ({error})")
        };
        let decoded =
            ExportTraceServiceRequest::decode(request).map_err(|error| no_json(&error))?;
        let pieces = request.len() / (MAX_LINE_BYTES / GROWTH) + 1;
        // The last is the next.
        let mut rest: Vec<_> = by_scope(decoded)
            .flat_map(|piece| piece.split(pieces))
            .collect();
        rest.reverse();
        while let Some(piece) = rest.pop() {
            let spans = piece.spans.len();
            let request = piece.into_request();
            let line = serde_json::to_vec(&request).map_err(|error| no_json(&error))?;
            if line.len() > MAX_LINE_BYTES && spans > 1 {
                let pieces = line.len() / MAX_LINE_BYTES + 1;
                let smaller = by_scope(request).flat_map(|piece| piece.split(pieces));
                let smaller: Vec<_> = smaller.collect();
                rest.extend(smaller.into_iter().rev());
                continue;
            }
            self.write_line(line)?;
            *written += spans as u64;
        }
        Ok(())
    }

    fn write_line(&mut self, mut line: Vec<u8>) -> Result<(), String> {
        if self.is_torn {
            line.insert(0, b'\n');
        }
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

/// Spans of one scope with all that is said of them together.
#[derive(Debug, Clone)]
struct Piece {
    /// Without scopes.
    resource: ResourceSpans,
    /// Without spans.
    scope: ScopeSpans,
    spans: Vec<Span>,
}

impl Piece {
    /// Returns pieces of about as many spans each, none of them empty.
    fn split(self, pieces: usize) -> impl Iterator<Item = Piece> {
        let Piece {
            resource,
            scope,
            mut spans,
        } = self;
        let length = spans.len().div_ceil(pieces.max(1)).max(1);
        std::iter::from_fn(move || {
            let rest = spans.split_off(length.min(spans.len()));
            let spans = std::mem::replace(&mut spans, rest);
            (!spans.is_empty()).then(|| Piece {
                resource: resource.clone(),
                scope: scope.clone(),
                spans,
            })
        })
    }

    fn into_request(self) -> ExportTraceServiceRequest {
        let Piece {
            mut resource,
            mut scope,
            spans,
        } = self;
        scope.spans = spans;
        resource.scope_spans = vec![scope];
        ExportTraceServiceRequest {
            resource_spans: vec![resource],
        }
    }
}

fn by_scope(request: ExportTraceServiceRequest) -> impl Iterator<Item = Piece> {
    request.resource_spans.into_iter().flat_map(|mut resource| {
        let scopes = std::mem::take(&mut resource.scope_spans);
        scopes.into_iter().map(move |mut scope| Piece {
            spans: std::mem::take(&mut scope.spans),
            resource: resource.clone(),
            scope,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A request with spans whose names are so many bytes long, numbered from 1.
    fn request(names: &[usize]) -> ExportTraceServiceRequest {
        let spans = names.iter().zip(1_u64..).map(|(length, number)| Span {
            span_id: number.to_be_bytes().to_vec(),
            name: "x".repeat(*length),
            ..Span::default()
        });
        Piece {
            resource: ResourceSpans {
                schema_url: "of the resource".to_owned(),
                ..ResourceSpans::default()
            },
            scope: ScopeSpans {
                schema_url: "of the scope".to_owned(),
                ..ScopeSpans::default()
            },
            spans: spans.collect(),
        }
        .into_request()
    }

    /// Writes the request; returns the lines and their length in bytes.
    fn lines_of(request: &ExportTraceServiceRequest) -> Vec<(ExportTraceServiceRequest, usize)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unsent.jsonl");
        Spill::new(path.clone())
            .write(&request.encode_to_vec())
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines();
        lines
            .map(|line| (serde_json::from_str(line).unwrap(), line.len()))
            .collect()
    }

    fn spans(request: &ExportTraceServiceRequest) -> &[Span] {
        &request.resource_spans[0].scope_spans[0].spans
    }

    #[test]
    fn a_short_request_is_one_line() {
        let request = request(&[10; 500]);
        let lines = lines_of(&request);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].0, request);
    }

    #[test]
    fn a_long_request_is_several_lines_below_the_collectors_limit() {
        // Many values for their bytes, and few.
        for names in [vec![0; 20_000], vec![100_000; 30]] {
            let request = request(&names);
            let lines = lines_of(&request);
            assert!(lines.len() > 1);
            let mut all = Vec::new();
            for (line, length) in &lines {
                assert!(*length <= MAX_LINE_BYTES, "{length}");
                assert_eq!(line.resource_spans[0].schema_url, "of the resource");
                assert_eq!(
                    line.resource_spans[0].scope_spans[0].schema_url,
                    "of the scope"
                );
                all.extend_from_slice(spans(line));
            }
            assert_eq!(all, spans(&request));
        }
    }

    #[test]
    fn a_span_that_is_too_long_has_a_line_of_its_own() {
        let request = request(&[10, 10, MAX_LINE_BYTES, 10, 10]);
        let lines = lines_of(&request);
        let counts = lines.iter().map(|(line, _)| spans(line).len());
        assert_eq!(counts.sum::<usize>(), 5);
        for (line, length) in &lines {
            assert_eq!(*length > MAX_LINE_BYTES, spans(line)[0].name.len() > 10);
            assert!(*length <= MAX_LINE_BYTES || spans(line).len() == 1);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_is_full_is_an_error_with_what_was_written_before() {
        let mut spill = Spill::new(PathBuf::from("/dev/full"));
        let unwritten = spill.write(&request(&[10; 3]).encode_to_vec()).unwrap_err();
        assert_eq!(unwritten.written, 0);
        assert!(unwritten.why.contains("/dev/full"), "{}", unwritten.why);
    }

    #[cfg(unix)]
    #[test]
    fn lines_before_one_that_cannot_be_written_count() {
        use std::io::{BufRead, BufReader};
        use std::os::fd::OwnedFd;
        use std::os::unix::net::UnixStream;

        let (ours, theirs) = UnixStream::pair().unwrap();
        // Takes one line and goes away.
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(theirs).read_line(&mut line).unwrap();
            line
        });
        let mut spill = Spill::new(PathBuf::from("socket"));
        spill.file = Some(File::from(OwnedFd::from(ours)));
        let request = request(&[MAX_LINE_BYTES / 2; 5]).encode_to_vec();
        let unwritten = spill.write(&request).unwrap_err();
        let line: ExportTraceServiceRequest =
            serde_json::from_str(&reader.join().unwrap()).unwrap();
        assert_eq!(unwritten.written, spans(&line).len() as u64);
        assert_eq!(unwritten.written, 1);
    }
}
