//! Devices that are used badly, and their twins that are not.

mod work;

use std::sync::Arc;

use proptest::prelude::*;

use super::critical_path::span;
use crate::diagnose::planted::{MS, Planted, distribution, own, plain, sampled};
use crate::diagnose::{Thresholds, diagnose};
use crate::model::{
    Diagnosis, GpuDeviceStats, GpuPause, GpuProfile, GpuSource, GpuStats, GpuTotals, KeptTree,
    Nanos, OperationTree, RootTrees, Severity, SiteId, TreeField, TreeValue,
};

const US: u64 = 1_000;
const STEPS: u64 = 50;
const STEP: u64 = 20 * MS;

/// A second of 50 steps of 20 ms: in the first `host` ns of each the host prepares, then the device works for `work` ns
/// and the host waits for it.
fn steps(host: u64, work: u64) -> Planted {
    let calls = |ns: u64| plain(&[(ns, STEPS)]);
    let mut planted = Planted::run(1_000)
        .site("turn", None, own(calls(STEP), (STEP - host) * STEPS))
        .site("fetch", Some(0), calls(host));
    let starts: Vec<u64> = (0..STEPS).map(|step| step * STEP + host).collect();
    let row = device(
        0,
        &starts.iter().map(|&at| (at, at + work)).collect::<Vec<_>>(),
    );
    let totals = row.totals.clone();
    planted.profile.gpu = Some(GpuProfile {
        devices: vec![row],
        ..GpuProfile::default()
    });
    let trees = (0..STEPS).map(|step| {
        let (start, end) = (step * STEP, (step + 1) * STEP);
        let mut tree = OperationTree::new(vec![span(0, None, 0, 1), span(1, Some(0), 0, 1)]);
        for (span, site) in tree.spans.iter_mut().zip(&planted.profile.sites) {
            span.site = Arc::clone(&site.site);
            (span.start, span.end) = (Nanos(start), Nanos(end));
        }
        tree.spans[1].end = Nanos(start + host);
        KeptTree::sampled(tree)
    });
    let trees = trees.collect();
    let root = Arc::clone(&planted.profile.sites[0].site);
    planted.profile.trees = vec![RootTrees::new(root, trees)];
    used_by(&mut planted, 0, totals);
    planted
}

/// A device that did nothing but these kernels, each launched when the host was done with something else.
fn device(ordinal: u32, kernels: &[(u64, u64)]) -> GpuDeviceStats {
    let mut row = GpuDeviceStats::default();
    row.device.ordinal = ordinal;
    let (first, last) = (kernels[0].0, kernels[kernels.len() - 1].1);
    row.window = Nanos(last - first);
    row.pauses.began = Nanos(first);
    row.pauses.since = Nanos(first);
    row.pauses.window = Nanos(MS);
    row.pauses.busy = vec![Nanos::ZERO; row.window.0.div_ceil(MS) as usize];
    for &(start, end) in kernels {
        let mut at = start - first;
        while at < end - first {
            let until = (end - first).min((at / MS + 1) * MS);
            row.pauses.busy[(at / MS) as usize].0 += until - at;
            at = until;
        }
    }
    let pauses = kernels.windows(2).filter(|two| two[1].0 > two[0].1);
    row.pauses.pauses = pauses
        .map(|two| GpuPause::new(Nanos(two[0].1), Nanos(two[1].0)))
        .collect();
    let busy: u64 = kernels.iter().map(|(start, end)| end - start).sum();
    let count = kernels.len() as u64;
    row.kernel_busy = Nanos(busy);
    row.totals = GpuTotals {
        busy: Nanos(busy),
        kernels: count,
        kernel_time: Nanos(busy),
        kernel_lengths: Some(distribution(&[(busy / count, count)])),
        launches: count,
        launch_time: Nanos(count * 4 * US),
        sources: vec![GpuSource::Cupti],
        ..GpuTotals::default()
    };
    row
}

/// Says of the only path with this index that its spans have the device do all this.
fn used_by(planted: &mut Planted, path: usize, totals: GpuTotals) {
    let gpu = GpuStats {
        total: totals.clone(),
        own: totals,
    };
    planted.profile.paths[path].stats.gpu = Some(Box::new(gpu.clone()));
    planted.profile.sites[path].stats.gpu = Some(Box::new(gpu));
}

/// Changes what the only device did, and says so of the step.
fn with(mut planted: Planted, change: impl FnOnce(&mut GpuDeviceStats)) -> Planted {
    let gpu = planted.profile.gpu.as_mut().unwrap();
    change(&mut gpu.devices[0]);
    let totals = gpu.devices[0].totals.clone();
    used_by(&mut planted, 0, totals);
    planted
}

fn say(planted: &mut Planted, span: usize, name: &'static str, value: TreeValue) {
    for kept in &mut planted.profile.trees[0].kept {
        let value = value.clone();
        kept.tree.spans[span].fields.push(TreeField { name, value });
    }
}

fn loading(host: u64, work: u64) -> Planted {
    let mut planted = steps(host, work);
    say(
        &mut planted,
        1,
        "cortex.kind",
        TreeValue::Text("load".into()),
    );
    planted
}

fn rules(diagnosis: &Diagnosis) -> Vec<&'static str> {
    let findings = diagnosis.findings.iter();
    findings.map(|finding| finding.rule).collect()
}

fn about(share: Option<f64>, expected: f64) -> bool {
    share.is_some_and(|share| (share - expected).abs() < 0.02)
}

#[test]
fn a_loader_that_lets_the_device_wait_is_named_and_the_promise_is_what_can_be_hidden() {
    let planted = loading(8 * MS, 12 * MS);
    let finding = planted.finding("CTX502");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("fetch", Severity::High)
    );
    assert!(
        about(finding.share, 0.4) && about(finding.saving, 0.4),
        "{finding:#?}"
    );
    assert!(finding.gain.low.unwrap() <= finding.gain.bound.unwrap() + 1e-9);
    // The rest of the step waits for the device, which is no finding.
    let waited = with(planted, |row| {
        row.totals.syncs = STEPS;
        row.totals.sync_time = Nanos(12 * MS * STEPS);
    });
    assert_eq!(rules(&waited.diagnosis()), ["CTX502"]);

    // Loading takes longer than computing: only as much as the device computes can be hidden.
    let slow = loading(15 * MS, 5 * MS);
    assert!(about(slow.finding("CTX502").saving, 0.25));
    assert_eq!(slow.findings("CTX501"), [], "the cause is known");
}

#[test]
fn a_loader_beside_which_the_device_works_is_no_finding() {
    let mut planted = loading(8 * MS, 12 * MS);
    let gpu = planted.profile.gpu.as_mut().unwrap();
    gpu.devices[0] = device(
        0,
        &(0..STEPS)
            .map(|at| (at * STEP, at * STEP + 15 * MS))
            .collect::<Vec<_>>(),
    );
    assert!(planted.is_silent("CTX502"));
    // Of 5 % and half of it idle.
    assert_eq!(loading(MS / 2, 12 * MS).findings("CTX502"), []);
    assert_eq!(
        steps(8 * MS, 12 * MS).findings("CTX502"),
        [],
        "it may do anything"
    );
}

#[test]
fn a_device_that_waits_for_the_host_without_a_known_cause_is_underused() {
    let planted = steps(12 * MS, 8 * MS);
    let finding = planted.finding("CTX501");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("GPU 0", Severity::High)
    );
    assert!(
        about(finding.share, 0.59) && about(finding.saving, 0.4),
        "{finding:#?}"
    );
    assert!(finding.message.contains("`fetch`"), "{}", finding.message);
    assert!(steps(9 * MS, 11 * MS).is_silent("CTX501"));
    // A device that is hardly needed promises nothing.
    let rarely = steps(19_900 * US, 100 * US).finding("CTX501");
    assert_eq!(rarely.severity, Severity::Low);
}

#[test]
fn a_device_that_has_nothing_to_do_because_the_program_has_nothing_is_used_well() {
    let mut planted = steps(2 * MS, 8 * MS);
    for kept in &mut planted.profile.trees[0].kept {
        let root = &mut kept.tree.spans[0];
        root.end = Nanos(root.start.0 + 10 * MS);
        kept.open = Nanos(10 * MS);
    }
    planted.profile.trees[0].wall = Nanos(10 * MS * STEPS);
    for stats in [
        &mut planted.profile.sites[0].stats,
        &mut planted.profile.paths[0].stats,
    ] {
        *stats = own(plain(&[(10 * MS, STEPS)]), 8 * MS * STEPS);
    }
    assert!(planted.is_silent("CTX501"));
    // It computes something in between, without a span.
    planted.profile.process.cpu = Some(Nanos(900 * MS));
    planted.profile.split.busy = Nanos(400 * MS);
    planted.profile.split.waiting = Some(Nanos::ZERO);
    assert!(about(planted.finding("CTX501").saving, 0.4));
}

#[test]
fn too_little_work_is_judged_by_nobody() {
    let few = with(steps(12 * MS, 8 * MS), |row| row.totals.kernels = 19);
    assert_eq!(
        rules(&few.diagnosis())
            .iter()
            .filter(|rule| rule.starts_with("CTX5"))
            .count(),
        0
    );
    let lost = {
        let mut planted = steps(12 * MS, 8 * MS);
        planted.profile.gpu.as_mut().unwrap().dropped_records = 10;
        planted
    };
    assert_eq!(
        lost.findings("CTX501"),
        [],
        "where records are lost it looks idle"
    );
}

#[test]
fn what_the_host_waits_for_a_device_is_no_hot_code_of_its_own() {
    // The driver spins: the samples say that the thread computes.
    let mut planted = steps(MS, 19 * MS);
    planted.profile.sites[0].stats = sampled(planted.profile.sites[0].stats.clone(), 100, 100);
    let hot = planted.findings("CTX001");
    assert_eq!(hot.len(), 1);
    let waits = with(planted, |row| {
        row.totals.syncs = STEPS;
        row.totals.sync_time = Nanos(18 * MS * STEPS);
    });
    assert_eq!(waits.findings("CTX001"), []);
}

fn nonsense() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), 0..3_000_000_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    /// Whatever the numbers, no promise is above its bound and no share out of its range.
    #[test]
    fn numbers_that_cannot_be_are_judged_without_harm(
        numbers in prop::collection::vec(nonsense(), 16),
        pauses in prop::collection::vec((nonsense(), nonsense()), 0..5),
    ) {
        let planted = with(loading(8 * MS, 12 * MS), |row| {
            let mut next = numbers.into_iter();
            let mut next = || next.next().unwrap_or(7);
            row.window = Nanos(next());
            row.kernel_busy = Nanos(next());
            (row.pauses.began, row.pauses.since) = (Nanos(next()), Nanos(next()));
            row.pauses.window = Nanos(next());
            let totals = &mut row.totals;
            (totals.kernels, totals.copies) = (next(), next());
            (totals.busy, totals.kernel_time) = (Nanos(next()), Nanos(next()));
            (totals.blocking_time, totals.free_time) = (Nanos(next()), Nanos(next()));
            (totals.blocking_bytes, totals.free_bytes) = (next(), next());
            (totals.syncs, totals.launches) = (next(), next());
            totals.sync_time = Nanos(next());
            let pauses = pauses.into_iter().map(|(start, end)| {
                let mut pause = GpuPause::new(Nanos(start), Nanos(end));
                pause.after_wait = Some(SiteId((start % 4) as u32));
                pause
            });
            row.pauses.pauses = pauses.collect();
        });
        for finding in planted.diagnosis().findings {
            let bound = finding.gain.bound.unwrap_or(f64::INFINITY);
            for gain in [finding.gain.low, finding.gain.likely].into_iter().flatten() {
                prop_assert!(gain.is_finite() && (1.0..=bound).contains(&gain), "{finding:#?}");
            }
            for share in [finding.share, finding.saving].into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&share), "{finding:#?}");
            }
            prop_assert!(finding.evidence.values().all(|value| value.is_finite()), "{finding:#?}");
        }
    }
}
