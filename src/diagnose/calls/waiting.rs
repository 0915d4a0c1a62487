//! Calls that mostly wait, of which no specific rule says why.

use crate::diagnose::board::Board;
use crate::diagnose::calls::{Measure, Price, Scales, Shape};
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::diagnose::fields::Kind;
use crate::model::{Nanos, TreeKind, TreeSpan};

/// What is waited for.
#[derive(Debug)]
pub(crate) struct Waiting<'c> {
    pub(crate) measure: Measure,
    /// The calls that take most of the time, and their figures.
    pub(crate) largest: &'c Shape,
    pub(crate) of_largest: Measure,
    /// How much of the time a CPU was used, at most.
    pub(crate) running: f64,
    pub(crate) price: Price,
}

/// What there is.
#[derive(Debug)]
pub(crate) enum Found<'c> {
    /// There are no such calls.
    Nothing,
    /// There are, but too few, or others explain them.
    Little,
    Waiting(Box<Waiting<'c>>),
    /// For most of their time nobody knows whether they computed: the site, and how many samples there are.
    Unknown(&'c Shape, u64),
}

/// Returns the calls of these kinds that others have not explained, if they take at least the share `least` of the
/// time.
pub(crate) fn waiting<'c>(
    evidence: &'c Evidence<'_>,
    board: &Board,
    kinds: &[Kind],
    least: f64,
) -> Found<'c> {
    let calls = &evidence.calls;
    let mut all = Measure::default();
    let mut largest: Option<(usize, Measure)> = None;
    let measures = calls.measures(kinds);
    if measures.is_empty() {
        return Found::Nothing;
    }
    let explained = |shape: usize| {
        let site = &calls.shapes[shape].site;
        let of_site = measures.iter();
        let of_site = of_site.filter(|(shape, _)| calls.shapes[**shape].site.id == site.id);
        let total: f64 = of_site.map(|(_, measure)| measure.total).sum();
        let claimed = board.claimed(site.id).0 as f64;
        let overlapping = board.has("CTX103", site.name);
        overlapping || claimed >= evidence.thresholds.claimed_share * total
    };
    let (mut scales, mut known, mut running) = (Scales::default(), 0.0, 0.0);
    for (&shape, measure) in &measures {
        if explained(shape) {
            continue;
        }
        all.merge(measure);
        if largest
            .as_ref()
            .is_none_or(|(_, most)| measure.total > most.total)
        {
            largest = Some((shape, measure.clone()));
        }
    }
    let Some((shape, of_largest)) = largest else {
        return Found::Little;
    };
    for (tree, call) in calls.of_kinds(kinds) {
        if explained(call.shape) {
            continue;
        }
        scales.set(tree.weighted(), call.index, 0.0);
        let span = tree.span(call);
        if let Some(cpu) = cpu(evidence, span) {
            known += span.length().0 as f64 * tree.roots;
            running += cpu * tree.roots;
        }
    }
    let largest = &calls.shapes[shape];
    let price = Price::of(evidence, shape as u64, &scales, &scales);
    let Some(price) = price.filter(|price| price.full.share >= least) else {
        return Found::Little;
    };
    if known < KNOWN * all.total {
        let stats = evidence.site(largest.site.id).map(|row| &row.stats);
        let samples = match stats.map(|stats| evidence.running(stats)) {
            Some(Sampled::TooFew(samples) | Sampled::Enough(_, samples)) => samples,
            None => 0,
        };
        return Found::Unknown(largest, samples);
    }
    Found::Waiting(Box::new(Waiting {
        measure: all,
        largest,
        of_largest,
        running: running / known.max(1.0),
        price,
    }))
}

/// How much of the time must be known to have been spent on a CPU or not.
const KNOWN: f64 = 0.5;

/// Returns the CPU time of an operation, or the most that it can be.
fn cpu(evidence: &Evidence<'_>, span: &TreeSpan) -> Option<f64> {
    if let Some(cpu) = span.cpu {
        return Some(cpu.min(span.length()).0 as f64);
    }
    let row = evidence.site(span.site.id)?;
    let busy = match span.kind {
        TreeKind::Async => span.busy.min(span.length()),
        _ => span.length(),
    };
    match evidence.running(&row.stats) {
        Sampled::Enough(share, _) => Some(busy.0 as f64 * share),
        // Nobody is on a CPU while it is not polled.
        Sampled::TooFew(_) if span.kind == TreeKind::Async => Some(busy.0 as f64),
        Sampled::TooFew(_) => None,
    }
}

impl Waiting<'_> {
    /// Whether there are so many, or so long ones, that it is no chance.
    pub(crate) fn is_enough(&self, calls: u64, time: Nanos) -> bool {
        self.measure.seen >= calls || self.measure.total() >= time
    }
}
