//! Kernels by name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{GpuKernelStats, GpuKind, GpuWork};

/// Different names; templates may have thousands. The rest is added up as `(other)`.
const MAX_NAMES: usize = 10_000;

/// Rows of a profile.
const TOP: usize = 100;

/// Every kernel that ran.
#[derive(Debug, Default)]
pub(super) struct Kernels(HashMap<Arc<str>, GpuKernelStats>);

impl Kernels {
    pub(super) fn add(&mut self, work: &GpuWork) {
        let GpuKind::Kernel(kernel) = &work.kind else {
            return;
        };
        let name = if self.0.len() < MAX_NAMES || self.0.contains_key(&kernel.name) {
            Arc::clone(&kernel.name)
        } else {
            Arc::from("(other)")
        };
        let row = self
            .0
            .entry(name)
            .or_insert_with_key(|name| GpuKernelStats::new(Arc::clone(name)));
        let length = work.length();
        row.runs += 1;
        row.time = row.time.saturating_add(length);
        row.min = row.min.min(length);
        row.max = row.max.max(length);
    }

    /// Returns the kernels that took the most time, the most first.
    pub(super) fn top(&self) -> Vec<GpuKernelStats> {
        let mut rows: Vec<_> = self.0.values().cloned().collect();
        rows.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
        rows.truncate(TOP);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GpuKernel, GpuQueue, GpuSource, Nanos};

    #[test]
    fn names_beyond_the_limit_are_added_up_and_the_longest_come_first() {
        let mut kernels = Kernels::default();
        let mut run = |name: String, length: u64| {
            kernels.add(&GpuWork::new(
                GpuKind::Kernel(GpuKernel::new(name)),
                GpuQueue::new(0, 1, 7),
                Nanos(5),
                Nanos(5 + length),
                GpuSource::Cupti,
            ));
        };
        for number in 0..MAX_NAMES + 7 {
            run(format!("kernel_{number}"), 10);
        }
        run("kernel_3".to_owned(), 30);
        let top = kernels.top();
        assert_eq!((top.len(), kernels.0.len()), (TOP, MAX_NAMES + 1));
        assert_eq!((&*top[0].name, top[0].time), ("(other)", Nanos(70)));
        let second = &top[1];
        assert_eq!((&*second.name, second.runs), ("kernel_3", 2));
        assert_eq!((second.min, second.max), (Nanos(10), Nanos(30)));
    }
}
