//! Spans of futures.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

mod support;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::{Rig, capture, capture_with, check, path, site};
use tracing::{Instrument, info_span, instrument};
use tracing_cortex::{ManualClock, Nanos, SpanKind};

fn millis(milliseconds: u64) -> Nanos {
    Nanos::from(Duration::from_millis(milliseconds))
}

/// Takes some time in each poll and is ready in the last.
struct Steps {
    clock: ManualClock,
    lengths: Vec<u64>,
}

impl Steps {
    fn new(rig: &Rig, lengths: &[u64]) -> Steps {
        Steps {
            clock: rig.clock.clone(),
            lengths: lengths.iter().rev().copied().collect(),
        }
    }
}

impl Future for Steps {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let length = self.lengths.pop().unwrap();
        self.clock.advance(Duration::from_millis(length));
        if self.lengths.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

#[test]
fn latency_is_from_open_to_close_and_idle_what_was_not_polled() {
    let captured = capture(|rig| {
        rig.run(|| {
            let mut task = Box::pin(Steps::new(rig, &[2, 3, 5]).instrument(info_span!("task")));
            // Waiting for the first poll is a part of the latency.
            rig.ms(10);
            assert!(!poll(task.as_mut()));
            rig.ms(20);
            assert!(!poll(task.as_mut()));
            rig.ms(40);
            assert!(poll(task.as_mut()));
            rig.ms(80);
            drop(task);
        });
    });
    let stats = captured.site("task");
    // An instrumented future is entered once more when it is dropped.
    assert_eq!((stats.calls, stats.spans, stats.activations), (1, 1, 4));
    assert_eq!((stats.busy, stats.self_time), (millis(10), millis(10)));
    let latency = stats.latency.as_ref().unwrap();
    assert_eq!((latency.count, latency.sum), (1, millis(160)));
    assert_eq!(stats.idle, Some(millis(150)));
    assert_eq!(stats.first, Some(millis(160)));
    let records = captured.records.of("task");
    let polls: Vec<_> = records
        .iter()
        .filter(|span| span.kind == SpanKind::Poll)
        .map(|span| span.length() / 1_000_000)
        .collect();
    assert_eq!(polls, [2, 3, 5, 0]);
    let lives: Vec<_> = records
        .iter()
        .filter(|span| !span.is_activation())
        .collect();
    assert_eq!(lives.len(), 1);
    assert_eq!(
        lives[0].kind,
        SpanKind::Async {
            busy: millis(10),
            activations: 4
        }
    );
    assert_eq!((lives[0].start, lives[0].end), (0, 160_000_000));
}

#[test]
fn tasks_polled_in_turn_do_not_mix() {
    let captured = capture(|rig| {
        rig.run(|| {
            let mut one = Box::pin(Steps::new(rig, &[1, 1, 1]).instrument(info_span!("one")));
            let mut two = Box::pin(Steps::new(rig, &[10, 10, 10]).instrument(info_span!("two")));
            while !poll(one.as_mut()) {
                assert!(!poll(two.as_mut()));
            }
            assert!(poll(two.as_mut()));
        });
    });
    for (name, busy) in [("one", 3), ("two", 30)] {
        let stats = captured.site(name);
        assert_eq!((stats.calls, stats.busy), (1, millis(busy)), "{name}");
        assert_eq!(stats.idle, Some(millis(33 - busy)), "{name}");
    }
    assert_eq!(captured.profile.split.busy, millis(33));
}

#[test]
fn spans_inside_a_future_are_children_of_its_polls() {
    async fn work(rig: &Rig) {
        sync_part(rig, 1);
        Steps::new(rig, &[2, 2])
            .instrument(info_span!("inner"))
            .await;
        sync_part(rig, 4);
    }
    #[instrument(skip_all)]
    fn sync_part(rig: &Rig, length: u64) {
        rig.ms(length);
    }
    let captured = capture(|rig| {
        rig.run(|| {
            let mut task = Box::pin(work(rig).instrument(info_span!("outer")));
            while !poll(task.as_mut()) {
                rig.ms(100);
            }
        });
    });
    let inner = captured.path("outer > inner");
    assert_eq!((inner.calls, inner.spans, inner.busy), (1, 1, millis(4)));
    assert_eq!(inner.idle, Some(millis(100)));
    let parts = captured.path("outer > sync_part");
    assert_eq!(
        (parts.calls, parts.busy, parts.is_async()),
        (2, millis(5), false)
    );
    let outer = captured.site("outer");
    assert_eq!(
        (outer.calls, outer.busy, outer.self_time),
        (1, millis(9), Nanos::ZERO)
    );
}

#[instrument(skip(rig))]
async fn fetch(rig: &Rig, number: u32) -> u32 {
    Steps::new(rig, &[1, 2]).await;
    number + 1
}

#[test]
fn an_instrumented_async_fn_is_one_call_however_often_it_is_polled() {
    let captured = capture(|rig| {
        rig.run(|| {
            for number in 0..5 {
                let mut call = Box::pin(fetch(rig, number));
                assert!(!poll(call.as_mut()));
                rig.ms(10);
                assert!(poll(call.as_mut()));
            }
        });
    });
    let stats = captured.site("fetch");
    assert_eq!((stats.calls, stats.spans, stats.busy), (5, 5, millis(15)));
    assert_eq!(stats.idle, Some(millis(50)));
    let latency = stats.latency.as_ref().unwrap();
    assert_eq!(
        (latency.count, latency.min, latency.max),
        (5, millis(13), millis(13))
    );
}

#[test]
fn a_future_that_is_dropped_before_its_end_is_a_call_all_the_same() {
    let captured = capture(|rig| {
        rig.run(|| {
            let mut cancelled =
                Box::pin(Steps::new(rig, &[1, 1, 1]).instrument(info_span!("cancelled")));
            assert!(!poll(cancelled.as_mut()));
            rig.ms(5);
            drop(cancelled);
            drop(Steps::new(rig, &[1]).instrument(info_span!("never_polled")));
        });
    });
    let stats = captured.site("cancelled");
    assert_eq!(
        (stats.calls, stats.busy, stats.idle),
        (1, millis(1), Some(millis(5)))
    );
    assert_eq!(captured.site("never_polled").calls, 1);
}

#[test]
fn a_future_that_is_open_counts_as_one_call_so_far() {
    let rig = Rig::new(true, |builder| builder);
    rig.run(|| {
        let mut task = Box::pin(Steps::new(&rig, &[1; 11]).instrument(info_span!("task")));
        for _ in 0..10 {
            assert!(!poll(task.as_mut()));
        }
        let live = rig.guard.profile();
        check(&live, None);
        let stats = site(&live, "task");
        assert_eq!(
            (stats.calls, stats.spans, stats.activations, stats.open),
            (1, 1, 10, 1)
        );
        assert_eq!(stats.busy, millis(10));
        assert!(poll(task.as_mut()));
    });
    assert_eq!(rig.finish().site("task").calls, 1);
}

#[test]
fn a_future_that_is_open_over_a_reset_is_one_call_after_it() {
    let span = || info_span!("task");
    for streaming in [false, true] {
        let rig = Rig::new(streaming, |builder| builder);
        rig.run(|| {
            let mut old = Box::pin(Steps::new(&rig, &[1; 51]).instrument(span()));
            for _ in 0..50 {
                assert!(!poll(old.as_mut()));
            }
            rig.guard.reset();
            for _ in 0..10 {
                let mut new = Box::pin(Steps::new(&rig, &[1, 1]).instrument(span()));
                assert!(!poll(new.as_mut()));
                assert!(poll(new.as_mut()));
            }
            let live = rig.guard.profile();
            assert_eq!(site(&live, "task").calls, 10, "while it is open");
            assert!(poll(old.as_mut()));
            let live = rig.guard.profile();
            assert_eq!(site(&live, "task").calls, 11, "after its next poll");
        });
        let profile = rig.guard.finish().unwrap().profile().clone();
        check(&profile, None);
        let stats = site(&profile, "task");
        assert_eq!((stats.calls, stats.spans, stats.busy), (11, 11, millis(21)));
    }
}

#[test]
fn a_site_that_was_plain_and_turns_async_says_which_latencies_are_late() {
    let captured = capture(|rig| {
        rig.run(|| {
            let make = || info_span!("both");
            for _ in 0..100 {
                make().in_scope(|| rig.ms(1));
            }
            for _ in 0..3 {
                let mut task = Box::pin(Steps::new(rig, &[1, 1]).instrument(make()));
                rig.ms(10);
                assert!(!poll(task.as_mut()));
                assert!(poll(task.as_mut()));
            }
        });
    });
    let stats = captured.site("both");
    assert_eq!(
        (stats.calls, stats.spans, stats.busy),
        (103, 103, millis(106))
    );
    let latency = stats.latency.as_ref().unwrap();
    // The creation of the first was not noted, because all before it were plain.
    assert_eq!(captured.profile.losses.late_latencies, 1);
    assert_eq!(
        (latency.min, latency.max, latency.count),
        (millis(2), millis(12), 3)
    );
}

#[test]
fn a_future_that_migrates_has_the_latency_of_its_whole_life_as_its_first() {
    let captured = capture(|rig| {
        let clock = rig.clock.clone();
        let steps = Steps::new(rig, &[1, 2, 4]);
        let mut task = rig.on_thread("one", move || {
            let mut task = Box::pin(steps.instrument(info_span!("task")));
            clock.advance(Duration::from_millis(10));
            assert!(!poll(task.as_mut()));
            task
        });
        rig.ms(20);
        let mut task = rig.on_thread("two", move || {
            assert!(!poll(task.as_mut()));
            task
        });
        rig.ms(40);
        rig.on_thread("three", move || assert!(poll(task.as_mut())));
    });
    let stats = captured.site("task");
    assert_eq!((stats.calls, stats.spans, stats.activations), (1, 1, 4));
    assert_eq!((stats.busy, stats.idle), (millis(7), Some(millis(70))));
    assert_eq!(stats.first, Some(millis(77)));
    let threads: Vec<_> = captured
        .records
        .of("task")
        .iter()
        .filter(|span| span.is_activation())
        .map(|span| span.thread.clone().unwrap())
        .collect();
    assert_eq!(threads.len(), 4);
    assert_eq!(threads.iter().filter(|name| *name == "two").count(), 1);
}

const TASKS: u64 = 10_000;

#[instrument]
async fn request(number: u64) -> u64 {
    tokio::task::yield_now().await;
    let part = lookup(number).await;
    tokio::task::yield_now().await;
    part
}

#[instrument(skip_all)]
async fn lookup(number: u64) -> u64 {
    tokio::task::yield_now().await;
    info_span!("hash").in_scope(|| number.wrapping_mul(0x9E37_79B9))
}

fn serve(streaming: bool) {
    let rig = Rig::new(streaming, |builder| {
        builder.overflow(tracing_cortex::Overflow::Block)
    });
    let dispatch = rig.dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .on_thread_start(move || {
            // The runtime's workers have no subscriber of their own; this one is for as long as they live.
            std::mem::forget(tracing::dispatcher::set_default(&dispatch));
        })
        .build()
        .unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    rig.run(|| {
        runtime.block_on(async move {
            let tasks: Vec<_> = (0..TASKS)
                .map(|number| {
                    let done = Arc::clone(&counted);
                    let task = async move {
                        request(number).await;
                        done.fetch_add(1, Relaxed);
                    };
                    tokio::spawn(task.instrument(info_span!("client")))
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
    drop(runtime);
    assert_eq!(done.load(Relaxed), TASKS);
    let captured = rig.finish();
    for name in [
        "client",
        "client > request",
        "client > request > lookup",
        "client > request > lookup > hash",
    ] {
        let stats = captured.path(name);
        assert_eq!(
            (stats.calls, stats.spans, stats.open),
            (TASKS, TASKS, 0),
            "{name}"
        );
        assert_eq!(stats.is_async(), !name.ends_with("hash"), "{name}");
        if let Some(latency) = &stats.latency {
            assert_eq!(latency.count, TASKS, "{name}");
        }
    }
    // Per task: polled at first and after each of three yields, and entered once more to be dropped.
    assert_eq!(captured.site("client").activations, 5 * TASKS);
    assert_eq!(captured.site("request").activations, 5 * TASKS);
    assert_eq!(captured.site("lookup").activations, 3 * TASKS);
    assert_eq!(captured.profile.paths.len(), 4, "no path but the four");
    let losses = &captured.profile.losses;
    assert_eq!(
        (
            losses.unbalanced_exits,
            losses.nested_enters,
            losses.unknown_spans
        ),
        (0, 0, 0)
    );
}

#[test]
fn ten_thousand_tasks_that_migrate_between_workers_are_counted_exactly() {
    for _ in 0..3 {
        serve(false);
        serve(true);
    }
}

#[test]
fn the_windows_of_an_async_site_add_up_to_its_calls() {
    let captured = capture(|rig| {
        rig.run(|| {
            let mut task = Box::pin(Steps::new(rig, &[1; 500]).instrument(info_span!("task")));
            for _ in 0..400 {
                assert!(!poll(task.as_mut()));
            }
            rig.ms(1000);
            // Windows are closed by the collector.
            support::wait_for(|| rig.guard.profile().throughput.per_window.len() > 1);
            while !poll(task.as_mut()) {}
        });
    });
    let row = captured
        .profile
        .sites
        .iter()
        .find(|row| row.site.name == "task")
        .unwrap();
    assert_eq!(row.per_window.iter().sum::<u64>(), 1);
    assert_eq!(row.per_window, captured.profile.throughput.per_window);
}

#[test]
fn a_span_entered_by_hand_between_polls_of_different_tasks_is_not_theirs() {
    let captured = capture_with(
        |builder| builder,
        |rig| {
            let queue = Mutex::new(Vec::new());
            rig.run(|| {
                for _ in 0..4 {
                    let task = Steps::new(rig, &[1, 1]).instrument(info_span!("task"));
                    queue.lock().unwrap().push(Box::pin(task));
                }
                let mut tasks = queue.lock().unwrap();
                let mut executor = pin!(async {
                    for task in tasks.iter_mut() {
                        task.as_mut().await;
                    }
                });
                while !poll(executor.as_mut()) {
                    info_span!("executor").in_scope(|| rig.ms(10));
                }
            });
        },
    );
    assert_eq!(path(&captured.profile, "task").calls, 4);
    assert_eq!(path(&captured.profile, "executor").calls, 4);
}
