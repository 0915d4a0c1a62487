//! Work that threads share unevenly, or not at all.

use super::{Grown, MS, profile};
use crate::diagnose::planted::Planted;
use crate::model::{Confidence, Severity};

/// Three roots, each of which waits for one `a` on each of four threads, which take so many ms.
fn shares(ms: [u64; 4]) -> Planted {
    let mut trees = Vec::new();
    let mut at = 0;
    for _ in 0..3 {
        let mut tree = Grown::default();
        tree.add(0, None, at, at);
        let longest = ms.into_iter().max().unwrap() * MS;
        for (thread, ms) in (1..).zip(ms) {
            tree.add(1, Some(0), at + MS, at + MS + ms * MS);
            tree.last().thread = thread;
        }
        at += longest + MS;
        trees.push(tree.root_to(at));
    }
    profile(trees, &["root"])
}

#[test]
fn the_thread_that_got_most_is_what_balance_saves() {
    let planted = shares([20, 20, 20, 60]);
    let finding = planted.finding("CTX203");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("a", Severity::High)
    );
    assert_eq!(finding.evidence["imbalance"], 1.0);
    // Of 61 ms the mean of 30 and 1 before it stay.
    assert!(
        (finding.saving.unwrap() - 30.0 / 61.0).abs() < 1e-3,
        "{finding:#?}"
    );
    assert!(finding.gain.low <= finding.gain.bound);
    assert!(planted.findings("CTX001").is_empty());
}

#[test]
fn nearly_even_shares_and_short_regions_are_healthy() {
    assert!(shares([28, 30, 30, 34]).is_silent("CTX203"));
    assert!(shares([1, 1, 1, 3]).findings("CTX203").is_empty());
}

#[test]
fn a_task_that_moves_between_threads_is_not_shared_work() {
    let mut tree = Grown::default();
    tree.add(0, None, 0, 0);
    for at in 0..20 {
        tree.add(1, Some(0), at * 20 * MS, (at * 20 + 19) * MS);
        tree.last().thread = u32::from(at % 5 == 4);
    }
    let planted = profile(vec![tree.root_to(400 * MS)], &[]);
    assert!(planted.findings("CTX203").is_empty());
}

#[test]
fn one_item_that_is_too_long_to_share_is_not_promised_away() {
    let mut tree = Grown::default();
    tree.add(0, None, 0, 0);
    tree.add(1, Some(0), 0, 300 * MS);
    tree.last().thread = 1;
    for at in 0..10 {
        tree.add(1, Some(0), at * 10 * MS, (at + 1) * 10 * MS);
        tree.last().thread = 2;
    }
    let planted = profile(vec![tree.root_to(300 * MS)], &["root"]);
    assert!(planted.is_silent("CTX203"));
}

/// Rounds in which each of three threads runs one `a` as a root, so many ms long and beginning at so many ms.
fn unattached(rounds: u64, parts: [(u64, u64); 3]) -> Planted {
    let mut trees = Vec::new();
    for round in 0..rounds {
        for (thread, (from, ms)) in (1..).zip(parts) {
            let from = round * 100 * MS + from * MS;
            let mut tree = Grown::default();
            tree.add(1, None, from, from + ms * MS);
            tree.last().thread = thread;
            trees.push(tree);
        }
    }
    profile(trees, &[])
}

#[test]
fn threads_that_are_no_part_of_any_span_are_seen_when_they_start_together() {
    let planted = unattached(4, [(0, 20), (1, 20), (1, 80)]);
    let finding = planted.finding("CTX203");
    assert_eq!(finding.site, "a");
    assert_eq!(
        (finding.saving, finding.gain.low),
        (None, None),
        "nothing was replayed"
    );
    assert!(
        (finding.share.unwrap() - 160.0 / 381.0).abs() < 0.01,
        "{finding:#?}"
    );
    assert!(planted.findings("CTX001").is_empty());
    let requests = unattached(4, [(0, 60), (30, 20), (45, 40)]);
    assert!(
        requests.findings("CTX203").is_empty(),
        "requests come when they come"
    );
}

/// A stage `a` on the first thread, so many ms long, then `b` on so many threads for 60 ms.
fn stages(serial: u64, threads: u32, independent: bool) -> Planted {
    let mut tree = Grown::default();
    tree.add(0, None, 0, 0);
    tree.add(1, Some(0), 0, serial * MS);
    if independent {
        tree.field("cortex.independent", true);
    }
    for thread in 0..threads {
        tree.add(2, Some(0), serial * MS, (serial + 60) * MS);
        tree.last().thread = thread;
    }
    let mut planted = profile(vec![tree.root_to((serial + 60) * MS)], &["root"]);
    planted.profile.process.cores = Some(4);
    planted
}

#[test]
fn a_stage_that_computes_alone_before_a_pool_is_worth_sharing() {
    let planted = stages(60, 4, false);
    let finding = planted.finding("CTX204");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("a", Severity::High)
    );
    assert_eq!(finding.evidence["workers"], 4.0);
    assert!((finding.share.unwrap() - 0.5).abs() < 1e-9);
    assert!(
        (finding.saving.unwrap() - 0.375).abs() < 1e-9,
        "three quarters of it: {finding:#?}"
    );
    assert_eq!(
        finding.gain.low.map(|low| (low * 100.0).round()),
        Some(133.0)
    );
    assert_eq!(
        finding.gain.bound.map(|bound| (bound * 100.0).round()),
        Some(200.0)
    );
}

#[test]
fn one_thread_alone_has_no_workers_unless_the_program_says_that_parts_are_independent() {
    assert!(stages(60, 1, false).is_silent("CTX204"));
    assert_eq!(
        stages(60, 1, true).finding("CTX204").confidence,
        Confidence::High
    );
    let mut one_core = stages(60, 1, true);
    one_core.profile.process.cores = Some(1);
    assert!(one_core.findings("CTX204").is_empty());
}

#[test]
fn a_short_stage_one_that_waits_and_one_that_runs_beside_itself_are_left_alone() {
    assert!(stages(10, 4, false).is_silent("CTX204"));
    let mut waits = stages(60, 4, false);
    waits.profile.sites[1].stats.on_cpu = Some(crate::model::OnCpu::new(100, 10));
    assert!(waits.is_silent("CTX204"));
    // Requests that sometimes meet: most of `a` is alone, but what is parallel is `a` itself.
    let mut trees = Vec::new();
    for number in 0..10 {
        let mut tree = Grown::default();
        tree.add(1, None, number * 18 * MS, (number * 18 + 20) * MS);
        tree.last().thread = (number % 2) as u32;
        trees.push(tree);
    }
    assert!(profile(trees, &[]).is_silent("CTX204"));
}

#[test]
fn without_samples_the_stage_is_named_as_unknown() {
    let mut planted = stages(60, 4, false);
    planted.profile.sites[1].stats.on_cpu = None;
    assert!(planted.findings("CTX204").is_empty());
    assert!(planted.finding("CTX903").message.contains("CTX204"));
}
