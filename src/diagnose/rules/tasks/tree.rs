//! What the rules about tasks ask of a tree: who is whose child, what time is an operation's own, what was spawned.

use crate::model::{Nanos, OperationTree, TreeKind, TreeSpan};

/// The children of each operation, by their start.
pub(super) fn children(tree: &OperationTree) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); tree.spans.len()];
    for (index, span) in tree.spans.iter().enumerate().skip(1) {
        if let Some(parent) = parent(span, index) {
            children[parent].push(index);
        }
    }
    for siblings in &mut children {
        siblings.sort_by_key(|&at| (tree.spans[at].start, at));
    }
    children
}

/// Returns the index of the operation around; one that does not stand before would be a loop.
pub(super) fn parent(span: &TreeSpan, index: usize) -> Option<usize> {
    let parent = usize::try_from(span.parent?).ok()?;
    (parent < index).then_some(parent)
}

/// Returns the time of an operation in which none of its children was open.
pub(super) fn own_time(tree: &OperationTree, index: usize, children: &[usize]) -> Nanos {
    let around = &tree.spans[index];
    let (mut own, mut reached) = (Nanos::ZERO, around.start);
    for &child in children {
        let child = &tree.spans[child];
        let start = child.start.min(around.end);
        own = own.saturating_add(start.saturating_sub(reached));
        reached = reached.max(child.end.min(around.end));
    }
    own.saturating_add(around.end.saturating_sub(reached))
}

/// Returns how long an operation was entered without what its children did meanwhile; too little where they did it on
/// other threads.
pub(super) fn own_busy(tree: &OperationTree, index: usize, children: &[usize]) -> Nanos {
    let inside: Nanos = children.iter().map(|&child| tree.spans[child].busy).sum();
    tree.spans[index].busy.saturating_sub(inside)
}

/// Whether each poll of an async operation is told apart from its neighbours.
pub(super) fn has_all_polls(span: &TreeSpan) -> bool {
    span.activations.len() as u64 >= u64::from(span.activation_count)
}

/// Whether an async operation was polled by a runtime and not by the operation around it.
pub(super) fn is_spawned(tree: &OperationTree, index: usize) -> bool {
    let span = &tree.spans[index];
    let (TreeKind::Async, Some(first)) = (span.kind, span.activations.first()) else {
        return false;
    };
    let Some(around) = parent(span, index).map(|parent| &tree.spans[parent]) else {
        return true;
    };
    if around.kind == TreeKind::Async {
        // Of polls that became one only the first one's thread is known, and not what lay between them.
        let known = has_all_polls(around);
        !around.activations.iter().any(|poll| {
            (poll.thread == first.thread || !known)
                && (poll.begin..=poll.end).contains(&first.begin)
        })
    } else {
        around.thread != first.thread || !(around.start..=around.end).contains(&first.begin)
    }
}

/// Multiplies what was scaled already by `1 - removed / own`.
pub(super) fn remove(scale: &mut f64, removed: Nanos, own: Nanos) {
    if own > Nanos::ZERO {
        *scale *= (1.0 - removed.share_of(own)).clamp(0.0, 1.0);
    }
}
