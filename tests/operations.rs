//! Operations: what sinks for tracing backends get, with ids that agree wherever they appear.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracing::{Instrument, Span, error, info, info_span};
use tracing_cortex::{CortexLayer, CortexSpanExt, Diagnosis, Ids, Link, ManualClock, Operation};
use tracing_cortex::{Profile, SetParentError, Sink, SinkError, SpanId, TraceContext, TraceId};
use tracing_cortex::{TreeValue, Wants, report_json};
use tracing_subscriber::prelude::*;

/// An [`Operation`] that lives on.
#[derive(Debug, Clone)]
struct Kept {
    name: String,
    ids: Ids,
    start: u64,
    end: u64,
    busy: u64,
    activations: u32,
    fields: HashMap<&'static str, String>,
    events: Vec<(u64, String)>,
    links: Vec<Link>,
    trace_state: Option<String>,
    unfinished: bool,
}

#[derive(Clone, Default)]
struct Operations(Arc<Mutex<Vec<Kept>>>);

impl Sink for Operations {
    fn name(&self) -> &str {
        "operations"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.operations = true;
        wants.fields = true;
        wants
    }

    fn operations(&mut self, batch: &[Operation<'_>]) -> Result<(), SinkError> {
        let kept = batch.iter().map(|operation| Kept {
            name: operation.display_name().to_owned(),
            ids: operation.ids,
            start: operation.start.0,
            end: operation.end.0,
            busy: operation.busy.0,
            activations: operation.activations,
            fields: operation
                .fields
                .iter()
                .map(|(name, value)| (name, format!("{value:?}")))
                .collect(),
            events: operation
                .events
                .iter()
                .map(|event| (event.at.0, format!("{:?}", event.fields.get("message"))))
                .collect(),
            links: operation.fields.links().collect(),
            trace_state: operation.fields.trace_state().map(str::to_owned),
            unfinished: operation.unfinished,
        });
        self.0.lock().unwrap().extend(kept);
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

struct Captured {
    operations: Vec<Kept>,
    profile: Profile,
}

impl Captured {
    fn all(&self, name: &str) -> Vec<&Kept> {
        let named = |kept: &&Kept| kept.name == name;
        self.operations.iter().filter(named).collect()
    }

    fn one(&self, name: &str) -> &Kept {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name}: {:#?}", self.operations);
        all[0]
    }
}

fn capture(program: impl FnOnce(&ManualClock)) -> Captured {
    let clock = ManualClock::new();
    let sink = Operations::default();
    let (layer, guard) = CortexLayer::builder()
        .manual_clock(&clock)
        .no_resources()
        .sink(sink.clone())
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        program(&clock);
    });
    let profile = guard.finish().unwrap().profile().clone();
    let operations = sink.0.lock().unwrap().clone();
    Captured {
        operations,
        profile,
    }
}

fn ms(clock: &ManualClock, milliseconds: u64) {
    clock.advance(Duration::from_millis(milliseconds));
}

#[track_caller]
fn assert_child(child: &Kept, parent: &Kept) {
    assert_eq!(child.ids.trace, parent.ids.trace);
    assert_eq!(child.ids.parent, Some(parent.ids.span));
}

/// Polls a future by hand, `between` after each poll that it is not done with.
fn poll_all(future: impl Future<Output = ()>, mut between: impl FnMut()) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {
        between();
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|_| {
        let ready = std::mem::replace(&mut yielded, true);
        if ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[test]
fn nested_spans_are_one_trace_and_separate_roots_are_several() {
    let captured = capture(|clock| {
        for _ in 0..2 {
            let _root = info_span!("root").entered();
            let _middle = info_span!("middle").entered();
            info_span!("leaf").in_scope(|| ms(clock, 1));
        }
    });
    let roots = captured.all("root");
    let (middles, leaves) = (captured.all("middle"), captured.all("leaf"));
    assert_eq!((roots.len(), middles.len(), leaves.len()), (2, 2, 2));
    assert_ne!(roots[0].ids.trace, roots[1].ids.trace);
    for at in 0..2 {
        assert_eq!(roots[at].ids.parent, None);
        assert_child(middles[at], roots[at]);
        assert_child(leaves[at], middles[at]);
    }
    let ids: HashSet<_> = captured
        .operations
        .iter()
        .map(|kept| kept.ids.span)
        .collect();
    assert_eq!(ids.len(), 6);
}

#[test]
fn the_program_may_name_the_parent_or_say_that_there_is_none() {
    let captured = capture(|_| {
        let other = info_span!("other");
        let _outer = info_span!("outer").entered();
        info_span!(parent: None, "alone").in_scope(|| info_span!("inside").in_scope(|| ()));
        info_span!(parent: &other, "adopted").in_scope(|| ());
    });
    let alone = captured.one("alone");
    assert_eq!(alone.ids.parent, None);
    assert_ne!(alone.ids.trace, captured.one("outer").ids.trace);
    assert_child(captured.one("inside"), alone);
    assert_child(captured.one("adopted"), captured.one("other"));
}

#[test]
fn an_async_span_is_one_operation_from_open_to_close() {
    let captured = capture(|clock| {
        let request = info_span!("request");
        let work = async {
            ms(clock, 2);
            info!("half way");
            yield_once().await;
            ms(clock, 3);
        };
        let task = request.in_scope(|| work.instrument(info_span!("task")));
        poll_all(task, || ms(clock, 10));
    });
    let task = captured.one("task");
    assert_child(task, captured.one("request"));
    assert_eq!(
        (task.start, task.end, task.busy),
        (0, 15_000_000, 5_000_000)
    );
    assert!(task.activations >= 2);
    assert_eq!(task.events.len(), 1);
    assert_eq!(task.events[0].0, 2_000_000);
}

#[test]
fn each_call_through_a_held_span_is_an_operation_under_what_is_around_it() {
    let captured = capture(|clock| {
        let (layer, attention) = (info_span!("layer"), info_span!("attention"));
        for step in 0..4 {
            let _batch = info_span!("batch").entered();
            let _layer = layer.enter();
            ms(clock, 1);
            attention.in_scope(|| {
                ms(clock, 1);
                info!(step, "attended");
            });
        }
    });
    let batches = captured.all("batch");
    let (layers, attentions) = (captured.all("layer"), captured.all("attention"));
    assert_eq!((batches.len(), layers.len(), attentions.len()), (4, 4, 4));
    for batch in batches {
        let inside = |name, parent: &Kept| {
            let of = |kept: &&&Kept| kept.ids.parent == Some(parent.ids.span);
            let found: Vec<_> = captured.all(name);
            let found: Vec<_> = found.iter().filter(of).copied().cloned().collect();
            assert_eq!(found.len(), 1, "{name} in {parent:?}");
            assert_eq!(found[0].ids.trace, parent.ids.trace);
            found[0].clone()
        };
        let layer = inside("layer", batch);
        let attention = inside("attention", &layer);
        assert_eq!(attention.events.len(), 1);
        assert_eq!(attention.end - attention.start, 1_000_000);
    }
}

#[test]
fn a_call_inside_a_held_call_tells_the_context_of_that_call() {
    let mut told = Vec::new();
    let captured = capture(|_| {
        let held = info_span!("held");
        for _ in 0..3 {
            let _step = info_span!("step").entered();
            held.in_scope(|| told.push(Span::current().trace_context().unwrap()));
        }
    });
    let calls = captured.all("held");
    let told: HashSet<_> = told
        .iter()
        .map(|told| (told.trace_id(), told.span_id()))
        .collect();
    let seen: HashSet<_> = calls
        .iter()
        .map(|call| (call.ids.trace, call.ids.span))
        .collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told, seen);
}

#[test]
fn an_event_of_another_thread_reaches_its_operation() {
    for _ in 0..50 {
        let captured = capture(|_| {
            let span = info_span!("shared");
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let of_thread = span.clone();
            std::thread::spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    info!(parent: &of_thread, "from afar");
                    drop(of_thread);
                });
            })
            .join()
            .unwrap();
            span.in_scope(|| error!("at home"));
        });
        assert_eq!(captured.one("shared").events.len(), 2);
    }
}

#[test]
fn a_trace_of_another_process_goes_on_here() {
    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let parent = TraceContext::parse(header)
        .unwrap()
        .with_trace_state("vendor=1")
        .with_baggage("user=7");
    let mut sent = Vec::new();
    let captured = capture(|_| {
        let request = info_span!("request");
        request.set_remote_parent(&parent).unwrap();
        let _request = request.entered();
        let _query = info_span!("query").entered();
        Span::current().inject(|name, value| sent.push((name, value.to_owned())));
    });
    let (request, query) = (captured.one("request"), captured.one("query"));
    assert_eq!(request.ids.trace, parent.trace_id());
    assert_eq!(request.ids.parent, Some(parent.span_id()));
    assert!(request.ids.parent_is_remote && request.ids.remote_trace);
    assert_eq!(request.trace_state.as_deref(), Some("vendor=1"));
    assert_child(query, request);
    assert!(!query.ids.parent_is_remote);
    let expected = format!("00-{}-{}-01", query.ids.trace, query.ids.span);
    assert_eq!(
        sent,
        [
            ("traceparent", expected),
            ("tracestate", "vendor=1".to_owned()),
            ("baggage", "user=7".to_owned()),
        ]
    );
}

#[test]
fn that_a_trace_is_not_sampled_is_handed_down() {
    let parent = TraceContext::new(TraceId(5), SpanId(6), false);
    let mut told = None;
    let captured = capture(|_| {
        let request = info_span!("request");
        request.set_remote_parent(&parent).unwrap();
        request.in_scope(|| {
            info_span!("inner").in_scope(|| told = Span::current().trace_context());
        });
        info_span!("later").in_scope(|| ());
    });
    assert!(!captured.one("request").ids.sampled);
    assert!(!captured.one("inner").ids.sampled);
    assert!(captured.one("later").ids.sampled);
    assert!(!told.unwrap().sampled());
}

#[test]
fn a_parent_may_be_set_at_the_beginning_of_a_function_but_not_later() {
    let parent = TraceContext::new(TraceId(5), SpanId(6), true);
    let mut results = Vec::new();
    let captured = capture(|_| {
        {
            let _early = info_span!("early").entered();
            results.push(Span::current().set_remote_parent(&parent));
            info_span!("below").in_scope(|| ());
        }
        {
            let _late = info_span!("late").entered();
            info_span!("below_late").in_scope(|| ());
            results.push(Span::current().set_remote_parent(&parent));
        }
        {
            let told = info_span!("told");
            told.trace_context().unwrap();
            results.push(told.set_remote_parent(&parent));
        }
        results.push(Span::none().set_remote_parent(&parent));
    });
    let expected = [
        Ok(()),
        Err(SetParentError::TooLate),
        Err(SetParentError::TooLate),
        Err(SetParentError::NoLayer),
    ];
    assert_eq!(results, expected);
    assert_eq!(captured.one("early").ids.trace, parent.trace_id());
    assert_child(captured.one("below"), captured.one("early"));
    assert_ne!(captured.one("late").ids.trace, parent.trace_id());
}

#[test]
fn links_name_spans_of_this_and_of_other_processes() {
    let message = TraceContext::new(TraceId(77), SpanId(78), true);
    let captured = capture(|_| {
        let cause = info_span!("cause");
        let effect = info_span!("effect");
        effect.follows_from(&cause);
        effect.add_link(&message).unwrap();
        cause.in_scope(|| ());
        effect.in_scope(|| ());
    });
    let cause = captured.one("cause");
    let expected = [
        Link::new(cause.ids.trace, cause.ids.span),
        Link::new(message.trace_id(), message.span_id()),
    ];
    assert_eq!(captured.one("effect").links, expected);
}

#[test]
fn spans_that_are_open_in_the_end_are_operations_with_their_fields() {
    let clock = ManualClock::new();
    let sink = Operations::default();
    let (layer, guard) = CortexLayer::builder()
        .manual_clock(&clock)
        .no_resources()
        .sink(sink.clone())
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let _outer = info_span!("outer", job = 7).entered();
        let _inner = info_span!("inner").entered();
        info!("working");
        ms(&clock, 5);
        guard.finish().unwrap();
    });
    let operations = sink.0.lock().unwrap().clone();
    let captured = Captured {
        operations,
        profile: Profile::default(),
    };
    let (outer, inner) = (captured.one("outer"), captured.one("inner"));
    assert!(outer.unfinished && inner.unfinished);
    assert_child(inner, outer);
    assert_eq!(outer.fields["job"], "I64(7)");
    assert_eq!(inner.events.len(), 1);
    assert_eq!(outer.end, 5_000_000);
}

#[test]
fn the_slowest_operations_are_examples_in_the_profile_and_in_the_report() {
    let captured = capture(|clock| {
        for length in [3, 9, 1, 7, 5] {
            info_span!("work").in_scope(|| ms(clock, length));
        }
    });
    let examples = &captured.profile.sites[0].examples;
    let durations: Vec<_> = examples
        .iter()
        .map(|example| example.duration.0 / 1_000_000)
        .collect();
    assert_eq!(durations, [9, 7, 5]);
    let slowest = captured
        .all("work")
        .into_iter()
        .find(|kept| kept.end - kept.start == 9_000_000)
        .unwrap();
    assert_eq!(examples[0].span_id, slowest.ids.span);
    let mut report = Vec::new();
    let diagnosis =
        tracing_cortex::diagnose(&captured.profile, &tracing_cortex::Thresholds::default());
    report_json(&captured.profile, &diagnosis, &mut report).unwrap();
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains(&format!("\"trace_id\":\"{}\"", slowest.ids.trace)));
}

/// Ids, fields and what a record says for its tree share a few words.
#[test]
fn the_trees_of_a_capture_are_made_of_the_same_operations() {
    // As many as the first thread samples, and enough that the later ones are of callsites that are known to be plain.
    const ROOTS: u64 = 16;
    let captured = capture(|clock| {
        for root in 0..ROOTS {
            let _root = info_span!("root", rows = root).entered();
            for _ in 0..4 {
                let _query = info_span!("query", user = "me", db.query.text = "select 1").entered();
                ms(clock, 1);
                info_span!("parse", len = ?Some(root)).in_scope(|| ms(clock, 1));
                if root % 2 == 1 {
                    error!("failed");
                }
            }
        }
    });
    let by_span: HashMap<_, _> = captured
        .operations
        .iter()
        .map(|kept| (kept.ids.span, (kept.name.as_str(), kept.start)))
        .collect();
    let operations: HashSet<_> = captured
        .operations
        .iter()
        .map(|kept| {
            let parent = kept.ids.parent.map(|parent| by_span[&parent]);
            (kept.name.as_str(), kept.start, kept.end, parent)
        })
        .collect();

    let trees = &captured.profile.trees[0];
    assert_eq!(trees.kept.len(), ROOTS as usize);
    let mut in_trees = HashSet::new();
    for (root, kept) in trees.kept.iter().enumerate() {
        let spans = &kept.tree.spans;
        for span in spans {
            let parent = span.parent.map(|parent| {
                let parent = &spans[parent as usize];
                (parent.site.name, parent.start.0)
            });
            in_trees.insert((span.site.name, span.start.0, span.end.0, parent));
            let fields = span.fields.iter();
            let fields: Vec<_> = fields.map(|field| (field.name, &field.value)).collect();
            let failed = root % 2 == 1 && span.site.name == "query";
            assert_eq!(span.error, failed, "{root}: {span:?}");
            let (name, value) = match span.site.name {
                "root" => ("rows", TreeValue::Integer(root as i64)),
                "query" => ("db.query.text", TreeValue::Text("select 1".into())),
                _ => ("len", TreeValue::Text(format!("Some({root})").into())),
            };
            assert_eq!(fields, [(name, &value)]);
        }
    }
    assert_eq!(operations.len(), ROOTS as usize * 9);
    assert_eq!(in_trees, operations);
}

#[test]
fn a_chrome_trace_shows_the_same_ids() {
    let sink = Operations::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .sink(sink.clone())
        .chrome(&path)
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("outer").in_scope(|| info_span!("inner", n = 1).in_scope(|| ()));
    });
    guard.finish().unwrap();
    let trace: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let bars: HashMap<_, _> = trace["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|bar| (bar["name"].as_str().unwrap(), &bar["args"]))
        .collect();
    for kept in sink.0.lock().unwrap().iter() {
        let args = bars[kept.name.as_str()];
        assert_eq!(args["trace_id"], kept.ids.trace.to_string());
        assert_eq!(args["span_id"], kept.ids.span.to_string());
    }
    assert_eq!(bars.len(), 2);
}

#[test]
fn two_hundred_thousand_spans_at_full_speed_are_all_operations() {
    const SPANS: usize = 200_000;
    let sink = Operations::default();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .sink(sink.clone())
        .exit_deadline(Duration::from_secs(60))
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..SPANS {
            info_span!("burst").in_scope(|| ());
        }
    });
    let summary = guard.finish().unwrap();
    assert_eq!(summary.profile().losses.dropped_spans, 0);
    assert_eq!(sink.0.lock().unwrap().len(), SPANS);
}
