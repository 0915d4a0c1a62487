//! CTX402: many reads or writes of a few bytes.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Measure, Price, Scales};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::replay::Weighted;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Site};

pub(super) const RULE: Rule = Rule {
    id: "CTX402",
    name: "small-unbuffered-io",
    healthy: "files are read and written in large pieces",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: a call into the system per row
for r in rows { writeln!(file, \"{r}\")?; }

// after: one per 64 KiB
let mut w = std::io::BufWriter::with_capacity(64 * 1024, file);
for r in rows { writeln!(w, \"{r}\")?; }
w.flush()?;
";

/// The buffer of the advice.
const BUFFER: f64 = 65_536.0;

/// The operations of one callsite that move bytes.
#[derive(Debug, Default)]
struct Small<'a> {
    measure: Measure,
    scales: Scales<'a>,
    /// The calls of each root operation.
    roots: Vec<(Weighted<'a>, Vec<usize>)>,
    bytes: f64,
    site: Option<&'a Site>,
}

impl<'a> Small<'a> {
    /// Returns the calls with the part of their time that buffering surely saves.
    ///
    /// What one byte costs anyhow nobody knows; a page of them is assumed to be worth its call. And the buffer is flushed
    /// in each root operation.
    fn promised(&self, pages: f64) -> Scales<'a> {
        let mut scales = Scales::default();
        for (tree, calls) in &self.roots {
            let scale = (pages + 1.0 / calls.len() as f64).min(1.0);
            for &call in calls.iter().filter(|_| scale < 1.0) {
                scales.set(*tree, call, scale);
            }
        }
        scales
    }
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.storage;
    let mut outcome = Outcome::default();
    let mut sites: BTreeMap<usize, Small<'_>> = BTreeMap::new();
    for (tree, call) in evidence.calls.of_kinds(&[Kind::File]) {
        let span = tree.span(call);
        let Some(bytes) = calls::amount(span, "io.bytes").or_else(|| calls::amount(span, "bytes"))
        else {
            continue;
        };
        outcome.looked = true;
        let small = sites.entry(call.shape).or_default();
        small.measure.add(span, tree.weighted());
        small.scales.set(tree.weighted(), call.index, 0.0);
        small.bytes += bytes * tree.number;
        match small.roots.last_mut() {
            Some((last, calls)) if std::ptr::eq(last.tree, tree.tree) => calls.push(call.index),
            _ => small.roots.push((tree.weighted(), vec![call.index])),
        }
        small.site = Some(&span.site);
    }
    for (shape, small) in sites {
        let mean = small.bytes / small.measure.count.max(1e-9);
        let many = small.measure.count >= thresholds.small_calls as f64;
        if !many || mean >= thresholds.small_bytes {
            continue;
        }
        let promised = small.promised(mean / thresholds.small_bytes);
        let buffered = small.scales.all(mean / BUFFER);
        let seed = shape as u64;
        let prices = (
            Price::of(evidence, seed, &small.scales, &promised),
            Price::of(evidence, seed, &small.scales, &buffered),
        );
        if let (Some(promised), Some(likely)) = prices
            && promised.full.share >= thresholds.small_share
            && likely.is_worth_it()
        {
            outcome
                .found
                .extend(found(evidence, &small, mean, &promised, &likely));
            outcome.claims.extend(small.scales.claims());
        }
    }
    outcome
}

fn found(
    evidence: &Evidence<'_>,
    small: &Small<'_>,
    mean: f64,
    promised: &Price,
    likely: &Price,
) -> Option<Found> {
    let site = small.site?;
    let measure = &small.measure;
    let mut finding = RULE.about(site);
    promised.fill(&mut finding, evidence, Some(likely.change.share));
    likely.rank(&mut finding, evidence, likely.change.share);
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    finding.confidence = Confidence::High;
    calls::figures(&mut finding, measure);
    finding.evidence.insert("mean_bytes", mean);
    let name = site.name;
    let count = measure.count.round() as u64;
    let (bytes, each) = (mean.round() as u64, measure.mean());
    let bytes = wording::count(bytes, "byte");
    let gain = calls::gain_words(&finding, evidence, "Buffering");
    finding.message = format!(
        "`{name}` made {count} I/O calls of {bytes} on average, {each} each: nearly all of that is the way into the system \
         and back.{gain}"
    );
    finding.recommendation = format!(
        "Put a `BufWriter` or `BufReader` of 64 KiB around the file or socket. Flush it where others must see the bytes, and \
         at the end, where an error would otherwise be lost. Afterwards `{name}` must be called a few times only."
    );
    finding.example = EXAMPLE.to_owned();
    let share = wording::percent(likely.change.share);
    let lead = format!(
        "`{name}` makes {count} I/O calls of {bytes} on average; buffered, {share} of {} would vanish.",
        evidence.whole.words()
    );
    Some(Found { finding, lead })
}
