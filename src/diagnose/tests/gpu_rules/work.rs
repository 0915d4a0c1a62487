//! What devices do, and how they get it.

use super::*;
use crate::diagnose::RuleLevel;
use crate::model::{Point, Series, Unit};

fn copying(blocking: u64, free: u64, bytes: u64) -> Planted {
    with(steps(2 * MS, 17 * MS), |row| {
        row.totals.copies = 2 * STEPS;
        row.totals.blocking_copies = if blocking > 0 { STEPS } else { 0 };
        row.totals.pageable_copies = row.totals.blocking_copies;
        row.totals.blocking_time = Nanos(blocking * STEPS);
        row.totals.blocking_bytes = bytes * STEPS;
        row.totals.free_time = Nanos(free * STEPS);
        row.totals.free_bytes = bytes * STEPS;
        row.totals.to_device_bytes = 2 * bytes * STEPS;
        row.totals.copy_time = Nanos((blocking + free) * STEPS);
        let kernels = row.kernel_busy.0 - (blocking + free) * STEPS;
        row.kernel_busy = Nanos(kernels);
        row.totals.kernel_time = Nanos(kernels);
    })
}

#[test]
fn copies_that_block_are_priced_by_what_free_ones_take() {
    let finding = copying(6 * MS, MS, 1 << 20).finding("CTX503");
    assert_eq!(finding.site, "turn");
    assert!(
        about(finding.share, 0.3) && about(finding.saving, 0.25),
        "{finding:#?}"
    );
    // Without free copies: half.
    let assumed = copying(6 * MS, 0, 1 << 10).finding("CTX503");
    assert!(about(assumed.saving, 0.15));
    assert!(copying(800 * US, 4 * MS, 1 << 20).is_silent("CTX503"));
    let few = with(copying(6 * MS, MS, 1 << 20), |row| {
        row.totals.blocking_copies = 2
    });
    assert!(few.is_silent("CTX503"));
}

#[test]
fn a_device_that_mostly_copies_is_bound_by_it_unless_kernels_run_beside() {
    let planted = copying(0, 9 * MS, 1 << 20);
    let finding = planted.finding("CTX506");
    assert_eq!(finding.site, "turn");
    assert!(
        about(finding.saving, 0.4),
        "kernels take 8 of 20 ms: {finding:#?}"
    );
    let beside = with(planted.clone(), |row| row.kernel_busy = row.totals.busy);
    assert!(beside.is_silent("CTX506"));
    assert!(copying(0, 3 * MS, 1 << 20).is_silent("CTX506"));
    let back = with(planted, |row| {
        row.totals.to_host_bytes = row.totals.to_device_bytes
    });
    assert!(
        back.finding("CTX506")
            .recommendation
            .contains("Keep it on the device")
    );
}

/// In each step 40 launches with a wait after each, and `host` ns from there to the next launch.
fn synchronous(host: u64, work: u64, waits: u64) -> Planted {
    let mut kernels = Vec::new();
    let each = host + work;
    for step in 0..STEPS {
        let begin = step * STEP + MS;
        kernels.extend((0..40).map(|at| (begin + at * each, begin + at * each + work)));
    }
    let mut planted = steps(MS, 12 * MS);
    planted.profile.gpu.as_mut().unwrap().devices[0] = device(0, &kernels);
    with(planted, |row| {
        row.totals.syncs = waits * STEPS;
        row.totals.sync_time = Nanos(work * 40 * STEPS);
        for pause in &mut row.pauses.pauses {
            pause.after_wait = (waits == 40).then_some(SiteId(1));
        }
    })
}

#[test]
fn a_wait_after_every_launch_is_too_much_and_the_last_of_a_step_is_not() {
    let planted = synchronous(200 * US, 200 * US, 40);
    let finding = planted.finding("CTX504");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("turn", Severity::High)
    );
    assert!(
        about(finding.share, 0.39) && about(finding.saving, 0.39),
        "{finding:#?}"
    );
    assert_eq!(planted.findings("CTX501"), []);
    let seldom = synchronous(200 * US, 200 * US, 1);
    assert!(seldom.is_silent("CTX504"));

    // Each step waits once, for its only launch; what the host does until the next step is not the wait's fault.
    let mut last = steps(8 * MS, 12 * MS);
    last = with(last, |row| {
        row.totals.syncs = STEPS;
        row.totals.sync_time = Nanos(12 * MS * STEPS);
        for pause in &mut row.pauses.pauses {
            pause.after_wait = Some(SiteId(1));
        }
    });
    assert!(last.is_silent("CTX504"));
}

#[test]
fn kernels_shorter_than_their_launch_are_found_where_the_device_waits_for_launches() {
    let planted = synchronous(20 * US, 5 * US, 0);
    // 40 kernels fill a millisecond only.
    assert!(planted.is_silent("CTX505"));
    let mut kernels = Vec::new();
    kernels.extend((0..40_000).map(|at| (at * 25 * US, at * 25 * US + 5 * US)));
    let tiny = with(steps(MS, 12 * MS), |row| *row = device(0, &kernels));
    let finding = tiny.finding("CTX505");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("turn", Severity::Critical)
    );
    assert!(about(finding.share, 0.8), "{finding:#?}");
    assert_eq!(tiny.findings("CTX501"), []);
    let queued = with(steps(MS, 12 * MS), |row| {
        let at_once: Vec<_> = (0..40_000)
            .map(|at| (at * 6 * US, at * 6 * US + 5 * US))
            .collect();
        *row = device(0, &at_once);
    });
    assert!(queued.is_silent("CTX505"));
}

#[test]
fn a_trip_that_is_mostly_moving_is_too_small() {
    let trip = |kernel: u64| {
        let mut planted = Planted::run(1_000).site("apply", None, plain(&[(100 * US, 5_000)]));
        let kernels: Vec<_> = (0..5_000)
            .map(|at| (at * 200 * US, at * 200 * US + kernel))
            .collect();
        let mut row = device(0, &kernels);
        row.totals.copies = 10_000;
        row.totals.to_device_bytes = 1 << 20;
        row.totals.to_host_bytes = 1 << 20;
        row.totals.launch_time = Nanos(30 * US * 5_000);
        row.totals.sync_time = Nanos(60 * US * 5_000);
        let totals = row.totals.clone();
        planted.profile.gpu = Some(GpuProfile {
            devices: vec![row],
            ..GpuProfile::default()
        });
        used_by(&mut planted, 0, totals);
        planted
    };
    let small = trip(5 * US);
    let finding = small.finding("CTX508");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("apply", Severity::High)
    );
    assert_eq!(rules(&small.diagnosis()), ["CTX508"]);
    assert!(trip(20 * US).is_silent("CTX508"));
}

#[test]
fn two_devices_of_which_one_does_most_are_unbalanced() {
    let two = |second: u64| {
        let mut planted = steps(2 * MS, 18 * MS);
        let kernels: Vec<_> = (0..STEPS)
            .map(|at| (at * STEP, at * STEP + second))
            .collect();
        let gpu = planted.profile.gpu.as_mut().unwrap();
        gpu.devices.push(device(1, &kernels));
        planted
    };
    let finding = two(6 * MS).finding("CTX510");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("GPU 0", Severity::High)
    );
    assert!(about(finding.saving, 0.3), "{finding:#?}");
    assert!(two(12 * MS).is_silent("CTX510"));
    assert_eq!(steps(2 * MS, 18 * MS).findings("CTX510"), []);
}

fn memory(used: f64, samples: u64) -> Planted {
    let series = |name: &str, value: f64| {
        let mut series = Series::new(name, Unit::Bytes);
        series.samples = samples;
        (series.mean, series.min, series.max) = (value, value, value);
        series.points = (0..samples)
            .map(|at| Point {
                at: Nanos(at * MS),
                samples: 1,
                mean: value,
                min: value,
                max: value,
            })
            .collect();
        series
    };
    let mut planted = Planted::run(1_000);
    planted.profile.resources = vec![
        series("gpu.0.memory_used", used),
        series("gpu.0.memory_total", 100e9),
        series("gpu.0.process_memory", 50e9),
    ];
    planted
}

#[test]
fn memory_is_near_its_limit_above_nine_tenths() {
    let finding = memory(90.1e9, 3).finding("CTX507");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("GPU 0", Severity::Medium)
    );
    assert!(finding.message.contains("50.0 GB"), "{}", finding.message);
    assert!(memory(90e9, 3).is_silent("CTX507"));
    assert!(memory(95e9, 2).is_silent("CTX507"));
}

#[test]
fn a_candidate_is_named_only_where_asked_for() {
    let mut planted = steps(19 * MS, 100 * US);
    planted.profile.sites[1].stats = sampled(planted.profile.sites[1].stats.clone(), 50, 50);
    say(&mut planted, 1, "n", TreeValue::Integer(2_000_000));
    assert_eq!(planted.findings("CTX509"), []);
    let mut thresholds = Thresholds::default();
    let level = thresholds.levels.set("gpu-candidate", RuleLevel::Warn);
    level.unwrap();
    let findings = diagnose(&planted.profile, &thresholds).findings;
    let mut candidates = findings.iter().filter(|finding| finding.rule == "CTX509");
    assert_eq!(
        candidates.next().map(|it| (it.site.as_str(), it.severity)),
        Some(("fetch", Severity::Low))
    );
}
