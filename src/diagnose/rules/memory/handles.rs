//! CTX308 and CTX309: open files, or threads, become more and more.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::leak::{Enough, Growth, Leak, limit_words, series};
use crate::diagnose::rules::memory::severity;
use crate::diagnose::rules::{PROCESS, Rule, Standing};
use crate::model::{Confidence, Severity};

pub(super) const FILES: Rule = Rule {
    id: "CTX308",
    name: "fd-leak",
    healthy: "open files do not pile up",
    standing: Standing::Cause,
    check: check_files,
};

pub(super) const THREADS: Rule = Rule {
    id: "CTX309",
    name: "thread-leak",
    healthy: "threads do not pile up",
    standing: Standing::Cause,
    check: check_threads,
};

const FILES_EXAMPLE: &str = "\
{
    let file = std::fs::File::open(path)?;
    use_it(&file)?;
} // closed here; do not keep handles in a list
";

const THREADS_EXAMPLE: &str = "\
let pool = threadpool::ThreadPool::new(8);
pool.execute(move || job(item)); // instead of std::thread::spawn for each item
";

/// From this part of the limit on, open files are a risk at once.
const NEARLY_ALL: f64 = 0.8;

fn check_files(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.memory;
    check(
        evidence,
        &FILES,
        "process.open_files",
        thresholds.leaked_files,
        |leak| {
            let limit = evidence.profile.process.open_files_limit;
            Some(files_found(evidence, leak, limit.map(|limit| limit as f64)))
        },
    )
}

fn check_threads(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.memory;
    let cores = f64::from(evidence.profile.process.cores.unwrap_or(1));
    check(
        evidence,
        &THREADS,
        "process.threads",
        thresholds.leaked_threads,
        |leak| {
            let many = leak.to > thresholds.threads_per_core * cores;
            many.then(|| threads_found(leak))
        },
    )
}

fn check(
    evidence: &Evidence<'_>,
    rule: &Rule,
    name: &str,
    growth: f64,
    found: impl Fn(Leak) -> Option<Found>,
) -> Outcome {
    let thresholds = &evidence.thresholds.memory;
    let mut outcome = Outcome::default();
    let Some(series) = series(evidence, name) else {
        return outcome;
    };
    let enough = Enough {
        samples: thresholds.handle_samples,
        time: thresholds.handle_time,
    };
    match Growth::of(series, enough, |_| growth, thresholds.growth_chance) {
        Growth::Leaks(leak) => {
            outcome.looked = true;
            outcome.found.extend(found(leak));
        }
        Growth::Suspected(have, need) => outcome.held_back.push(HeldBack {
            rule: rule.id,
            site: PROCESS.to_owned(),
            have,
            need,
            what: match need == enough.samples {
                true => "readings after warm-up",
                false => "s after warm-up",
            },
        }),
        Growth::Steady => outcome.looked = true,
        Growth::Unknown => {}
    }
    outcome
}

fn files_found(evidence: &Evidence<'_>, leak: Leak, limit: Option<f64>) -> Found {
    let mut finding = FILES.about_process();
    let reaches = limit.and_then(|limit| leak.reaches(limit));
    finding.severity = severity(reaches, evidence.thresholds.memory.soon);
    if limit.is_some_and(|limit| leak.to >= NEARLY_ALL * limit) {
        finding.severity = Severity::High;
    }
    finding.confidence = Confidence::High;
    finding.evidence = numbers(leak);
    finding
        .evidence
        .extend(limit.map(|limit| ("limit_files", limit)));
    let lead = format!(
        "Open files rose from {:.0} to {:.0}, {:.1} a minute",
        leak.from,
        leak.to,
        leak.slope.slope * 60.0
    );
    let limit = reaches.zip(limit);
    let limit = limit.map(|(reaches, limit)| (format!("{limit:.0} open files"), reaches));
    finding.message = format!(
        "{lead}, and were never fewer again ({} readings over {}). When the limit is reached, nothing can be opened and \
         no connection accepted.{}",
        leak.samples,
        leak.time,
        limit_words(limit),
    );
    finding.recommendation =
        "Look for files and sockets that are kept: handles in a list or map, `into_raw_fd`, `mem::forget`, connections \
         that are made anew for each request and held. Let each be dropped where its use ends. Afterwards the number of \
         open files stays level; `ls -l /proc/PID/fd` says which they are."
            .to_owned();
    finding.example = FILES_EXAMPLE.to_owned();
    Found { finding, lead }
}

fn threads_found(leak: Leak) -> Found {
    let mut finding = THREADS.about_process();
    finding.severity = Severity::Medium;
    finding.confidence = Confidence::High;
    finding.evidence = numbers(leak);
    let lead = format!(
        "The number of threads rose from {:.0} to {:.0}, {:.1} a minute",
        leak.from,
        leak.to,
        leak.slope.slope * 60.0
    );
    finding.message = format!(
        "{lead}, and was never lower again ({} readings over {}). Each keeps a stack, and more threads than cores wait \
         for one another.",
        leak.samples, leak.time,
    );
    finding.recommendation =
        "Start a pool once and hand it the work, instead of a thread for each piece, and see to it that threads that \
         wait for a channel end when its sender is dropped. Afterwards the number of threads stays level."
            .to_owned();
    finding.example = THREADS_EXAMPLE.to_owned();
    Found { finding, lead }
}

fn numbers(leak: Leak) -> BTreeMap<&'static str, f64> {
    BTreeMap::from([
        ("samples", leak.samples as f64),
        ("watched_s", leak.time.as_secs_f64()),
        ("from", leak.from),
        ("to", leak.to),
        ("growth_per_minute", leak.slope.slope * 60.0),
        ("growth_per_minute_low", leak.slope.low * 60.0),
        ("growth_per_minute_high", leak.slope.high * 60.0),
    ])
}
