use super::*;
use crate::model::{Finding, Target, TargetResult, Verdict};

fn result(site: &str, verdict: Verdict, measured: Option<u64>) -> TargetResult {
    let target = Target::new(site, 99.9, Nanos(100_000_000));
    let mut result = TargetResult::unseen(target);
    result.calls = 12_000;
    result.measured = measured.map(Nanos);
    result.at_least = result.measured;
    result.verdict = verdict;
    result
}

#[test]
fn targets_are_told_with_their_verdict_also_on_a_narrow_page() {
    let diagnosis = Diagnosis {
        targets: vec![
            result("handle", Verdict::Met, Some(90_000_000)),
            result("query\u{7}", Verdict::Missed, Some(110_000_000)),
            result("gone", Verdict::Unseen, None),
        ],
        ..Diagnosis::default()
    };
    for width in [60, 100] {
        let options = TextOptions::default().width(width);
        let text = report_text(&Profile::default(), &diagnosis, &options);
        let line = |site: &str| text.lines().find(|line| line.starts_with(site)).unwrap();
        assert!(text.contains("TARGETS"));
        assert!(line("handle").contains("met"), "{text}");
        assert!(line("handle").contains("p99.9 100 ms"), "{text}");
        assert!(line("query").contains("MISSED"), "{text}");
        assert!(line("gone").contains("no such site"), "{text}");
        assert!(!text.contains('\u{7}'));
    }
    let json = json(&Profile::default(), &diagnosis);
    let first = &json["targets"][0];
    assert_eq!(
        (&first["verdict"], &first["limit_ns"]),
        (&"met".into(), &100_000_000.into())
    );
}

#[test]
fn a_denied_finding_is_marked_for_people_and_programs() {
    let mut finding = Finding::new("CTX601", "tail-latency", "query");
    finding.denied = true;
    let diagnosis = Diagnosis {
        findings: vec![finding],
        ..Diagnosis::default()
    };
    let text = report_text(&Profile::default(), &diagnosis, &TextOptions::default());
    let line = text.lines().find(|line| line.contains("CTX601"));
    assert!(line.unwrap().ends_with("DENIED"), "{text}");
    let json = json(&Profile::default(), &diagnosis);
    assert_eq!(json["findings"][0]["denied"], true);
}
