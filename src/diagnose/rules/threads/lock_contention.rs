//! CTX201: threads wait for a lock that another one holds.

use std::collections::BTreeMap;

use super::lock_held;
use super::locks::{Lock, locks, most};
use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::replay::Replayed;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::{statistics, wording};
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX201",
    name: "lock-contention",
    healthy: "no lock is waited for",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let snapshot = { state.lock().unwrap().clone() }; // short critical section
expensive(&snapshot);
// or shard: let s = &shards[hash(k) % shards.len()];
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let thresholds = &evidence.thresholds.threads;
    for lock in locks(evidence) {
        outcome.looked = true;
        // Work that needs no lock explains the same waiting, and better.
        if lock_held::holds(evidence, &lock).is_some() {
            continue;
        }
        let Some((_, user)) = lock.longest_waiting() else {
            continue;
        };
        // Many readers that never wait do not make a writer's waiting short.
        let short = user.wait < thresholds.lock_wait_per_hold * user.hold;
        let one_thread = lock.threads.len() < 2 && !lock.by_tasks;
        if short || one_thread || user.contended_share() < thresholds.lock_contended {
            continue;
        }
        let replayed = lock.replayed(evidence, 1.0);
        let Some(replayed) = replayed.filter(|all| all.share >= thresholds.lock_share) else {
            continue;
        };
        if lock.acquisitions < thresholds.lock_acquisitions as f64 {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: lock.name.clone(),
                have: lock.acquisitions as u64,
                need: thresholds.lock_acquisitions,
                what: "acquisitions",
            });
            continue;
        }
        if let Some(found) = found(evidence, &lock, replayed) {
            outcome.claims.extend(claims(&lock));
            outcome.found.push(found);
        }
    }
    outcome
}

/// Claims the waiting for a lock where it is the time of plain spans.
pub(super) fn claims(lock: &Lock) -> impl Iterator<Item = Claim> {
    lock.spent_in.iter().map(|(&site, &time)| Claim {
        site,
        time: Nanos(time as u64),
    })
}

/// Returns the numbers of a lock that both rules tell.
pub(super) fn numbers(lock: &Lock, replayed: Replayed) -> BTreeMap<&'static str, f64> {
    let mut numbers = BTreeMap::from([
        ("wait_ns", lock.wait),
        ("acquisitions", lock.acquisitions),
        ("contended_share", lock.contended_share()),
        ("threads", lock.threads.len() as f64),
        ("seen_acquisitions", lock.seen as f64),
        ("replayed_saving", replayed.share),
        ("replayed_saving_low", replayed.low),
        ("replayed_saving_high", replayed.high),
    ]);
    if let Some(hold) = statistics::median(&lock.holds) {
        numbers.insert("hold_median_ns", hold);
        numbers.insert("hold_ns", lock.hold);
    }
    numbers
}

fn found(evidence: &Evidence<'_>, lock: &Lock, replayed: Replayed) -> Option<Found> {
    let (site, _) = lock.longest_waiting()?;
    let row = evidence.site(site)?;
    let mut finding = RULE.about(&row.site);
    let wait = Nanos(lock.wait as u64);
    finding.share = Some(evidence.whole.share(wait));
    finding.saving = Some(replayed.share);
    finding.severity = ladder(replayed.share, evidence.thresholds);
    finding.confidence = if lock.hold > 0.0 {
        Confidence::High
    } else {
        Confidence::Medium
    };
    finding.gain.bound = evidence.ceiling(wait);
    // Who holds a lock for half as long lets others wait at most half as long.
    let halved = lock.replayed(evidence, 0.5);
    finding.gain.low = halved.and_then(|halved| gain_of(halved.low));
    finding.evidence = numbers(lock, replayed);
    let name = &lock.name;
    let holder = most(&lock.holders)
        .and_then(|(site, part)| Some((evidence.site(site)?, part)))
        .zip(statistics::median(&lock.holds))
        .map_or(String::new(), |((row, part), hold)| {
            format!(
                " The holder was `{}` {} of the time; it held it for {} in the median.",
                row.site.name,
                wording::percent(part),
                Nanos(hold as u64)
            )
        });
    let lead = format!(
        "Threads waited {wait} for the lock `{name}` in `{}`, which is {} of {}.",
        row.site.name,
        wording::percent(evidence.whole.share(wait)),
        evidence.whole.words()
    );
    let low = finding.gain.low.map_or(String::new(), |low| {
        format!(
            " Halving the waits gives {}{}.",
            wording::factor(low),
            evidence.replayed_words()
        )
    });
    finding.message = format!(
        "{lead} {} of {:.0} acquisitions waited.{holder}{low}",
        wording::percent(lock.contended_share()),
        lock.acquisitions
    );
    finding.recommendation = format!(
        "Hold `{name}` for less: copy out what is needed and let go before the rest, split it by key, or use a `RwLock` if \
         most only read. Nothing may rely on both parts happening under one guard. Afterwards `lock.wait_ns` must fall."
    );
    finding.example = EXAMPLE.to_owned();
    Some(Found { finding, lead })
}

/// Returns the factor for a share that vanishes, if it is worth telling.
pub(super) fn gain_of(share: f64) -> Option<f64> {
    (0.01..1.0).contains(&share).then(|| 1.0 / (1.0 - share))
}
