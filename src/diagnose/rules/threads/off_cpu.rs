//! CTX206: plain spans wait for most of the time, and nothing says for what.

use std::collections::{BTreeMap, BTreeSet};

use super::lock_contention::gain_of;
use crate::diagnose::board::{Board, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::{Evidence, Sampled, Scope};
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::replay::Replayed;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, SiteId, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX206",
    name: "off-cpu-unclassified",
    healthy: "no site waits without saying for what",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// name the wait, and the rule about it can say more
let _wait = tracing::info_span!(\"wait\", cortex.kind = \"lock\").entered();
";

/// From this part of a site's waiting on, computing elsewhere may be what it waits for.
const ENOUGH_ELSEWHERE: f64 = 0.5;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(classified) = classified(evidence) else {
        return outcome;
    };
    let thresholds = evidence.thresholds;
    for row in evidence.sites() {
        let id = row.site.id;
        let own = row.stats.self_time;
        let of_device = row.stats.gpu.is_some();
        if evidence.is_async(id) || own == Nanos::ZERO || of_device || classified.contains(&id) {
            continue;
        }
        outcome.looked = true;
        let claimed = board.claimed(id);
        let long = row.stats.activation.max >= Nanos::from(thresholds.long_call);
        if claimed.share_of(own) >= thresholds.claimed_share
            || (row.stats.calls < thresholds.min_calls && !long)
        {
            continue;
        }
        let free = 1.0 - claimed.share_of(own);
        let waits = |part: f64| {
            // No replay saves more than there is; most sites need none.
            let most = own.share_of(evidence.replay.as_ref()?.whole());
            if most < thresholds.threads.off_cpu_share {
                return None;
            }
            let replayed = evidence.replayed(id, 1.0 - part.clamp(0.0, 1.0));
            replayed.filter(|all| all.share >= thresholds.threads.off_cpu_share)
        };
        let (ready, samples) = match evidence.running(&row.stats) {
            Sampled::Enough(running, samples) => (ready(evidence, row, running), samples),
            Sampled::TooFew(samples) => {
                if waits(free).is_some() {
                    outcome.held_back.push(HeldBack {
                        rule: RULE.id,
                        site: row.site.name.to_owned(),
                        have: samples,
                        need: thresholds.min_cpu_samples,
                        what: "on-CPU samples",
                    });
                }
                continue;
            }
        };
        // What other rules explain may be waiting too, all of it.
        let off = (1.0 - ready - claimed.share_of(own)).max(0.0);
        let off_time = Nanos((own.0 as f64 * off) as u64);
        if ready >= thresholds.on_cpu_share || waits_for_others(evidence, row, off_time) {
            continue;
        }
        if let Some(replayed) = waits(off) {
            let seen = Seen {
                ready,
                samples,
                off,
                off_time,
            };
            outcome.found.push(found(evidence, row, seen, replayed));
        }
    }
    outcome
}

/// How much of a site's own time was waiting.
#[derive(Debug, Clone, Copy)]
struct Seen {
    ready: f64,
    samples: u64,
    off: f64,
    off_time: Nanos,
}

/// Returns the sites of which any span says what it does; `None` without trees, which hold the fields.
fn classified(evidence: &Evidence<'_>) -> Option<BTreeSet<SiteId>> {
    evidence.replay.as_ref()?;
    let spans = evidence.trees().flat_map(|weighted| &weighted.tree.spans);
    let said = spans.filter(|span| {
        let kind = (!span.fields.is_empty())
            .then(|| fields::kind(span))
            .flatten();
        kind.is_some_and(|kind| kind != Kind::Cpu)
            || span
                .fields
                .iter()
                .any(|field| field.name.ends_with(".wait_ns"))
    });
    Some(said.map(|span| span.site.id).collect())
}

/// Returns the part of a site's own time in which it was on a core or ready for one.
fn ready(evidence: &Evidence<'_>, row: &SiteStats, running: f64) -> f64 {
    if evidence.measured(&row.stats).is_none() {
        // Samples count who is ready for a core as running.
        return running;
    }
    let rows = evidence.profile.threads.iter();
    let (queued, busy) = rows
        .filter_map(|row| Some((row.run_queue?, row.busy)))
        .fold((0.0, 0.0), |(queued, busy), row| {
            (queued + row.0.0 as f64, busy + row.1.0 as f64)
        });
    let queued = if busy > 0.0 { queued / busy } else { 0.0 };
    (running + queued).min(1.0)
}

/// Whether a site may simply wait for what other threads compute, as `main` does for those that it started.
fn waits_for_others(evidence: &Evidence<'_>, row: &SiteStats, off: Nanos) -> bool {
    let without_spans = evidence.cpu_outside().unwrap_or_default();
    let inside = match evidence.scope {
        Scope::Turns(..) | Scope::Busy(..) if row.threads <= 1 => computed_elsewhere(evidence, row),
        _ => Nanos::ZERO,
    };
    inside.saturating_add(without_spans).share_of(off) >= ENOUGH_ELSEWHERE
}

/// Returns how long spans on other threads than this site's computed.
fn computed_elsewhere(evidence: &Evidence<'_>, row: &SiteStats) -> Nanos {
    let spans = || {
        evidence.trees().flat_map(|weighted| {
            let spans = weighted.tree.spans.iter();
            spans.map(move |span| (span, weighted.roots))
        })
    };
    let own: BTreeSet<u32> = spans()
        .filter(|(span, _)| span.site.id == row.site.id)
        .map(|(span, _)| span.thread)
        .collect();
    // By site, the time on other threads and in all.
    let mut times: BTreeMap<SiteId, (f64, f64)> = BTreeMap::new();
    for (span, roots) in spans() {
        let time = times.entry(span.site.id).or_default();
        let busy = span.busy.0 as f64 * roots;
        time.1 += busy;
        if !own.contains(&span.thread) {
            time.0 += busy;
        }
    }
    let computed = evidence.sites().filter_map(|other| {
        let &(elsewhere, all) = times.get(&other.site.id)?;
        // What is not known may compute all the time.
        let running = match evidence.running(&other.stats) {
            Sampled::Enough(share, _) => share,
            Sampled::TooFew(_) => 1.0,
        };
        let part = if all > 0.0 { elsewhere / all } else { 0.0 };
        Some(Nanos(
            (other.stats.self_time.0 as f64 * running * part) as u64,
        ))
    });
    computed.sum()
}

fn found(evidence: &Evidence<'_>, row: &SiteStats, seen: Seen, replayed: Replayed) -> Found {
    let mut finding = RULE.about(&row.site);
    let own = row.stats.self_time;
    finding.share = Some(evidence.whole.share(seen.off_time));
    finding.saving = Some(replayed.share);
    finding.severity = ladder(replayed.share, evidence.thresholds);
    // What it waits for is not known, so nor is whether that can be changed.
    finding.confidence = Confidence::Medium;
    finding.gain.bound = evidence.ceiling(own);
    let halved = evidence.replayed(row.site.id, 1.0 - seen.off / 2.0);
    finding.gain.low = halved.and_then(|halved| gain_of(halved.low));
    finding.evidence = BTreeMap::from([
        ("self_ns", own.0 as f64),
        ("off_cpu_ns", seen.off_time.0 as f64),
        ("off_cpu_share", seen.off),
        ("cpu_share", seen.ready),
        ("cpu_samples", seen.samples as f64),
        ("calls", row.stats.calls as f64),
        ("replayed_saving", replayed.share),
        ("replayed_saving_low", replayed.low),
        ("replayed_saving_high", replayed.high),
    ]);
    let site = row.site.name;
    let lead = format!(
        "`{site}` was off the CPU for {} of the {own} in its own code, and nothing recorded why.",
        wording::percent(seen.off)
    );
    let low = finding.gain.low.map_or(String::new(), |low| {
        format!(
            " Halving the wait gives {}{}.",
            wording::factor(low),
            evidence.replayed_words()
        )
    });
    finding.message = format!(
        "{lead} A sleep, a lock, a file, a socket? It is {} of {}, by {} looks at {}.{low}",
        wording::percent(evidence.whole.share(seen.off_time)),
        evidence.whole.words(),
        seen.samples,
        wording::count(row.stats.calls, "call")
    );
    finding.recommendation = format!(
        "Find out what `{site}` waits for: put a span with `cortex.kind` around each call in it that can wait. Then the next \
         run names the cause. A wait that is meant, such as a pause between two rounds, needs no change."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
