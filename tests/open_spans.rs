//! How many spans of a site are open is read over time.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

use std::thread;
use std::time::{Duration, Instant};

use tracing::{Span, info_span};
use tracing_cortex::{CortexGuard, CortexLayer};
use tracing_subscriber::prelude::*;

/// Long enough for a machine that does many other things.
const PATIENCE: Duration = Duration::from_secs(20);

fn job() -> Span {
    info_span!("job")
}

fn readings(guard: &CortexGuard) -> Vec<f64> {
    let profile = guard.profile();
    let row = profile.sites.iter().find(|row| row.site.name == "job");
    row.map_or(Vec::new(), |row| {
        row.open_readings.iter().map(|point| point.mean).collect()
    })
}

/// Waits for a reading with so many open spans, and returns all readings so far.
fn readings_up_to(guard: &CortexGuard, open: f64) -> Vec<f64> {
    let begun = Instant::now();
    loop {
        let readings = readings(guard);
        if readings.last() == Some(&open) {
            return readings;
        }
        assert!(begun.elapsed() < PATIENCE, "no {open} in {readings:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_number_of_open_spans_is_followed_up_and_down() {
    let (cortex, guard) = CortexLayer::builder()
        .resources(Duration::from_millis(10))
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry().with(cortex);
    tracing::subscriber::with_default(subscriber, || {
        let mut open = Vec::new();
        for _ in 0..3 {
            open.extend(std::iter::repeat_with(job).take(5));
            readings_up_to(&guard, open.len() as f64);
        }
        let rising = readings_up_to(&guard, 15.0);
        assert!(rising.is_sorted() && rising.contains(&5.0), "{rising:?}");
        open.truncate(2);
        let falling = readings_up_to(&guard, 2.0);
        assert!(falling.contains(&15.0), "{falling:?}");

        guard.reset();
        let again = readings(&guard);
        assert!(
            again.is_empty(),
            "two are too few to be followed: {again:?}"
        );
        drop(open);
    });
    guard.finish().unwrap();
}
