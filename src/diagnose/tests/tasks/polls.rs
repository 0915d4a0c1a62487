use super::{grown, plain_span, polled_at, root};
use crate::diagnose::planted::{MS, Planted, own, plain, polled, sampled};
use crate::model::{Activation, Confidence, CpuTime, Nanos, OnCpu, Severity, TreeSpan};

/// Two workers for four seconds; one poll of `crunch` takes `ms`.
pub(super) fn one_long_poll(ms: u64) -> Planted {
    let stats = polled(&[(10_000, 1), (ms * MS, 1)], 1, (ms + 1) * MS);
    Planted::on_threads(2, 4_000)
        .workers()
        .site("crunch", None, sampled(stats, 100, 97))
        .site("tick", None, polled(&[(10_000, 50)], 50, MS))
}

#[test]
fn a_poll_of_a_second_never_yields_and_is_not_told_twice() {
    let planted = one_long_poll(1_500);
    let finding = planted.finding("CTX106");
    assert_eq!(
        (finding.site.as_str(), finding.severity, finding.confidence),
        ("crunch", Severity::Medium, Confidence::High)
    );
    assert_eq!(finding.evidence["max_ns"], 1.5e9);
    assert_eq!(finding.share, Some(1.5 / 8.0));
    assert!(
        finding
            .message
            .starts_with("`crunch` ran for 1.50 s in one poll without yielding once."),
        "{}",
        finding.message
    );
    assert!(planted.findings("CTX102").is_empty());
    assert!(planted.findings("CTX001").is_empty());
    assert!(one_long_poll(980).is_silent("CTX106"));
    assert_eq!(one_long_poll(980).findings("CTX102").len(), 1);
    let mut blocking = one_long_poll(1_500);
    blocking.profile.sites[0].workers = 0;
    blocking.profile.sites[1].workers = 0;
    assert!(blocking.findings("CTX106").is_empty());
}

#[test]
fn a_poll_that_sleeps_for_a_second_blocks_instead() {
    let mut planted = one_long_poll(1_500);
    planted.profile.sites[0].stats.on_cpu = Some(OnCpu::new(100, 0));
    planted.profile.paths[0].stats.on_cpu = Some(OnCpu::new(100, 0));
    assert!(planted.findings("CTX106").is_empty());
    assert_eq!(planted.finding("CTX101").severity, Severity::High);
}

/// Polls of 50 ms whose CPU time was measured; the threads were ready in so many of 100 samples.
fn measured(cpu_ms: u64, ready: u64) -> Planted {
    let mut stats = sampled(polled(&[(50 * MS, 10)], 10, 60 * MS), 100, ready);
    stats.cpu = Some(CpuTime::new(10, Nanos(500 * MS), Nanos(cpu_ms * MS)));
    Planted::on_threads(2, 1_000)
        .workers()
        .site("read", None, stats)
}

#[test]
fn a_thread_without_a_core_neither_waits_nor_computes() {
    let descheduled = measured(100, 95);
    assert!(descheduled.findings("CTX101").is_empty());
    assert!(descheduled.findings("CTX102").is_empty());
    assert_eq!(measured(100, 20).findings("CTX101").len(), 1);
    let computes = measured(480, 98).finding("CTX102");
    assert_eq!(computes.confidence, Confidence::High);
    assert!(
        computes.message.contains("On a CPU for 96 % of it."),
        "{}",
        computes.message
    );
}

#[test]
fn short_polls_that_lost_their_core_are_not_heavy() {
    let planted = |got_ms: u64| {
        let stats = sampled(polled(&[(2 * MS, 400)], 100, 60 * MS), 100, 100);
        let mut planted = Planted::on_threads(2, 1_000)
            .workers()
            .busy(500)
            .site("task", None, stats);
        planted.profile.split.waiting = Some(Nanos::ZERO);
        planted.profile.process.cpu = Some(Nanos(got_ms * MS));
        planted
    };
    assert_eq!(planted(1_000).findings("CTX102").len(), 1);
    assert_eq!(
        planted(501).findings("CTX102").len(),
        1,
        "1.002 ms on a core"
    );
    assert!(planted(490).is_silent("CTX102"), "0.98 ms on a core");

    let mut few = planted(700);
    let stats = sampled(
        polled(&[(MS / 2, 1_000), (16 * MS, 50)], 100, 60 * MS),
        100,
        100,
    );
    few.profile.sites[0].stats = stats.clone();
    few.profile.paths[0].stats = stats;
    assert!(few.is_silent("CTX102"), "one in 21 polls lost its core");
    few.profile.process.cpu = Some(Nanos(2_000 * MS));
    assert_eq!(few.findings("CTX102").len(), 1, "there were cores enough");
}

#[test]
fn measured_waiting_on_a_starved_machine_needs_samples() {
    let mut planted = measured(100, 0);
    for stats in [
        &mut planted.profile.sites[0].stats,
        &mut planted.profile.paths[0].stats,
    ] {
        stats.on_cpu = None;
    }
    assert_eq!(planted.findings("CTX101").len(), 1);
    planted.profile.split.waiting = Some(Nanos::ZERO);
    planted.profile.process.cpu = Some(Nanos(500 * MS));
    assert!(planted.findings("CTX101").is_empty());
    assert!(planted.finding("CTX903").message.contains("CTX101"));
}

#[test]
fn one_long_poll_that_was_measured_says_as_much_as_many() {
    let measured = |busy_ms: u64, cpu_ms: u64| {
        let mut planted = one_long_poll(1_500);
        let cpu = CpuTime::new(1, Nanos(busy_ms * MS), Nanos(cpu_ms * MS));
        for stats in [
            &mut planted.profile.sites[0].stats,
            &mut planted.profile.paths[0].stats,
        ] {
            (stats.on_cpu, stats.cpu) = (None, Some(cpu));
        }
        planted
    };
    assert_eq!(measured(1_500, 1_480).findings("CTX106").len(), 1);
    assert_eq!(measured(1_500, 20).findings("CTX101").len(), 1);
    assert_eq!(measured(100, 99).findings("CTX106").len(), 1);
    let short = measured(99, 99);
    assert!(short.findings("CTX106").is_empty());
    assert!(short.finding("CTX903").message.contains("CTX106"));
}

#[test]
fn run_queues_tell_waiting_from_wanting_a_core_without_samples() {
    let queued = |ms: u64| {
        let mut planted = measured(100, 0);
        planted.profile.sites[0].stats.on_cpu = None;
        planted.profile.paths[0].stats.on_cpu = None;
        planted.profile.split.waiting = Some(Nanos::ZERO);
        planted.profile.process.cpu = Some(Nanos(500 * MS));
        planted.profile.threads[0].cpu = Some(Nanos(200 * MS));
        planted.profile.threads[0].run_queue = Some(Nanos(ms * MS));
        planted
    };
    assert_eq!(queued(290).findings("CTX101").len(), 1, "ready for 49 %");
    assert!(queued(310).is_silent("CTX101"), "ready for 51 %");
}

#[test]
fn a_few_slow_polls_among_many_short_ones_may_be_those_that_lost_their_core() {
    let rare = |queued_ms: u64, cpu_ms: u64| {
        let polls = polled(&[(100_000, 500), (20 * MS, 20)], 10, 60 * MS);
        let mut stats = sampled(polls, 0, 0);
        stats.cpu = Some(CpuTime::new(520, Nanos(450 * MS), Nanos(cpu_ms * MS)));
        let mut planted = Planted::on_threads(2, 1_000)
            .workers()
            .site("task", None, stats);
        planted.profile.threads[0].cpu = Some(Nanos(1_000 * MS));
        planted.profile.threads[0].run_queue = Some(Nanos(queued_ms * MS));
        planted
    };
    for (rule, cpu_ms) in [("CTX101", 50), ("CTX102", 440)] {
        assert_eq!(rare(190, cpu_ms).findings(rule).len(), 1, "{rule}");
        assert!(rare(210, cpu_ms).is_silent(rule), "{rule}");
    }
}

/// Async `task` with short polls, and `compute` of 40 ms below it, on a thread of its own or in a poll.
fn computes(in_a_poll: bool, with_trees: bool) -> Planted {
    let compute = plain(&[(40 * MS, 8)]);
    let task = match in_a_poll {
        true => own(
            polled(&[(100_000, 8), (40 * MS + 100_000, 8)], 8, 60 * MS),
            MS,
        ),
        false => polled(&[(100_000, 16)], 8, 60 * MS),
    };
    let planted = Planted::on_threads(2, 500)
        .workers()
        .busy(200)
        .site("task", None, sampled(task, 50, 50))
        .site("compute", Some(0), sampled(compute, 100, 100));
    if !with_trees {
        return planted;
    }
    let tree = |_| {
        let mut task = polled_at(root(60_000), &[0, 50_000], 1);
        let mut compute = plain_span(2, Some(0), 10_000, 50_000);
        compute.thread = 3;
        if in_a_poll {
            task.activations[0].end = Nanos(50 * MS);
            compute.thread = 1;
        }
        vec![task, compute]
    };
    grown(planted, (0..8).map(tree).collect())
}

#[test]
fn what_computes_on_a_thread_of_its_own_keeps_no_worker() {
    for with_trees in [false, true] {
        let finding = computes(true, with_trees).finding("CTX102");
        assert_eq!(finding.site, "compute", "{with_trees}");
        let beside = computes(false, with_trees);
        assert!(beside.is_silent("CTX102"), "{with_trees}");
    }
}

/// One root with one async span inside that blocks for half a second; `inner` on a thread.
fn single(inner: impl Fn(TreeSpan) -> TreeSpan) -> Planted {
    let mut blocked = plain_span(2, Some(0), 100_000, 600_000);
    blocked = inner(polled_at(blocked, &[100_000], 0));
    blocked.activations[0].end = Nanos(600 * MS);
    blocked.busy = Nanos(500 * MS);
    let mut main = root(1_000_000);
    main.activations = [(0, 100), (600, 1_000)]
        .map(|(begin, end)| Activation::new(Nanos(begin * MS), Nanos(end * MS), 0))
        .to_vec();
    let planted = Planted::run(1_000)
        .workers()
        .busy(800)
        .site(
            "root",
            None,
            own(polled(&[(1_000 * MS, 1)], 1, 1_000 * MS), 1),
        )
        .site(
            "a",
            Some(0),
            sampled(polled(&[(500 * MS, 1)], 1, 500 * MS), 50, 0),
        );
    grown(planted, vec![vec![main, blocked]])
}

#[test]
fn the_only_task_of_a_program_blocks_nobody() {
    assert!(single(|span| span).findings("CTX101").is_empty());
    let spawned = single(|mut span| {
        span.activations[0].thread = 1;
        span.thread = 1;
        span
    });
    let finding = spawned.finding("CTX101");
    assert_eq!(finding.site, "a");
    assert_eq!(finding.evidence["replayed_saving"], 0.5);
    assert_eq!((finding.saving, finding.gain.likely), (Some(0.5), None));
}

/// A worker with one task that is polled a million times in a second, for `ns` each.
pub(super) fn spinning(polls: u64, ns: u64) -> Planted {
    let stats = polled(&[(ns, polls)], 1, 1_000 * MS);
    let mut planted =
        Planted::on_threads(2, 1_000)
            .workers()
            .busy(100)
            .site("wait_for_it", None, stats);
    planted.profile.process.cpu = Some(Nanos(1_100 * MS));
    planted
}

#[test]
fn a_task_that_is_polled_again_at_once_spins() {
    let planted = spinning(1_000_000, 100);
    let finding = planted.finding("CTX105");
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(
        finding.share.map(|share| (share * 100.0).round()),
        Some(91.0)
    );
    assert_eq!(finding.gain.low, None);
    assert!(
        finding.message.starts_with(
            "`wait_for_it` was polled 999999 times, every 1.00 us on average and for 100 ns (median)"
        ),
        "{}",
        finding.message
    );
}

#[test]
fn polls_that_work_or_come_at_leisure_do_not_spin() {
    assert!(spinning(39_000, 100).is_silent("CTX105"), "every 26 us");
    assert_eq!(
        spinning(41_000, 100).findings("CTX105").len(),
        1,
        "every 24 us"
    );
    let mut idle = spinning(1_000_000, 100);
    idle.profile.process.cpu = Some(Nanos(290 * MS));
    assert!(idle.is_silent("CTX105"), "the cores have nothing to do");
    assert!(spinning(190_000, 5_100).is_silent("CTX105"));
    let mut many = spinning(1_000_000, 100);
    let stats = polled(&[(100, 1_000_000)], 1_100, MS);
    many.profile.sites[0].stats = stats.clone();
    many.profile.paths[0].stats = stats;
    assert!(many.is_silent("CTX105"), "909 polls a span");
    let mut crowded = spinning(21_000, 100);
    assert!(crowded.is_silent("CTX105"), "every 48 us");
    crowded.profile.sites[0].stats.cpu = Some(CpuTime::new(1_000, Nanos(100_000), Nanos(51_000)));
    assert_eq!(crowded.findings("CTX105").len(), 1, "but with half a core");
    let handles = spinning(1_000_000, 100).site("item", Some(0), plain(&[(50, 900_000)]));
    assert!(handles.is_silent("CTX105"), "each poll has an item");
}

/// 200 tasks, spawned at once and run one after the other by one worker that needs 5 ms for each.
pub(super) fn queued(ms: u64) -> Planted {
    let count = 200;
    let wall = count * ms;
    let mut tree = vec![root(wall * 1_000 + 10)];
    for task in 0..count {
        let (start, end) = (task * ms * 1_000 + 1, (task + 1) * ms * 1_000);
        let mut task = polled_at(plain_span(2, Some(0), 1, end), &[start], 1);
        task.activations[0].end = Nanos(end * 1_000);
        task.busy = Nanos(ms * MS);
        tree.push(task);
    }
    let mut planted = Planted::on_threads(1, wall)
        .workers()
        .site(
            "root",
            None,
            own(polled(&[(1_000, 1)], 1, wall * MS), 1_000),
        )
        .site(
            "a",
            Some(0),
            polled(&[(ms * MS, count)], count, wall * MS / 2),
        );
    // The polls themselves are another rule's.
    planted.profile.sites[1].stats.on_cpu = None;
    grown(planted, vec![tree])
}

#[test]
fn tasks_that_wait_for_a_worker_are_told_with_the_longest_poll() {
    // Short of CPU samples, so neither 101 nor 102 can explain it.
    let planted = queued(5);
    let finding = planted.finding("CTX104");
    assert_eq!(finding.site, "a");
    assert!(finding.evidence["delay_p95_ns"] > 9.4e8, "{finding:?}");
    assert!(
        finding
            .message
            .contains("The longest poll was one of `a`, 5.00 ms."),
        "{}",
        finding.message
    );
    assert!(finding.saving > Some(0.9) && finding.gain.low.is_none());

    let mut explained = queued(5);
    for stats in [
        &mut explained.profile.sites[1].stats,
        &mut explained.profile.paths[1].stats,
    ] {
        stats.on_cpu = Some(OnCpu::new(50, 50));
    }
    assert_eq!(explained.findings("CTX102").len(), 1);
    assert!(explained.is_silent("CTX104"));
    assert!(
        queued(5).busy(400).is_silent("CTX104"),
        "idle workers delay nobody"
    );
    let mut few = queued(5);
    few.profile.trees[0].kept[0].tree.spans.truncate(100);
    assert!(few.findings("CTX104").is_empty());
    assert!(
        few.finding("CTX903")
            .message
            .contains("CTX104 for `a` (99 of 100 starts of tasks)")
    );
}

#[test]
fn who_is_polled_by_its_parent_was_not_waiting_for_a_worker() {
    let mut planted = queued(5);
    let tree = &mut planted.profile.trees[0].kept[0].tree;
    let wall = tree.spans[0].end;
    tree.spans[0].activations = vec![Activation::new(Nanos::ZERO, wall, 1)];
    assert!(planted.findings("CTX104").is_empty());
}
