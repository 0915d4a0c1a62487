//! Whole lines on their way into a file that can be loaded at any time.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// How much is collected before it is written: large enough that the system calls do not count (some 2,000 spans
/// each), small against the memory that the layer may take.
const BUFFER_BYTES: usize = 256 * 1024;

/// The end of the object where a full disk has no room for more.
const SHORT_TAIL: &[u8] = b"]}\n";

/// A file whose written part can still be changed.
pub(in crate::sink) trait Rewrite: Write + Send {
    /// Forgets everything beyond `length`; the next write goes there.
    fn cut_to(&mut self, length: u64) -> io::Result<()>;

    /// Replaces the first bytes.
    fn replace_start(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Rewrite for File {
    fn cut_to(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(drop)
    }

    fn replace_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(0))?;
        self.write_all(bytes)
    }
}

/// Where the lines go.
pub(in crate::sink) enum Destination {
    /// Becomes an object at the end.
    File(Box<dyn Rewrite>),
    /// Stays an array, because what was written cannot be changed: a pipe, a device, a user's writer.
    Stream(Box<dyn Write + Send>),
}

impl Destination {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Destination::File(file) => file,
            Destination::Stream(stream) => stream,
        }
    }
}

/// The trace file: a buffer of whole lines and what is already written.
pub(in crate::sink) struct Lines {
    buffer: Vec<u8>,
    destination: Destination,
    /// How long the start of the array is, which the start of the object replaces.
    start: usize,
    /// Bytes of whole lines that the destination has taken.
    written: u64,
    /// The destination ends in a part of a line, which cannot be taken back.
    torn: bool,
    failure: Option<Failure>,
}

/// An [`io::Error`] that can be told twice: when it happens, and when the sink finishes.
#[derive(Clone)]
enum Failure {
    System(i32),
    Other(io::ErrorKind, String),
}

impl Failure {
    fn of(error: &io::Error) -> Failure {
        match error.raw_os_error() {
            Some(code) => Failure::System(code),
            None => Failure::Other(error.kind(), error.to_string()),
        }
    }

    fn to_error(&self) -> io::Error {
        match self {
            Failure::System(code) => io::Error::from_raw_os_error(*code),
            Failure::Other(kind, message) => io::Error::new(*kind, message.clone()),
        }
    }
}

impl Lines {
    /// Starts an array that any viewer accepts without its end; nothing is written yet. The array begins with `start`
    /// bytes of padding, because a clean end turns it into an object in place.
    pub(in crate::sink) fn new(destination: Destination, start: usize) -> Lines {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES + BUFFER_BYTES / 8);
        buffer.resize(start.saturating_sub(1), b' ');
        buffer.extend_from_slice(b"[\n");
        Lines {
            buffer,
            destination,
            start,
            written: 0,
            torn: false,
            failure: None,
        }
    }

    /// Returns the buffer, to append whole lines to.
    pub(in crate::sink) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether a write failed; from then on nothing is kept.
    pub(in crate::sink) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Writes the buffer if it is full.
    #[inline]
    pub(in crate::sink) fn write_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.write()
    }

    /// Hands everything to the system, so that it survives the process.
    pub(in crate::sink) fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        if self.failed() {
            return Ok(());
        }
        match self.destination.writer().flush() {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(error, false)),
        }
    }

    /// Closes the trace: `object` is the object up to the array, no longer than the padding, and `tail` what follows its
    /// last element. Tells an earlier failure again.
    pub(in crate::sink) fn finish(&mut self, object: &[u8], tail: &[u8]) -> io::Result<()> {
        let streamed = self.flush();
        let closed = match &mut self.destination {
            _ if self.torn => Ok(()),
            Destination::File(_) if self.written < self.start as u64 => Ok(()),
            Destination::File(file) => {
                let mut object = object.to_vec();
                object.resize(self.start, b' ');
                close_file(file.as_mut(), self.written, &object, tail)
            }
            Destination::Stream(stream) => stream.write_all(b"]\n").and_then(|()| stream.flush()),
        };
        match &self.failure {
            Some(failure) => Err(failure.to_error()),
            None => streamed.and(closed),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.failed() {
            self.buffer.clear();
            return Ok(());
        }
        let (taken, result) = write_counting(self.destination.writer(), &self.buffer);
        let whole = match &result {
            Ok(()) => taken,
            Err(_) => end_of_last_line(&self.buffer[..taken]),
        };
        self.written += whole as u64;
        self.buffer.clear();
        // One line with very long fields must not keep its memory for the rest of the run.
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        result.map_err(|error| self.fail(error, whole < taken))
    }

    fn fail(&mut self, error: io::Error, torn: bool) -> io::Error {
        self.failure = Some(Failure::of(&error));
        self.torn = match &mut self.destination {
            Destination::File(file) => file.cut_to(self.written).is_err(),
            Destination::Stream(_) => torn,
        };
        error
    }
}

/// The end goes first: where it does not fit, the array that was there before is left, which loads too.
fn close_file(file: &mut dyn Rewrite, written: u64, object: &[u8], tail: &[u8]) -> io::Result<()> {
    let closed = append(file, written, tail);
    if closed.is_err() && append(file, written, SHORT_TAIL).is_err() {
        return closed;
    }
    file.replace_start(object)?;
    closed
}

/// Appends all of `tail` or nothing.
fn append(file: &mut dyn Rewrite, written: u64, tail: &[u8]) -> io::Result<()> {
    let appended = file.write_all(tail);
    if appended.is_err() {
        file.cut_to(written)?;
    }
    appended
}

/// Returns how many bytes went out, also where it failed.
fn write_counting(writer: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut taken = 0;
    while taken < bytes.len() {
        match writer.write(&bytes[taken..]) {
            Ok(0) => return (taken, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (taken, Err(error)),
        }
    }
    (taken, Ok(()))
}

fn end_of_last_line(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1)
}
