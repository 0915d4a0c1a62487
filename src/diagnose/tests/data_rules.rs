use crate::diagnose::planted::{MS, Planted, plain, sampled};
use crate::model::{Nanos, Severity};

fn healthy() -> Planted {
    Planted::run(1_000).site("step", None, plain(&[(MS, 100)]))
}

#[test]
fn overhead_is_told_above_two_per_cent_of_the_cpu_time() {
    let cost = |share| {
        let mut planted = healthy();
        planted.profile.overhead.share_of_cpu = share;
        planted.profile.overhead.total = Nanos(31 * MS);
        planted
    };
    let finding = cost(Some(0.031)).finding("CTX901");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("process", Severity::Low)
    );
    assert_eq!(
        finding.message,
        "This layer cost about 3.1 % of the process's CPU time. \
         Most of it is for `step`, which was entered 100 times for 1.00 ms on average."
    );
    assert!(cost(Some(0.02)).is_silent("CTX901"));
    assert!(!cost(None).diagnosis().is_healthy("CTX901"));
}

#[test]
fn overhead_never_comes_before_what_the_program_does() {
    let mut planted = Planted::run(1_000).site("step", None, sampled(plain(&[(MS, 250)]), 50, 50));
    planted.profile.overhead.share_of_cpu = Some(0.9);
    let rules: Vec<_> = planted
        .diagnosis()
        .findings
        .iter()
        .map(|f| f.rule)
        .collect();
    assert_eq!(rules, ["CTX001", "CTX901"]);
}

#[test]
fn dropped_records_touch_the_trace_and_not_the_statistics() {
    let mut planted = healthy();
    planted.profile.losses.dropped_spans = 3;
    planted.profile.losses.dropped_events = 4;
    let finding = planted.finding("CTX902");
    assert_eq!(finding.severity, Severity::Low);
    assert_eq!(finding.evidence["dropped_records"], 7.0);
    assert_eq!(
        finding.message,
        "7 records of the event stream were dropped because the buffer was full: \
         the trace has gaps, the statistics are exact."
    );
    assert!(finding.example.contains("max_record_bytes"));
    assert!(healthy().is_silent("CTX902"));
}

#[test]
fn spans_left_open_are_told_above_one_per_cent() {
    let open = |open_spans| {
        let mut planted = Planted::run(1_000).site("step", None, plain(&[(100_000, 2_000)]));
        planted.profile.losses.open_spans = open_spans;
        planted
    };
    assert!(open(20).is_silent("CTX902"));
    assert!(
        open(21)
            .finding("CTX902")
            .message
            .starts_with("21 spans (1 % of all) were still open")
    );
    let mut few = healthy();
    few.profile.losses.open_spans = 10;
    assert!(
        few.is_silent("CTX902"),
        "a main span that is still open is no loss"
    );
}

#[test]
fn cut_strings_are_a_note() {
    let mut planted = healthy();
    planted.profile.losses.cut_strings = 1;
    let finding = planted.finding("CTX902");
    assert_eq!(finding.severity, Severity::Info);
    assert_eq!(
        finding.message,
        "1 field value was cut at the length limit."
    );
}

#[test]
fn a_run_without_spans_says_why_that_may_be() {
    let planted = Planted::run(2_000);
    assert_eq!(
        planted.diagnosis().headline,
        "No span was recorded in 2.00 s: a filter dropped them, the layer was installed too late, \
         or the program has no spans."
    );
    assert!(
        planted
            .finding("CTX903")
            .message
            .starts_with("No span was recorded")
    );
    assert_eq!(planted.diagnosis().findings.len(), 1);
}

#[test]
fn a_healthy_program_has_no_findings_and_a_shape() {
    let diagnosis = healthy().diagnosis();
    assert!(diagnosis.findings.is_empty(), "{:#?}", diagnosis.findings);
    assert_eq!(
        diagnosis.headline,
        "Nothing to fix above 10 %: `step` has the most self time, 10 % of the wall time (100 ms)."
    );
    for rule in ["CTX001", "CTX002", "CTX003", "CTX902", "CTX903"] {
        assert!(diagnosis.is_healthy(rule), "{rule}");
    }
}

#[test]
fn few_short_calls_are_too_little_to_judge() {
    let planted = Planted::run(1_000).site("step", None, plain(&[(MS, 4)]));
    assert_eq!(
        planted.finding("CTX903").message,
        "No site has 5 calls or one of 100 ms: too little to judge."
    );
    let enough = Planted::run(1_000).site("step", None, plain(&[(MS, 5)]));
    assert!(enough.is_silent("CTX903"));
}

#[test]
fn rules_are_held_back_in_one_finding() {
    let stats = || plain(&[(30 * MS, 10)]);
    let planted = Planted::run(1_000)
        .site("parse", None, stats())
        .site("render", None, stats());
    let finding = planted.finding("CTX903");
    assert_eq!(
        finding.message,
        "Held back for want of data: CTX001 for `parse` (0 of 20 on-CPU samples) and one more site."
    );
    assert!(finding.example.contains("resources"));
}

#[test]
fn an_open_root_that_is_entered_often_may_be_held_in_a_struct() {
    let root = |activations| {
        let mut planted = healthy();
        planted.profile.sites[0].open_root_activations = activations;
        planted
    };
    let finding = root(20).finding("CTX903");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("step", Severity::Info)
    );
    assert!(finding.recommendation.contains("builder.held"));
    assert!(root(19).is_silent("CTX903"));
}
