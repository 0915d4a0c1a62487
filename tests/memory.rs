//! Memory for many threads with many sites; in a process of its own, because the system counts by process.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "the figures are for the README")]
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

mod support;

use std::sync::{Arc, Barrier};

use support::check;
use tracing::{Dispatch, Span, info_span};
use tracing_cortex::CortexLayer;
use tracing_subscriber::prelude::*;

/// Two hundred callsites.
macro_rules! sites {
    ($($tens:literal)*) => {
        vec![$(
            || info_span!(concat!("site-", $tens, "0")), || info_span!(concat!("site-", $tens, "1")),
            || info_span!(concat!("site-", $tens, "2")), || info_span!(concat!("site-", $tens, "3")),
            || info_span!(concat!("site-", $tens, "4")), || info_span!(concat!("site-", $tens, "5")),
            || info_span!(concat!("site-", $tens, "6")), || info_span!(concat!("site-", $tens, "7")),
            || info_span!(concat!("site-", $tens, "8")), || info_span!(concat!("site-", $tens, "9")),
        )*]
    };
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn sixty_four_threads_with_two_hundred_sites_take_little_memory() {
    const MEMORY_THREADS: usize = 64;
    /// Bytes that the profile may state: 200 nodes on each thread at 1.5 KiB each are 19 MiB; the rest is for trees.
    const STATED: u64 = 28 << 20;
    /// Bytes by which the process may grow, where the threads and the spans themselves are left out: 10 MiB more are for
    /// the buffers of sampled trees and the trees of 200 sites of roots.
    const RESIDENT: u64 = 42 << 20;

    let sites: Vec<fn() -> Span> = sites!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
    assert_eq!(sites.len(), 200);
    let sites = Arc::new(sites);
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    let stay = Arc::new(Barrier::new(MEMORY_THREADS + 1));
    let run = |dispatch: Dispatch| -> Vec<_> {
        (0..MEMORY_THREADS)
            .map(|_| {
                let (sites, stay, dispatch) =
                    (Arc::clone(&sites), Arc::clone(&stay), dispatch.clone());
                std::thread::spawn(move || {
                    tracing::dispatcher::with_default(&dispatch, || {
                        // Real time, so that the durations spread as they do.
                        for _ in 0..50 {
                            sites.iter().for_each(|site| site().in_scope(|| ()));
                        }
                    });
                    stay.wait();
                    stay.wait();
                })
            })
            .collect()
    };
    // The same with nothing to record, for what threads and their spans take by themselves.
    let none = Dispatch::new(tracing_subscriber::registry().with(None::<CortexLayer>));
    let measure = |dispatch| {
        let before = resident_bytes();
        let threads = run(dispatch);
        stay.wait();
        let grown = resident_bytes().saturating_sub(before);
        let profile = guard.profile();
        stay.wait();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        (grown, profile)
    };
    let (without, _) = measure(none);
    let (with, profile) = measure(dispatch);
    check(&profile, None);
    assert_eq!(profile.sites.len(), 200);
    assert!(
        profile
            .sites
            .iter()
            .all(|row| row.stats.calls == 50 * MEMORY_THREADS as u64)
    );
    let stated = profile.overhead.memory_bytes;
    eprintln!("stated {stated}, resident {with} against {without} without the layer");
    assert!(stated < STATED, "{stated} bytes stated");
    let grown = with.saturating_sub(without);
    assert!(
        grown < RESIDENT,
        "{with} bytes resident, {without} without the layer"
    );
    // What is stated is about recorded figures and buffers; the threads' look-up tables come on top.
    assert!(
        (grown / 2..grown).contains(&stated),
        "{stated} stated, {grown} resident"
    );
}
