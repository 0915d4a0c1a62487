//! What the diagnosis says of programs that use their devices badly, and of the same programs without that. Their names
//! give nothing away.
//!
//! The programs are real, the devices simulated, and time passes as the test says, so that each run is the same.

use std::sync::OnceLock;
use std::time::Duration;

use tracing_cortex::gpu::Cuda;
use tracing_cortex::{
    CortexGuard, CortexLayer, ManualClock, Profile, Severity, Thresholds, diagnose,
};
use tracing_subscriber::prelude::*;

use crate::capture::{builder, record_with};
use crate::gpu::{Driver, Kernel, Machine, Pinned, Stream, say};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("loader", || expect(loader, &[("CTX502", "maple")])),
    ("loader ahead", || expect(loader_ahead, &[])),
    ("nested loader", || {
        expect(nested_loader, &[("CTX502", "maple")])
    }),
    ("pageable", || expect(pageable, &[("CTX503", "heron")])),
    ("pinned", || expect(pinned, &[])),
    ("waits", || expect(waits, &[("CTX504", "heron")])),
    ("waits below", || {
        expect(waits_below, &[("CTX504", "quartz")])
    }),
    ("waits at the end", || expect(waits_at_the_end, &[])),
    ("tiny", || expect(tiny, &[("CTX505", "heron")])),
    ("fused", || expect(fused, &[])),
    ("there and back", || {
        expect(there_and_back, &[("CTX506", "heron")])
    }),
    ("there and back, pageable", || {
        expect(
            there_and_back_pageable,
            &[("CTX506", "heron"), ("CTX503", "heron")],
        )
    }),
    ("stays there", || expect(stays_there, &[])),
    ("beside kernels", || expect(beside_kernels, &[])),
    ("idle", || expect(idle, &[("CTX501", "GPU 0")])),
    ("in use", || expect(in_use, &[])),
    ("unbalanced", || expect(unbalanced, &[("CTX510", "GPU 1")])),
    ("balanced", || expect(balanced, &[])),
    ("too small", || expect(too_small, &[("CTX508", "heron")])),
    ("large enough", || expect(large_enough, &[])),
    ("four fifths", || expect(four_fifths, &[])),
    ("one wait", || expect(one_wait, &[])),
    ("requests", || expect(requests, &[])),
    ("quick requests", || expect(quick_requests, &[])),
    ("loading roots", || {
        expect(loading_roots, &[("CTX502", "maple")])
    }),
    ("full memory", || memory(&[("CTX507", "GPU 0")])),
    ("free memory", || memory(&[])),
];

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const STEPS: u64 = 100;

static CLOCK: OnceLock<ManualClock> = OnceLock::new();

/// The host computes.
fn pass(ns: u64) {
    CLOCK.get().unwrap().advance(Duration::from_nanos(ns));
}

/// A call waits by moving the clock.
unsafe extern "C" fn pass_until(host: u64) {
    let left = host.saturating_sub(Driver::open().now());
    pass(left);
}

/// Where the device is told what to do: what a launch costs passes too.
struct Device<'a> {
    driver: Driver,
    stream: Stream,
    kernel: Kernel,
    guard: &'a CortexGuard,
}

impl Device<'_> {
    fn launch(&self) {
        self.launch_on(self.stream, self.kernel);
    }

    fn launch_on(&self, stream: Stream, kernel: Kernel) {
        pass(4 * US);
        self.driver.launch(kernel, stream).unwrap();
    }

    /// Hands what was recorded so far over, before there is too much of it.
    fn flush(&self) {
        self.guard.flush(Duration::from_secs(20)).unwrap();
    }

    fn wait(&self) {
        self.driver.synchronize_stream(self.stream).unwrap();
    }

    /// A kernel of this length.
    fn kernel(&self, ns: u64) -> Kernel {
        self.driver.kernel(&format!("k{ns}"), ns)
    }

    fn taking(mut self, ns: u64) -> Self {
        self.kernel = self.kernel(ns);
        self
    }

    fn pinned(&self, bytes: usize) -> Pinned {
        self.driver.pinned(bytes).unwrap()
    }

    fn memory(&self, bytes: usize) -> u64 {
        self.driver.alloc(bytes).unwrap()
    }

    /// Runs steps, each in a span that has nothing around it.
    fn steps(&self, mut step: impl FnMut()) {
        for _ in 0..STEPS {
            tracing::info_span!("heron").in_scope(&mut step);
            self.flush();
        }
    }
}

/// What the diagnosis finds from medium on, without what only says where the time is.
fn problems(profile: &Profile) -> Vec<(String, String)> {
    const POINTERS: [&str; 6] = ["CTX001", "CTX002", "CTX003", "CTX206", "CTX401", "CTX420"];
    let diagnosis = diagnose(profile, &Thresholds::default());
    let findings = diagnosis.findings.iter();
    findings
        .filter(|finding| finding.severity >= Severity::Medium)
        .filter(|finding| !POINTERS.contains(&finding.rule))
        .map(|finding| (finding.rule.to_owned(), finding.site.clone()))
        .collect()
}

fn check(profile: &Profile, expected: &[(&str, &str)]) {
    let found = problems(profile);
    let found: Vec<_> = found
        .iter()
        .map(|(rule, site)| (rule.as_str(), site.as_str()))
        .collect();
    let told = diagnose(profile, &Thresholds::default()).findings;
    assert_eq!(found, expected, "{told:#?}\n{:#?}", profile.gpu);
    for finding in told {
        let bound = finding.gain.bound.unwrap_or(f64::INFINITY);
        let promises = [finding.gain.low, finding.gain.likely];
        assert!(promises.into_iter().flatten().all(|gain| gain <= bound));
    }
}

fn expect(program: fn(Device<'_>), expected: &[(&str, &str)]) {
    let clock = CLOCK.get_or_init(ManualClock::new);
    Driver::open().on_wait(pass_until);
    let recorded = record_with(builder().manual_clock(clock), |driver, guard| {
        let device = Device {
            driver,
            stream: driver.stream().unwrap(),
            kernel: driver.kernel("k", MS),
            guard,
        };
        program(device);
    });
    recorded.assert_whole();
    check(&recorded.profile, expected);
    let first = diagnose(&recorded.profile, &Thresholds::default()).findings;
    let gain = first
        .first()
        .map(|finding| finding.gain)
        .unwrap_or_default();
    let numbers = [gain.likely, gain.bound].map(|gain| gain.unwrap_or(f64::NAN));
    say(&format!(
        "{} {} {}",
        recorded.profile.wall.0, numbers[0], numbers[1]
    ));
}

/// Runs a program and the same program without its flaw, both on such a machine: what was promised for the change is had
/// by it, and no more than can be.
fn twins(machine: &Machine, flawed: &str, fixed: &str) {
    let run = |scenario: &str| {
        let said = machine.run(scenario).remove(0);
        let numbers = said.split(' ').map(|number| number.parse().unwrap());
        numbers.collect::<Vec<f64>>()
    };
    let (before, after) = (run(flawed), run(fixed));
    let actual = before[0] / after[0];
    let (likely, bound) = (before[1], before[2]);
    assert!(actual <= bound * 1.001, "{actual} of at most {bound}");
    assert!(
        (actual * 0.8..=actual * 1.05).contains(&likely),
        "{actual} instead of {likely}"
    );
}

#[test]
fn a_device_that_waits_for_its_loader_is_told_from_one_that_does_not() {
    twins(&Machine::new(), "loader", "loader ahead");
    Machine::new().run("nested loader");
    Machine::new().run("loading roots");
}

fn load(ns: u64) {
    tracing::info_span!("maple", cortex.kind = "load").in_scope(|| pass(ns));
}

fn loader(device: Device<'_>) {
    device.steps(|| {
        load(6 * MS);
        (0..10).for_each(|_| device.launch());
        device.wait();
    });
}

fn loader_ahead(device: Device<'_>) {
    device.steps(|| {
        (0..10).for_each(|_| device.launch());
        load(6 * MS);
        device.wait();
    });
}

/// Loads and steps in turn, with nothing around them.
fn loading_roots(device: Device<'_>) {
    for _ in 0..STEPS {
        load(6 * MS);
        tracing::info_span!("heron").in_scope(|| {
            (0..10).for_each(|_| device.launch());
            device.wait();
        });
        device.flush();
    }
}

/// One root around everything.
fn nested_loader(device: Device<'_>) {
    tracing::info_span!("quartz").in_scope(|| loader(device));
}

#[test]
fn copies_through_pageable_memory_are_told_from_pinned_ones() {
    twins(&Machine::new(), "pageable", "pinned");
}

const COPY: usize = 24 << 20;

fn pageable(device: Device<'_>) {
    let device = device.taking(6 * MS);
    let (memory, host) = (device.memory(COPY), vec![0; COPY]);
    device.steps(|| {
        for _ in 0..2 {
            device
                .driver
                .copy_to_device_async(memory, &host, device.stream)
                .unwrap();
        }
        device.launch();
        device.wait();
    });
}

fn pinned(device: Device<'_>) {
    let device = device.taking(6 * MS);
    let (memory, host) = (device.memory(COPY), device.pinned(COPY));
    device.steps(|| {
        for _ in 0..2 {
            device
                .driver
                .copy_to_device_async(memory, &host, device.stream)
                .unwrap();
        }
        device.launch();
        device.wait();
    });
}

#[test]
fn a_wait_after_every_launch_is_told_from_one_at_the_end_of_a_step() {
    twins(&Machine::new(), "waits", "waits at the end");
    Machine::new().run("waits below");
}

fn waits(device: Device<'_>) {
    let device = device.taking(200 * US);
    device.steps(|| {
        for _ in 0..50 {
            pass(100 * US);
            device.launch();
            device.wait();
        }
    });
}

/// The waits are in a span of their own, and so are the launches.
fn waits_below(device: Device<'_>) {
    let device = device.taking(500 * US);
    device.steps(|| {
        for _ in 0..20 {
            tracing::info_span!("basalt").in_scope(|| {
                pass(400 * US);
                device.launch();
            });
            tracing::info_span!("quartz").in_scope(|| device.wait());
        }
    });
}

fn waits_at_the_end(device: Device<'_>) {
    let device = device.taking(200 * US);
    device.steps(|| {
        for _ in 0..50 {
            pass(100 * US);
            device.launch();
        }
        device.wait();
    });
}

#[test]
fn kernels_shorter_than_their_launches_are_told_from_fused_ones() {
    for scenario in ["tiny", "fused"] {
        Machine::new().run(scenario);
    }
}

fn tiny(device: Device<'_>) {
    let device = device.taking(5 * US);
    device.steps(|| {
        for _ in 0..400 {
            pass(16 * US);
            device.launch();
        }
        device.wait();
    });
}

fn fused(device: Device<'_>) {
    let device = device.taking(100 * US);
    device.steps(|| {
        for _ in 0..20 {
            pass(16 * US);
            device.launch();
        }
        device.wait();
    });
}

#[test]
fn data_that_goes_there_and_back_is_told_from_data_that_stays() {
    let machine = Machine::new().knob("COPY_NS", 4_000_000);
    twins(&machine, "there and back", "stays there");
    twins(&machine, "there and back, pageable", "stays there");
    machine.run("beside kernels");
}

fn there_and_back(device: Device<'_>) {
    let device = device.taking(5 * MS);
    let (memory, mut host) = (device.memory(1 << 20), device.pinned(1 << 20));
    let (driver, stream) = (device.driver, device.stream);
    device.steps(|| {
        driver.copy_to_device_async(memory, &host, stream).unwrap();
        device.launch();
        driver
            .copy_to_host_async(&mut host, memory, stream)
            .unwrap();
        device.wait();
    });
}

fn there_and_back_pageable(device: Device<'_>) {
    let device = device.taking(5 * MS);
    let (memory, mut host) = (device.memory(1 << 20), vec![0; 1 << 20]);
    let (driver, stream) = (device.driver, device.stream);
    device.steps(|| {
        driver.copy_to_device_async(memory, &host, stream).unwrap();
        device.launch();
        driver
            .copy_to_host_async(&mut host, memory, stream)
            .unwrap();
    });
}

fn stays_there(device: Device<'_>) {
    let device = device.taking(5 * MS);
    let (memory, mut host) = (device.memory(1 << 20), device.pinned(1 << 20));
    let (driver, stream) = (device.driver, device.stream);
    driver.copy_to_device_async(memory, &host, stream).unwrap();
    device.steps(|| {
        device.launch();
        device.wait();
    });
    driver
        .copy_to_host_async(&mut host, memory, stream)
        .unwrap();
    device.wait();
}

/// The next input comes on a stream of its own.
fn beside_kernels(device: Device<'_>) {
    let device = device.taking(5 * MS);
    let (memory, host) = (device.memory(1 << 20), device.pinned(1 << 20));
    let second = device.driver.stream().unwrap();
    device.steps(|| {
        device.launch();
        device
            .driver
            .copy_to_device_async(memory, &host, second)
            .unwrap();
        device.wait();
        device.driver.synchronize_stream(second).unwrap();
    });
}

#[test]
fn a_device_that_is_used_for_a_third_is_told_from_one_in_use() {
    for scenario in ["idle", "in use"] {
        Machine::new().run(scenario);
    }
}

fn idle(device: Device<'_>) {
    let device = device.taking(6 * MS);
    device.steps(|| {
        tracing::info_span!("basalt").in_scope(|| pass(12 * MS));
        device.launch();
        device.wait();
    });
}

fn in_use(device: Device<'_>) {
    let device = device.taking(12 * MS);
    device.steps(|| {
        device.launch();
        tracing::info_span!("basalt").in_scope(|| pass(12 * MS));
        device.wait();
    });
}

#[test]
fn two_devices_that_share_their_work_badly_are_told_from_two_that_do_not() {
    twins(
        &Machine::new().knob("GPU_COUNT", 2),
        "unbalanced",
        "balanced",
    );
}

fn on_two(device: Device<'_>, lengths: [u64; 2]) {
    let driver = device.driver;
    let kernels = lengths.map(|ns| device.kernel(ns));
    let places = [0, 1].map(|at| {
        let context = driver.context(at).unwrap();
        (context, driver.stream().unwrap())
    });
    device.steps(|| {
        for ((context, stream), kernel) in places.into_iter().zip(kernels) {
            driver.set_current(context).unwrap();
            device.launch_on(stream, kernel);
        }
        for (context, stream) in places {
            driver.set_current(context).unwrap();
            driver.synchronize_stream(stream).unwrap();
        }
    });
}

fn unbalanced(device: Device<'_>) {
    on_two(device, [3 * MS, 10 * MS]);
}

fn balanced(device: Device<'_>) {
    on_two(device, [6_400 * US, 6_600 * US]);
}

#[test]
fn trips_that_are_too_small_are_told_from_those_that_are_not() {
    for scenario in ["too small", "large enough"] {
        Machine::new()
            .knob("COPY_NS", 20_000)
            .knob("GPU_LATENCY_NS", 15_000)
            .run(scenario);
    }
}

fn trips(device: Device<'_>) {
    let memory = device.memory(1 << 12);
    let mut host = vec![0; 1 << 12];
    let (driver, stream) = (device.driver, device.stream);
    for at in 0..5_000 {
        tracing::info_span!("heron", n = 1_024).in_scope(|| {
            driver.copy_to_device_async(memory, &host, stream).unwrap();
            device.launch();
            driver
                .copy_to_host_async(&mut host, memory, stream)
                .unwrap();
        });
        if at % 20 == 0 {
            device.flush();
        }
    }
}

fn too_small(device: Device<'_>) {
    trips(device.taking(5 * US));
}

fn large_enough(device: Device<'_>) {
    trips(device.taking(500 * US));
}

#[test]
fn programs_that_use_their_device_well_are_told_nothing() {
    for scenario in ["four fifths", "one wait", "requests", "quick requests"] {
        Machine::new().run(scenario);
    }
}

fn four_fifths(device: Device<'_>) {
    let device = device.taking(8 * MS);
    tracing::info_span!("quartz").in_scope(|| {
        device.steps(|| {
            pass(2 * MS);
            device.launch();
            device.wait();
        });
    });
}

fn one_wait(device: Device<'_>) {
    tracing::info_span!("quartz").in_scope(|| {
        device.steps(|| (0..10).for_each(|_| device.launch()));
        tracing::info_span!("basalt").in_scope(|| device.wait());
    });
}

/// What comes from elsewhere lets the device rest, and nobody is to blame.
fn requests(device: Device<'_>) {
    let device = device.taking(2 * MS);
    device.steps(|| {
        (0..2).for_each(|_| device.launch());
        device.wait();
        pass(500 * US);
        (0..2).for_each(|_| device.launch());
        device.wait();
    });
    for _ in 0..STEPS {
        pass(20 * MS);
        tracing::info_span!("quartz").in_scope(|| {
            device.launch();
            device.wait();
        });
    }
}

/// Each is an operation of its own, and waits for its result.
fn quick_requests(device: Device<'_>) {
    let device = device.taking(300 * US);
    for _ in 0..5 {
        for _ in 0..200 {
            tracing::info_span!("heron").in_scope(|| {
                device.launch();
                device.wait();
            });
            pass(150 * US);
        }
        device.flush();
    }
}

#[test]
fn a_device_whose_memory_is_nearly_full_is_told_from_one_with_room() {
    for (scenario, part) in [("full memory", 94), ("free memory", 60)] {
        Machine::new()
            .knob("MEMORY_BYTES", 100 << 30)
            .knob("NVML_USED_BYTES", part << 30)
            .run(scenario);
    }
}

fn memory(expected: &[(&str, &str)]) {
    let (layer, guard) = CortexLayer::builder()
        .cuda(Cuda::auto())
        .resources(Duration::from_millis(10))
        .build()
        .unwrap();
    let driver = Driver::ready();
    let read = || {
        let series = guard.profile().resources;
        let used = series.iter().find(|it| it.name == "gpu.0.memory_used");
        used.map_or(0, |used| used.samples)
    };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        while read() < 10 {
            tracing::info_span!("heron").in_scope(|| {
                driver
                    .launch(driver.kernel("k", MS), Stream::DEFAULT)
                    .unwrap();
                driver.synchronize().unwrap();
                std::thread::sleep(Duration::from_millis(10));
            });
        }
    });
    let summary = guard.finish().unwrap();
    let found = problems(summary.profile());
    let memory: Vec<_> = found.iter().filter(|(rule, _)| rule == "CTX507").collect();
    let memory: Vec<_> = memory
        .iter()
        .map(|(rule, site)| (rule.as_str(), site.as_str()))
        .collect();
    assert_eq!(memory, expected, "{found:?}");
}
