//! CTX603: the first call pays for what later calls find ready.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing, own_part, without_first};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX603",
    name: "cold-start",
    healthy: "first calls are no slower than later ones",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
static RE: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| regex::Regex::new(PAT).unwrap());
std::sync::LazyLock::force(&RE); // at start-up
";

/// An outer site is not told apart when an inner one has this share of its extra time.
const SAME_START: f64 = 0.8;

#[derive(Debug)]
struct Start<'a> {
    row: &'a SiteStats,
    first: Nanos,
    later: Nanos,
    later_calls: u64,
    extra: Nanos,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = evidence.thresholds;
    let mut outcome = Outcome::default();
    let mut starts = Vec::new();
    for row in evidence.sites() {
        let Some(first) = row.stats.first else {
            continue;
        };
        let later_calls = row.stats.operations().count.saturating_sub(1);
        outcome.looked |= later_calls >= thresholds.cold_calls;
        if later_calls == 0 || first < Nanos::from(thresholds.cold_first) {
            continue;
        }
        let later = without_first(row.stats.operations(), Some(first))
            .quantiles
            .p50;
        let extra = first.saturating_sub(later);
        if (first.0 as f64) < thresholds.cold_ratio * later.0 as f64
            || evidence.whole.share(extra) < thresholds.cold_share
        {
            continue;
        }
        if later_calls < thresholds.cold_calls {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: row.site.name.to_owned(),
                have: later_calls,
                need: thresholds.cold_calls,
                what: "later calls",
            });
        } else {
            starts.push(Start {
                row,
                first,
                later,
                later_calls,
                extra,
            });
        }
    }
    let innermost = starts.iter().filter(|outer| {
        !starts.iter().any(|inner| {
            inner.row.site.id != outer.row.site.id
                && inner.extra.share_of(outer.extra) >= SAME_START
                && evidence.is_below(inner.row.site.id, outer.row.site.id)
                && !evidence.is_below(outer.row.site.id, inner.row.site.id)
        })
    });
    for start in innermost {
        outcome.claims.push(Claim {
            site: start.row.site.id,
            time: own_part(&start.row.stats, start.extra),
        });
        outcome.found.push(found(evidence, start));
    }
    outcome
}

fn found(evidence: &Evidence<'_>, start: &Start<'_>) -> Found {
    let mut finding = RULE.about(&start.row.site);
    let share = evidence.whole.share(start.extra);
    finding.severity = ladder(share, evidence.thresholds);
    finding.confidence = Confidence::High;
    finding.share = Some(share);
    finding.gain.bound = evidence.ceiling(start.extra);
    finding.evidence = BTreeMap::from([
        ("first_ns", start.first.0 as f64),
        ("median_later_ns", start.later.0 as f64),
        ("later_calls", start.later_calls as f64),
    ]);
    let site = start.row.site.name;
    let lead = format!(
        "The first `{site}` took {}; later ones {}.",
        start.first, start.later
    );
    finding.message = format!(
        "{lead} That is once {}, {} of {}.",
        start.extra,
        wording::percent(share),
        evidence.whole.words()
    );
    finding.recommendation = format!(
        "Initialise what the first `{site}` sets up before traffic arrives, or make it cheaper."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
