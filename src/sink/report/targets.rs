//! The targets that were set, and whether they were met.

use super::number::count;
use super::page::{Page, Role};
use super::table::Table;
use super::visible::visible;
use crate::model::{Diagnosis, Nanos, Severity, TargetResult, Verdict};

pub(super) fn print(diagnosis: &Diagnosis, page: &mut Page) {
    if diagnosis.targets.is_empty() {
        return;
    }
    page.section("TARGETS", "bounds are one-sided, each with 95 % confidence");
    let titles = [
        "site", "verdict", "target", "measured", "at least", "at most", "calls",
    ];
    let mut table = Table::new(&titles);
    let time = |time: Option<Nanos>| time.map_or("-".to_owned(), |time| time.to_string());
    for result in &diagnosis.targets {
        let target = &result.target;
        let (role, verdict) = verdict(result);
        table.row(vec![
            (Role::Plain, visible(&target.site).into_owned()),
            (role, verdict.to_owned()),
            (
                Role::Plain,
                format!("p{} {}", target.percentile, target.limit),
            ),
            (Role::Strong, time(result.measured)),
            (Role::Dim, time(result.at_least)),
            (Role::Dim, time(result.at_most)),
            (Role::Plain, count(result.calls)),
        ]);
    }
    table.print(page);
}

fn verdict(result: &TargetResult) -> (Role, &'static str) {
    match result.verdict {
        Verdict::Met => (Role::Plain, "met"),
        Verdict::AtRisk => (Role::Severity(Severity::Medium), "at risk"),
        Verdict::Missed => (Role::Severity(Severity::High), "MISSED"),
        Verdict::TooFew => (Role::Dim, "too few calls"),
        Verdict::Unseen => (Role::Dim, "no such site"),
    }
}
