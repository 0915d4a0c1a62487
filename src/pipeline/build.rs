//! From settings to a capture that runs.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::build_error::BuildError;
use super::builder::{ChromeTo, CortexBuilder};
use super::exits;
#[cfg(feature = "cuda")]
use super::gpu::{self, GpuStage};
use super::guard::CortexGuard;
use super::level::ProfilingLevel;
use super::outlets::{Outlet, Turn};
use super::readings::sampler_settings;
use super::session::{Parts, Session};
use super::text_report::TextReport;
#[cfg(feature = "otlp")]
use crate::capture::suppress_on_this_thread;
use crate::capture::{AmbientFn, Capture, CortexLayer, SamplerFn, Settings, Streams, calibrate};
use crate::clock::Clock;
use crate::model::Process;
use crate::resources::{self, Sampler};
#[cfg(feature = "otlp")]
use crate::sink::otlp::{OtlpSink, current_otel_span};
use crate::sink::{ChromeSink, JsonSink, KinetoSink, SinkError, TextSink, Wants};

impl CortexBuilder {
    /// Starts the capture.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if an output cannot be opened, a setting is out of range or the system gives no thread.
    pub fn build(self) -> Result<(CortexLayer, CortexGuard), BuildError> {
        self.check()?;
        let thresholds = self.thresholds_in_effect()?;
        #[cfg(feature = "otlp")]
        let otlp = match self.otlp {
            Some(otlp) => otlp.resolve().map_err(BuildError::Otlp)?,
            None => None,
        };
        let clock = match self.clock {
            Some(clock) => Clock::manual(clock),
            None => Clock::start(),
        };
        let process = process();
        let mut outlets = Vec::new();
        if let Some(to) = self.chrome {
            let anchor = clock.anchor();
            let sink = match to {
                ChromeTo::File(path) => opened(ChromeSink::create(path, &process, anchor))?,
                ChromeTo::Writer(writer) => ChromeSink::to_writer(writer, &process, anchor),
            };
            outlets.push(Outlet::new(Box::new(sink), Turn::First));
        }
        if let Some(folder) = &self.kineto {
            let sink = opened(KinetoSink::create(folder, &process, clock.anchor()))?;
            outlets.push(Outlet::new(Box::new(sink), Turn::First));
        }
        // Before the user's sinks, one of which may hang.
        #[cfg(feature = "otlp")]
        let export_at = outlets.len();
        let sinks = self.sinks.into_iter();
        outlets.extend(sinks.map(|sink| Outlet::new(sink, Turn::First)));
        if let Some(path) = self.json {
            outlets.push(Outlet::new(
                Box::new(opened(JsonSink::create(path))?),
                Turn::Last,
            ));
        }
        match self.text {
            TextReport::Off => {}
            TextReport::Stderr => {
                outlets.push(Outlet::new(Box::new(TextSink::stderr()), Turn::Last));
            }
            TextReport::File(path) => {
                outlets.push(Outlet::new(
                    Box::new(opened(TextSink::file(path))?),
                    Turn::Last,
                ));
            }
        }
        #[cfg_attr(not(feature = "otlp"), expect(unused_mut, reason = "nothing exports"))]
        let mut export = OfExport::default();
        // Last, because the other outputs fail without leaving a thread behind.
        #[cfg(feature = "otlp")]
        if let Some(settings) = &otlp {
            let sink = OtlpSink::start(settings, clock.anchor(), suppress_on_this_thread)
                .map_err(BuildError::Thread)?;
            outlets.insert(export_at, Outlet::new(Box::new(sink), Turn::First));
            let head = settings.sampling.head;
            export = OfExport {
                ambient: Some(current_otel_span),
                sampler: Some(Box::new(move |ids| head.keeps(ids))),
                adopts: settings.adopt_ids,
            };
        }
        let wants = outlets
            .iter()
            .fold(Wants::PROFILE, |wants, outlet| wants.or(outlet.wants));
        let streams = Streams {
            spans: wants.spans || wants.operations,
            events: wants.events || wants.operations,
            fields: wants.fields,
            polls: wants.spans,
            ids: wants.ids,
            trees: self.level >= ProfilingLevel::Standard,
            cpu: self.level >= ProfilingLevel::Detailed,
        };
        let cost = calibrate(&clock, self.limits, streams);
        #[cfg(feature = "cuda")]
        let (marks, gpu_notices) = gpu::marks(self.cuda);
        #[cfg(not(feature = "cuda"))]
        let marks = None;
        let capture = Arc::new(Capture::new(Settings {
            clock: clock.clone(),
            limits: self.limits,
            streams,
            overflow: self.overflow,
            held: self.held,
            ambient: export.ambient,
            sampler: export.sampler,
            marks,
        }));
        if export.adopts {
            capture.adopt_ids();
        }
        #[cfg(feature = "cuda")]
        let gpu = match self.cuda {
            Some(cuda) => {
                let started = GpuStage::start(cuda, &capture, gpu_notices);
                Some(started.map_err(BuildError::Thread)?)
            }
            None => None,
        };
        let samples = Arc::new(Mutex::new(VecDeque::new()));
        let sampler = match self.resources {
            Some(interval) => {
                // What this process and this machine do means nothing on a clock that somebody else moves.
                let interval = Some(interval).filter(|_| !clock.is_manual());
                let mut sources = Vec::new();
                if interval.is_some() {
                    sources.extend(resources::standard_sources());
                    #[cfg(feature = "cuda")]
                    if let (Some(gpu), Some(cuda), Some(interval)) = (&gpu, self.cuda, interval) {
                        sources.extend(gpu.sources(cuda, interval));
                    }
                }
                sources.extend(self.sources);
                let to_sinks = wants.samples.then(|| Arc::clone(&samples));
                let settings = sampler_settings(interval, sources, clock, &capture, to_sinks);
                Some(Sampler::start(settings).map_err(BuildError::Thread)?)
            }
            None => None,
        };
        let session = Session::start(Parts {
            capture: Arc::clone(&capture),
            #[cfg(feature = "cuda")]
            gpu,
            outlets: outlets.into_iter().map(Arc::new).collect(),
            samples,
            sampler,
            process,
            cost,
            thresholds,
            deadline: self.deadline,
            kineto: self.kineto,
        })
        .map_err(BuildError::Thread)?;
        exits::register(&session);
        #[cfg(all(unix, feature = "signals"))]
        if self.signals {
            exits::on_signals(&session).map_err(|error| {
                session.discard();
                BuildError::Signals(error)
            })?;
        }
        Ok((CortexLayer::new(capture), CortexGuard::new(session)))
    }
}

fn opened<T>(sink: Result<T, SinkError>) -> Result<T, BuildError> {
    sink.map_err(BuildError::Output)
}

/// What an exporter changes in the capture.
#[derive(Default)]
struct OfExport {
    ambient: Option<AmbientFn>,
    sampler: Option<Box<SamplerFn>>,
    adopts: bool,
}

fn process() -> Process {
    let executable = std::env::current_exe().ok();
    let name = executable
        .as_deref()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    let cores = std::thread::available_parallelism().ok();
    let mut process = Process::default();
    process.name = name;
    process.pid = std::process::id();
    process.memory_limit = resources::memory_limit();
    process.open_files_limit = resources::open_files_limit();
    process.cores = cores.and_then(|cores| u32::try_from(cores.get()).ok());
    process
}
