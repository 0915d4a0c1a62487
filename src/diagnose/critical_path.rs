//! The chain of operations that determined how long a root took.

use crate::diagnose::timeline::Timeline;

/// Visits the parts of the critical path, the last first, as `(operation, from, to)`. They add up to the root's length
/// and do not overlap.
///
/// From the end of an operation backwards, the child that ended last before then determined when the operation could go
/// on: what lies after that end is the operation's own, and the path goes on inside the child, then from its start.
pub(super) fn visit(timeline: &Timeline, mut part: impl FnMut(usize, u64, u64)) {
    let Some(root) = timeline.nodes.first() else {
        return;
    };
    let mut stack = vec![(0, root.end, timeline.last_to_end_first(0))];
    while let Some((index, up_to, children)) = stack.last_mut() {
        let next = children.find(|&child| timeline.nodes[child].end <= *up_to);
        let node = &timeline.nodes[*index];
        let Some(child) = next else {
            if *up_to > node.start {
                part(*index, node.start, *up_to);
            }
            stack.pop();
            continue;
        };
        let inside = &timeline.nodes[child];
        if *up_to > inside.end {
            part(*index, inside.end, *up_to);
        }
        *up_to = inside.start;
        stack.push((child, inside.end, timeline.last_to_end_first(child)));
    }
}
