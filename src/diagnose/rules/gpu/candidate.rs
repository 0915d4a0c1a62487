//! CTX509: a loop over many items computes on the CPU while a device does nothing. Off unless asked for.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::diagnose::fields;
use crate::diagnose::rules::gpu::quiet;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX509",
    name: "gpu-candidate",
    healthy: "no loop that a device might run",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let dev = stream.clone_htod(&host)?; // time copy, kernel and copy back together
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.gpu;
    let mut outcome = Outcome::default();
    let devices = evidence.profile.gpu.as_ref().map(|gpu| &gpu.devices);
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else {
        return outcome;
    };
    outcome.looked = true;
    let wall = evidence.profile.wall;
    let used = devices.iter().map(|row| row.totals.busy.share_of(wall));
    if used.fold(0.0, f64::max) >= thresholds.candidate_busy {
        return outcome;
    }
    for row in evidence.sites() {
        let own = row.stats.self_time;
        let mean = Nanos(own.0 / row.stats.calls.max(1));
        let share = evidence.share(own);
        if share < thresholds.candidate_share || mean < Nanos::from(thresholds.candidate_time) {
            continue;
        }
        let computes = matches!(evidence.running(&row.stats), Sampled::Enough(running, _)
            if running >= evidence.thresholds.on_cpu_share);
        let items = items(evidence, row).filter(|items| *items >= thresholds.candidate_items);
        if let (true, Some(items)) = (computes, items) {
            outcome.found.push(found(row, share, mean, items));
        }
    }
    outcome
}

fn items(evidence: &Evidence<'_>, row: &SiteStats) -> Option<f64> {
    let spans = quiet::kept(evidence).flat_map(|tree| &tree.spans);
    let of_site = spans.filter(|span| span.site.id == row.site.id);
    let mut items: Vec<f64> = of_site
        .filter_map(|span| fields::size(span).map(|(_, size)| size))
        .collect();
    items.sort_by(f64::total_cmp);
    items.get(items.len() / 2).copied()
}

fn found(row: &SiteStats, share: f64, mean: Nanos, items: f64) -> Found {
    let mut finding = RULE.about(&row.site);
    finding.severity = Severity::Low;
    finding.confidence = Confidence::Low;
    finding.share = Some(share);
    // Nobody knows, so that it must not come before what somebody does.
    finding.saving = Some(0.0);
    finding.evidence = BTreeMap::from([
        ("items", items),
        ("self_ns", row.stats.self_time.0 as f64),
        ("mean_ns", mean.0 as f64),
    ]);
    let site = row.site.name;
    finding.message = format!(
        "`{site}` computes on {items:.0} items a call, {mean} each and {} of the time, while the GPU has nothing to do. Worth \
         a trial; no speed-up is claimed.",
        wording::percent(share)
    );
    finding.recommendation = format!(
        "If the items of `{site}` do not depend on one another, try it on the GPU, and time the copies with it."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!("`{site}` may be worth a trial on the GPU.");
    Found { finding, lead }
}
