//! Spans to a `SpanExporter` of the program's own: the same as to a receiver, and with the same account.
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
#[path = "support/span_exporter.rs"]
mod recorder;
#[path = "support/otlp_rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use otlp::{Encoding, ReceivedSpan, Receiver, Signal, spans_of};
use recorder::{Act, Recorder};
use rig::{Ended, assert_each_once, builder, otlp, run, within, work};
use tracing::Instrument;
use tracing_cortex::otlp::{Otlp, Protocol};
use tracing_cortex::{CortexSpanExt, ManualClock, TraceContext};
use tracing_subscriber::prelude::*;

const DEADLINE: Duration = Duration::from_secs(2);

/// Spans only, to an exporter, in batches of 10.
fn to(recorder: &Recorder) -> Otlp {
    settings().span_exporter(recorder.exporter())
}

/// The endpoint would refuse every connection.
fn settings() -> Otlp {
    Otlp::new("http://127.0.0.1:1")
        .metrics(false)
        .service_name("test")
        .schedule_delay(Duration::from_millis(20))
        .max_batch_spans(10)
}

/// 30 spans to an exporter, in 3 batches.
fn ended(otlp: Otlp) -> Ended {
    let ended = run(builder().exit_deadline(DEADLINE), otlp, |_| work(30));
    ended.assert_within(DEADLINE);
    ended
}

fn as_received(spans: Vec<SpanData>) -> Vec<ReceivedSpan> {
    let spans = spans.into_iter().map(|span| ReceivedSpan {
        resource: Default::default(),
        scope: (span.instrumentation_scope.clone(), None).into(),
        span: span.into(),
    });
    spans.collect()
}

fn spilled(path: &Path) -> Vec<ReceivedSpan> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines();
    lines
        .flat_map(|line| spans_of(&serde_json::from_str(line).unwrap()))
        .collect()
}

/// Without what the conversion back into messages always sets and our encoder leaves out where it says nothing.
fn comparable(mut span: Span) -> Span {
    span.status.get_or_insert_default();
    for link in &mut span.links {
        assert_eq!(link.flags & !0x100, 0, "{link:?}");
        link.flags = 0;
    }
    span
}

/// A program with everything that a span can say.
fn program(clock: &ManualClock) {
    let later = |nanoseconds| clock.advance(Duration::from_nanos(nanoseconds));
    let remote = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let remote = remote.unwrap().with_trace_state("congo=t61rcWkgMzE,a=1");
    let request = tracing::info_span!(
        "request",
        otel.name = "GET /orders",
        otel.kind = "server",
        otel.status_code = "ok",
        text = "äöü",
        flag = true,
        whole = -7,
        large = u64::MAX,
        part = 0.25,
        shown = ?[1, 2],
    );
    request.set_remote_parent(&remote).unwrap();
    later(1_000_000_007);
    let entered = request.entered();
    later(3);
    tracing::info!(answer = 42, "half of it");
    for (kind, name) in [
        ("client", "c"),
        ("producer", "p"),
        ("consumer", "q"),
        ("internal", "i"),
    ] {
        let span = tracing::debug_span!("step", otel.kind = kind, otel.name = name);
        span.in_scope(|| later(11));
    }
    let failed = tracing::info_span!("failed", error = "no such order");
    failed.in_scope(|| {
        later(5);
        tracing::error!(error = "gone", "lost it");
    });
    let next = tracing::info_span!("next", otel.status_code = "error");
    next.follows_from(&failed);
    next.in_scope(|| later(1));
    drop(entered);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let waiting = async {
        tokio::task::yield_now().await;
        later(100);
        tokio::task::yield_now().await;
    };
    let waiting = waiting.instrument(tracing::info_span!("waiting"));
    runtime.block_on(async {
        let mut waiting = std::pin::pin!(waiting);
        std::future::poll_fn(|cx| {
            later(50);
            waiting.as_mut().poll(cx)
        })
        .await;
    });
}

/// Runs the program on a clock that stands still.
fn run_program(otlp: Otlp) -> Ended {
    let clock = ManualClock::new();
    let builder = builder().manual_clock(&clock).exit_deadline(DEADLINE);
    let (layer, guard) = builder.otlp(otlp).build().unwrap();
    within(layer, || program(&clock));
    Ended::finish(guard)
}

/// The spans in an order of their own, with times from the start of the capture and names in place of the ids that are
/// different each time.
fn without_ids(ended: &Ended, spans: Vec<Span>) -> Vec<Span> {
    let names: BTreeMap<_, _> = spans
        .iter()
        .map(|span| (span.span_id.clone(), span.name.clone()))
        .collect();
    let traces: BTreeMap<_, _> = spans
        .iter()
        .map(|span| (span.trace_id.clone(), span.parent_span_id.is_empty()))
        .collect();
    let named = |id: &mut Vec<u8>| {
        if let Some(name) = names.get(id) {
            *id = name.clone().into_bytes();
        }
    };
    let start = ended.profile().started.unix_ns;
    let mut spans: Vec<_> = spans.into_iter().map(comparable).collect();
    for span in &mut spans {
        if traces[&span.trace_id] {
            span.trace_id = b"local".to_vec();
        }
        named(&mut span.span_id);
        named(&mut span.parent_span_id);
        for link in &mut span.links {
            assert_ne!(link.trace_id, [0; 16]);
            named(&mut link.span_id);
        }
        span.start_time_unix_nano -= start;
        span.end_time_unix_nano -= start;
        for event in &mut span.events {
            event.time_unix_nano -= start;
        }
    }
    spans.sort_by_key(|span| (span.start_time_unix_nano, span.name.clone()));
    spans
}

#[test]
fn an_exporter_gets_field_by_field_what_a_receiver_gets() {
    let instance = |otlp: Otlp| otlp.resource_attribute("service.instance.id", "1");
    let receiver = Receiver::start();
    let sent = run_program(instance(otlp(&receiver, Protocol::Grpc)));
    sent.assert_account(8, 0, 0, 0);
    let recorder = Recorder::new();
    let handed = run_program(instance(to(&recorder)));
    handed.assert_account(8, 0, 0, 0);

    let received = receiver.spans();
    let taken = as_received(recorder.taken());
    for span in received.iter().chain(&taken) {
        assert_eq!(span.scope, received[0].scope);
    }
    let spans = |received: &[ReceivedSpan]| received.iter().map(|of| of.span.clone()).collect();
    let expected = without_ids(&sent, spans(&received));
    let found = without_ids(&handed, spans(&taken));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    // Not all of it is empty.
    let request = &found[0];
    assert_eq!(request.name, "GET /orders");
    assert_eq!(request.parent_span_id.len(), 8);
    assert_eq!(request.flags, 0x301);
    assert_eq!(request.trace_state, "congo=t61rcWkgMzE,a=1");
    assert_eq!(request.events.len(), 1);
    assert!(found.iter().any(|span| !span.links.is_empty()));
    let code = |span: &Span| span.status.as_ref().unwrap().code;
    for expected in 0..=2 {
        assert!(found.iter().any(|span| code(span) == expected));
    }

    let resource = &received[0].resource.attributes;
    let expected: BTreeMap<_, _> = resource
        .iter()
        .map(|entry| {
            let value = entry.value.as_ref().unwrap().value.as_ref().unwrap();
            let text = match value {
                AnyValue::StringValue(text) => text.clone(),
                AnyValue::IntValue(number) => number.to_string(),
                other => panic!("{other:?}"),
            };
            (entry.key.clone(), text)
        })
        .collect();
    let notes = recorder.notes();
    assert_eq!(notes.resources.len(), 1, "set once");
    let found: BTreeMap<_, _> = notes.resources[0]
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn an_exporter_that_fails_for_ever_ends_at_the_deadline_and_all_is_in_the_spill_file() {
    /// Notes what it cannot take.
    #[derive(Debug, Default, Clone)]
    struct Failing(Arc<Mutex<Vec<SpanData>>>);

    impl opentelemetry_sdk::trace::SpanExporter for Failing {
        async fn export(&self, batch: Vec<SpanData>) -> opentelemetry_sdk::error::OTelSdkResult {
            let mut seen = self.0.lock().unwrap();
            seen.extend(batch);
            let why = "no space left".to_owned();
            Err(opentelemetry_sdk::error::OTelSdkError::InternalFailure(why))
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsent.jsonl");
    let failing = Failing::default();
    let otlp = settings().span_exporter(failing.clone()).spill(&path);
    let ended = run_program(otlp);
    ended.assert_within(DEADLINE);
    ended.assert_account(0, 0, 0, 8);
    assert!(ended.error().contains("no space left"), "{}", ended.error());
    assert!(ended.error().contains("Failing"), "{}", ended.error());
    let attempts = failing.0.lock().unwrap().clone();
    assert!(attempts.len() >= 16, "{} spans in all", attempts.len());
    // What was tried and what is in the file are the same, with all ids and times.
    let by_id = |spans: Vec<ReceivedSpan>| -> BTreeMap<String, Span> {
        let spans = spans.into_iter();
        spans
            .map(|of| (of.span_id(), comparable(of.span)))
            .collect()
    };
    assert_eq!(by_id(as_received(attempts)), by_id(spilled(&path)));
}

#[test]
fn without_a_spill_file_what_always_fails_is_dropped() {
    let recorder = Recorder::always(Act::TimeOut);
    let ended = ended(to(&recorder));
    ended.assert_account(0, 0, 30, 0);
    assert!(ended.error().contains("timed out"), "{}", ended.error());
    assert!(recorder.calls() > 1);
}

#[test]
fn a_batch_that_failed_once_is_handed_over_again() {
    for failure in [Act::Fail("busy"), Act::TimeOut] {
        let recorder = Recorder::scripted([failure], Act::Take);
        let ended = ended(to(&recorder));
        ended.result.as_ref().unwrap();
        ended.assert_account(30, 0, 0, 0);
        assert_each_once(&as_received(recorder.taken()), 30);
        assert_eq!(recorder.calls(), 4);
    }
}

#[test]
fn an_exporter_that_was_shut_down_elsewhere_is_not_asked_twice_for_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsent.jsonl");
    for is_spilled in [false, true] {
        let recorder = Recorder::always(Act::SayShutDown);
        let otlp = match is_spilled {
            true => to(&recorder).spill(&path),
            false => to(&recorder),
        };
        let ended = ended(otlp);
        match is_spilled {
            true => ended.assert_account(0, 0, 0, 30),
            false => ended.assert_account(0, 0, 30, 0),
        }
        assert!(ended.error().contains("shut down by"), "{}", ended.error());
        assert_eq!(recorder.calls(), 3);
    }
    assert_each_once(&spilled(&path), 30);
}

#[test]
fn a_panic_of_the_exporter_costs_its_batch_and_is_reported() {
    let recorder = Recorder::scripted([Act::Panic("index out of range")], Act::Take);
    let ended = ended(to(&recorder));
    ended.assert_account(20, 0, 10, 0);
    let error = ended.error();
    assert!(error.contains("panicked (index out of range)"), "{error}");
    let failed = ended.result.as_ref().unwrap_err().to_string();
    assert!(failed.contains("panicked"), "{failed}");
    assert_eq!(recorder.notes().shutdowns.len(), 1);
}

#[test]
fn an_exporter_that_never_answers_is_ended_at_the_deadline_and_shut_down() {
    let recorder = Recorder::always(Act::Hang);
    let ended = ended(to(&recorder));
    ended.assert_account(0, 0, 30, 0);
    let notes = recorder.notes();
    assert_eq!((notes.calls.len(), notes.ended), (1, 1));
    assert_eq!(notes.shutdowns.len(), 1);
    assert!(notes.dropped);
}

#[test]
fn an_exporter_that_blocks_its_thread_does_not_delay_the_end_and_takes_no_span_out_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsent.jsonl");
    let recorder = Recorder::always(Act::Block(3 * DEADLINE));
    let ended = ended(to(&recorder).spill(&path));
    ended.assert_account(0, 0, 0, 30);
    assert_each_once(&spilled(&path), 30);
    let warning = ended.account().last_warning.as_ref().unwrap();
    assert!(warning.contains("did not end in time"), "{warning}");
    // It cannot be interrupted; its shutdown comes after its call, as its trait demands.
    assert_eq!(recorder.notes().running, 1);
    assert!(recorder.notes().shutdowns.is_empty());
}

#[test]
fn a_call_without_an_answer_is_ended_after_the_timeout_and_tried_again() {
    let recorder = Recorder::scripted([Act::Hang], Act::Take);
    let ended = ended(to(&recorder).timeout(Duration::from_millis(100)));
    ended.assert_account(30, 0, 0, 0);
    assert_each_once(&as_received(recorder.taken()), 30);
    assert_eq!(recorder.notes().ended, 1);
}

#[test]
fn a_late_answer_of_a_call_that_blocks_counts_as_what_it_says() {
    let recorder = Recorder::scripted([Act::Block(Duration::from_millis(400))], Act::Take);
    let ended = ended(to(&recorder).timeout(Duration::from_millis(100)));
    ended.assert_account(30, 0, 0, 0);
    // None of them twice.
    assert_each_once(&as_received(recorder.taken()), 30);
}

#[test]
fn an_exporter_may_block_and_may_use_the_timers_of_a_runtime() {
    let blocking = Act::Do(Arc::new(|| {
        // What blocking HTTP clients do, and what a thread that drives a runtime forbids.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {});
    }));
    let waiting = Act::Wait(Duration::from_millis(20));
    let recorder = Recorder::scripted([blocking, waiting], Act::Take);
    let ended = ended(to(&recorder));
    ended.assert_account(30, 0, 0, 0);
    let notes = recorder.notes();
    assert_eq!(notes.calls.len(), 3);
    assert!(notes.threads.iter().all(|name| name == "cortex-export"));
}

#[test]
fn the_shutdown_comes_once_after_the_last_call_with_the_time_that_is_left() {
    let recorder = Recorder::new();
    let ended = ended(to(&recorder));
    ended.result.as_ref().unwrap();
    let notes = recorder.notes();
    let &[(calls, time)] = &notes.shutdowns[..] else {
        panic!("{:?}", notes.shutdowns);
    };
    assert_eq!(calls, 3);
    assert!(time > DEADLINE / 4 && time <= DEADLINE, "{time:?}");
    assert!(notes.dropped);
}

#[test]
fn a_shutdown_that_fails_is_reported_and_one_that_hangs_does_not_delay_the_end() {
    let recorder = Recorder::new();
    recorder.notes().shutdown = (Duration::ZERO, Some("buffer lost"));
    let failed = ended(to(&recorder));
    failed.assert_account(30, 0, 0, 0);
    let warning = failed.account().last_warning.as_ref().unwrap();
    assert!(warning.contains("buffer lost"), "{warning}");

    let recorder = Recorder::new();
    recorder.notes().shutdown = (3 * DEADLINE, None);
    let hanging = ended(to(&recorder));
    hanging.assert_account(30, 0, 0, 0);
    let warning = hanging.account().last_warning.as_ref().unwrap();
    assert!(warning.contains("did not end in time"), "{warning}");
}

#[test]
fn a_flush_hands_over_what_is_finished_and_the_capture_goes_on() {
    let recorder = Recorder::new();
    let otlp = to(&recorder).schedule_delay(Duration::from_secs(600));
    let ended = run(builder(), otlp, |guard| {
        work(3);
        guard.flush(rig::SOON).unwrap();
        assert_eq!(recorder.taken().len(), 3);
        assert!(recorder.notes().shutdowns.is_empty());
        work(2);
    });
    ended.assert_account(5, 0, 0, 0);
}

#[test]
fn only_sampled_spans_are_handed_over() {
    let recorder = Recorder::new();
    let otlp = to(&recorder).sample_ratio(0.0).keep_errors();
    let ended = run(builder(), otlp, |_| {
        work(5);
        tracing::info_span!("failed", error = true).in_scope(|| ());
    });
    let account = ended.account();
    assert_eq!((account.exported, account.sampled_out), (1, 5));
    let taken = recorder.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].name, "failed");
}

#[test]
fn spans_that_the_exporter_makes_in_its_call_are_recorded_by_nobody() {
    let of_otel = Recorder::new();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(of_otel.exporter())
        .build();
    let tracer = provider.tracer("program");
    let dispatch: Arc<Mutex<Option<tracing::Dispatch>>> = Arc::default();
    let inside = {
        let (tracer, dispatch) = (tracer.clone(), Arc::clone(&dispatch));
        Act::Do(Arc::new(move || {
            let dispatch = dispatch.lock().unwrap().clone().unwrap();
            tracing::dispatcher::with_default(&dispatch, || {
                tracing::info_span!("inside").in_scope(|| tracing::error!("inside"));
            });
            tracer.in_span("inside", |_| ());
        }))
    };
    let recorder = Recorder::always(inside);
    let (layer, guard) = builder().otlp(to(&recorder)).build().unwrap();
    let subscriber = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    *dispatch.lock().unwrap() = Some(subscriber.clone());
    tracing::dispatcher::with_default(&subscriber, || {
        work(10);
        // While the capture goes on, so that it could record them.
        guard.flush(rig::SOON).unwrap();
        assert_eq!(recorder.calls(), 1);
        work(5);
        tracer.in_span("outside", |_| ());
    });
    let ended = Ended::finish(guard);
    ended.assert_account(15, 0, 0, 0);
    assert_eq!(recorder.calls(), 2);
    let names = |recorder: &Recorder| -> Vec<String> {
        let taken = recorder.taken().into_iter();
        taken.map(|span| span.name.into_owned()).collect()
    };
    assert_eq!(names(&recorder), ["work"; 15]);
    assert_eq!(names(&of_otel), ["outside"]);
    let sites = &ended.profile().sites;
    assert!(
        sites.iter().all(|site| site.site.name != "inside"),
        "{sites:?}"
    );
}

#[test]
fn the_exporter_of_opentelemetry_otlp_delivers_to_a_receiver() {
    let receiver = Receiver::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let exporter = runtime.block_on(async {
        let builder = OtlpExporter::builder().with_tonic();
        builder.with_endpoint(receiver.grpc()).build().unwrap()
    });
    let ended = ended(settings().span_exporter(exporter));
    ended.result.as_ref().unwrap();
    ended.assert_account(30, 0, 0, 0);
    assert!(ended.account().endpoint.contains("opentelemetry_otlp"));
    let spans = receiver.spans();
    assert_each_once(&spans, 30);
    assert_eq!(spans[0].resource_text("service.name"), Some("test"));
    assert_eq!(spans[0].scope.name, "tracing-cortex");
    assert!(spans[0].int("busy_ns").is_some());
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|of| of.encoding == Encoding::Grpc));
}

#[test]
fn a_receiver_that_comes_up_late_gets_everything_from_the_exporter_of_opentelemetry_otlp() {
    let mut receiver = Receiver::down();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let exporter = runtime.block_on(async {
        let builder = OtlpExporter::builder().with_tonic();
        builder.with_endpoint(receiver.grpc()).build().unwrap()
    });
    let otlp = settings().span_exporter(exporter);
    let ended = run(builder(), otlp, |_| {
        work(30);
        // Its own attempts take less than a second, and what it gives up then is seen nowhere.
        std::thread::sleep(Duration::from_millis(1500));
        receiver.restart();
    });
    ended.assert_account(30, 0, 0, 0);
    assert_each_once(&receiver.spans(), 30);
}

#[test]
fn metrics_go_to_the_endpoint_and_spans_to_the_exporter() {
    let receiver = Receiver::start();
    let recorder = Recorder::new();
    let otlp = otlp(&receiver, Protocol::HttpProtobuf)
        .metrics(true)
        .span_exporter(recorder.exporter());
    let ended = run(builder(), otlp, |_| work(5));
    ended.assert_account(5, 0, 0, 0);
    assert_eq!(recorder.taken().len(), 5);
    assert!(receiver.requests_of(Signal::Traces).is_empty());
    assert!(!receiver.requests_of(Signal::Metrics).is_empty());
    assert!(ended.account().exported_points > 0);
}

#[test]
fn an_exporter_is_of_one_capture_only() {
    let recorder = Recorder::new();
    let otlp = to(&recorder);
    let first = builder().otlp(otlp.clone()).build().unwrap();
    let second = builder().otlp(otlp).build();
    let error = second.unwrap_err().to_string();
    assert!(error.contains("Otlp::span_exporter"), "{error}");
    within(first.0, || work(1));
    Ended::finish(first.1).assert_account(1, 0, 0, 0);
}
