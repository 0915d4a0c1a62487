//! CTX005: the same is computed again, by the program's own word on what "the same" is (`cortex.key`).

use std::collections::{BTreeMap, BTreeSet};

use super::tree_parts::{Change, gain_words, price, times};
use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::{Evidence, total};
use crate::diagnose::fields;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, SiteId, SiteStats, TreeSpan, TreeValue};

pub(super) const RULE: Rule = Rule {
    id: "CTX005",
    name: "repeated-identical-work",
    healthy: "nothing is done again for the same key",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: let value = compute(&key);
let value = cache.entry(key.clone()).or_insert_with_key(|key| compute(key));
";

/// A text this long may have been cut, and then two that look the same need not be.
const MAYBE_CUT: usize = 250;

/// The calls of one site that carry a key.
#[derive(Debug, Default)]
struct Keyed {
    /// How often each key was seen; the first call by time, with its length.
    seen: BTreeMap<String, (u64, Nanos, usize)>,
    /// The shortest call of each key, which has to be made once.
    shortest: BTreeMap<String, Nanos>,
    calls: u64,
    weighted_calls: f64,
}

impl Keyed {
    /// Returns how long all calls but one of each key took at most: of calls in roots that are not sampled nobody knows
    /// the key.
    fn repeats_at_most(&self, row: &SiteStats) -> Nanos {
        total(&row.stats).saturating_sub(self.shortest.values().copied().sum())
    }
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.work;
    let mut outcome = Outcome::default();
    let mut sites: BTreeMap<SiteId, Keyed> = BTreeMap::new();
    for weighted in evidence.trees() {
        for (index, span) in weighted.tree.spans.iter().enumerate() {
            let Some(key) = key(span) else { continue };
            let keyed = sites.entry(span.site.id).or_default();
            keyed.calls += 1;
            keyed.weighted_calls += weighted.roots;
            let shortest = keyed.shortest.entry(key.clone()).or_insert(span.length());
            *shortest = span.length().min(*shortest);
            let first = keyed.seen.entry(key).or_insert((0, span.start, index));
            first.0 += 1;
            if (span.start, index) < (first.1, first.2) {
                (first.1, first.2) = (span.start, index);
            }
        }
    }
    for (id, keyed) in &sites {
        let Some(row) = evidence.site(*id) else {
            continue;
        };
        outcome.looked = true;
        let repeated = 1.0 - keyed.seen.len() as f64 / keyed.calls.max(1) as f64;
        let often = keyed
            .seen
            .values()
            .any(|(seen, ..)| *seen >= thresholds.repeats.max(2));
        if !often || repeated < thresholds.repeated_calls_share {
            continue;
        }
        let repeats = Repeats::of(evidence, *id, keyed);
        if let Some(found) = found(evidence, row, keyed, &repeats) {
            outcome.claims.extend(repeats.change.claims(evidence));
            outcome.found.push(found);
        }
    }
    outcome
}

/// Returns what tells calls with the same input; `None` where the program does not say, or the call does more than compute.
fn key(span: &TreeSpan) -> Option<String> {
    if fields::flag(span, "cortex.side_effect") == Some(true) {
        return None;
    }
    let mut fields = span.fields.iter();
    let field = fields.rfind(|field| field.name == "cortex.key")?;
    match &field.value {
        TreeValue::Bool(value) => Some(value.to_string()),
        TreeValue::Integer(value) => Some(value.to_string()),
        TreeValue::Number(value) => value.is_finite().then(|| value.to_string()),
        TreeValue::Text(text) => (text.len() < MAYBE_CUT).then(|| text.to_string()),
    }
}

/// All calls whose key an earlier call had.
#[derive(Debug, Default)]
struct Repeats {
    change: Change,
    time: f64,
    /// Some repeat a call that was in another root.
    across_roots: bool,
}

impl Repeats {
    fn of(evidence: &Evidence<'_>, id: SiteId, keyed: &Keyed) -> Repeats {
        let mut repeats = Repeats::default();
        let mut firsts: BTreeSet<&str> = BTreeSet::new();
        for weighted in evidence.trees() {
            let mut here: BTreeSet<&str> = BTreeSet::new();
            for (index, span) in weighted.tree.spans.iter().enumerate() {
                let Some(key) = key(span).filter(|_| span.site.id == id) else {
                    continue;
                };
                let Some((key, first)) = keyed.seen.get_key_value(&key) else {
                    continue;
                };
                // Of calls that began at the same instant in different trees one is the first.
                if (span.start, index) == (first.1, first.2) && firsts.insert(key) {
                    here.insert(key);
                    continue;
                }
                repeats.across_roots |= !here.contains(key.as_str());
                repeats.change.scale(weighted.tree, index, 0.0);
                repeats.time += span.length().0 as f64 * weighted.roots;
            }
        }
        repeats
    }
}

fn found(
    evidence: &Evidence<'_>,
    row: &SiteStats,
    keyed: &Keyed,
    repeats: &Repeats,
) -> Option<Found> {
    let id = row.site.id;
    let saved = repeats.change.replayed(evidence, id)?;
    if saved.share < evidence.thresholds.work.repeated_share {
        return None;
    }
    let mut finding = RULE.about(&row.site);
    let ceiling = evidence.ceiling(keyed.repeats_at_most(row));
    price(&mut finding, evidence, saved, None, ceiling);
    finding.confidence = Confidence::Medium;
    finding.evidence.extend([
        ("calls_with_key", keyed.calls as f64),
        ("distinct_keys", keyed.seen.len() as f64),
        ("repeated_ns", repeats.time),
    ]);
    let site = row.site.name;
    let calls = wording::count(keyed.calls, "call");
    let distinct = wording::count(keyed.seen.len() as u64, "distinct key");
    let time = Nanos(repeats.time as u64);
    let share = wording::percent(saved.share);
    let of_all = match times(keyed.weighted_calls) {
        all if all > keyed.calls => format!(" of {all}"),
        _ => String::new(),
    };
    let gain = gain_words(&finding, evidence, "Keeping the results");
    finding.message = format!(
        "`{site}` had only {distinct} in {calls}{of_all} seen; repeats took {time}, and without them {share} of the time \
         would vanish.{gain}"
    );
    let stale = match repeats.across_roots {
        true => " Repeats are in different root operations: decide how old a result may be.",
        false => "",
    };
    finding.recommendation = format!(
        "Keep the results of `{site}` by what `cortex.key` holds, with a limit on how many. That is right only if nothing \
         else goes into the result.{stale} Afterwards the number of calls must be near the number of distinct keys."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "`{site}` computes the same again: {distinct} in {calls}; without the repeats {share} of the time would vanish."
    );
    Some(Found { finding, lead })
}
