//! What devices did for an operation arrives as children of it; on simulated GPUs.
#![cfg(all(target_os = "linux", feature = "cuda", feature = "otlp"))]
#![allow(
    dead_code,
    unreachable_pub,
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on; the rigs have more than one file uses"
)]

#[path = "support/gpu/mod.rs"]
mod gpu;
#[path = "support/otlp/mod.rs"]
mod otlp;
#[path = "support/otlp_rig.rs"]
mod rig;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use gpu::{Driver, Machine, Stream, scenario};
use otlp::Receiver;
use rig::{Ended, builder, otlp, within};
use tracing_cortex::gpu::Cuda;
use tracing_cortex::otlp::{Otlp, Protocol};
use tracing_cortex::{Diagnosis, GpuBatch, GpuWork, Profile, Sink, SinkError, Wants};

/// The child; as a test of the parent it does nothing.
#[test]
fn child() {
    match scenario().as_deref() {
        None => (),
        Some("children") => children(),
        Some("limit") => limit(),
        Some("left out") => left_out(),
        Some("kept late") => kept_late(),
        Some(other) => panic!("there is no scenario called {other}"),
    }
}

#[test]
fn kernels_and_copies_are_children_of_the_operation_with_the_devices_times() {
    Machine::new().run("children");
}

#[test]
fn an_operation_has_at_most_so_many_children_and_the_others_are_counted() {
    Machine::new().run("limit");
}

#[test]
fn children_of_a_trace_that_is_left_out_are_left_out() {
    Machine::new().run("left out");
}

#[test]
fn children_follow_a_trace_that_is_kept_in_the_end() {
    Machine::new().run("kept late");
}

/// Keeps the work as every sink is told of it.
#[derive(Clone, Default)]
struct Works(Arc<Mutex<Vec<GpuWork>>>);

impl Sink for Works {
    fn name(&self) -> &str {
        "works"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.gpu = true;
        wants
    }

    fn gpu(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        self.0.lock().unwrap().extend_from_slice(batch.work);
        Ok(())
    }

    fn finish(
        &mut self,
        _: &Profile,
        _: &Diagnosis,
        _: std::time::Duration,
    ) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Runs a program on the device with an exporter.
fn run(
    receiver: &Receiver,
    settings: impl FnOnce(Otlp) -> Otlp,
    program: fn(Driver, Stream),
) -> (Ended, Vec<GpuWork>) {
    let works = Works::default();
    let (layer, guard) = builder()
        .cuda(Cuda::auto())
        .otlp(settings(otlp(receiver, Protocol::HttpProtobuf)))
        .sink(works.clone())
        .build()
        .unwrap();
    let driver = Driver::ready();
    let stream = driver.stream().unwrap();
    within(layer, || program(driver, stream));
    let ended = Ended::finish(guard);
    let works = works.0.lock().unwrap().clone();
    (ended, works)
}

fn children() {
    let receiver = Receiver::start();
    let (ended, works) = run(
        &receiver,
        |otlp| otlp,
        |driver, stream| {
            let kernel = driver.kernel("_Z5saxpyifPfS_", 300_000);
            let memory = driver.alloc(4096).unwrap();
            tracing::info_span!("forward").in_scope(|| {
                tracing::info_span!("load").in_scope(|| {
                    driver
                        .copy_to_device_async(memory, &[0; 4096], stream)
                        .unwrap();
                });
                driver.launch(kernel, stream).unwrap();
                driver.synchronize_stream(stream).unwrap();
            });
        },
    );
    ended.assert_account(4, 0, 0, 0);
    let (forward, load) = (
        receiver.span_by_name("forward"),
        receiver.span_by_name("load"),
    );
    let kernel = receiver.span_by_name("saxpy(int, float, float*, float*)");
    let copy = receiver.span_by_name("Memcpy HtoD");
    for (child, parent) in [(&kernel, &forward), (&copy, &load)] {
        assert_eq!(child.parent_id(), parent.span_id());
        assert_eq!(child.trace_id(), parent.trace_id());
    }
    let ids = [&forward, &load, &kernel, &copy].map(|span| span.span_id());
    assert_eq!(HashSet::from(ids).len(), 4);
    assert_eq!(
        kernel.span.end_time_unix_nano - kernel.span.start_time_unix_nano,
        300_000
    );
    let started = ended.profile().started;
    for (child, work) in [(&copy, &works[0]), (&kernel, &works[1])] {
        assert_eq!(
            child.span.start_time_unix_nano,
            started.unix_ns_at(work.start)
        );
        assert_eq!(child.span.end_time_unix_nano, started.unix_ns_at(work.end));
        assert_eq!(child.text("cortex.gpu.source"), Some("cupti"));
        assert_eq!(child.int("gpu.device"), Some(0));
        assert_eq!(child.int("gpu.stream"), Some(i64::from(work.queue.stream)));
        let delay = work.launch_delay().map(|delay| delay.0 as i64);
        assert_eq!(child.int("gpu.launch_delay_ns"), delay);
    }
    assert_eq!(kernel.text("code.function.name"), Some("cuLaunchKernel"));
    assert_eq!(kernel.int("gpu.kernel.blocks"), Some(1));
    assert_eq!(copy.int("gpu.bytes"), Some(4096));
    let pageable = copy.attribute("gpu.copy.pageable").cloned();
    assert_eq!(
        pageable,
        Some(opentelemetry_proto::tonic::common::v1::any_value::Value::BoolValue(true))
    );
}

fn ten_kernels(driver: Driver, stream: Stream) {
    let kernel = driver.kernel("saxpy", 1_000);
    for _ in 0..2 {
        tracing::info_span!("forward").in_scope(|| {
            for _ in 0..10 {
                driver.launch(kernel, stream).unwrap();
            }
            driver.synchronize_stream(stream).unwrap();
        });
    }
    driver.launch(kernel, stream).unwrap();
    driver.synchronize_stream(stream).unwrap();
}

fn limit() {
    let receiver = Receiver::start();
    let (ended, works) = run(&receiver, |otlp| otlp.max_gpu_spans(4), ten_kernels);
    assert_eq!(works.len(), 21);
    ended.assert_account(2 + 2 * 4, 0, 0, 0);
    assert_eq!(receiver.spans_by_name("saxpy").len(), 8);
    // What was launched outside of all spans has no trace to be in.
    assert_eq!(ended.account().gpu_beyond_limit, 12);
}

fn left_out() {
    let receiver = Receiver::start();
    let (ended, _) = run(&receiver, |otlp| otlp.sample_ratio(0.0), ten_kernels);
    ended.assert_account(0, 0, 0, 0);
    assert_eq!(ended.account().sampled_out, 22);
    assert_eq!(receiver.span_count(), 0);
}

fn kept_late() {
    let receiver = Receiver::start();
    let settings = |otlp: Otlp| otlp.sample_ratio(0.0).keep_errors();
    let (ended, _) = run(&receiver, settings, |driver, stream| {
        let kernel = driver.kernel("saxpy", 1_000);
        for fails in [false, true] {
            tracing::info_span!("request").in_scope(|| {
                tracing::info_span!("forward").in_scope(|| driver.launch(kernel, stream).unwrap());
                driver.synchronize_stream(stream).unwrap();
                if fails {
                    tracing::error!("it failed");
                }
            });
        }
    });
    ended.assert_account(3, 0, 0, 0);
    assert_eq!(ended.account().sampled_out, 3);
    let forward = receiver.span_by_name("forward");
    assert_eq!(
        receiver.span_by_name("saxpy").parent_id(),
        forward.span_id()
    );
}
