//! The Kineto export through the public API, and an input for `.ci/hta/check.sh` whose numbers were added up by hand.
//!
//! With `CORTEX_KINETO_OUT=FOLDER` the input stays there: `FOLDER/traces` and `FOLDER/report.json`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tracing::subscriber::with_default;
use tracing_cortex::{
    BuildError, CortexLayer, Diagnosis, GpuApi, GpuBatch, GpuCall, GpuCopy, GpuDeviceStats,
    GpuIdle, GpuKernel, GpuKernelStats, GpuKind, GpuMemoryKind, GpuProfile, GpuQueue, GpuSource,
    GpuStreamStats, GpuTotals, GpuWork, KinetoSink, ManualClock, Nanos, Process, Profile, Sink,
    SinkError, SpanRecord, Thread, WallAnchor, Wants, report_json,
};
use tracing_subscriber::prelude::*;

/// Gives the sink the work of two devices once it has seen the span around the calls, and writes the report beside it.
struct WithDevices {
    sink: KinetoSink,
    report: PathBuf,
    told: bool,
}

impl Sink for WithDevices {
    fn name(&self) -> &str {
        "with devices"
    }

    fn wants(&self) -> Wants {
        self.sink.wants()
    }

    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        self.sink.spans(batch)?;
        if let Some(first) = batch.first()
            && !self.told
        {
            self.told = true;
            let mut host = Host::new(first.thread.clone());
            host.first_device();
            host.second_device();
            self.sink.gpu(&GpuBatch::new(&host.work, &host.calls))?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        profile: &Profile,
        diagnosis: &Diagnosis,
        deadline: Duration,
    ) -> Result<(), SinkError> {
        let mut profile = profile.clone();
        profile.gpu = Some(by_hand());
        let report = File::create(&self.report).map_err(SinkError::other)?;
        report_json(&profile, diagnosis, report).map_err(SinkError::other)?;
        self.sink.finish(&profile, diagnosis, deadline)
    }
}

/// Times are in nanoseconds, written as microseconds and a rest.
struct Host {
    thread: Thread,
    calls: Vec<Arc<GpuCall>>,
    work: Vec<GpuWork>,
}

impl Host {
    fn new(thread: Thread) -> Host {
        Host {
            thread,
            calls: Vec::new(),
            work: Vec::new(),
        }
    }

    fn call(
        &mut self,
        api: GpuApi,
        function: &'static str,
        context: u32,
        start: u64,
        length: u64,
    ) -> Arc<GpuCall> {
        let correlation = 100 + u32::try_from(self.calls.len()).unwrap();
        let thread = self.thread.clone();
        let mut call = GpuCall::new(api, function, correlation, thread, Nanos(start));
        call.context = context;
        call.end = Some(Nanos(start + length));
        let call = Arc::new(call);
        self.calls.push(Arc::clone(&call));
        call
    }

    fn work(&mut self, kind: GpuKind, queue: GpuQueue, called: u64, start: u64, end: u64) {
        let (api, function) = match &kind {
            GpuKind::Copy(_) => (GpuApi::CopyAsync, "cuMemcpyHtoDAsync"),
            GpuKind::Set { .. } => (GpuApi::SetAsync, "cuMemsetD8Async"),
            _ => (GpuApi::Launch, "cuLaunchKernel"),
        };
        let length = if queue.device == 0 { 5_000 } else { 500 };
        let call = self.call(api, function, queue.context, called, length);
        let (start, end) = (Nanos(start), Nanos(end));
        let mut work = GpuWork::new(kind, queue, start, end, GpuSource::Cupti);
        work.call = Some(call);
        self.work.push(work);
    }

    /// One stream: a copy, a kernel right behind it, and one that was launched late.
    fn first_device(&mut self) {
        let queue = GpuQueue::new(0, 1, 7);
        let (pageable, device) = (GpuMemoryKind::Pageable, GpuMemoryKind::Device);
        let copy = GpuKind::Copy(GpuCopy::new(pageable, device, 500_000));
        self.work(copy, queue, 1_020_000, 1_040_000, 1_090_000);
        let gemm = kernel("gemm_f32_nn");
        self.work(gemm, queue, 1_030_000, 1_091_000, 1_191_000);
        let relu = kernel("relu_kernel");
        self.work(relu, queue, 1_300_000, 1_310_000, 1_390_000);
        let (wait, function) = (GpuApi::Synchronize, "cuStreamSynchronize");
        self.call(wait, function, 1, 1_330_000, 70_000);
    }

    /// Three streams, two of which have one number in two contexts; work of less than a microsecond.
    fn second_device(&mut self) {
        let [left, right] = [7, 13].map(|stream| GpuQueue::new(1, 2, stream));
        let other_context = GpuQueue::new(1, 3, 7);
        self.work(kernel(TINY), left, 90_000, 100_000, 100_700);
        self.work(kernel(TINY), left, 91_000, 101_250, 101_900);
        let set = GpuKind::Set { bytes: 4_096 };
        self.work(set, left, 95_000, 140_000, 141_000);
        self.work(kernel(AXPY), right, 110_000, 120_000, 220_000);
        self.work(kernel(AXPY), left, 190_000, 200_000, 260_500);
        self.work(kernel(TINY), other_context, 240_000, 250_100, 250_600);
    }
}

const TINY: &str = "tiny(\"x\", \u{e9})";
const AXPY: &str = "void axpy<float, 4>(float*, float)";

fn kernel(name: &str) -> GpuKind {
    GpuKind::Kernel(GpuKernel::new(name))
}

/// What the work above adds up to.
fn by_hand() -> GpuProfile {
    let mut profile = GpuProfile::default();
    profile.devices = vec![
        device(
            0,
            350_000,
            totals(230_000, 2, 1, 0),
            vec![stream((0, 1, 7), (119_000, 1_000, 0))],
        ),
        device(
            1,
            160_500,
            totals(700 + 650 + 140_500, 5, 0, 1),
            vec![
                stream((1, 2, 7), (59_000, 550, 38_100)),
                stream((1, 2, 13), (0, 0, 0)),
                stream((1, 3, 7), (0, 0, 0)),
            ],
        ),
    ];
    profile.kernels = [
        (AXPY, 2, 160_500, 60_500, 100_000),
        ("gemm_f32_nn", 1, 100_000, 100_000, 100_000),
        ("relu_kernel", 1, 80_000, 80_000, 80_000),
        (TINY, 3, 1_850, 500, 700),
    ]
    .map(|(name, runs, time, min, max)| {
        let mut row = GpuKernelStats::new(name.into());
        row.runs = runs;
        (row.time, row.min, row.max) = (Nanos(time), Nanos(min), Nanos(max));
        row
    })
    .into();
    profile
}

fn totals(busy: u64, kernels: u64, copies: u64, sets: u64) -> GpuTotals {
    let mut totals = GpuTotals::default();
    totals.busy = Nanos(busy);
    (totals.kernels, totals.copies, totals.sets) = (kernels, copies, sets);
    totals.launches = kernels + copies + sets;
    totals
}

fn device(
    ordinal: u32,
    window: u64,
    totals: GpuTotals,
    streams: Vec<GpuStreamStats>,
) -> GpuDeviceStats {
    let mut row = GpuDeviceStats::default();
    row.device.ordinal = ordinal;
    row.window = Nanos(window);
    row.totals = totals;
    row.streams = streams;
    row
}

fn stream(queue: (u32, u32, u32), (host, kernel, other): (u64, u64, u64)) -> GpuStreamStats {
    let mut row = GpuStreamStats::new(GpuQueue::new(queue.0, queue.1, queue.2));
    let mut idle = GpuIdle::default();
    (idle.host, idle.kernel, idle.other) = (Nanos(host), Nanos(kernel), Nanos(other));
    row.idle = idle;
    row
}

fn export(out: &Path) {
    let clock = ManualClock::new();
    let mut process = Process::default();
    process.pid = 4_242;
    let anchor = WallAnchor {
        unix_ns: 1_763_700_000_000_000_000,
    };
    let sink = WithDevices {
        sink: KinetoSink::create(out.join("traces"), &process, anchor).unwrap(),
        report: out.join("report.json"),
        told: false,
    };
    let (cortex, guard) = CortexLayer::builder()
        .manual_clock(&clock)
        .sink(sink)
        .build()
        .unwrap();
    with_default(tracing_subscriber::registry().with(cortex), || {
        clock.advance(Duration::from_micros(1_010));
        tracing::info_span!("forward", stream = 7).in_scope(|| {
            clock.advance(Duration::from_micros(400));
        });
    });
    guard.finish().unwrap();
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_work_of_two_devices_is_in_two_files_and_the_report_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("CORTEX_KINETO_OUT").map(PathBuf::from);
    let out = kept.as_deref().unwrap_or(folder.path());
    fs::create_dir_all(out).unwrap();
    export(out);

    let traces = out.join("traces");
    assert_eq!(fs::read_dir(&traces).unwrap().count(), 2);
    for (device, work, spans) in [(0, 3, 1), (1, 6, 1)] {
        let object = read(&traces.join(format!("device-{device}.json")));
        assert_eq!(object["distributedInfo"]["rank"], device);
        let events = object["traceEvents"].as_array().unwrap();
        let bars: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        let with_stream = |bar: &&&Json| bar["args"].get("stream").is_some();
        assert_eq!(bars.iter().filter(with_stream).count(), work);
        let of = |category: &str| bars.iter().filter(|bar| bar["cat"] == category).count();
        assert_eq!(of("user_annotation"), spans);
        assert!(
            bars.iter()
                .all(|bar| bar["pid"] == 4_242 || bar["pid"] == device)
        );
    }
    let report = read(&out.join("report.json"));
    assert_eq!(report["gpu"]["devices"][0]["busy_ns"], 230_000);
    assert_eq!(
        report["gpu"]["devices"][1]["streams"][0]["idle"]["other_ns"],
        38_100
    );
}

#[test]
fn without_a_device_there_is_no_file_no_error_and_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    let (cortex, guard) = CortexLayer::builder().kineto(&traces).build().unwrap();
    with_default(tracing_subscriber::registry().with(cortex), || {
        tracing::info_span!("forward").in_scope(|| {});
    });
    let summary = guard.finish().unwrap();
    assert_eq!(fs::read_dir(&traces).unwrap().count(), 0);
    let gpu = summary.profile().gpu.as_ref().unwrap();
    let [notice] = gpu.notices.as_slice() else {
        panic!("{:?}", gpu.notices)
    };
    assert_eq!(notice.what, "the Kineto export");
    assert!(
        notice.why.contains(&*traces.to_string_lossy()),
        "{notice:?}"
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_of_the_builder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let Err(error) = CortexLayer::builder().kineto(file.join("traces")).build() else {
        panic!("it was built")
    };
    match error {
        BuildError::Output(SinkError::File { path, .. }) => assert_eq!(path, file.join("traces")),
        other => panic!("{other:?}"),
    }
}
