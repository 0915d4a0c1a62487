//! What the program asked databases, files and other programs for, found in the sampled trees.
//!
//! | file | holds |
//! |---|---|
//! | `shape` | what makes two calls alike |
//! | `repeated` | what is called again and again |
//! | `runs` | calls of one shape one after the other in one operation |
//! | `measure` | counts, times and quantiles, weighted by the roots that trees stand for |
//! | `price` | what a change to some calls is worth |
//! | `waiting` | calls that mostly wait, of which no specific rule says why |

mod measure;
mod price;
mod repeated;
mod runs;
mod shape;
mod waiting;

use std::collections::BTreeMap;

pub(crate) use self::measure::{Measure, amount, bytes, rows};
pub(crate) use self::price::{Price, Scales, figures, gain_words, share_of_whole};
pub(crate) use self::repeated::{Limits, Repeated, repeated};
pub(crate) use self::runs::{Run, runs};
pub(crate) use self::shape::{Shape, host};
pub(crate) use self::waiting::{Found, waiting};
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::replay::Weighted;
use crate::model::{Nanos, OperationTree, TreeSpan};

/// All calls, tree by tree.
#[derive(Debug, Default)]
pub(crate) struct Calls<'a> {
    /// Trees in which there are any.
    pub(crate) trees: Vec<TreeCalls<'a>>,
    pub(crate) shapes: Vec<Shape>,
}

/// The calls of one tree.
#[derive(Debug)]
pub(crate) struct TreeCalls<'a> {
    pub(crate) tree: &'a OperationTree,
    /// How many roots the tree stands for, as in [`Weighted`].
    pub(crate) roots: f64,
    pub(crate) number: f64,
    /// By their start. A call inside another of its kind is a part of that one and no call.
    pub(crate) calls: Vec<Call>,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// The operation, as an index into the tree.
    pub(crate) index: usize,
    /// An index into [`Calls::shapes`].
    pub(crate) shape: usize,
    /// The operation that stands for it: a wrapper that does little else, or the operation itself.
    pub(crate) outer: usize,
    pub(crate) kind: Kind,
}

/// A wrapper does little else if so much of its time is the call.
const WRAPPED: f64 = 0.8;
/// Wrappers around a call that are looked through.
const MOST_WRAPPERS: usize = 4;

impl<'a> Calls<'a> {
    pub(crate) fn of(trees: impl Iterator<Item = Weighted<'a>>) -> Calls<'a> {
        let mut calls = Calls::default();
        let mut known = BTreeMap::new();
        for weighted in trees {
            let Weighted {
                tree,
                roots,
                number,
            } = weighted;
            let mut of_tree: Vec<Call> = Vec::new();
            let kinds = outermost(tree);
            for (index, kind) in kinds {
                let shape = Shape::of(&tree.spans[index], kind);
                let shape = *known.entry(shape.clone()).or_insert_with(|| {
                    calls.shapes.push(shape);
                    calls.shapes.len() - 1
                });
                let outer = index;
                of_tree.push(Call {
                    index,
                    shape,
                    outer,
                    kind,
                });
            }
            if !of_tree.is_empty() {
                look_through_wrappers(tree, &mut of_tree);
                calls.trees.push(TreeCalls {
                    tree,
                    roots,
                    number,
                    calls: of_tree,
                });
            }
        }
        calls
    }

    /// Visits the calls of these kinds with their tree.
    pub(crate) fn of_kinds<'c>(
        &'c self,
        kinds: &'c [Kind],
    ) -> impl Iterator<Item = (&'c TreeCalls<'a>, &'c Call)> {
        let trees = self.trees.iter();
        trees.flat_map(move |tree| {
            let calls = tree.calls.iter();
            calls
                .filter(|call| kinds.contains(&call.kind))
                .map(move |call| (tree, call))
        })
    }

    /// Returns the figures of each shape of these kinds.
    pub(crate) fn measures(&self, kinds: &[Kind]) -> BTreeMap<usize, Measure> {
        let mut measures: BTreeMap<usize, Measure> = BTreeMap::new();
        for (tree, call) in self.of_kinds(kinds) {
            let measure = measures.entry(call.shape).or_default();
            measure.add(tree.span(call), tree.weighted());
        }
        measures
    }
}

impl<'a> TreeCalls<'a> {
    pub(crate) fn span(&self, call: &Call) -> &'a TreeSpan {
        &self.tree.spans[call.index]
    }

    pub(crate) fn weighted(&self) -> Weighted<'a> {
        Weighted {
            tree: self.tree,
            roots: self.roots,
            number: self.number,
        }
    }

    /// Returns the operation around a call and its wrappers; `None` for a root.
    pub(crate) fn around(&self, call: &Call) -> Option<usize> {
        parent(self.tree, call.outer)
    }
}

/// Returns the operation around; one that does not stand before would be a loop.
pub(crate) fn parent(tree: &OperationTree, index: usize) -> Option<usize> {
    let parent = tree.spans.get(index)?.parent? as usize;
    (parent < index).then_some(parent)
}

/// Returns the calls that are not inside another one of their kind.
fn outermost(tree: &OperationTree) -> Vec<(usize, Kind)> {
    let mut found = Vec::new();
    // What is around each operation; empty as long as there is no call, which is the usual case.
    let mut inside: BTreeMap<usize, Vec<Kind>> = BTreeMap::new();
    for (index, span) in tree.spans.iter().enumerate() {
        let around = parent(tree, index).and_then(|parent| inside.get(&parent));
        let kind = match span.fields.is_empty() {
            true => None,
            false => fields::kind(span).filter(|kind| is_call(*kind)),
        };
        let part = kind.is_some_and(|kind| {
            around.is_some_and(|around| around.iter().any(|&outer| contains(outer, kind)))
        });
        let kind = kind.filter(|_| !part);
        if let Some(kind) = kind {
            found.push((index, kind));
        }
        let mut kinds = around.cloned().unwrap_or_default();
        kinds.extend(kind);
        if !kinds.is_empty() {
            inside.insert(index, kinds);
        }
    }
    found
}

fn is_call(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Database | Kind::Http | Kind::Rpc | Kind::File | Kind::Sync
    )
}

/// Whether the one is how the other is done. Waiting for the disk is something of its own inside anything else.
fn contains(outer: Kind, inner: Kind) -> bool {
    match outer {
        Kind::Database => inner != Kind::Sync,
        Kind::Http | Kind::Rpc => matches!(inner, Kind::Http | Kind::Rpc | Kind::File),
        Kind::File => inner == Kind::File,
        Kind::Sync => true,
        _ => false,
    }
}

fn look_through_wrappers(tree: &OperationTree, calls: &mut [Call]) {
    // How many calls of a shape are inside an operation, and how long they take.
    let mut inside: BTreeMap<(usize, usize), (u32, Nanos)> = BTreeMap::new();
    for call in calls.iter() {
        let mut at = call.index;
        for _ in 0..MOST_WRAPPERS {
            let Some(around) = parent(tree, at) else {
                break;
            };
            let (count, time) = inside.entry((around, call.shape)).or_default();
            *count += 1;
            *time = time.saturating_add(tree.spans[call.index].length());
            at = around;
        }
    }
    for call in calls {
        for _ in 0..MOST_WRAPPERS {
            // The root is what is looked at, not a wrapper.
            let around = parent(tree, call.outer).filter(|around| parent(tree, *around).is_some());
            let Some(around) = around else {
                break;
            };
            let (count, time) = inside[&(around, call.shape)];
            if count > 1 || time.share_of(tree.spans[around].length()) < WRAPPED {
                break;
            }
            call.outer = around;
        }
    }
}
