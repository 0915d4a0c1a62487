//! From the operations of one root to their tree.

use std::collections::HashMap;
use std::sync::Arc;

use super::Sites;
use super::raw::{Raw, RawTree};
use crate::model::{Nanos, OperationTree, Site, TreeKind, TreeSpan};

pub(super) fn tree(raw: &RawTree, sites: &Sites) -> OperationTree {
    let parents = parents(&raw.spans);
    let order = order(&raw.spans, &parents);
    let mut place = vec![0_u32; raw.spans.len()];
    for (at, &index) in order.iter().enumerate() {
        place[index] = u32::try_from(at).unwrap_or(u32::MAX);
    }
    let ends = ends(&raw.spans, &parents);
    let spans = order.iter().map(|&index| {
        let span = &raw.spans[index];
        let site = sites.get(span.site);
        TreeSpan {
            site: site.map_or_else(|| Arc::new(Site::other()), Arc::clone),
            parent: (index > 0).then(|| place[parents[index]]),
            start: span.start,
            end: ends[index],
            kind: span.kind,
            thread: span.thread,
            busy: span.busy,
            cpu: None,
            activation_count: span.activation_count,
            activations: span.activations.clone(),
            error: span.failed,
            unfinished: span.unfinished,
            fields: span.fields.clone(),
        }
    });
    OperationTree {
        spans: spans.collect(),
        truncated: raw.truncated,
    }
}

/// Returns the index of each operation's parent, which stands before it; the root's own is its own.
fn parents(spans: &[Raw]) -> Vec<usize> {
    let mut by_seq: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, span) in spans.iter().enumerate() {
        by_seq.entry(span.seq).or_default().push(index);
    }
    let parent = |(index, span): (usize, &Raw)| {
        let around = by_seq.get(&span.parent).map_or(&[][..], Vec::as_slice);
        // Calls through a held span share its number: it is the one that was going on.
        let going_on = around.iter().copied().filter(|&at| at < index).find(|&at| {
            let call = &spans[at];
            call.kind != TreeKind::Call
                || (call.thread == span.thread && (call.start..=call.end).contains(&span.start))
        });
        going_on.unwrap_or(0)
    };
    spans.iter().enumerate().map(parent).collect()
}

/// Returns the operations by their start, but none before its parent; those that began together as they were made. They
/// arrived in the order of their ends.
fn order(spans: &[Raw], parents: &[usize]) -> Vec<usize> {
    let mut starts: Vec<(Nanos, u32)> = spans.iter().map(|span| (span.start, 0)).collect();
    for index in 1..spans.len() {
        let (of_parent, depth) = starts[parents[index]];
        starts[index] = (spans[index].start.max(of_parent), depth + 1);
    }
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&index| (starts[index], spans[index].seq, index));
    order
}

/// Returns when each operation ended.
///
/// A subscriber keeps a span open as long as its children are, so that the close of an async span with a child that
/// outlives it comes late; its last activation, in which the future is dropped, is the end that counts.
fn ends(spans: &[Raw], parents: &[usize]) -> Vec<Nanos> {
    let mut ends: Vec<Nanos> = spans.iter().map(|span| span.end).collect();
    // A child stands behind its parent.
    let mut latest_inside = vec![Nanos::ZERO; spans.len()];
    for index in (0..spans.len()).rev() {
        let span = &spans[index];
        if let (TreeKind::Async, false, Some(last)) =
            (span.kind, span.unfinished, span.activations.last())
            && latest_inside[index] > last.end
        {
            ends[index] = last.end.max(span.start);
        }
        let around = parents[index];
        latest_inside[around] = latest_inside[around].max(ends[index]);
    }
    ends
}
