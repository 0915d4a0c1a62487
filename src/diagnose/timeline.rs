//! One tree, laid out for the critical path and for replays: who waits for whom, and when nobody else runs.

use crate::model::{Nanos, OperationTree, QUERY_EVENTS, SiteId, TreeKind, TreeSpan};

/// A parent that goes on within this time of a child's end went on because of it. Own choice: several times what a
/// runtime needs to wake a task.
const WAKE: Nanos = Nanos(100_000);

/// The operations of one tree with what follows from their order.
///
/// A child that ends after its parent, or whose end its parent does not go on from, is in the background: the parent
/// does not wait for it, so neither the critical path nor a replay goes through it.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) nodes: Vec<Node>,
    /// The children that parents wait for, those of one node together, by their start.
    steps: Vec<Step>,
    /// The same children by their end, as places in `steps`.
    by_end: Vec<u32>,
}

/// One operation, within the time of the one around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) site: SiteId,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether all parents up to the root wait for it.
    pub(super) awaited: bool,
    /// Where its steps are.
    first: u32,
    count: u32,
    /// Time after the last child, or all of it without children.
    tail: u64,
}

/// One child that its parent waits for.
#[derive(Debug, Clone, Copy)]
struct Step {
    child: u32,
    /// How many of its siblings ended before it began: the first so many by their end.
    before: u32,
    /// Between the last of those ends and its start: time in which no sibling ran, and time in which one did.
    own: u64,
    shared: u64,
}

impl Timeline {
    pub(super) fn of(tree: &OperationTree) -> Timeline {
        let mut timeline = Timeline {
            nodes: nodes(&tree.spans),
            steps: Vec::new(),
            by_end: Vec::new(),
        };
        let mut children: Vec<(u32, u32)> = Vec::new();
        for (index, span) in tree.spans.iter().enumerate().skip(1) {
            if timeline.nodes[index].awaited {
                children.push((parent_of(span, index) as u32, index as u32));
            }
        }
        children.sort_by_key(|&(parent, child)| {
            let node = &timeline.nodes[child as usize];
            (parent, node.start, node.end, child)
        });
        for siblings in children.chunk_by(|one, other| one.0 == other.0) {
            timeline.lay_out(siblings);
        }
        timeline
    }

    /// Returns how long the root took.
    pub(super) fn wall(&self) -> u64 {
        self.nodes.first().map_or(0, |root| root.end - root.start)
    }

    /// Notes the children of one node, which come by their start.
    fn lay_out(&mut self, siblings: &[(u32, u32)]) {
        let first = self.steps.len();
        let parent = siblings[0].0 as usize;
        let parent_start = self.nodes[parent].start;
        let end_of = |at: u32| self.nodes[siblings[at as usize].1 as usize].end;
        let mut by_end: Vec<u32> = (0..siblings.len() as u32).collect();
        by_end.sort_by_key(|&at| (end_of(at), at));
        // The parent's own time up to the start of each child.
        let mut own_before = Vec::with_capacity(siblings.len());
        let (mut own, mut covered_to) = (0, parent_start);
        for &(_, child) in siblings {
            let node = &self.nodes[child as usize];
            own += node.start.saturating_sub(covered_to);
            own_before.push(own);
            covered_to = covered_to.max(node.end);
        }
        let mut before = 0;
        for (at, &(_, child)) in siblings.iter().enumerate() {
            let start = self.nodes[child as usize].start;
            // Of those that take no time, one that stands behind cannot have been before.
            while before < by_end.len()
                && (by_end[before] as usize) < at
                && end_of(by_end[before]) <= start
            {
                before += 1;
            }
            let (since, own_since) = match before.checked_sub(1) {
                Some(last) => {
                    let end = end_of(by_end[last]);
                    // What began before that end leaves no hole up to it.
                    let begun = siblings[..at]
                        .partition_point(|&(_, other)| self.nodes[other as usize].start <= end);
                    (end, begun.checked_sub(1).map_or(0, |last| own_before[last]))
                }
                None => (parent_start, 0),
            };
            let own = own_before[at] - own_since;
            self.steps.push(Step {
                child,
                before: before as u32,
                own,
                shared: start.saturating_sub(since).saturating_sub(own),
            });
        }
        self.by_end.extend(by_end);
        let node = &mut self.nodes[parent];
        node.first = first as u32;
        node.count = siblings.len() as u32;
        node.tail = node.end - covered_to;
    }

    fn steps(&self, node: &Node) -> (&[Step], &[u32]) {
        let range = node.first as usize..(node.first + node.count) as usize;
        (&self.steps[range.clone()], &self.by_end[range])
    }

    /// Returns the children that a node waits for, the last to end first.
    pub(super) fn last_to_end_first(&self, index: usize) -> impl Iterator<Item = usize> {
        let (steps, by_end) = self.steps(&self.nodes[index]);
        by_end
            .iter()
            .rev()
            .map(move |&at| steps[at as usize].child as usize)
    }

    /// Visits the intervals in which an operation itself was active or waited: its time without the children that it
    /// waits for.
    pub(super) fn own_intervals(&self, index: usize, mut visit: impl FnMut(u64, u64)) {
        let node = &self.nodes[index];
        let mut from = node.start;
        for step in self.steps(node).0 {
            let child = &self.nodes[step.child as usize];
            if child.start > from {
                visit(from, child.start);
            }
            from = from.max(child.end);
        }
        if node.end > from {
            visit(from, node.end);
        }
    }

    /// Returns how long the root would take if the own time of each operation were multiplied by `scale`.
    ///
    /// A child begins as long after the last end of those siblings that were over before it as it did; time that its
    /// parent spent itself is scaled. Siblings that were over before need not be what it waited for. Assuming so keeps
    /// more order than there may be, and hence promises too little rather than too much.
    pub(super) fn replay(&self, scale: impl Fn(usize) -> f64, lengths: &mut Vec<f64>) -> f64 {
        lengths.clear();
        lengths.resize(self.nodes.len(), 0.0);
        let mut ends: Vec<f64> = Vec::new();
        // Children stand behind their parent, so that their lengths are known.
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if !node.awaited {
                continue;
            }
            let scale = scale(index);
            let (steps, by_end) = self.steps(node);
            ends.clear();
            let (mut latest, mut seen) = (0.0_f64, 0);
            for step in steps {
                while seen < step.before as usize {
                    latest = latest.max(ends[by_end[seen] as usize]);
                    seen += 1;
                }
                let start = latest + step.shared as f64 + step.own as f64 * scale;
                ends.push(start + lengths[step.child as usize]);
            }
            let last = ends.iter().copied().fold(0.0, f64::max);
            lengths[index] = last + node.tail as f64 * scale;
        }
        lengths.first().copied().unwrap_or(0.0)
    }
}

/// Returns the index of the operation around; one that does not stand before would be a loop.
fn parent_of(span: &TreeSpan, index: usize) -> usize {
    let parent = span.parent.map_or(0, |parent| parent as usize);
    if parent < index { parent } else { 0 }
}

fn nodes(spans: &[TreeSpan]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(spans.len());
    for (index, span) in spans.iter().enumerate() {
        let (around, root_end, awaited) = match nodes.first() {
            None => ((span.start.0, span.end.0), span.end.0, true),
            Some(root) => {
                let parent = parent_of(span, index);
                let node = &nodes[parent];
                let awaited = node.awaited && goes_on(spans, parent, index);
                ((node.start, node.end), root.end, awaited)
            }
        };
        let start = span.start.0.max(around.0);
        // What is in the background may outlive its parent, but not the root.
        let end = span.end.0.min(if awaited { around.1 } else { root_end });
        let start = start.min(if awaited { around.1 } else { root_end });
        let end = end.max(start);
        nodes.push(Node {
            site: span.site.id,
            start,
            end,
            awaited,
            first: 0,
            count: 0,
            tail: end - start,
        });
    }
    nodes
}

/// Whether a parent goes on from the end of a child.
fn goes_on(spans: &[TreeSpan], parent: usize, child: usize) -> bool {
    let (around, inside) = (&spans[parent], &spans[child]);
    if inside.end > around.end {
        return false;
    }
    // What was made out of an event in which somebody says how long a query took was waited for, on whatever thread the
    // event came.
    if inside.site.target == QUERY_EVENTS {
        return true;
    }
    let soon = |at: Nanos| at >= inside.end && at <= inside.end.saturating_add(WAKE);
    let last_thread = inside
        .activations
        .last()
        .map_or(inside.thread, |last| last.thread);
    if soon(around.end) {
        return true;
    }
    if around.kind == TreeKind::Async {
        let polls = &around.activations;
        return polls.is_empty()
            || polls.iter().any(|poll| {
                let inside_poll = poll.begin <= inside.end && inside.end <= poll.end;
                (inside_poll && poll.thread == last_thread) || soon(poll.begin)
            });
    }
    // On the parent's own thread it was on top of the parent.
    if around.thread == last_thread {
        return true;
    }
    let next = spans.partition_point(|span| span.start < inside.end);
    let next = spans[next..].iter().take_while(|span| soon(span.start));
    let mut of_parent = next.filter(|span| span.parent == inside.parent);
    of_parent.any(|span| span.thread == around.thread)
}
