//! Targets and the levels of rules, from the builder to the summary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy's exception for tests does not reach helpers"
)]

mod support;

use std::error::Error;
use std::time::Duration;

use support::Rig;
use tracing::info_span;
use tracing_cortex::{BuildError, CortexBuilder, CortexLayer, RuleLevel, Summary, Verdict};

/// 200 operations of 10 ms.
fn served(configure: impl FnOnce(CortexBuilder) -> CortexBuilder) -> Summary {
    let rig = Rig::new(false, configure);
    rig.run(|| {
        for _ in 0..200 {
            info_span!("handle").in_scope(|| rig.ms(10));
        }
    });
    rig.guard.finish().unwrap()
}

#[test]
fn a_missed_target_that_is_denied_can_fail_the_program() {
    let summary = served(|builder| {
        builder
            .target("handle", 95, Duration::from_millis(9))
            .target("handle", 99.9, Duration::from_millis(20))
            .rule("sla-breach", RuleLevel::Deny)
    });
    let denied: Vec<_> = summary.denied().map(|finding| finding.rule).collect();
    assert_eq!(denied, ["CTX701"]);
    let verdicts = summary.diagnosis().targets.iter();
    let verdicts: Vec<_> = verdicts.map(|result| result.verdict).collect();
    assert_eq!(verdicts, [Verdict::Missed, Verdict::TooFew]);
}

#[test]
fn the_same_program_without_a_level_denies_nothing_and_with_allow_says_nothing() {
    let missed = |builder: CortexBuilder| builder.target("handle", 95, Duration::from_millis(9));
    let has = |summary: &Summary| {
        let mut findings = summary.diagnosis().findings.iter();
        findings.any(|finding| finding.rule == "CTX701")
    };
    let warned = served(missed);
    assert!(has(&warned) && warned.denied().next().is_none());
    let allowed = served(|builder| missed(builder).rule("CTX701", RuleLevel::Allow));
    assert!(!has(&allowed));
    assert_eq!(allowed.diagnosis().targets[0].verdict, Verdict::Missed);
}

#[test]
fn a_target_set_again_replaces_the_earlier_one() {
    let summary = served(|builder| {
        builder
            .target("handle", 95, Duration::from_millis(1))
            .target("handle", 95, Duration::from_millis(50))
    });
    let targets = &summary.diagnosis().targets;
    assert_eq!((targets.len(), targets[0].verdict), (1, Verdict::Met));
}

#[test]
fn settings_that_mean_nothing_are_errors_that_name_them() {
    for (percentile, limit) in [(0.95, 1), (100.0, 1), (f64::NAN, 1), (95.0, 0)] {
        let limit = Duration::from_millis(limit);
        let built = CortexLayer::builder()
            .target("handle", percentile, limit)
            .build();
        let Err(
            error @ BuildError::OutOfRange {
                setting: "target", ..
            },
        ) = built.map(drop)
        else {
            panic!("p{percentile} of {limit:?} was accepted");
        };
        assert!(error.to_string().contains("from 50 to below 100"));
    }
    let unknown = CortexLayer::builder()
        .rule("CTX7001", RuleLevel::Deny)
        .build();
    let error = unknown.map(drop).unwrap_err();
    assert!(error.to_string().contains("CTX701 (sla-breach)"), "{error}");
    assert!(error.source().is_none());
}
