//! CTX202: a lock is held during work that needs none, and others wait for it.

use super::lock_contention::{claims, gain_of, numbers};
use super::locks::{Lock, locks, most};
use crate::diagnose::board::{Board, Found, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::replay::Replayed;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::{statistics, wording};
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX202",
    name: "lock-held-across-work",
    healthy: "no lock is held over waiting",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let key = { let g = m.lock().unwrap(); g.key.clone() };
let v = fetch(&key).await?;
m.lock().unwrap().insert(key, v);
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    for lock in locks(evidence) {
        outcome.looked |= lock.covered > 0.0;
        let Some(replayed) = holds(evidence, &lock) else {
            continue;
        };
        if let Some(found) = found(evidence, &lock, replayed) {
            outcome.claims.extend(claims(&lock));
            outcome.found.push(found);
        }
    }
    outcome
}

/// Returns what a replay without the waiting saves, where the rule fires; the rule about contention leaves that alone.
pub(super) fn holds(evidence: &Evidence<'_>, lock: &Lock) -> Option<Replayed> {
    let thresholds = &evidence.thresholds.threads;
    let held = statistics::quantile_of(&lock.holds, 0.95)?;
    let long = held >= Nanos::from(thresholds.held).0 as f64;
    let often = lock.holds.len() as u64 >= evidence.thresholds.min_calls;
    let works = lock.work_share() >= thresholds.held_work;
    if !(long && often && works) || lock.contended <= 0.0 {
        return None;
    }
    let replayed = lock.replayed(evidence, 1.0);
    replayed.filter(|all| all.share >= thresholds.held_share)
}

fn found(evidence: &Evidence<'_>, lock: &Lock, replayed: Replayed) -> Option<Found> {
    let (holder, _) = most(&lock.holders)?;
    let row = evidence.site(holder)?;
    let mut finding = RULE.about(&row.site);
    let wait = Nanos(lock.wait as u64);
    let held = statistics::quantile_of(&lock.holds, 0.95)?;
    finding.share = Some(evidence.whole.share(wait));
    finding.saving = Some(replayed.share);
    finding.severity = ladder(replayed.share, evidence.thresholds);
    finding.confidence = Confidence::High;
    finding.gain.bound = evidence.ceiling(wait);
    // Without that work the lock is held for a smaller part, and waited for at most for that part.
    let moved = lock.replayed(evidence, lock.work_share());
    finding.gain.low = moved.and_then(|moved| gain_of(moved.low));
    finding.evidence = numbers(lock, replayed);
    finding.evidence.insert("hold_p95_ns", held);
    finding
        .evidence
        .insert("held_work_share", lock.work_share());
    let work = most(&lock.work_of).and_then(|(site, _)| evidence.site(site?));
    let work = work.map_or("waiting in an `.await`".to_owned(), |row| {
        format!("doing `{}`", row.site.name)
    });
    let (site, name) = (row.site.name, &lock.name);
    let lead = format!(
        "`{site}` keeps the lock `{name}` for {} (95th percentile) while {work}.",
        Nanos(held as u64)
    );
    let low = finding.gain.low.map_or(String::new(), |low| {
        format!(
            " Without that work under the guard: {}{}.",
            wording::factor(low),
            evidence.replayed_words()
        )
    });
    finding.message = format!(
        "{lead} {} of the time that it is held goes there, and {} of {:.0} acquisitions had to wait, {wait} in all: {} of \
         {}.{low}",
        wording::percent(lock.work_share()),
        wording::percent(lock.contended_share()),
        lock.acquisitions,
        wording::percent(evidence.whole.share(wait)),
        evidence.whole.words()
    );
    finding.recommendation = format!(
        "Move that work out of the guard of `{name}`: take what it needs, let go, work, and lock again to store the result. \
         Two may then do the same work at once, and what was read may have changed: check before storing. Afterwards \
         `lock.hold_ns` must fall."
    );
    finding.example = EXAMPLE.to_owned();
    Some(Found { finding, lead })
}
