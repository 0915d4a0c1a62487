//! Spans on many threads, and spans that are handed over.

mod support;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use support::{Rig, assert_row, capture, check, site};
use tracing::{Span, info_span};
use tracing_cortex::{Nanos, SpanKind};

fn millis(milliseconds: u64) -> Nanos {
    Nanos::from(Duration::from_millis(milliseconds))
}

#[test]
fn each_thread_has_its_own_row() {
    let work = || info_span!("work");
    let captured = capture(|rig| {
        rig.ms(100);
        for (name, length) in [("short", 1), ("long", 10)] {
            let clock = rig.clock.clone();
            rig.on_thread(name, move || {
                work().in_scope(|| clock.advance(Duration::from_millis(length)));
                clock.advance(Duration::from_millis(5));
                work().in_scope(|| clock.advance(Duration::from_millis(length)));
                clock.advance(Duration::from_millis(7));
            });
        }
        rig.ms(100);
    });
    let rows: Vec<_> = captured
        .profile
        .threads
        .iter()
        .map(|row| {
            (
                row.name.as_str(),
                row.busy,
                row.idle,
                row.activations,
                row.ended,
            )
        })
        .collect();
    // The busiest first; each observed from its first span to its end.
    assert_eq!(
        rows,
        [
            ("long", millis(20), millis(12), 2, true),
            ("short", millis(2), millis(12), 2, true),
        ]
    );
    assert_row(captured.site("work"), 4, 4, 22, 22);
    let row = &captured.profile.sites[0];
    assert_eq!((row.threads, row.self_max_thread), (2, millis(20)));
    assert_eq!(captured.profile.split.thread_time, millis(46));
    if cfg!(target_os = "linux") {
        let ids: Vec<_> = captured
            .profile
            .threads
            .iter()
            .map(|row| row.tid.unwrap())
            .collect();
        assert_ne!(ids[0], ids[1]);
    }
}

#[test]
fn a_thread_pool_counts_every_job_once() {
    const WORKERS: usize = 4;
    const JOBS: u64 = 500;
    let captured = capture(|rig| {
        let start = Arc::new(Barrier::new(WORKERS));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let start = Arc::clone(&start);
                rig.spawn(&format!("pool-{worker}"), move || {
                    start.wait();
                    for job in 0..JOBS {
                        let _job = info_span!("job").entered();
                        info_span!("part").in_scope(|| std::hint::black_box(job));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
    });
    let jobs = WORKERS as u64 * JOBS;
    assert_row(captured.site("job"), jobs, jobs, 0, 0);
    assert_row(captured.path("job > part"), jobs, jobs, 0, 0);
    assert_eq!(captured.profile.threads.len(), WORKERS);
    assert!(
        captured
            .profile
            .threads
            .iter()
            .all(|row| row.activations == 2 * JOBS)
    );
}

#[test]
fn a_span_entered_and_closed_elsewhere_counts_where_it_ran() {
    let captured = capture(|rig| {
        let clock = rig.clock.clone();
        let span = rig.run(|| info_span!("outer").in_scope(|| info_span!("moved")));
        rig.ms(10);
        rig.on_thread("other", move || {
            span.in_scope(|| clock.advance(Duration::from_millis(3)));
            clock.advance(Duration::from_millis(4));
            drop(span);
        });
    });
    // Nothing is entered on the other thread, so the declared parent is around it.
    let moved = captured.path("outer > moved");
    assert_row(moved, 1, 1, 3, 3);
    // Handed over, so the time from its creation to its close says something.
    assert_eq!(moved.latency.as_ref().unwrap().sum, millis(17));
    assert_eq!(moved.idle, Some(millis(14)));
    // A registry keeps the parent open until its child is closed, here on the other thread. It is plain all the same.
    let outer = captured.site("outer");
    assert_row(outer, 1, 1, 0, 0);
    assert!(!outer.is_async());
    let other = captured
        .profile
        .threads
        .iter()
        .find(|row| row.name == "other")
        .unwrap();
    assert_eq!((other.busy, other.idle), (millis(3), millis(4)));
    let activation = captured
        .records
        .of("moved")
        .into_iter()
        .find(|span| span.is_activation())
        .unwrap();
    assert_eq!(activation.thread.as_deref(), Some("other"));
    assert_eq!(activation.parent, Some(captured.records.only("outer").seq));
}

#[test]
fn a_span_closed_on_another_thread_keeps_the_thread_that_ran_it() {
    let captured = capture(|rig| {
        let clock = rig.clock.clone();
        let span = rig.on_thread("ran", move || {
            let span = info_span!("span");
            span.in_scope(|| clock.advance(Duration::from_millis(3)));
            span
        });
        rig.on_thread("closed", move || drop(span));
    });
    assert_row(captured.site("span"), 1, 1, 3, 3);
    assert!(!captured.site("span").is_async());
    let threads: Vec<_> = captured
        .profile
        .threads
        .iter()
        .map(|row| (row.name.as_str(), row.activations))
        .collect();
    assert_eq!(threads, [("ran", 1)], "the other one was in no span");
    let activation = captured
        .records
        .of("span")
        .into_iter()
        .find(|span| span.is_activation())
        .unwrap();
    assert_eq!(activation.thread.as_deref(), Some("ran"));
}

#[test]
fn plain_sites_whose_spans_are_handed_over_count_the_same_with_and_without_a_stream() {
    capture(|rig| {
        let make = || info_span!("span");
        rig.run(|| {
            for _ in 0..100 {
                make().in_scope(|| rig.ms(1));
            }
        });
        for _ in 0..3 {
            let span = rig.run(make);
            rig.ms(2);
            let clock = rig.clock.clone();
            rig.on_thread("other", move || {
                span.in_scope(|| clock.advance(Duration::from_millis(4)));
            });
        }
    });
}

#[test]
fn one_span_entered_by_several_threads_at_once_is_one_call() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 200;
    for streaming in [false, true] {
        let rig = Rig::new(streaming, |builder| builder);
        rig.ms(1);
        for _ in 0..ROUNDS {
            let span = rig.run(|| info_span!("parallel"));
            rig.run(|| span.in_scope(|| ()));
            let start = Arc::new(Barrier::new(THREADS));
            let workers: Vec<_> = (0..THREADS)
                .map(|worker| {
                    let (start, span) = (Arc::clone(&start), span.clone());
                    rig.spawn(&format!("worker-{worker}"), move || {
                        start.wait();
                        let _entered = span.enter();
                        info_span!("item").in_scope(|| ());
                    })
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
        }
        let captured = rig.finish();
        let rounds = ROUNDS as u64;
        let stats = captured.site("parallel");
        assert_eq!((stats.calls, stats.spans), (rounds, rounds));
        assert_eq!(stats.activations, rounds * (THREADS as u64 + 1));
        assert_eq!(
            captured.path("parallel > item").calls,
            rounds * THREADS as u64
        );
        let losses = &captured.profile.losses;
        assert_eq!(
            (
                losses.unbalanced_exits,
                losses.unknown_spans,
                losses.nested_enters
            ),
            (0, 0, 0)
        );
    }
}

#[test]
fn a_span_that_its_creator_and_another_thread_enter_at_once_is_one_call() {
    const SPANS: u64 = 20_000;
    let rig = Rig::new(false, |builder| builder);
    // A barrier would wake the two threads too far apart.
    let (here, there) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let meet = |arrived: &AtomicU64, awaited: &AtomicU64, number| {
        arrived.store(number, SeqCst);
        while awaited.load(SeqCst) < number {
            std::hint::spin_loop();
        }
    };
    let (hand_over, spans) = mpsc::channel::<(u64, Span)>();
    let both = (Arc::clone(&here), Arc::clone(&there));
    let other = rig.spawn("other", move || {
        for (number, span) in spans {
            meet(&both.1, &both.0, number);
            span.in_scope(|| ());
        }
    });
    rig.run(|| {
        for number in 1..=SPANS {
            let span = info_span!("both");
            hand_over.send((number, span.clone())).unwrap();
            meet(&here, &there, number);
            span.in_scope(|| ());
        }
    });
    drop(hand_over);
    other.join().unwrap();
    let captured = rig.finish();
    let stats = captured.site("both");
    assert_eq!((stats.calls, stats.activations), (SPANS, 2 * SPANS));
}

#[test]
fn a_span_that_one_thread_stays_in_while_others_enter_it_is_one_call() {
    let captured = capture(|rig| {
        rig.ms(1);
        rig.run(|| {
            let span = info_span!("scope");
            let outer = span.enter();
            rig.ms(1);
            for length in [2, 4] {
                let (clock, span) = (rig.clock.clone(), span.clone());
                rig.on_thread("helper", move || {
                    span.in_scope(|| clock.advance(Duration::from_millis(length)));
                });
            }
            rig.ms(8);
            drop(outer);
        });
    });
    let stats = captured.site("scope");
    assert_eq!((stats.calls, stats.spans, stats.activations), (1, 1, 3));
    assert_eq!(stats.activation.sum, millis(15 + 6));
    // Busy twice at the same time, so there is no idle time to speak of.
    assert_eq!(stats.idle, Some(Nanos::ZERO));
    assert_eq!(
        captured
            .records
            .of("scope")
            .iter()
            .filter(|span| span.is_activation())
            .count(),
        3
    );
}

#[test]
fn a_plain_span_stays_plain_however_many_are_open() {
    let captured = capture(|rig| {
        rig.run(|| {
            let open: Vec<Span> = (0..1000).map(|_| info_span!("open")).collect();
            for _ in 0..1000 {
                info_span!("plain").in_scope(|| rig.ms(1));
            }
            drop(open);
        });
    });
    let plain = captured.site("plain");
    assert_row(plain, 1000, 1000, 1000, 1000);
    assert!(!plain.is_async());
    assert!(
        captured
            .records
            .of("plain")
            .iter()
            .all(|span| span.kind == SpanKind::Whole)
    );
    assert_eq!(captured.site("open").calls, 1000);
}

#[test]
fn threads_that_end_are_kept_and_beyond_a_limit_added_up() {
    const THREADS: u64 = 300;
    let rig = Rig::new(false, |builder| builder);
    for _ in 0..THREADS {
        let clock = rig.clock.clone();
        rig.on_thread("short-lived", move || {
            info_span!("work").in_scope(|| clock.advance(Duration::from_millis(1)));
        });
    }
    support::wait_for(|| {
        rig.guard
            .profile()
            .threads
            .iter()
            .any(|row| row.name == "(other)")
    });
    let captured = rig.finish();
    assert_row(captured.site("work"), THREADS, THREADS, THREADS, THREADS);
    let rows = &captured.profile.threads;
    assert_eq!(
        rows.iter().map(|row| u64::from(row.threads)).sum::<u64>(),
        THREADS
    );
    assert!(rows.len() < THREADS as usize);
}

#[test]
fn a_thread_that_dies_by_a_panic_leaves_its_statistics() {
    let captured = capture(|rig| {
        let clock = rig.clock.clone();
        let outcome = rig
            .spawn("dies", move || {
                let _outer = info_span!("outer").entered();
                let forgotten = info_span!("forgotten").entered();
                clock.advance(Duration::from_millis(2));
                std::mem::forget(forgotten);
                std::panic::resume_unwind(Box::new("on purpose"));
            })
            .join();
        assert!(outcome.is_err());
    });
    assert_eq!(captured.site("outer").calls, 1);
    assert_eq!(captured.profile.split.busy, millis(2));
}

#[test]
fn the_live_profile_sees_the_other_threads() {
    let rig = Rig::new(true, |builder| builder);
    let (entered, is_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let worker = rig.spawn("worker", move || {
        let _span = info_span!("work").entered();
        entered.send(()).unwrap();
        may_leave.recv().unwrap();
    });
    is_entered.recv().unwrap();
    rig.ms(50);
    let live = rig.guard.profile();
    check(&live, None);
    assert_row(site(&live, "work"), 1, 1, 50, 50);
    assert_eq!(live.threads[0].name, "worker");
    assert!(!live.threads[0].ended);
    leave.send(()).unwrap();
    worker.join().unwrap();
    assert_row(rig.finish().site("work"), 1, 1, 50, 50);
}

#[test]
fn two_captures_in_one_process_do_not_mix() {
    let (one, two) = (
        Rig::new(true, |builder| builder),
        Rig::new(false, |builder| builder),
    );
    let work = |rig: &Rig, count: usize| {
        for _ in 0..count {
            rig.run(|| info_span!("shared_site").in_scope(|| ()));
        }
    };
    std::thread::scope(|scope| {
        let handles = [
            scope.spawn(|| {
                work(&one, 100);
                work(&two, 10);
            }),
            scope.spawn(|| {
                for _ in 0..50 {
                    work(&two, 1);
                    work(&one, 1);
                }
            }),
        ];
        for handle in handles {
            handle.join().unwrap();
        }
    });
    assert_eq!(one.finish().site("shared_site").calls, 150);
    assert_eq!(two.finish().site("shared_site").calls, 60);
}
