//! Which trees of operations a capture keeps, and what they look like.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's exceptions for tests do not reach helpers"
)]

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::Rig;
use tracing::{Instrument, Span, info_span};
use tracing_cortex::{
    CortexLayer, OperationTree, Profile, ProfilingLevel, RootTrees, TreeKind, TreeValue,
};
use tracing_subscriber::prelude::*;

fn group<'p>(profile: &'p Profile, root: &str) -> &'p RootTrees {
    let mut groups = profile.trees.iter();
    groups.find(|group| group.site.name == root).unwrap()
}

fn only<'p>(profile: &'p Profile, root: &str) -> &'p OperationTree {
    let group = group(profile, root);
    assert_eq!(group.kept.len(), 1);
    &group.kept[0].tree
}

/// Names with the index of the parent, start and end in milliseconds.
fn shape(tree: &OperationTree) -> Vec<(&'static str, Option<u32>, u64, u64)> {
    let spans = tree.spans.iter();
    spans
        .map(|span| {
            let ms = |at: tracing_cortex::Nanos| at.0 / 1_000_000;
            (span.site.name, span.parent, ms(span.start), ms(span.end))
        })
        .collect()
}

/// A future that is ready at the second poll.
async fn twice() {
    let mut asked = false;
    std::future::poll_fn(|_| {
        let ready = if asked {
            Poll::Ready(())
        } else {
            Poll::Pending
        };
        asked = true;
        ready
    })
    .await;
}

#[test]
fn nested_spans_and_calls_through_held_ones_are_one_tree() {
    for streaming in [false, true] {
        let rig = Rig::new(streaming, |builder| builder);
        rig.run(|| {
            let held = info_span!("layer");
            for _ in 0..3 {
                info_span!("root", rows = 7, user = "me").in_scope(|| {
                    rig.ms(1);
                    for _ in 0..2 {
                        held.in_scope(|| {
                            rig.ms(2);
                            info_span!("matmul", db.query.text = "select 1").in_scope(|| rig.ms(3));
                        });
                    }
                });
            }
        });
        let captured = rig.finish();
        let group = group(&captured.profile, "root");
        assert_eq!((group.roots, group.seen, group.kept.len()), (3, 3, 3));
        let last = &group.kept[2].tree;
        assert_eq!(
            shape(last),
            [
                ("root", None, 22, 33),
                ("layer", Some(0), 23, 28),
                ("matmul", Some(1), 25, 28),
                ("layer", Some(0), 28, 33),
                ("matmul", Some(3), 30, 33),
            ]
        );
        assert_eq!(last.spans[1].kind, TreeKind::Call);
        assert_eq!(last.wall().0, 11_000_000);
        let fields = |at: usize| -> Vec<_> {
            let fields = last.spans[at].fields.iter();
            fields
                .map(|field| (field.name, field.value.clone()))
                .collect()
        };
        assert_eq!(fields(0), [("rows", TreeValue::Integer(7))]);
        assert_eq!(
            fields(2),
            [("db.query.text", TreeValue::Text("select 1".into()))]
        );
        assert_eq!(captured.profile.losses.dropped_spans, 0);
    }
}

#[test]
fn an_async_root_has_its_polls_and_what_other_threads_did_for_it() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        let root = info_span!("request");
        let inner = root.in_scope(|| {
            rig.ms(1);
            info_span!("query")
        });
        let mut future = pin!(twice().instrument(inner.clone()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(
            root.in_scope(|| future.as_mut().poll(&mut context))
                .is_pending()
        );
        rig.ms(10);
        let of_thread = root.clone();
        rig.on_thread("worker", move || {
            info_span!(parent: &of_thread, "parse").in_scope(|| ());
        });
        assert!(
            root.in_scope(|| future.as_mut().poll(&mut context))
                .is_ready()
        );
    });
    let captured = rig.finish();
    let tree = only(&captured.profile, "request");
    let names: Vec<_> = tree
        .spans
        .iter()
        .map(|span| (span.site.name, span.parent))
        .collect();
    assert_eq!(
        names,
        [("request", None), ("query", Some(0)), ("parse", Some(0))]
    );
    assert_eq!(tree.spans[0].kind, TreeKind::Async);
    assert_eq!(tree.spans[0].activation_count, 3);
    assert_eq!(tree.spans[0].activations.len(), 3);
    let threads: Vec<_> = tree.spans.iter().map(|span| span.thread).collect();
    assert_ne!(threads[1], threads[2]);
    assert!(!tree.truncated);
}

#[test]
fn a_child_on_another_thread_may_end_after_its_parent() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        let root = info_span!("handle");
        let child = root.in_scope(|| {
            let child = info_span!("log");
            rig.ms(5);
            child
        });
        let clock = rig.clock.clone();
        rig.on_thread("writer", move || {
            child.in_scope(|| clock.advance(Duration::from_millis(20)));
        });
    });
    let captured = rig.finish();
    assert_eq!(
        shape(only(&captured.profile, "handle")),
        [("handle", None, 0, 5), ("log", Some(0), 0, 25)],
        "open to close, as it was handed over"
    );
}

#[test]
fn a_root_that_never_ends_is_kept_as_unfinished() {
    let rig = Rig::new(false, |builder| builder);
    let root = rig.run(|| {
        let root = info_span!("serve").entered();
        info_span!("accept").in_scope(|| rig.ms(3));
        info_span!("failed").in_scope(|| {
            tracing::error!("no");
            rig.ms(1);
        });
        assert!(rig.guard.profile().trees.is_empty());
        root
    });
    let captured = rig.finish();
    let tree = only(&captured.profile, "serve");
    assert_eq!(
        shape(tree),
        [
            ("serve", None, 0, 4),
            ("accept", Some(0), 0, 3),
            ("failed", Some(0), 3, 4)
        ]
    );
    let unfinished: Vec<_> = tree.spans.iter().map(|span| span.unfinished).collect();
    assert_eq!(unfinished, [true, false, false]);
    assert_eq!(
        tree.spans.iter().map(|span| span.error).collect::<Vec<_>>(),
        [false, false, true]
    );
    drop(root);
}

#[test]
fn a_root_with_too_much_inside_is_truncated_and_the_next_one_is_not() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        for spans in [30_000, 10] {
            info_span!("import").in_scope(|| {
                for at in 0..spans {
                    info_span!("row").in_scope(|| ());
                    // The collector needs time to follow a program that only makes spans.
                    if at % 4_000 == 0 {
                        rig.guard.flush(Duration::from_secs(10)).unwrap();
                    }
                }
            });
        }
    });
    let captured = rig.finish();
    let group = group(&captured.profile, "import");
    let trees: Vec<_> = group
        .kept
        .iter()
        .map(|kept| (kept.tree.spans.len(), kept.tree.truncated))
        .collect();
    assert_eq!(trees, [(10_000, true), (11, false)]);
    assert_eq!(captured.profile.losses.dropped_spans, 0);
}

#[test]
fn of_many_roots_few_trees_are_kept_and_all_are_counted() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        for _ in 0..5_000 {
            info_span!("tick").in_scope(|| rig.ms(1));
        }
        for _ in 0..3 {
            info_span!("rare").in_scope(|| rig.ms(1));
        }
    });
    let captured = rig.finish();
    let tick = group(&captured.profile, "tick");
    assert_eq!((tick.roots, tick.wall.0), (5_000, 5_000_000_000));
    assert!((16..1_000).contains(&tick.seen), "{}", tick.seen);
    assert!(tick.kept.len() >= 16 && tick.kept.len() <= 32);
    assert_eq!(tick.kept.iter().filter(|kept| kept.slowest).count(), 8);
    assert_eq!(group(&captured.profile, "rare").seen, 3);
    assert_eq!(captured.profile.trees[0].site.name, "tick", "longest first");
}

#[test]
fn without_trees_nothing_is_streamed() {
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .level(ProfilingLevel::Basic)
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || info_span!("root").in_scope(|| ()));
    assert!(guard.finish().unwrap().profile().trees.is_empty());
}

#[test]
fn a_sink_that_streams_gets_the_same_records_with_and_without_trees() {
    let records = |level| {
        let rig = Rig::new(true, |builder| builder.level(level));
        rig.run(|| {
            for _ in 0..200 {
                info_span!("root").in_scope(|| {
                    rig.ms(1);
                    let held: Span = info_span!("held", n = 3);
                    held.in_scope(|| rig.ms(1));
                    held.in_scope(|| rig.ms(1));
                });
            }
        });
        let captured = rig.finish();
        let spans: Vec<_> = captured
            .records
            .spans
            .iter()
            .map(|span| (span.site, span.start, span.end, span.fields.len()))
            .collect();
        spans
    };
    let basic = records(ProfilingLevel::Basic);
    assert_eq!(basic.len(), 200 * 3 + 200);
    assert_eq!(records(ProfilingLevel::Standard), basic);
}

/// Waits like a request to another service.
#[tracing::instrument]
async fn fetch(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Computes on the thread that polls it.
#[tracing::instrument]
async fn render(ms: u64) {
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(ms) {
        std::hint::black_box(begin);
    }
}

#[tracing::instrument]
async fn request() {
    let writer = tokio::spawn(fetch(200).instrument(info_span!("background")));
    let other = tokio::spawn(render(10).in_current_span());
    tokio::join!(fetch(60), fetch(20));
    other.await.unwrap();
    drop(writer);
}

#[test]
fn on_a_real_runtime_the_path_goes_through_what_was_awaited() {
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let of_threads = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .on_thread_start(move || {
            // Kept for as long as the worker lives.
            std::mem::forget(tracing::dispatcher::set_default(&of_threads));
        })
        .build()
        .unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        runtime.block_on(async {
            for _ in 0..5 {
                tokio::spawn(request()).await.unwrap();
            }
        });
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    let summary = guard.finish().unwrap();
    let trees = group(summary.profile(), "request");
    assert_eq!((trees.roots, trees.kept.len()), (5, 5));
    for kept in &trees.kept {
        let names: Vec<_> = kept.tree.spans.iter().map(|span| span.site.name).collect();
        assert_eq!(
            names.iter().filter(|&&name| name == "fetch").count(),
            3,
            "{names:?}"
        );
        assert!(
            names.contains(&"render") && names.contains(&"background"),
            "{names:?}"
        );
    }
    let path = summary.diagnosis().critical_path.clone().unwrap();
    assert_eq!((path.trees, path.roots), (5, 5));
    let of = |name: &str| path.sites.iter().find(|site| site.site == name);
    let fetch = of("fetch").unwrap();
    // Five times 60 ms, of which a busy machine may give a part to `render`.
    assert_eq!(path.sites[0].site, "fetch");
    assert!(fetch.time.0 >= 150_000_000, "{path:#?}");
    assert!(of("background").is_none(), "{path:#?}");
    assert!(
        fetch.saving > 0.0 && fetch.saving <= fetch.saving_most,
        "{fetch:#?}"
    );
}
