use crate::diagnose::planted::{MS, Planted, own, plain};
use crate::model::{
    KeptTree, Nanos, OperationTree, Point, RootTrees, Series, Severity, TreeSpan, Unit,
};

const MB: f64 = 1e6;

/// Readings of a series, a quarter of a second apart.
fn readings(name: &str, unit: Unit, values: impl IntoIterator<Item = f64>) -> Series {
    let mut series = Series::new(name, unit);
    for (index, value) in values.into_iter().enumerate() {
        series.samples += 1;
        series.max = series.max.max(value);
        series.points.push(Point {
            at: Nanos(index as u64 * 250 * MS),
            samples: 1,
            mean: value,
            min: value,
            max: value,
        });
    }
    series
}

fn watched(series: Vec<Series>) -> Planted {
    let mut planted = Planted::run(60_000).site("serve", None, plain(&[(MS, 100)]));
    planted.profile.resources = series;
    planted
}

fn memory(values: impl IntoIterator<Item = f64>) -> Planted {
    watched(vec![readings("process.rss", Unit::Bytes, values)])
}

/// A number in [-1, 1) that looks like chance.
fn noise(index: usize) -> f64 {
    let mixed = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)) as u32 as f64 / f64::from(u32::MAX) * 2.0 - 1.0
}

/// 50 s of 1 MB a second on 100 MB, after a warm-up of 5 s.
fn leaking(index: usize) -> f64 {
    let warm = 100.0 * (1.0 - (-(index as f64) / 5.0).exp());
    (warm + 0.25 * index as f64 + noise(index)) * MB
}

#[test]
fn memory_that_goes_on_growing_is_told_with_its_rate_and_when_it_ends() {
    let mut planted = memory((0..200).map(leaking));
    planted.profile.process.memory_limit = Some(1_150_000_000);
    let finding = planted.finding("CTX303");
    assert_eq!(finding.site, "process");
    assert_eq!(finding.severity, Severity::High);
    let rate = finding.evidence["growth_per_minute_bytes"] / MB;
    assert!((58.0..62.0).contains(&rate), "{rate}");
    assert!(
        finding
            .message
            .contains("the limit of 1150 MB is reached in 1"),
        "{}",
        finding.message
    );

    planted.profile.process.memory_limit = None;
    assert_eq!(planted.finding("CTX303").severity, Severity::Medium);
}

#[test]
fn plateaus_caps_steps_and_sawteeth_are_no_leak() {
    let silent = |value: fn(usize) -> f64| {
        let planted = memory((0..240).map(|index| value(index) * MB));
        planted.is_silent("CTX303")
    };
    assert!(silent(|at| 100.0 + noise(at)));
    assert!(silent(
        |at| 300.0 * (1.0 - (-(at as f64) / 40.0).exp()) + noise(at)
    ));
    // A cache that is full after three fifths of the run.
    assert!(silent(|at| 100.0 + (at as f64).min(144.0) + noise(at)));
    assert!(silent(|at| 100.0
        + 50.0 * f64::from(u8::from(at > 150))
        + noise(at)));
    // A Vec that doubles.
    assert!(silent(
        |at| 64.0 * 2_f64.powi((at as f64 + 1.0).log2() as i32).min(64.0)
    ));
    assert!(silent(|at| 100.0 + (at % 60) as f64));
    // 8 MB in all are not worth it.
    assert!(silent(|at| 100.0 + 0.05 * at as f64));
}

#[test]
fn growth_needs_forty_readings_and_twenty_seconds_after_warm_up() {
    // 84 readings after warm-up span 20.75 s, 80 of them 19.75 s.
    assert_eq!(memory((0..120).map(leaking)).findings("CTX303").len(), 1);
    let short = memory((0..115).map(leaking));
    assert!(short.findings("CTX303").is_empty());
    let held_back = short.finding("CTX903").message;
    assert!(
        held_back.contains("CTX303 for `process` (19 of 20 s after warm-up)"),
        "{held_back}"
    );
}

#[test]
fn a_device_s_memory_is_watched_as_well() {
    let planted = watched(vec![readings(
        "gpu.0.process_memory",
        Unit::Bytes,
        (0..200).map(leaking),
    )]);
    assert!(planted.finding("CTX303").message.contains("on gpu.0 grew"));
}

#[test]
fn files_that_stay_open_are_a_leak_and_files_that_are_closed_are_not() {
    let files = |value: fn(usize) -> f64| {
        let mut planted = watched(vec![readings(
            "process.open_files",
            Unit::Count,
            (0..60).map(value),
        )]);
        planted.profile.process.open_files_limit = Some(1_024);
        planted
    };
    let finding = files(|at| 12.0 + 2.0 * at as f64).finding("CTX308");
    assert_eq!(
        (finding.evidence["from"], finding.evidence["to"]),
        (48.0, 130.0)
    );
    assert_eq!(finding.severity, Severity::High);
    assert!(
        finding.message.contains("1024 open files"),
        "{}",
        finding.message
    );
    assert!(files(|at| 12.0 + 20.0 * (at % 7) as f64).is_silent("CTX308"));
    assert!(files(|_| 900.0).is_silent("CTX308"));
    // 19.5 files in all.
    assert!(files(|at| 12.0 + 19.5 / 41.0 * at as f64).is_silent("CTX308"));
}

#[test]
fn threads_that_never_end_are_a_leak_and_a_pool_is_not() {
    let threads = |value: fn(usize) -> f64| {
        let mut planted = watched(vec![readings(
            "process.threads",
            Unit::Count,
            (0..60).map(value),
        )]);
        planted.profile.process.cores = Some(4);
        planted
    };
    let finding = threads(|at| 4.0 + at as f64).finding("CTX309");
    assert!(
        finding
            .message
            .starts_with("The number of threads rose from 22 to 63")
    );
    assert!(threads(|at| 4.0 + (at as f64).min(40.0)).is_silent("CTX309"));
    let mut machine = threads(|at| 4.0 + at as f64);
    machine.profile.process.cores = Some(32);
    assert!(machine.is_silent("CTX309"));
}

#[test]
fn a_spike_is_told_with_what_was_under_way() {
    let values = (0..100).map(|at| if (50..55).contains(&at) { 400.0 } else { 100.0 } * MB);
    let mut planted = memory(values.clone()).site("load", Some(0), own(plain(&[(MS, 1)]), MS));
    assert_eq!(planted.finding("CTX305").site, "process");

    let [serve, load] = [0, 1].map(|at| planted.profile.sites[at].site.clone());
    let [start, end] = [12_000, 14_000].map(|ms| Nanos(ms * MS));
    let spans = vec![
        TreeSpan::new(serve.clone(), None, start, end),
        TreeSpan::new(load, Some(0), Nanos(12_400 * MS), Nanos(13_800 * MS)),
    ];
    let kept = KeptTree::sampled(OperationTree::new(spans));
    planted.profile.trees = vec![RootTrees::new(serve, vec![kept])];
    let finding = planted.finding("CTX305");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("load", Severity::Medium)
    );
    assert_eq!(finding.evidence["peak_at_s"], 12.5);

    planted.profile.process.memory_limit = Some(500_000_000);
    assert_eq!(planted.finding("CTX305").severity, Severity::Critical);
}

#[test]
fn growth_and_small_peaks_are_no_spike() {
    let silent =
        |value: fn(usize) -> f64| memory((0..100).map(|at| value(at) * MB)).is_silent("CTX305");
    assert!(silent(|at| 10.0 * at as f64));
    assert!(silent(|at| if at == 50 { 163.0 } else { 100.0 }));
    assert!(silent(|at| if at == 50 { 60.0 } else { 10.0 }));
    assert!(silent(|at| if at < 75 { 100.0 } else { 400.0 }));
    assert!(!silent(|at| if at == 50 { 200.0 } else { 100.0 }));
}

#[test]
fn pressure_needs_full_memory_and_waiting_at_the_same_time() {
    let pressed = |percent: f64, faults: fn(usize) -> f64| {
        let used = readings("system.memory_used_percent", Unit::Percent, [percent; 40]);
        let faults = readings("process.major_faults", Unit::PerSecond, (0..40).map(faults));
        watched(vec![used, faults])
    };
    let finding = pressed(92.0, |_| 300.0).finding("CTX306");
    assert_eq!(finding.evidence["major_faults_per_second"], 300.0);
    assert_eq!(finding.severity, Severity::Medium);
    assert_eq!(
        pressed(97.0, |_| 300.0).finding("CTX306").severity,
        Severity::High
    );
    assert!(pressed(84.9, |_| 300.0).is_silent("CTX306"));
    assert!(pressed(92.0, |_| 0.0).is_silent("CTX306"));
    assert!(pressed(92.0, |at| if at < 4 { 300.0 } else { 0.0 }).is_silent("CTX306"));
    assert!(!pressed(92.0, |at| if at < 5 { 300.0 } else { 0.0 }).is_silent("CTX306"));
}
