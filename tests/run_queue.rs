//! A program with more busy threads than cores is seen to wait for them.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Dispatch, dispatcher, info_span};
use tracing_cortex::{CortexLayer, Nanos, Profile};
use tracing_subscriber::prelude::*;

/// Longer than it takes on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn mean(profile: &Profile, series: &str) -> Option<f64> {
    let series = profile.resources.iter().find(|row| row.name == series)?;
    (series.samples >= 4).then_some(series.mean)
}

#[test]
fn threads_without_a_core_are_seen_in_the_queue() {
    let cores = thread::available_parallelism().unwrap().get();
    let layer = CortexLayer::builder().resources(Duration::from_millis(50));
    let (cortex, guard) = layer.build().unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(cortex));
    let stop = AtomicBool::new(false);
    let profile = thread::scope(|scope| {
        for _ in 0..3 * cores {
            scope.spawn(|| {
                dispatcher::with_default(&dispatch, || {
                    let _span = info_span!("spin").entered();
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            });
        }
        let begun = Instant::now();
        let profile = loop {
            thread::sleep(Duration::from_millis(50));
            let profile = guard.profile();
            let queued = profile.threads.iter().filter_map(|row| row.run_queue);
            if mean(&profile, "process.run_queue_wait").is_some_and(|waiting| waiting > 0.5)
                && queued.sum::<Nanos>() > Nanos(200_000_000)
            {
                break profile;
            }
            if begun.elapsed() > PATIENCE {
                stop.store(true, Ordering::Relaxed);
                panic!("{:?} {:?}", profile.resources, profile.threads);
            }
        };
        stop.store(true, Ordering::Relaxed);
        profile
    });
    // At most all of them can be ready; others on this machine take cores away, never from that number.
    let runnable = mean(&profile, "process.runnable_threads").unwrap();
    let waiting = mean(&profile, "process.run_queue_wait").unwrap();
    assert!(runnable > waiting, "{runnable} ready, {waiting} waiting");
    assert!(
        runnable < 4.5 * cores as f64,
        "{runnable} ready of 3 x {cores}"
    );
    let switches = profile.resources.iter();
    let mut switches = switches.filter(|row| row.name == "process.involuntary_switches");
    assert!(switches.next().unwrap().max > 0.0);
    for row in &profile.threads {
        let used = row.run_queue.unwrap().saturating_add(row.cpu.unwrap());
        // The kernel counts a wait when it ends, so one that began before the first look is in it whole.
        let slack = Nanos::from(Duration::from_millis(500));
        assert!(used <= row.observed.saturating_add(slack), "{row:?}");
    }
}

#[test]
fn a_thread_that_sleeps_waits_for_no_core() {
    let layer = CortexLayer::builder().resources(Duration::from_millis(50));
    let (cortex, guard) = layer.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(cortex);
    tracing::subscriber::with_default(subscriber, || {
        let _span = info_span!("sleep").entered();
        let begun = Instant::now();
        loop {
            thread::sleep(Duration::from_millis(50));
            let profile = guard.profile();
            // Another test of this file may starve the machine meanwhile; waking up now and then costs little even so.
            if let [row] = profile.threads.as_slice()
                && let Some(queued) = row.run_queue
                && row.observed > Nanos(300_000_000)
            {
                assert!(queued.share_of(row.observed) < 0.5, "{row:?}");
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}", profile.threads);
        }
    });
}
