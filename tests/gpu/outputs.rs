//! What the outputs say of a run; with `CORTEX_GPU_OUT=FOLDER` they stay there, for `.ci/hta/check.sh` and the viewers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use tracing_cortex::gpu::Cuda;
use tracing_cortex::{CortexLayer, Profile, Unit};
use tracing_subscriber::prelude::*;

use crate::gpu::{Driver, Library, Machine, Stream};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("outputs", outputs),
    ("readings", readings),
    ("lost for readings", lost_for_readings),
    ("marks", marks),
    ("no tool", no_tool),
];

/// Where a child writes to.
const FOLDER: &str = "CORTEX_TEST_FOLDER";

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

fn read(path: &Path) -> Json {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn all_outputs_of_one_run_tell_the_same_of_its_devices() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("CORTEX_GPU_OUT").map(PathBuf::from);
    let out = kept.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(out).unwrap();
    Machine::new()
        .knob("GPU_COUNT", 2)
        .variable(FOLDER, out.to_str().unwrap())
        .run("outputs");

    let report = read(&out.join("report.json"));
    let devices = report["gpu"]["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2);
    let trace = read(&out.join("trace.json"));
    let events = trace["traceEvents"].as_array().unwrap();
    for (ordinal, device) in devices.iter().enumerate() {
        let export = read(&out.join(format!("kineto/device-{ordinal}.json")));
        let of_device = |event: &&Json| event["args"]["device"] == ordinal && event["ph"] == "X";
        let count = |events: &[Json], category: &str| {
            let events = events.iter().filter(of_device);
            events.filter(|event| event["cat"] == category).count() as u64
        };
        let exported = export["traceEvents"].as_array().unwrap();
        for (category, total) in [
            ("kernel", "kernels"),
            ("gpu_memcpy", "copies"),
            ("gpu_memset", "sets"),
        ] {
            let expected = device[total].as_u64().unwrap();
            assert!(expected > 0, "{total} of {ordinal}");
            assert_eq!(count(events, category), expected, "{category} in the trace");
            assert_eq!(
                count(exported, category),
                expected,
                "{category} in the export"
            );
        }
    }
    let arrows = |phase: &str| {
        let flows = events.iter().filter(|event| event["cat"] == "ac2g");
        flows.filter(|event| event["ph"] == phase).count()
    };
    assert!(arrows("s") > 0);
    assert_eq!(arrows("s"), arrows("f"));

    let text = fs::read_to_string(out.join("report.txt")).unwrap();
    for part in ["GPU", "saxpy", "pageable", "device time"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

fn outputs() {
    let out = folder();
    let (layer, guard) = CortexLayer::builder()
        .cuda(Cuda::auto())
        .resources(Duration::from_millis(50))
        .chrome(out.join("trace.json"))
        .kineto(out.join("kineto"))
        .report_json(out.join("report.json"))
        .report_text(out.join("report.txt"))
        .build()
        .unwrap();
    let driver = Driver::ready();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for device in [0, 1] {
            let context = driver.context(device).unwrap();
            driver.set_current(context).unwrap();
            let streams = [driver.stream().unwrap(), driver.stream().unwrap()];
            for step in 0..5 {
                tracing::info_span!("step", number = step).in_scope(|| train(driver, streams));
            }
        }
    });
    guard.finish().unwrap();
}

#[tracing::instrument(skip_all)]
fn train(driver: Driver, [first, second]: [Stream; 2]) {
    let memory = driver.alloc(1 << 20).unwrap();
    let pinned = driver.pinned(1 << 18).unwrap();
    tracing::info_span!("load").in_scope(|| {
        driver
            .copy_to_device_async(memory, &[0; 1 << 16], first)
            .unwrap();
        driver
            .copy_to_device_async(memory, &pinned, second)
            .unwrap();
        driver.memset_async(memory, 0, 1 << 12, second).unwrap();
    });
    tracing::info_span!("forward").in_scope(|| {
        let saxpy = driver.kernel("_Z5saxpyifPfS_", 200_000);
        for _ in 0..3 {
            driver.launch(saxpy, first).unwrap();
        }
        driver
            .launch(driver.kernel("relu", 40_000), second)
            .unwrap();
        // The host is late for the next.
        std::thread::sleep(Duration::from_millis(1));
        let nodes = ["gather", "gemm"].map(|name| driver.kernel(name, 30_000));
        driver.launch_graph(driver.graph(&nodes), first).unwrap();
    });
    tracing::info_span!("wait").in_scope(|| driver.synchronize().unwrap());
    driver.free(memory).unwrap();
}

#[test]
fn utilisation_memory_and_power_are_read_of_each_device() {
    Machine::new().knob("GPU_COUNT", 2).run("readings");
}

/// Runs a span for some readings.
fn sampled(cuda: Cuda) -> Profile {
    let (layer, guard) = CortexLayer::builder()
        .cuda(cuda)
        .resources(Duration::from_millis(10))
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info_span!("work").in_scope(|| std::thread::sleep(Duration::from_millis(80)));
    });
    guard.finish().unwrap().profile().clone()
}

fn readings() {
    let profile = sampled(Cuda::auto());
    assert_eq!(profile.losses.failures, []);
    for (name, unit) in [
        ("gpu.0.utilization", Unit::Percent),
        ("gpu.1.utilization", Unit::Percent),
        ("gpu.0.memory_total", Unit::Bytes),
        ("gpu.1.power", Unit::Watts),
    ] {
        let series = profile.resources.iter().find(|series| series.name == name);
        let series = series.unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(series.unit, unit);
        assert!(series.samples > 1 && series.max > 0.0, "{series:?}");
    }
    let without = sampled(Cuda::auto().without_nvml());
    let of_gpu = |series: &&tracing_cortex::Series| series.name.starts_with("gpu.");
    assert_eq!(without.resources.iter().find(of_gpu), None);
}

#[test]
fn a_device_that_is_lost_in_the_middle_ends_its_readings_with_a_word() {
    Machine::new().run("lost for readings");
}

fn lost_for_readings() {
    let (_layer, guard) = CortexLayer::builder()
        .cuda(Cuda::auto())
        .resources(Duration::from_millis(10))
        .build()
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    Driver::ready().set("NVML_READ", 15);
    std::thread::sleep(Duration::from_millis(100));
    let summary = guard.finish().unwrap();
    let failures = &summary.profile().losses.failures;
    assert_eq!(failures.len(), 1, "{failures:?}");
    let said = format!("{:?}", failures[0]).to_lowercase();
    assert!(said.contains("gpu") && said.contains("lost"), "{said}");
}

#[test]
fn without_nvml_the_rest_is_measured_and_a_notice_says_what_is_missing() {
    let machine = Machine::new().without(Library::Nvml);
    let temporary = tempfile::tempdir().unwrap();
    machine
        .knob("GPU_COUNT", 2)
        .variable(FOLDER, temporary.path().to_str().unwrap())
        .run("outputs");
    let report = read(&temporary.path().join("report.json"));
    let notices = report["gpu"]["notices"].as_array().unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0]["why"].as_str().unwrap().contains("NVML"),
        "{notices:?}"
    );
    assert!(report["gpu"]["devices"][0]["kernels"].as_u64() > Some(0));
}

#[test]
fn ranges_of_nvtx_open_and_close_with_the_spans() {
    Machine::new().run("marks");
}

fn marks() {
    let (layer, guard) = CortexLayer::builder()
        .cuda(Cuda::auto().nvtx())
        .no_resources()
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info_span!("outer").in_scope(|| tracing::info_span!("inner").in_scope(|| ()));
    });
    guard.finish().unwrap();
    let log = Driver::ready().nvtx_log();
    let order: Vec<_> = log
        .iter()
        .filter_map(|line| {
            let open = ["outer", "inner"]
                .into_iter()
                .find(|name| line.contains(name));
            let push = line.starts_with("push").then_some(open).flatten();
            push.or_else(|| line.starts_with("pop").then_some("pop"))
        })
        .collect();
    assert_eq!(order, ["outer", "inner", "pop", "pop"], "{log:#?}");
}

#[test]
fn without_a_tool_nothing_is_told_to_nvtx() {
    Machine::new().knob("NVTX_TOOL", 0).run("no tool");
}

fn no_tool() {
    let (layer, guard) = CortexLayer::builder()
        .cuda(Cuda::auto().nvtx())
        .no_resources()
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info_span!("outer").in_scope(|| ());
    });
    let profile = guard.finish().unwrap().profile().clone();
    assert_eq!(profile.gpu.unwrap().notices, []);
    let log = Driver::ready().nvtx_log();
    assert!(!log.iter().any(|line| line.starts_with("push")), "{log:?}");
}
