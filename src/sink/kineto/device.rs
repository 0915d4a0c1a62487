//! One device and its file.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::recent::Recent;
use super::rows;
use crate::model::{
    GpuCall, GpuCaller, GpuKind, GpuQueue, GpuWork, Nanos, Process, Profile, Thread, WallAnchor,
};
use crate::sink::SinkError;
use crate::sink::trace_events::{Arrows, Destination, Lines, tid};

/// Room for the start of the object, which is written in the end: with the largest rank it fills it. No more, because
/// Perfetto wants the first event to begin within 64 bytes.
const START: usize = 55;

/// How much is kept of a device that has no file yet, because it did nothing but ranges so far.
const HELD_BYTES: usize = 2 << 20;

/// How many threads, and how many streams, are remembered. Programs have far fewer.
const REMEMBERED: usize = 65_536;

/// Numbers of streams that cannot have their own begin here.
const OWN_STREAMS: u32 = 1_000_000;

/// Kineto's place of device 0 among the processes.
const FIRST_PLACE: u64 = 5_000_000;

/// What the end of a file says.
pub(super) struct Ending<'a> {
    pub(super) profile: &'a Profile,
    pub(super) anchor: WallAnchor,
    pub(super) left_out: u64,
}

/// Returns the path of a device's file.
pub(super) fn path(folder: &Path, ordinal: u32) -> PathBuf {
    folder.join(format!("device-{ordinal}.json"))
}

pub(super) struct Device {
    ordinal: u32,
    path: PathBuf,
    pid: u32,
    process_name: String,
    lines: Option<Lines>,
    /// What is written once there is a file.
    held: Vec<u8>,
    left_out: u64,
    /// Those that have called the device.
    threads: HashSet<u32>,
    streams: Streams,
    /// What the spans had each stream do that are not written yet.
    runs: HashMap<u32, Run>,
}

/// Work of one span on a stream without another span's work in between.
struct Run {
    caller: GpuCaller,
    start: Nanos,
    end: Nanos,
}

impl Device {
    pub(super) fn new(ordinal: u32, folder: &Path, process: &Process) -> Device {
        Device {
            ordinal,
            path: path(folder, ordinal),
            pid: process.pid,
            process_name: process.name.as_deref().unwrap_or("process").to_owned(),
            lines: None,
            held: Vec::new(),
            left_out: 0,
            threads: HashSet::new(),
            streams: Streams::default(),
            runs: HashMap::new(),
        }
    }

    /// Appends a span's row if its thread has called the device.
    pub(super) fn span(&mut self, thread: &Thread, row: &[u8]) -> Result<(), SinkError> {
        if !self.threads.contains(&thread.index) {
            return Ok(());
        }
        self.append(|out| out.extend_from_slice(row))
    }

    /// Appends a call, and before the first one of a thread what is known of the thread.
    pub(super) fn call(
        &mut self,
        call: &GpuCall,
        end: Nanos,
        recent: &Recent,
    ) -> Result<(), SinkError> {
        let pid = self.pid;
        if self.threads.len() < REMEMBERED && self.threads.insert(call.thread.index) {
            self.append(|out| rows::thread_name(out, pid, &call.thread))?;
            for row in recent.of(&call.thread) {
                self.append(|out| out.extend_from_slice(row))?;
            }
        }
        self.append(|out| rows::call(out, pid, call, end))
    }

    /// Appends work, the arrow to it, and what it ends.
    pub(super) fn work(&mut self, work: &GpuWork, arrows: &mut Arrows) -> Result<(), SinkError> {
        let is_range = matches!(work.kind, GpuKind::Range { .. });
        let ordinal = self.ordinal;
        let (stream, introduction) = self.streams.number(work.queue);
        if let Some(name) = introduction {
            self.append(|out| rows::stream_name(out, ordinal, stream, &name))?;
        }
        if !is_range {
            self.follow(stream, work)?;
        }
        let mut to = Vec::new();
        rows::place(&mut to, u64::from(ordinal), u64::from(stream));
        let pid = u64::from(self.pid);
        self.append(|out| {
            rows::device_work(out, work, stream);
            if let Some(call) = &work.call {
                let from = |out: &mut Vec<u8>| rows::place(out, pid, tid(&call.thread));
                arrows.append(out, work, from, &to);
            }
        })
    }

    /// Lengthens the run of the span, or ends that of another one and begins a new one.
    fn follow(&mut self, stream: u32, work: &GpuWork) -> Result<(), SinkError> {
        let caller = work.caller.as_ref();
        if let Some(run) = self.runs.get_mut(&stream)
            && caller.is_some_and(|caller| caller.span == run.caller.span)
        {
            run.start = run.start.min(work.start);
            run.end = run.end.max(work.end);
            return Ok(());
        }
        let ended = match caller {
            Some(caller) => {
                let run = Run {
                    caller: caller.clone(),
                    start: work.start,
                    end: work.end,
                };
                self.runs.insert(stream, run)
            }
            None => self.runs.remove(&stream),
        };
        ended.map_or(Ok(()), |run| self.annotate(stream, &run))
    }

    fn annotate(&mut self, stream: u32, run: &Run) -> Result<(), SinkError> {
        let ordinal = self.ordinal;
        let time = [run.start, run.end];
        self.append(|out| rows::annotation(out, ordinal, stream, &run.caller, time))
    }

    pub(super) fn flush(&mut self) -> Result<(), SinkError> {
        let flushed = self.lines.as_mut().map_or(Ok(()), Lines::flush);
        flushed.map_err(|error| self.error(error))
    }

    /// Makes an object of the file, if there is one.
    pub(super) fn finish(&mut self, ending: &Ending<'_>) -> Result<(), SinkError> {
        if self.lines.is_none() {
            return Ok(());
        }
        // A write that fails is told again below.
        let mut runs: Vec<_> = self.runs.drain().collect();
        runs.sort_by_key(|(stream, _)| *stream);
        for (stream, run) in runs {
            let _ = self.annotate(stream, &run);
        }
        if let Some(name) = self.product(ending.profile) {
            let ordinal = self.ordinal;
            let name = format!("GPU {ordinal} {name}");
            let _ = self.append(|out| rows::process_name(out, u64::from(ordinal), &name));
        }
        // The space is what the analysis finds the rank by.
        let object = format!(
            "{{\"distributedInfo\":{{\"rank\": {}}},\"traceEvents\":[",
            self.ordinal
        );
        let tail = self.tail(ending);
        let finished = match &mut self.lines {
            Some(lines) => lines.finish(object.as_bytes(), tail.as_bytes()),
            None => Ok(()),
        };
        // A file that somebody deleted takes everything without an error, and nobody ever sees it.
        finished
            .and_then(|()| self.path.metadata().map(drop))
            .map_err(|error| self.error(error))
    }

    fn product<'a>(&self, profile: &'a Profile) -> Option<&'a str> {
        let mut devices = profile.gpu.iter().flat_map(|gpu| &gpu.devices);
        let row = devices.find(|row| row.device.ordinal == self.ordinal)?;
        row.device.name.as_deref()
    }

    fn tail(&self, ending: &Ending<'_>) -> String {
        let rows = ending.profile.gpu.iter().flat_map(|gpu| &gpu.devices);
        let devices = rows.map(|row| {
            let device = &row.device;
            let mut properties = json!({"id": device.ordinal});
            let known = [
                ("name", device.name.as_ref().map(|name| json!(name))),
                ("uuid", device.uuid.as_ref().map(|uuid| json!(uuid))),
                (
                    "totalGlobalMem",
                    device.memory_bytes.map(|bytes| json!(bytes)),
                ),
                ("numSms", device.multiprocessors.map(|count| json!(count))),
            ];
            for (key, value) in known {
                if let Some(value) = value {
                    properties[key] = value;
                }
            }
            properties
        });
        let devices = serde_json::Value::from_iter(devices);
        let other = json!({
            "producer": concat!("tracing-cortex ", env!("CARGO_PKG_VERSION")),
            "rows_left_out": self.left_out + ending.left_out,
            "losses": ending.profile.losses,
        });
        let started = ending.anchor.unix_ns;
        format!(
            "],\n\"schemaVersion\": 1,\n\"displayTimeUnit\": \"ms\",\n\"baseTimeNanoseconds\": {started},\n\
             \"deviceProperties\": {devices},\n\"otherData\": {other}}}\n"
        )
    }

    /// Creates the file unless it is there.
    pub(super) fn open(&mut self) -> Result<(), SinkError> {
        if self.lines.is_some() {
            return Ok(());
        }
        let file = File::create(&self.path).map_err(|error| self.error(error))?;
        let mut lines = Lines::new(Destination::File(Box::new(file)), START);
        let device = u64::from(self.ordinal);
        let mut first = Vec::new();
        rows::process_name(&mut first, u64::from(self.pid), &self.process_name);
        rows::process_name(&mut first, device, &format!("GPU {device}"));
        rows::process_sort_index(&mut first, device, FIRST_PLACE + device);
        // No comma stands before the first row.
        lines.buffer().extend_from_slice(&first[1..]);
        lines
            .buffer()
            .extend_from_slice(&std::mem::take(&mut self.held));
        self.lines = Some(lines);
        Ok(())
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SinkError> {
        let Some(lines) = &mut self.lines else {
            let whole = self.held.len();
            write(&mut self.held);
            if self.held.len() > HELD_BYTES {
                self.held.truncate(whole);
                self.left_out += 1;
            }
            return Ok(());
        };
        if lines.failed() {
            return Ok(());
        }
        write(lines.buffer());
        lines.write_if_full().map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> SinkError {
        SinkError::File {
            path: self.path.clone(),
            source,
        }
    }
}

/// The numbers under which the streams of a device appear.
#[derive(Default)]
struct Streams {
    known: HashMap<GpuQueue, u32>,
    taken: HashSet<u32>,
    own: u32,
}

impl Streams {
    /// Returns the number, and the first time a name too.
    fn number(&mut self, queue: GpuQueue) -> (u32, Option<String>) {
        if let Some(&number) = self.known.get(&queue) {
            return (number, None);
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let GpuQueue {
            context, stream, ..
        } = queue;
        let (number, name) = if stream < OWN_STREAMS && self.taken.insert(stream) {
            (stream, format!("stream {stream}"))
        } else {
            self.own = self.own.saturating_add(1);
            let number = OWN_STREAMS.saturating_add(self.own - 1);
            (number, format!("stream {stream} of context {context}"))
        };
        self.known.insert(queue, number);
        (number, Some(name))
    }
}
