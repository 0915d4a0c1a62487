//! CUPTI: every kernel, copy and fill of the process, and the calls that started them.
//!
//! | file | holds |
//! |---|---|
//! | `library` | CUPTI's functions, looked up at run time |
//! | `callback` | what runs in the program's threads at both ends of a call into the driver |
//! | `callback_ids` | CUPTI's numbers for the driver's functions |
//! | `buffers` | the memory in which records arrive |
//! | `records`, `names` | reading them |

mod buffers;
mod callback;
mod callback_ids;
mod library;
mod names;
mod records;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use self::callback::Hook;
pub(super) use self::library::Cupti;
use self::library::{Status, Subscription};
use self::records::Record;
use super::anchors::Anchors;
use crate::capture::Capture;
use crate::clock::Clock;
use crate::model::{GpuActivity, GpuOwner, GpuSource, Nanos};

/// CUPTI at work for one capture.
pub(super) struct Recording {
    library: Cupti,
    subscription: Subscription,
    hook: &'static Hook,
    times: Times,
    clock: Clock,
    dropped: u64,
    unfinished: u64,
}

/// How a record's times become the capture's.
enum Times {
    /// They are the clock's that the library was told, which is this many nanoseconds ahead of the capture's.
    Told { ahead_ns: i128 },
    /// The library cannot be told, so both clocks are read every now and then.
    Anchored(Anchors),
}

/// The library serves one subscriber of a process.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Recording {
    /// Opens the library and starts recording; says why not otherwise.
    pub(super) fn start(capture: &Arc<Capture>) -> Result<Recording, String> {
        if TAKEN.swap(true, SeqCst) {
            return Err("another CortexLayer of this process records it already".to_owned());
        }
        let started = Recording::start_alone(capture);
        if started.is_err() {
            TAKEN.store(false, SeqCst);
        }
        started
    }

    /// The subscription is nobody else's.
    fn start_alone(capture: &Arc<Capture>) -> Result<Recording, String> {
        let library = Cupti::open().map_err(|error| {
            format!(
                "CUPTI cannot be opened ({error}); install it with the CUDA toolkit or set TRACING_CORTEX_CUPTI to its \
                 path"
            )
        })?;
        let failed = |what: &str, status| explain(&library, what, status);
        // Leaked, because a call may be inside the callback when the subscription ends.
        let hook: &'static Hook = Box::leak(Box::new(Hook::new(capture)));
        let subscription = library
            .subscribe(callback::on_call, hook)
            .map_err(|status| failed("cuptiSubscribe", status))?;
        // What came too late for a capture before this one.
        buffers::take();
        buffers::take_dropped();
        let clock = capture.clock().clone();
        let told = buffers::prepare(library, &clock);
        let mut recording = Recording {
            library,
            subscription,
            hook,
            times: Times::Anchored(Anchors::default()),
            clock,
            dropped: 0,
            unfinished: 0,
        };
        if library.register_clock(buffers::now) {
            recording.times = Times::Told {
                ahead_ns: ahead(told, &recording.clock),
            };
        }
        recording.anchor();
        match recording.enable() {
            Ok(()) => Ok(recording),
            Err((what, status)) => {
                recording.disable();
                recording.unsubscribe();
                Err(failed(what, status))
            }
        }
    }

    /// Returns the library, which numbers streams in its own way.
    pub(super) fn library(&self) -> Cupti {
        self.library
    }

    fn enable(&self) -> Result<(), (&'static str, Status)> {
        self.library
            .register_buffers(buffers::requested, buffers::completed)
            .map_err(|status| ("cuptiActivityRegisterCallbacks", status))?;
        let mut enabled = 0;
        let mut last = 0;
        for (_, numbers) in callback_ids::RECORDED {
            for &number in *numbers {
                match self.library.enable_callback(&self.subscription, number) {
                    Ok(()) => enabled += 1,
                    // An older library does not know the newer numbers.
                    Err(status) => last = status,
                }
            }
        }
        if enabled == 0 {
            return Err(("cuptiEnableCallback", last));
        }
        for (at, kind) in records::KINDS.into_iter().enumerate() {
            match self.library.enable_activity(kind) {
                Ok(()) => {}
                // Without kernels there is nothing to tell; the other kinds are worth less than that.
                Err(status) if at == 0 => return Err(("cuptiActivityEnable", status)),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn disable(&self) {
        for kind in records::KINDS {
            // What was not enabled cannot be disabled, which is as well.
            let _ = self.library.disable_activity(kind);
        }
    }

    fn unsubscribe(&self) -> bool {
        self.library.unsubscribe(&self.subscription).is_ok()
    }

    /// Has the library hand over what is complete. May take as long as the driver likes.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        self.anchor();
        let flushed = self.library.flush(false);
        self.dropped += self.library.take_dropped() + buffers::take_dropped();
        flushed.map_err(|status| explain(&self.library, "cuptiActivityFlushAll", status))
    }

    /// Ends the recording and returns everything that the library had. Work that has not ended by now never arrives; it is
    /// counted.
    pub(super) fn stop(&mut self) -> Vec<GpuActivity> {
        self.disable();
        self.anchor();
        // What fails here has failed in `flush` before, which is told.
        let _ = self.library.flush(true);
        self.dropped += self.library.take_dropped() + buffers::take_dropped();
        let unsubscribed = self.unsubscribe();
        let rest = self.take();
        // Not before: whoever comes next has the same buffers.
        if unsubscribed {
            TAKEN.store(false, SeqCst);
        }
        rest
    }

    /// Takes what has arrived.
    pub(super) fn take(&mut self) -> Vec<GpuActivity> {
        let records = buffers::take();
        let mut activities = Vec::with_capacity(records.len());
        for record in records {
            if record.end_ns == 0 {
                self.unfinished += 1;
                continue;
            }
            activities.extend(self.times.activity(record));
        }
        activities
    }

    /// Returns how many records the library dropped, or this crate for it.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns how many pieces of work were told of before they had ended.
    pub(super) fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// Returns how many calls were reported of functions that are not known.
    pub(super) fn unknown_calls(&self) -> u64 {
        self.hook.unknown()
    }

    fn anchor(&mut self) {
        let Times::Anchored(anchors) = &mut self.times else {
            return;
        };
        // The closest of a few readings: the thread may lose its core in between.
        let readings = (0..5).filter_map(|_| {
            let before = self.clock.now();
            let theirs = self.library.timestamp()?;
            let after = self.clock.now();
            let took = after.saturating_sub(before);
            Some((took, theirs, Nanos(before.0 + took.0 / 2)))
        });
        if let Some((_, theirs, ours)) = readings.min_by_key(|(took, ..)| *took) {
            anchors.add(theirs, ours);
        }
    }
}

impl Times {
    fn activity(&self, record: Record) -> Option<GpuActivity> {
        Some(GpuActivity {
            start: self.place(record.start_ns)?,
            end: self.place(record.end_ns)?,
            kind: record.kind,
            queue: record.queue,
            graph: record.graph,
            owner: GpuOwner::Call(record.correlation),
            source: GpuSource::Cupti,
        })
    }

    fn place(&self, ns: u64) -> Option<Nanos> {
        match self {
            Times::Told { ahead_ns } => {
                let ours = i128::from(ns) - ahead_ns;
                Some(Nanos(u64::try_from(ours.max(0)).unwrap_or(u64::MAX)))
            }
            Times::Anchored(anchors) => anchors.place(ns),
        }
    }
}

/// Returns how far what the library is told is ahead of the capture's clock.
fn ahead(told: &Clock, ours: &Clock) -> i128 {
    // Both count the same ticks, from other origins.
    let tick = ours.tick();
    let told_ns = told.anchor().unix_ns_at(told.scale().at(tick));
    i128::from(told_ns) - i128::from(ours.scale().at(tick).0)
}

/// Says in words why the library does not do what it was asked, and what helps.
fn explain(library: &Cupti, what: &str, status: Status) -> String {
    let helps = match status {
        39 => {
            "another profiler has CUPTI (nsys, ncu, cuda-gdb, compute-sanitizer or a profiler in the program); run without it"
        }
        35 | 40 => {
            "the driver lets only administrators profile; load it with NVreg_RestrictProfilingToAdminUsers=0 or run with \
             CAP_SYS_ADMIN"
        }
        33 | 41 | 43 => {
            "a virtual GPU, confidential computing or MIG forbids it; ask whoever runs the machine"
        }
        999 => {
            "the driver does not work, or is not the one of this CUPTI; compare nvidia-smi's CUDA version with CUPTI's"
        }
        _ => "install the CUPTI of the driver's CUDA version",
    };
    format!("{what} answered {}: {helps}", library.describe(status))
}
