//! What is not measured is said once, with what to do about it, and the program runs on.

use std::fs;
use std::time::{Duration, Instant};

use tracing_cortex::gpu::Cuda;
use tracing_cortex::{CortexLayer, GpuNotice};

use crate::capture::{builder, record, record_with};
use crate::gpu::{Driver, Library, Machine, Stream, say};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("without driver", without_driver),
    ("without cupti", without_cupti),
    ("whole", whole),
    ("no ranges", no_ranges),
    ("left to others", left_to_others),
    ("flush fails", flush_fails),
];

/// Fails unless these become all of the product's threads. A thread gives itself its name, and is there for a moment after
/// its last word.
pub(crate) fn assert_threads(expected: &[&str]) {
    let until = Instant::now() + Duration::from_secs(10);
    while own_threads() != expected && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(own_threads(), expected);
}

fn own_threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    let names = names.map(|name| name.trim().to_owned());
    let mut own: Vec<_> = names.filter(|name| name.starts_with("cortex-")).collect();
    own.sort();
    own
}

/// A program that has spans and, maybe, a device.
fn program(uses_driver: bool) -> Vec<GpuNotice> {
    let (layer, guard) = builder().build().unwrap();
    // Nothing is asked for records. Where there is a device, the program may mark ranges on it.
    match uses_driver {
        true => assert_threads(&["cortex-collect", "cortex-gpu"]),
        false => assert_threads(&["cortex-collect"]),
    }
    drop((layer, guard));
    assert_threads(&[]);
    let recorded = record_without_driver(|| {
        tracing::info_span!("work").in_scope(|| {
            if uses_driver {
                let driver = Driver::ready();
                driver
                    .launch(driver.kernel("step", 1_000), Stream::DEFAULT)
                    .unwrap();
                driver.synchronize().unwrap();
            }
        });
    });
    assert_threads(&[]);
    recorded
}

fn record_without_driver(work: impl FnOnce()) -> Vec<GpuNotice> {
    use tracing_subscriber::prelude::*;

    let (layer, guard) = builder().build().unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
    let profile = guard.finish().unwrap().profile().clone();
    assert_eq!(profile.sites[0].stats.calls, 1);
    assert!(profile.sites[0].stats.gpu.is_none());
    let gpu = profile.gpu.unwrap();
    let lost = [
        gpu.unattributed,
        gpu.dropped_records,
        gpu.dropped_calls,
        gpu.unfinished,
        gpu.unknown_calls,
    ];
    assert_eq!(
        (lost, gpu.kernels.len(), gpu.outside.launches),
        ([0; 5], 0, 0)
    );
    gpu.notices
}

fn tell(notices: Vec<GpuNotice>) {
    for notice in notices {
        say(&format!("{}|{}", notice.what, notice.why));
    }
}

fn without_driver() {
    tell(program(false));
}

fn without_cupti() {
    tell(program(true));
}

/// Runs on a machine and expects one notice, with these words.
fn expect(machine: Machine, scenario: &str, what: &str, words: &[&str]) {
    let said = machine.run(scenario);
    assert_eq!(said.len(), 1, "{said:?}");
    let (said_what, why) = said[0].split_once('|').unwrap();
    assert_eq!(said_what, what);
    for word in words {
        assert!(why.contains(word), "{word:?} is not in: {why}");
    }
}

const EVERYTHING: &str = "everything about GPUs";
const WORK: &str = "kernels, copies and waits on GPUs";

#[test]
fn without_a_driver() {
    let machine = Machine::new().without(Library::Driver);
    let words = ["libcuda.so.1", "install NVIDIA's driver", "--gpus all"];
    expect(machine, "without driver", EVERYTHING, &words);
}

#[test]
fn with_a_driver_that_does_not_start() {
    let answers: [(i64, &[&str]); 7] = [
        (100, &["no device", "nvidia-smi -L", "CUDA_VISIBLE_DEVICES"]),
        (34, &["cuInit answered 34", "stub", "library path"]),
        (46, &["46", "compute mode"]),
        (101, &["101", "MIG", "CUDA_VISIBLE_DEVICES"]),
        (802, &["802", "fabricmanager"]),
        (803, &["803", "kernel module", "restart"]),
        (999, &["999", "nvidia-smi"]),
    ];
    for (answer, words) in answers {
        let machine = Machine::new().knob("CUINIT", answer);
        expect(machine, "without driver", EVERYTHING, words);
    }
    let none = Machine::new().knob("GPU_COUNT", 0);
    expect(none, "without driver", EVERYTHING, &["no device"]);
}

#[test]
fn with_a_driver_that_lacks_a_symbol() {
    for symbol in ["cuInit", "cuDeviceGetCount", "cuDeviceTotalMem_v2"] {
        let machine = Machine::new().without_symbol(Library::Driver, symbol);
        let words = [&*format!("it lacks {symbol}"), "CUDA 11"];
        expect(machine, "without driver", EVERYTHING, &words);
    }
}

#[test]
fn without_cupti_there_are_devices_but_no_work() {
    let machine = Machine::new().without(Library::Cupti);
    let words = ["libcupti.so.13", "CUDA toolkit", "TRACING_CORTEX_CUPTI"];
    expect(machine, "without cupti", WORK, &words);
    let machine = Machine::new().variable("TRACING_CORTEX_CUPTI", "/nowhere/libcupti.so");
    expect(machine, "without cupti", WORK, &["/nowhere/libcupti.so"]);
}

#[test]
fn with_a_cupti_that_refuses() {
    let refusals: [(&str, i64, &[&str]); 9] = [
        (
            "CUPTI_SUBSCRIBE",
            39,
            &["cuptiSubscribe", "(39)", "another profiler", "nsys"],
        ),
        ("CUPTI_SUBSCRIBE", 999, &["(999)", "nvidia-smi"]),
        (
            "CUPTI_ENABLE",
            35,
            &[
                "cuptiActivityEnable",
                "(35)",
                "NVreg_RestrictProfilingToAdminUsers",
            ],
        ),
        ("CUPTI_ENABLE", 40, &["40", "CAP_SYS_ADMIN"]),
        ("CUPTI_ENABLE", 33, &["33", "virtual GPU"]),
        ("CUPTI_ENABLE", 41, &["41", "confidential computing"]),
        ("CUPTI_ENABLE", 43, &["43", "MIG"]),
        ("CUPTI_CALLBACK", 15, &["cuptiEnableCallback", "(15)"]),
        (
            "CUPTI_CALLBACK",
            35,
            &["cuptiEnableCallback", "CAP_SYS_ADMIN"],
        ),
    ];
    for (knob, answer, words) in refusals {
        expect(
            Machine::new().knob(knob, answer),
            "without cupti",
            WORK,
            words,
        );
    }
}

#[test]
fn with_a_cupti_that_lacks_a_symbol() {
    for symbol in [
        "cuptiSubscribe",
        "cuptiActivityFlushAll",
        "cuptiGetTimestamp",
    ] {
        let machine = Machine::new().without_symbol(Library::Cupti, symbol);
        let words = [&*format!("it lacks {symbol}"), "CUDA toolkit"];
        expect(machine, "without cupti", WORK, &words);
    }
}

#[test]
fn what_is_useful_only_may_be_missing() {
    for symbol in [
        "cuptiGetResultString",
        "cuptiActivityRegisterTimestampCallback",
        "cuDeviceGetUuid_v2",
        "cuDeviceGetUuid",
    ] {
        assert_eq!(
            Machine::new().without_symbol_anywhere(symbol).run("whole"),
            ["1"],
            "{symbol}"
        );
    }
    // Nor does it matter where the version cannot be had.
    let unknown = Machine::new().knob("CUPTI_VERSION_ERROR", 999);
    assert_eq!(unknown.run("whole"), ["1"]);
}

#[test]
fn functions_that_only_ranges_need_are_missed_by_ranges_alone() {
    for symbol in [
        "cuDevicePrimaryCtxGetState",
        "cuThreadExchangeStreamCaptureMode",
        "cuEventElapsedTime",
    ] {
        let machine = Machine::new().without_symbol_anywhere(symbol);
        let words = ["functions for events", "install"];
        expect(machine, "no ranges", "explicit ranges on GPUs", &words);
    }
}

fn no_ranges() {
    let recorded = record(|driver| {
        let kernel = driver.kernel("step", 1_000);
        tracing::info_span!("work").in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        driver.synchronize().unwrap();
    });
    assert_eq!(recorded.site("work").own.kernels, 1);
    tell(recorded.gpu().notices.clone());
}

fn whole() {
    let recorded = record(|driver| {
        let kernel = driver.kernel("step", 1_000);
        tracing::info_span!("work").in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        driver.synchronize().unwrap();
    });
    recorded.assert_whole();
    say(&recorded.site("work").own.kernels.to_string());
}

#[test]
fn cupti_is_left_to_others_where_the_program_says_so() {
    let said = Machine::new().run("left to others");
    assert_eq!(
        said,
        [format!("{WORK}|the program left CUPTI to another profiler")]
    );
}

fn left_to_others() {
    let cuda = Cuda::auto().without_cupti();
    let with = CortexLayer::builder().no_resources().cuda(cuda);
    let recorded = record_with(with, |driver, _| {
        driver
            .launch(driver.kernel("step", 1_000), Stream::DEFAULT)
            .unwrap();
    });
    assert_eq!(Driver::open().count("cuptiSubscribe"), 0);
    assert_eq!(recorded.gpu().devices.len(), 1);
    tell(recorded.gpu().notices.clone());
}

#[test]
fn a_cupti_that_hands_nothing_over_is_said_once() {
    let said = Machine::new().run("flush fails");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("later work on GPUs|cuptiActivityFlushAll answered"));
}

fn flush_fails() {
    let recorded = record_with(builder(), |driver, guard| {
        let launch = || {
            driver
                .launch(driver.kernel("step", 1_000), Stream::DEFAULT)
                .unwrap();
            driver.synchronize().unwrap();
            guard.flush(Duration::from_secs(20)).unwrap();
        };
        launch();
        driver.set("CUPTI_FLUSH", 999);
        (0..5).for_each(|_| launch());
    });
    assert_eq!(recorded.gpu().outside.kernels, 1);
    assert_eq!(recorded.gpu().outside.launches, 6);
    tell(recorded.gpu().notices.clone());
}
