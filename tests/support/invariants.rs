//! What holds for every capture, whatever the program did.

use std::collections::BTreeMap;

use tracing_cortex::{Nanos, Profile};

use super::recording::Recorded;

/// Asserts that the parts of a profile agree with each other, and with the records of the same run.
#[track_caller]
pub fn check(profile: &Profile, recorded: Option<&Recorded>) {
    check_times(profile);
    check_counts(profile);
    if let Some(recorded) = recorded
        && profile.losses.dropped_records() == 0
        && profile.losses.untracked_spans + profile.losses.unknown_spans == 0
    {
        check_records(profile, recorded);
    }
}

#[track_caller]
fn check_times(profile: &Profile) {
    let own: Nanos = profile.sites.iter().map(|row| row.stats.self_time).sum();
    let overhead: Nanos = profile.sites.iter().map(|row| row.stats.overhead).sum();
    let split = &profile.split;
    let parts = own.0 + overhead.0 + split.uncovered.0;
    // Each row is rounded down by itself.
    let rounding = (profile.sites.len() + profile.threads.len()) as u64;
    assert!(
        parts.abs_diff(split.thread_time.0) <= rounding,
        "self {own:?} + overhead {overhead:?} + uncovered {:?} is not thread time {:?}",
        split.uncovered,
        split.thread_time,
    );
    let of_paths: Nanos = profile.paths.iter().map(|path| path.stats.self_time).sum();
    let rounding = (profile.sites.len() + profile.paths.len()) as u64;
    assert!(
        of_paths.0.abs_diff(own.0) <= rounding,
        "paths have {of_paths:?} of self time, sites {own:?}"
    );
    let observed: Nanos = profile.threads.iter().map(|row| row.observed).sum();
    assert_eq!(observed, split.thread_time);
    for row in &profile.threads {
        assert_eq!(row.observed.0, row.busy.0 + row.idle.0, "{}", row.name);
    }
}

#[track_caller]
fn check_counts(profile: &Profile) {
    let mut by_site: BTreeMap<_, [u64; 5]> = BTreeMap::new();
    for path in &profile.paths {
        let sums = by_site.entry(path.site.id).or_default();
        let stats = &path.stats;
        let counts = [
            stats.calls,
            stats.spans,
            stats.activations,
            stats.errors,
            stats.open,
        ];
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    for row in &profile.sites {
        let (name, stats) = (row.site.name, &row.stats);
        let counts = [
            stats.calls,
            stats.spans,
            stats.activations,
            stats.errors,
            stats.open,
        ];
        assert_eq!(
            Some(&counts),
            by_site.get(&row.site.id),
            "{name}: paths and site"
        );
        assert!(
            stats.spans <= stats.calls,
            "{name}: {} spans, {} calls",
            stats.spans,
            stats.calls
        );
        let unentered = stats.latency.as_ref().map_or(0, |latency| latency.count);
        assert!(
            stats.calls <= stats.activations + unentered,
            "{name}: {} calls, {} activations, {unentered} closed",
            stats.calls,
            stats.activations,
        );
        assert!(
            stats.self_time <= stats.busy,
            "{name}: self {:?} > busy {:?}",
            stats.self_time,
            stats.busy
        );
        assert_eq!(
            row.per_window.iter().sum::<u64>(),
            stats.calls,
            "{name}: windows"
        );
    }
    let activations: u64 = profile.sites.iter().map(|row| row.stats.activations).sum();
    let nested = profile.losses.nested_enters;
    let of_threads: u64 = profile.threads.iter().map(|row| row.activations).sum();
    assert!(
        (activations..=activations + nested).contains(&of_threads),
        "threads have {of_threads} activations, sites {activations}"
    );
}

/// Records that stream and statistics are two ways from the same callbacks.
#[track_caller]
fn check_records(profile: &Profile, recorded: &Recorded) {
    let mut streamed: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for span in recorded.spans.iter().filter(|span| span.is_activation()) {
        let sums = streamed.entry(span.site).or_default();
        sums.0 += 1;
        sums.1 += span.length();
    }
    let mut counted: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in profile.sites.iter().filter(|row| row.stats.activations > 0) {
        let sums = counted.entry(row.site.name).or_default();
        sums.0 += row.stats.activations;
        // The distribution sums up every activation, also those inside another of the same site.
        sums.1 += row.stats.activation.sum.0;
    }
    let unfinished = recorded
        .spans
        .iter()
        .any(|span| span.unfinished && span.is_activation());
    for (site, &(activations, busy)) in &counted {
        if *site == "(other)" {
            return;
        }
        let (records, length) = streamed.get(site).copied().unwrap_or_default();
        assert_eq!(records, activations, "{site}: records and activations");
        if !unfinished {
            assert_eq!(length, busy, "{site}: time of records and of activations");
        }
    }
    assert!(
        streamed.len() == counted.len(),
        "{streamed:?} against {counted:?}"
    );
}
