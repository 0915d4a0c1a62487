//! Calls that one operation makes again and again with other values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Call, Calls, Measure, Run, Scales, Shape, runs};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::model::{Nanos, Site, SiteId};

/// From when on calls count as repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In one operation.
    pub(crate) calls: u64,
    /// So long together, or so much of the operation.
    pub(crate) time: Nanos,
    pub(crate) share: f64,
    /// In one operation, where only one has that many.
    pub(crate) many: u64,
}

/// The calls of one shape in all operations of one callsite.
#[derive(Debug)]
pub(crate) struct Repeated<'c, 'a> {
    pub(crate) shape: usize,
    /// The callsite of the operations around.
    pub(crate) around: Arc<Site>,
    /// One for each such operation with enough calls.
    pub(crate) runs: Vec<Run<'c, 'a>>,
    /// The fewest and the most calls in one such operation.
    pub(crate) fewest: usize,
    pub(crate) most: usize,
}

/// Returns what is repeated, one call after the other.
pub(crate) fn repeated<'c, 'a>(
    calls: &'c Calls<'a>,
    kinds: &[Kind],
    limits: Limits,
    counts: impl Fn(&Shape) -> bool,
) -> Vec<Repeated<'c, 'a>> {
    let mut groups: BTreeMap<(SiteId, usize), Repeated<'c, 'a>> = BTreeMap::new();
    for run in runs(calls, kinds, 0, 0) {
        let enough = run.calls.len() as u64 >= limits.calls.max(2);
        let long = run.sum() >= limits.time || run.share_of_parent() >= limits.share;
        if !enough || !long || !counts(&calls.shapes[run.shape]) || !run.is_sequence() {
            continue;
        }
        let around = &run.tree.tree.spans[run.parent].site;
        let group = groups
            .entry((around.id, run.shape))
            .or_insert_with(|| Repeated {
                shape: run.shape,
                around: Arc::clone(around),
                runs: Vec::new(),
                fewest: usize::MAX,
                most: 0,
            });
        group.fewest = group.fewest.min(run.calls.len());
        group.most = group.most.max(run.calls.len());
        group.runs.push(run);
    }
    groups.retain(|_, group| group.runs.len() >= 2 || group.most as u64 >= limits.many);
    groups.into_values().collect()
}

impl<'a> Repeated<'_, 'a> {
    /// Returns the figures of the calls.
    pub(crate) fn measure(&self) -> Measure {
        let mut measure = Measure::default();
        for run in &self.runs {
            for call in &run.calls {
                measure.add(run.tree.span(call), run.tree.weighted());
            }
        }
        measure
    }

    /// Returns how many operations around there are, how long they take, and how much of that the calls are, on average.
    pub(crate) fn around(&self) -> (f64, Nanos, Nanos) {
        let (mut count, mut length, mut calls) = (0.0, 0.0, 0.0);
        for run in &self.runs {
            let roots = run.tree.number;
            count += roots;
            length += run.tree.tree.spans[run.parent].length().0 as f64 * roots;
            calls += run.sum().0 as f64 * roots;
        }
        let mean = |sum: f64| Nanos((sum / count.max(1e-9)) as u64);
        (count, mean(length), mean(calls))
    }

    /// Returns each call shortened to `first` where it is the first in its operation, to `rest` where it is not.
    pub(crate) fn scales(&self, first: f64, rest: f64) -> Scales<'a> {
        let mut scales = Scales::default();
        for run in &self.runs {
            for (at, call) in run.calls.iter().enumerate() {
                let scale = if at == 0 { first } else { rest };
                if scale < 1.0 {
                    scales.set(run.tree.weighted(), call.outer, scale);
                }
            }
        }
        scales
    }

    /// Returns the calls shortened as if so many of an operation ran at the same time: in rounds, each as long as the
    /// longest call, or better where whoever is done takes the next.
    pub(crate) fn at_a_time(&self, at_a_time: u64) -> Scales<'a> {
        let mut scales = Scales::default();
        for run in &self.runs {
            let length = |call: &&Call| run.tree.tree.spans[call.outer].length().0;
            let sum = run.calls.iter().map(length).sum::<u64>() as f64;
            let longest = run.calls.iter().map(length).max().unwrap_or(0) as f64;
            let rounds = (run.calls.len() as u64).div_ceil(at_a_time.max(1)) as f64;
            // Graham's bound for work that is handed out.
            let others = (sum - longest) / at_a_time.max(1) as f64;
            let together = (rounds * longest).min(others + longest);
            for call in run.calls.iter().filter(|_| together < sum) {
                scales.set(run.tree.weighted(), call.outer, together / sum);
            }
        }
        scales
    }

    /// Continues "ran ...": how often in one operation.
    pub(crate) fn times(&self) -> String {
        match self.fewest == self.most {
            true => format!("{} times", self.most),
            false => format!("{} to {} times", self.fewest, self.most),
        }
    }

    /// Returns the callsite's place; what was made out of events is where the operation around is.
    pub(crate) fn location(&self, evidence: &Evidence<'_>) -> Option<String> {
        let shape = &evidence.calls.shapes[self.shape];
        shape.site.location().or_else(|| self.around.location())
    }
}
