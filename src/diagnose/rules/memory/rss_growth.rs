//! CTX303: the process's memory goes on growing after warm-up.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::leak::{Enough, Growth, Leak, limit_words};
use crate::diagnose::rules::memory::severity;
use crate::diagnose::rules::{PROCESS, Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Series};

pub(super) const RULE: Rule = Rule {
    id: "CTX303",
    name: "rss-growth",
    healthy: "memory does not grow",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let mut cache = lru::LruCache::new(std::num::NonZeroUsize::new(10_000).unwrap());
cache.put(key, value); // instead of a HashMap without a limit
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.memory;
    let enough = Enough {
        samples: thresholds.growth_samples,
        time: thresholds.growth_time,
    };
    let floor =
        |median: f64| (thresholds.growth_bytes as f64).max(thresholds.growth_share * median);
    let mut outcome = Outcome::default();
    for series in evidence.profile.resources.iter() {
        let Some(memory) = Memory::of(series) else {
            continue;
        };
        match Growth::of(series, enough, floor, thresholds.growth_chance) {
            Growth::Leaks(leak) => outcome.found.push(found(evidence, memory, leak)),
            Growth::Suspected(have, need) => outcome.held_back.push(HeldBack {
                rule: RULE.id,
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
    }
    outcome
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
enum Memory<'a> {
    Process,
    /// The series of a device, whose name says which.
    Device(&'a str),
}

impl<'a> Memory<'a> {
    fn of(series: &'a Series) -> Option<Memory<'a>> {
        if series.name == "process.rss" {
            return Some(Memory::Process);
        }
        let device = series.name.strip_suffix(".process_memory")?;
        device.starts_with("gpu.").then_some(Memory::Device(device))
    }
}

fn found(evidence: &Evidence<'_>, memory: Memory<'_>, leak: Leak) -> Found {
    let mut finding = RULE.about_process();
    let limit = match memory {
        Memory::Process => evidence.profile.process.memory_limit,
        Memory::Device(_) => None,
    };
    let reaches = limit.and_then(|limit| leak.reaches(limit as f64));
    finding.severity = severity(reaches, evidence.thresholds.memory.soon);
    finding.confidence = Confidence::Medium;
    finding.evidence = BTreeMap::from([
        ("samples", leak.samples as f64),
        ("watched_s", leak.time.as_secs_f64()),
        ("from_bytes", leak.from),
        ("to_bytes", leak.to),
        ("growth_per_minute_bytes", leak.slope.slope * 60.0),
        ("growth_per_minute_low_bytes", leak.slope.low * 60.0),
        ("growth_per_minute_high_bytes", leak.slope.high * 60.0),
    ]);
    if let Some((soonest, _)) = reaches {
        let soonest = soonest.as_secs_f64();
        finding.evidence.insert("limit_reached_in_s", soonest);
    }
    let what = match memory {
        Memory::Process => "The process's memory".to_owned(),
        Memory::Device(device) => format!("The process's memory on {device}"),
    };
    let per_minute = |slope: f64| wording::megabytes(slope * 60.0);
    let lead = format!(
        "{what} grew by {} a minute after warm-up",
        per_minute(leak.slope.slope)
    );
    let limit = reaches.zip(limit);
    let limit = limit.map(|(reaches, limit)| (wording::megabytes(limit as f64), reaches));
    finding.message = format!(
        "{lead} (95 % interval {} to {}), from {} to {} in {}, and its low-water mark kept rising: likely a leak, or a \
         cache without a limit.{}",
        per_minute(leak.slope.low),
        per_minute(leak.slope.high),
        wording::megabytes(leak.from),
        wording::megabytes(leak.to),
        leak.time,
        limit_words(limit),
    );
    finding.recommendation =
        "Look for what is put in and never taken out: a map without a limit, a list of finished work, `Arc`s that point \
         at each other. Give it a limit or drop what is done. Then let it run as long again: the memory after warm-up \
         stays level. Memory that an allocator keeps for later looks the same for a while, but does not go on."
            .to_owned();
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
