use crate::diagnose::planted::{MS, Planted, own, plain, polled, sampled};
use crate::diagnose::{Thresholds, diagnose};
use crate::model::{Confidence, Nanos, OnCpu, PathStats, Severity};

fn hot(self_ms: u64, samples: u64, running: u64) -> Planted {
    let stats = sampled(plain(&[(self_ms * MS / 10, 10)]), samples, running);
    Planted::run(1_000).site("tokenize", None, stats)
}

#[test]
fn a_hot_site_is_named_with_its_share_and_what_halving_it_gains() {
    let planted = hot(600, 200, 200);
    let finding = planted.finding("CTX001");
    assert_eq!(finding.site, "tokenize");
    assert_eq!(finding.location.as_deref(), Some("src/app.rs:1"));
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.confidence, Confidence::High);
    assert_eq!(finding.share, Some(0.6));
    assert_eq!(finding.gain.bound, Some(2.5));
    assert_eq!(finding.gain.low, Some(1.0 / 0.7));
    assert_eq!(finding.evidence["self_ns"], 6e8);
    assert_eq!(finding.evidence["calls"], 10.0);
    assert_eq!(finding.evidence["cpu_samples"], 200.0);
    assert_eq!(
        finding.message,
        "`tokenize` spends 600 ms in its own code, on a CPU or ready for one in 100 % of the samples: 60 % of the wall time. \
         Removing all of it cannot beat 2.50x; halving it gives 1.42x."
    );
    assert_eq!(
        planted.diagnosis().headline,
        "`tokenize` takes 60 % of the wall time (600 ms in its own code); \
         halving it makes the program 1.42x as fast."
    );
}

/// `tokenize` spends 600 ms, this much of it below the chain and the rest as a root.
fn hot_below(chain: &[&'static str], below_ms: u64) -> Planted {
    let around = || own(plain(&[(600 * MS, 1)]), 0);
    let mut planted = hot(600, 200, 200);
    let site = planted.profile.sites[0].site.clone();
    planted.profile.paths[0].stats.self_time = Nanos((600 - below_ms) * MS);
    for name in chain {
        let last = planted.profile.paths.len() - 1;
        planted = planted.site(name, (last > 0).then_some(last), around());
    }
    let last = planted.profile.paths.len() - 1;
    let stats = plain(&[(below_ms * MS, 1)]);
    let path = PathStats::new(Some(last), 0, site, stats);
    planted.profile.paths.push(path);
    planted
}

#[test]
fn a_hot_site_says_which_call_path_its_time_is_under() {
    let planted = hot_below(&["serve", "client", "search", "excerpt"], 594);
    assert!(
        planted.finding("CTX001").message.contains(
            "60 % of the wall time; 99 % of it under `serve > client > search > excerpt`. "
        ),
        "{}",
        planted.finding("CTX001").message
    );
    assert_eq!(
        planted.diagnosis().headline,
        "`tokenize` takes 60 % of the wall time (600 ms in its own code), nearly all of it called from `excerpt`; \
         halving it makes the program 1.42x as fast."
    );
}

#[test]
fn a_long_call_path_is_told_by_its_end() {
    let planted = hot_below(&["main", "serve", "client", "search", "excerpt"], 600);
    let message = planted.finding("CTX001").message;
    assert!(
        message.contains("; 100 % of it under `... > client > search > excerpt`. "),
        "{message}"
    );
}

#[test]
fn a_hot_site_with_several_callers_names_none() {
    let under = |ms| {
        let planted = hot_below(&["excerpt"], ms);
        let message = planted.finding("CTX001").message;
        (message, planted.diagnosis().headline)
    };
    let (message, headline) = under(480);
    assert!(message.contains("; 80 % of it under `excerpt`. "));
    assert!(headline.contains(", most of it called from `excerpt`; "));
    let (message, headline) = under(479);
    assert!(!message.contains("under"), "{message}");
    assert!(!headline.contains("called from"), "{headline}");
}

#[test]
fn a_hot_site_that_calls_itself_names_who_called_it_first() {
    let mut planted = hot_below(&["serve"], 200);
    let inner = planted.profile.paths[2].clone();
    planted.profile.paths[0].stats.self_time = Nanos::ZERO;
    for parent in [2, 3] {
        let path = PathStats::new(Some(parent), 0, inner.site.clone(), inner.stats.clone());
        planted.profile.paths.push(path);
    }
    let message = planted.finding("CTX001").message;
    assert!(
        message.contains("; 100 % of it under `serve`. "),
        "{message}"
    );
}

#[test]
fn a_site_is_hot_from_a_fifth_of_the_time_on() {
    assert_eq!(
        hot(200, 20, 10).finding("CTX001").severity,
        Severity::Medium
    );
    assert!(hot(190, 20, 20).is_silent("CTX001"));
    let thresholds = Thresholds {
        hot_share: 0.1,
        ..Thresholds::default()
    };
    let diagnosis = diagnose(&hot(190, 20, 20).profile, &thresholds);
    assert_eq!(diagnosis.findings[0].rule, "CTX001");
}

#[test]
fn a_site_that_waits_is_not_hot() {
    assert!(hot(600, 200, 99).is_silent("CTX001"));
    assert_eq!(
        hot(600, 200, 100).finding("CTX001").evidence["cpu_share"],
        0.5
    );
}

#[test]
fn a_hot_site_with_few_samples_is_held_back_and_says_what_it_takes() {
    let planted = hot(600, 19, 19);
    assert!(planted.findings("CTX001").is_empty());
    assert!(!planted.diagnosis().is_healthy("CTX001"));
    let finding = planted.finding("CTX903");
    assert_eq!(
        finding.message,
        "Held back for want of data: CTX001 for `tokenize` (19 of 20 on-CPU samples)."
    );
    assert_eq!(finding.evidence["cpu_samples"], 19.0);
    assert_eq!(
        planted.diagnosis().headline,
        "`tokenize` has the most self time, 60 % of the wall time (600 ms); \
         there is not enough data to say whether it is a problem."
    );
}

#[test]
fn a_site_that_waits_for_most_of_the_run_is_said_to_wait() {
    assert_eq!(
        hot(600, 200, 6).diagnosis().headline,
        "`tokenize` takes 60 % of the wall time (600 ms) and mostly waits: it was on a CPU in 3 % of the samples."
    );
}

#[test]
fn many_threads_do_not_make_a_short_run_long() {
    let stats = sampled(plain(&[(4 * MS, 40)]), 50, 50);
    let short = Planted::on_threads(4, 40).site("tokenize", None, stats);
    let finding = short.finding("CTX903");
    assert!(
        finding
            .message
            .starts_with("The run took 40.0 ms, too short to judge")
    );
    assert_eq!(finding.evidence["run_ns"], 4e7);
    assert_eq!(finding.recommendation, "Run longer, or with more input.");
}

#[test]
fn few_short_calls_are_no_evidence_and_one_long_call_is() {
    let calls = |ms, count| {
        let stats = sampled(plain(&[(ms * MS, count)]), 50, 50);
        Planted::run(200).site("load", None, stats)
    };
    assert!(calls(20, 4).findings("CTX001").is_empty());
    assert_eq!(calls(20, 5).finding("CTX001").evidence["calls"], 5.0);
    assert_eq!(calls(100, 1).finding("CTX001").evidence["calls"], 1.0);
    assert!(calls(99, 1).findings("CTX001").is_empty());
}

#[test]
fn on_several_threads_nothing_is_promised_for_half_the_work() {
    let stats = sampled(plain(&[(30 * MS, 20)]), 50, 40);
    let planted = Planted::on_threads(2, 1_000).site("parse", None, stats);
    let finding = planted.finding("CTX001");
    assert_eq!(finding.share, Some(0.3));
    assert_eq!((finding.gain.low, finding.gain.likely), (None, None));
    assert_eq!(finding.gain.bound, Some(2.5));
    assert_eq!(finding.evidence["threads"], 2.0);
    assert_eq!(
        finding.message,
        "`parse` spends 600 ms in its own code, on a CPU or ready for one in 80 % of the samples: 30 % of the busy time of 2 threads. \
         Removing all of it cannot beat 2.50x."
    );
    assert!(finding.recommendation.ends_with("measure it."));
}

#[test]
fn more_self_time_than_wall_time_has_no_ceiling() {
    let stats = sampled(plain(&[(100 * MS, 15)]), 50, 50);
    let finding = Planted::on_threads(4, 1_000)
        .site("parse", None, stats)
        .finding("CTX001");
    assert_eq!(finding.gain.bound, None);
    assert!(!finding.message.contains("cannot beat"));
}

#[test]
fn a_program_that_waits_is_not_promised_half_the_work() {
    let stats = sampled(plain(&[(60 * MS, 10)]), 50, 50);
    let planted = Planted::run(1_000).site("tokenize", None, stats).site(
        "fetch",
        None,
        polled(&[(MS, 10)], 1, 500 * MS),
    );
    assert_eq!(planted.finding("CTX001").gain.low, None);
    assert!(planted.diagnosis().headline.ends_with(
        "; 98 % of the async spans' latency is waiting between polls, most of it in `fetch`."
    ));
}

#[test]
fn a_short_run_is_not_judged() {
    let run = |wall_ms| {
        let stats = sampled(plain(&[(4 * MS, 10)]), 50, 50);
        Planted::run(wall_ms).site("tokenize", None, stats)
    };
    assert_eq!(run(50).finding("CTX001").share, Some(0.8));
    let short = run(49);
    assert!(short.findings("CTX001").is_empty());
    assert_eq!(
        short.finding("CTX903").message,
        "The run took 49.0 ms, too short to judge: 50.0 ms are needed. \
         Held back for want of data: CTX001 for `tokenize` (49 of 50 ms of run time)."
    );
    assert!(
        short
            .diagnosis()
            .headline
            .starts_with("The run took 49.0 ms, too short")
    );
}

fn wrapped(self_ms: u64) -> Planted {
    let whole = plain(&[(900 * MS, 1)]);
    let inner = plain(&[((900 - self_ms) * MS, 1)]);
    Planted::run(1_000)
        .site("main", None, own(whole, self_ms * MS))
        .site("parse", Some(0), sampled(inner, 50, 50))
}

#[test]
fn a_wrapper_points_down_at_the_child_that_takes_its_time() {
    let planted = wrapped(45);
    let finding = planted.finding("CTX002");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("main", Severity::Info)
    );
    assert_eq!(
        finding.message,
        "`main` looks slow but 95 % of it is inside `parse`; start there."
    );
    assert!(finding.recommendation.contains("main > parse"));
    assert!(finding.example.ends_with("\n// main > parse\n"));
    assert_eq!(planted.diagnosis().findings[0].rule, "CTX001");
    assert!(
        wrapped(90).is_silent("CTX002"),
        "a tenth of its own is no wrapper"
    );
}

#[test]
fn wrappers_in_wrappers_are_one_finding() {
    let planted = Planted::run(1_000)
        .site("main", None, own(plain(&[(990 * MS, 1)]), MS))
        .site("run", Some(0), own(plain(&[(980 * MS, 1)]), MS))
        .site("handle", Some(1), own(plain(&[(970 * MS, 1)]), MS))
        .site("parse", Some(2), plain(&[(960 * MS, 1)]));
    let finding = planted.finding("CTX002");
    assert!(finding.message.contains("`main`") && finding.message.contains("`parse`"));
    assert!(
        finding
            .recommendation
            .contains("main > run > handle > parse")
    );
}

#[test]
fn a_root_whose_children_explain_little_asks_for_more_spans() {
    let root = |self_ms| {
        Planted::run(1_000)
            .site("main", None, own(plain(&[(1_000 * MS, 1)]), self_ms * MS))
            .site("step", Some(0), plain(&[(MS, 1_000 - self_ms)]))
    };
    let finding = root(620).finding("CTX003");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("main", Severity::Info)
    );
    assert_eq!(
        finding.message,
        "62 % of `main` is not covered by any child span, so the report cannot name its cause."
    );
    assert_eq!(root(500).finding("CTX003").share, Some(0.5));
    assert!(root(499).is_silent("CTX003"));
    let childless = Planted::run(1_000).site("main", None, plain(&[(1_000 * MS, 1)]));
    assert!(childless.is_silent("CTX003"));
}

#[test]
fn time_outside_all_spans_is_said_in_the_headline_and_lowers_confidence() {
    let outside = |ms| {
        let mut planted = Planted::on_threads(2, 1_000).site(
            "step",
            None,
            sampled(plain(&[(50 * MS, 10)]), 100, 100),
        );
        planted.profile.split.uncovered = Nanos(ms * MS);
        planted
    };
    let planted = outside(1_240);
    assert_eq!(planted.finding("CTX003").share, Some(0.62));
    assert_eq!(
        planted.finding("CTX003").message,
        "62 % of the time of 2 threads is outside all spans, so the report cannot name its cause. \
         Threads that wait for work between spans count too."
    );
    assert_eq!(planted.finding("CTX001").confidence, Confidence::Medium);
    assert!(outside(1_000).is_silent("CTX003"));
    assert_eq!(
        outside(1_000).finding("CTX001").confidence,
        Confidence::High
    );

    let mut waiting = planted;
    waiting.profile.sites[0].stats.on_cpu = Some(OnCpu::new(100, 0));
    assert_eq!(
        waiting.diagnosis().headline,
        "62 % of the time of 2 threads is outside all spans: add `#[instrument]` to what runs there."
    );
}

#[test]
fn idle_threads_of_a_pool_are_no_code_without_spans() {
    let pool = |busy_ms, cpu_ms| {
        let mut planted = Planted::on_threads(16, 1_000).site(
            "step",
            None,
            sampled(plain(&[(busy_ms * MS / 10, 10)]), 100, 100),
        );
        planted.profile.split.busy = Nanos(busy_ms * MS);
        planted.profile.split.uncovered = Nanos((16_000 - busy_ms) * MS);
        planted.profile.split.waiting = Some(Nanos::ZERO);
        planted.profile.process.cpu = Some(Nanos(cpu_ms * MS));
        planted
    };
    assert!(pool(900, 950).is_silent("CTX003"));
    let finding = pool(300, 320).finding("CTX003");
    assert_eq!(finding.share, Some(0.7));
    assert!(
        finding
            .message
            .starts_with("For at least 70 % of the wall time no thread was inside a span and no async span was open"),
        "{}",
        finding.message
    );
    assert!(finding.message.ends_with("it waited."));
    assert!(
        !pool(300, 1_000)
            .finding("CTX003")
            .message
            .ends_with("it waited.")
    );
    assert!(
        pool(900, 3_600)
            .finding("CTX003")
            .message
            .starts_with("At least 75 % of the process's CPU time is outside all spans")
    );
}

#[test]
fn a_pool_whose_threads_take_turns_is_measured_by_the_wall_time() {
    let stats = sampled(plain(&[(80 * MS, 10)]), 100, 100);
    let mut planted = Planted::on_threads(16, 1_000).site("parse", None, stats);
    planted.profile.split.busy = Nanos(820 * MS);
    let finding = planted.finding("CTX001");
    assert_eq!(finding.share, Some(0.8));
    assert!(
        finding
            .message
            .contains("80 % of the wall time, summed over 16 threads.")
    );
    assert_eq!((finding.gain.low, finding.gain.bound), (None, Some(5.0)));

    planted.profile.split.busy = Nanos(1_600 * MS);
    let finding = planted.finding("CTX001");
    assert_eq!(finding.share, Some(0.5));
    assert!(
        finding
            .message
            .contains("50 % of the busy time of 16 threads.")
    );
}

#[test]
fn a_process_that_went_short_of_cpu_time_is_told_that_it_waited_for_a_core() {
    let mut planted = hot(600, 200, 200);
    planted.profile.split.busy = Nanos(600 * MS);
    planted.profile.split.waiting = Some(Nanos(100 * MS));
    planted.profile.process.cpu = Some(Nanos(400 * MS));
    let fed = planted.finding("CTX001");
    assert!(!fed.message.contains("waiting for a core"));
    assert_eq!(fed.confidence, Confidence::High);

    planted.profile.process.cpu = Some(Nanos(390 * MS));
    let short = planted.finding("CTX001");
    assert!(
        short
            .message
            .contains("Part of that is waiting for a core.")
    );
    assert!(planted.diagnosis().headline.ends_with(
        "; more threads wanted a core than there were: the process got 390 ms of CPU time."
    ));
    assert_eq!(short.confidence, Confidence::Medium);
}

#[test]
fn roots_that_overlap_are_measured_against_their_summed_latency() {
    let service = |handle_ms, refresh_ms| {
        let handle = polled(&[(MS, 40)], 10, handle_ms * MS);
        let refresh = polled(&[(MS, 40)], 1, refresh_ms * MS);
        Planted::run(1_000)
            .site("handle", None, own(handle.clone(), 0))
            .site("query", Some(0), handle)
            .site("refresh", None, refresh)
    };
    // 1.1 s and 0.4 s in 1 s of wall time: not more than 1.5 at a time, so the wall time stays the measure.
    assert_eq!(service(110, 400).finding("CTX002").share, Some(1.0));
    assert_eq!(service(160, 400).finding("CTX002").share, Some(0.8));

    let cold = |handle_ms| {
        let mut planted = service(handle_ms, 400);
        let mut stats = plain(&[(MS, 20), (201 * MS, 1)]);
        stats.first = Some(Nanos(201 * MS));
        planted = planted.site("compile", Some(1), stats);
        planted.finding("CTX603").message
    };
    assert!(cold(110).ends_with("20 % of the wall time."));
    assert!(cold(160).ends_with("10 % of the summed latency of the root spans, which overlap."));
}
