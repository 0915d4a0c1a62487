//! Calls of one shape one after the other in one operation.

use std::collections::BTreeMap;

use super::{Call, Calls, TreeCalls, parent};
use crate::diagnose::fields::Kind;
use crate::model::Nanos;

/// The calls of one shape in one operation.
#[derive(Debug)]
pub(crate) struct Run<'c, 'a> {
    pub(crate) tree: &'c TreeCalls<'a>,
    /// The operation around them, as an index into the tree.
    pub(crate) parent: usize,
    pub(crate) shape: usize,
    /// By their start. Failed ones are not among them: those are tried again.
    pub(crate) calls: Vec<&'c Call>,
}

/// Neighbours that follow each other rather than overlap, of all.
const IN_SEQUENCE: f64 = 0.8;

impl Run<'_, '_> {
    pub(crate) fn sum(&self) -> Nanos {
        let calls = self.calls.iter();
        calls.map(|call| self.tree.span(call).length()).sum()
    }

    /// Returns the part of the operation around that they take.
    pub(crate) fn share_of_parent(&self) -> f64 {
        self.sum()
            .share_of(self.tree.tree.spans[self.parent].length())
    }

    /// Whether they run one after the other.
    pub(crate) fn is_sequence(&self) -> bool {
        let spans = &self.tree.tree.spans;
        let pairs = self.calls.windows(2);
        let all = pairs.len();
        let after = pairs
            .filter(|pair| spans[pair[1].outer].start >= spans[pair[0].outer].end)
            .count();
        after as f64 >= IN_SEQUENCE * all as f64
    }
}

/// Returns the calls of these kinds by the operation around them.
///
/// Where one has fewer than `lift_below`, its calls count for the operation around that, `lifts` times at most.
pub(crate) fn runs<'c, 'a>(
    calls: &'c Calls<'a>,
    kinds: &[Kind],
    lift_below: usize,
    lifts: usize,
) -> Vec<Run<'c, 'a>> {
    let mut found = Vec::new();
    for tree in &calls.trees {
        let mut groups: BTreeMap<(usize, usize), Vec<&Call>> = BTreeMap::new();
        for call in &tree.calls {
            let fits = kinds.contains(&call.kind) && !tree.span(call).error;
            if let Some(around) = tree.around(call).filter(|_| fits) {
                groups.entry((around, call.shape)).or_default().push(call);
            }
        }
        for _ in 0..lifts {
            let mut lifted: BTreeMap<(usize, usize), Vec<&Call>> = BTreeMap::new();
            for ((around, shape), calls) in groups {
                let above = parent(tree.tree, around).filter(|_| calls.len() < lift_below);
                let place = lifted.entry((above.unwrap_or(around), shape)).or_default();
                place.extend(calls);
            }
            groups = lifted;
        }
        for ((parent, shape), mut calls) in groups {
            calls.sort_by_key(|call| (tree.tree.spans[call.outer].start, call.index));
            found.push(Run {
                tree,
                parent,
                shape,
                calls,
            });
        }
    }
    found
}
