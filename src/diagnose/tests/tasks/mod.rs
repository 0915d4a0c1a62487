//! The rules about tasks and futures.

mod fan_out;
mod leaks;
mod polls;
mod serial_awaits;

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::critical_path::trees;
use super::every_profile::{check, parses};
use crate::diagnose::planted::{MS, Planted, own, polled};
use crate::model::{
    Activation, KeptTree, Nanos, OperationTree, RootTrees, Site, SiteId, TreeField, TreeKind,
    TreeSpan, TreeValue,
};

/// A plain operation on thread 0, in microseconds; its site has the number `site`, counted as [`Planted::site`] does.
fn plain_span(site: u32, parent: Option<u32>, from: u64, to: u64) -> TreeSpan {
    const NAMES: [&str; 7] = ["", "root", "a", "b", "c", "d", "e"];
    let name = NAMES.get(site as usize).copied().unwrap_or("f");
    let site = Site::new(SiteId(site), name, "app", None, None);
    let ns = |us: u64| Nanos(us * 1_000);
    TreeSpan::new(Arc::new(site), parent, ns(from), ns(to))
}

/// An async operation that waits all the time: polled at its start and at its end, on thread 0.
fn waiting(site: u32, parent: Option<u32>, from: u64, to: u64) -> TreeSpan {
    polled_at(plain_span(site, parent, from, to), &[from, to - 1], 0)
}

/// The same with polls of 1 us at these times on that thread.
fn polled_at(mut span: TreeSpan, polls: &[u64], thread: u32) -> TreeSpan {
    span.kind = TreeKind::Async;
    let ns = |us: u64| Nanos(us * 1_000);
    let polls = polls.iter();
    span.activations = polls
        .map(|&at| Activation::new(ns(at), ns(at + 1), thread))
        .collect();
    span.busy = ns(span.activations.len() as u64);
    span.thread = thread;
    span
}

/// An async root that goes on with whatever ends inside.
fn root(to: u64) -> TreeSpan {
    let mut root = plain_span(1, None, 0, to);
    root.kind = TreeKind::Async;
    root.busy = Nanos(1_000);
    root
}

fn with(mut span: TreeSpan, name: &'static str, value: TreeValue) -> TreeSpan {
    span.fields.push(TreeField { name, value });
    span
}

fn text(text: &str) -> TreeValue {
    TreeValue::Text(text.into())
}

/// Gives a profile these trees, which are all there are.
fn grown(mut planted: Planted, trees: Vec<Vec<TreeSpan>>) -> Planted {
    let site = Arc::clone(&trees[0][0].site);
    let kept = trees.into_iter().map(OperationTree::new);
    let group = RootTrees::new(site, kept.map(KeptTree::sampled).collect());
    let latency = planted.profile.paths[0].stats.latency.as_ref();
    assert!(latency.is_some_and(|latency| latency.sum.0.abs_diff(group.wall.0) < MS));
    planted.profile.trees = vec![group];
    planted
}

#[test]
fn examples_are_valid_rust() {
    let planted = [
        serial_awaits::requests(&serial_awaits::three(), &serial_awaits::ABC),
        polls::queued(5),
        polls::spinning(1_000_000, 100),
        polls::one_long_poll(1_500),
        fan_out::tiny(4_000),
        fan_out::fan_out(500, fan_out::four_at_a_time),
        leaks::open(&leaks::rising(40)),
    ];
    let findings = planted
        .iter()
        .flat_map(|planted| planted.diagnosis().findings);
    let examples: BTreeSet<(&str, String)> = findings
        .filter(|finding| ("CTX103".."CTX110").contains(&finding.rule))
        .map(|finding| (finding.rule, finding.example))
        .collect();
    let rules: Vec<&str> = examples.iter().map(|&(rule, _)| rule).collect();
    assert_eq!(
        rules,
        [
            "CTX103", "CTX104", "CTX105", "CTX106", "CTX107", "CTX108", "CTX109"
        ]
    );
    for (rule, example) in examples {
        assert!(parses(&example).unwrap_or(true), "{rule}: {example}");
    }
}

/// A field as any program may set it, with a name that means something here.
fn field() -> impl Strategy<Value = TreeField> {
    let names = [
        "id",
        "cart.id",
        "cortex.independent",
        "cortex.daemon",
        "db.query.text",
        "http.request.method",
        "queue.name",
    ];
    let value = prop_oneof![
        any::<bool>().prop_map(TreeValue::Bool),
        (0..3_i64).prop_map(TreeValue::Integer),
        prop::sample::select(vec![f64::NAN, f64::INFINITY, -0.0]).prop_map(TreeValue::Number),
        prop::sample::select(vec!["", " ", "(", "SELECT 1", "GET", "7"]).prop_map(text),
    ];
    (prop::sample::select(names.to_vec()), value)
        .prop_map(|(name, value)| TreeField { name, value })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// However operations overlap and whatever their fields say, the numbers of a finding make sense.
    #[test]
    fn no_trees_break_the_diagnosis(
        mut kept in prop::collection::vec(trees(), 1..4),
        fields in prop::collection::vec(prop::option::of(field()), 40),
        waits in prop::collection::vec(any::<bool>(), 40),
        unfinished in any::<bool>(),
    ) {
        let count = kept.len() as u64;
        for tree in &mut kept {
            for ((span, field), waits) in tree.spans.iter_mut().zip(&fields).zip(&waits) {
                span.fields.extend(field.clone());
                if *waits {
                    span.kind = TreeKind::Async;
                    span.busy = Nanos::ZERO;
                }
                span.unfinished = unfinished && *waits;
            }
        }
        let root = own(polled(&[(MS, 1)], count, 1_000 * MS), MS);
        let mut planted = Planted::on_threads(2, 1_000 * count).workers().site("root", None, root);
        for name in ["a", "b", "c", "d", "e"] {
            let mut stats = polled(&[(3 * MS, 100)], 10, 100 * MS);
            stats.open = 20;
            planted = planted.site(name, Some(0), stats);
        }
        let planted = grown(planted, kept.into_iter().map(|tree| tree.spans).collect());
        let diagnosis = planted.diagnosis();
        check(&diagnosis)?;
        prop_assert_eq!(diagnosis, planted.diagnosis());
    }
}
