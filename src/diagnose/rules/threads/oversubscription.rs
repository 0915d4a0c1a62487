//! CTX205: far more threads are ready than there are cores.

use std::collections::BTreeMap;

use super::{cores, cores::Cores, cores::Stretches, cores::Window};
use crate::diagnose::board::{Board, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{PROCESS, Rule, Standing};
use crate::diagnose::wording;
use crate::model::Confidence;

pub(super) const RULE: Rule = Rule {
    id: "CTX205",
    name: "oversubscription",
    healthy: "no more threads want a core than there are",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let cores = std::thread::available_parallelism()?.get();
rayon::ThreadPoolBuilder::new().num_threads(cores).build_global()?;
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(cores) = Cores::of(evidence) else {
        return outcome;
    };
    outcome.looked = true;
    let need = evidence.thresholds.threads.saturated_readings;
    match holds(evidence, &cores) {
        Some(stretches) => {
            outcome.claims = cores::claims(evidence, stretches.share);
            outcome.found.push(found(evidence, &cores, &stretches));
        }
        None if cores.samples() < need && stretches(evidence, &cores, 1).is_some() => {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: PROCESS.to_owned(),
                have: cores.samples(),
                need,
                what: "readings of the CPU",
            });
        }
        None => {}
    }
    outcome
}

/// Returns where the rule fires; the rule about busy cores leaves that alone.
pub(super) fn holds(evidence: &Evidence<'_>, cores: &Cores) -> Option<Stretches> {
    stretches(
        evidence,
        cores,
        evidence.thresholds.threads.saturated_readings,
    )
}

fn stretches(evidence: &Evidence<'_>, cores: &Cores, least: u64) -> Option<Stretches> {
    let thresholds = &evidence.thresholds.threads;
    cores.stretches(least, |window: &Window| {
        let switched = match (window.involuntary, window.threads) {
            (Some(switches), Some(threads)) if threads >= 1.0 => switches / threads,
            _ => 0.0,
        };
        // Other programs make threads wait as well, but not more threads ready than there are.
        window.ready() > thresholds.oversubscribed_ready * cores.cores
            && window.busy >= thresholds.oversubscribed_cpu * cores.cores
            && (window.waiting_share() >= thresholds.oversubscribed_wait
                || switched >= thresholds.oversubscribed_switches)
    })
}

fn found(evidence: &Evidence<'_>, cores: &Cores, stretches: &Stretches) -> Found {
    let mut finding = RULE.about_process();
    let ready = stretches.busy + stretches.waiting;
    finding.share = Some(stretches.share);
    finding.severity = ladder(stretches.share, evidence.thresholds);
    finding.confidence = Confidence::High;
    finding.evidence = BTreeMap::from([
        ("cores", cores.cores),
        ("ready_threads", ready),
        ("waiting_threads", stretches.waiting),
        ("cpu_share", stretches.busy / cores.cores),
        ("readings", stretches.samples as f64),
        ("all_readings", stretches.of as f64),
    ]);
    let lead = format!(
        "{ready:.1} threads were ready on average where {} can run; they spent {} of their ready time in the queue.",
        wording::count(cores.cores as u64, "core"),
        wording::percent(stretches.share)
    );
    finding.message = format!(
        "{lead} Seen in {} of {} readings. Each operation takes that much longer, locks are held while their holder waits, \
         and every switch costs.",
        stretches.samples, stretches.of
    );
    let top = cores::busiest(evidence);
    let place = top.map_or(String::new(), |(row, share)| {
        format!(
            " Most of them were in `{}` ({} of the ready time inside spans).",
            row.site.name,
            wording::percent(share)
        )
    });
    finding.recommendation = format!(
        "Let no more threads compute than there are cores, and let the rest of the work wait in a queue.{place} The work \
         done per second hardly grows by that; how long an operation takes falls. Measure the latency before and after."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
