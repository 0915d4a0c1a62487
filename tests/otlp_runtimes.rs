//! Whatever runtime the program has, and wherever it ends the capture: every span arrives, each exactly once.
#![cfg(feature = "otlp")]
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on; the rig has more than one file uses"
)]

#[path = "support/otlp/mod.rs"]
mod otlp;
#[path = "support/otlp_rig.rs"]
mod rig;

use std::time::Duration;

use otlp::Receiver;
use rig::{Ended, PROTOCOLS, assert_each_once, builder, encoding, otlp, within, work};
use tokio::runtime::{Builder, Runtime};
use tracing::Instrument;
use tracing_cortex::otlp::{Compression, Protocol};
use tracing_cortex::{CortexGuard, CortexLayer};
use tracing_subscriber::prelude::*;

const SPANS: u64 = 5_000;

fn start(receiver: &Receiver, protocol: Protocol) -> (CortexLayer, CortexGuard) {
    builder().otlp(otlp(receiver, protocol)).build().unwrap()
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Asserts that everything is there once the guard is gone, without waiting for it.
#[track_caller]
fn assert_arrived(receiver: &Receiver, protocol: Protocol) {
    assert_each_once(&receiver.spans(), SPANS);
    for request in receiver.requests() {
        assert_eq!(request.encoding, encoding(protocol));
    }
}

#[track_caller]
fn assert_finished(guard: CortexGuard, receiver: &Receiver, protocol: Protocol) {
    let ended = Ended::finish(guard);
    ended.result.as_ref().unwrap();
    ended.assert_account(SPANS, 0, 0, 0);
    assert_arrived(receiver, protocol);
}

/// As `work`, from tasks that are polled in turns.
async fn tasks() {
    let tasks: Vec<_> = (0..SPANS)
        .map(|number| {
            let span = tracing::info_span!("work", number);
            tokio::spawn(tokio::task::yield_now().instrument(span))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn without_a_runtime_every_span_arrives() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let (layer, guard) = start(&receiver, protocol);
        within(layer, || work(SPANS));
        assert_finished(guard, &receiver, protocol);
    }
}

#[test]
fn without_a_runtime_every_span_arrives_before_the_guard_is_dropped() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let (layer, guard) = start(&receiver, protocol);
        within(layer, || work(SPANS));
        drop(guard);
        assert_arrived(&receiver, protocol);
    }
}

#[test]
fn finished_after_the_runtime_every_span_arrives() {
    for runtime in [current_thread, multi_thread] {
        for protocol in PROTOCOLS {
            let receiver = Receiver::start();
            let (layer, guard) = start(&receiver, protocol);
            let subscriber = tracing_subscriber::registry().with(layer);
            let dispatch = tracing::Dispatch::new(subscriber);
            run_on(&runtime(), &dispatch, tasks());
            assert_finished(guard, &receiver, protocol);
        }
    }
}

#[test]
fn finished_inside_of_the_runtime_every_span_arrives() {
    for runtime in [current_thread, multi_thread] {
        for protocol in PROTOCOLS {
            let receiver = Receiver::start();
            // Built inside too: nothing may depend on the runtime of that moment.
            let (layer, guard) = runtime().block_on(async { start(&receiver, protocol) });
            let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
            run_on(&runtime(), &dispatch, async {
                tasks().await;
                assert_finished(guard, &receiver, protocol);
            });
        }
    }
}

#[test]
fn dropped_inside_of_the_runtime_every_span_arrives() {
    for runtime in [current_thread, multi_thread] {
        for protocol in PROTOCOLS {
            let receiver = Receiver::start();
            let (layer, guard) = start(&receiver, protocol);
            let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
            run_on(&runtime(), &dispatch, async {
                let _guard = guard;
                tasks().await;
            });
            assert_arrived(&receiver, protocol);
        }
    }
}

#[test]
fn dropped_on_a_worker_every_span_arrives() {
    let receiver = Receiver::start();
    let (layer, guard) = start(&receiver, Protocol::Grpc);
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    run_on(&multi_thread(), &dispatch, async {
        tasks().await;
        tokio::spawn(async move { drop(guard) }).await.unwrap();
    });
    assert_arrived(&receiver, Protocol::Grpc);
}

#[test]
fn a_flush_sends_what_is_finished_and_the_capture_goes_on() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        // Without the flush, the spans would wait for an hour.
        let otlp = otlp(&receiver, protocol).schedule_delay(Duration::from_secs(3_600));
        let (layer, guard) = builder().otlp(otlp).build().unwrap();
        within(layer, || {
            work(10);
            guard.flush(rig::SOON).unwrap();
            receiver.wait_for_spans(10, rig::SOON);
            tracing::info_span!("later").in_scope(|| ());
        });
        let ended = Ended::finish(guard);
        ended.assert_account(11, 0, 0, 0);
        assert_eq!(receiver.spans_by_name("later").len(), 1);
    }
}

#[test]
fn spans_arrive_while_the_program_runs_and_the_last_one_does_not_wait_for_another() {
    for delay in [Duration::ZERO, Duration::from_secs(1)] {
        let receiver = Receiver::start();
        let otlp = otlp(&receiver, Protocol::HttpProtobuf).schedule_delay(delay);
        let (layer, guard) = builder().otlp(otlp).build().unwrap();
        within(layer, || {
            work(10);
            receiver.wait_for_spans(10, rig::SOON);
        });
        drop(guard);
        assert_each_once(&receiver.spans(), 10);
    }
}

#[test]
fn bodies_are_compressed_on_request() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let otlp = otlp(&receiver, protocol).compression(Compression::Gzip);
        let ended = rig::run(builder(), otlp, |_| work(SPANS));
        ended.assert_account(SPANS, 0, 0, 0);
        assert_arrived(&receiver, protocol);
        let header = match protocol {
            Protocol::Grpc => "grpc-encoding",
            _ => "content-encoding",
        };
        for request in receiver.requests() {
            assert_eq!(request.header(header), Some("gzip"), "{protocol:?}");
        }
    }
}

#[test]
fn headers_and_the_resource_are_in_every_request() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let otlp = otlp(&receiver, protocol)
            .header("authorization", "Bearer 123")
            .resource_attribute("deployment.environment.name", "test bench");
        rig::run(builder(), otlp, |_| work(3)).result.unwrap();
        for request in receiver.requests() {
            assert_eq!(request.header("authorization"), Some("Bearer 123"));
        }
        let span = &receiver.spans()[0];
        assert_eq!(span.resource_text("service.name"), Some("test"));
        let environment = span.resource_text("deployment.environment.name");
        assert_eq!(environment, Some("test bench"));
        assert_eq!(span.scope.name, "tracing-cortex");
    }
}

#[test]
fn connections_are_used_again_and_a_batch_has_at_most_so_many_spans() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let otlp = otlp(&receiver, protocol).max_batch_spans(100);
        let ended = rig::run(builder(), otlp, |_| work(SPANS));
        ended.assert_account(SPANS, 0, 0, 0);
        let requests = receiver.requests();
        assert!(requests.len() as u64 >= SPANS / 100);
        assert!(requests.iter().all(|request| request.len() <= 100));
        // Four requests are sent at a time, and for each the client may begin a connection while it waits for one that
        // is in use: which of the two comes first is chance.
        assert!(
            receiver.connections() <= 8,
            "{} for {protocol:?}",
            receiver.connections()
        );
    }
}

/// Runs a future, and all tasks that it spawns, with this subscriber as the default.
fn run_on(runtime: &Runtime, dispatch: &tracing::Dispatch, program: impl Future<Output = ()>) {
    let _default = tracing::dispatcher::set_default(dispatch);
    runtime.block_on(program);
}
