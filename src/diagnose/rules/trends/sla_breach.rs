//! CTX701: a target was missed.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::{Evidence, total};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::targets::{calls_needed, judge};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity, SiteId, SiteStats, TargetResult, Verdict};

pub(super) const RULE: Rule = Rule {
    id: "CTX701",
    name: "sla-breach",
    healthy: "the targets are met",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let answer = cache.get_or_load(key, || load(key)).await?; // take the largest part off the way first
let answer = tokio::time::timeout(limit, answer).await?; // and bound what is left
";

/// From this part of a site's time on, one site inside is named as the largest.
const LARGEST_PART: f64 = 0.2;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let targets = evidence.thresholds.targets.iter();
    for target in targets.filter(|target| target.is_valid()) {
        for row in evidence.sites().filter(|row| row.site.name == target.site) {
            let result = judge(target, row, evidence);
            match result.verdict {
                Verdict::Met | Verdict::Unseen => outcome.looked = true,
                Verdict::AtRisk | Verdict::Missed => {
                    outcome.looked = true;
                    outcome.found.push(found(evidence, board, row, &result));
                }
                Verdict::TooFew => outcome.held_back.push(HeldBack {
                    rule: RULE.id,
                    site: row.site.name.to_owned(),
                    have: result.calls,
                    need: calls_needed(target.percentile, evidence.thresholds.trends.target_beyond),
                    what: "calls",
                }),
            }
        }
    }
    outcome
}

fn found(evidence: &Evidence<'_>, board: &Board, row: &SiteStats, result: &TargetResult) -> Found {
    let limit = result.target.limit;
    let measured = result.measured.unwrap_or_default();
    let ratio = measured.0 as f64 / limit.0 as f64;
    let missed = result.verdict == Verdict::Missed;
    let mut finding = RULE.about(&row.site);
    finding.severity = match missed {
        true if ratio > evidence.thresholds.trends.target_critical => Severity::Critical,
        true => Severity::High,
        false => Severity::Low,
    };
    finding.confidence = match missed {
        true => Confidence::High,
        false => Confidence::Low,
    };
    finding.evidence = BTreeMap::from([
        ("calls", result.calls as f64),
        ("percentile", result.target.percentile),
        ("measured_ns", measured.0 as f64),
        ("target_ns", limit.0 as f64),
    ]);
    for (name, bound) in [
        ("at_least_ns", result.at_least),
        ("at_most_ns", result.at_most),
    ] {
        finding
            .evidence
            .extend(bound.map(|bound| (name, bound.0 as f64)));
    }
    let site = row.site.name;
    let percentile = result.target.percentile;
    let sure = match (result.at_least, result.at_most) {
        (Some(low), Some(high)) => {
            format!("; at least {low} and at most {high}, each with 95 % confidence")
        }
        (Some(low), None) => format!("; at least {low} with 95 % confidence"),
        (None, _) => String::new(),
    };
    let calls = wording::count(result.calls, "call");
    let verb = match missed {
        true => "misses its target",
        false => "may miss its target",
    };
    let lead = format!("`{site}` {verb}: p{percentile} is {measured} and is to be {limit}");
    let part = LargestPart::of(evidence, row);
    let inside = part.as_ref().map_or(String::new(), |part| {
        let rule = board.rule_at(part.site.site.name);
        let rule = rule.map_or(String::new(), |rule| format!(" (see {rule})"));
        format!(
            " The largest part of its time is spent in `{}` itself, {}{rule}.",
            part.site.site.name,
            wording::percent(part.share)
        )
    });
    finding.message = format!("{lead} ({calls}{sure}).{inside}");
    let first = part.map_or(site, |part| part.site.site.name);
    finding.recommendation = match missed {
        true => format!(
            "Begin with `{first}`, where most of the time is, then measure again: the target is met when the upper bound \
             of p{percentile} is below {limit}."
        ),
        false => format!(
            "Measure longer: with more calls it shows whether p{percentile} of `{site}` is above {limit}."
        ),
    };
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}

/// The site in which most of another one's time is spent.
struct LargestPart<'a> {
    site: &'a SiteStats,
    share: f64,
}

impl<'a> LargestPart<'a> {
    /// Adds up the own time of all sites below; `None` where none of them stands out, or it is the site itself.
    fn of(evidence: &Evidence<'a>, row: &SiteStats) -> Option<LargestPart<'a>> {
        let mut inside: BTreeMap<SiteId, Nanos> = BTreeMap::new();
        let mut whole = Nanos::ZERO;
        for index in 0..evidence.profile.paths.len() {
            let path = evidence.path(index);
            let mut above = std::iter::successors(Some(index), |&at| evidence.parent(at));
            let is_inside = above.any(|at| evidence.path(at).site.id == row.site.id);
            if !is_inside {
                continue;
            }
            let time = inside.entry(path.site.id).or_default();
            *time = time.saturating_add(path.stats.self_time);
            let is_outermost = path.site.id == row.site.id;
            if is_outermost {
                whole = whole.saturating_add(total(&path.stats));
            }
        }
        let (&site, &time) = inside.iter().max_by_key(|&(_, &time)| time)?;
        let share = time.share_of(whole).min(1.0);
        let site = evidence.site(site).filter(|_| share >= LARGEST_PART)?;
        (site.site.id != row.site.id).then_some(LargestPart { site, share })
    }
}
