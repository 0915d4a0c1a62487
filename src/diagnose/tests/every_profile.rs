use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use crate::diagnose::planted::{MS, Planted, own, plain, polled, sampled};
use crate::diagnose::{Thresholds, diagnose};
use crate::model::{Bucket, Diagnosis, Distribution, Nanos, OnCpu, Severity, Stats};

/// Numbers of all sizes, the extremes often.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        0..100_u64,
        0..1_000_000_000_u64,
        any::<u64>()
    ]
}

fn arbitrary_distribution() -> impl Strategy<Value = Distribution> {
    // More calls than this in one run do not exist, and hdrhistogram adds counts without a check.
    let counts = number().prop_map(|count| count.min(1 << 56));
    let buckets = prop::collection::btree_map(number(), counts, 0..5);
    (buckets, number(), number(), number()).prop_map(|(buckets, sum, min, max)| {
        let buckets = buckets.into_iter().map(|(value, count)| Bucket {
            value: Nanos(value),
            count,
        });
        Distribution::from_buckets(buckets.collect(), Nanos(sum), Nanos(min), Nanos(max), 0)
    })
}

prop_compose! {
    fn arbitrary_stats()(
        (calls, spans, activations) in (number(), number(), number()),
        (busy, self_time, idle) in (number(), number(), prop::option::of(number())),
        activation in arbitrary_distribution(),
        latency in prop::option::of(arbitrary_distribution()),
        first in prop::option::of(number()),
        on_cpu in prop::option::of((number(), number())),
    ) -> Stats {
        Stats {
            calls,
            spans,
            activations,
            busy: Nanos(busy),
            self_time: Nanos(self_time),
            idle: idle.map(Nanos),
            activation,
            latency,
            first: first.map(Nanos),
            on_cpu: on_cpu.map(|(samples, running)| OnCpu::new(samples, running)),
            ..Stats::default()
        }
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

prop_compose! {
    fn arbitrary_profile()(
        sites in prop::collection::vec((arbitrary_stats(), prop::option::of(0..8_usize), number()), 0..4),
        threads in prop::collection::vec((number(), number(), 0..3_u32), 0..3),
        (wall, thread_time, busy, uncovered) in (number(), number(), number(), number()),
        (waiting, share_of_cpu) in (prop::option::of(number()), prop::option::of(any::<f64>())),
        (dropped, open, cut) in (number(), number(), number()),
    ) -> Planted {
        let mut planted = Planted::on_threads(threads.len() as u64, 0);
        for (index, (stats, _, open)) in sites.iter().enumerate() {
            planted = planted.site(NAMES[index], None, stats.clone());
            planted.profile.sites[index].open_root_activations = *open;
        }
        for (index, (_, parent, _)) in sites.iter().enumerate() {
            planted.profile.paths[index].parent = *parent;
        }
        let profile = &mut planted.profile;
        for (thread, (observed, busy, async_sites)) in profile.threads.iter_mut().zip(threads) {
            thread.observed = Nanos(observed);
            thread.busy = Nanos(busy);
            thread.async_sites = async_sites;
        }
        profile.wall = Nanos(wall);
        profile.split.thread_time = Nanos(thread_time);
        profile.split.busy = Nanos(busy);
        profile.split.uncovered = Nanos(uncovered);
        profile.split.waiting = waiting.map(Nanos);
        profile.overhead.share_of_cpu = share_of_cpu;
        profile.overhead.span_ns = f64::NAN;
        profile.losses.dropped_spans = dropped;
        profile.losses.dropped_events = dropped;
        profile.losses.open_spans = open;
        profile.losses.cut_strings = cut;
        planted
    }
}

pub(super) fn check(diagnosis: &Diagnosis) -> Result<(), TestCaseError> {
    prop_assert!(diagnosis.headline.ends_with('.'));
    let mut texts = vec![diagnosis.headline.as_str()];
    for finding in &diagnosis.findings {
        texts.extend([finding.message.as_str(), finding.recommendation.as_str()]);
        prop_assert!(!finding.message.is_empty() && !finding.example.is_empty());
        prop_assert!(
            finding
                .share
                .is_none_or(|share| (0.0..=1.0).contains(&share))
        );
        prop_assert!(finding.evidence.values().all(|number| number.is_finite()));
        prop_assert!(!diagnosis.is_healthy(finding.rule));
        let gain = finding.gain;
        let ordered = [gain.low, gain.likely, gain.bound];
        let ordered: Vec<f64> = ordered.into_iter().flatten().collect();
        prop_assert!(
            ordered
                .iter()
                .all(|factor| factor.is_finite() && *factor >= 1.0)
        );
        prop_assert!(ordered.is_sorted(), "{finding:#?}");
    }
    for text in texts {
        let words = text.split(|c: char| !c.is_alphanumeric());
        let broken = words
            .clone()
            .any(|word| word == "NaN" || word.starts_with("inf"));
        prop_assert!(!broken, "{text}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_profile_breaks_the_diagnosis(planted in arbitrary_profile()) {
        let diagnosis = planted.diagnosis();
        check(&diagnosis)?;
        prop_assert_eq!(diagnosis, planted.diagnosis());
    }

    #[test]
    fn plausible_profiles_are_ordered_by_what_they_can_save(
        shares in prop::collection::vec(0..400_u64, 1..4),
        threads in 1..4_u64,
        running in 0..100_u64,
    ) {
        let mut planted = Planted::on_threads(threads, 1_000).workers();
        for (index, share) in shares.iter().enumerate() {
            let stats = plain(&[(share * 100_000, 10)]);
            planted = planted.site(NAMES[index], None, sampled(stats, 100, running));
        }
        let diagnosis = planted.diagnosis();
        check(&diagnosis)?;
        let causes = diagnosis.findings.iter().filter(|finding| finding.rule == "CTX001");
        let shares: Vec<f64> = causes.filter_map(|finding| finding.share).collect();
        prop_assert!(shares.is_sorted_by(|one, next| one >= next));
    }
}

/// Everything at once: each rule fires.
fn ill() -> Planted {
    let mut first = plain(&[(MS, 2_000), (60 * MS, 60), (500 * MS, 1)]);
    first.first = Some(Nanos(500 * MS));
    let root = own(plain(&[(2_000 * MS, 1)]), 20 * MS);
    let mut planted = Planted::run(9_000)
        .workers()
        .site("main", None, own(plain(&[(5_000 * MS, 1)]), 4_600 * MS))
        .site(
            "read",
            Some(0),
            sampled(polled(&[(200 * MS, 4)], 4, 300 * MS), 50, 0),
        )
        .site(
            "hash",
            Some(0),
            sampled(polled(&[(100 * MS, 10)], 4, 300 * MS), 50, 50),
        )
        .site("fetch", None, first)
        .site("run", None, own(plain(&[(6_000 * MS, 1)]), 0))
        .site("sum", Some(4), sampled(plain(&[(600 * MS, 10)]), 50, 50))
        .site("dense", None, root);
    planted.profile.overhead.share_of_cpu = Some(0.3);
    planted.profile.losses.dropped_spans = 1;
    planted.profile.sites[6].open_root_activations = 99;
    planted
}

fn lenient() -> Thresholds {
    Thresholds {
        subtree_share: 0.1,
        uninstrumented_share: 0.3,
        root_overlap: 10.0,
        ..Thresholds::default()
    }
}

#[test]
fn causes_come_before_pointers_and_pointers_before_the_data() {
    let findings = diagnose(&ill().profile, &lenient()).findings;
    let rules: BTreeSet<_> = findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules.len(), 10, "{rules:?}");
    let standing = |rule: &str| match rule {
        "CTX002" | "CTX003" => 1,
        rule if rule.starts_with("CTX9") => 2,
        _ => 0,
    };
    assert!(findings.is_sorted_by_key(|finding| standing(finding.rule)));
    assert!(
        findings
            .iter()
            .skip_while(|f| standing(f.rule) == 0)
            .all(|f| f.severity <= Severity::Low)
    );
}

#[test]
fn examples_are_valid_rust() {
    let mut examples: BTreeSet<String> = BTreeSet::new();
    let mut show = |diagnosis: Diagnosis| {
        examples.extend(
            diagnosis
                .findings
                .into_iter()
                .map(|finding| finding.example),
        );
    };
    show(diagnose(&ill().profile, &lenient()));
    show(Planted::run(1_000).diagnosis());
    show(
        Planted::run(10)
            .site("step", None, plain(&[(MS, 1)]))
            .diagnosis(),
    );
    for loss in 0..6 {
        let mut planted = Planted::run(1_000).site("step", None, plain(&[(60 * MS, 9)]));
        let losses = &mut planted.profile.losses;
        let counters = [
            &mut losses.untracked_spans,
            &mut losses.teardown,
            &mut losses.dropped_events,
            &mut losses.open_spans,
            &mut losses.folded_activations,
            &mut losses.cut_strings,
        ];
        for (index, counter) in counters.into_iter().enumerate() {
            *counter = if index == loss { 20 } else { 0 };
        }
        show(planted.diagnosis());
    }
    assert_eq!(examples.len(), 18, "{examples:#?}");
    for example in examples {
        assert!(parses(&example).unwrap_or(true), "{example}");
    }
}

/// Asks rustfmt, which parses what it formats; `None` where it is not installed.
pub(super) fn parses(example: &str) -> Option<bool> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let code = format!("async fn example() {{\n{example}\n}}\n");
    rustfmt.stdin.take()?.write_all(code.as_bytes()).ok()?;
    Some(rustfmt.wait().ok()?.success())
}

#[test]
fn adding_healthy_work_lowers_every_share() {
    let share = |wall_ms| {
        let mut planted = Planted::run(wall_ms);
        planted = planted.site("sum", None, sampled(plain(&[(50 * MS, 10)]), 50, 50));
        planted.finding("CTX001").share
    };
    assert!(share(1_000) > share(1_500));
}
