//! Which work of devices becomes a span of its own, and under which id.

use std::collections::{HashMap, VecDeque};

use crate::model::{GpuWork, Ids, SpanId};

/// Operations whose children are counted, the newest.
const OPERATIONS: usize = 4096;

/// Counts children, and makes their ids.
#[derive(Debug)]
pub(super) struct Children {
    most: u32,
    counts: HashMap<SpanId, u32>,
    order: VecDeque<SpanId>,
    beyond: u64,
}

impl Children {
    pub(super) fn new(most: u32) -> Children {
        Children {
            most,
            counts: HashMap::new(),
            order: VecDeque::new(),
            beyond: 0,
        }
    }

    /// Returns how much work was left out because its operation has as many children as it may.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Returns the ids of a span for this work; `None` where it gets none.
    pub(super) fn ids(&mut self, work: &GpuWork) -> Option<Ids> {
        let operation = work.caller.as_ref()?.ids?;
        let most = self.most;
        let count = self.count(operation.span);
        if *count >= most {
            self.beyond += 1;
            return None;
        }
        *count += 1;
        let number = *count;
        let mut ids = Ids::root(operation.trace, child_id(operation.span, number));
        ids.parent = Some(operation.span);
        ids.sampled = operation.sampled;
        Some(ids)
    }

    fn count(&mut self, operation: SpanId) -> &mut u32 {
        let is_new = !self.counts.contains_key(&operation);
        if is_new {
            self.order.push_back(operation);
            if self.order.len() > OPERATIONS
                && let Some(oldest) = self.order.pop_front()
            {
                self.counts.remove(&oldest);
            }
        }
        self.counts.entry(operation).or_default()
    }
}

/// Two children of one operation never share an id; with another span they do by the odds of random ids.
fn child_id(operation: SpanId, number: u32) -> SpanId {
    let mut x = operation.0 ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    SpanId((x ^ (x >> 31)).max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::model::TraceId;
    use crate::model::{GpuCaller, GpuKind, GpuQueue, GpuSource, Nanos, PathId, Site, SpanSeq};

    fn work(operation: u64) -> GpuWork {
        let queue = GpuQueue::new(0, 1, 7);
        let kind = GpuKind::Set { bytes: 1 };
        let mut work = GpuWork::new(kind, queue, Nanos(1), Nanos(2), GpuSource::Cupti);
        let ids = Ids::root(TraceId(9), SpanId(operation));
        let site = Arc::new(Site::other());
        work.caller = Some(GpuCaller::new(SpanSeq(1), site, PathId::ROOT, Some(ids)));
        work
    }

    #[test]
    fn an_operation_has_no_more_children_than_it_may_and_each_has_an_id_of_its_own() {
        let mut children = Children::new(3);
        let mut seen = HashSet::new();
        for operation in 1..=10 {
            for number in 0..5 {
                let ids = children.ids(&work(operation));
                assert_eq!(ids.is_some(), number < 3);
                if let Some(ids) = ids {
                    assert_eq!(
                        (ids.trace, ids.parent),
                        (TraceId(9), Some(SpanId(operation)))
                    );
                    assert!(seen.insert(ids.span));
                }
            }
        }
        assert_eq!(children.beyond(), 20);
    }

    #[test]
    fn work_outside_of_all_operations_is_no_child() {
        let mut outside = work(1);
        outside.caller = None;
        let mut children = Children::new(3);
        assert_eq!(children.ids(&outside), None);
        assert_eq!(children.beyond(), 0);
    }

    #[test]
    fn old_operations_are_forgotten() {
        let mut children = Children::new(1);
        for operation in 1..=2 * OPERATIONS as u64 {
            assert!(children.ids(&work(operation)).is_some());
        }
        assert_eq!(children.counts.len(), OPERATIONS);
    }
}
