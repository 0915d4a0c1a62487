//! What arrives is what happened: ids, parents, nanoseconds, fields, events, links and status, the same in every output.
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
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use otlp::{ReceivedSpan, Receiver, hex, value};
use rig::{Ended, PROTOCOLS, builder, otlp, within};
use tracing::Instrument;
use tracing_cortex::otlp::Protocol;
use tracing_cortex::{
    CortexBuilder, Diagnosis, ManualClock, Operation, Profile, Sink, SinkError, Wants,
};

/// What a sink of the user's own saw of an operation.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    trace: String,
    span: String,
    parent: String,
    name: String,
    start: u64,
    end: u64,
    busy: u64,
    activations: u32,
    links: Vec<(String, String)>,
    events: Vec<u64>,
    unfinished: bool,
}

/// A sink of the user's own.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<Seen>>>);

impl Sink for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.operations = true;
        wants.events = true;
        wants.fields = true;
        wants
    }

    fn operations(&mut self, batch: &[Operation<'_>]) -> Result<(), SinkError> {
        let mut seen = self.0.lock().unwrap();
        seen.extend(batch.iter().map(|operation| {
            Seen {
                trace: operation.ids.trace.to_string(),
                span: operation.ids.span.to_string(),
                parent: operation
                    .ids
                    .parent
                    .map_or(String::new(), |id| id.to_string()),
                name: operation.display_name().to_owned(),
                start: operation.start.0,
                end: operation.end.0,
                busy: operation.busy.0,
                activations: operation.activations,
                links: operation
                    .fields
                    .links()
                    .map(|link| (link.trace.to_string(), link.span.to_string()))
                    .collect(),
                events: operation.events.iter().map(|event| event.at.0).collect(),
                unfinished: operation.unfinished,
            }
        }));
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A program on a clock that stands still, and everything that came of it.
struct Run {
    receiver: Receiver,
    ended: Ended,
    seen: Vec<Seen>,
}

impl Run {
    /// Runs a program, and asserts that the receiver and the user's sink saw the same.
    #[track_caller]
    fn of(protocol: Protocol, program: impl FnOnce(&ManualClock)) -> Run {
        Run::with(protocol, |builder| builder, program)
    }

    #[track_caller]
    fn with(
        protocol: Protocol,
        configure: impl FnOnce(CortexBuilder) -> CortexBuilder,
        program: impl FnOnce(&ManualClock),
    ) -> Run {
        let receiver = Receiver::start();
        let witness = Witness::default();
        let clock = ManualClock::new();
        let builder = builder().manual_clock(&clock).sink(witness.clone());
        let builder = configure(builder).otlp(otlp(&receiver, protocol));
        let (layer, guard) = builder.build().unwrap();
        within(layer, || program(&clock));
        let ended = Ended::finish(guard);
        ended.result.as_ref().unwrap();
        let seen = std::mem::take(&mut *witness.0.lock().unwrap());
        ended.assert_account(seen.len() as u64, 0, 0, 0);
        let run = Run {
            receiver,
            ended,
            seen,
        };
        run.assert_same();
        run
    }

    #[track_caller]
    fn assert_same(&self) {
        let spans = self.receiver.spans();
        let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.span_id(), span)).collect();
        assert_eq!(by_id.len(), spans.len(), "ids are unique");
        assert_eq!(spans.len(), self.seen.len());
        for seen in &self.seen {
            let span = by_id.get(&seen.span).expect("a span for each operation");
            assert_eq!(span.trace_id(), seen.trace, "{seen:?}");
            assert_eq!(span.parent_id(), seen.parent, "{seen:?}");
            assert_eq!(span.span.name, seen.name);
            let unix = self.ended.profile().started.unix_ns;
            assert_eq!(span.span.start_time_unix_nano - unix, seen.start);
            assert_eq!(span.span.end_time_unix_nano - unix, seen.end);
            assert_eq!(span.int("busy_ns"), Some(seen.busy as i64));
            let idle = (seen.end - seen.start).saturating_sub(seen.busy);
            assert_eq!(span.int("idle_ns"), Some(idle as i64));
            let links = span.span.links.iter();
            let links: Vec<_> = links
                .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                .collect();
            assert_eq!(links, seen.links, "{seen:?}");
            let events = span.span.events.iter();
            let events: Vec<_> = events.map(|event| event.time_unix_nano - unix).collect();
            assert_eq!(events, seen.events, "{seen:?}");
            assert_eq!(is_unfinished(span), seen.unfinished, "{seen:?}");
        }
    }

    #[track_caller]
    fn span(&self, name: &str) -> ReceivedSpan {
        self.receiver.span_by_name(name)
    }

    /// Start and end from the start of the capture.
    fn times(&self, span: &ReceivedSpan) -> (u64, u64) {
        let unix = self.ended.profile().started.unix_ns;
        (
            span.span.start_time_unix_nano - unix,
            span.span.end_time_unix_nano - unix,
        )
    }
}

fn is_unfinished(span: &ReceivedSpan) -> bool {
    span.attribute("cortex.unfinished") == Some(&AnyValue::BoolValue(true))
}

fn ns(clock: &ManualClock, nanoseconds: u64) {
    clock.advance(Duration::from_nanos(nanoseconds));
}

#[test]
fn nested_spans_have_their_parents_one_trace_and_exact_times() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |clock| {
            ns(clock, 1_000_000_007);
            let outer = tracing::info_span!("outer").entered();
            ns(clock, 1);
            let middle = tracing::info_span!("middle").entered();
            ns(clock, 22);
            tracing::info_span!("inner").in_scope(|| ns(clock, 333));
            drop(middle);
            drop(outer);
        });
        let [outer, middle, inner] = ["outer", "middle", "inner"].map(|name| run.span(name));
        assert_eq!(outer.parent_id(), "");
        assert_eq!(middle.parent_id(), outer.span_id());
        assert_eq!(inner.parent_id(), middle.span_id());
        assert_eq!(middle.trace_id(), outer.trace_id());
        assert_eq!(inner.trace_id(), outer.trace_id());
        assert_eq!(run.times(&outer), (1_000_000_007, 1_000_000_363));
        assert_eq!(run.times(&middle), (1_000_000_008, 1_000_000_363));
        assert_eq!(run.times(&inner), (1_000_000_030, 1_000_000_363));
        assert_eq!(inner.int("busy_ns"), Some(333));
    }
}

#[test]
fn roots_have_traces_of_their_own() {
    let run = Run::of(Protocol::Grpc, |_| rig::work(100));
    let mut traces: Vec<_> = run
        .receiver
        .spans()
        .iter()
        .map(ReceivedSpan::trace_id)
        .collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 100);
    assert!(
        traces
            .iter()
            .all(|id| id.bytes().any(|digit| digit != b'0'))
    );
}

#[test]
fn an_async_span_is_one_span_with_its_busy_and_idle_time() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |clock| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.build().unwrap();
            let request = async {
                ns(clock, 5);
                tracing::info_span!("query").in_scope(|| ns(clock, 2));
                tokio::task::yield_now().await;
                ns(clock, 7);
            };
            let request = request.instrument(tracing::info_span!("request"));
            // Polled once between the two polls of the request.
            let wait = async { ns(clock, 100) };
            runtime.block_on(async { tokio::join!(biased; request, wait) });
        });
        let request = run.span("request");
        assert_eq!(run.times(&request), (0, 114));
        assert_eq!(request.int("busy_ns"), Some(14));
        assert_eq!(request.int("idle_ns"), Some(100));
        assert_eq!(run.span("query").parent_id(), request.span_id());
    }
}

#[test]
fn every_call_through_a_held_span_is_a_span_under_its_runtime_parent() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |clock| {
            let layer = tracing::info_span!("layer", size = 3);
            for number in 0..3 {
                let _forward = tracing::info_span!("forward", number).entered();
                ns(clock, 10);
                layer.in_scope(|| ns(clock, 4));
            }
        });
        let (calls, parents) = (
            run.receiver.spans_by_name("layer"),
            run.receiver.spans_by_name("forward"),
        );
        assert_eq!((calls.len(), parents.len()), (3, 3));
        for parent in &parents {
            let number = parent.int("number").unwrap() as u64;
            let call = calls
                .iter()
                .find(|call| call.parent_id() == parent.span_id())
                .expect("a call in each");
            assert_eq!(call.trace_id(), parent.trace_id());
            assert_eq!(run.times(call), (14 * number + 10, 14 * number + 14));
            assert_eq!(call.int("size"), Some(3));
            assert_eq!(call.int("busy_ns"), Some(4));
        }
    }
}

#[test]
fn what_runs_inside_of_a_call_through_a_held_span_is_under_that_call() {
    let run = Run::of(Protocol::HttpProtobuf, |_| {
        let layer = tracing::info_span!("layer");
        for number in 0..3 {
            let _forward = tracing::info_span!("forward", number).entered();
            layer.in_scope(|| tracing::info_span!("kernel", number).in_scope(|| ()));
        }
    });
    let (calls, kernels) = (
        run.receiver.spans_by_name("layer"),
        run.receiver.spans_by_name("kernel"),
    );
    let mut parents: Vec<_> = kernels.iter().map(ReceivedSpan::parent_id).collect();
    let mut ids: Vec<_> = calls.iter().map(ReceivedSpan::span_id).collect();
    parents.sort_unstable();
    ids.sort_unstable();
    assert_eq!(parents, ids);
}

#[test]
fn fields_keep_their_types() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |_| {
            let span = tracing::info_span!(
                "typed",
                text = "a \"quoted\" text\n\u{1f600}",
                yes = true,
                small = -7_i64,
                large = u64::MAX,
                larger = i128::MIN,
                half = 0.5,
                shown = %"shown",
                debugged = ?Some(1),
                later = tracing::field::Empty,
                empty = tracing::field::Empty,
            );
            span.record("later", 1);
            span.record("later", 2);
            span.in_scope(|| ());
        });
        let span = run.span("typed");
        let is = |key, expected: AnyValue| {
            assert_eq!(span.attribute(key), Some(&expected), "{key}, {protocol:?}");
        };
        let text = |text: &str| AnyValue::StringValue(text.to_owned());
        is("text", text("a \"quoted\" text\n\u{1f600}"));
        is("yes", AnyValue::BoolValue(true));
        is("small", AnyValue::IntValue(-7));
        is("large", text("18446744073709551615"));
        is("larger", text("-170141183460469231731687303715884105728"));
        is("half", AnyValue::DoubleValue(0.5));
        is("shown", text("shown"));
        is("debugged", text("Some(1)"));
        is("later", AnyValue::IntValue(2));
        assert_eq!(span.attribute("empty"), None);
    }
}

#[test]
fn the_site_and_the_thread_are_attributes() {
    let run = Run::of(Protocol::Grpc, |_| {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let thread = std::thread::Builder::new().name("a worker".to_owned());
        let program = move || {
            tracing::dispatcher::with_default(&dispatch, || {
                tracing::info_span!("sited").in_scope(|| ());
            });
        };
        thread.spawn(program).unwrap().join().unwrap();
    });
    let span = run.span("sited");
    let file = span.text("code.file.path").unwrap();
    assert!(file.ends_with("otlp_fidelity.rs"), "{file}");
    assert!(span.int("code.line.number").unwrap() > 0);
    assert_eq!(span.text("code.module.name"), Some("otlp_fidelity"));
    assert_eq!(span.text("thread.name"), Some("a worker"));
    assert!(span.int("thread.id").is_some());
}

#[test]
fn events_are_inside_of_their_span_at_their_time() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |clock| {
            let _outer = tracing::info_span!("outer").entered();
            ns(clock, 3);
            tracing::info!(attempt = 1, "connecting");
            ns(clock, 4);
            tracing::info_span!("inner").in_scope(|| tracing::warn!(late = true, "slow"));
            ns(clock, 5);
            tracing::debug!(rows = 7);
        });
        let (outer, inner) = (run.span("outer"), run.span("inner"));
        let unix = run.ended.profile().started.unix_ns;
        let [first, last] = &outer.span.events[..] else {
            panic!("{:?}", outer.span.events);
        };
        assert_eq!(first.name, "connecting");
        assert_eq!(first.time_unix_nano, unix + 3);
        assert_eq!(
            value(&first.attributes, "attempt"),
            Some(&AnyValue::IntValue(1))
        );
        let level = AnyValue::StringValue("INFO".to_owned());
        assert_eq!(value(&first.attributes, "level"), Some(&level));
        assert_eq!(last.time_unix_nano, unix + 12);
        assert_eq!(
            value(&last.attributes, "rows"),
            Some(&AnyValue::IntValue(7))
        );
        assert_eq!(inner.span.events.len(), 1);
        assert_eq!(inner.span.events[0].name, "slow");
        assert_eq!(inner.span.events[0].time_unix_nano, unix + 7);
    }
}

#[test]
fn follows_from_is_a_link() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |_| {
            let (first, second) = (tracing::info_span!("first"), tracing::info_span!("second"));
            let after = tracing::info_span!("after");
            after.follows_from(&first);
            after.follows_from(&second);
            for span in [first, second, after] {
                span.in_scope(|| ());
            }
        });
        let links = run.span("after").span.links;
        let links: Vec<_> = links
            .iter()
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect();
        let expected = ["first", "second"].map(|name| {
            let span = run.span(name);
            (span.trace_id(), span.span_id())
        });
        assert_eq!(links, expected);
    }
}

#[test]
fn name_kind_and_status_are_those_that_the_program_gave() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |_| {
            let kinds = ["server", "CLIENT", "producer", "consumer", "internal"];
            for kind in kinds {
                let name = format!("kind {kind}");
                let span = tracing::info_span!("site", otel.name = name, otel.kind = kind);
                span.in_scope(|| ());
            }
            tracing::info_span!(
                "bad",
                otel.status_code = "ERROR",
                otel.status_description = "it broke"
            )
            .in_scope(|| ());
            let ok = tracing::info_span!("fine", otel.status_code = "ok");
            ok.in_scope(|| tracing::error!("harmless"));
            tracing::info_span!("unset").in_scope(|| ());
        });
        let kind = |name: &str| run.span(name).span.kind();
        assert_eq!(kind("kind server"), SpanKind::Server);
        assert_eq!(kind("kind CLIENT"), SpanKind::Client);
        assert_eq!(kind("kind producer"), SpanKind::Producer);
        assert_eq!(kind("kind consumer"), SpanKind::Consumer);
        assert_eq!(kind("kind internal"), SpanKind::Internal);
        assert_eq!(kind("unset"), SpanKind::Internal);
        let status = |name: &str| run.span(name).span.status.unwrap_or_default();
        assert_eq!(status("bad").code(), StatusCode::Error);
        assert_eq!(status("bad").message, "it broke");
        assert_eq!(status("fine").code(), StatusCode::Ok);
        assert_eq!(status("unset").code(), StatusCode::Unset);
        for name in ["kind server", "bad", "fine"] {
            let span = run.span(name).span;
            let keys = span.attributes.iter().map(|attribute| &attribute.key);
            assert_eq!(keys.filter(|key| key.starts_with("otel.")).count(), 0);
        }
    }
}

#[test]
fn an_error_is_the_status_of_its_span_only() {
    for protocol in PROTOCOLS {
        let run = Run::of(protocol, |_| {
            let _outer = tracing::info_span!("outer").entered();
            tracing::info_span!("by_event").in_scope(|| tracing::error!("disk is full"));
            tracing::info_span!("by_field", error = "no such row").in_scope(|| ());
            tracing::info_span!("not_at_all", error = false).in_scope(|| ());
        });
        let status = |name: &str| run.span(name).span.status.unwrap_or_default();
        assert_eq!(status("by_event").code(), StatusCode::Error);
        assert_eq!(status("by_event").message, "disk is full");
        assert_eq!(status("by_field").code(), StatusCode::Error);
        assert_eq!(status("by_field").message, "no such row");
        assert_eq!(status("not_at_all").code(), StatusCode::Unset);
        assert_eq!(status("outer").code(), StatusCode::Unset);
    }
}

#[test]
fn a_span_that_is_open_in_the_end_is_exported_as_unfinished_unless_it_is_as_good_as_done() {
    for protocol in PROTOCOLS {
        let kept = Mutex::new(Vec::new());
        let run = Run::of(protocol, |clock| {
            let [once, twice] = [tracing::info_span!("once"), tracing::info_span!("twice")];
            once.in_scope(|| ns(clock, 5));
            twice.in_scope(|| ns(clock, 6));
            ns(clock, 7);
            twice.in_scope(|| ns(clock, 8));
            ns(clock, 9);
            kept.lock().unwrap().extend([once, twice]);
        });
        // Code often keeps a span longer than it needs it.
        let once = run.span("once");
        assert!(!is_unfinished(&once));
        assert_eq!(run.times(&once), (0, 5));
        // One that was entered again may be entered once more.
        let twice = run.span("twice");
        assert!(is_unfinished(&twice));
        assert_eq!(run.times(&twice), (0, 35));
        assert_eq!(twice.int("busy_ns"), Some(14));
    }
}

#[test]
fn the_chrome_trace_has_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let run = Run::with(
        Protocol::Grpc,
        |builder| builder.chrome(&path),
        |clock| {
            let layer = tracing::info_span!("layer");
            for _ in 0..3 {
                let _outer = tracing::info_span!("outer").entered();
                layer.in_scope(|| ns(clock, 1_000));
            }
        },
    );
    let trace = std::fs::read_to_string(path).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut in_chrome: Vec<_> = events
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|event| {
            let text = |key| event["args"][key].as_str().expect(key).to_owned();
            let name = event["name"].as_str().unwrap().to_owned();
            (text("span_id"), text("trace_id"), name)
        })
        .collect();
    let mut received: Vec<_> = run
        .receiver
        .spans()
        .iter()
        .map(|span| (span.span_id(), span.trace_id(), span.span.name.clone()))
        .collect();
    in_chrome.sort_unstable();
    received.sort_unstable();
    assert_eq!(in_chrome, received);
}

#[test]
fn the_slowest_operations_of_the_report_are_found_by_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let run = Run::with(
        Protocol::Grpc,
        |builder| builder.report_json(&path),
        |clock| {
            for number in 1..=100 {
                tracing::info_span!("query", number).in_scope(|| ns(clock, number * 1_000));
            }
        },
    );
    let report = std::fs::read_to_string(path).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let examples = report["sites"][0]["examples"].as_array().unwrap();
    assert!(!examples.is_empty());
    let spans = run.receiver.spans();
    let slowest = examples.iter().map(|example| {
        let id = example["span_id"].as_str().unwrap();
        let span = spans.iter().find(|span| span.span_id() == id).unwrap();
        assert_eq!(example["trace_id"], span.trace_id().as_str());
        let (start, end) = run.times(span);
        assert_eq!(example["start_ns"], start);
        assert_eq!(example["duration_ns"], end - start);
        span.int("number").unwrap()
    });
    assert!(slowest.max() == Some(100), "{examples:?}");
}

#[test]
fn sampling_by_ratio_keeps_whole_traces_and_exact_statistics() {
    const TRACES: u64 = 2_000;
    let receiver = Receiver::start();
    let otlp = otlp(&receiver, Protocol::HttpProtobuf).sample_ratio(0.25);
    let ended = rig::run(builder(), otlp, |_| {
        for number in 0..TRACES {
            let _root = tracing::info_span!("root", number).entered();
            tracing::info_span!("child", number).in_scope(|| ());
        }
    });
    let account = ended.account();
    assert_eq!(account.exported + account.sampled_out, 2 * TRACES);
    assert_eq!((account.refused, account.dropped), (0, 0));
    let share = account.exported as f64 / (2.0 * TRACES as f64);
    assert!((0.2..0.3).contains(&share), "{share}");
    let (roots, children) = (
        receiver.spans_by_name("root"),
        receiver.spans_by_name("child"),
    );
    assert_eq!(roots.len(), children.len());
    let ids: Vec<_> = roots.iter().map(ReceivedSpan::span_id).collect();
    assert!(
        children
            .iter()
            .all(|child| ids.contains(&child.parent_id()))
    );
    assert!(
        ended
            .profile()
            .sites
            .iter()
            .all(|row| row.stats.calls == TRACES)
    );
}

#[test]
fn errors_and_slow_traces_are_kept_whatever_the_ratio() {
    let receiver = Receiver::start();
    let clock = ManualClock::new();
    let otlp = otlp(&receiver, Protocol::HttpProtobuf)
        .sample_ratio(0.0)
        .keep_errors()
        .keep_slower_than("query", Duration::from_micros(5));
    let builder = builder().manual_clock(&clock);
    let ended = rig::run(builder, otlp, |_| {
        for number in 0..100_u64 {
            let _request = tracing::info_span!("request", number).entered();
            tracing::info_span!("query", number).in_scope(|| {
                ns(&clock, if number == 17 { 6_000 } else { 1_000 });
                if number == 42 {
                    tracing::error!("lost");
                }
            });
        }
    });
    let numbers = |name| {
        let spans = receiver.spans_by_name(name);
        let numbers = spans.iter().map(|span| span.int("number").unwrap());
        let mut numbers: Vec<i64> = numbers.collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers("query"), [17, 42]);
    assert_eq!(numbers("request"), [17, 42], "with all of their trace");
    ended.assert_complete(200);
    assert_eq!(ended.account().sampled_out, 196);
}
