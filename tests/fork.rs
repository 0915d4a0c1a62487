//! A forked child has locks that threads of its parent held; it must not wait for them.
#![cfg(target_os = "linux")]
#![expect(
    unsafe_code,
    reason = "`pre_exec` is how a program runs its own code in a forked child"
)]

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tracing::info_span;
use tracing_cortex::CortexLayer;
use tracing_subscriber::prelude::*;

const DEPTH: u32 = 60;

/// Enters spans on call paths that are as new as `different` is.
fn descend(depth: u32, different: u32) {
    if depth == 0 {
        return;
    }
    let span = if different & 1 == 0 {
        info_span!("even")
    } else {
        info_span!("odd")
    };
    span.in_scope(|| descend(depth - 1, (different >> 1).rotate_left(5) ^ different));
}

fn different(seed: u32) -> u32 {
    seed.wrapping_mul(0x9E37_79B9) | 1
}

#[test]
fn spans_in_a_forked_child_do_not_wait_for_threads_of_the_parent() {
    let (layer, _guard) = CortexLayer::builder().no_resources().build().unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let done = AtomicBool::new(false);
    let (finished, is_finished) = channel();
    thread::scope(|scope| {
        for _ in 0..2 {
            // A parent that was never entered has its call path looked up under the lock that new call paths take.
            scope.spawn(|| {
                tracing::dispatcher::with_default(&dispatch, || {
                    let parent = info_span!("parent");
                    while !done.load(Relaxed) {
                        let _ = info_span!(parent: &parent, "child");
                    }
                });
            });
        }
        let forks = scope.spawn(|| {
            tracing::dispatcher::with_default(&dispatch, || {
                descend(DEPTH, different(1));
                for round in 0..40 {
                    let mut command = Command::new("true");
                    // Else a child that hangs would keep whoever reads this test's output waiting.
                    command.stdout(Stdio::null()).stderr(Stdio::null());
                    // SAFETY: the child runs spans, which take no lock there; that is the claim under test.
                    unsafe {
                        command.pre_exec(move || {
                            descend(DEPTH, different(100 + round));
                            Ok(())
                        })
                    };
                    assert!(command.status().unwrap().success());
                    finished.send(()).unwrap();
                }
            });
        });
        for _ in 0..40 {
            if is_finished.recv_timeout(Duration::from_secs(20)).is_err() && !forks.is_finished() {
                // A panic would wait for the thread that waits for the child.
                std::process::abort();
            }
        }
        done.store(true, Relaxed);
    });
}
