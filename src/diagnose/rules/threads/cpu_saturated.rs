//! CTX007: the cores are busy, and threads wait for them.

use std::collections::BTreeMap;

use super::{cores, cores::Cores, cores::Stretches, cores::Window, oversubscription};
use crate::diagnose::board::{Board, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{PROCESS, Rule, Standing};
use crate::diagnose::wording;
use crate::model::Confidence;

pub(super) const RULE: Rule = Rule {
    id: "CTX007",
    name: "cpu-saturated",
    healthy: "there are cores left",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// no more threads than cores for work that computes; then less work per item
let n = std::thread::available_parallelism()?.get();
let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build()?;
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(cores) = Cores::of(evidence) else {
        return outcome;
    };
    outcome.looked = true;
    // Too many threads explain the same waiting, and better.
    if oversubscription::holds(evidence, &cores).is_some() {
        return outcome;
    }
    let thresholds = &evidence.thresholds.threads;
    let saturated = |window: &Window| {
        let queued = window.waiting >= thresholds.saturated_wait * window.busy
            && window.ready() >= thresholds.saturated_ready * cores.cores;
        let throttled = window.throttled.is_some_and(|periods| periods > 0.0);
        window.busy >= thresholds.saturated_cpu * cores.cores && (queued || throttled)
    };
    match cores.stretches(thresholds.saturated_readings, saturated) {
        Some(stretches) => {
            outcome.claims = cores::claims(evidence, stretches.share);
            outcome.found.push(found(evidence, &cores, &stretches));
        }
        None if cores.samples() < thresholds.saturated_readings
            && cores.stretches(1, saturated).is_some() =>
        {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: PROCESS.to_owned(),
                have: cores.samples(),
                need: thresholds.saturated_readings,
                what: "readings of the CPU",
            });
        }
        None => {}
    }
    outcome
}

fn found(evidence: &Evidence<'_>, cores: &Cores, stretches: &Stretches) -> Found {
    let mut finding = RULE.about_process();
    finding.share = Some(stretches.share);
    finding.severity = ladder(stretches.share, evidence.thresholds);
    finding.confidence = Confidence::High;
    let busy = stretches.busy / cores.cores;
    finding.evidence = BTreeMap::from([
        ("cores", cores.cores),
        ("cpu_share", busy),
        ("waiting_threads", stretches.waiting),
        ("readings", stretches.samples as f64),
        ("all_readings", stretches.of as f64),
    ]);
    let mut throttled = String::new();
    if let Some(periods) = stretches.throttled.filter(|&periods| periods > 0.0) {
        finding.evidence.insert("throttled_periods", periods);
        throttled = format!(
            " A limit of its control group took the cores away up to {} a second.",
            wording::count(periods.ceil() as u64, "time")
        );
    }
    let lead = format!(
        "The {} that the process may use were busy for {} of the time, and {:.1} threads waited for one on average.",
        wording::count(cores.cores as u64, "core"),
        wording::percent(busy.min(1.0)),
        stretches.waiting
    );
    finding.message = format!(
        "{lead} That was {} of the time in which threads could run, in {} of {} readings.{throttled} The CPU is the limit: \
         whatever else is made faster, the work waits for a core.",
        wording::percent(stretches.share),
        stretches.samples,
        stretches.of
    );
    let top = cores::busiest(evidence);
    if let Some((_, share)) = top {
        finding.evidence.insert("busiest_site_share", share);
    }
    let where_to_start = top.map_or(String::new(), |(row, share)| {
        format!(
            ", first in `{}`, which has {} of it",
            row.site.name,
            wording::percent(share)
        )
    });
    finding.recommendation = format!(
        "Compute less{where_to_start}, or give the process more cores. Threads beyond the cores gain nothing here. \
         Afterwards `process.run_queue_wait` must be near zero at the same load."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
