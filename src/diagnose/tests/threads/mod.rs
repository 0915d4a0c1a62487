//! Locks, queues, cores and waiting without a name.

mod cores;
mod locks;
mod nonsense;
mod waits;

use std::sync::Arc;

use crate::diagnose::planted::{Planted, own, plain, sampled};
use crate::model::{
    KeptTree, Nanos, OperationTree, RootTrees, Site, SiteId, TreeField, TreeSpan, TreeValue,
};

const NAMES: [&str; 5] = ["job", "update", "query", "load", "store"];

/// An operation in microseconds; its site is the one of this number in [`NAMES`].
fn op(site: u32, parent: Option<u32>, from: u64, to: u64) -> TreeSpan {
    let site = Site::new(SiteId(site + 1), NAMES[site as usize], "app", None, None);
    TreeSpan::new(
        Arc::new(site),
        parent,
        Nanos(from * 1_000),
        Nanos(to * 1_000),
    )
}

fn with(mut span: TreeSpan, name: &'static str, value: impl Into<Value>) -> TreeSpan {
    let value = value.into().0;
    span.fields.push(TreeField { name, value });
    span
}

struct Value(TreeValue);

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value(TreeValue::Integer(value))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value(TreeValue::Text(text.into()))
    }
}

/// Puts an operation on a thread.
fn on(thread: u32, mut spans: Vec<TreeSpan>) -> OperationTree {
    for span in &mut spans {
        span.thread = thread;
    }
    OperationTree::new(spans)
}

/// A run of these trees, whose roots are all of the first site; every site was seen running in this part of its samples.
fn program(threads: u64, wall_ms: u64, trees: Vec<OperationTree>, running: f64) -> Planted {
    let mut planted = Planted::on_threads(threads, wall_ms);
    for (index, name) in NAMES.into_iter().enumerate() {
        let id = SiteId(index as u32 + 1);
        let (mut spans, mut self_ns) = (Vec::new(), 0);
        for tree in &trees {
            for (at, span) in tree.spans.iter().enumerate() {
                if span.site.id == id {
                    let inside = tree
                        .spans
                        .iter()
                        .filter(|one| one.parent == Some(at as u32));
                    let inside: u64 = inside.map(|one| one.length().0).sum();
                    spans.push((span.length().0, 1));
                    self_ns += span.length().0.saturating_sub(inside);
                }
            }
        }
        spans.sort_unstable();
        let stats = own(plain(&spans), self_ns);
        let stats = sampled(stats, 100, (running * 100.0) as u64);
        planted = planted.site(name, (index > 0).then_some(0), stats);
        planted.profile.sites[index].threads = threads as u32;
    }
    planted.profile.split.waiting = Some(Nanos(
        (planted.profile.split.busy.0 as f64 * (1.0 - running)) as u64,
    ));
    planted.profile.sites.retain(|row| row.stats.calls > 0);
    planted.profile.paths.retain(|path| path.stats.calls > 0);
    let site = Arc::clone(&planted.profile.sites[0].site);
    let kept = trees.into_iter().map(KeptTree::sampled).collect();
    planted.profile.trees = vec![RootTrees::new(site, kept)];
    planted
}
