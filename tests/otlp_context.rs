//! Traces that go through several processes, and through another tracing layer of this one.
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

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use otlp::{ReceivedSpan, Receiver, hex};
use rig::{Ended, PROTOCOLS, builder, otlp, run};
use tracing_cortex::otlp::Protocol;
use tracing_cortex::{CortexSpanExt, TraceContext};
use tracing_subscriber::prelude::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn remote(sampled: bool) -> TraceContext {
    let flags = if sampled { "01" } else { "00" };
    TraceContext::parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap()
}

/// Whether a parent is in another process: `None` where the span does not say.
fn parent_is_remote(span: &ReceivedSpan) -> Option<bool> {
    let flags = span.span.flags;
    (flags & 0x100 != 0).then_some(flags & 0x200 != 0)
}

fn headers(span: &tracing::Span) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    span.inject(|name, value| {
        headers.insert(name.to_owned(), value.to_owned());
    });
    headers
}

#[test]
fn a_remote_parent_continues_its_trace() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let ended = run(builder(), otlp(&receiver, protocol), |_| {
            let span = tracing::info_span!("request");
            let state = remote(true).with_trace_state("congo=t61rcWkgMzE");
            span.set_remote_parent(&state).unwrap();
            span.in_scope(|| tracing::info_span!("query").in_scope(|| ()));
        });
        ended.assert_account(2, 0, 0, 0);
        let request = receiver.span_by_name("request");
        let query = receiver.span_by_name("query");
        assert_eq!((&*request.trace_id(), &*request.parent_id()), (TRACE, SPAN));
        assert_eq!(parent_is_remote(&request), Some(true));
        assert_eq!(request.span.trace_state, "congo=t61rcWkgMzE");
        assert_eq!(query.trace_id(), TRACE);
        assert_eq!(query.parent_id(), request.span_id());
        assert_eq!(parent_is_remote(&query), Some(false));
    }
}

#[test]
fn a_remote_parent_set_inside_of_an_instrumented_function_still_counts() {
    #[tracing::instrument(skip_all)]
    fn serve(context: &TraceContext) {
        let span = tracing::Span::current();
        span.set_remote_parent(context).unwrap();
    }
    let receiver = Receiver::start();
    run(builder(), otlp(&receiver, Protocol::Grpc), |_| {
        serve(&remote(true));
    });
    let serve = receiver.span_by_name("serve");
    assert_eq!((&*serve.trace_id(), &*serve.parent_id()), (TRACE, SPAN));
}

#[test]
fn the_context_handed_on_names_the_span_that_is_exported() {
    let receiver = Receiver::start();
    let mut handed = BTreeMap::new();
    run(builder(), otlp(&receiver, Protocol::Grpc), |_| {
        let _request = tracing::info_span!("request").entered();
        tracing::info_span!("call").in_scope(|| handed = headers(&tracing::Span::current()));
    });
    let call = receiver.span_by_name("call");
    let expected = format!("00-{}-{}-01", call.trace_id(), call.span_id());
    let start = handed["traceparent"].rsplit_once('-').unwrap().0;
    assert!(expected.starts_with(start), "{handed:?}, not {expected}");
    let context = TraceContext::parse(&handed["traceparent"]).unwrap();
    assert!(context.sampled());
    let root = receiver.span_by_name("request");
    assert_eq!(call.trace_id(), root.trace_id());
}

#[test]
fn state_and_baggage_travel_on() {
    let receiver = Receiver::start();
    let mut handed = BTreeMap::new();
    run(builder(), otlp(&receiver, Protocol::Grpc), |_| {
        let context = remote(true)
            .with_trace_state("congo=t61rcWkgMzE")
            .with_baggage("user=alice");
        let request = tracing::info_span!("request");
        request.set_remote_parent(&context).unwrap();
        let _request = request.entered();
        tracing::info_span!("call").in_scope(|| handed = headers(&tracing::Span::current()));
    });
    assert_eq!(handed["tracestate"], "congo=t61rcWkgMzE");
    assert_eq!(handed["baggage"], "user=alice");
    assert!(handed["traceparent"].contains(TRACE));
}

#[test]
fn two_programs_make_one_trace() {
    let receiver = Receiver::start();
    let mut wire = BTreeMap::new();
    run(builder(), otlp(&receiver, Protocol::Grpc), |_| {
        let span = tracing::info_span!("client", otel.kind = "client");
        span.in_scope(|| wire = headers(&tracing::Span::current()));
    });
    run(builder(), otlp(&receiver, Protocol::HttpProtobuf), |_| {
        let span = tracing::info_span!("server", otel.kind = "server");
        let context = TraceContext::from_headers(|name| wire.get(name).cloned());
        span.set_remote_parent(&context.unwrap()).unwrap();
        span.in_scope(|| ());
    });
    let (client, server) = (
        receiver.span_by_name("client"),
        receiver.span_by_name("server"),
    );
    assert_eq!(server.trace_id(), client.trace_id());
    assert_eq!(server.parent_id(), client.span_id());
}

#[test]
fn a_parent_comes_too_late_for_a_span_that_has_told_its_context() {
    let receiver = Receiver::start();
    run(builder(), otlp(&receiver, Protocol::Grpc), |_| {
        let span = tracing::info_span!("request");
        let told = span.trace_context().unwrap();
        assert!(span.set_remote_parent(&remote(true)).is_err());
        assert_eq!(span.trace_context(), Some(told));
        span.in_scope(|| ());
    });
    assert_eq!(receiver.span_by_name("request").parent_id(), "");
}

#[test]
fn a_span_that_nobody_records_has_no_context() {
    let span = tracing::info_span!("unrecorded");
    assert_eq!(span.trace_context(), None);
    assert!(span.set_remote_parent(&remote(true)).is_err());
    assert!(headers(&span).is_empty());
}

#[test]
fn a_link_leads_to_a_span_of_another_process() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        run(builder(), otlp(&receiver, protocol), |_| {
            let span = tracing::info_span!("consumer");
            span.add_link(&remote(true)).unwrap();
            span.in_scope(|| ());
        });
        let span = receiver.span_by_name("consumer");
        assert_ne!(span.trace_id(), TRACE);
        let links: Vec<_> = span
            .span
            .links
            .iter()
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect();
        assert_eq!(links, [(TRACE.to_owned(), SPAN.to_owned())]);
    }
}

#[test]
fn what_the_caller_left_out_is_left_out_here_and_handed_on_as_such() {
    let receiver = Receiver::start();
    let mut handed = BTreeMap::new();
    let ended = run(builder(), otlp(&receiver, Protocol::Grpc), |_| {
        let span = tracing::info_span!("request");
        span.set_remote_parent(&remote(false)).unwrap();
        span.in_scope(|| {
            tracing::info_span!("call").in_scope(|| handed = headers(&tracing::Span::current()));
        });
        tracing::info_span!("other").in_scope(|| ());
    });
    let account = ended.account();
    assert_eq!((account.exported, account.sampled_out), (1, 2));
    assert_eq!(receiver.spans()[0].span.name, "other");
    let context = TraceContext::parse(&handed["traceparent"]).unwrap();
    assert!(!context.sampled());
    let calls: u64 = ended
        .profile()
        .sites
        .iter()
        .map(|row| row.stats.calls)
        .sum();
    assert_eq!(calls, 3, "statistics are of all spans");
}

/// An exporter of the user's own.
#[derive(Debug, Clone, Default)]
struct Theirs(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Theirs {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Runs a program that has a layer of tracing-opentelemetry too; returns what that one exported and our account.
fn beside_opentelemetry(
    receiver: &Receiver,
    program: impl FnOnce(),
) -> (Vec<SpanData>, Ended, Vec<(String, String)>) {
    let theirs = Theirs::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(theirs.clone())
        .build();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let builder = builder().chrome(&path);
    let (layer, guard) = builder
        .otlp(otlp(receiver, Protocol::Grpc))
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("theirs")))
        .with(layer);
    tracing::subscriber::with_default(subscriber, program);
    let ended = Ended::finish(guard);
    let trace = std::fs::read_to_string(path).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let bars = trace["traceEvents"].as_array().unwrap().iter();
    let bars = bars.filter(|event| event["ph"] == "X").map(|event| {
        let text = |key| event["args"][key].as_str().unwrap_or_default().to_owned();
        (text("trace_id"), text("span_id"))
    });
    let bars = bars.collect();
    let theirs = std::mem::take(&mut *theirs.0.lock().unwrap());
    (theirs, ended, bars)
}

#[test]
fn beside_another_layer_its_ids_are_ours_and_nothing_is_exported_twice() {
    let receiver = Receiver::start();
    let (theirs, ended, mut bars) = beside_opentelemetry(&receiver, || {
        let _outer = tracing::info_span!("outer").entered();
        for number in 0..3 {
            tracing::info_span!("inner", number).in_scope(|| ());
        }
    });
    assert_eq!(theirs.len(), 4);
    let account = ended.account();
    assert_eq!((account.adopted, account.exported), (4, 0), "{account:?}");
    assert_eq!(receiver.span_count(), 0);
    let mut ids: Vec<_> = theirs
        .iter()
        .map(|span| {
            let context = &span.span_context;
            (
                context.trace_id().to_string(),
                context.span_id().to_string(),
            )
        })
        .collect();
    ids.sort_unstable();
    bars.sort_unstable();
    assert_eq!(bars, ids, "in the Chrome trace");
}

#[test]
fn beside_a_boxed_layer_ids_are_adopted_where_that_is_said() {
    let receiver = Receiver::start();
    let theirs = Theirs::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(theirs.clone())
        .build();
    let other = tracing_opentelemetry::layer().with_tracer(provider.tracer("theirs"));
    let (layer, guard) = builder()
        .otlp(otlp(&receiver, Protocol::Grpc).adopt_ids())
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry()
        .with(other.boxed())
        .with(layer);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("outer").in_scope(|| tracing::info_span!("inner").in_scope(|| ()));
    });
    let ended = Ended::finish(guard);
    let account = ended.account();
    assert_eq!((account.adopted, account.exported), (2, 0), "{account:?}");
    assert_eq!(theirs.0.lock().unwrap().len(), 2);
}

#[test]
fn beside_another_layer_a_parent_that_the_program_gives_it_still_counts() {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let receiver = Receiver::start();
    let (theirs, ended, bars) = beside_opentelemetry(&receiver, || {
        let span = tracing::info_span!("request");
        let context = opentelemetry::trace::SpanContext::new(
            opentelemetry::TraceId::from_hex(TRACE).unwrap(),
            opentelemetry::SpanId::from_hex(SPAN).unwrap(),
            opentelemetry::TraceFlags::SAMPLED,
            true,
            opentelemetry::trace::TraceState::NONE,
        );
        let parent = opentelemetry::Context::new().with_remote_span_context(context);
        span.set_parent(parent).unwrap();
        span.in_scope(|| ());
    });
    assert_eq!(theirs[0].span_context.trace_id().to_string(), TRACE);
    assert_eq!(theirs[0].parent_span_id.to_string(), SPAN);
    assert_eq!(ended.account().adopted, 1);
    assert_eq!(bars[0].0, TRACE);
}
