//! Whose work it is.

use std::sync::{Arc, Barrier};

use tracing::level_filters::LevelFilter;
use tracing_cortex::GpuApi;
use tracing_subscriber::Layer;
use tracing_subscriber::prelude::*;

use crate::capture::{Recorded, builder, end_of, on_thread, record, span_of};
use crate::gpu::{Driver, Machine, Stream};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("one kernel", one_kernel),
    ("nested", nested),
    ("paths", paths),
    ("outlives", outlives),
    ("fast", fast),
    ("graph", graph),
    ("runtime", runtime),
    ("filtered", filtered),
    ("driver thread", driver_thread),
    ("across threads", across_threads),
    ("failing", failing),
];

#[test]
fn a_kernel_belongs_to_the_span_that_launched_it() {
    Machine::new().run("one kernel");
}

fn one_kernel() {
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        let kernel = driver.kernel("saxpy", 300_000);
        tracing::info_span!("forward").in_scope(|| {
            driver.launch(kernel, stream).unwrap();
            tracing::info_span!("wait").in_scope(|| driver.synchronize_stream(stream).unwrap());
        });
    });
    recorded.assert_whole();
    let forward = recorded.site("forward");
    assert_eq!((forward.own.kernels, forward.own.launches), (1, 1));
    assert_eq!(forward.own.kernel_time.0, 300_000);
    assert_eq!(forward.total.syncs, 1);
    let wait = recorded.site("wait");
    assert_eq!((wait.own.kernels, wait.own.syncs), (0, 1));
    // What the program saw of the wait is host time, and no device time.
    assert!(wait.own.sync_time.0 > 0 && wait.own.busy.0 == 0);
}

#[test]
fn nested_spans_of_two_threads_on_three_streams_have_their_own_kernels_each() {
    Machine::new().run("nested");
}

const ROUNDS: usize = 20;

fn nested() {
    let recorded = record(|driver| {
        driver
            .launch(driver.kernel("warm-up", 1_000), Stream::DEFAULT)
            .unwrap();
        let streams = [(); 3].map(|()| driver.stream().unwrap());
        let start = Arc::new(Barrier::new(2));
        let threads = ["a", "b"].map(|name| {
            let start = Arc::clone(&start);
            on_thread(name, move || {
                driver.context(0).unwrap();
                start.wait();
                for _ in 0..ROUNDS {
                    on_streams(driver, name, streams);
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
    recorded.assert_whole();
    assert_eq!(recorded.work.len(), 1 + 2 * ROUNDS * 6);
    for (kernel, span) in recorded.kernels() {
        let expected = if kernel == "warm-up" { "-" } else { kernel };
        assert_eq!(span, expected);
    }
    for site in ["outer-a", "outer-b"] {
        let stats = recorded.site(site);
        assert_eq!(stats.own.kernels, 3 * ROUNDS as u64);
        assert_eq!(stats.total.kernels, 6 * ROUNDS as u64);
    }
    let gpu = recorded.gpu();
    assert_eq!((gpu.outside.kernels, gpu.outside.launches), (1, 1));
    assert_eq!(gpu.devices[0].totals.kernels, recorded.work.len() as u64);
    assert_eq!(gpu.devices[0].streams.len(), 4);
    // Which thread called is known as well.
    let names = recorded.calls.iter().map(|call| call.thread.name.clone());
    for name in ["a", "b"] {
        let of_thread = names.clone().filter(|of| of.as_deref() == Some(name));
        assert_eq!(of_thread.count(), 6 * ROUNDS);
    }
}

/// Launches a kernel of the span's name from each span on each stream.
fn on_streams(driver: Driver, name: &str, streams: [Stream; 3]) {
    let launch = |kernel: &str| {
        let kernel = driver.kernel(kernel, 3_000);
        for stream in streams {
            driver.launch(kernel, stream).unwrap();
        }
    };
    let (outer, inner) = match name {
        "a" => (
            tracing::info_span!("outer-a"),
            tracing::info_span!("inner-a"),
        ),
        _ => (
            tracing::info_span!("outer-b"),
            tracing::info_span!("inner-b"),
        ),
    };
    outer.in_scope(|| {
        launch(&format!("outer-{name}"));
        inner.in_scope(|| launch(&format!("inner-{name}")));
    });
}

#[test]
fn the_same_span_on_two_call_paths_has_its_work_on_each() {
    Machine::new().run("paths");
}

fn paths() {
    let recorded = record(|driver| {
        let kernel = driver.kernel("step", 10_000);
        let matmul = |times| {
            tracing::info_span!("matmul").in_scope(|| {
                (0..times).for_each(|_| driver.launch(kernel, Stream::DEFAULT).unwrap());
            });
        };
        tracing::info_span!("forward").in_scope(|| matmul(2));
        tracing::info_span!("backward").in_scope(|| matmul(5));
    });
    recorded.assert_whole();
    let paths = &recorded.profile.paths;
    let of = |parent: &str| {
        let found = paths.iter().find(|path| {
            let parent_at = path.parent;
            parent_at.is_some_and(|at| paths[at].site.name == parent)
        });
        found.unwrap().stats.gpu.clone().unwrap().own.kernels
    };
    assert_eq!((of("forward"), of("backward")), (2, 5));
    assert_eq!(recorded.site("matmul").own.kernels, 7);
    assert_eq!(recorded.site("matmul").own.kernel_time.0, 70_000);
}

#[test]
fn work_that_ends_after_its_span_closed_is_still_the_spans() {
    Machine::new().run("outlives");
}

fn outlives() {
    let recorded = record(|driver| {
        let kernel = driver.kernel("long", 30_000_000);
        let span = tracing::info_span!("enqueue");
        span.in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        drop(span);
        // A wait in another span does not take it over.
        tracing::info_span!("later").in_scope(|| driver.synchronize().unwrap());
    });
    recorded.assert_whole();
    assert_eq!(recorded.kernels(), [("long", "enqueue")]);
    assert_eq!(recorded.site("later").own.kernels, 0);
    let work = &recorded.work[0];
    assert!(work.end > end_of(work.call.as_ref().unwrap()));
}

#[test]
fn work_that_ends_before_its_call_returns_is_still_the_spans() {
    Machine::new().knob("GPU_LATENCY_NS", 0).run("fast");
}

fn fast() {
    let recorded = record(|driver| {
        let memory = driver.alloc(1 << 20).unwrap();
        let host = vec![0; 1 << 20];
        tracing::info_span!("load").in_scope(|| driver.copy_to_device(memory, &host).unwrap());
    });
    recorded.assert_whole();
    let copy = &recorded.work[0];
    assert_eq!(span_of(copy), "load");
    let call = copy.call.as_ref().unwrap();
    assert!(call.start <= copy.start && copy.end <= end_of(call));
    assert_eq!(copy.launch_delay().unwrap().0, 0);
}

#[test]
fn the_kernels_of_a_graph_belong_to_the_span_that_launched_it() {
    Machine::new().run("graph");
}

fn graph() {
    let recorded = record(|driver| {
        let kernels = ["one", "two", "three"].map(|name| driver.kernel(name, 5_000));
        // Whoever makes the graph has nothing to do with its work.
        let graph = tracing::info_span!("capture").in_scope(|| driver.graph(&kernels));
        let stream = driver.stream().unwrap();
        for _ in 0..2 {
            tracing::info_span!("replay").in_scope(|| driver.launch_graph(graph, stream).unwrap());
        }
    });
    recorded.assert_whole();
    let replay = recorded.site("replay");
    assert_eq!((replay.own.launches, replay.own.kernels), (2, 6));
    assert_eq!(recorded.site("capture").own.kernels, 0);
    assert!(recorded.work.iter().all(|work| work.graph.is_some()));
    let apis: Vec<_> = recorded.calls.iter().map(|call| call.api).collect();
    assert_eq!(apis, [GpuApi::GraphLaunch; 2]);
}

#[test]
fn work_of_the_runtime_is_attributed_or_counted_as_unattributed() {
    for own_number in [true, false] {
        Machine::new()
            .knob("RUNTIME_CORRELATION", i64::from(!own_number))
            .variable("OWN_NUMBER", &own_number.to_string())
            .run("runtime");
    }
}

fn runtime() {
    let recorded = record(|driver| {
        let gemm = driver.kernel("gemm", 5_000);
        for _ in 0..3 {
            tracing::info_span!("matmul")
                .in_scope(|| driver.launch_by_runtime(gemm, Stream::DEFAULT).unwrap());
        }
    });
    let matmul = recorded.site("matmul");
    let gpu = recorded.gpu();
    let own_number = std::env::var("OWN_NUMBER").unwrap() == "true";
    assert_eq!(matmul.own.launches, 3);
    assert_eq!(gpu.devices[0].totals.kernels, 3);
    if own_number {
        assert_eq!((matmul.own.kernels, gpu.unattributed), (3, 0));
    } else {
        assert_eq!((matmul.own.kernels, gpu.unattributed), (0, 3));
        // It may be anybody's, so it is nobody's.
        assert_eq!(gpu.outside.kernels, 0);
    }
}

#[test]
fn work_of_a_span_that_the_layer_does_not_see_is_that_of_the_span_around_it() {
    Machine::new().run("filtered");
}

fn filtered() {
    let (layer, guard) = builder().build().unwrap();
    let driver = Driver::ready();
    let kernel = driver.kernel("step", 5_000);
    let launch = || driver.launch(kernel, Stream::DEFAULT).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("seen").in_scope(|| {
            tracing::debug_span!("hidden").in_scope(launch);
        });
        tracing::debug_span!("hidden").in_scope(launch);
    });
    let profile = guard.finish().unwrap().profile().clone();
    let recorded = Recorded {
        profile,
        work: Vec::new(),
        calls: Vec::new(),
    };
    recorded.assert_whole();
    assert_eq!(recorded.site("seen").own.kernels, 1);
    assert_eq!(recorded.gpu().outside.kernels, 1);
    assert_eq!(recorded.profile.sites.len(), 1);
}

#[test]
fn a_thread_that_only_calls_the_driver_is_no_thread_with_spans() {
    Machine::new().run("driver thread");
}

fn driver_thread() {
    let recorded = record(|driver| {
        tracing::info_span!("work").in_scope(|| ());
        let submit = move || {
            driver.context(0).unwrap();
            driver
                .launch(driver.kernel("step", 5_000), Stream::DEFAULT)
                .unwrap();
        };
        on_thread("submit", submit).join().unwrap();
    });
    recorded.assert_whole();
    assert_eq!(recorded.gpu().outside.kernels, 1);
    assert!(recorded.thread("submit").is_none(), "it never had a span");
    let call = recorded.work[0].call.as_ref().unwrap();
    assert_eq!(call.thread.name.as_deref(), Some("submit"));
}

#[test]
fn a_span_that_moves_to_another_thread_takes_its_work_with_it() {
    Machine::new().run("across threads");
}

fn across_threads() {
    let recorded = record(|driver| {
        let span = tracing::info_span!("request");
        let kernel = driver.kernel("step", 5_000);
        span.in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        let elsewhere = move || {
            driver.context(0).unwrap();
            span.in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        };
        on_thread("worker", elsewhere).join().unwrap();
    });
    recorded.assert_whole();
    assert_eq!(recorded.site("request").own.kernels, 2);
    let spans = recorded
        .work
        .iter()
        .map(|work| work.caller.as_ref().unwrap().span);
    let spans: Vec<_> = spans.collect();
    assert_eq!(spans[0], spans[1], "one span");
}

#[test]
fn a_launch_that_fails_is_no_work_and_says_why() {
    Machine::new().run("failing");
}

fn failing() {
    let recorded = record(|driver| {
        let kernel = driver.kernel("step", 5_000);
        tracing::info_span!("bad").in_scope(|| {
            assert_eq!(driver.launch(kernel, Stream(0xbad)), Err(400));
        });
    });
    recorded.assert_whole();
    assert_eq!(recorded.site("bad").own.kernels, 0);
    let errors: Vec<_> = recorded.calls.iter().map(|call| call.error).collect();
    assert_eq!(errors, [Some(400)]);
}
