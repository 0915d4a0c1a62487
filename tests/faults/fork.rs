//! Forked children: they have the capture's memory, but none of its threads.
#![expect(unsafe_code, reason = "there is no safe way to fork")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use tracing_cortex::{CortexLayer, Overflow};

use crate::support::{Memory, assert_complete, bars, site, within};
use crate::values::{new_site, span_of};

/// Runs `work` in a forked child that then exits, and returns how it ended.
fn in_a_child(work: impl FnOnce()) -> WaitStatus {
    // SAFETY: the child runs code that takes locks and allocates, which POSIX does not promise to work where the parent
    // has other threads. The C libraries that these tests run on make the allocator usable in the child; locks are what
    // is tested. A child that hangs is ended below.
    match unsafe { fork() }.expect("a process more") {
        ForkResult::Child => {
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // As a program does that does not know of the capture: with the C library's exit functions.
            std::process::exit(if worked.is_ok() { 7 } else { 8 });
        }
        ForkResult::Parent { child } => wait(child),
    }
}

fn wait(child: Pid) -> WaitStatus {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("a child of ours") {
            WaitStatus::StillAlive if Instant::now() < until => {
                thread::sleep(Duration::from_millis(1))
            }
            WaitStatus::StillAlive => {
                kill(child, Signal::SIGKILL).expect("the child is there");
                waitpid(child, None).expect("a child of ours");
                panic!("the child hangs");
            }
            status => return status,
        }
    }
}

#[test]
fn a_forked_child_ends_at_once_and_touches_nothing_of_its_parents() {
    for overflow in [Overflow::DropNewest, Overflow::Block] {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::default();
        let (layer, guard) = CortexLayer::builder()
            .overflow(overflow)
            .max_record_bytes(64 << 10)
            .chrome(folder.path().join("trace.json"))
            .report_json(folder.path().join("report.json"))
            .report_text(folder.path().join("report.txt"))
            .sink(memory.clone())
            .build()
            .unwrap();
        let mut guard = Some(guard);
        within(layer, || {
            let work = || (0..50).for_each(|_| tracing::info_span!("work").in_scope(|| ()));
            work();
            let around = tracing::info_span!("around").entered();
            let status = in_a_child(|| {
                // More than the buffer holds, with nobody there who empties it.
                for _ in 0..5_000 {
                    tracing::info_span!("work").in_scope(|| tracing::error!("an event"));
                }
                drop(around);
                span_of(new_site("new")).in_scope(|| ());
                let dispatch = tracing::dispatcher::get_default(Clone::clone);
                let on_thread =
                    thread::spawn(move || tracing::dispatcher::with_default(&dispatch, work));
                on_thread.join().unwrap();
                let guard = guard.take().unwrap();
                assert!(guard.profile().sites.is_empty());
                guard.reset();
                guard.flush(Duration::from_secs(5)).unwrap_err();
                let error = guard.finish().unwrap_err();
                assert!(error.summary().is_none() && error.to_string().contains("forked"));
            });
            assert!(
                matches!(status, WaitStatus::Exited(_, 7)),
                "{overflow:?}: {status:?}"
            );
            work();
        });
        let summary = guard.take().unwrap().finish().unwrap();
        let profile = summary.profile();
        assert_eq!(profile.losses.dropped_records(), 0);
        assert_eq!(site(profile, "work").stats.errors, 0);
        assert_complete(folder.path(), "work", 100);
        assert_eq!(memory.count("work"), 100);
        assert_eq!(bars(&folder.path().join("trace.json"), "around").len(), 1);
    }
}

#[test]
fn children_forked_while_other_threads_hold_locks_of_the_capture_end_too() {
    let (layer, guard) = CortexLayer::builder()
        .sink(Memory::default())
        .build()
        .unwrap();
    let others: Vec<_> = (0..1_000).map(|_| new_site("other")).collect();
    let stop = AtomicBool::new(false);
    /// Ends the other threads also where a child hangs, which panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    within(layer, || {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        // The first use of a callsite takes a lock of tracing's own, which a child could find held for ever.
        others.iter().for_each(|site| span_of(site).in_scope(|| ()));
        thread::scope(|scope| {
            let _stop = Stop(&stop);
            for _ in 0..2 {
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&dispatch, || {
                        while !stop.load(Relaxed) {
                            // More sites than a thread remembers, so that it asks for them behind a lock.
                            others.iter().for_each(|site| span_of(site).in_scope(|| ()));
                        }
                    });
                });
            }
            let statuses: Vec<_> = (0..40)
                .map(|_| {
                    let _around = tracing::info_span!("around").entered();
                    in_a_child(|| others.iter().for_each(|site| span_of(site).in_scope(|| ())))
                })
                .collect();
            assert!(
                statuses
                    .iter()
                    .all(|status| matches!(status, WaitStatus::Exited(_, 7))),
                "{statuses:?}"
            );
        });
    });
    let summary = guard.finish().unwrap();
    assert_eq!(site(summary.profile(), "around").stats.calls, 40);
}
