//! What devices did, in the form that Kineto gives it and Holistic Trace Analysis reads: a file for each device.
//!
//! The rules come from what that tool was seen to need: it takes a file for a rank and adds up the streams of all
//! devices in it; it takes whatever has an argument `stream` for a device's work; it knows only the runtime's names of
//! calls; it finds the rank by a text search that wants a space.

mod device;
mod recent;
mod rows;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::device::{Device, Ending};
use self::recent::Recent;
use crate::model::{
    Diagnosis, GpuBatch, GpuCall, GpuKind, Nanos, Process, Profile, SpanKind, SpanRecord,
    WallAnchor,
};
use crate::sink::trace_events::Arrows;
use crate::sink::{Sink, SinkError, Wants};

/// How many calls wait to learn which device their context belongs to. Those of one context learn it with its first
/// work, within a quarter of a second.
const MAX_WAITING: usize = 4_096;

/// Writes a trace for each device while the program runs: `device-0.json`, `device-1.json` and so on, by CUDA's ordinal,
/// which is the rank in the file too.
///
/// A file holds the work of its device, the calls into the driver by contexts of that device, and the spans of the
/// threads that made them, at most the newest mebibyte of those from before their first call. A device that does nothing
/// but ranges has no file, because Holistic Trace Analysis fails on one without kernels and copies.
///
/// What it differs in from the Chrome trace:
///
/// - Calls have the name of the runtime's function that does the same (`cudaLaunchKernel` for `cuLaunchKernel`), which
///   the launch statistics look for; `driver_api` is the name of the function that was called.
/// - The device is the process id and the stream the thread id. Of two contexts of one device that use the same stream
///   number, the second has another number here and its own in `driver_stream`.
/// - A row `gpu_user_annotation` covers work that one span had a stream do, until another span's work follows there.
/// - A span with a field `cortex.step` that is a whole number is a row `ProfilerStep#N`. With two or more of them the
///   analysis leaves out the last step and all work that was not launched inside a step.
/// - Work that overlaps with other work of its stream stays on the stream, where some viewers do not show it.
/// - The whole life of async spans, and spans that overlap on their thread, are left out.
///
/// Until the end of the capture a file is an array without its end, which viewers load; then it becomes the object that
/// the analysis reads. Processes that run at the same time need a folder each.
pub struct KinetoSink {
    folder: PathBuf,
    process: Process,
    anchor: WallAnchor,
    devices: BTreeMap<u32, Device>,
    /// Which device a context belongs to.
    contexts: HashMap<u32, u32>,
    waiting: VecDeque<Arc<GpuCall>>,
    /// Calls that had not returned when the capture ended.
    unfinished: Vec<Arc<GpuCall>>,
    recent: Recent,
    arrows: Arrows,
    /// Rows that are in no file for lack of room.
    left_out: u64,
    /// The end of what threads did so far.
    latest: Nanos,
    row: Vec<u8>,
}

impl KinetoSink {
    /// Makes the folder if it is not there, and removes what an earlier run left in it: files named `device-N.json`,
    /// which would be analysed together with the new ones.
    ///
    /// # Errors
    ///
    /// [`SinkError::File`] if files cannot be written there.
    pub fn create(
        folder: impl AsRef<Path>,
        process: &Process,
        anchor: WallAnchor,
    ) -> Result<KinetoSink, SinkError> {
        let named = folder.as_ref();
        let folder = prepare(named).map_err(|source| SinkError::File {
            path: named.to_owned(),
            source,
        })?;
        Ok(KinetoSink {
            folder,
            process: process.clone(),
            anchor,
            devices: BTreeMap::new(),
            contexts: HashMap::new(),
            waiting: VecDeque::new(),
            unfinished: Vec::new(),
            recent: Recent::default(),
            arrows: Arrows::default(),
            left_out: 0,
            latest: Nanos::ZERO,
            row: Vec::new(),
        })
    }

    fn device(&mut self, ordinal: u32) -> &mut Device {
        self.devices
            .entry(ordinal)
            .or_insert_with(|| Device::new(ordinal, &self.folder, &self.process))
    }

    /// Learns the devices of contexts, opens their files, and writes the calls that waited for that.
    fn learn(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        let mut learned = false;
        for work in batch.work {
            let queue = work.queue;
            learned |= self.contexts.insert(queue.context, queue.device) != Some(queue.device);
            if !matches!(work.kind, GpuKind::Range { .. }) {
                self.device(queue.device).open()?;
            }
        }
        if learned {
            for call in std::mem::take(&mut self.waiting) {
                self.call(&call, call.end.unwrap_or(call.start))?;
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Arc<GpuCall>, end: Nanos) -> Result<(), SinkError> {
        let Some(&ordinal) = self.contexts.get(&call.context) else {
            if self.waiting.len() >= MAX_WAITING {
                self.waiting.pop_front();
                self.left_out += 1;
            }
            self.waiting.push_back(Arc::clone(call));
            return Ok(());
        };
        let recent = std::mem::take(&mut self.recent);
        let written = self.device(ordinal).call(call, end, &recent);
        self.recent = recent;
        written
    }
}

impl Sink for KinetoSink {
    fn name(&self) -> &str {
        "kineto"
    }

    fn wants(&self) -> Wants {
        Wants {
            spans: true,
            // For `cortex.step`.
            fields: true,
            gpu: true,
            ..Wants::PROFILE
        }
    }

    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        for record in batch {
            self.latest = self.latest.max(record.end);
            if record.overlapping || matches!(record.kind, SpanKind::Async { .. }) {
                continue;
            }
            self.row.clear();
            rows::span(&mut self.row, self.process.pid, record);
            for device in self.devices.values_mut() {
                device.span(record.thread, &self.row)?;
            }
            self.recent.push(record.thread, &self.row);
        }
        Ok(())
    }

    fn gpu(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        self.learn(batch)?;
        for call in batch.calls {
            match call.end {
                Some(end) => {
                    self.latest = self.latest.max(end);
                    self.call(call, end)?;
                }
                None => self.unfinished.push(Arc::clone(call)),
            }
        }
        for work in batch.work {
            let mut arrows = std::mem::take(&mut self.arrows);
            let written = self.device(work.queue.device).work(work, &mut arrows);
            self.arrows = arrows;
            written?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        all(self.devices.values_mut().map(Device::flush))
    }

    fn finish(
        &mut self,
        profile: &Profile,
        _diagnosis: &Diagnosis,
        _deadline: Duration,
    ) -> Result<(), SinkError> {
        let mut written = Ok(());
        for call in std::mem::take(&mut self.unfinished) {
            written = written.and(self.call(&call, self.latest));
        }
        let ending = Ending {
            profile,
            anchor: self.anchor,
            left_out: self.left_out,
        };
        let devices = self.devices.values_mut();
        all(devices.map(|device| device.finish(&ending))).and(written)
    }
}

impl fmt::Debug for KinetoSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinetoSink")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// Does everything, and returns the first error.
fn all(results: impl Iterator<Item = Result<(), SinkError>>) -> Result<(), SinkError> {
    results.fold(Ok(()), Result::and)
}

/// Makes sure that files can be written in `folder`, and returns where it is wherever the program goes.
fn prepare(folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let folder = path::absolute(folder)?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if is_export(&entry.file_name()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    let probe = device::path(&folder, 0);
    drop(File::create(&probe)?);
    fs::remove_file(probe)?;
    Ok(folder)
}

fn is_export(name: &OsStr) -> bool {
    let number = name
        .to_str()
        .and_then(|name| name.strip_prefix("device-")?.strip_suffix(".json"));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}
